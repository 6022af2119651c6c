package dashboard

import (
	"context"
	"net/http"
	"time"

	"github.com/snapdb/snapdb/subjects"
)

// Patience with the doors for SQL, which have limits of their own: the answer of a
// request that ran into one must still arrive.
const (
	sqlPatience = time.Minute
	sqlMargin   = 5 * time.Second
)

// readRequest reads SQL in the words of the doors.
func readRequest(w http.ResponseWriter, r *http.Request) ([]byte, *subjects.Request, error) {
	body, err := readBody(w, r, subjects.MaxRequest)
	if err != nil {
		return nil, nil, err
	}
	req := new(subjects.Request)
	if err := subjects.DecodeRequest(body, req); err != nil {
		return nil, nil, subjects.Errorf(subjects.CodeBadRequest, "%v", err)
	}
	return body, req, nil
}

// askSQL sends a request to a door for SQL.
func (s *Server) askSQL(ctx context.Context, door string, body []byte, limitMS int64) (answer []byte, refused bool, err error) {
	patience := max(sqlPatience, time.Duration(limitMS)*time.Millisecond) + sqlMargin
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return s.request(ctx, door, nil, body)
}

// passSQL sends a request to a door for SQL and its answer back.
func (s *Server) passSQL(w http.ResponseWriter, r *http.Request, door string, body []byte, limitMS int64, success int) error {
	answer, refused, err := s.askSQL(r.Context(), door, body, limitMS)
	if err != nil {
		return err
	}
	if refused {
		success = statusOf(readRefusal(answer).Code)
	}
	reply(w, success, answer)
	return nil
}

// postExec executes SQL of any kind at the master.
func (s *Server) postExec(w http.ResponseWriter, r *http.Request) error {
	if p := readParameters(r); p.err != nil {
		return p.err
	}
	body, req, err := readRequest(w, r)
	if err != nil {
		return err
	}
	return s.passSQL(w, r, subjects.Exec, body, req.TimeoutMS, http.StatusOK)
}

// postTransaction executes a list of statements as one transaction.
func (s *Server) postTransaction(w http.ResponseWriter, r *http.Request) error {
	if p := readParameters(r); p.err != nil {
		return p.err
	}
	body, req, err := readRequest(w, r)
	switch {
	case err != nil:
		return err
	case len(req.Stmts) == 0:
		return subjects.Errorf(subjects.CodeBadRequest, `a transaction is a list of statements: {"db":"SnapDB","stmts":[{"sql":"INSERT INTO t VALUES (?)","args":[1]}]}`)
	case req.Session != "":
		return subjects.Errorf(subjects.CodeBadRequest, `this is a transaction of its own: "session" belongs to %s/exec`, apiRoot)
	}
	return s.passSQL(w, r, subjects.Exec, body, req.TimeoutMS, http.StatusOK)
}

// queryDoor is where a node is read by a visitor. Nodes do not know users: one who is
// limited to some databases is read to by the master only.
func queryDoor(v *visitor, node string) (string, error) {
	if node == "" || node == subjects.MasterID {
		return subjects.Query, nil
	}
	if refused := v.may(forViewersOfAll); refused != nil {
		return "", refused
	}
	return subjects.NodeQuery(node), nil
}

// postQuery reads at the master or at a node, and sends rows as they come.
func (s *Server) postQuery(w http.ResponseWriter, r *http.Request) error {
	p := readParameters(r, "node", "max_rows")
	node, most := p.node("node"), p.number("max_rows", 1, 1<<32, 0)
	if p.err != nil {
		return p.err
	}
	body, req, err := readRequest(w, r)
	if err != nil {
		return err
	}
	door, err := queryDoor(visitorOf(r.Context()), node)
	if err != nil {
		return err
	}
	answer, refused, err := s.askSQL(r.Context(), door, body, req.TimeoutMS)
	if err != nil {
		return err
	}
	if refused {
		reply(w, statusOf(readRefusal(answer).Code), answer)
		return nil
	}
	next := func(more string) ([]byte, error) {
		body := subjects.AppendRequest(nil, &subjects.Request{DB: req.DB, Session: req.Session, TimeoutMS: req.TimeoutMS, More: more})
		answer, refused, err := s.askSQL(r.Context(), door, body, req.TimeoutMS)
		if err == nil && refused {
			err = readRefusal(answer)
		}
		return answer, err
	}
	return streamRows(w, r, answer, most, next)
}
