package dashboard

import (
	_ "embed"
	"net/http"
)

// openapi describes the API.
//
//go:embed openapi.json
var openapi []byte

// getOpenAPI describes the API for programs.
func (s *Server) getOpenAPI(w http.ResponseWriter, _ *http.Request) error {
	reply(w, http.StatusOK, openapi)
	return nil
}
