package subjects

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"
)

// Doors of a secured cluster, at which users, tokens, web sessions, invitations and
// nodes are looked after. Each is a request with a JSON reply; a refusal is an error as
// the doors for SQL answer it.
const (
	// WhoAmI takes {} and answers with a Who.
	WhoAmI = Access + ".whoami"
	// PasswordChange takes a PasswordRequest: one's own, with the old one.
	PasswordChange = Access + ".password"
	// UserList takes {} and answers with a UserList; the others take a UserRequest, and
	// answer with a Secret, which is set if the master has made a one-time password.
	UserList   = Access + ".user.list"
	UserAdd    = Access + ".user.add"
	UserChange = Access + ".user.change"
	UserReset  = Access + ".user.reset"
	UserRemove = Access + ".user.remove"
	// TokenMake takes a TokenRequest and answers with a Secret, TokenList takes a
	// CredentialRequest and answers with a TokenList, TokenRevoke takes one with an ID.
	TokenMake   = Access + ".token.make"
	TokenList   = Access + ".token.list"
	TokenRevoke = Access + ".token.revoke"
	// SessionList takes a CredentialRequest and answers with a SessionList, SessionClose
	// takes one with an ID.
	SessionList  = Access + ".session.list"
	SessionClose = Access + ".session.close"
	// Invite takes an InvitationRequest and answers with a Secret, InvitationList takes {}
	// and answers with an InvitationList, InvitationRevoke takes a CredentialRequest.
	Invite           = Access + ".invitation.make"
	InvitationList   = Access + ".invitation.list"
	InvitationRevoke = Access + ".invitation.revoke"
	// NodeKeyList takes {} and answers with a NodeKeyList, NodeRevoke takes a
	// CredentialRequest whose ID is the node's.
	NodeKeyList = Access + ".node.list"
	NodeRevoke  = Access + ".node.revoke"
	// AuthorityRotate takes an AuthorityRequest and answers with an AuthorityResponse: from
	// then on the master is certified by a new authority.
	AuthorityRotate = Access + ".authority.rotate"
	// AuditList takes an AuditRequest and answers with an AuditListResponse, AuditVerify
	// takes {} and answers with an AuditReport.
	AuditList   = Access + ".audit.list"
	AuditVerify = Access + ".audit.verify"
)

// Headers by which the panel says for whom it asks; in requests of others they mean
// nothing.
const (
	HeaderAs   = "Snapdb-As"   // the user's name, with the credential's id after a #
	HeaderFrom = "Snapdb-From" // address of the user's machine
)

// UserInbox is the prefix of the subjects at which a user takes answers, by the name of
// the credential: a weak token must not hear what is answered to a strong one. No two
// have the same, and it is one token of a subject.
func UserInbox(name string) string { return "_INBOX_" + strings.ReplaceAll(name, ".", "=") }

// TokenPrefix begins API tokens: snapdb_<id>_<key>.
const TokenPrefix = "snapdb_"

// CredentialName is by what name a user is known who shows a secret: "alice" with a
// password, "alice#<id>" with an API token.
func CredentialName(user, secret string) string {
	if rest, ok := strings.CutPrefix(secret, TokenPrefix); ok {
		if id, _, ok := strings.Cut(rest, "_"); ok {
			return user + "#" + id
		}
	}
	return user
}

// Who is who asks, and what he may do.
type Who struct {
	User      string   `json:"user"`
	Role      string   `json:"role"`
	Databases []string `json:"databases"` // null: all
	Labels    string   `json:"labels"`    // selector of the nodes that may be commanded; "": all
	// MustChange says that the password must be changed before anything else.
	MustChange bool      `json:"must_change"`
	Expires    time.Time `json:"expires,omitzero"` // of the credential
}

// PasswordRequest changes one's own password.
type PasswordRequest struct {
	Old string `json:"old"`
	New string `json:"new"`
}

// UserRequest names a user, and for UserAdd and UserChange his rights.
type UserRequest struct {
	User      string   `json:"user"`
	Role      string   `json:"role,omitempty"`
	Databases []string `json:"databases,omitempty"` // none: all
	Labels    string   `json:"labels,omitempty"`
	// Password for UserAdd; "": the master makes one for one time.
	Password string `json:"password,omitempty"`
}

// Secret answers what makes a secret: it is shown this once.
type Secret struct {
	ID      string    `json:"id,omitempty"`
	Secret  string    `json:"secret,omitempty"`
	Expires time.Time `json:"expires,omitzero"`
}

// UserEntry is a user in a list.
type UserEntry struct {
	User       string    `json:"user"`
	Role       string    `json:"role"`
	Databases  []string  `json:"databases"`
	Labels     string    `json:"labels"`
	Created    time.Time `json:"created"`
	MustChange bool      `json:"must_change"`
}

// UserListResponse answers UserList.
type UserListResponse struct {
	Users []UserEntry `json:"users"`
}

// TokenRequest makes a token for a program: of the user who asks, or for an admin of
// any.
type TokenRequest struct {
	User      string    `json:"user,omitempty"`
	Label     string    `json:"label"`
	Role      string    `json:"role,omitempty"`      // at most; "": the user's
	Databases []string  `json:"databases,omitempty"` // of those of the user; none: all of them
	Expires   time.Time `json:"expires,omitzero"`    // zero: never
}

