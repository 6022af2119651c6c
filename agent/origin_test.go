package agent_test

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/snapdb/snapdb/agent"
	"github.com/snapdb/snapdb/agent/blob"
	"github.com/snapdb/snapdb/agent/signing"
	"github.com/snapdb/snapdb/broker"
	"github.com/snapdb/snapdb/broker/brokertest"
	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// origin is the source of a log for slaves under test: a real broker and a real
// store, with every answer to a join in the hands of the test.
type origin struct {
	t     testing.TB
	b     *broker.Broker
	dir   string
	nc    *nats.Conn
	log   *broker.Log
	store *exec.Store
	blobs *blob.Store
	term  uint64
	tls   *tls.Config // of the broker when it starts
	told  uint64      // number of the last heads

	// Set before anybody joins.
	key      *signing.Key                                  // nil: nothing is signed
	spoil    func(n int, request []byte, answer *nats.Msg) // changes the n-th answer to a join once it is signed
	careless bool                                          // messages of the log are not signed, whatever else is

	mu      sync.Mutex
	joins   []subjects.JoinRequest
	answer  func(n int, r *subjects.JoinResponse) // changes the answer to the n-th join, from 1
	acks    []subjects.AckMessage
	states  map[string]subjects.StatusMessage
	corrupt bool // blobs are served with a wrong byte
	readers []string
}

