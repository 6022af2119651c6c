package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/snapdb/snapdb/subjects"
)

// Times of sending.
const (
	// answerPatience is how long a node may take to answer that it has a command.
	answerPatience = 10 * time.Second
	// againAfter is the pause before a node is tried again that seemed to be there
	// and was not.
	againAfter = time.Second
	// lookEvery is how often what is under way is looked at without a cause.
	lookEvery = time.Second
)

// ErrAway: a command certainly did not reach its node.
var ErrAway = errors.New("the node is away")

// Fleet is how the dispatcher reaches nodes.
type Fleet interface {
	// Present says in which session a node is there; 0 that it is away, and why.
	Present(node string) (session uint64, reason string)
	// Send gives a command to a node and returns its answer. The error wraps
	// ErrAway if nobody got it.
	Send(ctx context.Context, node string, req *subjects.CtlRequest) (*subjects.CtlResponse, error)
}

// Dispatcher sends the commands of a book to their nodes when they are due.
type Dispatcher struct {
	book  *Book
	fleet Fleet
	log   *slog.Logger
	kick  chan struct{}
	sends sync.WaitGroup

	mu      sync.Mutex
	flights map[flightKey]*flight
}

type flightKey struct{ id, node string }

// flight is a command on its way to, or at, one node.
type flight struct {
	session uint64 // to which it was sent last; 0: not since this process started
	busy    bool   // a send is under way
	heard   time.Time
	again   time.Time // not before, if it did not arrive
}

// NewDispatcher makes the dispatcher of a book.
func NewDispatcher(book *Book, fleet Fleet, log *slog.Logger) *Dispatcher {
	return &Dispatcher{book: book, fleet: fleet, log: log, kick: make(chan struct{}, 1), flights: map[flightKey]*flight{}}
}

// Kick makes the dispatcher look at once, after a node has come or gone.
func (d *Dispatcher) Kick() {
	select {
	case d.kick <- struct{}{}:
	default:
	}
}

// Run sends until ctx ends, and returns when nothing is being sent any more.
func (d *Dispatcher) Run(ctx context.Context) {
	defer d.sends.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.kick:
		case <-timer.C:
		}
		open := d.book.Open()
		for i := range open {
			if err := d.serve(ctx, &open[i], time.Now()); err != nil {
				d.log.Error("commands cannot be recorded; not sending", "command", open[i].ID, "error", err)
			}
		}
		d.forget(open)
		if len(open) > 0 {
			timer.Reset(lookEvery)
		}
	}
}

