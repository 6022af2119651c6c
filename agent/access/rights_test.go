package access_test

import (
	"encoding/json"
	"testing"

	"github.com/snapdb/snapdb/agent/access"
	"github.com/snapdb/snapdb/subjects"
)

func TestRolesAreALadder(t *testing.T) {
	t.Parallel()
	rights := []access.Right{access.Read, access.Write, access.Command, access.Administer}
	for i, role := range []access.Role{access.Viewer, access.Writer, access.Operator, access.Admin} {
		for j, right := range rights {
			if role.Has(right) != (j <= i) {
				t.Errorf("%s has right %d: %v", role, right, role.Has(right))
			}
		}
		if read, err := access.ParseRole(role.String()); err != nil || read != role {
			t.Errorf("%s is read as %s: %v", role, read, err)
		}
	}
	for _, none := range []access.Role{0, -1, access.Admin + 1} {
		if none.Has(access.Read) || none.String() != "none" {
			t.Errorf("role %d is %s and may read: %v", int(none), none, none.Has(access.Read))
		}
		if _, err := json.Marshal(none); err == nil {
			t.Errorf("role %d was written", int(none))
		}
	}
	for _, none := range []access.Right{0, -1, access.Administer + 1} {
		if access.Admin.Has(none) {
			t.Errorf("an admin has right %d, which is none", none)
		}
	}
	for _, text := range []string{"", "Viewer", "none", "root", "viewer ", long} {
		_, err := access.ParseRole(text)
		want(t, "role "+text[:min(9, len(text))], err, access.ErrInvalid)
	}
}

func TestPrincipalMayWhatItsLimitsLeave(t *testing.T) {
	t.Parallel()
	all := access.Principal{User: "alice", Role: access.Operator}
	some := access.Principal{User: "alice", Credential: "0123456789ab", Role: access.Operator, Databases: []string{"Shop"}, Labels: "room=lab1"}
	none := access.Principal{User: "alice", Role: access.Operator, Databases: []string{}}
	waits := access.Principal{User: "alice", Role: access.Admin, MustChange: true}
	lab1 := &subjects.NodeInfo{ID: "a", Status: &subjects.StatusMessage{Labels: map[string]string{"room": "lab1"}}}
	lab2 := &subjects.NodeInfo{ID: "b", Status: &subjects.StatusMessage{Labels: map[string]string{"room": "lab2"}}}
	for _, c := range []struct {
		what      string
		got, want bool
	}{
		{"all databases", all.MayUse("anything"), true},
		{"a database of the list, in other letters", some.MayUse("sHOP"), true},
		{"a database beside the list", some.MayUse("shop2"), false},
		{"a letter that folds to k", access.Principal{Role: access.Viewer, Databases: []string{"k"}}.MayUse("\u212a"), false},
		{"no database", some.MayUse(""), false},
		{"any of an empty list", none.MayUse("shop"), false},
		{"without a role", access.Principal{User: "alice"}.MayUse("shop"), false},
		{"with a one-time password", waits.MayUse("shop"), false},
		{"reading with a one-time password", waits.May(access.Read), false},
		{"all nodes", all.MayCommand(lab2), true},
		{"a node of the selector", some.MayCommand(lab1), true},
		{"another node", some.MayCommand(lab2), false},
		{"a node that has said nothing yet", some.MayCommand(&subjects.NodeInfo{ID: "c"}), false},
		{"as a writer", access.Principal{Role: access.Writer}.MayCommand(lab1), false},
	} {
		if c.got != c.want {
			t.Errorf("%s: %v", c.what, c.got)
		}
	}
	if all.Name() != "alice" || some.Name() != "alice#0123456789ab" {
		t.Errorf("names %s, %s", all.Name(), some.Name())
	}
}