// CredentialRequest names something by its ID, or whose to list: "" are one's own, and
// "*" for an admin everybody's.
type CredentialRequest struct {
	User string `json:"user,omitempty"`
	ID   string `json:"id,omitempty"`
}

// TokenEntry is a token in a list, without its secret.
type TokenEntry struct {
	ID        string    `json:"id"`
	User      string    `json:"user"`
	Label     string    `json:"label"`
	Role      string    `json:"role"`
	Databases []string  `json:"databases"`
	Created   time.Time `json:"created"`
	Expires   time.Time `json:"expires,omitzero"`
	Used      time.Time `json:"used,omitzero"`
}

// TokenListResponse answers TokenList.
type TokenListResponse struct {
	Tokens []TokenEntry `json:"tokens"`
}

// SessionEntry is a web session in a list.
type SessionEntry struct {
	ID     string    `json:"id"`
	User   string    `json:"user"`
	From   string    `json:"from"`
	Agent  string    `json:"agent"`
	Opened time.Time `json:"opened"`
	Used   time.Time `json:"used"`
	Own    bool      `json:"own"` // it is the one that asks
}

// SessionListResponse answers SessionList.
type SessionListResponse struct {
	Sessions []SessionEntry `json:"sessions"`
}

// InvitationRequest makes an invitation for nodes.
type InvitationRequest struct {
	Labels map[string]string `json:"labels,omitempty"` // that the nodes get
	Uses   int               `json:"uses,omitempty"`   // 0: one
	// Node is the only id that may come with it; a node that is enrolled under it is
	// replaced.
	Node    string    `json:"node,omitempty"`
	Expires time.Time `json:"expires,omitzero"` // zero: in an hour
}

// InvitationEntry is an invitation in a list, without its secret.
type InvitationEntry struct {
	ID      string            `json:"id"`
	Labels  map[string]string `json:"labels,omitempty"`
	Node    string            `json:"node,omitempty"`
	Uses    int               `json:"uses"`
	Used    int               `json:"used"`
	Created time.Time         `json:"created"`
	Expires time.Time         `json:"expires"`
}

// InvitationListResponse answers InvitationList.
type InvitationListResponse struct {
	Invitations []InvitationEntry `json:"invitations"`
}

// NodeKeyEntry is an enrolled node in a list.
type NodeKeyEntry struct {
	ID         string            `json:"id"`
	Key        string            `json:"key"` // public
	Labels     map[string]string `json:"labels,omitempty"`
	Enrolled   time.Time         `json:"enrolled"`
	Invitation string            `json:"invitation,omitempty"`
	Revoked    time.Time         `json:"revoked,omitzero"` // zero: it is not
}

// NodeKeyListResponse answers NodeKeyList.
type NodeKeyListResponse struct {
	Nodes []NodeKeyEntry `json:"nodes"`
}

// AuthorityRequest on AuthorityRotate says how long the authority of before is still
// good for those who know the master by it; 0: a month, negative: not at all, for a key
// that was stolen.
type AuthorityRequest struct {
	GraceMS int64 `json:"grace_ms,omitempty"`
}

// AuthorityResponse is the new fingerprint. Nodes that connect during the grace time take
// it over by themselves.
type AuthorityResponse struct {
	Fingerprint string `json:"fingerprint"`
}

// AuditRequest says which entries of the audit record are wanted, the newest first. What
// is zero does not matter.
type AuditRequest struct {
	Who     string    `json:"who,omitempty"`
	Action  string    `json:"action,omitempty"` // with a dot at the end: all that begins so
	Target  string    `json:"target,omitempty"`
	Outcome string    `json:"outcome,omitempty"` // "ok", "denied" or "failed"
	Since   time.Time `json:"since,omitzero"`
	Until   time.Time `json:"until,omitzero"`
	Before  uint64    `json:"before,omitempty"` // entries with a lower number
	Limit   int       `json:"limit,omitempty"`  // 0: 100
}

// AuditListResponse answers AuditList. An entry is a line of the record.
type AuditListResponse struct {
	Entries []json.RawMessage `json:"entries"`
}

// AuditReport answers AuditVerify.
type AuditReport struct {
	First   uint64 `json:"first"` // number of the first entry that is kept
	Last    uint64 `json:"last"`
	Hash    string `json:"hash"` // of the last
	Entries uint64 `json:"entries"`
	Bad     string `json:"bad,omitempty"` // where the record is not as it was written, and how
}

// Only leaves out the databases that are not wanted.
func (r *ClusterInfoResponse) Only(wanted func(db string) bool) {
	r.Heads, r.Stopped, r.Snapshots, r.Verified = only(r.Heads, wanted), only(r.Stopped, wanted), only(r.Snapshots, wanted), only(r.Verified, wanted)
	r.Nodes = slices.Clone(r.Nodes)
	for i := range r.Nodes {
		n := &r.Nodes[i]
		n.InSync = slices.DeleteFunc(slices.Clone(n.InSync), func(db string) bool { return !wanted(db) })
		n.Acked = only(n.Acked, wanted)
		if n.Status != nil {
			st := *n.Status
			st.Databases = only(st.Databases, wanted)
			n.Status = &st
		}
	}
}

func only[V any](all map[string]V, wanted func(string) bool) map[string]V {
	some := maps.Clone(all)
	maps.DeleteFunc(some, func(db string, _ V) bool { return !wanted(db) })
	return some
}
