package access_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/snapdb/snapdb/agent/access"
)

// world is a store and what was ever handed out by it.
type world struct {
	dir      string
	c        *clock
	s        *access.Store
	tokens   []string
	sessions []string
	invites  []string
	keys     []string
	dead     map[string]bool // secrets and keys that were refused once
}

// answers are all that the store says.
type answers struct {
	Users       []access.User
	Tokens      []access.Token
	Sessions    []access.Session
	Invitations []access.Invitation
	Nodes       []access.Node
	Principals  map[string]access.Principal
	ByKey       map[string]access.Node
}

func (w *world) ask(t *rapid.T) answers {
	a := answers{Principals: map[string]access.Principal{}, ByKey: map[string]access.Node{}}
	is := func(secret string, p access.Principal, err error) {
		if err != nil {
			if !errors.Is(err, access.ErrDenied) {
				t.Fatal(err)
			}
			w.dead[secret] = true
			return
		}
		if w.dead[secret] {
			t.Fatalf("what was refused once is taken again: %+v", p)
		}
		if named, err := w.s.Principal(p.Name()); err != nil || !cmp.Equal(named, p) {
			t.Fatalf("by name %+v, by secret %+v: %v", named, p, err)
		}
		a.Principals[secret] = p
	}
	for _, secret := range w.tokens {
		p, err := w.s.VerifyToken(secret)
		is(secret, p, err)
	}
	for _, secret := range w.sessions {
		p, err := w.s.Session(secret)
		is(secret, p, err)
	}
	for _, key := range w.keys {
		if n, ok := w.s.NodeByKey(key); ok {
			a.ByKey[key] = n
		}
	}
	a.Users, a.Tokens, a.Sessions = w.s.Users(), w.s.Tokens(""), w.s.Sessions("")
	a.Invitations, a.Nodes = w.s.Invitations(), w.s.Nodes()
	return a
}

// check is what holds whatever was done.
func (w *world) check(t *rapid.T) {
	a := w.ask(t)
	users := map[string]access.User{}
	admins := 0
	for _, u := range a.Users {
		users[u.Name] = u
		if u.Role == access.Admin {
			admins++
		}
	}
	if admins == 0 {
		t.Fatal("there is no admin")
	}
	for _, p := range a.Principals {
		u, ok := users[p.User]
		if !ok || p.Role > u.Role || p.Labels != u.Labels || p.MustChange != u.MustChange {
			t.Fatalf("%+v may more than %+v", p, u)
		}
		if u.Databases != nil && (p.Databases == nil || slices.ContainsFunc(p.Databases, func(d string) bool { return !slices.Contains(u.Databases, d) })) {
			t.Fatalf("%+v has more databases than %+v", p, u)
		}
	}
	for _, list := range [][]string{ids(a.Tokens, func(x access.Token) string { return x.User }), ids(a.Sessions, func(x access.Session) string { return x.User })} {
		for _, user := range list {
			if _, ok := users[user]; !ok {
				t.Fatalf("%s is gone and has tokens or sessions", user)
			}
		}
	}
	speaks := map[string]string{}
	for key, n := range a.ByKey {
		if n.Key != key || !n.Revoked.IsZero() || speaks[n.ID] != "" {
			t.Fatalf("node of key %s: %+v", key, n)
		}
		speaks[n.ID] = key
	}
}

func ids[E any](list []E, id func(E) string) []string {
	out := make([]string, len(list))
	for i, e := range list {
		out[i] = id(e)
	}
	return out
}

var (
	names     = rapid.SampledFrom([]string{"alice", "bob", "carol", "admin"})
	roles     = rapid.SampledFrom([]access.Role{access.Viewer, access.Writer, access.Operator, access.Admin, access.Admin})
	databases = rapid.SampledFrom([][]string{nil, nil, {}, {"shop"}, {"shop", "stock"}})
	passwords = rapid.SampledFrom([]string{alices, bobs, wrong})
	nodeIDs   = rapid.SampledFrom([]string{"a", "b", "c"})
	places    = rapid.SampledFrom([]string{home, away, "::1"})
)

