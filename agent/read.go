package agent

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// Limits of reads.
const (
	// readPatience is the time limit of a read that names none.
	readPatience = 30 * time.Second
	// maxPatience is the longest time limit a request may ask for.
	maxPatience = 10 * time.Minute
	// cursorLife is how long an unfinished result waits to be gone on with.
	cursorLife = 30 * time.Second
	// maxCursors bounds unfinished results; each holds a read connection.
	maxCursors = 32
)

// reader answers read requests from a node's own copies, the same way on the
// master and on a slave.
type reader struct {
	store *exec.Store

	mu      sync.Mutex
	cursors map[string]*cursor
	closed  bool
}

// cursor is a result cut at a page, waiting for the client to ask for more.
type cursor struct {
	snap  *exec.Snapshot
	rows  *exec.Rows
	timer *time.Timer
	at    uint64
}

func newReader(store *exec.Store) *reader {
	return &reader{store: store, cursors: map[string]*cursor{}}
}

// statements are the statements of a request in one form.
func statements(r *subjects.Request) []subjects.Stmt {
	if len(r.Stmts) > 0 {
		return r.Stmts
	}
	return []subjects.Stmt{{SQL: r.SQL, Args: r.Args}}
}

// deadline is when a request must be answered.
func deadline(r *subjects.Request, patience time.Duration) time.Time {
	if r.TimeoutMS > 0 {
		patience = min(time.Duration(r.TimeoutMS)*time.Millisecond, maxPatience)
	}
	return time.Now().Add(patience)
}

// query executes the statements of a read on database db and returns the
// position it has seen. counters are what the session sees in
// last_insert_rowid() and its kin.
func (r *reader) query(ctx context.Context, db *exec.Database, stmts []subjects.Stmt, counters subjects.Counters, limit time.Time, out *subjects.Results) (uint64, error) {
	snap, err := db.Read(ctx, limit, counters)
	if err != nil {
		return 0, err
	}
	at := snap.Position().Number
	stop := context.AfterFunc(ctx, snap.Interrupt)
	rows, err := snap.ReadAll(stmts, out, exec.PageBytes)
	if !stop() {
		err = because(ctx, err)
	}
	if err != nil || rows == nil {
		if rows != nil {
			rows.Close()
		}
		snap.Close()
		return at, err
	}
	out.EndMore(rows.Types(), r.keep(&cursor{snap: snap, rows: rows, at: at}))
	return at, nil
}

// show executes SHOW TABLES, SHOW CHECKSUM, DESCRIBE and SHOW CREATE TABLE. The
// position is exactly that of what is shown: a checksum means nothing without it.
func (r *reader) show(ctx context.Context, db *exec.Database, cmd exec.Command, limit time.Time, out *subjects.Results) (uint64, error) {
	snap, err := db.Read(ctx, limit, subjects.Counters{})
	if err != nil {
		return 0, err
	}
	defer snap.Close()
	return snap.Position().Number, snap.Show(ctx, cmd, out)
}

// keep stores a cursor and returns its token, or "" when there are too many: the
// result is then cut for good.
func (r *reader) keep(c *cursor) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || len(r.cursors) >= maxCursors {
		c.close()
		return ""
	}
	token := randomID()
	r.cursors[token] = c
	c.timer = time.AfterFunc(cursorLife, func() {
		if c := r.take(token); c != nil {
			c.close()
		}
	})
	return token
}

func (r *reader) take(token string) *cursor {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.cursors[token]
	delete(r.cursors, token)
	return c
}

func (c *cursor) close() {
	c.rows.Close()
	c.snap.Close()
}

// more goes on with a result that was cut.
func (r *reader) more(ctx context.Context, token string, limit time.Time, out *subjects.Results) (uint64, error) {
	c := r.take(token)
	if c == nil {
		return 0, subjects.Errorf(subjects.CodeBadRequest, "no unfinished result of that token: it was read to its end, or waited longer than %v", cursorLife)
	}
	c.timer.Stop()
	c.snap.SetDeadline(limit)
	release := whenDone(ctx, c.snap.Interrupt)
	more, err := c.rows.Page(out, exec.PageBytes)
	release()
	if err != nil {
		c.close()
		return c.at, fmt.Errorf("go on reading: %w", because(ctx, err))
	}
	if more {
		out.EndMore(c.rows.Types(), r.keep(c))
		return c.at, nil
	}
	out.SetMS(float64(c.rows.Spent().Microseconds()) / 1000)
	out.End(c.rows.Types(), 0, 0)
	c.close()
	return c.at, nil
}

// close ends all cursors and keeps no more.
func (r *reader) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	for token, c := range r.cursors {
		c.timer.Stop()
		c.close()
		delete(r.cursors, token)
	}
}
