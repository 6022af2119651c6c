package broker_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
	"github.com/nats-io/nkeys"

	"github.com/snapdb/snapdb/broker"
	"github.com/snapdb/snapdb/subjects"
)

// gated is a broker whose gate knows two nodes, and users with the secret "sesame".
type gated struct {
	*master
	doors *nats.Conn
	keys  map[string]nkeys.KeyPair // of nodes
}

func startGated(t *testing.T) *gated {
	g := &gated{keys: map[string]nkeys.KeyPair{}}
	ids := map[string]string{}
	for _, id := range []string{"a", "b"} {
		pair, err := nkeys.CreateUser()
		if err != nil {
			t.Fatal(err)
		}
		public, err := pair.PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		g.keys[id], ids[public] = pair, id
	}
	c := config(t.TempDir())
	c.Gate = func(_ context.Context, c broker.Credentials) (broker.Guest, error) {
		switch id := ids[c.Key]; {
		case id != "":
			return broker.Guest{Node: id}, nil
		case c.Key == "" && c.User != "" && c.Secret == "sesame":
			return broker.Guest{Name: c.User, Inbox: "_INBOX_" + c.User, Whole: c.User != "guest"}, nil
		}
		return broker.Guest{}, errors.New("unknown")
	}
	g.master = startWith(t, c)
	var err error
	if g.doors, err = g.ConnectPublic("doors"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.doors.Close)
	return g
}

// node connects as a node.
func (g *gated) node(id string) *nats.Conn {
	public, _ := g.keys[id].PublicKey()
	return g.dial(nats.Nkey(public, g.keys[id].Sign))
}

// user connects as a user.
func (g *gated) user(name string) *nats.Conn {
	return g.dial(nats.UserInfo(name, "sesame"), nats.CustomInboxPrefix("_INBOX_"+name))
}

func (g *gated) dial(opts ...nats.Option) *nats.Conn {
	g.t.Helper()
	nc, err := nats.Connect(g.URL(), append(opts, nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))...)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(nc.Close)
	return nc
}

// answer has a door of the master answer with who asks.
func (g *gated) answer(nc *nats.Conn, subject string) {
	g.t.Helper()
	_, err := nc.Subscribe(subject, func(msg *nats.Msg) {
		msg.Respond([]byte(msg.Subject + " " + msg.Header.Get(broker.CallerHeader)))
	})
	if err == nil {
		err = nc.Flush()
	}
	if err != nil {
		g.t.Fatal(err)
	}
}

// ask asks at a door and returns who asked, as the door knows it.
func (g *gated) ask(nc *nats.Conn, subject string) broker.Caller {
	g.t.Helper()
	msg, err := nc.Request(subject, []byte("{}"), testPatience)
	if err != nil {
		g.t.Fatalf("%s: %v", subject, err)
	}
	_, text, _ := strings.Cut(string(msg.Data), " ")
	var c broker.Caller
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		g.t.Fatalf("%s: caller %q: %v", subject, text, err)
	}
	return c
}

func TestDoorsKnowWhoAsks(t *testing.T) {
	t.Parallel()
	g := startGated(t)
	for _, subject := range []string{subjects.Exec, subjects.Join, subjects.BlobGet} {
		g.answer(g.doors, subject)
	}
	a, alice := g.node("a"), g.user("alice")
	if c := g.ask(alice, subjects.Exec); c.Name != "alice" || !c.User() || c.Node() != "" || c.From != "127.0.0.1" {
		t.Errorf("alice is %+v", c)
	}
	if c := g.ask(a, subjects.Join); c.User() || c.Node() != "a" {
		t.Errorf("node a is %+v", c)
	}
	// A header of the client's own is replaced.
	msg, err := alice.RequestMsg(&nats.Msg{Subject: subjects.Exec, Header: nats.Header{broker.CallerHeader: {`{"acc":"USERS","user":"root"}`}}}, testPatience)
	if err != nil || strings.Contains(string(msg.Data), "root") {
		t.Errorf("%s, %v", msg.Data, err)
	}
	deputy, err := nats.Connect("", g.AsDeputy()...)
	if err != nil {
		t.Fatal(err)
	}
	defer deputy.Close()
	if c := g.ask(deputy, subjects.Exec); c.Name != g.Deputy() || !c.User() {
		t.Errorf("the deputy is %+v", c)
	}
}

