package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/snapdb/snapdb/broker"
	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// Timing of the fleet.
const (
	headsEvery   = time.Second            // published at least so often,
	headsMost    = 200 * time.Millisecond // and after a change not more often than that
	tickEvery    = 50 * time.Millisecond  // how late an answer may be at its deadline
	sweepEvery   = time.Second
	offlineAfter = 4 * time.Second // without a sign of life
	laggingAfter = 2 * time.Second
)

// fleet is what the master knows of its slaves: who has joined, how each is, and
// by way of the ledger how far each has come.
type fleet struct {
	m       *Master
	subs    []*nats.Subscription
	joining sync.Mutex    // held while a slave is let in: of two with one id the second is seen
	advance bell          // rung when the cursor may have moved
	told    atomic.Uint64 // number of the last heads, if they are signed

	mu          sync.Mutex // guards what follows
	ledger      *ledger
	members     map[string]*member
	sessions    uint64 // last number given
	writes      uint64 // transactions logged
	dirty       bool   // heads changed since they were published
	known       uint64 // last position of this master's log that was decided
	accusations accusations
	floors      map[string]floor // of databases of which the log has, or may have, more
}

// floor is a position up to which a database is known to be complete.
type floor struct {
	position uint64
	since    time.Time // when the log began to have, or to be able to have, more
}

// member is a slave that has joined since the master started.
type member struct {
	id       string
	boot     string
	session  uint64
	consumer string
	conn     string // name of its NATS connection
	client   uint64 // the broker's number of it
	seen     time.Time
	status   *subjects.StatusMessage
	gone     bool // its connection ended
}

func newFleet(m *Master, enrolled []string) *fleet {
	f := &fleet{m: m, ledger: newLedger(), members: map[string]*member{}, sessions: m.journal.current() << 20, known: m.journal.current(), floors: map[string]floor{}, accusations: accusations{}}
	f.ledger.log = func(slave, database, what string) {
		m.log.Warn(what, "node", slave, "database", database)
	}
	for _, id := range enrolled {
		f.ledger.account(id)
	}
	for name, h := range m.store.Heads() {
		f.ledger.open(name, h.Incarnation, h.Position, m.started)
	}
	return f
}

// open subscribes to what slaves say.
func (f *fleet) open() error {
	nc := f.m.journal.doors()
	for subject, handle := range map[string]nats.MsgHandler{
		subjects.NodeAck("*"):    f.onAck,
		subjects.NodeStatus("*"): f.onStatus,
		subjects.Join:            f.onJoin,
	} {
		sub, err := nc.Subscribe(subject, handle)
		if err != nil {
			return fmt.Errorf("subscribe %s: %w", subject, err)
		}
		f.subs = append(f.subs, sub)
	}
	f.m.broker.Watch(f.onPresence)
	return nc.Flush()
}

func (f *fleet) close() {
	for _, s := range f.subs {
		_ = s.Unsubscribe() // the connection is closed next
	}
}

// run publishes heads and keeps the ledger's clock.
func (f *fleet) run(ctx context.Context) {
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	var published, swept time.Time
	for {
		select {
		case <-ctx.Done():
			f.mu.Lock()
			defer f.mu.Unlock()
			f.ledger.finish(time.Now())
			return
		case now := <-tick.C:
			f.mu.Lock()
			f.ledger.tick(now)
			old := now.Sub(published)
			due := old >= headsEvery || f.dirty && old >= headsMost
			f.dirty = f.dirty && !due
			f.mu.Unlock()
			f.m.eachWriter(func(w *writer) { w.expire(now) })
			if now.Sub(swept) >= sweepEvery {
				swept = now
				f.m.sessions.sweep(now, f.m.opts.patience)
			}
			if due {
				published = now
				f.publishHeads()
			}
		}
	}
}

func (f *fleet) publishHeads() {
	data, err := json.Marshal(f.heads())
	if err == nil {
		msg := &nats.Msg{Subject: subjects.Heads, Data: data}
		f.m.sign(msg, &subjects.SignedHeads{Cluster: f.m.journal.cluster, Body: data})
		err = f.m.journal.conn().PublishMsg(msg)
	}
	if err != nil {
		f.m.log.Warn("cannot publish heads", "error", err)
	}
}

// heads are the positions of all databases. The cursor is a position at which a
// node that has them all is complete; it must be known before they are looked at.
func (f *fleet) heads() subjects.HeadsMessage {
	number := uint64(0)
	if f.m.opts.Sign != nil {
		number = f.told.Add(1)
	}
	cursor, _ := f.cursor()
	return subjects.HeadsMessage{Term: f.m.journal.current(), Cursor: cursor, Heads: f.m.store.Heads(), Number: number}
}

