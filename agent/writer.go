package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/snapdb/snapdb/broker"
	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// Bounds of one database's writer.
const (
	// maxWaiting is how many requests may wait; more are answered busy.
	maxWaiting = 8192
	// maxWaitingBytes bounds their size.
	maxWaitingBytes = 64 << 20
	// maxUnanswered is how many clients may wait for acknowledgements.
	maxUnanswered = 65536
	// formFrom is the concurrency below which a group is not waited for.
	formFrom = 4
	// formShare of the known concurrency starts a group at once.
	formShare = 0.9
	// formLeast and formMost bound how long a group waits for company: as long
	// as a publish takes, because that is what a second group would cost.
	formLeast = 400 * time.Microsecond
	formMost  = 5 * time.Millisecond
	// groupTakes is how long a group takes in more calls, groupLasts how long what
	// it takes in may run: its other clients wait for their answers meanwhile.
	groupTakes = 50 * time.Millisecond
	groupLasts = 100 * time.Millisecond
	// formDecay is how fast the known concurrency falls, per group.
	formDecay = 0.98
)

// call is one write request on its way.
type call struct {
	ctx      context.Context
	req      *subjects.Request
	stmts    []subjects.Stmt // what to execute; one SQL text may hold several
	size     int
	session  *session // nil for none
	rule     subjects.Ack
	begun    time.Time
	deadline time.Time // for executing and for the acknowledgement
	results  subjects.Results
	counters subjects.Counters // in: the session's; out: after the call
	repeated uint64            // position of the first execution of a repeated request
	wrote    bool
	failed   *subjects.Error
	answer   func(*call, outcome) // called once, when failed or acknowledged
	w        *writer              // nil when it has none
	waiter   *waiter              // once it is in the ledger; guarded by the fleet's lock
	hurried  bool                 // the ledger shall not wait; guarded likewise
	inTx     *transaction         // takes over the writer instead of being executed
	verify   subjects.VerifyMode  // asks for a comparison instead of executing anything
	compares func(*comparing)     // told of it, before the answer
}

// writer executes the writes of one database, one group after another.
type writer struct {
	m   *Master
	db  *exec.Database
	log *slog.Logger

	wake chan struct{} // holds one token when enough calls wait
	ctx  context.Context
	end  context.CancelCauseFunc // makes run return, for DROP DATABASE
	done chan struct{}           // closed when run has returned

	mu       sync.Mutex
	waiting  []*call
	bytes    int
	wanted   int   // how many must wait for the writer to be woken
	running  *call // being executed, and may be interrupted
	stopped  error // why it takes no more writes
	answered int   // calls handed to the ledger and not yet answered
	peak     float64

	// Of the goroutine.
	publishing time.Duration // how long a publish takes, smoothed
}

func newWriter(m *Master, db *exec.Database) *writer {
	return &writer{m: m, db: db, log: m.log.With("database", db.Name()), wake: make(chan struct{}, 1)}
}

// submit queues a call. The error is for the client.
func (w *writer) submit(c *call) *subjects.Error {
	w.mu.Lock()
	switch {
	case w.stopped != nil:
		why := w.stopped
		w.mu.Unlock()
		return subjects.Errorf(subjects.CodeUnavailable, "database %s takes no writes: %v", w.db.Name(), why)
	case w.answered >= maxUnanswered:
		w.mu.Unlock()
		return subjects.Errorf(subjects.CodeBusy, "too many writes of database %s wait for acknowledgements (%d): try again", w.db.Name(), maxUnanswered)
	case len(w.waiting) >= maxWaiting || w.bytes+c.size > maxWaitingBytes && len(w.waiting) > 0:
		w.mu.Unlock()
		return subjects.Errorf(subjects.CodeBusy, "too many writes are waiting for database %s (%d): try again", w.db.Name(), maxWaiting)
	}
	w.waiting = append(w.waiting, c)
	w.bytes += c.size
	enough := len(w.waiting) >= w.wanted
	w.mu.Unlock()
	if enough {
		w.signal()
	}
	return nil
}

