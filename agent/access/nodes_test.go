package access_test

import (
	"strings"
	"testing"
	"time"

	"github.com/snapdb/snapdb/agent/access"
)

// key is the n-th public key of a node.
func key(n byte) string { return "U" + strings.Repeat(string('A'+rune(n)), 55) }

func invite(t *testing.T, s *access.Store, terms access.Invitation) (string, access.Invitation) {
	t.Helper()
	secret, i, err := s.Invite(terms)
	if err != nil {
		t.Fatal(err)
	}
	return secret, i
}

func enrol(t *testing.T, s *access.Store, secret, id, key string) access.Node {
	t.Helper()
	n, err := s.Enrol(secret, id, key)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func hour(c *clock) time.Time { return c.Now().Add(time.Hour) }

func TestInvitationLetsInAsManyNodesAsItIsFor(t *testing.T) {
	t.Parallel()
	s, c := newStore(t)
	lab := map[string]string{"room": "lab1"}
	secret, i := invite(t, s, access.Invitation{Labels: lab, Uses: 2, Expires: hour(c)})
	lab["room"] = "changed by the caller"
	a := enrol(t, s, secret, "a", key(1))
	same(t, "node", a, access.Node{ID: "a", Key: key(1), Labels: map[string]string{"room": "lab1"}, Enrolled: c.Now(), Invitation: i.ID})
	enrol(t, s, secret, "b", key(2))
	_, err := s.Enrol(secret, "c", key(3))
	want(t, "a third", err, access.ErrInvitation)
	c.Add(2 * time.Hour)
	same(t, "asked again, the answer being lost", enrol(t, s, secret, "a", key(1)), a)
	if list := s.Invitations(); len(list) != 1 || list[0].Used != 2 {
		t.Errorf("invitations: %+v", list)
	}
	if n, ok := s.NodeByKey(key(2)); !ok || n.ID != "b" {
		t.Errorf("node of the second key: %+v, %v", n, ok)
	}
	for _, none := range []string{"", key(3)} {
		if n, ok := s.NodeByKey(none); ok {
			t.Errorf("node of key %q: %+v", none, n)
		}
	}
}

func TestInvitationEndsWhenItExpiresOrIsRevoked(t *testing.T) {
	t.Parallel()
	s, c := newStore(t)
	expired, _ := invite(t, s, access.Invitation{Uses: 1, Expires: hour(c)})
	c.Add(time.Hour)
	revoked, i := invite(t, s, access.Invitation{Uses: 1, Expires: hour(c)})
	want(t, "revoke", s.RevokeInvitation(i.ID), nil)
	want(t, "revoke again", s.RevokeInvitation(i.ID), access.ErrUnknown)
	good, _ := invite(t, s, access.Invitation{Uses: 1, Expires: hour(c)})
	for _, bad := range []string{expired, revoked, "", long, good[:len(good)-1], good + "0", strings.Replace(good, "snapdb-invitation_", "snapdb_", 1)} {
		_, err := s.Enrol(bad, "a", key(1))
		want(t, "enrol with "+bad[:min(24, len(bad))], err, access.ErrInvitation)
	}
	for _, bad := range [][2]string{{"", key(1)}, {"master", key(1)}, {"a.b", key(1)}, {long, key(1)}, {"a", ""}, {"a", "short"}, {"a", key(1) + "\n"}, {"a", long}} {
		_, err := s.Enrol(good, bad[0], bad[1])
		want(t, "enrol "+bad[0][:min(9, len(bad[0]))], err, access.ErrInvalid)
	}
	enrol(t, s, good, "a", key(1)) // none of them spent it
	for _, bad := range []access.Invitation{
		{Uses: 1},
		{Uses: 1, Expires: c.Now()},
		{Expires: hour(c)},
		{Uses: -1, Expires: hour(c)},
		{Uses: 1_000_000, Expires: hour(c)},
		{Uses: 2, Expires: hour(c), Replace: "a"},
		{Uses: 1, Expires: hour(c), Replace: "a b"},
		{Uses: 1, Expires: hour(c), Labels: map[string]string{"": "x"}},
	} {
		_, _, err := s.Invite(bad)
		want(t, "invitation", err, access.ErrInvalid)
	}
	c.Add(8 * 24 * time.Hour)
	_, last := invite(t, s, access.Invitation{Uses: 1, Expires: hour(c)})
	same(t, "invitations a week later", s.Invitations(), []access.Invitation{last})
}

func TestMachineIsReplacedOnlyByAnInvitationForIt(t *testing.T) {
	t.Parallel()
	s, c := newStore(t)
	any, _ := invite(t, s, access.Invitation{Uses: 9, Expires: hour(c)})
	enrol(t, s, any, "a", key(1))
	enrol(t, s, any, "b", key(2))
	_, err := s.Enrol(any, "a", key(3))
	want(t, "another key for a", err, access.ErrEnrolled)
	_, err = s.Enrol(any, "c", key(1))
	want(t, "the key of a for c", err, access.ErrEnrolled)

	other, _ := invite(t, s, access.Invitation{Uses: 9, Expires: hour(c)})
	_, err = s.Enrol(other, "a", key(1))
	want(t, "a again by another invitation", err, access.ErrEnrolled)

	told := told(s)
	forA, _ := invite(t, s, access.Invitation{Uses: 1, Expires: hour(c), Replace: "a", Labels: map[string]string{"room": "lab2"}})
	_, err = s.Enrol(forA, "b", key(3))
	want(t, "for another node", err, access.ErrInvitation)
	_, err = s.Enrol(forA, "a", key(2))
	want(t, "with the key of b", err, access.ErrEnrolled)
	n := enrol(t, s, forA, "a", key(3))
	same(t, "labels", n.Labels, map[string]string{"room": "lab2"})
	same(t, "revoked", told(), []access.Revoked{{Node: "a", Key: key(1)}})
	if _, ok := s.NodeByKey(key(1)); ok {
		t.Error("the old key still speaks for the node")
	}
	forD, _ := invite(t, s, access.Invitation{Uses: 1, Expires: hour(c), Replace: "d"})
	enrol(t, s, forD, "d", key(4)) // which was not there before
}

func TestRevokedNodeDoesNotComeBackByItself(t *testing.T) {
	t.Parallel()
	s, c := newStore(t)
	told := told(s)
	mine, _ := invite(t, s, access.Invitation{Uses: 9, Expires: hour(c)})
	enrol(t, s, mine, "a", key(1))
	want(t, "revoke", s.RevokeNode("a"), nil)
	same(t, "revoked", told(), []access.Revoked{{Node: "a", Key: key(1)}})
	want(t, "revoke again", s.RevokeNode("a"), access.ErrUnknown)
	want(t, "rotate", s.RotateNodeKey(key(1), key(2)), access.ErrUnknown)
	if _, ok := s.NodeByKey(key(1)); ok {
		t.Error("its key still speaks for it")
	}
	for _, id := range []string{"a", "z"} {
		_, err := s.Enrol(mine, id, key(2))
		want(t, id+" by the invitation that the machine has", err, access.ErrInvitation)
	}
	other, _ := invite(t, s, access.Invitation{Uses: 9, Expires: hour(c)})
	_, err := s.Enrol(other, "a", key(2))
	want(t, "its id by another", err, access.ErrEnrolled)
	_, err = s.Enrol(other, "z", key(1))
	want(t, "its key by another", err, access.ErrEnrolled)
	again, _ := invite(t, s, access.Invitation{Uses: 1, Expires: hour(c), Replace: "a"})
	_, err = s.Enrol(again, "a", key(1))
	want(t, "its key by one for it", err, access.ErrEnrolled)
	if n := enrol(t, s, again, "a", key(2)); !n.Revoked.IsZero() {
		t.Errorf("the new machine: %+v", n)
	}
}

func TestNodeReplacesItsOwnKey(t *testing.T) {
	t.Parallel()
	s, c := newStore(t)
	secret, _ := invite(t, s, access.Invitation{Uses: 2, Expires: hour(c)})
	enrol(t, s, secret, "a", key(1))
	enrol(t, s, secret, "b", key(2))
	told := told(s)
	for _, bad := range []struct {
		what, from, to string
		want           error
	}{
		{"a key of nobody", key(7), key(8), access.ErrUnknown},
		{"the same key", key(1), key(1), access.ErrInvalid},
		{"the key of another", key(1), key(2), access.ErrEnrolled},
		{"no key", key(1), "", access.ErrInvalid},
	} {
		want(t, bad.what, s.RotateNodeKey(bad.from, bad.to), bad.want)
	}
	if list := told(); len(list) != 0 {
		t.Errorf("nothing changed, and told was %v", list)
	}
	want(t, "rotate", s.RotateNodeKey(key(1), key(3)), nil)
	same(t, "revoked", told(), []access.Revoked{{Node: "a", Key: key(1)}})
	if n, ok := s.NodeByKey(key(3)); !ok || n.ID != "a" {
		t.Errorf("node of the new key: %+v, %v", n, ok)
	}
	if _, ok := s.NodeByKey(key(1)); ok {
		t.Error("the old key still speaks for the node")
	}
}
