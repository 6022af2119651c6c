package agent

import (
	"encoding/json"
	"fmt"

	"github.com/snapdb/snapdb/agent/lend"
	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// lendCopy answers a request for a copy of a database, which borrow finds, with why it
// may be wrong.
func lendCopy(shelf *lend.Shelf, who *caller, data []byte, answer reply, borrow func(db string) (d *exec.Database, doubt string, err error)) {
	req := new(subjects.CopyRequest)
	if err := subjects.DecodeStrict(data, req); err != nil {
		respondError(answer, subjects.Errorf(subjects.CodeBadRequest, "%v", err))
		return
	}
	req.ID = who.scope(req.ID)
	chunk, err := lendPart(shelf, req, borrow)
	if err != nil {
		respondError(answer, exec.WireError(err))
		return
	}
	answer(chunk, nil)
}

func lendPart(shelf *lend.Shelf, req *subjects.CopyRequest, borrow func(db string) (*exec.Database, string, error)) ([]byte, error) {
	switch {
	case req.Close:
		shelf.Return(req.ID)
		return json.Marshal(subjects.CopyResponse{})
	case req.Read:
		return shelf.ReadAt(req.ID, req.Offset)
	case !shelf.Known(req.ID):
		d, doubt, err := borrow(req.DB)
		if err == nil {
			err = shelf.Lend(req.ID, d, doubt)
		}
		if err != nil {
			return nil, err
		}
	}
	state, err := shelf.State(req.ID)
	if err != nil {
		return nil, err
	}
	return json.Marshal(state)
}

// answerCopy lends copies of the master's databases.
func (m *Master) answerCopy(r *demand, answer reply) {
	lendCopy(m.shelf, r.who, r.data, answer, func(db string) (*exec.Database, string, error) {
		if err := r.who.uses(db); err != nil {
			return nil, "", err
		}
		d, err := m.store.Database(db)
		if err != nil {
			return nil, "", err
		}
		w, failed := m.writer(d.Name())
		switch {
		case failed != nil:
			return nil, "", failed
		case w.reason() != nil:
			return d, fmt.Sprintf("it takes no writes: %v", w.reason()), nil
		}
		return d, "", nil
	})
}

// answerCopy lends copies of this node's databases.
func (s *Slave) answerCopy(data []byte, answer reply) {
	taken := s.crew.do(func() {
		lendCopy(s.shelf, &caller{open: true}, data, answer, func(db string) (*exec.Database, string, error) {
			d, err := s.store.Database(db)
			if err != nil {
				return nil, "", err
			}
			l := s.lane(d)
			if missing := l.filling(); missing != "" {
				return nil, "", subjects.Errorf(subjects.CodeUnavailable, "database %s is not on node %s yet: %s", d.Name(), s.id, missing)
			}
			if state, reason := l.condition(); state != "" {
				return d, fmt.Sprintf("it is %s: %s", state, reason), nil
			}
			return d, "", nil
		})
	})
	if !taken {
		respondError(answer, subjects.Errorf(subjects.CodeBusy, "node %s is stopping, or answers %d queries already: try again", s.id, maxQueries))
	}
}