// expected are the refusals that a random sequence meets.
func expected(t *rapid.T, err error) {
	var throttled *access.ThrottledError
	if errors.As(err, &throttled) {
		return
	}
	for _, may := range []error{nil, access.ErrDenied, access.ErrUnknown, access.ErrExists, access.ErrInvalid, access.ErrTooMany, access.ErrLastAdmin, access.ErrInvitation, access.ErrEnrolled} {
		if errors.Is(err, may) {
			return
		}
	}
	t.Fatal(err)
}

func one(t *rapid.T, list []string) string {
	if len(list) == 0 {
		return ""
	}
	return rapid.SampledFrom(list).Draw(t, "one")
}

// Whatever is done to a store: there is an admin, no credential has more than its
// user, what ended stays ended; and after a restart, orderly or by a crash at any
// point, the store says what it said before.
func TestRandomSequencesSurviveRestarts(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	tries := 0
	rapid.Check(t, func(t *rapid.T) {
		tries++
		w := &world{dir: filepath.Join(top, fmt.Sprint(tries)), c: newClock(), dead: map[string]bool{}}
		if err := os.Mkdir(w.dir, 0o700); err != nil {
			t.Fatal(err)
		}
		w.s = open(t, w.dir, w.c)
		if _, err := w.s.Bootstrap(context.Background()); err != nil {
			t.Fatal(err)
		}
		actions := map[string]func(*rapid.T){"": w.check, "wait": w.wait, "restart": w.restart, "crash": w.crash}
		maps.Copy(actions, w.users())
		maps.Copy(actions, w.credentials())
		maps.Copy(actions, w.nodes())
		t.Repeat(actions)
	})
}

func (w *world) wait(t *rapid.T) {
	w.c.Add(time.Duration(rapid.IntRange(1, 8*3600).Draw(t, "seconds")) * time.Second)
}

func (w *world) restart(t *rapid.T) {
	before := w.ask(t)
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
	w.s = open(t, w.dir, w.c)
	if after := w.ask(t); !cmp.Equal(before, after) {
		t.Fatalf("after a restart:\n%s", cmp.Diff(before, after))
	}
}

// crash may lose times of use, and nothing else.
func (w *world) crash(t *rapid.T) {
	before := w.s
	w.s = open(t, w.dir, w.c)
	for _, lists := range [][2]any{{before.Users(), w.s.Users()}, {before.Invitations(), w.s.Invitations()}, {before.Nodes(), w.s.Nodes()}} {
		if !cmp.Equal(lists[0], lists[1]) {
			t.Fatalf("after a crash:\n%s", cmp.Diff(lists[0], lists[1]))
		}
	}
	is, was := w.s.Tokens(""), before.Tokens("")
	for i := range min(len(is), len(was)) {
		if is[i].LastUsed.After(was[i].LastUsed) {
			t.Fatalf("a use at %s after a crash, before it at %s", is[i].LastUsed, was[i].LastUsed)
		}
		is[i].LastUsed = was[i].LastUsed
	}
	if !cmp.Equal(is, was) {
		t.Fatalf("after a crash:\n%s", cmp.Diff(was, is))
	}
}

func (w *world) users() map[string]func(*rapid.T) {
	ctx := context.Background()
	return map[string]func(*rapid.T){
		"add": func(t *rapid.T) {
			u := access.User{Name: names.Draw(t, "name"), Role: roles.Draw(t, "role"), Databases: databases.Draw(t, "databases"), MustChange: rapid.Bool().Draw(t, "must change")}
			expected(t, w.s.Add(ctx, u, passwords.Draw(t, "password")))
		},
		"role": func(t *rapid.T) {
			labels := rapid.SampledFrom([]string{"", "room=lab1"}).Draw(t, "labels")
			expected(t, w.s.SetRole(names.Draw(t, "name"), roles.Draw(t, "role"), databases.Draw(t, "databases"), labels))
		},
		"password": func(t *rapid.T) {
			keep := ""
			if open := w.s.Sessions(""); len(open) > 0 {
				keep = open[0].ID
			}
			expected(t, w.s.SetPassword(ctx, names.Draw(t, "name"), passwords.Draw(t, "password"), keep))
		},
		"reset": func(t *rapid.T) {
			_, err := w.s.ResetPassword(ctx, names.Draw(t, "name"))
			expected(t, err)
		},
		"remove": func(t *rapid.T) { expected(t, w.s.Remove(names.Draw(t, "name"))) },
	}
}

