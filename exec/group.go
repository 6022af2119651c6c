package exec

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/snapdb/snapdb/exec/engine"
	"github.com/snapdb/snapdb/subjects"
)

// Limits of one group.
const (
	// GroupBytes is the size of a body from which on a group is full.
	GroupBytes = 512 << 10
	// GroupTransactions is how many transactions fill a group.
	GroupTransactions = 1024
)

// Spill is a place on disk for a body that is too large for a message. It is
// written once, then committed, which makes it durable and names it by its
// digest, and kept once the log has the message that names it; or aborted, before
// or after it was committed. [Options.Spill] makes them.
type Spill interface {
	io.Writer
	Commit() (subjects.BlobRef, error)
	Keep()
	Abort()
}

// Group is a set of transactions that are logged as one message and committed
// as one SQLite transaction: one fsync for all of them. Open it, run
// transactions, Seal it, publish what Seal returns, and Commit it at the
// position where it was stored; or Roll it back, which leaves nothing.
//
// A Group holds the database's writer from [Database.Begin] to Commit or
// Rollback and is used by one goroutine.
type Group struct {
	d       *Database
	state   connState
	body    []byte // BeginBody and the accepted transactions
	n       int    // accepted transactions
	large   Spill  // holds all of them instead of body, if one was large
	ids     bool   // one of them has a repeat-safe id
	touched bool   // one of them touched planner statistics
	verify  subjects.VerifyMode
	ended   bool
}

// Begin opens a group. It fails with [ErrForeignWrite] if somebody else has
// written to the file since the last group.
func (d *Database) Begin() (*Group, error) {
	d.writing.Lock()
	if err := d.begin(); err != nil {
		d.writing.Unlock()
		return nil, err
	}
	return &Group{d: d, body: subjects.BeginBody(d.buf[:0], d.name, d.engine)}, nil
}

// Len is the number of transactions accepted so far.
func (g *Group) Len() int { return g.n }

// Verify makes the group, which must have no transactions and gets none, one that asks
// all nodes to compare what they hold.
func (g *Group) Verify(how subjects.VerifyMode) { g.verify = how }

// Full says whether the group should take no further transaction.
func (g *Group) Full() bool {
	return g.large != nil || g.n >= GroupTransactions || len(g.body) >= GroupBytes
}

// Tx is one transaction being executed within a group.
type Tx struct {
	g    *Group
	x    execution
	head subjects.Txn // without statements
	// stmts are the logged statements, until their size (bytes) exceeds what
	// fits a message; from then on they go to spill by way of w.
	stmts []subjects.LogStmt
	size  int
	spill Spill
	w     *subjects.TxnWriter
	done  bool
	ended bool // an interactive transaction that cannot go on
}

// Open starts a transaction. Now, Seed, Counters, ID, Request and Interactive of
// head are used; head.Stmts is not.
func (g *Group) Open(head subjects.Txn) (*Tx, error) {
	t := &Tx{g: g, head: head}
	t.head.Stmts, t.head.Sum = nil, 0
	if err := t.x.start(g.d.w, &g.state, &t.head); err != nil {
		return nil, err
	}
	return t, nil
}

// Done looks for a transaction of this or an earlier group that carried the
// same repeat-safe id and is remembered. Its results are appended to out. A
// position of 0 means it is in this very group. The error is a [subjects.Error] if
// the id was of another request.
func (t *Tx) Done(out *subjects.Results) (position uint64, found bool, err error) {
	if t.head.ID == "" {
		return 0, false, nil
	}
	return t.g.d.lookupRequest(&t.head, out)
}

// Counters are what the session sees in last_insert_rowid(), changes() and
// total_changes() after the last statement.
func (t *Tx) Counters() subjects.Counters { return t.x.counters }

// Logged is the number of statements that will be logged: none, if all of them
// only read.
func (t *Tx) Logged() int {
	if !t.x.wrote {
		return 0
	}
	return t.x.logged
}

// Run executes one prepared statement: a read, a write, or a savepoint command.
// The result is appended to out. A statement of an interactive transaction that
// fails leaves nothing behind and the transaction goes on, unless Lost says
// otherwise; after a failure in any other transaction, Abort it.
func (t *Tx) Run(st *engine.Stmt, args []subjects.Value, out *subjects.Results) error {
	// The answer that a repeat-safe id gives must be the same on every node, and
	// after the log is replayed: its reads are logged too.
	if st.Op() == engine.OpRead && t.head.ID == "" {
		return t.x.read(st, args, out)
	}
	err := t.x.write(st, &t.g.state, args, out)
	var failed failure
	if err != nil && !errors.As(err, &failed) {
		return err
	}
	ls := subjects.LogStmt{Stmt: subjects.Stmt{SQL: st.SQL(), Args: args}}
	if err != nil {
		ls.Fails = err.Error()
	}
	if lerr := t.log(&ls); lerr != nil {
		return lerr
	}
	return err
}

// Lost says whether SQLite has rolled back everything (OR ROLLBACK,
// RAISE(ROLLBACK), an interrupted write).
func (t *Tx) Lost() bool { return t.g.d.w.Autocommit() }

// log remembers a statement, on disk once the transaction has become large.
func (t *Tx) log(ls *subjects.LogStmt) error {
	if t.w != nil {
		return t.w.Stmt(ls)
	}
	t.stmts = append(t.stmts, *ls)
	t.size += len(ls.SQL) + 32
	for _, a := range ls.Args {
		t.size += len(a.Bytes()) + 16
	}
	if t.size <= subjects.MaxInline {
		return nil
	}
	return t.startSpill()
}

