package agent

import (
	"sort"
	"time"

	"github.com/snapdb/snapdb/subjects"
)

// In-sync timing.
const (
	// ackPatience is how long an in-sync slave may go without progress before the
	// others stop waiting for it.
	ackPatience = 2 * time.Second
	// resyncAfter is how long a slave that was dropped must have covered the head
	// before it counts as in sync again; it doubles with every drop.
	resyncAfter = 5 * time.Second
	// resyncMost bounds that doubling.
	resyncMost = 10 * time.Minute
)

// ledger keeps, for every database, which slaves have applied what, which are in
// sync, and which clients wait for which positions. All of it is guarded by the
// fleet's lock, under which its methods are called.
type ledger struct {
	slaves map[string]*account // every enrolled slave
	books  map[string]*book    // by database
	log    func(slave, database, what string)
	ending bool // the master stops: nobody waits any longer
}

// account is one slave in the ledger.
type account struct {
	id      string
	live    bool // it has a session
	session uint64
	books   map[string]*standing
}

// standing is one slave in one database.
type standing struct {
	acked    uint64
	early    uint64 // acknowledged before the master knew that it is in the log
	inSync   bool
	progress time.Time // last acknowledgement or sign of work while behind
	covered  time.Time // since when it has covered the head; zero: it has not
	penalty  time.Duration
}

// book is one database: its head and what waits for acknowledgement, in order.
type book struct {
	head  uint64
	at    time.Time // when the head was logged
	open  []*page
	drops uint64
}

// page is one logged group whose clients are not all answered.
type page struct {
	position uint64
	at       time.Time
	missing  map[*account]struct{} // in sync at the PubAck and not yet applied
	waiting  []*waiter
}

// waiter is a client waiting for its acknowledgement rule.
type waiter struct {
	rule     subjects.Ack
	deadline time.Time
	done     func(outcome)
}

// outcome tells a client what is known of its write.
type outcome struct {
	position uint64
	applied  []string
	pending  []string
	met      bool
}

func newLedger() *ledger {
	return &ledger{slaves: map[string]*account{}, books: map[string]*book{}}
}

func (l *ledger) book(db string) *book {
	b := l.books[db]
	if b == nil {
		b = &book{}
		l.books[db] = b
	}
	return b
}

func (l *ledger) account(id string) *account {
	a := l.slaves[id]
	if a == nil {
		a = &account{id: id, books: map[string]*standing{}}
		l.slaves[id] = a
	}
	return a
}

func (a *account) standing(db string) *standing {
	s := a.books[db]
	if s == nil {
		s = &standing{}
		a.books[db] = s
	}
	return s
}

// enter resets what is believed of a slave to what it says at its join. Where it
// covers the head it is in sync at once, unless it was dropped before.
func (l *ledger) enter(id string, session uint64, applied map[string]uint64, now time.Time) {
	a := l.account(id)
	a.live, a.session = true, session
	for db := range a.books {
		if _, ok := applied[db]; !ok {
			delete(a.books, db)
		}
	}
	for db, position := range applied {
		s := a.standing(db)
		s.acked, s.inSync, s.progress, s.covered = position, false, now, time.Time{}
		l.cover(db, s, now)
	}
	l.settle(now)
}

// leave ends a slave's session: nobody waits for it any more.
func (l *ledger) leave(id string, now time.Time) {
	a := l.slaves[id]
	if a == nil || !a.live {
		return
	}
	a.live = false
	for db, s := range a.books {
		s.inSync, s.covered = false, time.Time{}
		l.release(db, a)
	}
	l.settle(now)
}

// forget removes a slave that will not come back.
func (l *ledger) forget(id string, now time.Time) {
	l.leave(id, now)
	delete(l.slaves, id)
	l.settle(now)
}

// drop forgets a database.
func (l *ledger) drop(db string) {
	delete(l.books, db)
	for _, a := range l.slaves {
		delete(a.books, db)
	}
}

// logged enters a group that was stored at position, with the clients that wait.
func (l *ledger) logged(db string, position uint64, waiting []*waiter, now time.Time) {
	b := l.book(db)
	b.head, b.at = position, now
	p := &page{position: position, at: now, waiting: waiting, missing: map[*account]struct{}{}}
	for _, a := range l.slaves {
		s := a.books[db]
		if s == nil {
			continue
		}
		if s.early == position {
			s.acked, s.progress = position, now
		}
		s.early = 0
		if s.inSync && s.acked < position {
			if len(b.open) == 0 {
				s.progress = now // it had nothing to do until now
			}
			p.missing[a] = struct{}{}
		}
	}
	b.open = append(b.open, p)
	l.turn(db, b, now)
}

