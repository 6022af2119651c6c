package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"sort"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/snapdb/snapdb/broker"
	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// Timing of the fleet.
const (
	headsEvery   = time.Second
	tickEvery    = 200 * time.Millisecond
	offlineAfter = 4 * time.Second // without a sign of life
	laggingAfter = 2 * time.Second
)

// maxJoins is how many slaves are let in at a time.
const maxJoins = 16

// fleet is what the master knows of its slaves: who has joined, how each is, and
// by way of the ledger how far each has come.
type fleet struct {
	m    *Master
	subs []*nats.Subscription

	mu       sync.Mutex // guards what follows
	ledger   *ledger
	members  map[string]*member
	sessions uint64 // last session number given
	dirty    bool   // heads changed since they were published
}

// member is a slave that has joined since the master started.
type member struct {
	id       string
	boot     string
	session  uint64
	consumer string
	conn     string // name of its NATS connection
	seen     time.Time
	status   *subjects.StatusMessage
	gone     bool // its connection ended
}

func newFleet(m *Master, enrolled []string) *fleet {
	f := &fleet{m: m, ledger: newLedger(), members: map[string]*member{}}
	f.ledger.log = func(slave, database, what string) {
		m.log.Warn(what, "node", slave, "database", database)
	}
	for _, id := range enrolled {
		f.ledger.account(id)
	}
	for name, h := range m.store.Heads() {
		b := f.ledger.book(name)
		b.head, b.at = h.Position, time.Now()
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
	var published time.Time
	for {
		select {
		case <-ctx.Done():
			f.mu.Lock()
			defer f.mu.Unlock()
			f.ledger.end(time.Now())
			return
		case now := <-tick.C:
			f.mu.Lock()
			f.ledger.tick(now)
			due := f.dirty || now.Sub(published) >= headsEvery
			f.dirty = false
			f.mu.Unlock()
			f.m.sessions.sweep(now)
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
		err = f.m.journal.conn().Publish(subjects.Heads, data)
	}
	if err != nil {
		f.m.log.Warn("cannot publish heads", "error", err)
	}
}

// heads are the positions of all databases. The cursor is a position at which a
// node that has them all is complete.
func (f *fleet) heads() subjects.HeadsMessage {
	h := subjects.HeadsMessage{Term: f.m.journal.current(), Heads: f.m.store.Heads()}
	for _, head := range h.Heads {
		h.Cursor = max(h.Cursor, head.Position)
	}
	return h
}

// logged enters a committed group into the ledger.
func (f *fleet) logged(w *writer, position uint64, done []*call, behind bool) {
	now := time.Now()
	waiting := make([]*waiter, len(done))
	w.pending(len(done))
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, c := range done {
		waiting[i] = f.waiter(c, behind, w.settled)
	}
	f.ledger.logged(w.db.Name(), position, waiting, now)
	f.dirty = true
}

// waiter is a call as the ledger sees it. f.mu is held.
func (f *fleet) waiter(c *call, behind bool, settled func()) *waiter {
	c.waiter = &waiter{rule: c.rule, deadline: c.deadline, done: func(o outcome) {
		settled()
		if behind {
			o.pending = append([]string{"master"}, o.pending...)
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
	defer f.mu.Unlock()
	f.ledger.logged(subjects.Catalog, position, []*waiter{f.waiter(c, behind, func() {})}, time.Now())
	f.dirty = true
}

// changed brings the ledger in line with a database made or dropped. A slave in
// sync with the catalog is in sync with a new, empty database too.
func (f *fleet) changed(cmd exec.Command, position uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if cmd.Verb == exec.DropDatabase {
		f.ledger.drop(cmd.Name)
		return
	}
	now := time.Now()
	b := f.ledger.book(cmd.Name)
	b.head, b.at = position, now
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

// enough says whether an acknowledgement rule can ever be met.
func (f *fleet) enough(rule subjects.Ack) *subjects.Error {
	if rule.Kind != subjects.AckCount {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.ledger.slaves); rule.Count > n {
		return subjects.Errorf(subjects.CodeBadRequest, "ack %d asks for more slaves than are enrolled (%d); nothing was executed", rule.Count, n)
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
		if f.ledger.books[db] != nil {
			f.ledger.working(a, db, now)
		}
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
	f.mu.Lock()
	defer f.mu.Unlock()
	if mem := f.members[id]; mem != nil && mem.boot == st.Boot {
		mem.seen, mem.status = time.Now(), &st
	}
}

// onPresence takes the broker's word that a connection has ended.
func (f *fleet) onPresence(p broker.Presence) {
	if p.Connected {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, mem := range f.members {
		if mem.conn == p.Name && !mem.gone {
			mem.gone = true
			f.ledger.leave(mem.id, time.Now())
		}
	}
}

// connName is what a slave calls its NATS connection.
func connName(id, boot string) string { return "snapdb slave " + id + " " + boot }

// onJoin answers a slave that wants in. It runs in a goroutine of its own,
// because making a consumer waits for the broker.
func (f *fleet) onJoin(msg *nats.Msg) {
	// One that finds nobody free is dropped: the slave asks again.
	f.m.admitter.do(func() {
		resp := f.join(f.m.ctx, msg.Data)
		resp.V = subjects.Version
		data, err := json.Marshal(resp)
		if err == nil {
			err = msg.Respond(data)
		}
		if err != nil {
			f.m.log.Warn("cannot answer a join", "error", err)
		}
	})
}

func refuse(code subjects.RefusalCode, format string, args ...any) subjects.JoinResponse {
	return subjects.JoinResponse{Refused: &subjects.Refusal{Code: code, Reason: fmt.Sprintf(format, args...)}}
}

func (f *fleet) join(ctx context.Context, data []byte) subjects.JoinResponse {
	var req subjects.JoinRequest
	if err := json.Unmarshal(data, &req); err != nil {
		return refuse(subjects.RefusedInvalid, "not a join request: %v", err)
	}
	if err := subjects.CheckNodeID(req.ID); err != nil {
		return refuse(subjects.RefusedInvalid, "%v", err)
	}
	cluster := f.m.store.Identity().Cluster
	switch {
	case req.V != subjects.Version:
		return refuse(subjects.RefusedVersion, "the slave speaks version %d of the protocol, the master %d: use the same snapdb on both", req.V, subjects.Version)
	case req.Boot == "":
		return refuse(subjects.RefusedInvalid, "the request has no boot nonce")
	case req.Cluster != "" && req.Cluster != cluster:
		return refuse(subjects.RefusedCluster, "the slave's data directory belongs to cluster %s, this is %s: give it another --data", req.Cluster, cluster)
	case req.Engine != f.m.store.Engine():
		return refuse(subjects.RefusedEngine, "the slave's SQL engine (%s) is not the master's (%s), their results could differ: use the same snapdb on the same kind of machine", req.Engine, f.m.store.Engine())
	}
	f.mu.Lock()
	old := f.members[req.ID]
	f.mu.Unlock()
	if old != nil && old.boot != req.Boot && f.alive(old) {
		return refuse(subjects.RefusedIDInUse, "a slave with id %s is already connected: give this one another --id, or stop the other", req.ID)
	}
	return f.admit(ctx, &req, cluster, old)
}

// alive asks whether the process behind a member is still there.
func (f *fleet) alive(mem *member) bool {
	f.mu.Lock()
	recent := !mem.gone && time.Since(mem.seen) < offlineAfter
	f.mu.Unlock()
	return recent && f.m.broker.Connected(mem.conn)
}

// admit makes a session and a consumer for a slave.
func (f *fleet) admit(ctx context.Context, req *subjects.JoinRequest, cluster string, old *member) subjects.JoinResponse {
	heads := f.heads()
	reseed, applied, start := f.compare(ctx, req.Databases, heads)
	if err := f.m.store.Catalog().Enrol(req.ID, time.Now().UnixMilli()); err != nil {
		return refuse(subjects.RefusedNotReady, "cannot enrol the slave: %v", err)
	}
	f.mu.Lock()
	f.sessions++
	session := uint64(time.Now().Unix())<<20 | f.sessions&(1<<20-1)
	f.mu.Unlock()
	consumer := fmt.Sprintf("node-%s-%d", req.ID, session)
	wire := f.m.journal.reader()
	if old != nil {
		if err := wire.RemoveReader(ctx, old.consumer); err != nil {
			f.m.log.Debug("cannot remove an old consumer", "node", req.ID, "error", err)
		}
	}
	if err := wire.AddReader(ctx, consumer, start); err != nil {
		return refuse(subjects.RefusedNotReady, "cannot make a consumer: %v", err)
	}
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.members[req.ID] = &member{id: req.ID, boot: req.Boot, session: session, consumer: consumer, conn: connName(req.ID, req.Boot), seen: now}
	f.ledger.enter(req.ID, session, applied, now)
	f.m.log.Info("slave joined", "node", req.ID, "session", session, "start", start)
	return subjects.JoinResponse{Cluster: cluster, Term: heads.Term, Session: session, Consumer: consumer, Start: start, Heads: heads, Reseed: reseed}
}

// compare finds which of a slave's databases are not part of this log, what the
// others have applied, and where its consumer must start.
func (f *fleet) compare(ctx context.Context, theirs map[string]subjects.Head, ours subjects.HeadsMessage) (reseed map[string]string, applied map[string]uint64, start uint64) {
	reseed, applied = map[string]string{}, map[string]uint64{}
	start = ours.Cursor + 1
	for name, head := range ours.Heads {
		has, ok := theirs[name]
		switch {
		case !ok || has.Incarnation != head.Incarnation:
			start = min(start, head.Incarnation+1)
			if name == subjects.Catalog {
				start = 1
			}
			continue
		case has.Position > head.Position:
			reseed[name] = fmt.Sprintf("it has applied position %d, the master's log ends at %d", has.Position, head.Position)
			continue
		case has.Position > has.Incarnation && !f.inLog(ctx, has):
			reseed[name] = fmt.Sprintf("what it has applied at position %d is not what the log has there", has.Position)
			continue
		}
		applied[name] = has.Position
		if has.Position < head.Position {
			start = min(start, has.Position+1)
		}
	}
	return reseed, applied, start
}

// inLog says whether a position with that chain is part of the log.
func (f *fleet) inLog(ctx context.Context, h subjects.Head) bool {
	entry, err := f.m.journal.reader().Get(ctx, h.Position)
	return err == nil && entry.Message != nil && entry.Message.Header.Chain.String() == h.Chain
}

// nodes lists all enrolled slaves as the master sees them, by id.
func (f *fleet) nodes() []subjects.NodeInfo {
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	list := make([]subjects.NodeInfo, 0, len(f.ledger.slaves))
	for id, a := range f.ledger.slaves {
		n := subjects.NodeInfo{ID: id, State: subjects.StateOffline, InSync: a.inSync(), Acked: map[string]uint64{}}
		for db, s := range a.books {
			n.Acked[db] = s.acked
			if b := f.ledger.books[db]; b != nil && s.acked < b.head {
				n.LagMS = max(n.LagMS, now.Sub(oldestAfter(b, s.acked)).Milliseconds())
			}
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
