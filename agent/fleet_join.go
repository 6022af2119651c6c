package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/snapdb/snapdb/broker"
	"github.com/snapdb/snapdb/subjects"
)

// maxJoins is how many slaves may be about to be let in.
const maxJoins = 16

// connName is what a slave calls its NATS connection.
func connName(id, boot string) string { return "snapdb slave " + id + " " + boot }

// onJoin answers a slave that wants in. It runs in a goroutine of its own,
// because making a consumer waits for the broker.
func (f *fleet) onJoin(msg *nats.Msg) {
	if !f.m.admitter.do(func() { f.answerJoin(msg, f.join(f.m.ctx, msg.Data)) }) {
		f.answerJoin(msg, refuse(subjects.RefusedNotReady, "the master is stopping, or lets in %d slaves already: try again", maxJoins))
	}
}

func (f *fleet) answerJoin(msg *nats.Msg, resp subjects.JoinResponse) {
	resp.V = subjects.Version
	data, err := json.Marshal(resp)
	if err == nil {
		err = msg.Respond(data)
	}
	if err != nil {
		f.m.log.Warn("cannot answer a join", "error", err)
	}
}

func refuse(code subjects.RefusalCode, format string, args ...any) subjects.JoinResponse {
	return subjects.JoinResponse{Refused: &subjects.Refusal{Code: code, Reason: fmt.Sprintf(format, args...)}}
}

func (f *fleet) join(ctx context.Context, data []byte) subjects.JoinResponse {
	var req subjects.JoinRequest
	if err := json.Unmarshal(data, &req); err != nil {
		return refuse(subjects.RefusedInvalid, "not a join request: %v", subjects.PlainJSON(data, err))
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
	f.joining.Lock()
	defer f.joining.Unlock()
	f.mu.Lock()
	old := f.members[req.ID]
	f.mu.Unlock()
	if old != nil && old.boot != req.Boot && f.alive(old) {
		return refuse(subjects.RefusedIDInUse, "a slave with id %s is already connected: give this one another --id, or stop the other", req.ID)
	}
	if !f.room(req.ID) {
		return refuse(subjects.RefusedTooMany, "%d slaves are enrolled already: make the master forget those that will not come back (snapdb node forget ID)", maxEnrolled)
	}
	return f.admit(ctx, &req, cluster, old)
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
	reseed, applied, start, err := f.compare(ctx, req.Databases, heads)
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
	wire := f.m.journal.reader()
	if old != nil {
		if err := wire.RemoveReader(ctx, old.consumer); err != nil {
			f.m.log.Debug("cannot remove an old consumer", "node", req.ID, "error", err)
		}
	}
	if err := wire.AddReader(ctx, consumer, start); err != nil {
		return refuse(subjects.RefusedNotReady, "cannot make a consumer: %v", err)
	}
	conn := connName(req.ID, req.Boot)
	client := f.m.broker.Client(conn)
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.members[req.ID] = &member{id: req.ID, boot: req.Boot, session: session, consumer: consumer, conn: conn, client: client, seen: now}
	f.ledger.enter(req.ID, session, applied, now)
	f.m.orders.dispatch.Kick()
	f.m.log.Info("slave joined", "node", req.ID, "session", session, "start", start)
	return subjects.JoinResponse{Cluster: cluster, Term: heads.Term, Session: session, Consumer: consumer, Start: start, Heads: heads, Reseed: reseed}
}

// compare finds which of a slave's databases are not part of this log, what the
// others have applied, and where its consumer must start. It fails when the log
// cannot be asked.
func (f *fleet) compare(ctx context.Context, theirs map[string]subjects.Head, ours subjects.HeadsMessage) (reseed map[string]string, applied map[string]uint64, start uint64, err error) {
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
		case has.Position > has.Incarnation:
			// Beyond the head it may well be in the log: a slave is quicker than the
			// master's own commit.
			in, err := f.inLog(ctx, has)
			if err != nil {
				return nil, nil, 0, fmt.Errorf("database %s: %w", name, err)
			}
			if !in {
				reseed[name] = fmt.Sprintf("what it has applied at position %d is not what the log has there", has.Position)
				continue
			}
		}
		applied[name] = has.Position
		if has.Position < head.Position {
			start = min(start, has.Position+1)
		}
	}
	return reseed, applied, start, nil
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
