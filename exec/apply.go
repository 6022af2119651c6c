package exec

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/snapdb/snapdb/exec/engine"
	"github.com/snapdb/snapdb/subjects"
)

// Continuity says how a message stands to what a database has applied.
type Continuity uint8

// The kinds of continuity.
const (
	// Next continues the history: it can be applied.
	Next Continuity = iota
	// Old is applied already.
	Old
	// Broken does not continue the applied history: something before it is
	// missing, or no master wrote it. It must not be applied.
	Broken
)

// Continues says whether m is the message after p of incarnation inc.
func (p Position) Continues(inc uint64, m *subjects.Message) Continuity {
	switch {
	case m.Position <= p.Number:
		return Old
	case m.Header.Inc != inc || m.Header.Prev != p.Number:
		return Broken
	case subjects.NextChain(p.Chain, inc, m.Data) != m.Header.Chain:
		return Broken
	}
	return Next
}

// ErrBroken: a message given to Apply does not continue the applied history.
var ErrBroken = errors.New("message does not continue the applied history")

// ErrEngine: a message was executed by another SQL engine, whose results this
// one might not repeat.
var ErrEngine = errors.New("the log was written with another SQL engine")

// OpenBlob opens the blob of a large body for reading.
type OpenBlob func(ctx context.Context, ref subjects.BlobRef) (io.ReadCloser, error)

// Source of what Apply executes.
type Source struct {
	OpenBlob OpenBlob
	// Progress, if set, is called now and then during a long apply with the
	// number of statements done.
	Progress func(statements int)
	// Image makes a new file at path that is the image which a database begins with.
	Image func(ctx context.Context, ref subjects.ImageRef, path string) error
}

// Apply executes consecutive messages of the log in one SQLite transaction and
// returns how many of them are in. If one cannot be applied, those before it
// are in and the error says why: [*DivergedError] when the content would not be
// the log's, else what is wrong with disk, blob or engine, after which the same
// messages may be tried again.
func (d *Database) Apply(ctx context.Context, msgs []*subjects.Message, src Source) (int, error) {
	d.writing.Lock()
	defer d.writing.Unlock()
	begun, err := d.applyImage(ctx, msgs, src)
	if err != nil || begun == len(msgs) {
		return begun, err
	}
	n, err := d.applyEach(ctx, msgs[begun:], src)
	return begun + n, err
}

func (d *Database) applyEach(ctx context.Context, msgs []*subjects.Message, src Source) (int, error) {
	n, err := d.applyAll(ctx, msgs, src)
	if err == nil || len(msgs) == 1 || n > 0 {
		return n, err
	}
	// One of several failed, and all were rolled back: one by one, the error
	// comes again exactly where it belongs.
	for i := range msgs {
		if _, err := d.applyAll(ctx, msgs[i:i+1], src); err != nil {
			return i, err
		}
	}
	return len(msgs), nil
}

func (d *Database) applyAll(ctx context.Context, msgs []*subjects.Message, src Source) (int, error) {
	if err := d.begin(); err != nil {
		return 0, err
	}
	stop := context.AfterFunc(ctx, d.w.Interrupt)
	defer stop()
	a := applier{d: d, ctx: ctx, src: src, at: d.Applied()}
	err := a.messages(msgs)
	if err == nil {
		err = d.commit(a.at, a.ids)
	}
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return 0, errors.Join(err, d.rollback(true))
	}
	return len(msgs), nil
}

// applier is one Apply in progress.
type applier struct {
	d     *Database
	ctx   context.Context
	src   Source
	at    Position
	state connState
	slice sliceTxn // the transaction being applied, of a body that is no blob
	ids   bool
	done  int // statements, for progress
}

func (a *applier) messages(msgs []*subjects.Message) error {
	for _, m := range msgs {
		if a.at.Continues(a.d.inc, m) != Next {
			return fmt.Errorf("database %s at %d, message %d after %d: %w", a.d.name, a.at.Number, m.Position, m.Header.Prev, ErrBroken)
		}
		if err := a.message(m); err != nil {
			return err
		}
		a.at = Position{m.Position, m.Header.Chain}
		if a.ids {
			// The ids of each message get their own position.
			if err := run(a.d.setIDs, subjects.IntegerValue(int64(m.Position))); err != nil {
				return fmt.Errorf("store request positions: %w", err)
			}
			a.ids = false
		}
	}
	return nil
}

func (a *applier) message(m *subjects.Message) error {
	body := &a.d.body
	if err := subjects.DecodeBody(m.Data, body); err != nil {
		return unreadable(a.d.name, m, err)
	}
	if body.Engine != a.d.engine {
		return fmt.Errorf("database %s, message %d: %w (theirs %s, ours %s)", a.d.name, m.Position, ErrEngine, body.Engine, a.d.engine)
	}
	switch {
	case body.Image != nil:
		return &DivergedError{a.d.name, m.Position, "a database can only begin with an image", nil}
	case body.Blob != nil:
		return a.blob(m, *body.Blob)
	}
	for i := range body.Txns {
		a.slice = sliceTxn{t: &body.Txns[i]}
		if err := a.txn(m, &a.slice); err != nil {
			return err
		}
	}
	return nil
}