func (w *writer) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// stop makes the writer refuse everything from now on, with a reason.
func (w *writer) stop(reason error) {
	w.mu.Lock()
	w.stopped = reason
	left := w.waiting
	w.waiting, w.bytes = nil, 0
	w.mu.Unlock()
	for _, c := range left {
		c.fail(subjects.Errorf(subjects.CodeUnavailable, "database %s takes no writes: %v", w.db.Name(), reason))
	}
}

// resume takes writes again after a stop.
func (w *writer) resume() {
	w.mu.Lock()
	if w.ctx.Err() == nil { // or nobody would serve who comes now
		w.stopped = nil
	}
	w.mu.Unlock()
}

func (w *writer) reason() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stopped
}

// run is the writer's goroutine.
func (w *writer) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			w.stop(context.Cause(ctx))
			return
		case <-w.wake:
		}
		for w.form(ctx) {
			w.group(ctx)
		}
	}
}

// form waits until a group is worth starting: most of those who are likely to
// come are there, or it has waited as long as a group would take. A lone client
// never waits. It is false when nobody waits any more.
//
// Waiting pays because clients of one group are answered together and come back
// together: started too early, a group leaves half of them to the next, and each
// half then waits for the other's fsync.
func (w *writer) form(ctx context.Context) bool {
	n, wanted := w.expect()
	if n == 0 || n >= wanted {
		return n > 0
	}
	timer := time.NewTimer(min(max(w.publishing, formLeast), formMost))
	defer timer.Stop()
	for n < wanted {
		select {
		case <-w.wake:
		case <-timer.C:
			n = wanted
			continue
		case <-ctx.Done():
			n = wanted
			continue
		}
		w.mu.Lock()
		n = len(w.waiting)
		w.mu.Unlock()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wanted = 0
	return len(w.waiting) > 0
}

// expect says how many calls wait, and how many should before a group begins; it
// leaves word to be woken only then.
func (w *writer) expect() (n, wanted int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n = len(w.waiting)
	w.peak = max(float64(n+w.answered), w.peak*formDecay)
	wanted = 1
	if w.peak >= formFrom {
		wanted = min(int(formShare*w.peak), exec.GroupTransactions)
	}
	if w.wanted = wanted; n == 0 || n >= wanted {
		w.wanted = 0
	}
	return n, wanted
}

// take returns the next waiting call, nil if none.
func (w *writer) take() *call {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.waiting) == 0 {
		return nil
	}
	c := w.waiting[0]
	w.waiting[0] = nil
	w.waiting = w.waiting[1:]
	w.bytes -= c.size
	w.running = c
	return c
}

// putBack returns a call that was taken and not started.
func (w *writer) putBack(c *call) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting = append([]*call{c}, w.waiting...)
	w.bytes += c.size
	w.running = nil
}

// idle says whether nobody waits for the writer. Comparisons have time.
func (w *writer) idle() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !slices.ContainsFunc(w.waiting, func(c *call) bool { return c.verify == "" })
}

// group executes what waits as one group, logs and commits it.
func (w *writer) group(ctx context.Context) {
	if err := w.m.checkDisk(); err != nil {
		w.refuseAll(err)
		return
	}
	g, err := w.db.Begin()
	if err != nil {
		failed := exec.WireError(err)
		if failed.Code == subjects.CodeInternal || errors.Is(err, exec.ErrForeignWrite) {
			w.broken(fmt.Errorf("begin group: %w", err))
			return
		}
		// A full disk, or a program that keeps the file locked: the next may do.
		w.refuseAll(nothingChanged(failed))
		return
	}
	var done []*call
	for start := time.Now(); !g.Full(); {
		// The first has all the time that it is given.
		var until time.Time
		if len(done) > 0 {
			if time.Since(start) > groupTakes {
				break
			}
			until = start.Add(groupLasts)
		}
		c := w.take()
		if c == nil {
			break
		}
		if c.inTx != nil || c.verify != "" {
			if len(done) > 0 {
				w.putBack(c)
				break
			}
			if c.inTx != nil {
				w.transact(ctx, g, c)
			} else {
				w.compare(ctx, g, c)
			}
			return
		}
		later, err := w.execute(g, c, until)
		if err != nil {
			w.abandon(g, append(done, c), err)
			return
		}
		if later {
			w.putBack(c) // it will be the first of the next group
			break
		}
		switch {
		case c.failed != nil:
			w.finish(c, outcome{})
			continue
		case c.repeated > 0:
			w.m.fleet.again(w, c.repeated, c)
			continue
		case !c.wrote:
			c.rule.Kind = subjects.AckLog // it may have read what others of this group wrote
		}
		done = append(done, c)
	}
	w.setRunning(nil)
	w.conclude(ctx, g, done)
}

