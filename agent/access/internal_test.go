package access

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// The sums are those by which the reference implementation tests itself.
func TestHashOfAPasswordIsArgon2id(t *testing.T) {
	t.Parallel()
	for threads, sum := range map[uint8]string{
		1: "9dfeb910e80bad0311fee20f9c0e2b12c17987b4cac90c2ef54d5b3021c68bfe",
		2: "6d093c501fd5999645e0ea3bf620d7b8be7fd2db59c20d9fff9539da2bf57037",
	} {
		h := passwordHash{costs: Costs{MemoryKiB: 256, Time: 2, Threads: threads}, salt: []byte("somesalt")}
		if got := hex.EncodeToString(h.derive("password")); got != sum {
			t.Errorf("with %d lanes %s, want %s", threads, got, sum)
		}
	}
	h := hashPassword(Costs{MemoryKiB: 64, Time: 3, Threads: 2}, "correct horse battery")
	text, _ := h.MarshalText()
	if !strings.HasPrefix(string(text), "$argon2id$v=19$m=64,t=3,p=2$") {
		t.Errorf("written as %s", text)
	}
	var read passwordHash
	if err := read.UnmarshalText(text); err != nil {
		t.Fatal(err)
	}
	if !read.matches("correct horse battery") || read.matches("correct horse batterz") || read.matches("") {
		t.Error("it does not tell the right password from wrong ones")
	}
	if other := hashPassword(h.costs, "correct horse battery"); string(other.sum) == string(h.sum) {
		t.Error("two hashes of one password are the same")
	}
}

func TestHashIsReadInItsOneFormOnly(t *testing.T) {
	t.Parallel()
	good, _ := hashPassword(Costs{MemoryKiB: 16, Time: 1, Threads: 1}, "x").MarshalText()
	parts := strings.Split(string(good), "$")
	with := func(i int, part string) string {
		p := append([]string(nil), parts...)
		p[i] = part
		return strings.Join(p, "$")
	}
	for _, bad := range []string{
		"", "$", string(good) + "$", string(good) + "\n", " " + string(good), with(0, "x"), with(1, "argon2i"), with(2, "v=16"), with(2, ""),
		with(3, "m=16,t=1"), with(3, "m=16,t=1,p=1,x=1"), with(3, "m=16,t=0,p=1"), with(3, "m=16,t=1,p=0"), with(3, "m=7,t=1,p=1"), with(3, "m=16,t=1,p=3"),
		with(3, "m=99999999,t=1,p=1"), with(3, "m=16,t=1,p=256"), with(3, "m=-16,t=1,p=1"), with(3, "m=16,t=1000000,p=1"), with(3, "m=016,t=1,p=1"), with(3, "t=1,m=16,p=1"),
		with(4, "AAAA"), with(4, parts[4]+"=="), with(4, "!"), with(5, "AAAA"), with(5, parts[5]+"="),
	} {
		var h passwordHash
		if err := h.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

// With its real costs, once.
func TestUnknownNameIsHashedWithTheRealCosts(t *testing.T) {
	t.Parallel()
	s, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	once, err := s.Bootstrap(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if p, err := s.Login(t.Context(), AdminName, once, "192.0.2.1:1"); err != nil || p.Name() != AdminName {
		t.Errorf("login: %+v: %v", p, err)
	}
	if is := s.state.Load().users[AdminName].Password.costs; is != DefaultCosts || s.unknown.costs != is || is.MemoryKiB < 19*1024 || is.Time < 2 {
		t.Errorf("costs of a real name %+v, of an unknown one %+v", is, s.unknown.costs)
	}
}

func TestTwoAreHashedAtATimeAndOfStrangersOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHashing()
		var mu sync.Mutex
		inside, most := map[bool]int{}, map[bool]int{}
		next := make(chan bool)
		start := func(strange bool) {
			go func() {
				err := h.do(t.Context(), strange, func() {
					mu.Lock()
					inside[strange]++
					most[strange] = max(most[strange], inside[strange])
					mu.Unlock()
					<-next
					mu.Lock()
					inside[strange]--
					mu.Unlock()
				})
				if err != nil {
					t.Error(err)
				}
			}()
		}
		for range 10 {
			start(true)
		}
		synctest.Wait()
		start(false)
		synctest.Wait()
		if inside[true] != 1 || inside[false] != 1 {
			t.Errorf("a known one beside ten strangers: hashed are %v", inside)
		}
		for range 9 {
			start(false)
		}
		for range 20 {
			synctest.Wait()
			if n := inside[true] + inside[false]; n > 2 {
				t.Errorf("%d at a time", n)
			}
			next <- true
		}
		synctest.Wait()
		if most[true] != 1 || most[false] != 2 {
			t.Errorf("at most %v at a time", most)
		}
	})
}