// cursor is a position up to which every database has all that the log has for
// it. A publish under way may have been stored right after what was known when it
// began, and a database that takes no writes may be behind the log. moving says that
// there is one of them.
func (f *fleet) cursor() (position uint64, moving bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	position = f.known
	for _, floor := range f.floors {
		position = min(position, floor.position)
	}
	return position, len(f.floors) > 0
}

// behind is for how long the master has lacked what its log has, or may have.
func (f *fleet) behind() (longest time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, floor := range f.floors {
		longest = max(longest, time.Since(floor.since))
	}
	return longest
}

// reached is the position up to which the connected slaves have everything.
func (f *fleet) reached() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	lowest := f.known
	for db, b := range f.ledger.books {
		for id, mem := range f.members {
			if a := f.ledger.slaves[id]; a != nil && !mem.gone {
				if at := a.standing(db).acked; at < b.head {
					lowest = min(lowest, at)
				}
			}
		}
	}
	return lowest
}

// publishing notes that a message of a database is on its way to the log, until
// logged, await or decided says what has become of it.
func (f *fleet) publishing(db string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fl, ok := f.floors[db]
	if !ok {
		fl.since = time.Now()
	}
	fl.position = f.known
	f.floors[db] = fl
}

// decided notes that a database has all that the log has for it, up to a position.
func (f *fleet) decided(db string, position uint64) {
	f.mu.Lock()
	if b := f.ledger.books[db]; b != nil {
		b.advance(position, time.Now())
	}
	f.stored(db, position, false)
	f.mu.Unlock()
	f.advance.ring()
}

// stored notes that a message of a database is in the log. While the master's copy
// is behind it counts as under way. f.mu is held.
func (f *fleet) stored(db string, position uint64, behind bool) {
	f.known = max(f.known, position)
	f.dirty = true
	if !behind {
		delete(f.floors, db)
	}
}

// logged enters a committed group into the ledger.
func (f *fleet) logged(w *writer, position uint64, done []*call, behind bool) {
	now := time.Now()
	waiting := make([]*waiter, len(done))
	w.pending(len(done))
	f.mu.Lock()
	for i, c := range done {
		waiting[i] = f.waiter(c, behind, w.settled)
	}
	f.writes += uint64(len(done))
	f.stored(w.db.Name(), position, behind)
	f.ledger.logged(w.db.Name(), position, waiting, now)
	f.mu.Unlock()
	f.advance.ring()
}

// again enters a call whose request was executed before, at a position.
func (f *fleet) again(w *writer, position uint64, c *call) {
	w.pending(1)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ledger.again(w.db.Name(), position, f.waiter(c, false, w.settled), time.Now())
}

// waiter is a call as the ledger sees it. f.mu is held.
func (f *fleet) waiter(c *call, behind bool, settled func()) *waiter {
	c.waiter = &waiter{rule: c.rule, deadline: c.deadline, done: func(o outcome) {
		settled()
		f.m.meters.write.time(time.Since(c.begun))
		if behind {
			o.pending = append([]string{subjects.MasterID}, o.pending...)
		}
		c.answer(c, o)
	}}
	if c.hurried {
		c.waiter.deadline = time.Time{}
	}
	return c.waiter
}

// hurry makes the ledger answer a call with what it knows, now or as soon as the
// call is logged.
func (f *fleet) hurry(c *call) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c.hurried = true
	if c.waiter != nil {
		c.waiter.deadline = time.Time{}
		f.ledger.settle(time.Now())
	}
}

// await enters a change of the catalog, on which one client waits.
func (f *fleet) await(position uint64, c *call, behind bool) {
	f.mu.Lock()
	f.writes++
	f.stored(subjects.Catalog, position, behind)
	f.ledger.logged(subjects.Catalog, position, []*waiter{f.waiter(c, behind, func() {})}, time.Now())
	f.mu.Unlock()
	f.advance.ring()
}

// changed brings the ledger in line with a database made or dropped. A slave in
// sync with the catalog is in sync with a new, empty database too.
func (f *fleet) changed(cmd exec.Command, position uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if cmd.Verb == exec.DropDatabase {
		f.ledger.drop(cmd.Name)
		delete(f.floors, cmd.Name)
		return
	}
	now := time.Now()
	f.ledger.open(cmd.Name, position, position, now)
	for _, a := range f.ledger.slaves {
		if a.live {
			s := a.standing(cmd.Name)
			s.inSync, s.progress = a.standing(subjects.Catalog).inSync, now
		}
	}
}

// pending counts calls that wait for acknowledgement, which is how the next group
// knows whom to expect.
func (w *writer) pending(n int) {
	w.mu.Lock()
	w.answered += n
	w.mu.Unlock()
}

func (w *writer) settled() {
	w.mu.Lock()
	w.answered--
	w.mu.Unlock()
}

