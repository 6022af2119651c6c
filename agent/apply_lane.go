package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// lane brings the messages of one database to it, one batch after another. While
// there is something to apply it has a goroutine of the slave's crew.
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
	missed   bool           // messages were dropped that it would have needed
	dropped  uint64         // messages dropped since it is not well
	passed   uint64         // position of the last message that did not continue
	suspects uint64         // how many of them since the last that did
	forged   forgery        // the last message that would continue, if the master had written it
	refused  bool           // the state comes from the master's answer to a join
	asked    uint64         // position about which the master was asked again
	seeding  bool           // it is to be replaced by a snapshot
	wrong    string         // how the node knows by itself that the content is not the log's; "": it does not
	damaged  bool           // its file is, and must be made anew
	room     bell           // rung when the queue shrinks
	ended    sync.WaitGroup // of its goroutine

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
			if !l.running && l.s.lanes.do(l.run) { // refused only when the slave is closing
				l.running = true
				l.ended.Add(1)
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
	defer l.ended.Done()
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
			if lost(err) {
				l.s.leave(errGap) // the log may have been shortened meanwhile
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
	if !sleep(l.s.life, retryEvery) {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.halted && !l.seeding // it gets a snapshot instead
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
			if subjects.VerifyOf(l.queue[n-1].Data) != "" {
				break // what the copy holds just then is asked for
			}
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
			if err := l.s.genuine(m); err != nil {
				l.refuse(m, err)
				continue
			}
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

// forgery is a message that takes a place in the history of a database, and is not from
// the master.
type forgery struct {
	position, prev uint64
	why            error
}

// refuse notes a message that would continue what is applied, and is not from the
// master. If the master has written another one for this place, that comes later; if it
// has not, the heads will show that something is missing.
func (l *lane) refuse(m *subjects.Message, why error) {
	l.mu.Lock()
	news := m.Position > l.passed
	if news {
		l.passed = m.Position
	}
	l.forged = forgery{m.Position, m.Header.Prev, why}
	l.mu.Unlock()
	if news {
		l.s.forged(fmt.Sprintf("position %d of the log, database %s", m.Position, l.db.Name()), why)
	}
}

// stuck says why nothing follows a position.
func (l *lane) stuck(at uint64) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f := l.forged; f.why != nil && f.prev == at {
		return fmt.Sprintf("what the log has after position %d, at %d, is not from the master: %v", at, f.position, f.why)
	}
	return fmt.Sprintf("the log does not continue from position %d", at)
}

// apply applies a batch and acknowledges what is in.
func (l *lane) apply(batch []*subjects.Message) (int, error) {
	l.shown, l.statements = time.Now(), 0
	n, err := l.db.Apply(l.s.work, batch, exec.Source{OpenBlob: l.openBlob, Image: l.fetchImage, Progress: l.progress})
	if n > 0 {
		if how := subjects.VerifyOf(batch[n-1].Data); how != "" {
			l.s.prove(l.db, batch[n-1], how)
		}
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
	if ses := l.s.current(); ses != nil && !l.rejected() {
		l.applied[l.db.Name()] = position
		l.buf = subjects.AppendAck(l.buf[:0], &subjects.AckMessage{Term: ses.term.Load(), Session: ses.number, Applied: l.applied})
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
		l.s.ack(subjects.AppendAck(nil, &subjects.AckMessage{Term: ses.term.Load(), Session: ses.number, Applying: l.applying}))
	}
}

// judge decides what an error means for the database; final is true when the
// same messages need not be tried again.
func (l *lane) judge(err error) (final bool) {
	var diverged *exec.DivergedError
	switch {
	case errors.Is(err, exec.ErrClosed):
		return true // dropped, or the slave is closing
	case l.damage(err):
		return true
	case errors.As(err, &diverged), errors.Is(err, exec.ErrForeignWrite):
		l.diverge(err.Error())
		return true
	}
	l.fail(subjects.StateStopped, err.Error())
	return false
}

// diverge notes that the content is not what the log says.
func (l *lane) diverge(reason string) {
	l.mu.Lock()
	l.wrong = reason
	l.mu.Unlock()
	l.fail(subjects.StateDiverged, reason)
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
	switch {
	case news && state == subjects.StateJoining:
		l.s.log.Info("the copy waits for a snapshot", "database", l.db.Name(), "reason", reason, "position", l.db.Applied().Number)
		l.s.tell()
	case news:
		l.s.log.Error("the copy takes no more changes", "database", l.db.Name(), "state", state, "reason", reason,
			"position", l.db.Applied().Number)
		l.s.tell()
	}
}

// reject notes that the master does not know the position of this copy.
func (l *lane) reject(reason string) {
	l.mu.Lock()
	if l.wrong != "" {
		reason = l.wrong + "; " + reason
	}
	l.mu.Unlock()
	l.fail(subjects.StateDiverged, reason)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused, l.seeding = true, false
}

// accept notes that the master knows the position of this copy: if it did not
// before, it was itself not so far yet.
func (l *lane) accept() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if (l.refused || l.seeding) && l.wrong == "" {
		l.state, l.reason, l.refused, l.seeding, l.missed, l.dropped = "", "", false, false, false, 0
	}
}

// rejected says whether the master does not know the position of this copy.
func (l *lane) rejected() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refused
}

// askOnce says whether the master should be asked again about a position; once.
func (l *lane) askOnce(position uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	news := l.asked != position
	l.asked = position
	return news
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
