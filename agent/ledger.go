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
	// keepUp is how old a position may be that a slave has not acknowledged while
	// it counts as having the head: under load there is always one under way.
	keepUp = 200 * time.Millisecond
	// resyncAfter is how long a slave that was dropped must have kept up with the
	// head before it counts as in sync again; it doubles with every drop.
	resyncAfter = 5 * time.Second
	// resyncMost bounds that doubling. A slave that keeps up for so long after it
	// came back is forgiven.
	resyncMost = 10 * time.Minute
)

// ledger keeps, for every database, which slaves have applied what, which are in
// sync, and which clients wait for which positions. All of it is guarded by the
// fleet's lock, under which its methods are called.
type ledger struct {
	acks   histogram           // microseconds from the log to the acknowledgement of a head
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
	delay   time.Duration // lately, from the log to its acknowledgement of a head
}

// standing is one slave in one database.
type standing struct {
	acked    uint64
	early    uint64 // acknowledged before the master knew that it is in the log
	inSync   bool
	progress time.Time // last acknowledgement or sign of work while behind
	steady   time.Time // since when it keeps up with the head; zero: it does not
	penalty  time.Duration
}

// book is one database: its head and what waits for acknowledgement, in order.
type book struct {
	made    uint64 // position of its creation: whoever has that has this database
	head    uint64
	headAt  time.Time // when it was logged
	times   timeline
	open    []*page
	dropped bool // it goes when nobody waits any more
}

