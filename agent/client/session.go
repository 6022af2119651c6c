package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"

	"github.com/snapdb/snapdb/subjects"
)

// Session is a conversation with one door: it remembers the database chosen by
// USE and whether a transaction is open. Its requests must follow one another;
// Cancel may be called at any time.
type Session struct {
	c *Client

	mu   sync.Mutex
	id   string
	door string
	db   string
	tx   bool
}

// NewSession begins a session at the master's door for any SQL. db is its first
// database, "" for none.
func (c *Client) NewSession(db string) *Session {
	return &Session{c: c, id: rand.Text(), door: subjects.Exec, db: db}
}

// ID is the name of the session, random.
func (s *Session) ID() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.id
}

// DB is the current database, "" for none.
func (s *Session) DB() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.db
}

// InTx says whether a transaction is open.
func (s *Session) InTx() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tx
}

// Use sets the current database without asking the server.
func (s *Session) Use(db string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.db = db
}

// SetNode turns to the copy of node id, or back to the master with "". It is
// refused inside a transaction.
func (s *Session) SetNode(id string) error {
	if id != "" {
		if err := subjects.CheckNodeID(id); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tx {
		return errors.New("a transaction is open: COMMIT or ROLLBACK first")
	}
	if s.door = subjects.Exec; id != "" {
		s.door = subjects.NodeQuery(id)
	}
	return nil
}

// Renew leaves a session whose last request was not answered, and may still be
// running: its name is given up for a new one. The database stays; a transaction
// that was open will be rolled back by the server when it has been idle too long.
func (s *Session) Renew() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.id, s.tx = rand.Text(), false
}

// Do sends a request in the session, which may change database and transaction.
func (s *Session) Do(ctx context.Context, r *subjects.Request) (*subjects.Response, error) {
	door := s.fill(r)
	resp, err := s.c.Do(ctx, door, r)
	s.mu.Lock()
	defer s.mu.Unlock()
	if resp != nil && resp.Session != nil {
		s.db, s.tx = resp.Session.DB, resp.Session.Tx
	}
	return resp, err
}

// Pages yields result r of the session's last answer and whatever follows it;
// see [Client.Pages].
func (s *Session) Pages(ctx context.Context, limitMS int64, r *subjects.Result, yield func(*subjects.Result) error) error {
	req := &subjects.Request{TimeoutMS: limitMS}
	return s.c.Pages(ctx, s.fill(req), req, r, yield)
}

func (s *Session) fill(r *subjects.Request) (door string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.Session, r.Tx = s.id, s.tx
	if r.DB == "" {
		r.DB = s.db
	}
	return s.door
}

// Cancel asks the server to stop what the session is executing. It does not wait.
func (s *Session) Cancel() error {
	if err := s.c.nc.Publish(subjects.Cancel, []byte(s.ID())); err != nil {
		return fmt.Errorf("ask to cancel: %w", err)
	}
	return nil
}

// Close rolls back an open transaction, and says whether there was one.
func (s *Session) Close(ctx context.Context) (rolledBack bool, err error) {
	if !s.InTx() {
		return false, nil
	}
	if _, err := s.Do(ctx, &subjects.Request{SQL: "ROLLBACK"}); err != nil {
		return false, fmt.Errorf("roll back: %w", err)
	}
	return true, nil
}
