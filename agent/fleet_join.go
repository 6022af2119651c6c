package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/snapdb/snapdb/broker"
	"github.com/snapdb/snapdb/subjects"
)

// maxJoins is how many slaves may be about to be let in.
const maxJoins = 16

// connName is what a slave calls its NATS connection.
func connName(id, boot string) string { return slaveConn + id + " " + boot }

const slaveConn = "snapdb slave "

// nodeOfConn is the id of the node whose connection has that name.
func nodeOfConn(name string) (id string, ok bool) {
	rest, is := strings.CutPrefix(name, slaveConn)
	id, boot, ok := strings.Cut(rest, " ")
	return id, is && ok && boot != "" && !strings.Contains(boot, " ") && subjects.CheckNodeID(id) == nil
}

// next is where a node asks for what its consumer has.
func (m *Master) next(consumer string) string {
	if m.warden == nil {
		return "" // where it would ask anyway
	}
	return broker.NextOfGuest(consumer)
}

// onJoin answers a slave that wants in. It runs in a goroutine of its own,
// because making a consumer waits for the broker.
func (f *fleet) onJoin(msg *nats.Msg) {
	who, forbidden := f.m.warden.caller(micro.Headers(msg.Header))
	if forbidden != nil {
		return // no node waits for an answer
	}
	if !f.m.admitter.do(func() { f.answerJoin(msg, f.join(f.m.ctx, who, msg.Data)) }) {
		f.answerJoin(msg, refuse(subjects.RefusedNotReady, "the master is stopping, or lets in %d slaves already: try again", maxJoins))
	}
}

func (f *fleet) answerJoin(msg *nats.Msg, resp subjects.JoinResponse) {
	resp.V = subjects.Version
	signed := subjects.SignedJoin{Cluster: resp.Cluster, Session: resp.Session, Request: msg.Data}
	if f.m.opts.Sign != nil {
		resp.Successions = f.m.opts.Sign.Successions()
		var asked subjects.JoinRequest
		_ = json.Unmarshal(msg.Data, &asked) // nonsense is of nobody
		signed.Node, signed.Boot = asked.ID, asked.Boot
	}
	data, err := json.Marshal(resp)
	if err == nil {
		signed.Answer = data
		answer := &nats.Msg{Data: data}
		f.m.sign(answer, &signed)
		err = msg.RespondMsg(answer)
	}
	if err != nil {
		f.m.log.Warn("cannot answer a join", "error", err)
	}
}

func refuse(code subjects.RefusalCode, format string, args ...any) subjects.JoinResponse {
	return subjects.JoinResponse{Refused: &subjects.Refusal{Code: code, Reason: fmt.Sprintf(format, args...)}}
}

func (f *fleet) join(ctx context.Context, who *caller, data []byte) subjects.JoinResponse {
	var req subjects.JoinRequest
	if err := json.Unmarshal(data, &req); err != nil {
		return refuse(subjects.RefusedInvalid, "not a join request: %v", subjects.PlainJSON(data, err))
	}
	if err := subjects.CheckNodeID(req.ID); err != nil {
		return refuse(subjects.RefusedInvalid, "%v", err)
	}
	cluster := f.m.store.Identity().Cluster
	switch {
	case !who.is(req.ID):
		return refuse(subjects.RefusedInvalid, "the node was let in as %s, and cannot join as %s", who.node, req.ID)
	case req.V != subjects.Version:
		return refuse(subjects.RefusedVersion, "the slave speaks version %d of the protocol, the master %d: use the same snapdb on both", req.V, subjects.Version)
	case req.Boot == "":
		return refuse(subjects.RefusedInvalid, "the request has no boot nonce")
	case req.Cluster != "" && req.Cluster != cluster:
		return refuse(subjects.RefusedCluster, "the slave's data directory belongs to cluster %s, this is %s: give it another --data", req.Cluster, cluster)
	case req.Engine != f.m.store.Engine():
		return refuse(subjects.RefusedEngine, "the slave's SQL engine (%s) is not the master's (%s), their results could differ: use the same snapdb on the same kind of machine", req.Engine, f.m.store.Engine())
	}
	f.awaitLeaver(ctx, &req)
	f.joining.Lock()
	defer f.joining.Unlock()
	f.mu.Lock()
	old := f.members[req.ID]
	f.mu.Unlock()
	if f.inTheWay(old, &req) {
		return refuse(subjects.RefusedIDInUse, "a slave with id %s is already connected: give this one another --id, or stop the other", req.ID)
	}
	if !f.room(req.ID) {
		return refuse(subjects.RefusedTooMany, "%d slaves are enrolled already: make the master forget those that will not come back (snapdb node forget ID)", maxEnrolled)
	}
	return f.admit(ctx, &req, cluster, old)
}

