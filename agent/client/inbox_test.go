package client

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
)

// FuzzInboxToken hands any token to an inbox on which requests wait: only the
// exact token of a request may reach it.
func FuzzInboxToken(f *testing.F) {
	for _, token := range []string{"0-1", "1-1", "00-1", "0-+1", "z-1", "0", "-", "0-1-1", "18446744073709551616-0", "0-1\x00", ""} {
		f.Add(token)
	}
	f.Fuzz(func(t *testing.T, token string) {
		b := newInbox("_INBOX.x")
		tokens := map[string]*waiter{}
		for range 3 {
			reply, w, err := b.open("db.query")
			if err != nil {
				t.Fatal(err)
			}
			tokens[strings.TrimPrefix(reply, b.prefix)] = w
		}
		b.deliver(&nats.Msg{Subject: b.prefix + token, Data: []byte("answer")})
		slot, turn, ok := parseToken(token)
		for own, w := range tokens {
			select {
			case a := <-w.answer:
				if !ok || slot != w.slot || turn != w.turn || string(a.data) != "answer" {
					t.Errorf("token %q reached the request of %q", token, own)
				}
			default:
				if own == token {
					t.Errorf("token %q did not reach its request", token)
				}
			}
		}
		if ok {
			again := strconv.FormatUint(slot, 36) + "-" + strconv.FormatUint(turn, 36)
			if s, n, ok := parseToken(again); !ok || s != slot || n != turn {
				t.Errorf("token %q of %q is read as %d, %d, %t", again, token, s, n, ok)
			}
		}
	})
}

func TestLateAnswerIsNotTakenForTheNext(t *testing.T) {
	b := newInbox("_INBOX.x")
	late, first, err := b.open("db.query")
	if err != nil {
		t.Fatal(err)
	}
	b.release(first) // its caller gave up
	reply, next, err := b.open("db.query")
	if err != nil {
		t.Fatal(err)
	}
	if next != first {
		t.Fatal("the slot is not used again")
	}
	b.deliver(&nats.Msg{Subject: late, Data: []byte("late")})
	b.deliver(&nats.Msg{Subject: reply, Data: []byte("own")})
	b.deliver(&nats.Msg{Subject: reply, Data: []byte("twice")})
	if a := <-next.answer; string(a.data) != "own" {
		t.Errorf("the request got %q", a.data)
	}
}

func TestDeniedIsOnlyWhoWasDenied(t *testing.T) {
	b := newInbox("_INBOX.x")
	_, denied, err := b.open("db.replicate")
	if err != nil {
		t.Fatal(err)
	}
	_, other, err := b.open("db.repl")
	if err != nil {
		t.Fatal(err)
	}
	b.deny(fmt.Errorf("%w: %s", nats.ErrPermissionViolation, `Permissions Violation for Publish to "db.replicate"`))
	if a := <-denied.answer; !errors.Is(a.err, ErrDenied) {
		t.Errorf("the denied request got %v", a.err)
	}
	select {
	case a := <-other.answer:
		t.Errorf("another request got %v", a.err)
	default:
	}
}

func TestWaitingRequestsAreBounded(t *testing.T) {
	b := newInbox("_INBOX.x")
	var last *waiter
	for i := range maxWaiting {
		_, w, err := b.open("db.query")
		if err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		last = w
	}
	if _, _, err := b.open("db.query"); !errors.Is(err, ErrBusy) {
		t.Errorf("one more than allowed got %v, want ErrBusy", err)
	}
	b.release(last)
	if _, _, err := b.open("db.query"); err != nil {
		t.Errorf("after one was released: %v", err)
	}
}
