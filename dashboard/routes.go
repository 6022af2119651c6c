package dashboard

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/snapdb/snapdb/subjects"
)

// controlPatience is how long a door that executes no SQL may take to answer.
const controlPatience = 10 * time.Second

// apiRoot is above all of the API.
const apiRoot = "/api/v1"

// route is one way into the API, or one of those for monitoring.
type route struct {
	method, path string
	right        right // that it takes
	handle       handler
}

// routes are all but the pages. Paths under apiRoot are the API; each is described
// in openapi.json, which a test makes sure of.
func (s *Server) routes() []route {
	return []route{
		{"GET", "/healthz", forAnybody, s.healthz},
		{"GET", "/readyz", forAnybody, s.readyz},
		{"GET", "/metrics", forViewersOfAll, s.metricsHandler()},
		{"GET", apiRoot + "/status", forViewers, s.getStatus},
		{"GET", apiRoot + "/nodes", forViewers, s.getNodes},
		{"GET", apiRoot + "/nodes/{id}", forViewers, s.getNode},
		{"POST", apiRoot + "/exec", forViewers, s.postExec},
		{"POST", apiRoot + "/query", forViewers, s.postQuery},
		{"POST", apiRoot + "/transaction", forViewers, s.postTransaction},
		{"GET", apiRoot + "/databases", forViewers, s.getDatabases},
		{"POST", apiRoot + "/databases", forWriters, s.postDatabases},
		{"DELETE", apiRoot + "/databases/{name}", forAdmins, s.deleteDatabase},
		{"GET", apiRoot + "/databases/{name}/schema", forViewers, s.getSchema},
		{"GET", apiRoot + "/commands", forViewers, s.getCommands},
		{"POST", apiRoot + "/commands", forOperators, s.postCommands},
		{"POST", apiRoot + "/commands/preview", forOperators, s.previewCommand},
		{"GET", apiRoot + "/commands/{id}", forViewers, s.getCommand},
		{"POST", apiRoot + "/commands/{id}/cancel", forOperators, s.cancelCommand},
		{"POST", apiRoot + "/commands/{id}/retry", forOperators, s.retryCommand},
		{"POST", apiRoot + "/files", forWriters, s.postFile},
		{"GET", apiRoot + "/files/{digest}", forOperators, s.getFile},
		{"GET", apiRoot + "/logs", forViewersOfAll, s.getLogs},
		{"GET", apiRoot + "/history", forViewers, s.getHistory},
		{"GET", apiRoot + "/openapi.json", forAnybody, s.getOpenAPI},
		{"GET", apiRoot + "/live", forViewers, s.live},
		{"GET", apiRoot + "/access/me", forUsers, s.getMe},
		{"POST", apiRoot + "/access/password", forUsers, s.postPassword},
		{"GET", apiRoot + "/access/users", forAdmins, s.getUsers},
		{"POST", apiRoot + "/access/users", forAdmins, s.postUsers},
		{"POST", apiRoot + "/access/users/{user}", forAdmins, s.changeUser},
		{"DELETE", apiRoot + "/access/users/{user}", forAdmins, s.removeUser},
		{"POST", apiRoot + "/access/users/{user}/reset", forAdmins, s.resetUser},
		{"GET", apiRoot + "/access/tokens", forViewers, s.getTokens},
		{"POST", apiRoot + "/access/tokens", forViewers, s.postTokens},
		{"DELETE", apiRoot + "/access/tokens/{id}", forViewers, s.endByID(subjects.TokenRevoke)},
		{"GET", apiRoot + "/access/sessions", forViewers, s.getSessions},
		{"DELETE", apiRoot + "/access/sessions/{id}", forViewers, s.endByID(subjects.SessionClose)},
		{"GET", apiRoot + "/access/invitations", forAdmins, s.getInvitations},
		{"POST", apiRoot + "/access/invitations", forAdmins, s.postInvitations},
		{"DELETE", apiRoot + "/access/invitations/{id}", forAdmins, s.endByID(subjects.InvitationRevoke)},
		{"GET", apiRoot + "/access/nodes", forAdmins, s.getNodeKeys},
		{"GET", apiRoot + "/access/audit", forAdmins, s.getAudit},
		{"POST", apiRoot + "/access/audit/verify", forAdmins, s.verifyAudit},
		{"DELETE", apiRoot + "/access/nodes/{id}", forAdmins, s.endByID(subjects.NodeRevoke)},
	}
}

// route fills the mux.
func (s *Server) route() error {
	for _, r := range s.routes() {
		s.mux.Handle(r.method+" "+r.path, s.forProgram(r.right, r.handle))
	}
	s.mux.Handle("/api/", handler(s.noSuchRoute))
	return s.pages()
}

// noSuchRoute answers what no route of the API takes, in the API's own words.
func (s *Server) noSuchRoute(w http.ResponseWriter, r *http.Request) error {
	var allowed []string
	for _, method := range []string{"GET", "POST", "DELETE"} {
		other := r.Clone(r.Context())
		other.Method = method
		if _, pattern := s.mux.Handler(other); pattern != "/api/" {
			allowed = append(allowed, method)
		}
	}
	if len(allowed) == 0 {
		return subjects.Errorf(subjects.CodeNotFound, "there is nothing at %s; %s/openapi.json tells what there is", clip(r.URL.Path), apiRoot)
	}
	if slices.Contains(allowed, "GET") {
		allowed = append(allowed, "HEAD")
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	return subjects.Errorf(codeMethod, "%s takes %s, not %s", clip(r.URL.Path), strings.Join(allowed, ", "), clip(r.Method))
}

// healthz says that the process lives, and whether users have to show who they are.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) error {
	return replyJSON(w, http.StatusOK, map[string]bool{"ok": true, "secured": s.o.Access != nil})
}
