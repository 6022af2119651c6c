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
	// maxPatience is the longest time limit a write may ask for.
	maxPatience = 10 * time.Minute
	// cursorLife is how long an unfinished result waits to be gone on with.
	cursorLife = 30 * time.Second
)

// reader answers read requests from a node's own copies, the same way on the
// master and on a slave.
type reader struct {
	store  *exec.Store
	limits Reads
	shares *shares // of read connections

	mu      sync.Mutex
	cursors map[string]*cursor
	closed  bool
}

// cursor is a result cut at a page, waiting for the client to ask for more.
type cursor struct {
	db    *exec.Database
	who   string // whose it is; "": nobody knows
	snap  *exec.Snapshot
	rows  *exec.Rows
	timer *time.Timer
	left  time.Time // when it was last read from
	at    uint64
}

func newReader(store *exec.Store, limits Reads) *reader {
	return &reader{store: store, limits: limits, shares: newShares(limits.Connections / 2), cursors: map[string]*cursor{}}
}

// deadline is when a read must be answered.
func (r *reader) deadline(req *subjects.Request) time.Time {
	limit := r.limits.Time
	if req.TimeoutMS > 0 {
		limit = min(time.Duration(req.TimeoutMS)*time.Millisecond, r.limits.Longest)
	}
	return time.Now().Add(limit)
}

// snapshot opens a snapshot for a user; whoever closes it gives it back to his share.
func (r *reader) snapshot(ctx context.Context, who string, db *exec.Database, limit time.Time, counters subjects.Counters) (*exec.Snapshot, error) {
	if err := r.shares.take(ctx, who, limit); err != nil {
		return nil, err
	}
	snap, err := db.Read(ctx, limit, counters)
	if err != nil {
		r.shares.give(who)
	}
	return snap, err
}

// statements are the statements of a request in one form.
func statements(r *subjects.Request) []subjects.Stmt {
	if len(r.Stmts) > 0 {
		return r.Stmts
	}
	return []subjects.Stmt{{SQL: r.SQL, Args: r.Args}}
}

// deadline is when a write must be answered.
func deadline(r *subjects.Request, patience time.Duration) time.Time {
	if r.TimeoutMS > 0 {
		patience = min(time.Duration(r.TimeoutMS)*time.Millisecond, maxPatience)
	}
	return time.Now().Add(patience)
}

// query executes the statements of a user's read on database db and returns the
// position it has seen. counters are what the session sees in
// last_insert_rowid() and its kin.
func (r *reader) query(ctx context.Context, who string, db *exec.Database, stmts []subjects.Stmt, counters subjects.Counters, limit time.Time, out *subjects.Results) (uint64, error) {
	snap, err := r.snapshot(ctx, who, db, limit, counters)
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
		r.shares.give(who)
		return at, err
	}
	out.EndMore(rows.Types(), r.keep(&cursor{db: db, who: who, snap: snap, rows: rows, at: at}))
	return at, nil
}

// show executes SHOW TABLES, SHOW CHECKSUM, DESCRIBE and SHOW CREATE TABLE. The
// position is exactly that of what is shown: a checksum means nothing without it.
func (r *reader) show(ctx context.Context, who string, db *exec.Database, cmd exec.Command, limit time.Time, out *subjects.Results) (uint64, error) {
	snap, err := r.snapshot(ctx, who, db, limit, subjects.Counters{})
	if err != nil {
		return 0, err
	}
	defer r.shares.give(who)
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
		r.giveUp(c)
		return ""
	}
	r.makeRoom(c)
	token, who := randomID(), c.who
	r.cursors[token] = c
	c.timer = time.AfterFunc(cursorLife, func() {
		if c := r.take(who, token); c != nil {
			r.giveUp(c)
		}
	})
	return token
}

// makeRoom gives up the result that was left alone longest, of the same user if he has
// as many as he may, and of the same database if that has. Each holds a read connection,
// of which a quarter is left for others. r.mu is held.
func (r *reader) makeRoom(c *cursor) {
	if c.who != "" {
		r.bound(max(1, r.shares.most*3/4), func(o *cursor) bool { return o.who == c.who })
	}
	r.bound(max(1, r.limits.Connections*3/4), func(o *cursor) bool { return o.db == c.db })
}

// bound gives up the oldest of the results that match, if there are as many as most.
func (r *reader) bound(most int, match func(*cursor) bool) {
	n, oldest := 0, ""
	for token, c := range r.cursors {
		if !match(c) {
			continue
		}
		n++
		if oldest == "" || c.left.Before(r.cursors[oldest].left) {
			oldest = token
		}
	}
	if n >= most {
		c := r.cursors[oldest]
		delete(r.cursors, oldest)
		c.timer.Stop()
		r.giveUp(c)
	}
}

func (r *reader) take(who, token string) *cursor {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.cursors[token]
	if c == nil || c.who != who {
		return nil
	}
	delete(r.cursors, token)
	return c
}

// of is the database that a cut result is from, "" if there is no such result.
func (r *reader) of(token string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.cursors[token]; c != nil {
		return c.db.Name()
	}
	return ""
}

// giveUp gives up a cursor that was kept. Its statement may only be touched while
// nobody can take the snapshot away.
func (r *reader) giveUp(c *cursor) {
	if err := c.snap.Resume(); err != nil {
		r.shares.give(c.who)
		return // the database is closed, and everything with it
	}
	r.end(c)
}

// end gives up a cursor that is being read.
func (r *reader) end(c *cursor) {
	c.rows.Close()
	c.snap.Close()
	r.shares.give(c.who)
}

// more goes on with a result that was cut, for whom it was begun.
func (r *reader) more(ctx context.Context, who, token string, limit time.Time, out *subjects.Results) (uint64, error) {
	c := r.take(who, token)
	if c == nil {
		return 0, subjects.Errorf(subjects.CodeBadRequest, "no unfinished result of that token: it was read to its end, was left alone longer than %v, or gave way to newer ones", cursorLife)
	}
	c.timer.Stop()
	if err := c.snap.Resume(); err != nil {
		r.shares.give(c.who)
		return 0, fmt.Errorf("go on reading: %w", err)
	}
	c.snap.SetDeadline(limit)
	release := whenDone(ctx, c.snap.Interrupt)
	more, err := c.rows.Page(out, exec.PageBytes)
	release()
	if err != nil {
		r.end(c)
		return c.at, fmt.Errorf("go on reading: %w", because(ctx, err))
	}
	if more {
		out.EndMore(c.rows.Types(), r.keep(c))
		return c.at, nil
	}
	out.SetMS(float64(c.rows.Spent().Microseconds()) / 1000)
	out.End(c.rows.Types(), 0, 0)
	r.end(c)
	return c.at, nil
}

// close ends all cursors and keeps no more.
func (r *reader) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	for token, c := range r.cursors {
		c.timer.Stop()
		r.giveUp(c)
		delete(r.cursors, token)
	}
}
