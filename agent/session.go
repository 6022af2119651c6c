package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// Bounds of sessions.
const (
	// sessionLife is how long an unused session is kept.
	sessionLife = 10 * time.Minute
	// maxSessions bounds the sessions of a master.
	maxSessions = 10_000
)

// patience is how long one client may keep others waiting.
type patience struct {
	// idle is how long a transaction may hold the writer or a snapshot without a
	// statement; wanted the same while others wait for what it holds.
	idle, wanted time.Duration
	// total is how long it may hold them at all.
	total time.Duration
	// drop is how long running writes may go on when their database is dropped.
	drop time.Duration
	// away is how long it may not ask how its import is: it has given that up then.
	away time.Duration
}

func usualPatience() patience {
	return patience{idle: 30 * time.Second, wanted: 5 * time.Second, total: 60 * time.Second, drop: 5 * time.Second, away: 15 * time.Second}
}

// session is what the master remembers between the requests of one client: its
// database, its counters, its open transaction.
type session struct {
	name string
	busy sync.Mutex // held while a request of the session runs

	db       string
	counters subjects.Counters
	tx       *transaction

	// Guarded by sessions.mu:
	used   time.Time
	cancel context.CancelCauseFunc // ends the request being executed; nil: none is
}

// sessions are all of them, by name.
type sessions struct {
	mu   sync.Mutex
	open map[string]*session
}

// get finds or makes a session and locks it for a request that cancel ends; give
// it back with put.
func (s *sessions) get(name string, cancel context.CancelCauseFunc) (*session, *subjects.Error) {
	s.mu.Lock()
	x := s.open[name]
	if x == nil {
		if len(s.open) >= maxSessions {
			s.mu.Unlock()
			return nil, subjects.Errorf(subjects.CodeBusy, "too many sessions (%d)", maxSessions)
		}
		x = &session{name: name}
		s.open[name] = x
	}
	x.used = time.Now()
	free := x.busy.TryLock()
	if free {
		x.cancel = cancel
	}
	s.mu.Unlock()
	if !free {
		return nil, subjects.Errorf(subjects.CodeBusy, "session %q is executing another request", name)
	}
	return x, nil
}

func (s *sessions) put(x *session) {
	s.mu.Lock()
	x.used, x.cancel = time.Now(), nil
	s.mu.Unlock()
	x.busy.Unlock()
}

// sweep ends sessions nobody uses any more, and transactions that keep a snapshot
// too long: it holds a read connection and the WAL. Those that hold the writer are
// ended by it.
func (s *sessions) sweep(now time.Time, p patience) {
	s.mu.Lock()
	var old []*session
	for name, x := range s.open {
		if !x.busy.TryLock() {
			continue
		}
		idle := now.Sub(x.used)
		switch {
		case idle > sessionLife:
			delete(s.open, name)
			old = append(old, x)
			continue
		case x.tx == nil || x.tx.holding:
		case idle > p.wanted && x.tx.w.db.ReadersWanted():
			x.tx.expire(fmt.Sprintf("it did nothing for %v while others waited to read", p.wanted))
		case idle > p.idle:
			x.tx.expire(fmt.Sprintf("it did nothing for %v", p.idle))
		case now.Sub(x.tx.began) > p.total:
			x.tx.expire(fmt.Sprintf("it kept its snapshot longer than %v", p.total))
		}
		x.busy.Unlock()
	}
	s.mu.Unlock()
	for _, x := range old {
		if x.tx != nil {
			x.tx.rollback()
		}
		x.busy.Unlock()
	}
}

// transaction is BEGIN … COMMIT of a session. It takes the writer at its first
// write; until then it reads from a snapshot.
type transaction struct {
	w        *writer
	who      string // its user; "": nobody knows
	call     *call  // by which it takes the writer
	counters subjects.Counters
	rule     subjects.Ack // last named by its client
	began    time.Time
	snap     *exec.Snapshot // before it holds the writer; parked between requests
	at       uint64         // position of snap

	holding bool
	steps   chan *step
	over    chan struct{} // closed when the writer has let go, or the snapshot is given up
	why     string        // why; read after over
}