// acknowledge takes a slave's word that it has applied db up to position.
func (l *ledger) acknowledge(a *account, db string, position uint64, now time.Time) {
	b := l.books[db]
	if b == nil {
		return
	}
	s := a.standing(db)
	switch {
	case position <= s.acked:
		return
	case position > b.head:
		// A quick slave answers before the master has its own. One message of a
		// database is under way at a time: if it is not this one, it is none.
		s.early = position
		return
	}
	s.acked, s.progress = position, now
	l.cover(db, s, now)
	for _, p := range b.open {
		if p.position > position {
			break
		}
		delete(p.missing, a)
	}
	l.turn(db, b, now)
}

// working takes a slave's word that it is busy applying.
func (l *ledger) working(a *account, db string, now time.Time) {
	a.standing(db).progress = now
}

// cover notes whether a slave has the head, and lets it back in sync in time.
func (l *ledger) cover(db string, s *standing, now time.Time) {
	if s.acked < l.book(db).head {
		s.covered = time.Time{}
		return
	}
	if s.covered.IsZero() {
		s.covered = now
	}
	if now.Sub(s.covered) >= s.penalty {
		s.inSync = true
	}
}

// release strikes a slave from everything that waits for it in db.
func (l *ledger) release(db string, a *account) {
	if b := l.books[db]; b != nil {
		for _, p := range b.open {
			delete(p.missing, a)
		}
	}
}

// tick drops slaves that make no progress from the in-sync set, lets recovered
// ones back, and ends waits whose time is up.
func (l *ledger) tick(now time.Time) {
	for db, b := range l.books {
		for _, a := range l.slaves {
			s := a.books[db]
			if s == nil || !a.live {
				continue
			}
			behind := s.acked < b.head
			switch {
			case s.inSync && behind && now.Sub(later(s.progress, oldestAfter(b, s.acked))) > ackPatience:
				s.inSync = false
				s.penalty = min(max(2*s.penalty, resyncAfter), resyncMost)
				l.release(db, a)
				if l.log != nil {
					l.log(a.id, db, "no longer in sync: no progress")
				}
			case !s.inSync && !behind:
				l.cover(db, s, now)
			}
		}
	}
	l.settle(now)
}

// end answers everybody with what is known now, and whoever comes later at once.
func (l *ledger) end(now time.Time) {
	l.ending = true
	l.settle(now)
}

// settle answers whoever can be answered.
func (l *ledger) settle(now time.Time) {
	for db, b := range l.books {
		l.turn(db, b, now)
	}
}

// turn answers the clients of db whose rule is met or whose time is up, and
// forgets pages on which nobody waits.
func (l *ledger) turn(db string, b *book, now time.Time) {
	kept := b.open[:0]
	for _, p := range b.open {
		l.serve(db, p, now)
		if len(p.waiting) > 0 {
			kept = append(kept, p)
		}
	}
	clear(b.open[len(kept):])
	b.open = kept
}

func (l *ledger) serve(db string, p *page, now time.Time) {
	if len(p.waiting) == 0 {
		return
	}
	var result *outcome // the same lists for all clients of the page
	left := p.waiting[:0]
	for _, w := range p.waiting {
		met := l.met(db, p, w.rule)
		if !met && !l.ending && now.Before(w.deadline) {
			left = append(left, w)
			continue
		}
		if result == nil {
			result = &outcome{position: p.position}
			result.applied, result.pending = l.who(db, p.position)
		}
		o := *result
		o.met = met
		w.done(o)
	}
	clear(p.waiting[len(left):])
	p.waiting = left
}

func (l *ledger) met(db string, p *page, rule subjects.Ack) bool {
	switch rule.Kind {
	case subjects.AckLog:
		return true
	case subjects.AckAll:
		return l.count(db, p.position) == len(l.slaves)
	case subjects.AckCount:
		return l.count(db, p.position) >= rule.Count
	}
	return len(p.missing) == 0
}

func (l *ledger) count(db string, position uint64) int {
	n := 0
	for _, a := range l.slaves {
		if a.has(db, position) {
			n++
		}
	}
	return n
}

// has says whether a slave's current session has acknowledged a position.
func (a *account) has(db string, position uint64) bool {
	s := a.books[db]
	return a.live && s != nil && s.acked >= position
}

// who lists the slaves that have position of db, and all others, by id.
func (l *ledger) who(db string, position uint64) (applied, pending []string) {
	applied, pending = []string{}, []string{}
	for id, a := range l.slaves {
		if a.has(db, position) {
			applied = append(applied, id)
		} else {
			pending = append(pending, id)
		}
	}
	sort.Strings(applied)
	sort.Strings(pending)
	return applied, pending
}

// inSync lists the databases for which a slave is in sync, by name.
func (a *account) inSync() []string {
	list := []string{}
	for db, s := range a.books {
		if s.inSync {
			list = append(list, db)
		}
	}
	sort.Strings(list)
	return list
}

// oldestAfter is when the oldest open page beyond position was logged.
func oldestAfter(b *book, position uint64) time.Time {
	for _, p := range b.open {
		if p.position > position {
			return p.at
		}
	}
	return b.at
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
