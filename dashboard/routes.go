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
	handle       handler
}

// routes are all but the pages. Paths under apiRoot are the API; each is described
// in openapi.json, which a test makes sure of.
func (s *Server) routes() []route {
	return []route{
		{"GET", "/healthz", s.healthz},
		{"GET", "/readyz", s.readyz},
		{"GET", "/metrics", s.metricsHandler()},
		{"GET", apiRoot + "/status", s.getStatus},
		{"GET", apiRoot + "/nodes", s.getNodes},
		{"GET", apiRoot + "/nodes/{id}", s.getNode},
		{"POST", apiRoot + "/exec", s.postExec},
		{"POST", apiRoot + "/query", s.postQuery},
		{"POST", apiRoot + "/transaction", s.postTransaction},
		{"GET", apiRoot + "/databases", s.getDatabases},
		{"POST", apiRoot + "/databases", s.postDatabases},
		{"DELETE", apiRoot + "/databases/{name}", s.deleteDatabase},
		{"GET", apiRoot + "/databases/{name}/schema", s.getSchema},
		{"GET", apiRoot + "/commands", s.getCommands},
		{"POST", apiRoot + "/commands", s.postCommands},
		{"POST", apiRoot + "/commands/preview", s.previewCommand},
		{"GET", apiRoot + "/commands/{id}", s.getCommand},
		{"POST", apiRoot + "/commands/{id}/cancel", s.cancelCommand},
		{"POST", apiRoot + "/commands/{id}/retry", s.retryCommand},
		{"POST", apiRoot + "/files", s.postFile},
		{"GET", apiRoot + "/files/{digest}", s.getFile},
		{"GET", apiRoot + "/logs", s.getLogs},
		{"GET", apiRoot + "/history", s.getHistory},
		{"GET", apiRoot + "/openapi.json", s.getOpenAPI},
		{"GET", apiRoot + "/live", s.live},
	}
}

// route fills the mux.
func (s *Server) route() error {
	for _, r := range s.routes() {
		s.mux.Handle(r.method+" "+r.path, r.handle)
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

// healthz says that the process lives.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) error {
	reply(w, http.StatusOK, []byte(`{"ok":true}`))
	return nil
}
