package agent

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/snapdb/snapdb/broker"
	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// Bounds of applying.
const (
	// mergeMessages and mergeBytes bound what is applied in one SQLite
	// transaction when several messages wait.
	mergeMessages = 256
	mergeBytes    = 8 << 20
	// laneBytes is how much may wait for one database; the reader then waits too.
	laneBytes = 16 << 20
	// retryEvery is the pause before messages that failed for a reason outside
	// of them (disk full, blob out of reach) are tried again.
	retryEvery = 2 * time.Second
	// progressEvery is how often a long apply shows that it is at work.
	progressEvery = 400 * time.Millisecond
)

// take hands messages of the log to the databases they belong to, in order.
func (s *Slave) take(ses *session, batch []broker.Entry) error {
	for i := range batch {
		if err := s.route(ses.ctx, &batch[i]); err != nil {
			return err
		}
		// Only after it was handed over: whoever sees this position and an idle
		// lane knows that the lane has decided it.
		ses.read.Store(batch[i].Position)
	}
	ses.arrived.Store(int64(time.Since(ses.began)))
	return nil
}

// route hands over one message. The error is of ctx.
func (s *Slave) route(ctx context.Context, e *broker.Entry) error {
	m := e.Message
	switch {
	case e.Foreign != nil:
		s.countForeign(e.Position, e.Foreign.Error())
		return nil
	case m == nil:
		return nil // no message of the log, a change of term
	case m.Header.DB == subjects.Catalog:
		return s.applyCatalog(ctx, m)
	}
	d, err := s.store.Database(m.Header.DB)
	switch {
	case err == nil && d.Incarnation() == m.Header.Inc && d.Name() == m.Header.DB:
		return s.lane(d).push(ctx, m)
	case m.Position < s.store.Catalog().Applied().Number:
		return nil // of a database that was dropped since
	}
	s.countForeign(m.Position, "no such database: "+m.Header.DB)
	return nil
}

// countForeign counts a message that no master can have written, once.
func (s *Slave) countForeign(position uint64, reason string) {
	s.mu.Lock()
	news := position > s.counted
	if news {
		s.counted = position
		s.foreign++
	}
	s.mu.Unlock()
	if news {
		s.log.Warn("passing over a message on the log that is not from a master", "position", position, "reason", reason)
	}
}

// applyCatalog makes or drops a database. Everything before it in the log is
// applied first and everything after it waits.
func (s *Slave) applyCatalog(ctx context.Context, m *subjects.Message) error {
	c := s.store.Catalog()
	l := s.lane(c.Database)
	if l.broken() {
		l.drop(m)
		return nil
	}
	switch c.Applied().Continues(0, m) {
	case exec.Old:
		return nil
	case exec.Broken:
		l.suspect(m)
		return nil
	}
	for {
		if err := s.awaitIdle(ctx); err != nil {
			return err
		}
		err := s.store.ApplyCatalog(m)
		if err == nil {
			break
		}
		if l.judge(err) {
			l.drop(m)
			return nil
		}
		if !sleep(ctx, retryEvery) {
			return context.Cause(ctx)
		}
	}
	l.well()
	s.forgetDropped()
	l.tellApplied(m.Position)
	s.recheck()
	return nil
}

