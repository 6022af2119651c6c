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
	// maxCursors bounds the unfinished results of one database: each holds one of
	// its read connections, and some must be left for others. Beyond it the one
	// that was left alone longest is given up.
	maxCursors = 12
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
	db    *exec.Database
	snap  *exec.Snapshot
	rows  *exec.Rows
	timer *time.Timer
	left  time.Time // when it was last read from
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
	out.EndMore(rows.Types(), r.keep(&cursor{db: db, snap: snap, rows: rows, at: at}))
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

// keep stores a cursor and returns its token.
func (r *reader) keep(c *cursor) string {
	c.snap.Park()
	c.left = time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		c.close()
		return ""
	}
	r.makeRoom(c.db)
	token := randomID()
	r.cursors[token] = c
	c.timer = time.AfterFunc(cursorLife, func() {
		if c := r.take(token); c != nil {
			c.close()
		}
	})
	return token
}

// makeRoom gives up the result of a database that was left alone longest, if it
// has as many as it may. r.mu is held.
func (r *reader) makeRoom(db *exec.Database) {
	n, oldest := 0, ""
	for token, c := range r.cursors {
		if c.db != db {
			continue
		}
		n++
		if oldest == "" || c.left.Before(r.cursors[oldest].left) {
			oldest = token
		}
	}
	if n >= maxCursors {
		c := r.cursors[oldest]
		delete(r.cursors, oldest)
		c.timer.Stop()
		c.close()
	}
}

func (r *reader) take(token string) *cursor {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.cursors[token]
	delete(r.cursors, token)
	return c
}

// close gives up a cursor that was kept. Its statement may only be touched while
// nobody can take the snapshot away.
func (c *cursor) close() {
	if err := c.snap.Resume(); err != nil {
		return // the database is closed, and everything with it
	}
	c.end()
}

// end gives up a cursor that is being read.
func (c *cursor) end() {
	c.rows.Close()
	c.snap.Close()
}

// more goes on with a result that was cut.
func (r *reader) more(ctx context.Context, token string, limit time.Time, out *subjects.Results) (uint64, error) {
	c := r.take(token)
	if c == nil {
		return 0, subjects.Errorf(subjects.CodeBadRequest, "no unfinished result of that token: it was read to its end, was left alone longer than %v, or gave way to newer ones", cursorLife)
	}
	c.timer.Stop()
	if err := c.snap.Resume(); err != nil {
		return 0, fmt.Errorf("go on reading: %w", err)
	}
	c.snap.SetDeadline(limit)
	release := whenDone(ctx, c.snap.Interrupt)
	more, err := c.rows.Page(out, exec.PageBytes)
	release()
	if err != nil {
		c.end()
		return c.at, fmt.Errorf("go on reading: %w", because(ctx, err))
	}
	if more {
		out.EndMore(c.rows.Types(), r.keep(c))
		return c.at, nil
	}
	out.SetMS(float64(c.rows.Spent().Microseconds()) / 1000)
	out.End(c.rows.Types(), 0, 0)
	c.end()
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