// While something waits to hash, something else can happen.
func TestWhatChangedDuringTheHashingCounts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		costs := Costs{MemoryKiB: 8, Time: 1, Threads: 1}
		now := time.Now()
		s, err := Open(t.TempDir(), Options{Costs: costs, Now: func() time.Time { return now }})
		if err != nil {
			t.Fatal(err)
		}
		// meanwhile runs change when do has come to the hashing.
		meanwhile := func(do func() error, change func(*state) ([]Revoked, error)) error {
			s.hashing.all <- struct{}{}
			s.hashing.all <- struct{}{}
			answer := make(chan error)
			go func() { answer <- do() }()
			synctest.Wait()
			now = now.Add(time.Second)
			if err := s.update(change); err != nil {
				t.Error(err)
			}
			<-s.hashing.all
			<-s.hashing.all
			return <-answer
		}
		bootstrap := func() error {
			once, err := s.Bootstrap(t.Context())
			if once != "" || len(s.Users()) != 1 {
				t.Errorf("the users that somebody else made are %v, and an admin has the password %q", s.Users(), once)
			}
			return err
		}
		if err := meanwhile(bootstrap, func(st *state) ([]Revoked, error) {
			return nil, s.add(st, User{Name: "alice", Role: Admin}, hashPassword(costs, "the first one"))
		}); err != nil {
			t.Error(err)
		}
		login := func() error {
			_, err := s.Login(t.Context(), "alice", "the first one", "192.0.2.1:1")
			return err
		}
		if err := meanwhile(login, func(st *state) ([]Revoked, error) {
			return s.setPassword(st, "alice", hashPassword(costs, "another one"), "", false)
		}); err != ErrDenied {
			t.Errorf("login with a password that was replaced: %v", err)
		}
	})
}

func TestFloodOfNamesAndAddressesFillsNoMemory(t *testing.T) {
	t.Parallel()
	th := newThrottle()
	now := time.Unix(1e9, 0)
	for range freeFailures {
		th.begin(now, "alice", "a", false) // who tries all the time is not forgotten
	}
	for n := range 3 * maxTallies {
		if _, wait := th.begin(now, "alice", "a", false); wait == 0 {
			t.Fatalf("forgotten after %d others", n)
		}
		name, address := fmt.Sprintf("user%d", n), fmt.Sprint("address ", n)
		for range freeFailures {
			th.begin(now, name, address, true)
		}
		th.begin(now, name, "another", true)
		th.begin(now, name, address+"'", true)
		th.begin(now, name, address, false)
	}
	for _, r := range []recent{th.accounts, th.addresses, th.pairs} {
		if r.order.Len() != maxTallies || len(r.byKey) != maxTallies {
			t.Errorf("kept are %d, found %d", r.order.Len(), len(r.byKey))
		}
	}
	last := fmt.Sprintf("user%d", 3*maxTallies-1)
	if _, wait := th.begin(now, last, "yet another", true); wait != time.Second {
		t.Errorf("the last name has to wait %s", wait)
	}
}

func TestClockThatIsSetBackMakesNobodyWaitLonger(t *testing.T) {
	t.Parallel()
	th := newThrottle()
	now := time.Unix(1e9, 0)
	for range freeFailures + 20 {
		th.begin(now, "alice", "a", true)
		now = now.Add(longestWait)
	}
	now = now.Add(-24 * time.Hour)
	_, wait := th.begin(now, "alice", "b", true)
	if wait == 0 || wait > longestWait {
		t.Errorf("to wait %s", wait)
	}
	now = now.Add(-24 * time.Hour)
	if _, wait = th.begin(now, "alice", "b", true); wait > longestWait {
		t.Errorf("then to wait %s", wait)
	}
}

