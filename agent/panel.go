package agent

import (
	"context"
	"errors"

	"github.com/snapdb/snapdb/agent/access"
	"github.com/snapdb/snapdb/agent/audit"
	"github.com/snapdb/snapdb/subjects"
)

// Entrance is where browsers and programs that speak HTTP show who they are. Errors are
// *subjects.Error: CodeForbidden for what is wrong or over, and CodeBusy for an attempt
// that was not looked at.
type Entrance struct{ warden *warden }

// Entrance is that of a secured cluster; nil in an open one.
func (m *Master) Entrance() *Entrance {
	if m.warden == nil {
		return nil
	}
	return &Entrance{m.warden}
}

// Login opens a web session for who has a name and password, and returns its secret.
func (e *Entrance) Login(ctx context.Context, user, password, from, browser string) (secret string, err error) {
	p, err := e.warden.store.Login(ctx, user, password, from)
	e.warden.connected(user, "", from, err)
	if errors.Is(err, access.ErrDenied) {
		return "", subjects.Errorf(subjects.CodeForbidden, "user and password do not go together")
	}
	if err == nil {
		secret, err = e.warden.store.OpenSession(p, from, browser)
	}
	return secret, accessError(err)
}

// Session says whose web session this is, and by which name its doings are known at the
// doors.
func (e *Entrance) Session(secret string) (name string, who subjects.Who, err error) {
	return whoIs(e.warden.store.Session(secret))
}

// Token says the same of an API token.
func (e *Entrance) Token(secret string) (name string, who subjects.Who, err error) {
	return whoIs(e.warden.store.VerifyToken(secret))
}

func whoIs(p access.Principal, err error) (string, subjects.Who, error) {
	if err != nil {
		return "", subjects.Who{}, accessError(err)
	}
	return p.Name(), subjects.Who{User: p.User, Role: p.Role.String(), Databases: p.Databases, Labels: p.Labels, MustChange: p.MustChange, Expires: p.Expires}, nil
}

// Look says what rights are left of a name that Session or Token gave. To be looked at is
// no use: a page that is only left open ends like one that is closed.
func (e *Entrance) Look(name string) (subjects.Who, error) {
	_, who, err := whoIs(e.warden.store.Look(name))
	return who, err
}

// Logout ends a web session.
func (e *Entrance) Logout(secret, from string) error {
	p, err := e.warden.store.Session(secret)
	if err == nil {
		err = e.warden.store.CloseSession(p.Credential)
	}
	if err == nil {
		e.warden.record(audit.Event{Who: p.Name(), From: from, Action: "logout", Outcome: audit.OK})
	}
	return accessError(err)
}
