package agent

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/snapdb/snapdb/agent/access"
	"github.com/snapdb/snapdb/broker/pki"
	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// inviteLife is how long an invitation lasts if nothing else is said.
const inviteLife = time.Hour

// admin is behind the doors at which users, tokens, invitations and nodes are looked
// after. What a user may do to himself he may with the lowest role; the doors say the
// rest.
type admin struct {
	m     *Master
	store *access.Store // nil in an open cluster
}

func newAdmin(m *Master) *admin {
	a := &admin{m: m}
	if m.warden != nil {
		a.store = m.warden.store
	}
	return a
}

// nothing is asked with {}.
type nothing struct{}

// doors are there in an open cluster too, to say that it is one.
func (a *admin) doors() map[string]door {
	return map[string]door{
		"whoami":            adminDoor(a, subjects.WhoAmI, own, false, a.whoAmI),
		"password":          adminDoor(a, subjects.PasswordChange, own, true, a.changePassword),
		"user-list":         adminDoor(a, subjects.UserList, access.Administer, false, a.users),
		"user-add":          adminDoor(a, subjects.UserAdd, access.Administer, true, a.addUser),
		"user-change":       adminDoor(a, subjects.UserChange, access.Administer, true, a.changeUser),
		"user-reset":        adminDoor(a, subjects.UserReset, access.Administer, true, a.resetUser),
		"user-remove":       adminDoor(a, subjects.UserRemove, access.Administer, true, a.removeUser),
		"token-make":        adminDoor(a, subjects.TokenMake, access.Read, true, a.makeToken),
		"token-list":        adminDoor(a, subjects.TokenList, access.Read, false, a.tokens),
		"token-revoke":      adminDoor(a, subjects.TokenRevoke, access.Read, true, a.revokeToken),
		"session-list":      adminDoor(a, subjects.SessionList, access.Read, false, a.sessions),
		"session-close":     adminDoor(a, subjects.SessionClose, access.Read, true, a.closeSession),
		"invitation-make":   adminDoor(a, subjects.Invite, access.Administer, true, a.invite),
		"invitation-list":   adminDoor(a, subjects.InvitationList, access.Administer, false, a.invitations),
		"invitation-revoke": adminDoor(a, subjects.InvitationRevoke, access.Administer, true, a.revokeInvitation),
		"node-list":         adminDoor(a, subjects.NodeKeyList, access.Administer, false, a.nodes),
		"authority-rotate":  adminDoor(a, subjects.AuthorityRotate, access.Administer, true, a.rotateAuthority),
		"audit-list":        adminDoor(a, subjects.AuditList, access.Administer, true, a.auditList),
		"audit-verify":      adminDoor(a, subjects.AuditVerify, access.Administer, true, a.auditVerify),
		"node-revoke":       adminDoor(a, subjects.NodeRevoke, access.Administer, true, a.revokeNode),
	}
}

func adminDoor[Q, A any](a *admin, subject string, right access.Right, record bool, f func(context.Context, *caller, *Q) (*A, error)) door {
	handle := answerJSON(a.m.ctx, f)
	if a.m.warden == nil {
		handle = func(_ *demand, answer reply) {
			respondError(answer, subjects.Errorf(subjects.CodeUnavailable, "there are no users in an open cluster, where everybody may do everything: start the master with --secure"))
		}
	}
	return door{subject, right, false, record, a.m.behind(func(r *demand, answer reply) {
		handle(r, answer)
		a.m.warden.cut(a.m.journal.doors())
	})}
}

// accessError is what a client hears of a change that was not made.
func accessError(err error) error {
	var code subjects.Code
	var throttled *access.ThrottledError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, access.ErrUnknown):
		code = subjects.CodeNotFound
	case errors.Is(err, access.ErrExists), errors.Is(err, access.ErrEnrolled):
		code = subjects.CodeExists
	case errors.Is(err, access.ErrDenied), errors.Is(err, access.ErrInvitation):
		code = subjects.CodeForbidden
	case errors.Is(err, access.ErrTooMany), errors.As(err, &throttled):
		code = subjects.CodeBusy
	case errors.Is(err, access.ErrInvalid), errors.Is(err, access.ErrLastAdmin):
		code = subjects.CodeBadRequest
	default:
		return exec.WireError(err)
	}
	return subjects.Errorf(code, "%v", err)
}

