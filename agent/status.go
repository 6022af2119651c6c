package agent

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// headway compares what a slave has applied with what the master says there is.
// It is guarded by the slave's lock.
//
// Heads may come faster than they are satisfied. Only the oldest that is not
// and the newest are kept: the first tells how far behind the slave is, the
// second is the next to reach.
type headway struct {
	heads     map[string]subjects.Head // newest known
	chased    *target                  // oldest heads not satisfied
	newest    *target                  // newest heads, if not chased
	satisfied time.Time                // arrival of the last heads satisfied; zero: none yet
	cursor    uint64                   // of that
}

// target is what it takes to satisfy one heads message.
type target struct {
	at     time.Time
	cursor uint64
	behind map[string]subjects.Head
}

// covers says whether a database of the given incarnation and position has all
// that a head says. A younger incarnation has outlived the head.
func covers(inc, position uint64, h subjects.Head) bool {
	return inc > h.Incarnation || inc == h.Incarnation && position >= h.Position
}

// reached strikes a database from what is behind. It is true when heads were
// satisfied by it.
func (w *headway) reached(db string, inc, position uint64) bool {
	for _, t := range []*target{w.chased, w.newest} {
		if t == nil {
			continue
		}
		if h, ok := t.behind[db]; ok && covers(inc, position, h) {
			delete(t.behind, db)
		}
	}
	return w.settle()
}

func (w *headway) settle() bool {
	was := w.satisfied
	for w.chased != nil && len(w.chased.behind) == 0 {
		w.satisfied = w.chased.at
		w.cursor = max(w.cursor, w.chased.cursor)
		w.chased, w.newest = w.newest, nil
	}
	return w.satisfied != was
}

// staleness is how old the content may be: the time since heads came that it
// has satisfied. It is false when there were none.
func (w *headway) staleness(now time.Time) (time.Duration, bool) {
	return now.Sub(w.satisfied), !w.satisfied.IsZero()
}

// lag is what the status shows: nothing while the newest heads are satisfied and
// heads still come.
func (w *headway) lag(now time.Time) time.Duration {
	old, ever := w.staleness(now)
	switch {
	case !ever && w.chased != nil:
		return now.Sub(w.chased.at)
	case !ever || w.chased == nil && old < silence:
		return 0
	}
	return old
}

// listen subscribes to what the master says of its heads.
func (s *Slave) listen() error {
	sub, err := s.nc.Subscribe(subjects.Heads, func(msg *nats.Msg) {
		if s.current() == nil || !s.believe(msg) {
			return
		}
		var h subjects.HeadsMessage
		if err := json.Unmarshal(msg.Data, &h); err != nil {
			s.log.Warn("unreadable heads", "error", err)
			return
		}
		s.hear(&h)
	})
	if err == nil {
		err = sub.SetPendingLimits(64, 64<<20) // old heads are worth nothing
	}
	if err != nil {
		return fmt.Errorf("subscribe to heads: %w", err)
	}
	return nil
}

// hear takes a heads message while joined.
func (s *Slave) hear(h *subjects.HeadsMessage) {
	ses := s.current()
	switch {
	case ses == nil || h.Term < ses.term.Load():
		return // of a master that is no more
	case s.guard != nil && h.Number <= ses.heard:
		return // said before
	}
	ses.heard = h.Number
	// The master begins a new term now and then without ending sessions. Another
	// master cannot come without the connection being lost.
	ses.term.Store(h.Term)
	s.term.Store(h.Term)
	s.noteHeads(h)
	s.repeatAck(ses)
	s.check()
}

// noteHeads makes the heads a target.
func (s *Slave) noteHeads(h *subjects.HeadsMessage) {
	s.mu.Lock()
	t := &target{at: time.Now(), cursor: h.Cursor, behind: map[string]subjects.Head{}}
	for db, head := range h.Heads {
		if !s.has(db, head) {
			t.behind[db] = head
		}
	}
	s.way.heads = h.Heads
	if s.way.chased == nil {
		s.way.chased = t
	} else {
		s.way.newest = t
	}
	news := s.settled()
	s.mu.Unlock()
	s.advance.ring()
	if news {
		s.tell()
	}
}

