package dashboard

import (
	"encoding/json"
	"net/http"

	"github.com/snapdb/snapdb/subjects"
)

// byHTTP is who gave a command, if the client does not say.
const byHTTP = "http"

// passCommand sends a request about commands on and its answer back.
func (s *Server) passCommand(w http.ResponseWriter, r *http.Request, subject string, request any, success int) error {
	data, err := json.Marshal(request)
	if err != nil {
		return subjects.Errorf(subjects.CodeInternal, "encode a request to %s: %v", subject, err)
	}
	answer, err := s.askRaw(r.Context(), subject, data)
	if err != nil {
		return err
	}
	reply(w, success, answer)
	return nil
}

// getCommands lists the newest commands.
func (s *Server) getCommands(w http.ResponseWriter, r *http.Request) error {
	p := readParameters(r, "node", "limit")
	q := subjects.CommandQuery{Node: p.node("node"), Limit: int(p.number("limit", 1, 1000, 100))}
	if p.err != nil {
		return p.err
	}
	return s.passCommand(w, r, subjects.CommandList, &q, http.StatusOK)
}

// getCommand shows one command, with what nodes said.
func (s *Server) getCommand(w http.ResponseWriter, r *http.Request) error {
	if p := readParameters(r); p.err != nil {
		return p.err
	}
	return s.passCommand(w, r, subjects.CommandList, &subjects.CommandQuery{ID: r.PathValue("id")}, http.StatusOK)
}

// postCommands gives a command to nodes.
func (s *Server) postCommands(w http.ResponseWriter, r *http.Request) error {
	return s.command(w, r, subjects.CommandSend, http.StatusCreated)
}

// previewCommand says whom a command would reach.
func (s *Server) previewCommand(w http.ResponseWriter, r *http.Request) error {
	return s.command(w, r, subjects.CommandPreview, http.StatusOK)
}

func (s *Server) command(w http.ResponseWriter, r *http.Request, subject string, success int) error {
	if p := readParameters(r); p.err != nil {
		return p.err
	}
	var q subjects.CommandRequest
	if err := readJSON(w, r, &q); err != nil {
		return err
	}
	if q.By == "" {
		q.By = byHTTP
	}
	return s.passCommand(w, r, subject, &q, success)
}

// cancelCommand withdraws a command.
func (s *Server) cancelCommand(w http.ResponseWriter, r *http.Request) error {
	return s.change(w, r, subjects.CommandCancel, http.StatusOK)
}

// retryCommand gives a command again to those who have not done it.
func (s *Server) retryCommand(w http.ResponseWriter, r *http.Request) error {
	return s.change(w, r, subjects.CommandRetry, http.StatusCreated)
}

// change asks for something about one command. The body is optional.
func (s *Server) change(w http.ResponseWriter, r *http.Request, subject string, success int) error {
	if p := readParameters(r); p.err != nil {
		return p.err
	}
	var only struct {
		Nodes []string `json:"nodes"`
		By    string   `json:"by"`
	}
	if r.ContentLength != 0 {
		if err := readJSON(w, r, &only); err != nil {
			return err
		}
	}
	if only.By == "" {
		only.By = byHTTP
	}
	return s.passCommand(w, r, subject, &subjects.CommandQuery{ID: r.PathValue("id"), Nodes: only.Nodes, By: only.By}, success)
}
