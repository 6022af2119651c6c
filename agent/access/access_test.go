package access_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/snapdb/snapdb/agent/access"
)

// cheap are costs at which a test can hash hundreds of passwords.
var cheap = access.Costs{MemoryKiB: 8, Time: 1, Threads: 1}

const (
	alices = "correct horse battery"
	bobs   = "staple staple staple"
	wrong  = "not the right password"
	home   = "192.0.2.1:1111"
	away   = "198.51.100.7:2222"
)

// clock is a time that tests set.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2030, 1, 2, 3, 4, 5, 6, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

type fataler interface {
	Helper()
	Fatal(...any)
}

func open(t fataler, dir string, c *clock) *access.Store {
	t.Helper()
	s, err := access.Open(dir, access.Options{Now: c.Now, Costs: cheap})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// newStore has the admin alice and the viewer bob.
func newStore(t *testing.T) (*access.Store, *clock) {
	t.Helper()
	c := newClock()
	s := open(t, t.TempDir(), c)
	add(t, s, access.User{Name: "alice", Role: access.Admin}, alices)
	add(t, s, access.User{Name: "bob", Role: access.Viewer}, bobs)
	return s, c
}

func add(t *testing.T, s *access.Store, u access.User, password string) {
	t.Helper()
	if err := s.Add(t.Context(), u, password); err != nil {
		t.Fatal(err)
	}
}

func login(t *testing.T, s *access.Store, name, password, from string) access.Principal {
	t.Helper()
	p, err := s.Login(t.Context(), name, password, from)
	if err != nil {
		t.Fatalf("login of %s from %s: %v", name, from, err)
	}
	return p
}

func want(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// told notes what is revoked.
func told(s *access.Store) func() []access.Revoked {
	var mu sync.Mutex
	var list []access.Revoked
	s.Watch(func(r access.Revoked) {
		mu.Lock()
		defer mu.Unlock()
		list = append(list, r)
	})
	return func() []access.Revoked {
		mu.Lock()
		defer mu.Unlock()
		was := list
		list = nil
		return was
	}
}

var long = strings.Repeat("x", 2000)
