package access_test

import (
	"testing"
	"time"

	"github.com/snapdb/snapdb/agent/access"
)

func openSession(t *testing.T, s *access.Store, name, password string) (secret, id string) {
	t.Helper()
	secret, err := s.OpenSession(login(t, s, name, password, home), home, "a browser")
	if err != nil {
		t.Fatal(err)
	}
	return secret, session(t, s, secret).Credential
}

func session(t *testing.T, s *access.Store, secret string) access.Principal {
	t.Helper()
	p, err := s.Session(secret)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestSessionHasTheRightsOfItsUserAsTheyAreNow(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	secret, id := openSession(t, s, "bob", bobs)
	if p := session(t, s, secret); p.Name() != "bob#"+id || p.Role != access.Viewer {
		t.Errorf("at first: %+v", p)
	}
	want(t, "promote", s.SetRole("bob", access.Operator, []string{"shop"}, "room=lab1"), nil)
	p := session(t, s, secret)
	same(t, "rights", []any{p.Role, p.Databases, p.Labels}, []any{access.Operator, []string{"shop"}, "room=lab1"})
	want(t, "remove", s.Remove("bob"), nil)
	_, err := s.Session(secret)
	want(t, "of a removed user", err, access.ErrDenied)
	_, err = s.OpenSession(p, home, "")
	want(t, "opened by a session", err, access.ErrDenied)
	p.Credential = ""
	_, err = s.OpenSession(p, home, "")
	want(t, "opened by a removed user", err, access.ErrDenied)
}

func TestSessionEndsWhenItIsIdleOrOld(t *testing.T) {
	t.Parallel()
	s, c := newStore(t)
	idle, _ := openSession(t, s, "bob", bobs)
	c.Add(12*time.Hour - 1)
	session(t, s, idle)
	c.Add(time.Second) // a use too soon after the last to be saved counts as well
	session(t, s, idle)
	c.Add(12*time.Hour - 1)
	session(t, s, idle)
	c.Add(12 * time.Hour)
	_, err := s.Session(idle)
	want(t, "idle", err, access.ErrExpired)
	if list := s.Sessions("bob"); len(list) != 0 {
		t.Errorf("listed: %v", list)
	}
	old, _ := openSession(t, s, "bob", bobs)
	opened := c.Now()
	ends := opened.Add(7 * 24 * time.Hour)
	for c.Now().Add(11 * time.Hour).Before(ends) {
		c.Add(11 * time.Hour)
		if p := session(t, s, old); !p.Expires.Equal(ends) {
			t.Fatalf("ends at %s, want %s", p.Expires, ends)
		}
	}
	c.Add(ends.Sub(c.Now()) - 1)
	session(t, s, old)
	c.Add(1)
	_, err = s.Session(old)
	want(t, "old", err, access.ErrExpired)
}

func TestNewPasswordEndsTheOtherSessionsAndNoToken(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	here, id := openSession(t, s, "bob", bobs)
	there, _ := openSession(t, s, "bob", bobs)
	others, _ := openSession(t, s, "alice", alices)
	token, _ := makeToken(t, s, "bob", access.Viewer, nil, time.Time{})
	want(t, "change", s.SetPassword(t.Context(), "bob", "a newer password", id), nil)
	session(t, s, here)
	session(t, s, others)
	verify(t, s, token)
	_, err := s.Session(there)
	want(t, "the other session", err, access.ErrDenied)

	once, err := s.ResetPassword(t.Context(), "bob")
	want(t, "reset", err, nil)
	_, err = s.Session(here)
	want(t, "after a reset", err, access.ErrDenied)
	if p := verify(t, s, token); p.May(access.Read) {
		t.Error("the token may read while the one-time password waits to be changed")
	}
	// The page on which it is changed needs a session, and goes on in it.
	page, id := openSession(t, s, "bob", once)
	if session(t, s, page).May(access.Read) {
		t.Error("the session may read before the one-time password is changed")
	}
	want(t, "change", s.SetPassword(t.Context(), "bob", bobs, id), nil)
	if !session(t, s, page).May(access.Read) || !verify(t, s, token).May(access.Read) {
		t.Error("after the change session and token may not read")
	}
}

func TestSessionsAreListedAndClosed(t *testing.T) {
	t.Parallel()
	s, c := newStore(t)
	first, id := openSession(t, s, "bob", bobs)
	if _, err := s.OpenSession(login(t, s, "alice", alices, home), "192.0.2.1:1", "Browser\x1b[2J\u202e\xff"+long); err != nil {
		t.Fatal(err)
	}
	c.Add(time.Second)
	session(t, s, first)
	same(t, "bob's", s.Sessions("bob"), []access.Session{{ID: id, User: "bob", From: home, Agent: "a browser", Created: c.Now().Add(-time.Second), LastUsed: c.Now()}})
	if all := s.Sessions(""); len(all) != 2 {
		t.Errorf("all: %v", all)
	}
	if e := s.Sessions("alice")[0]; e.Agent[:10] != "Browser[2J" || len(e.Agent) > 200 {
		t.Errorf("a browser that calls itself badly is %q", e.Agent)
	}
	want(t, "close", s.CloseSession(id), nil)
	_, err := s.Session(first)
	want(t, "closed", err, access.ErrDenied)
	want(t, "close again", s.CloseSession(id), access.ErrUnknown)

	// Who opens ever more of them loses the one unused for longest.
	told := told(s)
	used, _ := openSession(t, s, "bob", bobs)
	_, unused := openSession(t, s, "bob", bobs)
	for range 31 {
		c.Add(time.Second)
		session(t, s, used)
		openSession(t, s, "bob", bobs)
	}
	session(t, s, used)
	same(t, "revoked", told(), []access.Revoked{{Credential: unused}})
}

func TestToLookAtASessionIsNoUseOfIt(t *testing.T) {
	t.Parallel()
	s, c := newStore(t)
	secret, _ := openSession(t, s, "bob", bobs)
	name := session(t, s, secret).Name()
	for range 11 {
		c.Add(time.Hour)
		if p, err := s.Look(name); err != nil || p.User != "bob" || !p.May(access.Read) {
			t.Fatalf("%+v, %v", p, err)
		}
	}
	c.Add(time.Hour)
	_, err := s.Look(name)
	want(t, "idle", err, access.ErrExpired)
	_, err = s.Session(secret)
	want(t, "idle", err, access.ErrExpired)
}
