package client

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/snapdb/snapdb/subjects"
)

// WhoAmI asks the master of a secured cluster who the client is.
func (c *Client) WhoAmI(ctx context.Context) (*subjects.Who, error) {
	return ask[subjects.Who](ctx, c, subjects.WhoAmI, struct{}{}, "ask who I am")
}

// ChangePassword changes the client's own password. Connections made with the old one
// are cut.
func (c *Client) ChangePassword(ctx context.Context, old, new string) error {
	_, err := ask[struct{}](ctx, c, subjects.PasswordChange, subjects.PasswordRequest{Old: old, New: new}, "change the password")
	return err
}

// Users lists the users.
func (c *Client) Users(ctx context.Context) ([]subjects.UserEntry, error) {
	list, err := ask[subjects.UserListResponse](ctx, c, subjects.UserList, struct{}{}, "list users")
	if err != nil {
		return nil, err
	}
	return list.Users, nil
}

// AddUser makes a user. Without a password in the request the master makes one for one
// time, which is returned.
func (c *Client) AddUser(ctx context.Context, u subjects.UserRequest) (password string, err error) {
	made, err := ask[subjects.Secret](ctx, c, subjects.UserAdd, u, "add user "+u.User)
	if err != nil {
		return "", err
	}
	return made.Secret, nil
}

// ChangeUser gives a user other rights.
func (c *Client) ChangeUser(ctx context.Context, u subjects.UserRequest) error {
	_, err := ask[struct{}](ctx, c, subjects.UserChange, u, "change user "+u.User)
	return err
}

// ResetUser gives a user a password for one time.
func (c *Client) ResetUser(ctx context.Context, user string) (password string, err error) {
	made, err := ask[subjects.Secret](ctx, c, subjects.UserReset, subjects.UserRequest{User: user}, "reset the password of "+user)
	if err != nil {
		return "", err
	}
	return made.Secret, nil
}

// RemoveUser removes a user, with what he is connected by.
func (c *Client) RemoveUser(ctx context.Context, user string) error {
	_, err := ask[struct{}](ctx, c, subjects.UserRemove, subjects.UserRequest{User: user}, "remove user "+user)
	return err
}

// MakeToken makes a token for a program.
func (c *Client) MakeToken(ctx context.Context, t subjects.TokenRequest) (*subjects.Secret, error) {
	return ask[subjects.Secret](ctx, c, subjects.TokenMake, t, "make a token")
}

// Tokens lists the tokens of a user: "" are one's own, "*" everybody's.
func (c *Client) Tokens(ctx context.Context, user string) ([]subjects.TokenEntry, error) {
	list, err := ask[subjects.TokenListResponse](ctx, c, subjects.TokenList, subjects.CredentialRequest{User: user}, "list tokens")
	if err != nil {
		return nil, err
	}
	return list.Tokens, nil
}

// RevokeToken ends a token.
func (c *Client) RevokeToken(ctx context.Context, id string) error {
	_, err := ask[struct{}](ctx, c, subjects.TokenRevoke, subjects.CredentialRequest{ID: id}, "revoke token "+id)
	return err
}

// Sessions lists the web sessions of a user: "" are one's own, "*" everybody's.
func (c *Client) Sessions(ctx context.Context, user string) ([]subjects.SessionEntry, error) {
	list, err := ask[subjects.SessionListResponse](ctx, c, subjects.SessionList, subjects.CredentialRequest{User: user}, "list sessions")
	if err != nil {
		return nil, err
	}
	return list.Sessions, nil
}

// CloseSession ends a web session.
func (c *Client) CloseSession(ctx context.Context, id string) error {
	_, err := ask[struct{}](ctx, c, subjects.SessionClose, subjects.CredentialRequest{ID: id}, "close session "+id)
	return err
}

// Invite makes an invitation for nodes. Its secret is the token to start them with.
func (c *Client) Invite(ctx context.Context, i subjects.InvitationRequest) (*subjects.Secret, error) {
	return ask[subjects.Secret](ctx, c, subjects.Invite, i, "invite nodes")
}

// Invitations lists the invitations.
func (c *Client) Invitations(ctx context.Context) ([]subjects.InvitationEntry, error) {
	list, err := ask[subjects.InvitationListResponse](ctx, c, subjects.InvitationList, struct{}{}, "list invitations")
	if err != nil {
		return nil, err
	}
	return list.Invitations, nil
}

// RevokeInvitation ends an invitation.
func (c *Client) RevokeInvitation(ctx context.Context, id string) error {
	_, err := ask[struct{}](ctx, c, subjects.InvitationRevoke, subjects.CredentialRequest{ID: id}, "revoke invitation "+id)
	return err
}

// NodeKeys lists the nodes that have been let in by an invitation.
func (c *Client) NodeKeys(ctx context.Context) ([]subjects.NodeKeyEntry, error) {
	list, err := ask[subjects.NodeKeyListResponse](ctx, c, subjects.NodeKeyList, struct{}{}, "list the nodes' keys")
	if err != nil {
		return nil, err
	}
	return list.Nodes, nil
}

// RevokeNode cuts a node off and keeps it out.
func (c *Client) RevokeNode(ctx context.Context, id string) error {
	_, err := ask[struct{}](ctx, c, subjects.NodeRevoke, subjects.CredentialRequest{ID: id}, "revoke node "+id)
	return err
}

// ask is one request of those above; what says what it is for.
func ask[A any](ctx context.Context, c *Client, subject string, request any, what string) (*A, error) {
	answer := new(A)
	if err := c.doJSON(ctx, subject, request, answer); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return answer, nil
}

// RotateAuthority has the master certified by a new authority, and returns its
// fingerprint. The old one is good for a grace time; 0: a month, negative: not at all.
func (c *Client) RotateAuthority(ctx context.Context, grace time.Duration) (fingerprint string, err error) {
	q := subjects.AuthorityRequest{GraceMS: grace.Milliseconds()}
	if grace < 0 {
		q.GraceMS = -1
	}
	made, err := ask[subjects.AuthorityResponse](ctx, c, subjects.AuthorityRotate, q, "rotate the authority")
	if err != nil {
		return "", err
	}
	return made.Fingerprint, nil
}

// Audit reads the audit record, the newest entries first. An entry is a line of JSON.
func (c *Client) Audit(ctx context.Context, r subjects.AuditRequest) ([]json.RawMessage, error) {
	list, err := ask[subjects.AuditListResponse](ctx, c, subjects.AuditList, r, "read the audit record")
	if err != nil {
		return nil, err
	}
	return list.Entries, nil
}

// AuditVerify has the master prove that its audit record is as it was written.
func (c *Client) AuditVerify(ctx context.Context) (*subjects.AuditReport, error) {
	return ask[subjects.AuditReport](ctx, c, subjects.AuditVerify, struct{}{}, "verify the audit record")
}