func (a *admin) whoAmI(_ context.Context, who *caller, _ *nothing) (*subjects.Who, error) {
	return &subjects.Who{User: who.User, Role: who.Role.String(), Databases: who.Databases, Labels: who.Labels, MustChange: who.MustChange, Expires: who.Expires}, nil
}

// changePassword changes one's own. Whoever asks has shown a password or a token to get
// here; the old password says that it is not just somebody at an open terminal.
func (a *admin) changePassword(ctx context.Context, who *caller, q *subjects.PasswordRequest) (*nothing, error) {
	if _, err := a.store.Login(ctx, who.User, q.Old, who.from); err != nil {
		if errors.Is(err, access.ErrDenied) {
			return nil, subjects.Errorf(subjects.CodeForbidden, "the old password is not that of %s", who.User)
		}
		return nil, accessError(err)
	}
	return &nothing{}, accessError(a.store.SetPassword(ctx, who.User, q.New, who.Credential))
}

func (a *admin) users(context.Context, *caller, *nothing) (*subjects.UserListResponse, error) {
	list := &subjects.UserListResponse{Users: []subjects.UserEntry{}}
	for _, u := range a.store.Users() {
		list.Users = append(list.Users, subjects.UserEntry{User: u.Name, Role: u.Role.String(), Databases: u.Databases, Labels: u.Labels, Created: u.Created, MustChange: u.MustChange})
	}
	return list, nil
}

func (a *admin) addUser(ctx context.Context, _ *caller, q *subjects.UserRequest) (*subjects.Secret, error) {
	role, err := access.ParseRole(q.Role)
	if err != nil {
		return nil, accessError(err)
	}
	made := ""
	if q.Password == "" {
		made = access.OneTimePassword()
	}
	err = a.store.Add(ctx, access.User{Name: q.User, Role: role, Databases: q.Databases, Labels: q.Labels, MustChange: made != ""}, cmp.Or(made, q.Password))
	return &subjects.Secret{ID: q.User, Secret: made}, accessError(err)
}

func (a *admin) changeUser(_ context.Context, _ *caller, q *subjects.UserRequest) (*nothing, error) {
	role, err := access.ParseRole(q.Role)
	if err == nil {
		err = a.store.SetRole(q.User, role, q.Databases, q.Labels)
	}
	return &nothing{}, accessError(err)
}

func (a *admin) resetUser(ctx context.Context, _ *caller, q *subjects.UserRequest) (*subjects.Secret, error) {
	made, err := a.store.ResetPassword(ctx, q.User)
	return &subjects.Secret{ID: q.User, Secret: made}, accessError(err)
}

func (a *admin) removeUser(_ context.Context, who *caller, q *subjects.UserRequest) (*nothing, error) {
	if q.User == who.User {
		return nil, subjects.Errorf(subjects.CodeBadRequest, "nobody removes himself: another admin can")
	}
	return &nothing{}, accessError(a.store.Remove(q.User))
}

// whose is the user that is meant; only an admin may mean another than himself.
func (a *admin) whose(who *caller, user string) (string, error) {
	if user == "" || user == who.User {
		return who.User, nil
	}
	if err := who.may(access.Administer); err != nil {
		return "", err
	}
	return user, nil
}

