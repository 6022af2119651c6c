package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// Times of comparing.
const (
	// DefaultVerifyEvery is how often a database that changes is compared on all nodes.
	DefaultVerifyEvery = 5 * time.Minute
	// verifyFirst is how soon one is compared that never was, as far as this master knows.
	verifyFirst = 15 * time.Second
	// verifyIdle times as seldom one is that does not change: what was changed behind
	// snapdb's back shows too.
	verifyIdle = 12
	// verifyAgain is when one is compared again of which not all copies were found equal,
	// once more of them may be.
	verifyAgain = time.Minute
	// verifyShare bounds what the verifier's own comparisons take: after each it rests that
	// many times as long as the master was at work for it. Slaves hold the same, and are at
	// work as long.
	verifyShare = 20
	// verifyLook is how often the verifier looks whether anything is due.
	verifyLook = 250 * time.Millisecond
	// verifyWait is how long slaves may take once the master knows what it holds.
	verifyWait = time.Minute
	// verifyGrace is how long one may take that was heard of as lately, but is not there
	// just now, or on its way back.
	verifyGrace = 5 * time.Second
	// verifyPatience is how long somebody who asks waits by default.
	verifyPatience = time.Minute
	// verifyKept is how many comparisons of a database are kept.
	verifyKept = 8
)

// verifier has the nodes compare what they hold. It logs a message that asks for it; each
// node sums up what it has just there and tells the verifier, which knows the master's
// own sum. A copy that differs is told so, and heals; if most slaves agree with each
// other and not with the master, it is the master's copy that is wrong, and nobody gets
// it.
type verifier struct {
	m *Master
	p *prover

	mu   sync.Mutex
	all  map[uint64]*comparing // the newest of each database, by incarnation
	last map[uint64]*subjects.Verification
	seen map[uint64]time.Time // when a database was last compared, or first seen
	idle map[uint64]span      // messages that only asked for comparisons
	mine *comparing           // the one that the verifier began by itself, until it rests for that
	rest time.Time            // until when it then begins none that is not urgent
}

// span is from where to where a database has not changed.
type span struct{ from, to subjects.Head }

// comparing is one comparison.
type comparing struct {
	d       *exec.Database
	head    subjects.Head
	how     subjects.VerifyMode
	own     *subjects.VerifyReport // nil: not known yet
	known   time.Time              // since when it is
	worked  time.Duration          // how long that took, rests aside
	reports map[string]*subjects.VerifyReport
	result  *subjects.Verification // nil: not decided
	done    chan struct{}          // closed when it is
	before  *comparing             // of the same database; some are kept for slaves that ask late
}

// find is the comparison at a head, this one or one before; nil if there is none.
func (c *comparing) find(h subjects.Head) *comparing {
	for ; c != nil; c = c.before {
		if c.head == h {
			return c
		}
	}
	return nil
}

// keep forgets all but the last comparisons.
func (c *comparing) keep(n int) {
	for ; c != nil; c = c.before {
		if n--; n == 0 {
			c.before = nil
		}
	}
}

func newVerifier(m *Master) *verifier {
	return &verifier{m: m, p: newProver(), all: map[uint64]*comparing{}, last: map[uint64]*subjects.Verification{},
		seen: map[uint64]time.Time{}, idle: map[uint64]span{}}
}

// run is the verifier's goroutine.
func (v *verifier) run(ctx context.Context) {
	tick := time.NewTicker(verifyLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			v.decideAll(now)
			d := v.due(now)
			if d == nil {
				continue
			}
			c, err := v.mark(ctx, d, subjects.VerifyContent)
			if err != nil && ctx.Err() == nil {
				v.m.log.Debug("cannot have a database compared", "database", d.Name(), "error", err)
			}
			v.mu.Lock()
			v.mine = c
			v.mu.Unlock()
		}
	}
}

// due is the database that should be compared now: of those whose time has come the one
// that has waited longest, and none before the last one is done. While the verifier rests
// only what another comparison may prove is due.
func (v *verifier) due(now time.Time) (longest *exec.Database) {
	if v.m.opts.VerifyEvery < 0 || v.m.fleet.enrolled() == 0 || v.busy() {
		return nil
	}
	resting := v.rests(now)
	since := now
	for _, d := range v.m.store.Databases() {
		if at, due, urgent := v.waits(d, now); due && (urgent || !resting) && at.Before(since) {
			longest, since = d, at
		}
	}
	if longest != nil {
		v.mu.Lock()
		v.seen[longest.Incarnation()] = now // also if it cannot be logged
		v.mu.Unlock()
	}
	return longest
}

