package access_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/snapdb/snapdb/agent/access"
)

func TestUserNamesAndPasswordsHaveTheirRules(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	for _, c := range []struct {
		name, password string
		want           error
	}{
		{"carol", "12 bytes: ok", nil},
		{"c" + strings.Repeat("x", 31), long[:1024], nil},
		{"c.d_e-9", "ünïcödé und Leerzeichen \x00\n", nil},
		{"c" + strings.Repeat("x", 32), alices, access.ErrInvalid},
		{"", alices, access.ErrInvalid},
		{"Carol", alices, access.ErrInvalid},
		{"9lives", alices, access.ErrInvalid},
		{"a#b", alices, access.ErrInvalid},
		{"a\n", alices, access.ErrInvalid},
		{"dave", "11 bytes no", access.ErrInvalid},
		{"dave", long[:1025], access.ErrInvalid},
		{"dave", "not utf-8: \xff\xfe", access.ErrInvalid},
		{"dave-the-long", "dave-the-long", access.ErrInvalid},
		{"alice", alices, access.ErrExists},
	} {
		err := s.Add(t.Context(), access.User{Name: c.name, Role: access.Viewer}, c.password)
		if !errors.Is(err, c.want) {
			t.Errorf("user %.40q with password %.20q: %v, want %v", c.name, c.password, err, c.want)
		}
		if c.want == nil {
			login(t, s, c.name, c.password, home)
		}
	}
}

func TestRightsThatMakeNoSenseAreRefused(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	for _, u := range []access.User{
		{},
		{Role: access.Admin + 1},
		{Role: access.Admin, Databases: []string{"shop"}},
		{Role: access.Admin, Labels: "room=lab1"},
		{Role: access.Viewer, Databases: []string{"no such name"}},
		{Role: access.Viewer, Databases: []string{"shop", "SHOP"}},
		{Role: access.Operator, Labels: "room"},
	} {
		u.Name = "carol"
		want(t, "a new user", s.Add(t.Context(), u, alices), access.ErrInvalid)
		want(t, "bob", s.SetRole("bob", u.Role, u.Databases, u.Labels), access.ErrInvalid)
	}
	same(t, "bob's databases", s.Users()[1].Databases, []string(nil))
	if len(s.Users()) != 2 {
		t.Errorf("users: %v", s.Users())
	}
}

func TestTheLastAdminStays(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	want(t, "demote", s.SetRole("alice", access.Operator, nil, ""), access.ErrLastAdmin)
	want(t, "remove", s.Remove("alice"), access.ErrLastAdmin)
	want(t, "admin to admin", s.SetRole("alice", access.Admin, nil, ""), nil)
	want(t, "promote another", s.SetRole("bob", access.Admin, nil, ""), nil)
	want(t, "remove", s.Remove("alice"), nil)
	want(t, "remove the other", s.Remove("bob"), access.ErrLastAdmin)
	want(t, "remove again", s.Remove("alice"), access.ErrUnknown)
	want(t, "role of a stranger", s.SetRole("alice", access.Viewer, nil, ""), access.ErrUnknown)
}

func TestFirstAdminMustChangeItsOneTimePassword(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := open(t, t.TempDir(), c)
	once, err := s.Bootstrap(t.Context())
	if err != nil || len(once) < access.MinPassword {
		t.Fatalf("one-time password %q: %v", once, err)
	}
	if again, err := s.Bootstrap(t.Context()); again != "" || err != nil {
		t.Errorf("a second one: %q: %v", again, err)
	}
	p := login(t, s, access.AdminName, once, home)
	if !p.MustChange || p.May(access.Read) {
		t.Errorf("with the one-time password: %+v", p)
	}
	want(t, "the same again", s.SetPassword(t.Context(), access.AdminName, once, ""), access.ErrInvalid)
	want(t, "another", s.SetPassword(t.Context(), access.AdminName, alices, ""), nil)
	if p := login(t, s, access.AdminName, alices, home); !p.May(access.Administer) {
		t.Errorf("with a password of his own: %+v", p)
	}
	_, err = s.Login(t.Context(), access.AdminName, once, home)
	want(t, "the one-time password later", err, access.ErrDenied)
}

func TestOwnerOfTheMachineGetsInAgain(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	first, err := s.ResetAdmin(t.Context()) // there is no user of this name yet
	want(t, "reset", err, nil)
	login(t, s, access.AdminName, first, home)
	want(t, "demote", s.SetRole(access.AdminName, access.Viewer, []string{"shop"}, ""), nil)
	second, err := s.ResetAdmin(t.Context())
	want(t, "reset", err, nil)
	_, err = s.Login(t.Context(), access.AdminName, first, home)
	want(t, "the first password", err, access.ErrDenied)
	want(t, "change", s.SetPassword(t.Context(), access.AdminName, alices, ""), nil)
	p := login(t, s, access.AdminName, alices, home)
	if second == first || !p.May(access.Administer) || !p.MayUse("anything") {
		t.Errorf("after the reset: %+v", p)
	}
}

func TestPasswordIsResetForAUserWhoForgotIt(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	once, err := s.ResetPassword(t.Context(), "bob")
	want(t, "reset", err, nil)
	_, err = s.Login(t.Context(), "bob", bobs, home)
	want(t, "the old password", err, access.ErrDenied)
	if p := login(t, s, "bob", once, home); !p.MustChange {
		t.Errorf("with the one-time password: %+v", p)
	}
	_, err = s.ResetPassword(t.Context(), "nobody")
	want(t, "of nobody", err, access.ErrUnknown)
	want(t, "password of nobody", s.SetPassword(t.Context(), "nobody", alices, ""), access.ErrUnknown)
}