func (a *admin) makeToken(_ context.Context, who *caller, q *subjects.TokenRequest) (*subjects.Secret, error) {
	user, err := a.whose(who, q.User)
	if err != nil {
		return nil, err
	}
	role, databases := who.Role, q.Databases
	if user != who.User {
		role = a.roleOf(user)
	}
	if q.Role != "" {
		if role, err = access.ParseRole(q.Role); err != nil {
			return nil, accessError(err)
		}
	}
	if user == who.User { // not more than the credential that asks
		if err := who.may(access.Right(role)); err != nil {
			return nil, err
		}
		for _, db := range databases {
			if err := who.uses(db); err != nil {
				return nil, err
			}
		}
		if databases == nil {
			databases = who.Databases
		}
		if !who.Expires.IsZero() && (q.Expires.IsZero() || q.Expires.After(who.Expires)) && who.isToken(a.store) {
			q.Expires = who.Expires
		}
	}
	secret, token, err := a.store.MakeToken(user, q.Label, role, databases, q.Expires)
	return &subjects.Secret{ID: token.ID, Secret: secret, Expires: token.Expires}, accessError(err)
}

// roleOf is a user's role, the lowest if there is no such user.
func (a *admin) roleOf(user string) access.Role {
	for _, u := range a.store.Users() {
		if u.Name == user {
			return u.Role
		}
	}
	return access.Viewer
}

// isToken says whether the caller has shown a token: what is made with it must not
// outlast it.
func (c *caller) isToken(store *access.Store) bool {
	for _, t := range store.Tokens(c.User) {
		if t.ID == c.Credential {
			return true
		}
	}
	return false
}

// listed are the users whose credentials are to be listed.
func (a *admin) listed(who *caller, user string) ([]string, error) {
	if user != "*" {
		one, err := a.whose(who, user)
		return []string{one}, err
	}
	if err := who.may(access.Administer); err != nil {
		return nil, err
	}
	var all []string
	for _, u := range a.store.Users() {
		all = append(all, u.Name)
	}
	return all, nil
}

func (a *admin) tokens(_ context.Context, who *caller, q *subjects.CredentialRequest) (*subjects.TokenListResponse, error) {
	users, err := a.listed(who, q.User)
	if err != nil {
		return nil, err
	}
	list := &subjects.TokenListResponse{Tokens: []subjects.TokenEntry{}}
	for _, user := range users {
		for _, t := range a.store.Tokens(user) {
			list.Tokens = append(list.Tokens, subjects.TokenEntry{ID: t.ID, User: t.User, Label: t.Label, Role: t.Scope.String(), Databases: t.Databases, Created: t.Created, Expires: t.Expires, Used: t.LastUsed})
		}
	}
	return list, nil
}

func (a *admin) revokeToken(ctx context.Context, who *caller, q *subjects.CredentialRequest) (*nothing, error) {
	all, err := a.tokens(ctx, who, &subjects.CredentialRequest{User: cmp.Or(q.User, a.reach(who))})
	if err != nil {
		return nil, err
	}
	for _, t := range all.Tokens {
		if t.ID != q.ID {
			continue
		}
		if role, err := access.ParseRole(t.Role); err != nil || role > who.Role {
			return nil, subjects.Errorf(subjects.CodeForbidden, "token %s may do more than what asks (%s against %s)", t.ID, t.Role, who.Role)
		}
		return &nothing{}, accessError(a.store.RevokeToken(q.ID))
	}
	return nil, subjects.Errorf(subjects.CodeNotFound, "no such token %.64q: see snapdb user token ls", q.ID)
}

// reach is whose credentials the caller may end.
func (a *admin) reach(who *caller) string {
	if who.may(access.Administer) == nil {
		return "*"
	}
	return who.User
}

func (a *admin) sessions(_ context.Context, who *caller, q *subjects.CredentialRequest) (*subjects.SessionListResponse, error) {
	users, err := a.listed(who, q.User)
	if err != nil {
		return nil, err
	}
	list := &subjects.SessionListResponse{Sessions: []subjects.SessionEntry{}}
	for _, user := range users {
		for _, s := range a.store.Sessions(user) {
			list.Sessions = append(list.Sessions, subjects.SessionEntry{ID: s.ID, User: s.User, From: s.From, Agent: s.Agent, Opened: s.Created, Used: s.LastUsed, Own: s.ID == who.Credential})
		}
	}
	return list, nil
}