// inTheWay says whether a member is another process, and lives.
func (f *fleet) inTheWay(old *member, req *subjects.JoinRequest) bool {
	return old != nil && old.boot != req.Boot && f.alive(old)
}

// leavePatience is how long a process that has just ended may seem to live.
const leavePatience = time.Second

// awaitLeaver waits until the process that had the id before is seen to have gone: a
// slave that is started again at once can be here earlier than that is known.
func (f *fleet) awaitLeaver(ctx context.Context, req *subjects.JoinRequest) {
	for end := time.Now().Add(leavePatience); time.Now().Before(end); {
		f.mu.Lock()
		old := f.members[req.ID]
		f.mu.Unlock()
		if !f.inTheWay(old, req) || !sleep(ctx, 50*time.Millisecond) {
			return
		}
	}
}

// maxEnrolled is how many slaves a cluster may have: each that is remembered takes
// part in every acknowledgement.
const maxEnrolled = 1000

// room says whether a slave may be enrolled, or is already.
func (f *fleet) room(id string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ledger.slaves[id] != nil || len(f.ledger.slaves) < maxEnrolled
}

// forget makes the master forget a slave, unless it is connected. One that joins
// again is enrolled again.
func (f *fleet) forget(ctx context.Context, id string) error {
	f.joining.Lock()
	defer f.joining.Unlock()
	f.mu.Lock()
	mem, known := f.members[id], f.ledger.slaves[id] != nil
	ended := mem == nil || mem.gone
	f.mu.Unlock()
	switch {
	case !known:
		return subjects.Errorf(subjects.CodeBadRequest, "no slave %q is enrolled", id)
	case !ended && f.m.broker.Client(mem.conn) != 0:
		return subjects.Errorf(subjects.CodeBadRequest, "%s is connected, and would be enrolled again at once: stop it first", id)
	}
	if err := f.m.store.Catalog().Forget(id); err != nil {
		return fmt.Errorf("forget %s: %w", id, err)
	}
	f.mu.Lock()
	delete(f.members, id)
	f.ledger.forget(id, time.Now())
	f.mu.Unlock()
	f.m.log.Info("slave forgotten", "node", id)
	if mem == nil {
		return nil
	}
	if err := f.m.journal.reader().RemoveReader(ctx, mem.consumer); err != nil {
		f.m.log.Debug("cannot remove an old consumer", "node", id, "error", err) // it ends by itself
	}
	return nil
}

// alive asks whether the process behind a member is still there.
func (f *fleet) alive(mem *member) bool {
	f.mu.Lock()
	recent := !mem.gone && time.Since(mem.seen) < offlineAfter
	f.mu.Unlock()
	return recent && f.m.broker.Client(mem.conn) != 0
}