// forget drops the flights of what has ended.
func (d *Dispatcher) forget(open []subjects.CommandRecord) {
	live := map[string]bool{}
	for _, r := range open {
		live[r.ID] = true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for k, f := range d.flights {
		if !live[k.id] && !f.busy {
			delete(d.flights, k)
		}
	}
}

// serve does what is due for one command.
func (d *Dispatcher) serve(ctx context.Context, r *subjects.CommandRecord, now time.Time) error {
	var fail, flying, send []string
	why := map[string]subjects.NodeOutcome{}
	end := func(node string, state subjects.CommandState, reason string) {
		fail = append(fail, node)
		why[node] = subjects.NodeOutcome{State: state, Reason: reason}
	}
	last := time.Time{} // when the newest of a batch ended
	for _, n := range r.Nodes {
		session, reason := d.fleet.Present(n.Node)
		f := d.flight(r.ID, n)
		switch {
		case n.State == subjects.CommandQueued && now.Before(r.At):
		case n.State == subjects.CommandQueued && !r.Expires.IsZero() && now.After(r.Expires):
			end(n.Node, subjects.CommandExpired, "not sent before it expired; "+reason)
		case n.State == subjects.CommandQueued && session == 0:
			switch {
			case r.Away == subjects.AwaySkip:
				end(n.Node, subjects.CommandFailed, "skipped: the node is away, "+reason)
			case r.Away == subjects.AwayWait && now.After(later(r.Created, r.At).Add(timeout(r))):
				end(n.Node, subjects.CommandExpired, "the node did not come back in time, "+reason)
			}
		case n.State == subjects.CommandQueued && !now.Before(f.again):
			send = append(send, n.Node)
		case n.State.Ended():
			if !n.Sent.IsZero() {
				last = later(last, n.Ended)
			}
		case n.State != subjects.CommandQueued:
			if now.After(f.heard.Add(timeout(r))) {
				end(n.Node, subjects.CommandTimedOut, "no word from the node for "+timeout(r).String())
				continue
			}
			flying = append(flying, n.Node)
			if session != 0 && session != f.session && !f.busy {
				d.send(ctx, r, n.Node, session)
			}
		}
	}
	if len(fail) > 0 {
		err := d.book.Update(r.ID, func(n *subjects.NodeOutcome) bool {
			w, ok := why[n.Node]
			if ok {
				n.State, n.Reason, n.Ended = w.State, w.Reason, now
			}
			return ok
		})
		if err != nil {
			return err
		}
	}
	if r.Batch > 0 {
		pause := time.Duration(r.PauseMS) * time.Millisecond
		if len(flying) > 0 || !last.IsZero() && now.Before(last.Add(pause)) {
			return nil
		}
		send = send[:min(len(send), r.Batch)]
	}
	return d.begin(ctx, r, send, now)
}

// begin sends a command to nodes for the first time.
func (d *Dispatcher) begin(ctx context.Context, r *subjects.CommandRecord, nodes []string, now time.Time) error {
	if len(nodes) == 0 {
		return nil
	}
	due := map[string]bool{}
	for _, node := range nodes {
		due[node] = true
	}
	// First the record: whatever happens then, it was sent.
	err := d.book.Update(r.ID, func(n *subjects.NodeOutcome) bool {
		if !due[n.Node] || n.State != subjects.CommandQueued {
			delete(due, n.Node) // cancelled meanwhile
			return false
		}
		n.State, n.Sent = subjects.CommandSent, now
		return true
	})
	if err != nil {
		return err
	}
	for node := range due {
		session, _ := d.fleet.Present(node)
		d.send(ctx, r, node, session)
	}
	return nil
}

// flight finds or makes the flight of a command to a node.
func (d *Dispatcher) flight(id string, n subjects.NodeOutcome) flight {
	d.mu.Lock()
	defer d.mu.Unlock()
	return *d.flightOf(flightKey{id, n.Node})
}

// flightOf is flight under d.mu.
func (d *Dispatcher) flightOf(k flightKey) *flight {
	f := d.flights[k]
	if f == nil {
		f = &flight{heard: time.Now()}
		d.flights[k] = f
	}
	return f
}

// send gives a command to a node, in a goroutine of its own.
func (d *Dispatcher) send(ctx context.Context, r *subjects.CommandRecord, node string, session uint64) {
	k := flightKey{r.ID, node}
	d.mu.Lock()
	f := d.flightOf(k)
	f.session, f.busy, f.heard = session, true, time.Now()
	d.mu.Unlock()
	req := &subjects.CtlRequest{Op: r.Op, ID: r.ID, Args: r.Args, Expires: r.Expires}
	away := r.Away
	d.sends.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, answerPatience)
		defer cancel()
		resp, err := d.fleet.Send(ctx, node, req)
		d.mu.Lock()
		f.busy = false
		if errors.Is(err, ErrAway) {
			f.again = time.Now().Add(againAfter)
		}
		d.mu.Unlock()
		switch {
		case err == nil:
			if resp.ID == "" {
				resp.ID = req.ID // a node that does not know the op does not repeat it
			}
			err = d.Report(node, resp)
		case errors.Is(err, ErrAway):
			err = d.returned(req.ID, node, away)
		default:
			err = nil // no answer: it is asked again when the node is back, or times out
		}
		if err != nil {
			d.log.Error("the outcome of a command cannot be recorded", "command", req.ID, "node", node, "error", err)
		}
		d.Kick()
	})
}

// returned puts a command back that did not reach its node.
func (d *Dispatcher) returned(id, node string, away subjects.AwayPolicy) error {
	return d.book.Update(id, func(n *subjects.NodeOutcome) bool {
		if n.Node != node || n.State != subjects.CommandSent {
			return false
		}
		n.State, n.Sent = subjects.CommandQueued, time.Time{}
		if away == subjects.AwaySkip {
			n.State, n.Reason, n.Ended = subjects.CommandFailed, "skipped: the node is away", time.Now()
		}
		return true
	})
}