func (w *world) credentials() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"login": func(t *rapid.T) {
			from := places.Draw(t, "from")
			p, err := w.s.Login(context.Background(), names.Draw(t, "name"), passwords.Draw(t, "password"), from)
			expected(t, err)
			if err != nil {
				return
			}
			secret, err := w.s.OpenSession(p, from, "a browser")
			if err != nil {
				t.Fatal(err)
			}
			w.sessions = append(w.sessions, secret)
		},
		"token": func(t *rapid.T) {
			var expires time.Time
			if rapid.Bool().Draw(t, "expires") {
				expires = hour(w.c)
			}
			secret, _, err := w.s.MakeToken(names.Draw(t, "name"), "a program", roles.Draw(t, "scope"), databases.Draw(t, "databases"), expires)
			expected(t, err)
			if err == nil {
				w.tokens = append(w.tokens, secret)
			}
		},
		"revoke a token": func(t *rapid.T) {
			if id := one(t, ids(w.s.Tokens(""), func(x access.Token) string { return x.ID })); id != "" {
				expected(t, w.s.RevokeToken(id))
			}
		},
		"close a session": func(t *rapid.T) {
			if id := one(t, ids(w.s.Sessions(""), func(x access.Session) string { return x.ID })); id != "" {
				expected(t, w.s.CloseSession(id))
			}
		},
	}
}

func (w *world) nodes() map[string]func(*rapid.T) {
	newKey := func(t *rapid.T) string {
		k := key(byte(rapid.IntRange(0, 20).Draw(t, "key")))
		if !slices.Contains(w.keys, k) {
			w.keys = append(w.keys, k)
		}
		return k
	}
	return map[string]func(*rapid.T){
		"invite": func(t *rapid.T) {
			terms := access.Invitation{Uses: rapid.IntRange(1, 3).Draw(t, "uses"), Expires: hour(w.c), Labels: map[string]string{"room": "lab1"}}
			if rapid.Bool().Draw(t, "replace") {
				terms.Replace, terms.Uses = nodeIDs.Draw(t, "id"), 1
			}
			secret, _, err := w.s.Invite(terms)
			if err != nil {
				t.Fatal(err)
			}
			w.invites = append(w.invites, secret)
		},
		"revoke an invitation": func(t *rapid.T) {
			if id := one(t, ids(w.s.Invitations(), func(x access.Invitation) string { return x.ID })); id != "" {
				expected(t, w.s.RevokeInvitation(id))
			}
		},
		"enrol": func(t *rapid.T) {
			id, key := nodeIDs.Draw(t, "id"), newKey(t)
			_, err := w.s.Enrol(one(t, w.invites), id, key)
			expected(t, err)
			if n, ok := w.s.NodeByKey(key); err == nil && (!ok || n.ID != id) {
				t.Fatalf("the key that was let in for %s speaks for %+v", id, n)
			}
		},
		"rotate": func(t *rapid.T) {
			from := one(t, w.keys)
			to := newKey(t)
			err := w.s.RotateNodeKey(from, to)
			expected(t, err)
			if _, ok := w.s.NodeByKey(from); err == nil && ok {
				t.Fatal("a key that was replaced still speaks")
			}
		},
		"revoke a node": func(t *rapid.T) {
			id := nodeIDs.Draw(t, "id")
			err := w.s.RevokeNode(id)
			expected(t, err)
			for _, key := range w.keys {
				if n, ok := w.s.NodeByKey(key); err == nil && ok && n.ID == id {
					t.Fatal("a revoked node has a key that speaks")
				}
			}
		},
	}
}