// admit makes a session and a consumer for a slave.
func (f *fleet) admit(ctx context.Context, req *subjects.JoinRequest, cluster string, old *member) subjects.JoinResponse {
	heads := f.heads()
	c, err := f.compare(ctx, req, heads)
	if err != nil {
		// Not knowing is no reason to throw away a good copy.
		return refuse(subjects.RefusedNotReady, "the log did not say whether it has what the slave has applied: %v: try again", err)
	}
	if err := f.m.store.Catalog().Enrol(req.ID, time.Now().UnixMilli()); err != nil {
		return refuse(subjects.RefusedNotReady, "cannot enrol the slave: %v", err)
	}
	f.mu.Lock()
	f.sessions++
	session := f.sessions // of no other master: they begin where its term does
	f.mu.Unlock()
	consumer := fmt.Sprintf("node-%s-%d", req.ID, session)
	if f.m.warden != nil {
		consumer += "-" + randomID() // whoever knows the name can read with it
	}
	wire := f.m.journal.reader()
	if old != nil {
		if err := wire.RemoveReader(ctx, old.consumer); err != nil {
			f.m.log.Debug("cannot remove an old consumer", "node", req.ID, "error", err)
		}
	}
	if err := wire.AddReader(ctx, consumer, c.start); err != nil {
		return refuse(subjects.RefusedNotReady, "cannot make a consumer: %v", err)
	}
	conn := connName(req.ID, req.Boot)
	client := f.m.broker.Client(conn)
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.members[req.ID] = &member{id: req.ID, boot: req.Boot, session: session, consumer: consumer, conn: conn, client: client, seen: now}
	f.ledger.enter(req.ID, session, c.applied, now)
	for db := range heads.Heads {
		if !slices.Contains(req.Diverged, db) {
			f.accusations.withdraw(db, req.ID)
		}
	}
	f.m.orders.dispatch.Kick()
	f.m.log.Info("slave joined", "node", req.ID, "session", session, "start", c.start)
	return subjects.JoinResponse{Cluster: cluster, Term: heads.Term, Session: session, Consumer: consumer, Next: f.m.next(consumer), Start: c.start, Heads: heads,
		Reseed: c.reseed, Snapshots: c.snapshots, Foreign: c.foreign, Catalog: c.catalog}
}

// comparison says how what a slave has fits the log.
type comparison struct {
	start     uint64            // where its consumer must begin
	applied   map[string]uint64 // what is part of the log
	reseed    map[string]string // what the log does not continue, and why
	foreign   []string          // those of reseed whose content is not the log's
	snapshots map[string]subjects.Snapshot
	catalog   *subjects.CatalogSnapshot
	damaged   []string // digests of snapshots that did not arrive well
}

// compare compares what a slave has with the log. It fails when the log cannot be
// asked.
func (f *fleet) compare(ctx context.Context, req *subjects.JoinRequest, ours subjects.HeadsMessage) (*comparison, error) {
	log, err := f.m.broker.LogInfo(ctx)
	if err != nil {
		return nil, err
	}
	c := &comparison{start: ours.Cursor + 1, applied: map[string]uint64{}, reseed: map[string]string{}, snapshots: map[string]subjects.Snapshot{}, damaged: req.Damaged}
	for name, head := range ours.Heads {
		has := req.Databases[name]
		if slices.Contains(req.Diverged, name) && has.Incarnation == head.Incarnation {
			if err := f.heal(c, req.ID, name, head); err != nil {
				return nil, fmt.Errorf("database %s: %w", name, err)
			}
			continue
		}
		if err := f.compareOne(ctx, c, name, has, head, log.First); err != nil {
			return nil, fmt.Errorf("database %s: %w", name, err)
		}
	}
	return c, nil
}