func (a *admin) closeSession(ctx context.Context, who *caller, q *subjects.CredentialRequest) (*nothing, error) {
	all, err := a.sessions(ctx, who, &subjects.CredentialRequest{User: cmp.Or(q.User, a.reach(who))})
	if err != nil {
		return nil, err
	}
	for _, s := range all.Sessions {
		if s.ID == q.ID {
			return &nothing{}, accessError(a.store.CloseSession(q.ID))
		}
	}
	return nil, subjects.Errorf(subjects.CodeNotFound, "no such session %.64q", q.ID)
}

func (a *admin) invite(_ context.Context, _ *caller, q *subjects.InvitationRequest) (*subjects.Secret, error) {
	if q.Node != "" {
		if err := subjects.CheckNodeID(q.Node); err != nil {
			return nil, subjects.Errorf(subjects.CodeBadRequest, "%v", err)
		}
	}
	expires := q.Expires
	if expires.IsZero() {
		expires = time.Now().Add(inviteLife)
	}
	secret, i, err := a.store.Invite(access.Invitation{Labels: q.Labels, Uses: max(q.Uses, 1), Replace: q.Node, Expires: expires})
	if err != nil {
		return nil, accessError(err)
	}
	return &subjects.Secret{ID: i.ID, Secret: a.m.token(secret), Expires: i.Expires}, nil
}

func (a *admin) invitations(context.Context, *caller, *nothing) (*subjects.InvitationListResponse, error) {
	list := &subjects.InvitationListResponse{Invitations: []subjects.InvitationEntry{}}
	for _, i := range a.store.Invitations() {
		list.Invitations = append(list.Invitations, subjects.InvitationEntry{ID: i.ID, Labels: i.Labels, Node: i.Replace, Uses: i.Uses, Used: i.Used, Created: i.Created, Expires: i.Expires})
	}
	return list, nil
}

func (a *admin) revokeInvitation(_ context.Context, _ *caller, q *subjects.CredentialRequest) (*nothing, error) {
	return &nothing{}, accessError(a.store.RevokeInvitation(q.ID))
}

func (a *admin) nodes(context.Context, *caller, *nothing) (*subjects.NodeKeyListResponse, error) {
	list := &subjects.NodeKeyListResponse{Nodes: []subjects.NodeKeyEntry{}}
	for _, n := range a.store.Nodes() {
		list.Nodes = append(list.Nodes, subjects.NodeKeyEntry{ID: n.ID, Key: n.Key, Labels: n.Labels, Enrolled: n.Enrolled, Invitation: n.Invitation, Revoked: n.Revoked})
	}
	return list, nil
}

// authorityGrace is how long an authority of before stays good if nothing else is said.
const authorityGrace = 30 * 24 * time.Hour

// rotateAuthority has the master certified by a new authority of its own.
func (a *admin) rotateAuthority(_ context.Context, _ *caller, q *subjects.AuthorityRequest) (*subjects.AuthorityResponse, error) {
	own, ok := a.m.certificate.(*pki.Keeper)
	if !ok {
		return nil, subjects.Errorf(subjects.CodeBadRequest, "the master's certificate was brought (--tls-cert): whoever made it makes the next, and the master takes it when the file changes")
	}
	grace := authorityGrace
	if q.GraceMS != 0 {
		grace = max(time.Duration(q.GraceMS)*time.Millisecond, 0)
	}
	if err := own.Rotate(grace); err != nil {
		if errors.Is(err, pki.ErrRotating) {
			return nil, subjects.Errorf(subjects.CodeBusy, "%v", err)
		}
		return nil, err
	}
	return &subjects.AuthorityResponse{Fingerprint: own.Fingerprint()}, nil
}

func (a *admin) revokeNode(_ context.Context, _ *caller, q *subjects.CredentialRequest) (*nothing, error) {
	return &nothing{}, accessError(a.store.RevokeNode(q.ID))
}