// Report takes a node's word on a command. A command that is not in the book was
// given to the node directly, and gets a record of its own.
func (d *Dispatcher) Report(node string, resp *subjects.CtlResponse) error {
	if resp.Node != node {
		return fmt.Errorf("%w: node %s reports in the name of %s", ErrReport, node, clip(resp.Node))
	}
	switch resp.State {
	case subjects.CommandAccepted, subjects.CommandDone, subjects.CommandFailed, subjects.CommandCancelled:
	default:
		return fmt.Errorf("%w: %q is no state that a node reports", ErrReport, clip(string(resp.State)))
	}
	if resp.ID == "" || len(resp.ID) > maxID {
		return fmt.Errorf("%w: the id of a command has 1 to %d characters", ErrReport, maxID)
	}
	now := time.Now()
	d.mu.Lock()
	if f := d.flights[flightKey{resp.ID, node}]; f != nil {
		f.heard = now
	}
	d.mu.Unlock()
	known := false
	note := func(n *subjects.NodeOutcome) bool {
		if n.Node != node {
			return false
		}
		known = true
		n.State, n.Reason, n.Progress, n.Total = resp.State, resp.Reason, resp.Progress, resp.Total
		if resp.State.Ended() {
			n.Ended, n.Output = now, resp.Output
		} else if n.Accepted.IsZero() {
			n.Accepted = now
		}
		return true
	}
	err := d.book.Update(resp.ID, note)
	if errors.Is(err, ErrUnknown) {
		n := subjects.NodeOutcome{Node: node, Sent: now}
		note(&n)
		_, err = d.book.Add(subjects.CommandRecord{ID: resp.ID, Op: resp.Op, By: "nats", To: node, Created: now,
			Away: subjects.AwaySkip, TimeoutMS: DefaultTimeout(resp.Op, nil).Milliseconds(), Nodes: []subjects.NodeOutcome{n}})
	}
	if err == nil && !known {
		return fmt.Errorf("%w: command %s was not for node %s", ErrReport, resp.ID, node)
	}
	d.Kick()
	return err
}

// ErrReport: a report cannot be right.
var ErrReport = errors.New("not a report of this node")

// maxID is the longest id of a command.
const maxID = 64

// Cancel withdraws a command from those of its nodes that have not ended; of
// nodes, if that is not empty, only. What a node is already at it is told to give
// up: the errors say which do not.
func (d *Dispatcher) Cancel(ctx context.Context, id string, nodes map[string]bool) error {
	now := time.Now()
	var abort []string
	err := d.book.Update(id, func(n *subjects.NodeOutcome) bool {
		if len(nodes) > 0 && !nodes[n.Node] || n.State.Ended() {
			return false
		}
		session, reason := d.fleet.Present(n.Node)
		switch {
		case n.State == subjects.CommandQueued:
			n.State, n.Ended = subjects.CommandCancelled, now
			return true
		case session == 0:
			n.State, n.Reason, n.Ended = subjects.CommandCancelled, "given up while the node was away, which had it already: "+reason, now
			return true
		}
		abort = append(abort, n.Node)
		return false
	})
	if err != nil {
		return err
	}
	args, err := json.Marshal(subjects.AbortArgs{ID: id})
	if err != nil {
		return fmt.Errorf("encode abort: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, answerPatience)
	defer cancel()
	errs := make([]error, len(abort))
	var wg sync.WaitGroup
	for i, node := range abort {
		wg.Go(func() {
			resp, err := d.fleet.Send(ctx, node, &subjects.CtlRequest{Op: subjects.OpAbort, Args: args})
			switch {
			case err != nil:
				errs[i] = fmt.Errorf("node %s: %w", node, err)
			case resp.State != subjects.CommandDone:
				errs[i] = fmt.Errorf("node %s: %s", node, resp.Reason)
			}
		})
	}
	wg.Wait()
	d.Kick()
	return errors.Join(errs...)
}

// DefaultTimeout is how long a node may be silent about a command that it was
// sent, if nothing else is said.
func DefaultTimeout(op subjects.Op, args json.RawMessage) time.Duration {
	switch op {
	case subjects.OpShutdown, subjects.OpReboot:
		var a subjects.ShutdownArgs
		_ = json.Unmarshal(args, &a) // what cannot be read has no grace
		return time.Minute + time.Duration(a.GraceMS)*time.Millisecond
	case subjects.OpWallpaper, subjects.OpPush, subjects.OpFetch:
		return time.Minute
	case subjects.OpResync:
		return 10 * time.Minute
	}
	return 20 * time.Second
}

func timeout(r *subjects.CommandRecord) time.Duration {
	if r.TimeoutMS > 0 {
		return time.Duration(r.TimeoutMS) * time.Millisecond
	}
	return DefaultTimeout(r.Op, r.Args)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func clip(s string) string {
	if len(s) > maxID {
		return s[:maxID] + "…"
	}
	return s
}
