package access_test

import (
	"strings"
	"testing"
	"time"

	"github.com/snapdb/snapdb/agent/access"
)

func makeToken(t *testing.T, s *access.Store, user string, scope access.Role, databases []string, expires time.Time) (string, access.Token) {
	t.Helper()
	secret, token, err := s.MakeToken(user, "a program", scope, databases, expires)
	if err != nil {
		t.Fatal(err)
	}
	return secret, token
}

func verify(t *testing.T, s *access.Store, secret string) access.Principal {
	t.Helper()
	p, err := s.VerifyToken(secret)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestTokenNeverMayMoreThanItsUser(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	add(t, s, access.User{Name: "carol", Role: access.Operator, Databases: []string{"shop", "stock"}, Labels: "room=lab1"}, alices)
	all, _ := makeToken(t, s, "carol", access.Operator, nil, time.Time{})
	shop, _ := makeToken(t, s, "carol", access.Writer, []string{"SHOP"}, time.Time{})
	is := func(what, secret string, role access.Role, databases []string, labels string) {
		t.Helper()
		p := verify(t, s, secret)
		same(t, what, []any{p.User, p.Role, p.Databases, p.Labels}, []any{"carol", role, databases, labels})
	}
	is("all of it", all, access.Operator, []string{"shop", "stock"}, "room=lab1")
	is("a part", shop, access.Writer, []string{"shop"}, "room=lab1")
	for _, role := range []access.Role{access.Writer, access.Viewer} {
		want(t, "demote", s.SetRole("carol", role, []string{"stock"}, ""), nil)
		is("all, after it", all, role, []string{"stock"}, "")
		is("a part, after it", shop, role, []string{}, "")
	}
	want(t, "promote", s.SetRole("carol", access.Admin, nil, ""), nil)
	is("all, of an admin", all, access.Operator, nil, "")
	is("a part, of an admin", shop, access.Writer, []string{"SHOP"}, "")
	want(t, "remove", s.Remove("carol"), nil)
	for _, secret := range []string{all, shop} {
		_, err := s.VerifyToken(secret)
		want(t, "of a removed user", err, access.ErrDenied)
	}
}

func TestTokenIsMadeWithinTheRightsOfItsUser(t *testing.T) {
	t.Parallel()
	s, c := newStore(t)
	add(t, s, access.User{Name: "carol", Role: access.Writer, Databases: []string{"shop"}}, alices)
	for _, try := range []struct {
		what, user, label string
		scope             access.Role
		databases         []string
		expires           time.Time
		want              error
	}{
		{"of nobody", "nobody", "", access.Viewer, nil, time.Time{}, access.ErrUnknown},
		{"above the role", "carol", "", access.Operator, nil, time.Time{}, access.ErrInvalid},
		{"of no role", "carol", "", 0, nil, time.Time{}, access.ErrInvalid},
		{"for another database", "carol", "", access.Viewer, []string{"stock"}, time.Time{}, access.ErrInvalid},
		{"for no possible database", "alice", "", access.Viewer, []string{"a b"}, time.Time{}, access.ErrInvalid},
		{"an admin's with a limit that he can lift", "alice", "", access.Admin, []string{"shop"}, time.Time{}, access.ErrInvalid},
		{"expired", "carol", "", access.Viewer, nil, c.Now(), access.ErrInvalid},
		{"for ever and more", "carol", "", access.Viewer, nil, c.Now().AddDate(10_000, 0, 0), access.ErrInvalid},
		{"with a label of two lines", "carol", "a\nb", access.Viewer, nil, time.Time{}, access.ErrInvalid},
		{"with a long label", "carol", long, access.Viewer, nil, time.Time{}, access.ErrInvalid},
	} {
		secret, _, err := s.MakeToken(try.user, try.label, try.scope, try.databases, try.expires)
		want(t, try.what, err, try.want)
		if secret != "" {
			t.Errorf("%s: a secret was returned", try.what)
		}
	}
	if list := s.Tokens(""); len(list) != 0 {
		t.Errorf("tokens: %v", list)
	}
}

func TestTokenEndsWhenItExpiresOrIsRevoked(t *testing.T) {
	t.Parallel()
	s, c := newStore(t)
	short, token := makeToken(t, s, "bob", access.Viewer, nil, c.Now().Add(time.Hour))
	forever, other := makeToken(t, s, "bob", access.Viewer, nil, time.Time{})
	c.Add(time.Hour - 1)
	if p := verify(t, s, short); !p.Expires.Equal(token.Expires) || p.Name() != "bob#"+token.ID {
		t.Errorf("before its end: %+v", p)
	}
	c.Add(1)
	_, err := s.VerifyToken(short)
	want(t, "after its end", err, access.ErrExpired)
	want(t, "after its end", err, access.ErrDenied)
	c.Add(365 * 24 * time.Hour)
	verify(t, s, forever)
	want(t, "revoke", s.RevokeToken(other.ID), nil)
	_, err = s.VerifyToken(forever)
	want(t, "revoked", err, access.ErrDenied)
	_, err = s.Principal("bob#" + other.ID)
	want(t, "revoked, by name", err, access.ErrDenied)
	want(t, "revoke again", s.RevokeToken(other.ID), access.ErrUnknown)
}

func TestOnlyTheExactSecretIsTaken(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	secret, token := makeToken(t, s, "bob", access.Viewer, nil, time.Time{})
	session, err := s.OpenSession(login(t, s, "bob", bobs, home), home, "a browser")
	if err != nil {
		t.Fatal(err)
	}
	last := "0"
	if strings.HasSuffix(secret, "0") {
		last = "1"
	}
	for _, bad := range []string{
		"", "snapdb_", "snapdb_" + token.ID, "snapdb_" + token.ID + "_", secret[:len(secret)-1] + last, secret[:len(secret)-1], secret + "0",
		" " + secret, secret + "\n", strings.Replace(secret, token.ID+"_", token.ID+"-", 1), strings.ToUpper(secret), strings.Replace(secret, token.ID, strings.Repeat("0", 12), 1),
		session, strings.Replace(session, "snapdb-session_", "snapdb_", 1), long,
	} {
		_, err := s.VerifyToken(bad)
		want(t, "token "+bad[:min(30, len(bad))], err, access.ErrDenied)
	}
	for _, bad := range []string{secret, strings.Replace(secret, "snapdb_", "snapdb-session_", 1), ""} {
		_, err := s.Session(bad)
		want(t, "session", err, access.ErrDenied)
	}
	browser := s.Sessions("bob")[0].ID
	for _, bad := range []string{"", "#", "nobody", "alice#" + token.ID, "alice#" + browser, "nobody#" + browser, "bob#", "bob#" + strings.Repeat("0", 12), "bob#" + token.ID + "#"} {
		_, err := s.Principal(bad)
		want(t, "name "+bad, err, access.ErrDenied)
	}
	verify(t, s, secret)
	for _, name := range []string{"bob", "bob#" + token.ID, "bob#" + browser} {
		if p, err := s.Principal(name); err != nil || p.Name() != name {
			t.Errorf("%s is %+v: %v", name, p, err)
		}
	}
}