// startSpill moves the group's transactions, and what is logged of this one, to
// disk. The group keeps its own until this one is accepted.
func (t *Tx) startSpill() error {
	sp, err := t.g.d.store.opts.Spill()
	if err != nil {
		return fmt.Errorf("open blob: %w", err)
	}
	t.spill, t.w = sp, subjects.NewTxnWriter(sp)
	if t.g.n > 0 {
		var b subjects.Body
		if err := subjects.DecodeBody(subjects.EndBody(bytes.Clone(t.g.body)), &b); err != nil {
			return fmt.Errorf("read own group: %w", err)
		}
		for i := range b.Txns {
			if err := writeTxn(t.w, &b.Txns[i]); err != nil {
				return err
			}
		}
	}
	t.w.Begin(&t.head)
	for i := range t.stmts {
		if err := t.w.Stmt(&t.stmts[i]); err != nil {
			return fmt.Errorf("large transaction: %w", err)
		}
	}
	t.stmts = nil
	return nil
}

func writeTxn(w *subjects.TxnWriter, t *subjects.Txn) error {
	w.Begin(t)
	for i := range t.Stmts {
		if err := w.Stmt(&t.Stmts[i]); err != nil {
			return fmt.Errorf("large transaction: %w", err)
		}
	}
	return w.End(t.Sum)
}

// Accept closes the transaction and makes it part of the group. results are
// what its repeat-safe id will answer. A transaction that logged nothing is
// closed and forgotten. After an error the caller must Abort.
func (t *Tx) Accept(results []byte) error {
	g := t.g
	g.d.w.EndRequest()
	if t.x.wrote && t.head.ID != "" {
		if err := g.d.saveRequest(&t.head, results); err != nil {
			return fmt.Errorf("remember request id: %w", err)
		}
	}
	if t.w != nil && t.x.wrote {
		// Before the transaction becomes part of the group: a full disk shows here.
		if err := t.w.End(t.x.sum); err != nil {
			return fmt.Errorf("large transaction: %w", err)
		}
	}
	if err := t.x.finish(); err != nil {
		return err
	}
	t.done = true
	if !t.x.wrote {
		if t.spill != nil {
			t.spill.Abort()
		}
		return nil
	}
	g.ids = g.ids || t.head.ID != ""
	g.touched = g.touched || t.x.analyzed
	if t.w != nil {
		g.large = t.spill
	} else {
		if g.n > 0 {
			g.body = append(g.body, ',')
		}
		t.head.Stmts, t.head.Sum = t.stmts, t.x.sum
		g.body = subjects.AppendTxn(g.body, &t.head)
	}
	g.n++
	return nil
}

// Abort undoes the transaction. If SQLite has given up the whole group with it,
// the transactions accepted before are executed again: with the same clock and
// seed they give the same results, which their sums prove.
func (t *Tx) Abort() error {
	if t.done {
		return nil
	}
	t.done = true
	if t.spill != nil {
		t.spill.Abort()
	}
	lost, err := t.x.abort()
	if err != nil || !lost {
		return err
	}
	return t.g.replay()
}

// replay executes the accepted transactions again after SQLite lost them.
func (g *Group) replay() error {
	if err := g.d.begin(); err != nil {
		return fmt.Errorf("begin again: %w", err)
	}
	g.state = connState{}
	if g.n == 0 {
		return nil
	}
	var b subjects.Body
	if err := subjects.DecodeBody(subjects.EndBody(bytes.Clone(g.body)), &b); err != nil {
		return fmt.Errorf("read own group: %w", err)
	}
	for i := range b.Txns {
		if err := g.d.applyTxn(&g.state, &sliceTxn{t: &b.Txns[i]}, nil); err != nil {
			return fmt.Errorf("replay group: %w", err)
		}
	}
	return nil
}

// Seal ends the group and returns the body to publish. All pages it changed have
// then been written, so that a full disk shows before the log says committed.
// The body is valid until Commit or Rollback.
func (g *Group) Seal() ([]byte, error) {
	if err := g.d.w.CacheFlush(); err != nil {
		return nil, fmt.Errorf("flush pages: %w", err)
	}
	if g.verify != "" {
		g.body = subjects.AppendBody(g.body[:0], &subjects.Body{DB: g.d.name, Engine: g.d.engine, Verify: g.verify})
		return g.body, nil
	}
	if g.large == nil {
		g.body = subjects.EndBody(g.body)
		return g.body, nil
	}
	ref, err := g.large.Commit()
	if err != nil {
		return nil, fmt.Errorf("store large transaction: %w", err)
	}
	g.body = subjects.AppendBody(nil, &subjects.Body{DB: g.d.name, Engine: g.d.engine, Blob: &ref})
	return g.body, nil
}

// Commit makes the group durable in the database as the message at position.
// The log already has it: an error means that this copy is behind the log and
// must replay it, not that the group failed.
func (g *Group) Commit(position uint64, chain subjects.Chain) error {
	defer g.end()
	if g.large != nil {
		g.large.Keep()
	}
	err := g.d.commit(Position{position, chain}, g.ids)
	if err != nil {
		g.d.rollback(g.touched)
	}
	return err
}

// Rollback leaves nothing of the group. It may be called after Commit, and then
// does nothing.
func (g *Group) Rollback() error {
	if g.ended {
		return nil
	}
	defer g.end()
	if g.large != nil {
		g.large.Abort()
	}
	return g.d.rollback(g.touched)
}

// Leave is Rollback for a group that the log may hold all the same: the blob that
// its message would name stays until that is known.
func (g *Group) Leave() error {
	g.large = nil
	return g.Rollback()
}

func (g *Group) end() {
	g.ended = true
	if cap(g.body) <= 2*GroupBytes {
		g.d.buf = g.body[:0] // the next group's body starts in the same memory
	}
	g.d.writing.Unlock()
}
