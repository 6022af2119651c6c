package agent

import (
	"context"
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
func (s *Slave) take(ses *stay, batch []broker.Entry) error {
	for i := range batch {
		if err := s.route(ses.ctx, &batch[i]); err != nil {
			return err
		}
		// Only after it was handed over: whoever sees this position and an idle
		// lane knows that the lane has decided it.
		ses.read.Store(batch[i].Position)
		ses.arrived.Store(int64(time.Since(ses.began))) // handing over may take its time
	}
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
	if err := s.genuine(m); err != nil {
		l.refuse(m, err)
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
			delete(s.heals, inc)
		}
	}
}

// dropLane ends the lane of a database whose file is about to be another.
func (s *Slave) dropLane(d *exec.Database) {
	s.mu.Lock()
	l := s.copies[d.Incarnation()]
	delete(s.copies, d.Incarnation())
	delete(s.gaps, d.Incarnation())
	s.mu.Unlock()
	if l != nil {
		l.halt()
		l.ended.Wait()
	}
}

func (s *Slave) current() *stay {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stay
}

// ack publishes an acknowledgement. Without a connection it is dropped: the next
// join tells everything.
func (s *Slave) ack(data []byte) {
	if err := s.nc.Publish(subjects.NodeAck(s.id), data); err != nil {
		s.log.Debug("acknowledgement not sent", "error", err)
	}
}

// claims are the positions that this node may acknowledge: those of copies that are
// the log's.
func (s *Slave) claims() map[string]uint64 {
	applied := map[string]uint64{}
	for _, d := range append(s.store.Databases(), s.store.Catalog().Database) {
		if !s.lane(d).rejected() {
			applied[d.Name()] = d.Applied().Number
		}
	}
	return applied
}

// repeatAck acknowledges again what has changed since the last time: an
// acknowledgement may be lost on its way, and the last one has none after it.
func (s *Slave) repeatAck(ses *stay) {
	applied := s.claims()
	for db, position := range applied {
		if ses.repeated[db] == position {
			delete(applied, db)
			continue
		}
		ses.repeated[db] = position
	}
	if len(applied) > 0 {
		s.ack(subjects.AppendAck(nil, &subjects.AckMessage{Term: ses.term.Load(), Session: ses.number, Applied: applied}))
	}
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
