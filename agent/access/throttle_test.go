package access_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/snapdb/snapdb/agent/access"
)

// try is what became of a login: nil, ErrDenied or ErrThrottled's wait.
func try(t *testing.T, s *access.Store, name, password, from string) (wait time.Duration, ok bool) {
	t.Helper()
	_, err := s.Login(t.Context(), name, password, from)
	var throttled *access.ThrottledError
	switch {
	case errors.As(err, &throttled):
		return throttled.Wait, false
	case err != nil && !errors.Is(err, access.ErrDenied):
		t.Fatalf("login of %s from %s: %v", name, from, err)
	}
	return 0, err == nil
}

// fail is an attempt with a wrong password that is looked at.
func fail(t *testing.T, s *access.Store, name, from string) {
	t.Helper()
	if wait, ok := try(t, s, name, wrong, from); wait > 0 || ok {
		t.Fatalf("login of %s from %s: %v, to wait %s", name, from, ok, wait)
	}
}

func address(n int) string { return fmt.Sprintf("198.51.%d.%d:5000", n/250, 1+n%250) }

// A name that nobody has is treated as one that somebody has.
func TestWaitDoublesWithEveryFailure(t *testing.T) {
	t.Parallel()
	s, c := newStore(t)
	for _, name := range []string{"alice", "nobody"} {
		from := address(len(name))
		for range 5 {
			fail(t, s, name, from)
		}
		for _, seconds := range []int{1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300} {
			is := time.Duration(seconds) * time.Second
			for _, password := range []string{wrong, alices, wrong} { // what is not looked at makes nothing longer
				if wait, ok := try(t, s, name, password, from); wait != is || ok {
					t.Fatalf("%s: logged in %v, to wait %s, want %s", name, ok, wait, is)
				}
			}
			c.Add(is - 1)
			if wait, _ := try(t, s, name, alices, from); wait != 1 {
				t.Fatalf("%s: to wait %s at the end of %s", name, wait, is)
			}
			c.Add(1)
			fail(t, s, name, from)
		}
	}
	c.Add(time.Hour)
	for range 5 {
		fail(t, s, "alice", address(5)) // all is forgotten after an hour of quiet
	}
}

func TestFailuresFromElsewhereDoNotKeepTheOwnerOut(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	login(t, s, "alice", alices, home)
	token, _ := makeToken(t, s, "alice", access.Admin, nil, time.Time{})
	browser, _ := openSession(t, s, "alice", alices)
	for n := range 300 {
		try(t, s, "alice", wrong, address(n%60))
	}
	if wait, _ := try(t, s, "alice", alices, away); wait == 0 {
		t.Error("a strange address need not wait")
	}
	login(t, s, "alice", alices, home)
	login(t, s, "alice", alices, "192.0.2.1:9") // another port
	login(t, s, "bob", bobs, away)
	verify(t, s, token)
	session(t, s, browser)
}

func TestStrangeAddressWaitsNoLongerThanItWasTold(t *testing.T) {
	t.Parallel()
	s, c := newStore(t)
	attack := func() {
		for n := range 60 {
			try(t, s, "alice", wrong, address(n))
		}
	}
	for range 400 {
		c.Add(time.Second)
		attack()
	}
	wait, _ := try(t, s, "alice", alices, away)
	if wait == 0 || wait > 5*time.Minute {
		t.Fatalf("to wait %s", wait)
	}
	for left := wait; left > 0; left -= time.Second {
		if now, ok := try(t, s, "alice", alices, away); now != left || ok {
			t.Fatalf("logged in %v, to wait %s, want %s", ok, now, left)
		}
		c.Add(time.Second)
		attack()
	}
	// A wrong password spends the turn, a right one makes the address known.
	fail(t, s, "alice", away)
	if wait, _ = try(t, s, "alice", alices, away); wait == 0 {
		t.Error("a spent turn was given twice")
	}
	c.Add(wait)
	attack()
	login(t, s, "alice", alices, away)
	attack()
	login(t, s, "alice", alices, away)
}

func TestOneAddressWaitsWhateverNamesItTries(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	for n := range 5 {
		fail(t, s, fmt.Sprintf("user%d", n), away)
	}
	for _, name := range []string{"alice", "nobody", "No Name", ""} {
		if wait, _ := try(t, s, name, alices, away); wait != time.Second {
			t.Errorf("%q: to wait %s", name, wait)
		}
	}
	login(t, s, "alice", alices, home)
	// Of IPv6 a machine has a whole network to itself.
	for n := range 5 {
		fail(t, s, fmt.Sprintf("user%d", n), fmt.Sprintf("[2001:db8::%d]:1", n))
	}
	if wait, _ := try(t, s, "bob", bobs, "2001:db8::abcd%eth0"); wait != time.Second {
		t.Errorf("another address of the network: to wait %s", wait)
	}
	login(t, s, "bob", bobs, "[2001:db8:0:1::1]:1")
	// But of those that all on a cable share, one.
	for range 5 {
		fail(t, s, "user9", "[fe80::1%eth0]:1")
	}
	if wait, _ := try(t, s, "bob", bobs, "fe80::1%eth1"); wait != time.Second {
		t.Errorf("the same on a cable: to wait %s", wait)
	}
	login(t, s, "bob", bobs, "[fe80::2%eth0]:1")
}