// page is one logged group whose clients are not all answered.
type page struct {
	position uint64
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

// open begins the book of a database that was made at a position and has come to
// head.
func (l *ledger) open(db string, made, head uint64, now time.Time) *book {
	b := l.books[db]
	if b == nil {
		b = &book{}
		l.books[db] = b
	}
	b.made, b.dropped = made, false
	b.advance(head, now)
	return b
}

// advance moves the head on; it never goes back.
func (b *book) advance(position uint64, now time.Time) {
	if position > b.head {
		b.head, b.headAt = position, now
		b.times.add(position, now)
	}
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
// keeps up with the head it is in sync at once, unless it was dropped before.
// Nobody waits any more for what an earlier session of it had not applied.
func (l *ledger) enter(id string, session uint64, applied map[string]uint64, now time.Time) {
	a := l.account(id)
	l.end(a)
	a.live, a.session = true, session
	for db := range a.books {
		if _, ok := applied[db]; !ok {
			delete(a.books, db)
		}
	}
	for db, position := range applied {
		b := l.books[db]
		if b == nil {
			continue
		}
		s := a.standing(db)
		s.acked, s.early, s.progress = position, 0, now
		s.judge(b, now)
	}
	l.settle(now)
}

// leave ends a slave's session: nobody waits for it any more.
func (l *ledger) leave(id string, now time.Time) {
	if a := l.slaves[id]; a != nil {
		l.end(a)
		l.settle(now)
	}
}

// end ends a slave's session, if it has one, and answers nobody yet.
func (l *ledger) end(a *account) {
	a.live = false
	for db, s := range a.books {
		s.early, s.inSync, s.steady = 0, false, time.Time{}
		l.release(db, a)
	}
}

// forget strikes a slave from the ledger: it is not enrolled any more.
func (l *ledger) forget(id string, now time.Time) {
	if a := l.slaves[id]; a != nil {
		l.end(a)
		delete(l.slaves, id)
		l.settle(now)
	}
}

// drop ends a database. Whoever still waits for acknowledgements in it may get
// them: a slave acknowledges what it has applied before it drops.
func (l *ledger) drop(db string) {
	if b := l.books[db]; b != nil {
		b.dropped = true
		l.close(db, b)
	}
}

// close forgets a dropped database on which nobody waits.
func (l *ledger) close(db string, b *book) {
	if !b.dropped || len(b.open) > 0 {
		return
	}
	delete(l.books, db)
	for _, a := range l.slaves {
		delete(a.books, db)
	}
}

// logged enters a group that was stored at position, with the clients that wait.
func (l *ledger) logged(db string, position uint64, waiting []*waiter, now time.Time) {
	b := l.books[db]
	if b == nil {
		b = l.open(db, 0, position, now)
	}
	b.advance(position, now)
	for _, a := range l.slaves {
		s := a.books[db]
		if s == nil {
			continue
		}
		if s.early == position {
			l.reached(b, a, s, position, now)
		}
		s.early = 0
	}
	l.wait(db, b, position, waiting, now)
}

// again enters a client that waits for a position logged before.
func (l *ledger) again(db string, position uint64, w *waiter, now time.Time) {
	b := l.books[db]
	if b == nil {
		b = &book{} // dropped since: it is answered now, or at its deadline
		l.books[db] = b
		b.dropped = true
	}
	l.wait(db, b, position, []*waiter{w}, now)
}

// wait opens a page, with the slaves that are in sync now and lack its position.
func (l *ledger) wait(db string, b *book, position uint64, waiting []*waiter, now time.Time) {
	p := &page{position: position, waiting: waiting, missing: map[*account]struct{}{}}
	for _, a := range l.slaves {
		if s := a.books[db]; s != nil && s.inSync && s.acked < position {
			p.missing[a] = struct{}{}
		}
	}
	i := len(b.open)
	for i > 0 && b.open[i-1].position > position {
		i--
	}
	b.open = append(b.open, nil)
	copy(b.open[i+1:], b.open[i:])
	b.open[i] = p
	l.turn(db, b, now)
}

// acknowledge takes a slave's word that it has applied db up to position.
func (l *ledger) acknowledge(a *account, db string, position uint64, now time.Time) {
	b := l.books[db]
	if b == nil || !a.live {
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
	l.reached(b, a, s, position, now)
	l.turn(db, b, now)
	if db == subjects.Catalog {
		l.have(a, position, now)
	}
}

// reached notes that a slave has a position, and all before it.
func (l *ledger) reached(b *book, a *account, s *standing, position uint64, now time.Time) {
	s.judge(b, now) // how it stood until now
	if position == b.head {
		took := now.Sub(b.headAt)
		l.acks.time(took)
		a.delay += (took - a.delay) / 8
	}
	s.acked, s.progress = position, now
	s.judge(b, now)
	for _, p := range b.open {
		if p.position > position {
			break
		}
		delete(p.missing, a)
	}
}

// have notes that a slave that has come so far in the catalog has the databases
// made there.
func (l *ledger) have(a *account, catalog uint64, now time.Time) {
	for db, b := range l.books {
		if s := a.standing(db); db != subjects.Catalog && b.made <= catalog && s.acked < b.made {
			l.reached(b, a, s, b.made, now)
		}
	}
}

// working takes a slave's word that it is busy applying.
func (l *ledger) working(a *account, db string, now time.Time) {
	if l.books[db] != nil {
		a.standing(db).progress = now
	}
}

// judge notes whether a slave keeps up with the head, and lets it back in sync in
// time.
func (s *standing) judge(b *book, now time.Time) {
	if s.acked < b.head && now.Sub(b.times.after(s.acked)) >= keepUp {
		s.steady = time.Time{}
		return
	}
	if s.steady.IsZero() {
		s.steady = now
	}
	kept := now.Sub(s.steady)
	if kept >= s.penalty {
		s.inSync = true
	}
	if kept >= s.penalty+resyncMost {
		s.penalty = 0
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
			s.judge(b, now)
			if s.inSync && s.acked < b.head && now.Sub(later(s.progress, b.times.after(s.acked))) > ackPatience {
				s.inSync, s.steady = false, time.Time{}
				s.penalty = min(max(2*s.penalty, resyncAfter), resyncMost)
				l.release(db, a)
				if l.log != nil {
					l.log(a.id, db, "no longer in sync: no progress")
				}
			}
		}
	}
	l.settle(now)
}

// finish answers everybody with what is known now, and whoever comes later at once.
func (l *ledger) finish(now time.Time) {
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
	l.close(db, b)
}

func (l *ledger) serve(db string, p *page, now time.Time) {
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

// lag is the age of the oldest position that a slave has not acknowledged.
func (l *ledger) lag(a *account, now time.Time) time.Duration {
	var most time.Duration
	for db, b := range l.books {
		acked := uint64(0)
		if s := a.books[db]; s != nil {
			acked = s.acked
		}
		if acked < b.head && !b.dropped {
			most = max(most, now.Sub(b.times.after(acked)))
		}
	}
	return most
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// timeline remembers when positions were logged, roughly: those within timeGrain
// share a mark, and of the old ones fewer and fewer marks are kept.
type timeline []mark

// mark says that the positions from beyond the mark before up to this one were
// logged at that time, or a little later.
type mark struct {
	to uint64
	at time.Time
}

const (
	timeGrain = 10 * time.Millisecond
	timeMarks = 512
)

func (t *timeline) add(position uint64, now time.Time) {
	marks := *t
	if n := len(marks); n > 0 && now.Sub(marks[n-1].at) < timeGrain {
		marks[n-1].to = position
		return
	}
	if len(marks) == timeMarks {
		half := marks[:timeMarks/2]
		for i := 0; i < len(half); i += 2 {
			half[i/2] = mark{half[i+1].to, half[i].at}
		}
		marks = append(half[:len(half)/2], marks[len(half):]...)
	}
	*t = append(marks, mark{position, now})
}

// after is when the first position beyond the given one was logged; zero if there
// is none.
func (t timeline) after(position uint64) time.Time {
	i := sort.Search(len(t), func(i int) bool { return t[i].to > position })
	if i == len(t) {
		return time.Time{}
	}
	return t[i].at
}