// awaitIdle waits until no lane has anything to do, but those that cannot.
func (s *Slave) awaitIdle(ctx context.Context) error {
	for {
		heard := s.quiet.heard()
		if s.idle() {
			return nil
		}
		select {
		case <-heard:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (s *Slave) idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.copies {
		if !l.idle() {
			return false
		}
	}
	return true
}

// lane finds or makes the lane of a database.
func (s *Slave) lane(d *exec.Database) *lane {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.copies[d.Incarnation()]
	if l == nil {
		l = &lane{s: s, db: d, applied: map[string]uint64{}, applying: map[string]uint64{}}
		s.copies[d.Incarnation()] = l
	}
	return l
}

// forgetDropped removes the lanes of databases that are no more.
func (s *Slave) forgetDropped() {
	live := map[uint64]bool{0: true}
	for _, d := range s.store.Databases() {
		live[d.Incarnation()] = true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for inc, l := range s.copies {
		if !live[inc] {
			l.halt()
			delete(s.copies, inc)
			delete(s.gaps, inc)
		}
	}
}

// lane brings the messages of one database to it, one batch after another. Its
// goroutine lives while there is something to apply.
type lane struct {
	s  *Slave
	db *exec.Database

	mu       sync.Mutex
	queue    []*subjects.Message
	bytes    int
	running  bool
	halted   bool
	state    subjects.State // "" while all is well, else stopped or diverged
	reason   string
	missed   bool   // messages were dropped that it would have needed
	dropped  uint64 // messages dropped since it is not well
	passed   uint64 // position of the last message that did not continue
	suspects uint64 // how many of them since the last that did
	room     bell   // rung when the queue shrinks

	// Of the goroutine.
	applied, applying map[string]uint64
	buf               []byte
	shown             time.Time   // when progress was last published
	statements        int         // done in the apply in hand
	blob              *blobReader // being applied
}

// push queues a message, waiting while too much waits already. A lane that does
// not apply drops it: what it misses is read again when it goes on.
func (l *lane) push(ctx context.Context, m *subjects.Message) error {
	for {
		l.mu.Lock()
		if l.halted || l.state != "" {
			l.missed = true
			l.dropped++
			l.mu.Unlock()
			return nil
		}
		if l.bytes+len(m.Data) <= laneBytes || len(l.queue) == 0 {
			l.queue = append(l.queue, m)
			l.bytes += len(m.Data)
			if !l.running {
				l.running = true
				l.s.lanes.Go(l.run)
			}
			l.mu.Unlock()
			return nil
		}
		heard := l.room.heard()
		l.mu.Unlock()
		select {
		case <-heard:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// drop counts a message that a lane in bad state does not get.
func (l *lane) drop(*subjects.Message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.missed = true
	l.dropped++
}

// empty forgets what waits. What is in hand goes on.
func (l *lane) empty() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue, l.bytes = nil, 0
	l.room.ring()
}

// halt ends the lane once what it has in hand is done.
func (l *lane) halt() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.halted = true
	l.queue, l.bytes = nil, 0
	l.room.ring()
}

// idle says whether nothing is being applied or waits. A lane that waits for
// its disk counts as idle: nothing will come of it for now.
func (l *lane) idle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.running || l.state != ""
}

// broken says whether the lane has ended for good.
func (l *lane) broken() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state == subjects.StateDiverged || l.halted
}

// run is the lane's goroutine.
func (l *lane) run() {
	for {
		batch := l.next()
		if batch == nil {
			l.s.quiet.ring()
			return
		}
		for len(batch) > 0 {
			n, err := l.apply(batch)
			batch = batch[n:]
			if err == nil {
				continue
			}
			if errors.Is(err, context.Canceled) || l.judge(err) {
				break
			}
			if !l.pause() {
				break
			}
		}
		if len(batch) == 0 {
			l.well()
		}
	}
}

// pause waits before the next try. It is false when there will be none.
func (l *lane) pause() bool {
	l.mu.Lock()
	halted := l.halted
	l.mu.Unlock()
	return !halted && sleep(l.s.life, retryEvery)
}

// next takes what waits, bounded, and leaves out what must not be applied. It
// is nil when nothing waits, and the goroutine then ends.
func (l *lane) next() []*subjects.Message {
	for {
		l.mu.Lock()
		if len(l.queue) == 0 {
			l.queue = nil
			l.running = false
			l.mu.Unlock()
			return nil
		}
		n, size := 0, 0
		for n < len(l.queue) && n < mergeMessages && (n == 0 || size+len(l.queue[n].Data) <= mergeBytes) {
			size += len(l.queue[n].Data)
			n++
		}
		batch := l.queue[:n:n]
		l.queue = l.queue[n:]
		l.bytes -= size
		l.room.ring()
		l.mu.Unlock()
		if batch = l.fitting(batch); len(batch) > 0 {
			return batch
		}
	}
}

// fitting keeps the messages that continue what is applied.
func (l *lane) fitting(batch []*subjects.Message) []*subjects.Message {
	at := l.db.Applied()
	fit := batch[:0]
	for _, m := range batch {
		switch at.Continues(l.db.Incarnation(), m) {
		case exec.Next:
			fit = append(fit, m)
			at = exec.Position{Number: m.Position, Chain: m.Header.Chain}
		case exec.Broken:
			l.suspect(m)
		}
	}
	return fit
}

// suspect notes a message that does not continue what is applied: either no
// master wrote it, then a later one will continue, or something before it is
// missing, then the heads will show it.
func (l *lane) suspect(m *subjects.Message) {
	l.mu.Lock()
	news := m.Position > l.passed
	first := l.suspects == 0
	if news {
		l.passed = m.Position
		l.suspects++
	}
	l.mu.Unlock()
	if !news {
		return
	}
	l.s.mu.Lock()
	l.s.foreign++
	l.s.mu.Unlock()
	if first {
		at := l.db.Applied()
		l.s.log.Warn("a message does not continue the history of its database; not applied", "database", l.db.Name(),
			"position", m.Position, "previous", m.Header.Prev, "applied", at.Number)
	}
}

// apply applies a batch and acknowledges what is in.
func (l *lane) apply(batch []*subjects.Message) (int, error) {
	l.shown, l.statements = time.Now(), 0
	n, err := l.db.Apply(l.s.work, batch, exec.Source{OpenBlob: l.openBlob, Progress: l.progress})
	if n > 0 {
		l.tellApplied(batch[n-1].Position)
	}
	var diverged *exec.DivergedError
	if errors.As(err, &diverged) && l.blob != nil {
		// Contents that are not those the log names say nothing about this copy.
		if wrong := l.blob.verify(); wrong != nil {
			err = wrong
		}
	}
	l.blob = nil
	return n, err
}

// tellApplied acknowledges a position and wakes whoever waits for it.
func (l *lane) tellApplied(position uint64) {
	if ses := l.s.current(); ses != nil {
		l.applied[l.db.Name()] = position
		l.buf = subjects.AppendAck(l.buf[:0], &subjects.AckMessage{Term: ses.term, Session: ses.number, Applied: l.applied})
		l.s.ack(l.buf)
	}
	l.s.noteApplied(l.db, position)
}

// progress shows now and then that a long apply is at work.
func (l *lane) progress(statements int) {
	l.statements = statements
	if time.Since(l.shown) < progressEvery {
		return
	}
	l.shown = time.Now()
	if ses := l.s.current(); ses != nil {
		l.applying[l.db.Name()] = uint64(statements)
		l.s.ack(subjects.AppendAck(nil, &subjects.AckMessage{Term: ses.term, Session: ses.number, Applying: l.applying}))
	}
}

func (s *Slave) current() *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.session
}

// ack publishes an acknowledgement. Without a connection it is dropped: the next
// join tells everything.
func (s *Slave) ack(data []byte) {
	if err := s.nc.Publish(subjects.NodeAck(s.id), data); err != nil {
		s.log.Debug("acknowledgement not sent", "error", err)
	}
}

// judge decides what an error means for the database; final is true when the
// same messages need not be tried again.
func (l *lane) judge(err error) (final bool) {
	var diverged *exec.DivergedError
	switch {
	case errors.Is(err, exec.ErrClosed):
		return true // dropped, or the slave is closing
	case errors.As(err, &diverged), errors.Is(err, exec.ErrForeignWrite):
		l.fail(subjects.StateDiverged, err.Error())
		return true
	}
	l.fail(subjects.StateStopped, err.Error())
	return false
}

// fail puts the lane in a state in which it applies nothing, with the reason.
func (l *lane) fail(state subjects.State, reason string) {
	l.mu.Lock()
	news := l.state != state || l.reason != reason
	l.state, l.reason = state, reason
	if len(l.queue) > 0 {
		l.missed = true
		l.dropped += uint64(len(l.queue))
		l.queue, l.bytes = nil, 0
		l.room.ring()
	}
	l.mu.Unlock()
	l.s.quiet.ring()
	if news {
		l.s.log.Error("the copy takes no more changes", "database", l.db.Name(), "state", state, "reason", reason,
			"position", l.db.Applied().Number)
		l.s.tell()
	}
}

// well notes that messages were applied: what did not continue before was
// somebody else's, and a stop is over.
func (l *lane) well() {
	l.mu.Lock()
	recovered := l.state == subjects.StateStopped
	missed := l.missed
	l.suspects = 0
	if recovered {
		l.state, l.reason, l.missed, l.dropped = "", "", false, 0
	}
	l.mu.Unlock()
	if !recovered {
		return
	}
	l.s.log.Info("the copy goes on", "database", l.db.Name())
	if missed {
		l.s.leave(errRecovered)
	}
	l.s.tell()
}

// sleep pauses; false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