func TestTurnThatIsNotTakenLapses(t *testing.T) {
	t.Parallel()
	s, c := newStore(t)
	for n := range 60 {
		try(t, s, "alice", wrong, address(n))
		c.Add(time.Second)
	}
	first, _ := try(t, s, "alice", alices, away)
	for range 12 { // the attack goes on for an hour
		c.Add(5 * time.Minute)
		for n := range 3 {
			try(t, s, "alice", wrong, address(n))
		}
	}
	if wait, _ := try(t, s, "alice", alices, away); first == 0 || wait == 0 {
		t.Errorf("to wait %s, after an hour %s", first, wait)
	}
}

func TestSixteenAddressesOfAUserAreKnown(t *testing.T) {
	t.Parallel()
	s, c := newStore(t)
	known := func(from string) bool {
		wait, _ := try(t, s, "alice", alices, from)
		return wait == 0
	}
	for n := range 16 {
		login(t, s, "alice", alices, address(n))
		login(t, s, "alice", alices, "::ffff:192.0.2.1") // again and again
	}
	for range 300 {
		try(t, s, "alice", wrong, address(100))
		try(t, s, "alice", wrong, address(101))
		c.Add(time.Second)
	}
	if known(address(0)) {
		t.Error("a seventeenth address is known")
	}
	for n := 1; n < 16; n++ {
		if !known(address(n)) {
			t.Errorf("address %d of the last 16 is not known", n)
		}
	}
	if !known(home) {
		t.Error("the address that was used again and again is not known")
	}
}

func TestWhoHasAnAccountDoesNotClearHisAddressByIt(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	for range 4 {
		fail(t, s, "alice", away)
	}
	login(t, s, "bob", bobs, away)
	fail(t, s, "alice", away)
	if wait, _ := try(t, s, "alice", wrong, away); wait != time.Second {
		t.Errorf("to wait %s", wait)
	}
}

func TestKnownAddressIsCountedByItself(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	login(t, s, "alice", alices, home)
	for range 4 {
		fail(t, s, "alice", home)
	}
	login(t, s, "alice", alices, home) // and its failures are forgotten
	for range 5 {
		fail(t, s, "alice", home)
	}
	if wait, _ := try(t, s, "alice", alices, home); wait != time.Second {
		t.Errorf("to wait %s", wait)
	}
	login(t, s, "alice", alices, away) // an address that is strange, but nobody attacks from it
	login(t, s, "bob", bobs, home)
}

func TestManyAttemptsAtOnceAreNotAllLookedAt(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	var mu sync.Mutex
	looked := 0
	var all sync.WaitGroup
	for range 30 {
		all.Go(func() {
			_, err := s.Login(t.Context(), "alice", wrong, away)
			mu.Lock()
			defer mu.Unlock()
			if errors.Is(err, access.ErrDenied) {
				looked++
			}
		})
	}
	all.Wait()
	if looked != 5 {
		t.Errorf("%d attempts were looked at, want 5", looked)
	}
}

// That the context's error comes for a name that nobody has shows that it costs
// what a real one costs: what waits there is the hashing.
func TestAttemptThatIsGivenUpDoesNotCount(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 {
		for _, name := range []string{"alice", "nobody", "No Name"} {
			_, err := s.Login(gone, name, wrong, away)
			want(t, name, err, context.Canceled)
		}
	}
	login(t, s, "alice", alices, away)
	want(t, "add", s.Add(gone, access.User{Name: "carol", Role: access.Viewer}, alices), context.Canceled)
	want(t, "change", s.SetPassword(gone, "alice", bobs, ""), context.Canceled)
	login(t, s, "alice", alices, away)
}

func TestLoginNeverAnswersMoreThanDenied(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	for n, c := range [][2]string{{"alice", wrong}, {"alice", bobs}, {"alice", ""}, {"alice", long}, {"alice", alices + "\x00"}, {"nobody", alices}, {"", ""}, {"ALICE", alices}, {long, long}, {"alice#x", alices}, {"\xff", "\xff"}} {
		_, err := s.Login(t.Context(), c[0], c[1], address(n))
		if !errors.Is(err, access.ErrDenied) || err.Error() != access.ErrDenied.Error() {
			t.Errorf("name %.20q: %v", c[0], err)
		}
	}
	err := error(&access.ThrottledError{Wait: 1500 * time.Millisecond})
	if got := err.Error(); got != "too many failed attempts: try again in 2s" {
		t.Error(got)
	}
}
