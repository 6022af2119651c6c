package access

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/snapdb/snapdb/subjects"
)

// Role is a rung of a ladder: each has the rights of those below. The zero Role
// has none.
type Role int

// The roles.
const (
	Viewer   Role = 1 + iota // reads
	Writer                   // and SQL that changes data, CREATE DATABASE included
	Operator                 // and commands to nodes, snapshots, files
	Admin                    // and users, invitations, nodes, DROP DATABASE, the audit record
)

var roleNames = [...]string{Viewer: "viewer", Writer: "writer", Operator: "operator", Admin: "admin"}

// Right is what an action needs.
type Right int

// The rights, each with the lowest role that has it.
const (
	Read       Right = Right(Viewer)
	Write      Right = Right(Writer)
	Command    Right = Right(Operator)
	Administer Right = Right(Admin)
)

// ParseRole reads "viewer", "writer", "operator" or "admin".
func ParseRole(text string) (Role, error) {
	if i := slices.Index(roleNames[:], text); i >= int(Viewer) {
		return Role(i), nil
	}
	return 0, fmt.Errorf("role %q: %w: viewer, writer, operator or admin", clip(text), ErrInvalid)
}

// String is the text form.
func (r Role) String() string {
	if !r.valid() {
		return "none"
	}
	return roleNames[r]
}

// Has says whether the role includes a right.
func (r Role) Has(right Right) bool {
	return r.valid() && right >= Read && int(right) <= int(r)
}

func (r Role) valid() bool { return r >= Viewer && r <= Admin }

// MarshalText writes the text form.
func (r Role) MarshalText() ([]byte, error) {
	if !r.valid() {
		return nil, fmt.Errorf("role %d: %w", int(r), ErrInvalid)
	}
	return []byte(r.String()), nil
}

// UnmarshalText reads the text form.
func (r *Role) UnmarshalText(text []byte) (err error) {
	*r, err = ParseRole(string(text))
	return err
}

// Principal is somebody who has shown who he is, and what he may do at that moment.
type Principal struct {
	User       string
	Credential string // id of the token or web session, "" for a password
	Role       Role
	Databases  []string  // nil: all
	Labels     string    // selector of the nodes that may be commanded, "": all
	MustChange bool      // the password is a one-time one: nothing may be done before it is changed
	Expires    time.Time // when the credential ends at the latest; zero: never
}

// Name is "alice", or "alice#<id>" with a token or session.
func (p Principal) Name() string {
	if p.Credential == "" {
		return p.User
	}
	return p.User + "#" + p.Credential
}

// May says whether the principal has a right.
func (p Principal) May(right Right) bool { return !p.MustChange && p.Role.Has(right) }

// MayUse says whether the principal's databases include db.
func (p Principal) MayUse(db string) bool {
	return p.May(Read) && (p.Databases == nil || hasDatabase(p.Databases, db))
}

// MayCommand says whether the principal may command that node.
func (p Principal) MayCommand(n *subjects.NodeInfo) bool {
	if !p.May(Command) {
		return false
	}
	if p.Labels == "" {
		return true
	}
	selector, err := subjects.ParseSelector(p.Labels)
	return err == nil && selector.Matches(n)
}

// hasDatabase compares as names of databases are: letters of ASCII without case.
// EqualFold alone takes the Kelvin sign for a k.
func hasDatabase(list []string, db string) bool {
	return slices.ContainsFunc(list, func(d string) bool { return len(d) == len(db) && strings.EqualFold(d, db) })
}

// intersect is what two lists of databases have in common, nil being all.
func intersect(a, b []string) []string {
	if a == nil {
		return slices.Clone(b)
	}
	if b == nil {
		return slices.Clone(a)
	}
	both := []string{}
	for _, db := range a {
		if hasDatabase(b, db) {
			both = append(both, db)
		}
	}
	return both
}

// checkDatabases refuses what can be no database's name, and what is named twice.
func checkDatabases(list []string) error {
	if len(list) > maxDatabases {
		return fmt.Errorf("%w databases: at most %d can be listed", ErrTooMany, maxDatabases)
	}
	for i, db := range list {
		if err := subjects.CheckDatabase(db); err != nil {
			return fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		if hasDatabase(list[:i], db) {
			return fmt.Errorf("%w: database %s is listed twice", ErrInvalid, db)
		}
	}
	return nil
}

// clip keeps hostile values from flooding an error message.
func clip(s string) string {
	if len(s) > 64 {
		return strings.ToValidUTF8(s[:64], "") + "…"
	}
	return s
}
