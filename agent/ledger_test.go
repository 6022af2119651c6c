package agent

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/snapdb/snapdb/subjects"
)

// desk is a ledger with a clock of its own, on which nothing happens by itself.
type desk struct {
	t    testing.TB
	l    *ledger
	now  time.Time
	next uint64
	ends []string // who was dropped from the in-sync set
}

func newDesk(t testing.TB, slaves ...string) *desk {
	d := &desk{t: t, l: newLedger(), now: time.Unix(1_000_000, 0), next: 10}
	d.l.log = func(slave, db, _ string) { d.ends = append(d.ends, slave+" "+db) }
	d.l.open("a", 5, 10, d.now)
	for i, id := range slaves {
		d.l.enter(id, uint64(i+1), map[string]uint64{"a": 10}, d.now)
	}
	return d
}

// claim is what one client of the ledger got.
type claim struct {
	w *waiter
	o *outcome
}

var (
	ackLog    = subjects.Ack{Kind: subjects.AckLog}
	ackInSync = subjects.Ack{Kind: subjects.AckInSync}
	ackAll    = subjects.Ack{Kind: subjects.AckAll}
)

func ackCount(n int) subjects.Ack { return subjects.Ack{Kind: subjects.AckCount, Count: n} }

func (d *desk) waiter(rule subjects.Ack) *claim {
	c := &claim{}
	c.w = &waiter{rule: rule, deadline: d.now.Add(10 * time.Second), done: func(o outcome) {
		if c.o != nil {
			d.t.Errorf("answered twice: %+v, %+v", c.o, o)
		}
		c.o = &o
	}}
	return c
}

// write logs a group of one client.
func (d *desk) write(rule subjects.Ack) *claim {
	c := d.waiter(rule)
	d.next++
	d.l.logged("a", d.next, []*waiter{c.w}, d.now)
	return c
}

func (d *desk) ack(id string, position uint64) {
	d.l.acknowledge(d.l.account(id), "a", position, d.now)
}

// pass lets time go by, with the ticks of the fleet.
func (d *desk) pass(t time.Duration) {
	for end := d.now.Add(t); d.now.Before(end); {
		d.now = d.now.Add(min(tickEvery, end.Sub(d.now)))
		d.l.tick(d.now)
	}
}

func (d *desk) wait(c *claim) {
	d.t.Helper()
	if c.o != nil {
		d.t.Fatalf("answered too early: %+v", *c.o)
	}
}

func (d *desk) answered(c *claim, met bool, applied, pending string) {
	d.t.Helper()
	if c.o == nil {
		d.t.Fatal("not answered")
	}
	if got := strings.Join(c.o.applied, " "); c.o.met != met || got != applied || strings.Join(c.o.pending, " ") != pending {
		d.t.Fatalf("met %v, applied by %q, pending %q; want %v, %q, %q", c.o.met, got, c.o.pending, met, applied, pending)
	}
}