// step is one request of a transaction that holds the writer, executed by the
// writer's goroutine.
type step struct {
	ctx    context.Context
	sql    string
	args   []subjects.Value
	limit  time.Time
	out    *subjects.Results
	commit *call // COMMIT, with the client to answer
	end    bool  // ROLLBACK

	used exec.Used // of sql and args
	over bool      // the transaction has ended, and the client hears it
	err  error
	done chan struct{}
}

func newTransaction(w *writer, who string, counters subjects.Counters) *transaction {
	return &transaction{w: w, who: who, counters: counters, began: time.Now(), steps: make(chan *step), over: make(chan struct{})}
}

// acquire takes the writer, waiting for those who came before.
func (t *transaction) acquire(ctx context.Context, limit time.Time) error {
	held := make(chan error, 1)
	c := &call{ctx: ctx, req: &subjects.Request{}, deadline: limit, counters: t.counters, inTx: t,
		answer: func(c *call, _ outcome) {
			if c.failed != nil {
				held <- c.failed
				return
			}
			held <- nil
		}}
	t.call = c
	if err := t.w.submit(c); err != nil {
		return err
	}
	release := whenDone(ctx, func() { t.w.withdraw(c, ending(ctx)) })
	// The writer always answers: it refuses the call, or holds for it.
	err := <-held
	release()
	if err != nil {
		return err
	}
	t.holding = true
	stale := t.snap != nil && t.at != t.w.db.Applied().Number
	t.dropSnapshot()
	if stale {
		t.rollback()
		return subjects.Errorf(subjects.CodeBusy, "the database has changed since this transaction's first read: it was rolled back, begin it again (BEGIN IMMEDIATE avoids this)")
	}
	return nil
}

// read runs the first statement of sql, if it only reads, on the transaction's
// snapshot and returns how much of sql and args it was. It returns exec.ErrWrites
// when the statement needs the writer.
func (t *transaction) read(ctx context.Context, sql string, args []subjects.Value, limit time.Time, out *subjects.Results) (exec.Used, error) {
	first := t.snap == nil
	if first {
		snap, err := t.w.m.reader.snapshot(ctx, t.who, t.w.db, limit, t.counters)
		if err != nil {
			return exec.Used{}, err
		}
		t.snap, t.at = snap, snap.Position().Number
	} else if err := t.snap.Resume(); err != nil {
		t.expire("its database was dropped")
		return exec.Used{}, t.rolledBack()
	}
	t.snap.SetDeadline(limit)
	release := whenDone(ctx, t.snap.Interrupt)
	used, err := t.snap.ReadNext(sql, args, out, exec.PageBytes)
	release()
	if err != nil && first {
		t.dropSnapshot() // it has shown nothing that could become stale
	} else {
		t.snap.Park()
	}
	return used, because(ctx, err)
}

// expire ends a transaction that does not hold the writer, for a reason that its
// client will hear.
func (t *transaction) expire(why string) {
	t.dropSnapshot()
	if !t.lost() {
		t.why = why
		close(t.over)
	}
}

// rolledBack is what a client hears of a transaction that was ended for it.
func (t *transaction) rolledBack() *subjects.Error {
	return subjects.Errorf(subjects.CodeTransaction, "the transaction was rolled back: %s", t.why)
}

// do hands a step to the writer's goroutine and waits for it.
func (t *transaction) do(s *step) error {
	s.done = make(chan struct{})
	select {
	case t.steps <- s:
		<-s.done
		return s.err
	case <-t.over:
		s.over = true
		return t.rolledBack()
	}
}

// rollback ends the transaction, whatever state it is in.
func (t *transaction) rollback() {
	t.dropSnapshot()
	if t.holding {
		// It fails only if the writer has let go already.
		_ = t.do(&step{end: true})
		<-t.over
	}
}

func (t *transaction) dropSnapshot() {
	if t.snap != nil {
		t.snap.Close()
		t.snap = nil
		t.w.m.reader.shares.give(t.who)
	}
}

// lost says whether the transaction was ended without its client.
func (t *transaction) lost() bool {
	select {
	case <-t.over:
		return true
	default:
		return false
	}
}