func TestNodesBehindAGate(t *testing.T) {
	t.Parallel()
	g := startGated(t)
	a, b, alice := g.node("a"), g.node("b"), g.user("alice")
	g.answer(a, subjects.NodeCtl("a"))
	g.answer(b, subjects.NodeQuery("b"))
	if msg, err := g.doors.Request(subjects.NodeCtl("a"), nil, testPatience); err != nil || !strings.HasPrefix(string(msg.Data), "node.a.ctl") {
		t.Errorf("%v", err)
	}
	if c := g.ask(alice, subjects.NodeQuery("b")); !c.User() || c.Name != "alice" {
		t.Errorf("at a node alice is %+v", c)
	}
	// What a node says reaches the master and users, and the stream of log lines.
	heard := make(chan *nats.Msg, 16)
	for nc, subject := range map[*nats.Conn]string{g.doors: "node.*.ack", alice: "node.*.status"} {
		if _, err := nc.ChanSubscribe(subject, heard); err != nil {
			t.Fatal(err)
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	for _, subject := range []string{"node.a.ack", "node.a.status", "node.a.log", "node.b.ack"} {
		if err := a.Publish(subject, []byte(subject)); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Publish("node.b.ack", []byte("b")); err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for range 3 {
		select {
		case msg := <-heard:
			got[msg.Subject+" "+string(msg.Data)]++
		case <-time.After(testPatience):
			t.Fatalf("heard only %v", got)
		}
	}
	if got["node.a.ack node.a.ack"] != 1 || got["node.a.status node.a.status"] != 1 || got["node.b.ack b"] != 1 {
		t.Errorf("heard %v", got)
	}
	js, err := jetstream.NewWithAPIPrefix(alice, broker.APIPrefix)
	if err != nil {
		t.Fatal(err)
	}
	for {
		s, err := js.Stream(testContext(t), subjects.NodeLogStream)
		if err != nil {
			t.Fatal(err)
		}
		if s.CachedInfo().State.Msgs == 1 {
			break
		}
	}
	// Heads reach every node.
	if _, err := b.ChanSubscribe(subjects.Heads, heard); err != nil {
		t.Fatal(err)
	}
	if err := b.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := g.nc.Publish(subjects.Heads, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if msg := <-heard; msg.Subject != subjects.Heads {
		t.Errorf("heard %s", msg.Subject)
	}
}

func TestNodeReadsTheLogThroughItsConsumer(t *testing.T) {
	t.Parallel()
	g := startGated(t)
	for range 1000 {
		g.append("x")
	}
	if err := g.log.AddReader(testContext(t), "a", 1); err != nil {
		t.Fatal(err)
	}
	nc := g.node("a")
	n, done := 0, errors.New("done")
	err := broker.ReadLog(testContext(t), nc, broker.NextOfGuest("a"), func(batch []broker.Entry) error {
		if n += len(batch); n >= 1000 {
			return done
		}
		return nil
	})
	if !errors.Is(err, done) {
		t.Errorf("read %d: %v", n, err)
	}
}

func TestMicroSeesThroughTheGate(t *testing.T) {
	t.Parallel()
	g := startGated(t)
	for _, nc := range []*nats.Conn{g.node("a"), g.node("b"), g.doors} {
		svc, err := micro.AddService(nc, micro.Config{Name: "s", Version: "1.0.0", QueueGroupDisabled: true})
		if err != nil {
			t.Fatal(err)
		}
		defer svc.Stop()
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	alice := g.user("alice")
	sub, err := alice.SubscribeSync(alice.NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	if err := alice.PublishRequest("$SRV.PING", sub.Subject, nil); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if _, err := sub.NextMsg(testPatience); err != nil {
			t.Fatalf("after %d: %v", i, err)
		}
	}
}