func (w *writer) setRunning(c *call) {
	w.mu.Lock()
	w.running = c
	w.mu.Unlock()
}

// execute runs one call as one transaction of the group. One that has not ended
// by until, if that is set, is undone, and later is true. A returned error is a
// fault of this database, not of the call.
func (w *writer) execute(g *exec.Group, c *call, until time.Time) (later bool, err error) {
	if time.Now().After(c.deadline) {
		c.failed = errWaited
		return false, nil
	}
	if until.IsZero() || until.After(c.deadline) {
		until = c.deadline
	}
	head := subjects.Txn{Now: time.Now().UnixMilli(), Seed: rand.Uint64(), Counters: c.counters, ID: c.req.ID}
	if head.ID != "" {
		head.Request = subjects.DigestStmts(c.stmts)
	}
	tx, err := g.Open(head)
	if err != nil {
		return false, fmt.Errorf("open transaction: %w", err)
	}
	position, found, err := tx.Done(&c.results)
	switch {
	case err != nil:
		err = fmt.Errorf("look up request id: %w", err)
	case found:
		c.repeated, c.wrote = position, true
		return false, tx.Abort()
	default:
		w.db.Writer().SetDeadline(until)
		if err = context.Cause(c.ctx); err == nil { // from here on, withdraw interrupts it
			err = tx.RunAll(c.stmts, &c.results)
		}
	}
	w.setRunning(nil)
	if err == nil {
		err = tx.Accept(c.results.Bytes())
	}
	if err == nil {
		c.wrote, c.counters = tx.Logged() > 0, tx.Counters()
		return false, nil
	}
	c.failed = exec.WireError(because(w.ctx, because(c.ctx, err)))
	if c.failed.Code == subjects.CodeTimeout && time.Now().Before(c.deadline) {
		c.failed = nil
		c.results.Reset()
		return true, tx.Abort()
	}
	if c.failed.Code == subjects.CodeCancelled || c.failed.Code == subjects.CodeTimeout {
		c.failed = nothingChanged(c.failed)
	}
	return false, tx.Abort()
}

// compare logs that all nodes shall compare what they hold, and holds on to what this
// one does.
func (w *writer) compare(ctx context.Context, g *exec.Group, c *call) {
	w.setRunning(nil)
	if c.ctx.Err() != nil {
		w.abandon(g, []*call{c}, context.Cause(c.ctx))
		return
	}
	before := w.db.Head()
	g.Verify(c.verify)
	w.publish(ctx, g, []*call{c}, func(position uint64) {
		if w.db.Applied().Number == position {
			c.compares(w.m.verifier.begin(w.db, before, c.verify))
		}
	})
}

// conclude logs and commits a group and hands its clients to the ledger.
func (w *writer) conclude(ctx context.Context, g *exec.Group, done []*call) {
	if g.Len() == 0 {
		if err := g.Rollback(); err != nil {
			w.broken(fmt.Errorf("roll back empty group: %w", err))
		}
		for _, c := range done {
			w.finish(c, outcome{position: w.db.Applied().Number, met: true})
		}
		return
	}
	w.publish(ctx, g, done, func(uint64) {})
}