// transact lends the writer to a session's transaction until it ends.
func (w *writer) transact(ctx context.Context, g *exec.Group, c *call) {
	t := c.inTx
	defer close(t.over)
	w.setRunning(nil)
	tx, err := g.Open(subjects.Txn{Now: time.Now().UnixMilli(), Seed: rand.Uint64(), Counters: c.counters, Interactive: true})
	if err != nil {
		c.failed = exec.WireError(errors.Join(err, g.Rollback()))
		t.why = c.failed.Message
		w.finish(c, outcome{})
		return
	}
	w.finish(c, outcome{met: true})
	for end := time.Now().Add(w.m.opts.patience.total); ; {
		s, why := w.nextStep(ctx, t, end)
		if s == nil {
			t.why = why
			w.giveUp(g, tx)
			return
		}
		if s.limit.After(end) {
			s.limit = end
		}
		w.step(ctx, g, tx, t, s)
		over := s.over
		close(s.done)
		if over {
			return
		}
	}
}

// nextStep waits for the session's next statement within the limits.
func (w *writer) nextStep(ctx context.Context, t *transaction, end time.Time) (*step, string) {
	start, p := time.Now(), w.m.opts.patience
	for ctx.Err() == nil {
		idle := p.idle
		if !w.idle() {
			idle = p.wanted
		}
		now := time.Now()
		switch {
		case now.After(end):
			return nil, fmt.Sprintf("it held the database longer than %v", p.total)
		case now.Sub(start) > idle:
			return nil, fmt.Sprintf("it did nothing for %v", idle)
		}
		timer := time.NewTimer(min(end.Sub(now), p.wanted/5+time.Millisecond))
		select {
		case s := <-t.steps:
			timer.Stop()
			return s, ""
		case <-ctx.Done():
			timer.Stop()
		case <-timer.C:
		}
	}
	return nil, context.Cause(ctx).Error()
}

// step executes one step of a transaction; s.over then says whether it has ended it.
func (w *writer) step(ctx context.Context, g *exec.Group, tx *exec.Tx, t *transaction, s *step) {
	switch {
	case s.end:
		t.why, s.over = "rolled back", true
		w.giveUp(g, tx)
		return
	case s.commit != nil:
		s.over = true
		w.commit(ctx, g, tx, t, s)
		return
	}
	w.db.Writer().BeginRequest()
	w.db.Writer().SetDeadline(s.limit)
	w.setRunning(t.call)
	release := whenDone(s.ctx, func() { w.withdraw(t.call, ending(s.ctx)) })
	if s.err = context.Cause(s.ctx); s.err == nil {
		s.used, s.err = tx.RunNext(s.sql, s.args, s.out)
	}
	release()
	w.setRunning(nil)
	t.counters = tx.Counters()
	s.err = because(w.ctx, because(s.ctx, s.err))
	if s.err == nil || !tx.Ended() {
		return
	}
	we := *exec.WireError(s.err)
	we.Message += "; the transaction was rolled back"
	s.err, t.why, s.over = &we, we.Message, true
	w.giveUp(g, tx)
}

func (w *writer) commit(ctx context.Context, g *exec.Group, tx *exec.Tx, t *transaction, s *step) {
	t.why = "committed"
	w.db.Writer().BeginRequest()
	if err := tx.Accept(nil); err != nil {
		we := *exec.WireError(err)
		we.Message += "; the transaction was rolled back"
		t.why, s.err = we.Message, &we
		w.giveUp(g, tx)
		return
	}
	c := s.commit
	c.counters, c.wrote = tx.Counters(), tx.Logged() > 0
	if !c.wrote {
		w.conclude(ctx, g, nil)
		w.finish(c, outcome{met: true})
		return
	}
	w.conclude(ctx, g, []*call{c})
}

// giveUp undoes a transaction and its group.
func (w *writer) giveUp(g *exec.Group, tx *exec.Tx) {
	if err := errors.Join(tx.Abort(), g.Rollback()); err != nil {
		w.broken(fmt.Errorf("roll back transaction: %w", err))
	}
}
