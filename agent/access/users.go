package access

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/snapdb/snapdb/subjects"
)

// AdminName is the user that [Store.Bootstrap] makes.
const AdminName = "admin"

// Passwords are judged by their length in bytes, and by nothing else: rules of
// composition make passwords that are easier to guess.
const (
	MinPassword = 12
	MaxPassword = 1024
)

// User is somebody who may log in.
type User struct {
	Name       string    `json:"name"`
	Role       Role      `json:"role"`
	Databases  []string  `json:"databases"`   // nil: all
	Labels     string    `json:"labels"`      // selector of the nodes that may be commanded, "": all
	MustChange bool      `json:"must_change"` // the password is a one-time one
	Created    time.Time `json:"created"`
	Changed    time.Time `json:"changed"` // of the password
	LastLogin  time.Time `json:"last_login,omitzero"`
}

// user is what is kept of a user.
type user struct {
	User
	Password passwordHash `json:"password"`
	Known    []string     `json:"known"` // addresses from which the user logged in, the latest first
}

// maxKnown is how many addresses of a user are known.
const maxKnown = 16

func (u user) id() string { return u.Name }

func (u user) principal() Principal {
	return Principal{User: u.Name, Role: u.Role, Databases: slices.Clone(u.Databases), Labels: u.Labels, MustChange: u.MustChange}
}

var userName = regexp.MustCompile(`^[a-z][a-z0-9._-]{0,31}$`)

func (u user) check(*state) error {
	if !userName.MatchString(u.Name) {
		return fmt.Errorf("user name %q: %w: a letter, then up to 31 of a-z, 0-9, '.', '_' and '-'", clip(u.Name), ErrInvalid)
	}
	if err := u.checkRights(); err != nil {
		return fmt.Errorf("user %s: %w", u.Name, err)
	}
	return nil
}

func (u User) checkRights() error {
	if !u.Role.valid() {
		return fmt.Errorf("role: %w", ErrInvalid)
	}
	if u.Role == Admin && (u.Databases != nil || u.Labels != "") {
		return fmt.Errorf("%w: an admin could lift a limit to databases or nodes: leave both away, or give the role operator", ErrInvalid)
	}
	if u.Labels != "" {
		if _, err := subjects.ParseSelector(u.Labels); err != nil {
			return fmt.Errorf("%w: %w", ErrInvalid, err)
		}
	}
	return checkDatabases(u.Databases)
}

func checkPassword(name, password string) error {
	switch {
	case len(password) < MinPassword || len(password) > MaxPassword:
		return fmt.Errorf("password: %w: it must have %d to %d bytes", ErrInvalid, MinPassword, MaxPassword)
	case !utf8.ValidString(password):
		return fmt.Errorf("password: %w: it is not valid UTF-8", ErrInvalid)
	case password == name:
		return fmt.Errorf("password: %w: it is the user's name", ErrInvalid)
	}
	return nil
}

// Add makes a user: its name, role, databases and labels are taken, and MustChange
// when the password is one that the user is to replace.
func (s *Store) Add(ctx context.Context, add User, password string) error {
	if err := checkPassword(add.Name, password); err != nil {
		return err
	}
	hash, err := s.hash(ctx, password)
	if err != nil {
		return err
	}
	return s.update(func(st *state) ([]Revoked, error) {
		return nil, s.add(st, add, hash)
	})
}

func (s *Store) add(st *state, add User, hash passwordHash) error {
	add.Databases = slices.Clone(add.Databases)
	add.Created = s.now()
	add.Changed, add.LastLogin = add.Created, time.Time{}
	u := user{User: add, Password: hash}
	if err := u.check(st); err != nil {
		return err
	}
	if _, ok := st.users[add.Name]; ok {
		return fmt.Errorf("%w user %s", ErrExists, add.Name)
	}
	if len(st.users) >= maxUsers {
		return fmt.Errorf("%w users: at most %d", ErrTooMany, maxUsers)
	}
	st.users[add.Name] = u
	return nil
}

func (s *Store) hash(ctx context.Context, password string) (h passwordHash, err error) {
	err = s.hashing.do(ctx, false, func() { h = hashPassword(s.opt.Costs, password) })
	return h, err
}

func (st *state) user(name string) (user, error) {
	u, ok := st.users[name]
	if !ok {
		return user{}, fmt.Errorf("%w user %q", ErrUnknown, clip(name))
	}
	return u, nil
}

// SetRole gives a user another role and other limits. They hold at once, for
// tokens and sessions too.
func (s *Store) SetRole(name string, role Role, databases []string, labels string) error {
	return s.update(func(st *state) ([]Revoked, error) {
		u, err := st.user(name)
		if err != nil {
			return nil, err
		}
		if role != Admin && st.lastAdmin(u) {
			return nil, ErrLastAdmin
		}
		u.Role, u.Databases, u.Labels = role, slices.Clone(databases), labels
		st.users[name] = u
		return []Revoked{{User: name}}, u.check(st)
	})
}