func newOrigin(t testing.TB) *origin {
	t.Helper()
	o := &origin{t: t, dir: t.TempDir(), states: map[string]subjects.StatusMessage{}}
	var err error
	if o.blobs, err = blob.Open(filepath.Join(o.dir, "blobs")); err != nil {
		t.Fatal(err)
	}
	o.store, err = exec.Open(filepath.Join(o.dir, "store"), exec.Options{Role: exec.RoleMaster, Logger: quiet(),
		Spill: func() (exec.Spill, error) { return o.blobs.Create(0) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := o.store.Close(); err != nil {
			t.Error(err)
		}
	})
	o.serve(brokertest.Address(t))
	t.Cleanup(o.down)
	return o
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// serve starts the broker and answers.
func (o *origin) serve(listen string) {
	o.t.Helper()
	ctx := testContext(o.t)
	var err error
	if o.b, err = broker.Start(ctx, broker.Config{Dir: filepath.Join(o.dir, "log"), Listen: listen, TLS: o.tls, Logger: quiet()}); err != nil {
		o.t.Fatal(err)
	}
	if o.nc, err = o.b.Connect("origin"); err != nil {
		o.t.Fatal(err)
	}
	if o.log, err = o.b.OpenLog(o.nc); err != nil {
		o.t.Fatal(err)
	}
	last, err := o.log.LastEpoch(ctx)
	if err != nil {
		o.t.Fatal(err)
	}
	if o.term, err = o.log.Claim(ctx, last.Position, "origin", []byte("{}"), subjects.Signature{}); err != nil {
		o.t.Fatal(err)
	}
	for subject, handle := range map[string]nats.MsgHandler{
		subjects.Join: o.onJoin, subjects.BlobGet: o.onBlob, subjects.NodeAck("*"): o.onAck, subjects.NodeStatus("*"): o.onStatus,
	} {
		if _, err := o.nc.Subscribe(subject, handle); err != nil {
			o.t.Fatal(err)
		}
	}
	if err := o.nc.Flush(); err != nil {
		o.t.Fatal(err)
	}
}

// down stops the broker as a crash would look to slaves.
func (o *origin) down() {
	o.nc.Close()
	o.b.Close()
}

// append stores a message in the origin's term.
func (o *origin) append(h subjects.Header, body []byte) (uint64, error) {
	h.Term = o.term
	if o.key != nil && !o.careless {
		h = sealed(o.key, "c1", h, body)
	}
	return o.log.Append(testContext(o.t), h, body)
}

func (o *origin) heads() subjects.HeadsMessage {
	h := subjects.HeadsMessage{Term: o.term, Heads: o.store.Heads()}
	for _, head := range h.Heads {
		h.Cursor = max(h.Cursor, head.Position)
	}
	return h
}

func (o *origin) publishHeads() {
	o.t.Helper()
	h := o.heads()
	o.told++
	h.Number = o.told
	data, err := json.Marshal(h)
	if err == nil {
		err = o.nc.PublishMsg(&nats.Msg{Subject: subjects.Heads, Data: data, Header: o.sign(&subjects.SignedHeads{Cluster: "c1", Body: data})})
	}
	if err != nil {
		o.t.Fatal(err)
	}
}

func (o *origin) onJoin(msg *nats.Msg) {
	var req subjects.JoinRequest
	if err := json.Unmarshal(msg.Data, &req); err != nil {
		o.t.Error(err)
		return
	}
	o.mu.Lock()
	o.joins = append(o.joins, req)
	n, answer := len(o.joins), o.answer
	o.mu.Unlock()
	resp := subjects.JoinResponse{V: subjects.Version, Cluster: "c1", Term: o.term, Session: uint64(100 + n), Start: 1, Heads: o.heads(),
		Consumer: fmt.Sprintf("reader-%s-%d", req.ID, n)}
	if answer != nil {
		answer(n, &resp)
	}
	if resp.Refused == nil {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := o.log.AddReader(ctx, resp.Consumer, resp.Start); err != nil {
			o.t.Error(err)
			return
		}
	}
	o.mu.Lock()
	o.readers = append(o.readers, resp.Consumer)
	o.mu.Unlock()
	data, err := json.Marshal(resp)
	if err == nil {
		out := &nats.Msg{Data: data, Header: o.sign(&subjects.SignedJoin{Cluster: resp.Cluster, Node: req.ID, Boot: req.Boot, Session: resp.Session, Request: msg.Data, Answer: data})}
		if o.spoil != nil {
			o.spoil(n, msg.Data, out)
		}
		err = msg.RespondMsg(out)
	}
	if err != nil {
		o.t.Error(err)
	}
}

// sign gives the headers of what is signed.
func (o *origin) sign(what interface{ Bytes() []byte }) nats.Header {
	if o.key == nil {
		return nil
	}
	h := nats.Header{}
	subjects.EncodeSignature(h, o.key.Sign(what.Bytes()))
	return h
}

func (o *origin) onBlob(msg *nats.Msg) {
	var req subjects.BlobRequest
	if err := json.Unmarshal(msg.Data, &req); err != nil {
		o.t.Error(err)
		return
	}
	buf := make([]byte, subjects.BlobChunk)
	n, err := o.blobs.ReadAt(req.Digest, buf, req.Offset)
	if err != nil {
		out := nats.NewMsg(msg.Reply)
		out.Header.Set(micro.ErrorHeader, err.Error())
		_ = msg.RespondMsg(out)
		return
	}
	o.mu.Lock()
	if o.corrupt && req.Offset > 0 {
		buf[n/2] = '}'
	}
	o.mu.Unlock()
	_ = msg.Respond(buf[:n])
}

func (o *origin) onAck(msg *nats.Msg) {
	var ack subjects.AckMessage
	if err := subjects.DecodeAck(msg.Data, &ack); err != nil {
		o.t.Errorf("malformed acknowledgement %s: %v", msg.Data, err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.acks = append(o.acks, ack)
}

func (o *origin) onStatus(msg *nats.Msg) {
	var st subjects.StatusMessage
	if err := json.Unmarshal(msg.Data, &st); err != nil {
		o.t.Error(err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.states[st.ID] = st
}

func (o *origin) joinCount() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.joins)
}

// acked is the highest position of db acknowledged with the last session.
func (o *origin) acked(db string) uint64 { return o.ackedIn(uint64(100+o.joinCount()), db) }

// ackedIn is the highest position of db acknowledged with a session.
func (o *origin) ackedIn(session uint64, db string) (position uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, a := range o.acks {
		if a.Session == session {
			position = max(position, a.Applied[db])
		}
	}
	return position
}

// catalog logs and applies a CREATE or DROP DATABASE.
func (o *origin) catalog(sql string) uint64 {
	o.t.Helper()
	cmd, _, err := exec.ParseCommand(sql)
	if err != nil {
		o.t.Fatal(err)
	}
	c := o.store.Catalog()
	body := c.Body(cmd, 1)
	at := c.Applied()
	h := subjects.Header{DB: subjects.Catalog, Prev: at.Number, Chain: subjects.NextChain(at.Chain, 0, body), ID: "x"}
	position, err := o.append(h, body)
	if err == nil {
		err = o.store.ApplyCatalog(&subjects.Message{Position: position, Header: h, Data: body})
	}
	if err != nil {
		o.t.Fatal(err)
	}
	return position
}

func (o *origin) db(name string) *exec.Database {
	o.t.Helper()
	d, err := o.store.Database(name)
	if err != nil {
		o.t.Fatal(err)
	}
	return d
}

// group executes statements as one transaction of one group and returns it
// sealed.
func (o *origin) group(name string, sqls ...string) (*exec.Group, subjects.Header, []byte) {
	o.t.Helper()
	d := o.db(name)
	g, err := d.Begin()
	if err != nil {
		o.t.Fatal(err)
	}
	tx, err := g.Open(subjects.Txn{Now: 1, Seed: 2})
	if err != nil {
		o.t.Fatal(err)
	}
	stmts := make([]subjects.Stmt, len(sqls))
	for i, sql := range sqls {
		stmts[i].SQL = sql
	}
	var out subjects.Results
	if err := tx.RunAll(stmts, &out); err != nil {
		o.t.Fatalf("%q: %v", sqls, err)
	}
	if err := tx.Accept(nil); err != nil {
		o.t.Fatal(err)
	}
	body, err := g.Seal()
	if err != nil {
		o.t.Fatal(err)
	}
	at := d.Applied()
	return g, subjects.Header{DB: name, Inc: d.Incarnation(), Prev: at.Number, Chain: subjects.NextChain(at.Chain, d.Incarnation(), body), ID: "x"}, body
}

// write logs and commits one transaction.
func (o *origin) write(name string, sqls ...string) uint64 {
	o.t.Helper()
	g, h, body := o.group(name, sqls...)
	position, err := o.append(h, body)
	if err == nil {
		err = g.Commit(position, h.Chain)
	}
	if err != nil {
		o.t.Fatal(err)
	}
	return position
}

// start starts a slave that the test's end stops.
func (o *origin) start(dir string) *agent.Slave {
	o.t.Helper()
	opts := agent.SlaveOptions{URL: o.b.URL(), ID: "snap1", Dir: dir, Version: "test", Logger: quiet()}
	if o.key != nil {
		opts.Trust = []ed25519.PublicKey{o.key.Public()}
	}
	s, err := agent.StartSlave(o.t.Context(), opts)
	if err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(func() { stop(o.t, s) })
	return s
}

func stop(t testing.TB, s *agent.Slave) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Errorf("stop: %v", err)
	}
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// until waits for a condition.
func until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	end := time.NewTimer(45 * time.Second)
	defer end.Stop()
	tick := time.NewTicker(3 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-end.C:
			t.Fatalf("not reached: %s", what)
		}
	}
}

func position(s *agent.Slave, db string) uint64 {
	d, err := s.Store().Database(db)
	if err != nil {
		return 0
	}
	return d.Applied().Number
}

func untilAt(t testing.TB, s *agent.Slave, db string, n uint64) {
	t.Helper()
	until(t, fmt.Sprintf("%s at %d", db, n), func() bool { return position(s, db) >= n })
}

func untilState(t testing.TB, s *agent.Slave, want subjects.State) {
	t.Helper()
	until(t, "state "+string(want), func() bool { return s.Status().State == want })
}

// untilOnline waits for a slave that has caught up. One that takes long to do so lags,
// until it hears heads again.
func (o *origin) untilOnline(s *agent.Slave) {
	o.t.Helper()
	until(o.t, "state online", func() bool {
		state := s.Status().State
		if state == subjects.StateLagging {
			o.publishHeads()
		}
		return state == subjects.StateOnline
	})
}

// public is a connection with everybody's rights.
func (o *origin) public() *nats.Conn {
	o.t.Helper()
	nc, err := nats.Connect(o.b.URL())
	if err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(nc.Close)
	return nc
}

// ask sends a query to the node's door.
func (o *origin) ask(id string, req subjects.Request) *subjects.Response {
	o.t.Helper()
	msg, err := o.public().RequestWithContext(testContext(o.t), subjects.NodeQuery(id), subjects.AppendRequest(nil, &req))
	if err != nil {
		o.t.Fatal(err)
	}
	var resp subjects.Response
	if err := subjects.DecodeResponse(msg.Data, &resp); err != nil {
		o.t.Fatalf("%s: %v", msg.Data, err)
	}
	return &resp
}

// count is the number of rows of table t on the node.
func (o *origin) count(id, db string) int64 {
	o.t.Helper()
	resp := o.ask(id, subjects.Request{DB: db, SQL: "SELECT count(*) FROM t"})
	if resp.Error != nil {
		o.t.Fatalf("count: %v", resp.Error)
	}
	return resp.Results[0].Rows[0][0].Int()
}