func (d *desk) inSync(want ...string) {
	d.t.Helper()
	var got []string
	for id, a := range d.l.slaves {
		if len(a.inSync()) > 0 {
			got = append(got, id)
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		d.t.Fatalf("in sync %v, want %v", got, want)
	}
}

func TestLedgerRules(t *testing.T) {
	d := newDesk(t, "s1", "s2", "s3")
	d.answered(d.write(ackLog), true, "", "s1 s2 s3")
	insync, one, two, all := d.write(ackInSync), d.write(ackCount(1)), d.write(ackCount(2)), d.write(ackAll)
	for _, c := range []*claim{insync, one, two, all} {
		d.wait(c)
	}
	d.ack("s1", d.next)
	d.answered(one, true, "s1", "s2 s3")
	d.wait(two)
	d.ack("s2", d.next)
	d.answered(two, true, "s1 s2", "s3")
	d.wait(insync)
	d.wait(all)
	d.ack("s3", d.next)
	d.answered(insync, true, "s1 s2 s3", "")
	d.answered(all, true, "s1 s2 s3", "")
}

func TestLedgerWithoutSlaves(t *testing.T) {
	d := newDesk(t)
	for _, rule := range []subjects.Ack{ackLog, ackInSync, ackAll} {
		d.answered(d.write(rule), true, "", "")
	}
}

// Acknowledgements are cumulative, and old ones say nothing new.
func TestLedgerCumulative(t *testing.T) {
	d := newDesk(t, "s1")
	first, second := d.write(ackInSync), d.write(ackInSync)
	d.ack("s1", d.next-2)
	d.wait(first)
	d.ack("s1", d.next-1)
	d.answered(first, true, "s1", "")
	d.wait(second)
	d.ack("s1", d.next-1)
	d.wait(second)
	third := d.write(ackInSync)
	d.ack("s1", d.next)
	d.answered(second, true, "s1", "")
	d.answered(third, true, "s1", "")
}

// A slave may acknowledge before the master has its own answer from the log; but
// only the position that is then logged counts.
func TestLedgerEarlyAndForged(t *testing.T) {
	d := newDesk(t, "s1")
	d.ack("s1", d.next+1)
	d.answered(d.write(ackInSync), true, "s1", "")
	d.ack("s1", d.next+1000) // of no message
	c := d.write(ackInSync)
	d.wait(c)
	for range 1000 {
		d.next++
	}
	late := d.write(ackInSync)
	d.wait(late) // what was said of that position before it was logged is forgotten
	d.ack("s1", d.next)
	d.answered(c, true, "s1", "")
	d.answered(late, true, "s1", "")
}

// A write waits for the set as it was when it was logged: who comes later is not
// waited for, who leaves is not waited for any longer.
func TestLedgerSetOfTheWrite(t *testing.T) {
	d := newDesk(t, "s1", "s2")
	c := d.write(ackInSync)
	d.l.enter("s3", 9, map[string]uint64{"a": d.next - 1}, d.now)
	d.ack("s1", d.next)
	d.wait(c)
	d.l.leave("s2", d.now)
	d.answered(c, true, "s1", "s2 s3")
}

// A slave that comes back before the end of its old session was noticed is a
// leaver too.
func TestLedgerRejoin(t *testing.T) {
	d := newDesk(t, "s1", "s2")
	c := d.write(ackInSync)
	d.ack("s1", d.next)
	d.wait(c)
	d.l.enter("s2", 99, map[string]uint64{}, d.now)
	d.answered(c, true, "s1", "s2")
	k := d.write(ackCount(2))
	d.ack("s1", d.next)
	d.wait(k)
	d.ack("s2", d.next)
	d.answered(k, true, "s1 s2", "")
}

// A slave without progress delays the others once, however many writes there are.
func TestLedgerDropsStuckSlave(t *testing.T) {
	d := newDesk(t, "s1", "s2")
	c := d.write(ackInSync)
	d.ack("s1", d.next)
	d.pass(ackPatience - tickEvery)
	d.wait(c)
	d.inSync("s1", "s2")
	d.pass(2 * tickEvery)
	d.answered(c, true, "s1", "s2")
	d.inSync("s1")
	for range 100 {
		c := d.write(ackInSync)
		d.ack("s1", d.next)
		d.answered(c, true, "s1", "s2")
		d.pass(30 * time.Millisecond)
	}
	all := d.write(ackAll)
	d.ack("s1", d.next)
	d.pass(10*time.Second - tickEvery)
	d.wait(all)
	d.pass(tickEvery)
	d.answered(all, false, "s1", "s2")
}

// The same when nobody has waited for it: the writes before were of the rule log.
func TestLedgerDropsStuckSlaveUnderLog(t *testing.T) {
	d := newDesk(t, "s1")
	for range 100 {
		d.write(ackLog)
		d.pass(30 * time.Millisecond)
	}
	d.inSync()
	if lag := d.l.lag(d.l.account("s1"), d.now); lag < 2900*time.Millisecond || lag > 3100*time.Millisecond {
		t.Errorf("lag %v, want 3s", lag)
	}
}

// Work that is reported, and positions acknowledged on the way, are progress.
func TestLedgerWaitsForProgress(t *testing.T) {
	d := newDesk(t, "s1")
	first := d.write(ackInSync)
	c := d.write(ackInSync)
	for range 3 {
		d.pass(ackPatience - tickEvery)
		d.l.working(d.l.account("s1"), "a", d.now)
	}
	d.wait(c)
	d.ack("s1", d.next-1)
	d.answered(first, true, "s1", "")
	d.pass(ackPatience)
	d.wait(c)
	d.pass(2 * tickEvery)
	d.answered(c, true, "", "s1")
}

// An idle slave is not stuck.
func TestLedgerIdle(t *testing.T) {
	d := newDesk(t, "s1")
	d.pass(time.Minute)
	c := d.write(ackInSync)
	d.pass(ackPatience / 2)
	d.wait(c)
	d.inSync("s1")
	d.ack("s1", d.next)
	d.answered(c, true, "s1", "")
}

// Who was dropped comes back after keeping up for five seconds, then ten, and so on.
func TestLedgerFlapping(t *testing.T) {
	d := newDesk(t, "s1")
	for _, probation := range []time.Duration{5, 10, 20, 40, 80, 160, 320, 600, 600} {
		d.write(ackLog)
		d.pass(ackPatience + 2*tickEvery)
		d.inSync()
		d.ack("s1", d.next)
		d.pass(probation*time.Second - tickEvery)
		d.inSync()
		d.pass(2 * tickEvery)
		d.inSync("s1")
	}
	d.pass(resyncMost)
	d.write(ackLog)
	d.pass(ackPatience + 2*tickEvery)
	d.ack("s1", d.next)
	d.pass(resyncAfter + tickEvery) // forgiven
	d.inSync("s1")
}

// Under load there is always a position under way; a slave that is never far
// behind keeps up all the same. One that is far behind does not.
func TestLedgerComesBackUnderLoad(t *testing.T) {
	d := newDesk(t, "s1")
	d.write(ackLog)
	d.pass(ackPatience + 2*tickEvery)
	d.inSync()
	var logged []uint64
	load := func(t time.Duration, behind int) {
		for end := d.now.Add(t); d.now.Before(end); {
			d.write(ackLog)
			logged = append(logged, d.next)
			if n := len(logged) - behind; n > 0 {
				d.ack("s1", logged[n-1])
			}
			d.now = d.now.Add(5 * time.Millisecond)
			d.l.tick(d.now)
		}
	}
	load(resyncAfter+time.Second, 100) // half a second behind
	d.inSync()
	load(resyncAfter+time.Second, 2)
	d.inSync("s1")
}

// A slave that has the CREATE DATABASE has the database; it is in sync with the new
// one if it was with the catalog.
func TestLedgerNewDatabase(t *testing.T) {
	d := newDesk(t)
	d.l.open(subjects.Catalog, 0, 10, d.now)
	d.l.enter("s1", 1, map[string]uint64{"a": 10, subjects.Catalog: 10}, d.now)
	c := d.waiter(ackInSync)
	d.l.logged(subjects.Catalog, 11, []*waiter{c.w}, d.now)
	d.l.open("b", 11, 11, d.now)
	d.wait(c)
	d.l.acknowledge(d.l.account("s1"), subjects.Catalog, 11, d.now)
	d.answered(c, true, "s1", "")
	if got := d.l.account("s1").inSync(); !slices.Equal(got, []string{subjects.Catalog, "a", "b"}) {
		t.Errorf("in sync for %v", got)
	}
	if lag := d.l.lag(d.l.account("s1"), d.now.Add(time.Hour)); lag != 0 {
		t.Errorf("lag %v", lag)
	}
}

// Those who wait in a database that is dropped get their acknowledgements.
func TestLedgerDrop(t *testing.T) {
	d := newDesk(t, "s1")
	c := d.write(ackInSync)
	d.l.drop("a")
	d.wait(c)
	d.ack("s1", d.next)
	d.answered(c, true, "s1", "")
	if len(d.l.books) != 0 {
		t.Errorf("books of %v are kept", d.l.books)
	}
	d.l.open("a", 20, 20, d.now) // of the same name, made again
	d.next = 20
	c = d.write(ackInSync)
	d.l.drop("a")
	d.pass(11 * time.Second)
	if c.o == nil || len(d.l.books) != 0 {
		t.Errorf("answered %+v, books %v", c.o, d.l.books)
	}
}

func TestLedgerAgain(t *testing.T) {
	d := newDesk(t, "s1", "s2")
	d.write(ackLog)
	d.write(ackLog)
	d.ack("s1", d.next)
	d.ack("s2", d.next-1)
	old, last := d.waiter(ackInSync), d.waiter(ackAll)
	d.l.again("a", d.next-1, old.w, d.now)
	d.answered(old, true, "s1 s2", "")
	d.l.again("a", d.next, last.w, d.now)
	d.wait(last)
	d.ack("s2", d.next)
	d.answered(last, true, "s1 s2", "")
	gone := d.waiter(ackInSync)
	d.l.again("nowhere", 3, gone.w, d.now)
	d.answered(gone, true, "", "s1 s2")
}

func TestLedgerFinish(t *testing.T) {
	d := newDesk(t, "s1")
	c := d.write(ackInSync)
	d.l.finish(d.now)
	d.answered(c, false, "", "s1")
	d.answered(d.write(ackInSync), false, "", "s1")
}

// The head of a database never goes back, whatever order the news comes in.
func TestLedgerHeadStays(t *testing.T) {
	d := newDesk(t, "s1")
	d.l.logged("a", 20, nil, d.now)
	d.l.logged("a", 15, nil, d.now)
	if h := d.l.books["a"].head; h != 20 {
		t.Errorf("head %d", h)
	}
}

func TestTimeline(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var line timeline
		type entry struct {
			position uint64
			at       time.Time
		}
		var all []entry
		now, position := time.Unix(1000, 0), uint64(0)
		for range rapid.IntRange(1, 3000).Draw(t, "positions") {
			now = now.Add(time.Duration(rapid.IntRange(0, 20).Draw(t, "ms")) * time.Millisecond)
			position += uint64(rapid.IntRange(1, 3).Draw(t, "step"))
			line.add(position, now)
			all = append(all, entry{position, now})
		}
		if len(line) > timeMarks {
			t.Fatalf("%d marks", len(line))
		}
		i := rapid.IntRange(0, len(all)-1).Draw(t, "asked")
		got, want := line.after(all[i].position-1), all[i].at
		if got.After(want) {
			t.Fatalf("position %d was logged at %v, not %v", all[i].position, want, got)
		}
		if i > len(all)-100 && want.Sub(got) > timeGrain {
			t.Fatalf("the time of a new position is wrong by %v", want.Sub(got))
		}
		if !line.after(position).IsZero() {
			t.Fatal("there is something after the end")
		}
	})
}