// compareOne compares one database; has is zero if the slave does not have it. The log
// begins at first.
func (f *fleet) compareOne(ctx context.Context, c *comparison, name string, has, head subjects.Head, first uint64) error {
	snap, _ := f.m.keeper.snaps.Newest(head.Incarnation)
	var why string
	switch {
	case has.Incarnation == head.Incarnation && has.Position > has.Incarnation:
		// Beyond the head it may well be in the log: a slave is quicker than the
		// master's own commit.
		in := has == head || has == snap.Head
		if !in {
			var err error
			if in, err = f.inLog(ctx, has); err != nil {
				return err
			}
		}
		unsigned := has.Position < head.Position && has.Position < f.unsigned()
		if in && !unsigned {
			c.applied[name] = has.Position
			if has.Position < head.Position {
				c.start = min(c.start, has.Position+1)
			}
			return nil
		}
		if in {
			why = fmt.Sprintf("it is at position %d, and the log is signed from position %d on", has.Position, f.unsigned()+1)
			break
		}
		if has.Position >= first {
			return f.foreign(c, name, has, head, fmt.Sprintf("what it has applied at position %d is not what the log has there", has.Position))
		}
		why = fmt.Sprintf("it is at position %d, and the log begins at %d", has.Position, first)
	case max(first, f.unsigned()+1) <= head.Incarnation+1 || name != subjects.Catalog && head.Position == head.Incarnation:
		c.start = min(c.start, head.Incarnation+1) // of the catalog, 0, from the beginning
		return nil
	default:
		why = fmt.Sprintf("it is new here, and the log begins at %d", max(first, f.unsigned()+1))
	}
	c.reseed[name] = why
	return f.offer(c, name, head)
}

// unsigned is the position up to which the log is of no use to slaves because it is not
// signed: the master had no key then. A log begins with a claim, so one that is signed
// since that is signed as a whole.
func (f *fleet) unsigned() uint64 {
	if f.m.opts.Sign == nil || f.m.opts.Sign.Since() <= 1 {
		return 0
	}
	return f.m.opts.Sign.Since()
}

// offer names the snapshot of a database, or has one taken; of the catalog, its list.
func (f *fleet) offer(c *comparison, name string, head subjects.Head) error {
	if name == subjects.Catalog {
		return f.reseedCatalog(c)
	}
	snap, ok := f.m.keeper.snaps.Newest(head.Incarnation)
	switch {
	case !ok, snap.Position < head.Position && snap.Position < f.unsigned():
		snap = subjects.Snapshot{}
		f.m.keeper.want(head.Incarnation)
	case slices.Contains(c.damaged, snap.Digest):
		f.m.keeper.doubt(head.Incarnation)
		snap = subjects.Snapshot{} // join again
	}
	c.snapshots[name] = snap
	return nil
}

// foreign treats a database whose content is not the log's. One that has more than
// the master is kept: it may be the master that lost something.
func (f *fleet) foreign(c *comparison, name string, has, head subjects.Head, why string) error {
	c.reseed[name] = why
	c.foreign = append(c.foreign, name)
	if has.Position > head.Position {
		return nil
	}
	return f.offer(c, name, head)
}

// heal treats a database of which a slave says that it has diverged. When most slaves
// say so, it is the master's copy that is not what the log says.
func (f *fleet) heal(c *comparison, node, name string, head subjects.Head) error {
	f.mu.Lock()
	most, early := f.accusations.add(name, node, len(f.ledger.slaves), time.Now())
	f.mu.Unlock()
	c.reseed[name] = "its content is not what the log says"
	c.foreign = append(c.foreign, name)
	if most {
		c.reseed[name] = "most nodes say so, and then it may be the master's copy that is wrong: compare them (snapdb db verify), and resync the nodes if it is theirs"
		f.m.log.Error("most nodes have diverged from this master's log; no copy of its database is given to them", "database", name)
		return nil
	}
	if early {
		c.snapshots[name] = subjects.Snapshot{}
		return nil
	}
	return f.offer(c, name, head)
}

// reseedCatalog adds the master's list of databases.
func (f *fleet) reseedCatalog(c *comparison) error {
	list, at, err := f.m.store.Catalog().List()
	if err != nil {
		return err
	}
	c.catalog = &subjects.CatalogSnapshot{Head: subjects.Head{Position: at.Number, Chain: at.Chain.String()}, Databases: list}
	return nil
}

// inLog says whether a position with that chain is part of the log. An error says
// that the log gave no answer.
func (f *fleet) inLog(ctx context.Context, h subjects.Head) (bool, error) {
	entry, err := f.m.journal.reader().Get(ctx, h.Position)
	if errors.Is(err, broker.ErrNoMessage) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return entry.Message != nil && entry.Message.Header.Chain.String() == h.Chain, nil
}