// blob applies a body that is kept as a blob, transaction by transaction and
// statement by statement, in constant memory.
func (a *applier) blob(m *subjects.Message, ref subjects.BlobRef) error {
	f, err := a.src.OpenBlob(a.ctx, ref)
	if err != nil {
		return fmt.Errorf("message %d: open blob %s: %w", m.Position, ref.Digest, err)
	}
	defer f.Close()
	r := subjects.NewTxnReader(f)
	for {
		head, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = a.txn(m, &blobTxn{head: head, r: r})
		}
		if errors.Is(err, subjects.ErrMalformed) {
			return &DivergedError{a.d.name, m.Position, "the blob cannot be read", err}
		}
		if err != nil {
			return err
		}
	}
}

func (a *applier) txn(m *subjects.Message, t txnSource) error {
	// An interrupt that comes between two transactions is forgotten by the second.
	if err := a.ctx.Err(); err != nil {
		return err
	}
	err := a.d.applyTxn(&a.state, t, func() error {
		a.done++
		if a.done&15 == 0 && a.src.Progress != nil {
			a.src.Progress(a.done)
		}
		return nil
	})
	if t.header().ID != "" {
		a.ids = true
	}
	switch {
	case err == nil:
		return nil
	case a.ctx.Err() != nil || !sameEverywhere(err) && !errors.Is(err, errDiffers):
		return fmt.Errorf("database %s, message %d: %w", a.d.name, m.Position, err)
	}
	return &DivergedError{a.d.name, m.Position, "a transaction did not give the master's result", err}
}

// txnSource gives a logged transaction statement by statement.
type txnSource interface {
	header() *subjects.Txn
	next() (*subjects.LogStmt, error) // io.EOF at the end
	sum() uint64                      // after the end
}

type sliceTxn struct {
	t *subjects.Txn
	i int
}

func (s *sliceTxn) header() *subjects.Txn { return s.t }
func (s *sliceTxn) sum() uint64           { return s.t.Sum }
func (s *sliceTxn) next() (*subjects.LogStmt, error) {
	if s.i == len(s.t.Stmts) {
		return nil, io.EOF
	}
	s.i++
	return &s.t.Stmts[s.i-1], nil
}

type blobTxn struct {
	head *subjects.Txn
	r    *subjects.TxnReader
}

func (b *blobTxn) header() *subjects.Txn            { return b.head }
func (b *blobTxn) next() (*subjects.LogStmt, error) { return b.r.Stmt() }
func (b *blobTxn) sum() uint64                      { return b.r.Sum() }

// errDiffers: a statement or transaction had another outcome than on the master.
var errDiffers = errors.New("result differs")

// applyTxn repeats a logged transaction. each, if set, is called after every
// statement. On an error the caller must roll back the SQLite transaction.
func (d *Database) applyTxn(state *connState, src txnSource, each func() error) error {
	head := src.header()
	var x execution
	if err := x.start(d.w, state, head); err != nil {
		return err
	}
	var results *subjects.Results
	if head.ID != "" {
		results = new(subjects.Results) // what the id answers is kept on every node
	}
	for {
		ls, err := src.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if err := d.applyStmt(&x, state, ls, results); err != nil {
			return err
		}
		if each != nil {
			if err := each(); err != nil {
				return err
			}
		}
	}
	if head.ID != "" {
		if err := d.saveRequest(head, results.Bytes()); err != nil {
			return fmt.Errorf("remember request id: %w", err)
		}
	}
	if err := x.finish(); err != nil {
		return err
	}
	if x.sum != src.sum() {
		return fmt.Errorf("%w: sum %016x, on the master %016x", errDiffers, x.sum, src.sum())
	}
	return nil
}

func (d *Database) applyStmt(x *execution, state *connState, ls *subjects.LogStmt, out *subjects.Results) error {
	st, n, err := d.w.Prepare(ls.SQL, 0, engine.GuardWrite)
	if err != nil {
		return fmt.Errorf("prepare %q: %w", clip(ls.SQL), err)
	}
	if st == nil || n != len(ls.SQL) {
		return fmt.Errorf("%w: not one statement: %q", errDiffers, clip(ls.SQL))
	}
	defer st.Close()
	switch st.Op() {
	case engine.OpBegin, engine.OpCommit, engine.OpRollback:
		return fmt.Errorf("%w: no statement of a transaction: %q", errDiffers, clip(ls.SQL))
	}
	if err := x.write(st, state, ls.Args, out); err != nil {
		var failed failure
		if ls.Fails != "" && errors.As(err, &failed) {
			return nil
		}
		return fmt.Errorf("%q: %w", clip(ls.SQL), err)
	}
	if ls.Fails != "" {
		return fmt.Errorf("%w: statement succeeded, on the master it failed with %q", errDiffers, ls.Fails)
	}
	return nil
}

// clip keeps SQL of any size from filling a log line.
func clip(sql string) string {
	const most = 200
	if len(sql) <= most {
		return sql
	}
	return sql[:most] + "…"
}
