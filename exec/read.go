package exec

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/snapdb/snapdb/exec/engine"
	"github.com/snapdb/snapdb/subjects"
)

// PageBytes is the size from which on the rows of an answer are cut and the rest
// is fetched with a token.
const PageBytes = 1 << 20

// Snapshot is a read transaction: every statement sees the same state, however
// long it lives. It holds one read connection until Close and is used by one
// goroutine at a time.
type Snapshot struct {
	d *Database
	c *reader

	rest func() // called now and then by a checksum

	life   sync.Mutex // guards closed, for Interrupt
	closed bool       // the connection may be somebody else's
}

// ErrWrites: a statement that changes something was given to a Snapshot.
var ErrWrites = subjects.Errorf(subjects.CodeReadOnly, "this statement writes, and this door is for reading")

// Read opens a snapshot of the newest committed state for one request whose end
// is deadline (zero: none).
func (d *Database) Read(ctx context.Context, deadline time.Time, counters subjects.Counters) (*Snapshot, error) {
	c, err := d.readers.get(ctx, deadline)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", d.name, err)
	}
	if err := c.renew(d.Applied()); err != nil {
		d.readers.put(c, Position{})
		return nil, fmt.Errorf("read %s: %w", d.name, err)
	}
	c.SetDeadline(deadline)
	c.SetCounters(counters.RowID, counters.Changes, counters.Total)
	return &Snapshot{d: d, c: c}, nil
}

// ReadersWanted says whether a read waits because all read connections are in use.
func (d *Database) ReadersWanted() bool { return d.readers.wanted() }

// Position is the position this snapshot shows.
func (s *Snapshot) Position() Position { return s.c.at }

// SetDeadline limits the statements from now on.
func (s *Snapshot) SetDeadline(t time.Time) {
	s.c.BeginRequest()
	s.c.SetDeadline(t)
}

// Interrupt stops the running statement; any goroutine may call it, also after
// Close.
func (s *Snapshot) Interrupt() {
	s.life.Lock()
	defer s.life.Unlock()
	if !s.closed {
		s.c.Interrupt()
	}
}

// Yield says that nobody waits for what is read from now on: a database that is closed
// meanwhile interrupts it at once.
func (s *Snapshot) Yield() { s.d.readers.yield(s.c) }

// Park lets go of the snapshot until Resume, for a client that may come back or
// not. A database that is closed meanwhile does not wait for it.
func (s *Snapshot) Park() { s.d.readers.park(s) }

// Resume takes a parked snapshot up again. The error wraps [ErrClosed] if its
// database was closed; there is nothing left to close then.
func (s *Snapshot) Resume() error {
	if !s.d.readers.resume(s) {
		return fmt.Errorf("database %s: %w", s.d.name, ErrClosed)
	}
	return nil
}

// Close ends the snapshot, parked or not.
func (s *Snapshot) Close() {
	if s.end() {
		s.c.SetDeadline(time.Time{})
		s.d.readers.put(s.c, s.d.Applied())
	}
}

// end gives up the connection; false if that was done before.
func (s *Snapshot) end() bool {
	s.life.Lock()
	defer s.life.Unlock()
	ended := s.closed
	s.closed = true
	return !ended
}

// Next prepares the statement of sql at offset off. A nil statement means that
// nothing but comments was left. One that writes gives [ErrWrites].
func (s *Snapshot) Next(sql string, off int) (*engine.Stmt, int, error) {
	st, n, err := s.c.Prepare(sql, off, engine.GuardRead)
	if err != nil || st == nil {
		return nil, n, err
	}
	if st.Op() != engine.OpRead {
		st.Close()
		return nil, n, ErrWrites
	}
	return st, n, nil
}

// Rows is a statement being read page by page.
type Rows struct {
	s     *Snapshot
	st    *engine.Stmt
	ahead bool // a row is stepped to and not yet taken
	spent time.Duration
}

// Open starts to read a statement that Next prepared, and owns it.
func (s *Snapshot) Open(st *engine.Stmt, args []subjects.Value) (*Rows, error) {
	if err := st.Bind(args); err != nil {
		st.Close()
		return nil, err
	}
	s.c.Seed(rand.Uint64(), 0)
	return &Rows{s: s, st: st}, nil
}

// Page appends one result to out, ended unless more is true: then at least
// limit bytes of rows are in it, the caller ends it with the token under which
// it will go on, and calls Page again for the rest.
func (r *Rows) Page(out *subjects.Results, limit int) (more bool, err error) {
	start := time.Now()
	defer func() { r.spent += time.Since(start) }()
	row := r.ahead
	if !row {
		if row, err = r.st.Step(); err != nil {
			return false, err
		}
	}
	mark := out.Begin(r.st.Columns())
	limit += out.Len()
	for row && out.Len() < limit {
		out.Row()
		for i := range r.st.ColumnCount() {
			v := r.st.Column(i)
			if size := out.Len() + len(v.Bytes()); size > subjects.MaxRequest {
				out.Rewind(mark)
				return false, tooLarge(size)
			}
			out.Value(v)
		}
		if row, err = r.st.Step(); err != nil {
			out.Rewind(mark)
			return false, err
		}
	}
	r.ahead = row
	return row, nil
}

// tooLarge is the error for results that no answer has room for.
func tooLarge(size int) *subjects.Error {
	return subjects.Errorf(subjects.CodeTooBig, "the results have %.1f MB or more, an answer %d MB at most: ask for fewer columns or statements at a time, and for parts of large values (substr)", float64(size)/(1<<20), subjects.MaxRequest>>20)
}

// Types are the declared types of the columns, "" where an expression has none.
func (r *Rows) Types() []string { return r.st.DeclTypes() }

// Spent is the time all pages took.
func (r *Rows) Spent() time.Duration { return r.spent }

// Close gives the statement back.
func (r *Rows) Close() { r.st.Close() }