// rests says whether the verifier rests after what it had compared by itself.
func (v *verifier) rests(now time.Time) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.mine != nil && v.mine.own != nil {
		if v.rest.Before(now) {
			v.rest = now
		}
		v.rest = v.rest.Add(verifyShare * v.mine.worked)
		v.mine = nil
	}
	return now.Before(v.rest)
}

// busy says whether a comparison is under way.
func (v *verifier) busy() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, c := range v.all {
		if c.result == nil {
			return true
		}
	}
	return false
}

// waits says since when a database has not been compared, whether that is too long, and
// whether that is because another comparison may prove what the last one did not.
func (v *verifier) waits(d *exec.Database, now time.Time) (since time.Time, due, urgent bool) {
	every := v.m.opts.VerifyEvery
	if w, err := v.m.writer(d.Name()); err != nil || w.reason() != nil {
		return now, false, false
	}
	inc, head := d.Incarnation(), d.Head()
	v.mu.Lock()
	defer v.mu.Unlock()
	since, known := v.seen[inc]
	if !known {
		v.seen[inc] = now
		return now, false, false
	}
	switch last := v.last[inc]; {
	case last == nil:
		every = min(every, verifyFirst)
	case v.better(last):
		every, urgent = min(every, verifyAgain), true
	case last.Head == head:
		every *= verifyIdle
	}
	return since, now.Sub(since) >= every, urgent
}

// better says whether another comparison may prove what the last one did not: a copy
// that differed has been replaced meanwhile, or a node that did not answer is there.
func (v *verifier) better(last *subjects.Verification) bool {
	slaves := v.m.fleet.hearing(last.Database)
	for id, n := range last.Nodes {
		if n.State != subjects.VerifyEqual && slaves[id].answers {
			return true
		}
	}
	return false
}

// mark logs the message that asks for a comparison. Who does not wait for it any more
// gets none.
func (v *verifier) mark(ctx context.Context, d *exec.Database, how subjects.VerifyMode) (*comparing, error) {
	w, err := v.m.writer(d.Name())
	if err != nil {
		return nil, err
	}
	begun, answered := make(chan *comparing, 1), make(chan struct{})
	now := time.Now()
	c := &call{begun: now, ctx: ctx, req: &subjects.Request{}, rule: subjects.Ack{Kind: subjects.AckLog}, deadline: now.Add(writePatience), wrote: true,
		verify: how, compares: func(c *comparing) { begun <- c }, answer: func(*call, outcome) { close(answered) }}
	if err := w.submit(c); err != nil {
		return nil, err
	}
	select {
	case <-answered:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if c.failed != nil {
		return nil, c.failed
	}
	select {
	case c := <-begun:
		return c, nil
	default:
		return nil, subjects.Errorf(subjects.CodeUnavailable, "the master's copy of %s is behind its log", d.Name())
	}
}

// begin notes that a database was asked to be compared, at its present position, and
// sums up what the master holds there. It is called by the writer, before anything else
// is executed.
func (v *verifier) begin(d *exec.Database, before subjects.Head, how subjects.VerifyMode) *comparing {
	inc := d.Incarnation()
	c := &comparing{d: d, head: d.Head(), how: how, reports: map[string]*subjects.VerifyReport{}, done: make(chan struct{})}
	proof, err := v.p.begin(d, c.head.Position, how) // nothing else may wait for that
	v.mu.Lock()
	defer v.mu.Unlock()
	same := span{before, c.head}
	if was := v.idle[inc]; was.to == before {
		same.from = was.from
	}
	v.idle[inc] = same
	if old := v.all[inc]; old != nil && old.result == nil {
		old.own = &subjects.VerifyReport{Failed: "another comparison was begun"}
		v.decide(old, time.Now())
	}
	c.before = v.all[inc]
	c.keep(verifyKept)
	v.all[inc] = c
	v.seen[inc] = time.Now()
	if err != nil {
		v.settle(c, &subjects.VerifyReport{Failed: err.Error()})
		return c
	}
	v.m.goes(func(ctx context.Context) {
		own, worked := proof.run(ctx)
		v.mu.Lock()
		defer v.mu.Unlock()
		c.worked = worked
		v.settle(c, own)
	})
	return c
}

// settle notes what the master holds. v.mu is held.
func (v *verifier) settle(c *comparing, own *subjects.VerifyReport) {
	if c.own == nil {
		c.own, c.known = own, time.Now()
		v.decide(c, c.known)
	}
}

// changed says whether a database has changed between two heads of it, comparisons
// aside.
func (v *verifier) changed(from, to subjects.Head) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	same := v.idle[to.Incarnation]
	return from != to && (same.to != to || from.Position < same.from.Position)
}