// publish logs and commits a group that is not empty. committed is called before anybody
// hears of it.
func (w *writer) publish(ctx context.Context, g *exec.Group, done []*call, committed func(position uint64)) {
	body, err := g.Seal()
	if err != nil {
		w.abandon(g, done, err)
		return
	}
	at := w.db.Applied()
	head := subjects.Header{DB: w.db.Name(), Inc: w.db.Incarnation(), Prev: at.Number,
		Chain: subjects.NextChain(at.Chain, w.db.Incarnation(), body)}
	w.m.fleet.publishing(w.db.Name())
	begun := time.Now()
	position, err := w.m.journal.append(ctx, head, body)
	took := time.Since(begun)
	w.publishing += (took - w.publishing) / 8
	w.m.meters.publish.time(took)
	w.m.meters.group.observe(uint64(len(done)))
	if err != nil {
		w.unlogged(g, done, err)
		return
	}
	// From here on the write is committed, whatever happens to this copy.
	err = g.Commit(position, head.Chain)
	if err != nil {
		w.log.Error("the log has a group that this copy could not commit; replaying", "position", position, "error", err)
		w.stop(fmt.Errorf("it is behind the log after %w; it recovers by itself", err))
	}
	committed(position)
	w.m.fleet.logged(w, position, done, err != nil)
	if err != nil {
		w.m.recover(w, position)
	}
}

// unlogged ends a group that is not in the log, or not known to be.
func (w *writer) unlogged(g *exec.Group, done []*call, err error) {
	failed := notLogged(err)
	unknown := failed.Code == subjects.CodeOutcomeUnknown
	end := g.Rollback
	if unknown {
		end = g.Leave
	}
	rollback := end()
	for _, c := range done {
		c.failed = failed
		w.finish(c, outcome{})
	}
	if rollback != nil {
		if !unknown {
			w.m.fleet.decided(w.db.Name(), w.db.Applied().Number)
		}
		w.broken(fmt.Errorf("roll back group: %w", rollback))
		return
	}
	if unknown {
		w.stop(errors.New("the log did not answer; the broker is being restarted"))
		w.m.revive(w)
		return
	}
	w.m.fleet.decided(w.db.Name(), w.db.Applied().Number)
}

// notLogged is what a client hears of a publish that failed.
func notLogged(err error) *subjects.Error {
	var unknown *unknownError
	if errors.As(err, &unknown) {
		return subjects.Errorf(subjects.CodeOutcomeUnknown, "the log did not answer: the write with log id %s may or may not be committed; ask again with the same request id, or read", unknown.id)
	}
	if errors.Is(err, broker.ErrLogFull) {
		return subjects.Errorf(subjects.CodeUnavailable, "not written, nothing was changed: %v: start the master with a larger --log-max", err)
	}
	return subjects.Errorf(subjects.CodeUnavailable, "not written, nothing was changed: %v", err)
}

// abandon ends a group that failed as a whole: each client hears it.
func (w *writer) abandon(g *exec.Group, done []*call, err error) {
	err = errors.Join(err, g.Rollback())
	failed := exec.WireError(err)
	for _, c := range done {
		c.failed = nothingChanged(failed)
		w.finish(c, outcome{})
	}
	if failed.Code == subjects.CodeInternal {
		w.broken(err)
	}
}

// broken stops the database on this master after a fault.
func (w *writer) broken(err error) {
	w.log.Error("the database takes no more writes", "error", err)
	w.stop(err)
}

// refuseAll answers everybody who waits with the same error.
func (w *writer) refuseAll(err *subjects.Error) {
	for c := w.take(); c != nil; c = w.take() {
		c.fail(err)
	}
	w.setRunning(nil)
}

// finish answers a call that is not in the ledger.
func (w *writer) finish(c *call, o outcome) { c.answer(c, o) }

func (c *call) fail(err *subjects.Error) {
	c.failed = err
	c.answer(c, outcome{})
}