// enough says whether an acknowledgement rule can ever be met. What becomes of the
// write otherwise is for the client.
func (f *fleet) enough(rule subjects.Ack, otherwise string) *subjects.Error {
	if rule.Kind != subjects.AckCount {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.ledger.slaves); rule.Count > n {
		return subjects.Errorf(subjects.CodeBadRequest, "ack %d asks for more slaves than are enrolled (%d): %s; ask for fewer, or start more slaves", rule.Count, n, otherwise)
	}
	return nil
}

// onAck takes a slave's acknowledgement. One that does not carry the session it
// was given is ignored: a forgery, or an echo of an earlier life.
func (f *fleet) onAck(msg *nats.Msg) {
	id, _, ok := subjects.SplitNode(msg.Subject)
	if !ok {
		return
	}
	var ack subjects.AckMessage
	if err := subjects.DecodeAck(msg.Data, &ack); err != nil {
		f.m.log.Warn("ignoring a malformed acknowledgement", "node", id, "error", err)
		return
	}
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	mem := f.members[id]
	if mem == nil || mem.session != ack.Session {
		return
	}
	mem.seen = now
	a := f.ledger.account(id)
	for db, position := range ack.Applied {
		f.ledger.acknowledge(a, db, position, now)
	}
	for db := range ack.Applying {
		f.ledger.working(a, db, now)
	}
}

func (f *fleet) onStatus(msg *nats.Msg) {
	id, _, ok := subjects.SplitNode(msg.Subject)
	if !ok {
		return
	}
	var st subjects.StatusMessage
	if err := json.Unmarshal(msg.Data, &st); err != nil {
		return
	}
	f.m.warden.label(id, &st)
	f.mu.Lock()
	defer f.mu.Unlock()
	if mem := f.members[id]; mem != nil && mem.boot == st.Boot {
		mem.seen, mem.status = time.Now(), &st
	}
}

// onPresence takes the broker's word that a connection has ended. A slave that lost
// touch may be back on a new connection before its old one ends.
func (f *fleet) onPresence(p broker.Presence) {
	if p.Connected {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, mem := range f.members {
		if mem.conn == p.Name && mem.client == p.Client && !mem.gone {
			mem.gone = true
			f.ledger.leave(mem.id, time.Now())
		}
	}
}

// written is how many transactions were logged since the master started.
func (f *fleet) written() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.writes
}

// nodes lists all enrolled slaves as the master sees them, by id.
func (f *fleet) nodes() []subjects.NodeInfo {
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	list := make([]subjects.NodeInfo, 0, len(f.ledger.slaves))
	for id, a := range f.ledger.slaves {
		n := subjects.NodeInfo{ID: id, State: subjects.StateOffline, InSync: a.inSync(), Acked: map[string]uint64{}, LagMS: f.ledger.lag(a, now).Milliseconds(), AckMS: float64(a.delay.Microseconds()) / 1000}
		for db, s := range a.books {
			n.Acked[db] = s.acked
		}
		if mem := f.members[id]; mem != nil {
			n.Session, n.LastSeen, n.Status = mem.session, mem.seen, mem.status
			f.judge(mem, &n, now)
		}
		list = append(list, n)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].ID < list[j].ID })
	return list
}

// present says in which session a slave is there; 0 that it is away, and why.
func (f *fleet) present(id string) (session uint64, reason string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	mem := f.members[id]
	if mem == nil {
		return 0, "it has not joined since the master started"
	}
	n := subjects.NodeInfo{State: subjects.StateOffline}
	f.judge(mem, &n, time.Now())
	if n.State == subjects.StateOffline || n.State == subjects.StateStopped && mem.gone {
		return 0, strings.TrimSpace(string(n.State) + ": " + n.Reason)
	}
	return mem.session, ""
}

// joined says whether a slave has joined since the master started.
func (f *fleet) joined(id string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.members[id] != nil
}

// judge says how a member is: what it says itself, unless it has fallen silent.
func (f *fleet) judge(mem *member, n *subjects.NodeInfo, now time.Time) {
	switch {
	case mem.status != nil && mem.status.State == subjects.StateStopped && mem.gone:
		n.State, n.Reason = subjects.StateStopped, mem.status.Reason
	case mem.gone:
		n.Reason = "its connection ended"
	case now.Sub(mem.seen) > offlineAfter:
		n.Reason = "nothing heard for " + now.Sub(mem.seen).Round(time.Second).String()
	case mem.status == nil:
		n.State = subjects.StateJoining
	default:
		n.State, n.Reason = mem.status.State, mem.status.Reason
		if n.State == subjects.StateOnline && n.LagMS > laggingAfter.Milliseconds() {
			n.State = subjects.StateLagging
		}
	}
}