// decideAll decides what has waited long enough, and forgets databases that are no more.
func (v *verifier) decideAll(now time.Time) {
	live := map[uint64]bool{}
	for _, d := range v.m.store.Databases() {
		live[d.Incarnation()] = true
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for inc, c := range v.all {
		if !live[inc] && c.result == nil {
			c.own = &subjects.VerifyReport{Failed: "the database was dropped"}
		}
		v.decide(c, now)
	}
	for inc := range v.seen {
		if !live[inc] {
			delete(v.seen, inc)
			delete(v.all, inc)
			delete(v.last, inc)
			delete(v.idle, inc)
		}
	}
}

// decide compares what the nodes have said, once all have who could. v.mu is held.
func (v *verifier) decide(c *comparing, now time.Time) {
	if c.own == nil || c.result != nil {
		return
	}
	slaves := v.m.fleet.hearing(c.d.Name())
	if c.own.Failed == "" {
		for id, s := range slaves {
			if c.reports[id] == nil && now.Sub(c.known) < s.patience() {
				return
			}
		}
	}
	v.judge(c, slaves, now)
	close(c.done)
	v.report(c)
}

// judge makes the result of a comparison of what is known now. v.mu is held.
func (v *verifier) judge(c *comparing, slaves map[string]hearing, now time.Time) {
	r := &subjects.Verification{Head: c.head, Database: c.d.Name(), Deep: c.how == subjects.VerifyDeep, At: now.UnixMilli(),
		Rows: c.own.Rows, Sum: c.own.Sum, Nodes: map[string]subjects.CopyVerification{}, Proven: true}
	odd := v.odd(c, len(slaves))
	for id, s := range slaves {
		r.Nodes[id] = compared(c, c.reports[id], s, odd)
	}
	r.Nodes[subjects.MasterID] = ownState(c, odd)
	for _, n := range r.Nodes {
		r.Proven = r.Proven && n.State == subjects.VerifyEqual
	}
	c.result = r
	if v.all[c.head.Incarnation] == c {
		v.last[c.head.Incarnation] = r
	}
}

// odd says whether most slaves agree with each other, and not with the master.
func (v *verifier) odd(c *comparing, slaves int) bool {
	if c.own.Failed != "" {
		return false
	}
	if c.own.Damage != "" {
		return true
	}
	n := map[string]int{}
	for _, r := range c.reports {
		if r.Sum != "" && r.Damage == "" {
			n[r.Sum]++
		}
	}
	for sum, k := range n {
		if sum != c.own.Sum && k > 1 && 2*k > slaves {
			return true
		}
	}
	return false
}

// compared is what became of a slave's copy.
func compared(c *comparing, r *subjects.VerifyReport, s hearing, odd bool) subjects.CopyVerification {
	switch {
	case r == nil && s.diverged != "":
		return subjects.CopyVerification{State: subjects.VerifyDifferent, Reason: s.diverged}
	case c.own.Failed != "":
		return subjects.CopyVerification{State: subjects.VerifyUnknown, Reason: "the master does not know what it holds: " + c.own.Failed}
	case r == nil:
		return subjects.CopyVerification{State: subjects.VerifyUnknown, Reason: "it did not say what it holds"}
	case r.Failed != "":
		return subjects.CopyVerification{State: subjects.VerifyUnknown, Reason: r.Failed}
	case r.Damage != "":
		return subjects.CopyVerification{State: subjects.VerifyDifferent, Reason: "its file is damaged: " + r.Damage}
	case r.Sum == c.own.Sum:
		return subjects.CopyVerification{State: subjects.VerifyEqual}
	case odd:
		return subjects.CopyVerification{State: subjects.VerifyUnknown, Reason: "it is the master's copy that differs from those of most slaves"}
	}
	return subjects.CopyVerification{State: subjects.VerifyDifferent, Tables: differing(c.own, r)}
}

// ownState is what became of the master's copy.
func ownState(c *comparing, odd bool) subjects.CopyVerification {
	switch {
	case c.own.Failed != "":
		return subjects.CopyVerification{State: subjects.VerifyUnknown, Reason: c.own.Failed}
	case c.own.Damage != "":
		return subjects.CopyVerification{State: subjects.VerifyDifferent, Reason: "its file is damaged: " + c.own.Damage}
	case odd:
		return subjects.CopyVerification{State: subjects.VerifyDifferent, Reason: "most slaves hold the same, and not this"}
	}
	return subjects.CopyVerification{State: subjects.VerifyEqual}
}

// report logs what was found. A master whose own copy is wrong takes no more writes.
// v.mu is held.
func (v *verifier) report(c *comparing) {
	log := v.m.log.With("database", c.d.Name(), "position", c.head.Position)
	for id, n := range c.result.Nodes {
		if n.State != subjects.VerifyDifferent {
			continue
		}
		log.Error("a copy is not equal to the others", "node", id, "tables", strings.Join(n.Tables, ", "), "reason", n.Reason)
		if id == subjects.MasterID {
			if w, err := v.m.writer(c.d.Name()); err == nil && w.db == c.d {
				w.stop(fmt.Errorf("the master's copy is wrong (%s): stop the master, remove %s.db* from its data directory and start it: it makes the database anew from its snapshot and the log", n.Reason, c.d.Name()))
			}
		}
	}
	if c.result.Proven {
		log.Debug("all copies are equal", "rows", c.result.Rows)
	}
}

// verify has a database compared for somebody who asks.
func (v *verifier) verify(ctx context.Context, who *caller, req *subjects.VerifyRequest) (*subjects.Verification, error) {
	if err := who.uses(req.DB); err != nil {
		return nil, err
	}
	d, err := v.m.store.Database(req.DB)
	if err != nil {
		return nil, err
	}
	patience := verifyPatience
	if req.TimeoutMS > 0 {
		patience = min(time.Duration(req.TimeoutMS)*time.Millisecond, proofLasts)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	how := subjects.VerifyContent
	if req.Deep {
		how = subjects.VerifyDeep
	}
	c, err := v.mark(ctx, d, how)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, subjects.Errorf(subjects.CodeTimeout, "database %s was not compared: writes of others, or an open transaction, took all of %v", d.Name(), patience)
	}
	if err != nil {
		return nil, err
	}
	select {
	case <-c.done:
		v.mu.Lock()
		defer v.mu.Unlock()
		return c.result, nil
	case <-ctx.Done():
		return nil, subjects.Errorf(subjects.CodeTimeout, "database %s was not compared in %v; it goes on, and db ls shows what comes of it", d.Name(), patience)
	}
}

// onReport notes what a slave holds, and says what the master thinks of that.
func (v *verifier) onReport(_ context.Context, who *caller, r *subjects.VerifyReport) (*subjects.VerifyVerdict, error) {
	if !who.is(r.ID) {
		return nil, subjects.Errorf(subjects.CodeForbidden, "only node %s may report for itself", r.ID)
	}
	if session, _ := v.m.fleet.present(r.ID); session == 0 || session != r.Session {
		return nil, errors.New("the report is not of the node's present session")
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	newest := v.all[r.Incarnation]
	if newest == nil || newest.head.Position < r.Position {
		return &subjects.VerifyVerdict{Wait: true}, nil // the slave was faster than the master's own commit
	}
	c := newest.find(r.Head)
	if c == nil {
		return &subjects.VerifyVerdict{}, nil
	}
	before := c.reports[r.ID]
	c.reports[r.ID] = r
	switch {
	case c.result == nil:
		v.decide(c, time.Now())
	case before == nil || before.Sum != r.Sum || before.Damage != r.Damage: // a late one, or of a copy made anew
		v.judge(c, v.m.fleet.hearing(c.d.Name()), time.Now())
		v.report(c)
	}
	if c.result == nil {
		return &subjects.VerifyVerdict{Wait: true}, nil
	}
	n := c.result.Nodes[r.ID]
	return &subjects.VerifyVerdict{Differs: n.State == subjects.VerifyDifferent, Tables: n.Tables}, nil
}

// results are the last comparisons, by database.
func (v *verifier) results() map[string]subjects.Verification {
	v.mu.Lock()
	defer v.mu.Unlock()
	all := map[string]subjects.Verification{}
	for _, r := range v.last {
		all[r.Database] = *r
	}
	return all
}

// hearing is how a slave and its copy of a database are.
type hearing struct {
	answers  bool   // it is there, and follows the log
	recent   bool   // it was a moment ago
	diverged string // why the copy does not
}

// patience is how long to wait for what the slave says.
func (s hearing) patience() time.Duration {
	switch {
	case s.diverged != "":
		return 0
	case s.answers:
		return verifyWait
	case s.recent:
		return verifyGrace
	}
	return 0
}

// hearing is that of all enrolled slaves.
func (f *fleet) hearing(db string) map[string]hearing {
	all := map[string]hearing{}
	for _, n := range f.nodes() {
		s := hearing{answers: n.State == subjects.StateOnline || n.State == subjects.StateLagging,
			recent: n.State != subjects.StateStopped && time.Since(n.LastSeen) < verifyGrace}
		if n.Status != nil && n.State != subjects.StateOffline {
			if d := n.Status.Databases[db]; d.State == subjects.StateDiverged {
				s.diverged = "it has diverged: " + d.Reason
			}
		}
		all[n.ID] = s
	}
	return all
}

// enrolled is how many slaves there are, present or not.
func (f *fleet) enrolled() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.ledger.slaves)
}