// settled moves on to the next target, under the lock. It is true when the state
// of the node may have changed by it.
func (s *Slave) settled() bool {
	s.way.settle()
	if s.stay != nil && !s.stay.caught && s.way.chased == nil {
		s.stay.caught = true
		return true
	}
	return false
}

// has says whether this node has all that a head says. Of a database that is not
// here it has everything if it was here before, and was dropped since.
func (s *Slave) has(db string, h subjects.Head) bool {
	inc, position, ok := s.at(db)
	if !ok {
		return s.store.Catalog().Applied().Number >= h.Incarnation
	}
	return covers(inc, position, h)
}

// at is the incarnation and position of a database here.
func (s *Slave) at(db string) (inc, position uint64, ok bool) {
	d, ok := s.find(db)
	if !ok {
		return 0, 0, false
	}
	return d.Incarnation(), d.Applied().Number, true
}

// find is the database of that name, the catalog included.
func (s *Slave) find(db string) (*exec.Database, bool) {
	if db == subjects.Catalog {
		return s.store.Catalog().Database, true
	}
	d, err := s.store.Database(db)
	return d, err == nil
}

// noteApplied tells whoever waits that a database has come further.
func (s *Slave) noteApplied(d *exec.Database, position uint64) {
	s.mu.Lock()
	s.way.reached(d.Name(), d.Incarnation(), position)
	news := s.settled()
	s.mu.Unlock()
	s.advance.ring()
	if news {
		s.tell()
	}
}

// recheck compares everything again, after databases were made or dropped.
func (s *Slave) recheck() {
	s.mu.Lock()
	for _, t := range []*target{s.way.chased, s.way.newest} {
		if t == nil {
			continue
		}
		for db, h := range t.behind {
			if s.has(db, h) {
				delete(t.behind, db)
			}
		}
	}
	s.settled()
	s.mu.Unlock()
	s.advance.ring()
	s.tell()
}

// check looks whether the log still brings what the heads promise, and joins
// again if it does not.
func (s *Slave) check() {
	s.mu.Lock()
	ses, heads := s.stay, s.way.heads
	var promised time.Time // the oldest heads that were not reached
	if s.way.chased != nil {
		promised = s.way.chased.at
	}
	s.mu.Unlock()
	if ses == nil || ses.ctx.Err() != nil {
		return // the next join begins anew
	}
	read := ses.read.Load() // before looking at lanes and positions
	behind, busy := false, false
	for name, h := range heads {
		d, ok := s.find(name)
		if !ok || d.Incarnation() != h.Incarnation {
			behind = behind || !s.has(name, h)
			continue
		}
		l := s.lane(d)
		idle := l.idle() && (name != subjects.Catalog || s.idle()) // before its position
		at := d.Applied()
		switch {
		case !idle:
			busy = true
		case l.rejected():
			if h.Position >= at.Number && l.askOnce(at.Number) {
				s.leave(errAskAgain)
				return
			}
		case l.ill():
			if s.heal(l, time.Now()) {
				return
			}
		case at.Number == h.Position && at.Chain.String() != h.Chain:
			l.diverge(fmt.Sprintf("at position %d its history is not the master's", at.Number))
		case at.Number >= h.Position:
		case read >= h.Position:
			s.gap(l, at.Number)
			return
		default:
			behind = true
		}
	}
	arrived := ses.began.Add(time.Duration(ses.arrived.Load()))
	// After a while without writes heads may well be here before the write that they tell
	// of: it is late only once it has been known of for as long.
	if behind && !busy && time.Since(arrived) > silence && time.Since(promised) > silence {
		s.leave(errSilence)
	}
}

