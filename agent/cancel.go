package agent

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// Why a request ends before it is done. They are the causes of its context.
var (
	errCancelled = subjects.Errorf(subjects.CodeCancelled, "cancelled by the client")
	errStopping  = subjects.Errorf(subjects.CodeUnavailable, "the master is stopping")
	errDropping  = subjects.Errorf(subjects.CodeUnavailable, "the database is being dropped")
	errTooLong   = subjects.Errorf(subjects.CodeTimeout, "time limit reached")
)

// whenDone calls interrupt when ctx ends. Once the returned function has returned
// it is not called any more, so that it cannot hit whoever comes next.
func whenDone(ctx context.Context, interrupt func()) (release func()) {
	var mu sync.Mutex
	over := false
	stop := context.AfterFunc(ctx, func() {
		mu.Lock()
		defer mu.Unlock()
		if !over {
			interrupt()
		}
	})
	return func() {
		if !stop() {
			mu.Lock()
			over = true
			mu.Unlock()
		}
	}
}

// because replaces what an interrupted statement says by the reason why it was
// interrupted, if ctx has ended.
func because(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil {
		return err
	}
	we := exec.WireError(err)
	if we.Code != subjects.CodeCancelled {
		return err
	}
	why := *ending(ctx)
	why.Statement = we.Statement
	return &why
}

// ending is why ctx has ended, for a client.
func ending(ctx context.Context) *subjects.Error { return exec.WireError(context.Cause(ctx)) }

// onCancel stops what a session is executing.
func (m *Master) onCancel(msg *nats.Msg) {
	if who, err := m.warden.caller(micro.Headers(msg.Header)); err == nil {
		m.sessions.cancel(who.scope(string(msg.Data)))
	}
}

// cancel ends the request that a session is executing, if there is one.
func (s *sessions) cancel(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if x := s.open[name]; x != nil && x.cancel != nil {
		x.cancel(errCancelled)
	}
}

// withdraw takes back a call: one that waits is refused, one that is being
// executed is interrupted. One that is already on its way to the log goes on.
func (w *writer) withdraw(c *call, why *subjects.Error) {
	w.mu.Lock()
	if w.running == c {
		w.db.Interrupt()
		w.mu.Unlock()
		return
	}
	i := slices.Index(w.waiting, c)
	if i >= 0 {
		w.waiting = slices.Delete(w.waiting, i, i+1)
		w.bytes -= c.size
	}
	w.mu.Unlock()
	if i >= 0 {
		c.fail(nothingChanged(why))
	}
}

// expire refuses calls that have waited longer than they may. The writer itself may
// be busy with a transaction.
func (w *writer) expire(now time.Time) {
	w.mu.Lock()
	var late []*call
	left := w.waiting[:0]
	for _, c := range w.waiting {
		if now.Before(c.deadline) {
			left = append(left, c)
			continue
		}
		late = append(late, c)
		w.bytes -= c.size
	}
	clear(w.waiting[len(left):])
	w.waiting = left
	w.mu.Unlock()
	for _, c := range late {
		c.fail(errWaited)
	}
}

// errWaited: the writer did not come to a call in time.
var errWaited = subjects.Errorf(subjects.CodeTimeout, "the request waited longer than its time limit; nothing was changed")

// interrupt stops whatever is being executed.
func (w *writer) interrupt() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running != nil {
		w.db.Interrupt()
	}
}

// nothingChanged adds to an error what is true of a transaction that failed.
func nothingChanged(err *subjects.Error) *subjects.Error {
	we := *err
	we.Message += "; nothing was changed"
	return &we
}