func (st *state) lastAdmin(u user) bool {
	if u.Role != Admin {
		return false
	}
	for _, other := range st.users {
		if other.Role == Admin && other.Name != u.Name {
			return false
		}
	}
	return true
}

// SetPassword gives a user a new password of his own, and ends his web sessions
// except the one whose id is keep. A one-time password cannot be kept by setting
// it again.
func (s *Store) SetPassword(ctx context.Context, name, password, keep string) error {
	if err := checkPassword(name, password); err != nil {
		return err
	}
	u, err := s.state.Load().user(name)
	if err != nil {
		return err
	}
	if u.MustChange {
		same := false
		if err := s.hashing.do(ctx, false, func() { same = u.Password.matches(password) }); err != nil {
			return err
		}
		if same {
			return fmt.Errorf("password: %w: it is the one that is to be replaced", ErrInvalid)
		}
	}
	hash, err := s.hash(ctx, password)
	if err != nil {
		return err
	}
	return s.update(func(st *state) ([]Revoked, error) {
		return s.setPassword(st, name, hash, keep, false)
	})
}

// ResetPassword gives a user a one-time password and ends all of his web sessions.
func (s *Store) ResetPassword(ctx context.Context, name string) (oneTime string, err error) {
	oneTime = OneTimePassword()
	hash, err := s.hash(ctx, oneTime)
	if err != nil {
		return "", err
	}
	err = s.update(func(st *state) ([]Revoked, error) {
		return s.setPassword(st, name, hash, "", true)
	})
	return shown(oneTime, err)
}

func (s *Store) setPassword(st *state, name string, hash passwordHash, keep string, mustChange bool) ([]Revoked, error) {
	u, err := st.user(name)
	if err != nil {
		return nil, err
	}
	u.Password, u.Changed, u.MustChange = hash, s.now(), mustChange
	st.users[name] = u
	for id, e := range st.sessions {
		if e.User == name && id != keep {
			delete(st.sessions, id)
		}
	}
	// Connections made with the old password are among what is to be cut.
	return []Revoked{{User: name}}, nil
}

// Bootstrap makes the user admin when there is no user at all, with a one-time
// password that must be changed at the first login. With users there it is "".
func (s *Store) Bootstrap(ctx context.Context) (oneTime string, err error) {
	if len(s.state.Load().users) > 0 {
		return "", nil
	}
	oneTime = OneTimePassword()
	hash, err := s.hash(ctx, oneTime)
	if err != nil {
		return "", err
	}
	err = s.update(func(st *state) ([]Revoked, error) {
		if len(st.users) > 0 {
			return nil, ErrExists // somebody else was faster
		}
		return nil, s.add(st, User{Name: AdminName, Role: Admin, MustChange: true}, hash)
	})
	if errors.Is(err, ErrExists) {
		return "", nil
	}
	return shown(oneTime, err)
}

// ResetAdmin lets the owner of the master's machine in again: the user admin is
// made if it is gone, made an admin again, and gets a one-time password. All of
// its web sessions end.
func (s *Store) ResetAdmin(ctx context.Context) (oneTime string, err error) {
	oneTime = OneTimePassword()
	hash, err := s.hash(ctx, oneTime)
	if err != nil {
		return "", err
	}
	err = s.update(func(st *state) ([]Revoked, error) {
		u, ok := st.users[AdminName]
		if !ok {
			return nil, s.add(st, User{Name: AdminName, Role: Admin, MustChange: true}, hash)
		}
		u.Role, u.Databases, u.Labels = Admin, nil, ""
		st.users[AdminName] = u
		return s.setPassword(st, AdminName, hash, "", true)
	})
	return shown(oneTime, err)
}

// shown is a secret only if what it belongs to was saved.
func shown(secret string, err error) (string, error) {
	if err != nil {
		return "", err
	}
	return secret, nil
}

// Remove ends a user, with his tokens and sessions.
func (s *Store) Remove(name string) error {
	return s.update(func(st *state) ([]Revoked, error) {
		u, err := st.user(name)
		if err != nil {
			return nil, err
		}
		if st.lastAdmin(u) {
			return nil, ErrLastAdmin
		}
		delete(st.users, name)
		for id, t := range st.tokens {
			if t.User == name {
				delete(st.tokens, id)
			}
		}
		for id, e := range st.sessions {
			if e.User == name {
				delete(st.sessions, id)
			}
		}
		return []Revoked{{User: name}}, nil
	})
}

// Users lists the users by name.
func (s *Store) Users() []User {
	var list []User
	for _, u := range inOrder(s.state.Load().users) {
		u.Databases = slices.Clone(u.Databases)
		list = append(list, u.User)
	}
	return list
}