func TestNoListGrowsWithoutLimit(t *testing.T) {
	t.Parallel()
	s, err := Open(t.TempDir(), Options{Costs: Costs{MemoryKiB: 8, Time: 1, Threads: 1}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	expires := time.Now().Add(time.Hour)
	secret, _, err := s.Invite(Invitation{Uses: 1, Expires: expires})
	if err != nil {
		t.Fatal(err)
	}
	full := s.state.Load().clone()
	for n := range maxUsers {
		name := fmt.Sprint("user", n)
		full.users[name] = user{User: User{Name: name, Role: Viewer}}
	}
	for n := range maxTokens {
		id := fmt.Sprintf("%012x", n)
		full.tokens[id] = token{Token: Token{ID: id, User: AdminName}}
	}
	for n := range maxInvitations {
		id := fmt.Sprintf("%012x", n)
		full.invitations[id] = invitation{Invitation: Invitation{ID: id, Expires: expires}}
	}
	for n := range maxNodes {
		id := fmt.Sprint("node", n)
		full.nodes[id] = Node{ID: id}
	}
	s.state.Store(full)
	for what, add := range map[string]func() error{
		"users":       func() error { return s.Add(t.Context(), User{Name: "alice", Role: Viewer}, "a good password") },
		"tokens":      func() error { _, _, err := s.MakeToken(AdminName, "", Viewer, nil, expires); return err },
		"invitations": func() error { _, _, err := s.Invite(Invitation{Uses: 1, Expires: expires}); return err },
		"nodes":       func() error { _, err := s.Enrol(secret, "a", strings.Repeat("A", 56)); return err },
		"databases": func() error {
			return s.SetRole("user1", Viewer, make([]string, maxDatabases+1), "")
		},
	} {
		if err := add(); !errors.Is(err, ErrTooMany) || !strings.Contains(err.Error(), "too many "+what) {
			t.Errorf("one more of %s: %v", what, err)
		}
	}
}

// sample is a file with one of everything.
func sample(t testing.TB) []byte {
	s, err := Open(t.TempDir(), Options{Costs: Costs{MemoryKiB: 8, Time: 1, Threads: 1}})
	if err != nil {
		t.Fatal(err)
	}
	once, err := s.Bootstrap(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.Login(t.Context(), AdminName, once, "192.0.2.1:1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.OpenSession(p, "192.0.2.1:1", "a browser"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.MakeToken(AdminName, "a <label>", Writer, []string{"shop"}, time.Time{}); err != nil {
		t.Fatal(err)
	}
	secret, _, err := s.Invite(Invitation{Labels: map[string]string{"room": "lab1"}, Uses: 2, Expires: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Enrol(secret, "a", strings.Repeat("A", 56)); err != nil {
		t.Fatal(err)
	}
	data, err := encode(s.state.Load())
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestContentsThatAreNeverWrittenAreRefused(t *testing.T) {
	t.Parallel()
	data := sample(t)
	for what, spoil := range map[string]func(c *contents){
		"nothing":                   nil,
		"a user twice":              func(c *contents) { c.Users = append(c.Users, c.Users[0]) },
		"a user's name":             func(c *contents) { c.Users[0].Name = "Admin" },
		"a token without its user":  func(c *contents) { c.Tokens[0].User = "bob" },
		"a token's id":              func(c *contents) { c.Tokens[0].ID = "x" },
		"a token's hash":            func(c *contents) { c.Tokens[0].Hash = "" },
		"a session without a user":  func(c *contents) { c.Sessions[0].User = "bob" },
		"a session's hash":          func(c *contents) { c.Sessions[0].Hash = "" },
		"a session named a token":   func(c *contents) { c.Sessions[0].ID = c.Tokens[0].ID },
		"an invitation's uses":      func(c *contents) { c.Invitations[0].Used = 3 },
		"an invitation's hash":      func(c *contents) { c.Invitations[0].Hash = "" },
		"a node's id":               func(c *contents) { c.Nodes[0].ID = "master" },
		"a node's invitation":       func(c *contents) { c.Nodes[0].Invitation = "" },
		"a key that two nodes have": func(c *contents) { c.Nodes = append(c.Nodes, c.Nodes[0]); c.Nodes[1].ID = "b" },
	} {
		var e envelope
		var c contents
		if err := errors.Join(json.Unmarshal(data, &e), json.Unmarshal(e.Access, &c)); err != nil {
			t.Fatal(err)
		}
		if spoil != nil {
			spoil(&c)
		}
		body, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decode(fmt.Appendf(nil, `{"version":1,"sha256":%q,"access":%s}`, sumOf(body), body)); (err == nil) != (spoil == nil) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// FuzzDecode reads files whose sum is right, so that what comes behind it is
// reached, and the same bytes as a whole file.
func FuzzDecode(f *testing.F) {
	var e envelope
	if err := json.Unmarshal(sample(f), &e); err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(e.Access))
	f.Add([]byte(`{"users":null,"tokens":[],"sessions":[],"invitations":[],"nodes":[]}`))
	f.Add([]byte(`{"version":2}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		_, _ = decode(body)
		file := fmt.Appendf(nil, `{"version":1,"sha256":%q,"access":%s}`, sumOf(body), body)
		st, err := decode(file)
		if err != nil {
			return
		}
		once, err := encode(st)
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		st, err = decode(once)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		if again, err := encode(st); err != nil || string(again) != string(once) {
			t.Fatalf("written twice:\n%s\n%s\n%v", once, again, err)
		}
	})
}

func FuzzSecret(f *testing.F) {
	none := func(string) bool { return false }
	for _, k := range []kind{tokenKind, sessionKind, invitationKind} {
		secret, _, _ := newSecret(k, none)
		f.Add(secret)
		f.Add(secret[1:])
	}
	f.Fuzz(func(t *testing.T, secret string) {
		taken := 0
		for _, k := range []kind{tokenKind, sessionKind, invitationKind} {
			id, key, ok := splitSecret(k, secret)
			if !ok {
				continue
			}
			taken++
			if string(k)+id+"_"+key != secret || !isID(id) || !sameKey(key, hashKey(key)) {
				t.Errorf("%q is read as %q and %q", secret, id, key)
			}
		}
		if taken > 1 {
			t.Errorf("%q is of %d kinds", secret, taken)
		}
	})
}