// Whatever happens, no client is answered before its rule is met or its time is
// up, and every client is by then; what the answer says is true.
func TestLedgerKeepsItsWord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := newDesk(nopTB{}, "s1", "s2", "s3")
		type write struct {
			*claim
			position uint64
			rule     subjects.Ack
			set      []string // in sync when it was logged
			left     map[string]bool
		}
		acked := map[string]uint64{"s1": 10, "s2": 10, "s3": 10} // by the current session
		live := map[string]bool{"s1": true, "s2": true, "s3": true}
		var writes []*write
		ids := []string{"s1", "s2", "s3"}
		left := func(id string) {
			for _, w := range writes {
				w.left[id] = true
			}
		}
		check := func() {
			for _, w := range writes {
				var applied []string
				for _, id := range ids {
					if live[id] && acked[id] >= w.position {
						applied = append(applied, id)
					}
				}
				met := true
				switch w.rule.Kind {
				case subjects.AckInSync:
					for _, id := range w.set {
						met = met && (w.left[id] || slices.Contains(applied, id))
					}
				case subjects.AckAll:
					met = len(applied) == len(ids)
				case subjects.AckCount:
					met = len(applied) >= w.rule.Count
				}
				over := !d.now.Before(w.w.deadline)
				if w.o == nil && (met || over) {
					t.Fatalf("%v at %d not answered: met %v, time over %v", w.rule, w.position, met, over)
				}
				if w.o != nil && w.o.met != met && !over {
					t.Fatalf("%v at %d answered %+v, met %v", w.rule, w.position, *w.o, met)
				}
				if w.o != nil && (!slices.Equal(w.o.applied, append([]string{}, applied...)) || len(w.o.applied)+len(w.o.pending) != len(ids)) {
					t.Fatalf("%d: applied %v pending %v, true is %v", w.position, w.o.applied, w.o.pending, applied)
				}
			}
			writes = slices.DeleteFunc(writes, func(w *write) bool { return w.o != nil })
		}
		t.Repeat(map[string]func(*rapid.T){
			"write": func(t *rapid.T) {
				rule := rapid.SampledFrom([]subjects.Ack{ackLog, ackInSync, ackAll, ackCount(1), ackCount(2)}).Draw(t, "rule")
				w := &write{rule: rule, left: map[string]bool{}}
				for _, id := range ids {
					if s := d.l.account(id).books["a"]; s != nil && s.inSync {
						w.set = append(w.set, id)
					}
					if s := d.l.account(id).books["a"]; s != nil && s.early == d.next+1 && live[id] {
						acked[id] = d.next + 1
					}
				}
				w.claim = d.write(rule)
				w.position = d.next
				writes = append(writes, w)
				check()
			},
			"ack": func(t *rapid.T) {
				id := rapid.SampledFrom(ids).Draw(t, "slave")
				position := uint64(rapid.IntRange(int(d.next)-5, int(d.next)+2).Draw(t, "position"))
				d.ack(id, position)
				if live[id] && position <= d.next {
					acked[id] = max(acked[id], position)
				}
				check()
			},
			"pass": func(t *rapid.T) {
				before := map[string]bool{}
				for _, id := range ids {
					before[id] = len(d.l.account(id).inSync()) > 0
				}
				d.now = d.now.Add(time.Duration(rapid.IntRange(1, 3000).Draw(t, "ms")) * time.Millisecond)
				d.ends = nil
				d.l.tick(d.now)
				for _, end := range d.ends {
					id, _, _ := strings.Cut(end, " ")
					if s := d.l.account(id).books["a"]; !before[id] || s.acked >= d.l.books["a"].head {
						t.Fatalf("%s was dropped for no reason", id)
					}
					left(id)
				}
				check()
			},
			"leave": func(t *rapid.T) {
				id := rapid.SampledFrom(ids).Draw(t, "slave")
				if live[id] {
					live[id], acked[id] = false, 0
					left(id)
				}
				d.l.leave(id, d.now)
				check()
			},
			"enter": func(t *rapid.T) {
				id := rapid.SampledFrom(ids).Draw(t, "slave")
				at := uint64(rapid.IntRange(int(d.next)-5, int(d.next)).Draw(t, "position"))
				left(id)
				live[id], acked[id] = true, at
				d.l.enter(id, uint64(rapid.IntRange(1, 1000).Draw(t, "session")), map[string]uint64{"a": at}, d.now)
				check()
			},
		})
	})
}

// nopTB takes what a desk reports into a property, which checks by itself.
type nopTB struct{ testing.TB }

func (nopTB) Errorf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
func (nopTB) Helper()                           {}
