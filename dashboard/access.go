package dashboard

import (
	"net/http"

	"github.com/snapdb/snapdb/subjects"
)

// nothing is what some doors are asked with.
type nothing struct{}

// getMe says who asks, and what he may do.
func (s *Server) getMe(w http.ResponseWriter, r *http.Request) error {
	return s.passAccess(w, r, subjects.WhoAmI, nothing{}, http.StatusOK)
}

// passAccess sends a request about users on and its answer back.
func (s *Server) passAccess(w http.ResponseWriter, r *http.Request, subject string, request any, success int) error {
	if p := readParameters(r); p.err != nil {
		return p.err
	}
	return s.passCommand(w, r, subject, request, success)
}

// takeAccess is passAccess for what stands in the body.
func takeAccess[Q any](s *Server, w http.ResponseWriter, r *http.Request, subject string, success int, more func(*Q)) error {
	q := new(Q)
	if err := readJSON(w, r, q); err != nil {
		return err
	}
	if more != nil {
		more(q)
	}
	return s.passAccess(w, r, subject, q, success)
}

// postPassword changes one's own password.
func (s *Server) postPassword(w http.ResponseWriter, r *http.Request) error {
	return takeAccess[subjects.PasswordRequest](s, w, r, subjects.PasswordChange, http.StatusOK, nil)
}

// getUsers lists the users.
func (s *Server) getUsers(w http.ResponseWriter, r *http.Request) error {
	return s.passAccess(w, r, subjects.UserList, nothing{}, http.StatusOK)
}

// postUsers makes a user.
func (s *Server) postUsers(w http.ResponseWriter, r *http.Request) error {
	return takeAccess[subjects.UserRequest](s, w, r, subjects.UserAdd, http.StatusCreated, nil)
}

// changeUser gives a user other rights.
func (s *Server) changeUser(w http.ResponseWriter, r *http.Request) error {
	return takeAccess(s, w, r, subjects.UserChange, http.StatusOK, func(q *subjects.UserRequest) { q.User = r.PathValue("user") })
}

// resetUser gives a user a password for one time.
func (s *Server) resetUser(w http.ResponseWriter, r *http.Request) error {
	return s.passAccess(w, r, subjects.UserReset, subjects.UserRequest{User: r.PathValue("user")}, http.StatusOK)
}

// removeUser removes a user.
func (s *Server) removeUser(w http.ResponseWriter, r *http.Request) error {
	return s.passAccess(w, r, subjects.UserRemove, subjects.UserRequest{User: r.PathValue("user")}, http.StatusOK)
}

// getTokens lists API tokens.
func (s *Server) getTokens(w http.ResponseWriter, r *http.Request) error {
	return s.listOf(w, r, subjects.TokenList)
}

// getSessions lists web sessions.
func (s *Server) getSessions(w http.ResponseWriter, r *http.Request) error {
	return s.listOf(w, r, subjects.SessionList)
}

// listOf lists what the visitor has, or a user, or everybody.
func (s *Server) listOf(w http.ResponseWriter, r *http.Request, subject string) error {
	p := readParameters(r, "user")
	if p.err != nil {
		return p.err
	}
	return s.passCommand(w, r, subject, subjects.CredentialRequest{User: p.text("user")}, http.StatusOK)
}

// postTokens makes an API token.
func (s *Server) postTokens(w http.ResponseWriter, r *http.Request) error {
	return takeAccess[subjects.TokenRequest](s, w, r, subjects.TokenMake, http.StatusCreated, nil)
}

// getInvitations lists the invitations of nodes.
func (s *Server) getInvitations(w http.ResponseWriter, r *http.Request) error {
	return s.passAccess(w, r, subjects.InvitationList, nothing{}, http.StatusOK)
}

// postInvitations invites nodes.
func (s *Server) postInvitations(w http.ResponseWriter, r *http.Request) error {
	return takeAccess[subjects.InvitationRequest](s, w, r, subjects.Invite, http.StatusCreated, nil)
}

// getNodeKeys lists the nodes that came by an invitation.
func (s *Server) getNodeKeys(w http.ResponseWriter, r *http.Request) error {
	return s.passAccess(w, r, subjects.NodeKeyList, nothing{}, http.StatusOK)
}

// endByID makes the route that ends what its path names.
func (s *Server) endByID(subject string) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		return s.passAccess(w, r, subject, subjects.CredentialRequest{ID: r.PathValue("id")}, http.StatusOK)
	}
}

// mostAudit is how many entries of the audit record one answer has.
const mostAudit = 1000

// getAudit lists entries of the audit record, the newest first.
func (s *Server) getAudit(w http.ResponseWriter, r *http.Request) error {
	p := readParameters(r, "who", "action", "target", "outcome", "before", "limit")
	q := subjects.AuditRequest{
		Who: p.text("who"), Action: p.text("action"), Target: p.text("target"), Outcome: p.text("outcome"),
		Before: p.number("before", 0, 1<<53, 0), Limit: int(p.number("limit", 1, mostAudit, 100)),
	}
	if p.err != nil {
		return p.err
	}
	return s.passCommand(w, r, subjects.AuditList, &q, http.StatusOK)
}

// verifyAudit has the audit record proven.
func (s *Server) verifyAudit(w http.ResponseWriter, r *http.Request) error {
	return s.passAccess(w, r, subjects.AuditVerify, nothing{}, http.StatusOK)
}