// gap treats a database whose next message was not where it should have been:
// it is read once more, and if that does not help, the copy stops.
func (s *Slave) gap(l *lane, at uint64) {
	inc := l.db.Incarnation()
	s.mu.Lock()
	before, again := s.gaps[inc]
	again = again && before == at
	s.gaps[inc] = at
	l.mu.Lock()
	s.foreign -= min(l.suspects, s.foreign) // they were the log's, after what is missing
	l.suspects = 0
	l.mu.Unlock()
	s.mu.Unlock()
	if again {
		l.fail(subjects.StateStopped, l.stuck(at))
		return
	}
	s.leave(errGap)
}

// ill says whether the lane applies nothing.
func (l *lane) ill() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state != ""
}

// Status is how the node is now.
func (s *Slave) Status() subjects.StatusMessage {
	facts := s.host.facts() // before the lock: a system may take its time to tell
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	st := subjects.StatusMessage{
		V: subjects.Version, ID: s.id, Boot: s.boot, Cursor: s.way.cursor, Databases: map[string]subjects.DatabaseStatus{},
		LagMS: s.way.lag(now).Milliseconds(), Foreign: s.foreign, Version: s.o.Version, Labels: s.labels.all(),
		Started: s.started, OS: runtime.GOOS, Arch: runtime.GOARCH, Host: facts, Power: s.o.Power != nil,
	}
	base := subjects.StateOnline
	switch {
	case s.stay == nil || !s.stay.caught:
		base = subjects.StateJoining
	case s.way.lag(now) > laggingAfter:
		base = subjects.StateLagging
	}
	if s.stay != nil {
		st.Session = s.stay.number
	}
	ill := s.databaseStates(&st, base)
	switch {
	case s.closing:
		st.State, st.Reason = subjects.StateStopped, "stopped cleanly"
	case s.stay == nil && s.refused != "":
		st.State, st.Reason = subjects.StateStopped, s.refused
	case ill != "":
		st.State = ill
	case s.stay == nil:
		st.State, st.Reason = base, "waiting for the master"
	default:
		st.State = base
	}
	return st
}

// databaseStates fills in the databases and the reason of the worst. It returns
// the worst state, "" if all are well.
func (s *Slave) databaseStates(st *subjects.StatusMessage, base subjects.State) subjects.State {
	worst := subjects.State("")
	for _, d := range append(s.store.Databases(), s.store.Catalog().Database) {
		ds := subjects.DatabaseStatus{Incarnation: d.Incarnation(), Position: d.Applied().Number, State: base}
		if h, ok := s.way.heads[d.Name()]; ok && h.Incarnation == d.Incarnation() {
			ds.Head = max(h.Position, ds.Position)
		}
		if l := s.copies[d.Incarnation()]; l != nil {
			if state, reason := l.condition(); state != "" {
				ds.State, ds.Reason = state, reason
				if worst != subjects.StateDiverged {
					worst, st.Reason = state, nameFirst(d.Name(), reason)
				}
			}
		}
		if ds.State == subjects.StateLagging && ds.Position >= ds.Head {
			ds.State = subjects.StateOnline
		}
		st.Databases[d.Name()] = ds
	}
	return worst
}

// nameFirst makes a reason say which database it is about.
func nameFirst(db, reason string) string {
	if strings.Contains(reason, db) {
		return reason
	}
	return "database " + db + ": " + reason
}

func (l *lane) condition() (subjects.State, string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state != "" && l.dropped > 0 {
		return l.state, fmt.Sprintf("%s (%d later messages not applied)", l.reason, l.dropped)
	}
	return l.state, l.reason
}

// publishStatus says how the node is, if anybody can hear it.
func (s *Slave) publishStatus() {
	if !s.nc.IsConnected() {
		return
	}
	// One after another, or an older status could be sent after a newer one.
	s.telling.Lock()
	defer s.telling.Unlock()
	data, err := json.Marshal(s.Status())
	if err == nil {
		err = s.nc.Publish(subjects.NodeStatus(s.id), data)
	}
	if err != nil {
		s.log.Debug("status not sent", "error", err)
	}
}
