package broker_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/snapdb/snapdb/broker"
	"github.com/snapdb/snapdb/subjects"
)

// stranger is a client without credentials that notes what it is refused.
type stranger struct {
	t *testing.T
	*nats.Conn
	refused chan error
}

func newStranger(t *testing.T, b *broker.Broker) *stranger {
	s := &stranger{t: t, refused: make(chan error, 100)}
	s.Conn = plain(t, b, nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { s.refused <- err }))
	return s
}

// wantRefused asserts that the last thing the stranger tried was refused.
func (s *stranger) wantRefused(subject string) {
	s.t.Helper()
	if err := receive(s.t, s.refused); !strings.Contains(err.Error(), "Permissions Violation") || !strings.Contains(err.Error(), subject) {
		s.t.Fatalf("%s: refused with %v", subject, err)
	}
}

// wantAllowed asserts that nothing was refused.
func (s *stranger) wantAllowed(what string) {
	s.t.Helper()
	if err := s.Flush(); err != nil {
		s.t.Fatal(err)
	}
	select {
	case err := <-s.refused:
		s.t.Fatalf("%s: %v", what, err)
	default:
	}
}

func TestStrangersMayNotPublish(t *testing.T) {
	m := start(t)
	m.append("a")
	m.addReader("r", 1)
	s := newStranger(t, m.Broker)
	log, lines := subjects.LogStream, subjects.NodeLogStream
	for _, subject := range []string{
		subjects.Replicate, subjects.Epoch, subjects.Heads, subjects.NodeLog(subjects.MasterID), // in the master's name
		m.nc.NewInbox(),
		"$JS.API.STREAM.CREATE.X",
		"$JS.API.STREAM.UPDATE." + log, "$JS.API.STREAM.UPDATE." + lines,
		"$JS.API.STREAM.DELETE." + log, "$JS.API.STREAM.DELETE." + lines,
		"$JS.API.STREAM.PURGE." + log, "$JS.API.STREAM.PURGE." + lines,
		"$JS.API.STREAM.RESTORE." + log, "$JS.API.STREAM.RESTORE.X",
		"$JS.API.STREAM.SNAPSHOT." + log, "$JS.API.STREAM.SNAPSHOT." + lines,
		"$JS.API.STREAM.MSG.DELETE." + log, "$JS.API.STREAM.MSG.DELETE." + lines,
		"$JS.API.CONSUMER.CREATE." + log, "$JS.API.CONSUMER.CREATE." + log + ".x", "$JS.API.CONSUMER.CREATE." + log + ".x." + subjects.Replicate,
		"$JS.API.CONSUMER.CREATE." + lines, "$JS.API.CONSUMER.DURABLE.CREATE." + log + ".x", "$JS.API.CONSUMER.DURABLE.CREATE." + lines + ".x",
		"$JS.API.CONSUMER.MSG.NEXT." + lines + ".x",
		"$JS.API.CONSUMER.DELETE." + log + ".r", "$JS.API.CONSUMER.PAUSE." + log + ".r", "$JS.API.CONSUMER.RESET." + log + ".r",
		"$JS.API.CONSUMER.UNPIN." + log + ".r", "$JS.API.CONSUMER.LEADER.STEPDOWN." + log + ".r",
		"$JS.API.DIRECT.GET." + log, "$JS.API.DIRECT.GET." + lines + ".node.x.log",
		"$JS.API.STREAM.LEADER.STEPDOWN." + log, "$JS.API.META.LEADER.STEPDOWN", "$JS.API.SERVER.REMOVE", "$JS.API.ACCOUNT.PURGE.$G",
		"$JS.ACK.DB_REPLICATE.r.1.1.1.1.1", "$JS.FC.x", "$KV.x", "$SYS.REQ.SERVER.PING", "$SYS.REQ.ACCOUNT.$G.CONNZ",
		"elsewhere",
	} {
		if err := s.PublishRequest(subject, s.NewInbox(), nil); err != nil {
			t.Fatal(err)
		}
		s.wantRefused(subject)
	}
	m.append("b")
	wantIDs(t, m.ids(1), "a", "b")
	wantIDs(t, readIDs(t, m, 1, 2), "a", "b")
	if !slices.Contains(consumers(t, m), "r") {
		t.Error("the consumer is gone")
	}
}

func TestStrangersMayNotListenToTheMastersInbox(t *testing.T) {
	m := start(t)
	s := newStranger(t, m.Broker)
	for _, subject := range []string{"_INBOX_master.>", "_INBOX_master.*.*", m.nc.NewInbox()} {
		if _, err := s.SubscribeSync(subject); err != nil {
			t.Fatal(err)
		}
		s.wantRefused(subject)
	}
	// A wildcard above it is granted, without what must not be heard.
	all, err := s.SubscribeSync(">")
	if err != nil {
		t.Fatal(err)
	}
	s.wantAllowed("listening to everything")
	m.append("a")
	if err := m.nc.Publish(subjects.Heads, []byte("after the ack")); err != nil {
		t.Fatal(err)
	}
	for {
		msg, err := all.NextMsg(testPatience)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(msg.Subject, "_INBOX_master") {
			t.Fatalf("heard %s: %s", msg.Subject, msg.Data)
		}
		if msg.Subject == subjects.Heads {
			return
		}
	}
}

// What the README shows to somebody with nothing but the plain nats tool.
func TestStrangersMayLookAtEverything(t *testing.T) {
	m := start(t)
	m.append("a")
	m.addReader("r", 1)
	s := newStranger(t, m.Broker)
	for request, want := range map[string]string{
		"$JS.API.INFO": `"streams":2`, "$JS.API.STREAM.NAMES": subjects.LogStream, "$JS.API.STREAM.LIST": subjects.LogStream,
		"$JS.API.STREAM.INFO." + subjects.LogStream:                   `"messages":2`,
		"$JS.API.STREAM.MSG.GET." + subjects.LogStream + ` {"seq":2}`: subjects.Replicate,
		"$JS.API.CONSUMER.NAMES." + subjects.LogStream:                `"r"`,
		"$JS.API.CONSUMER.LIST." + subjects.LogStream:                 `"r"`,
		"$JS.API.CONSUMER.INFO." + subjects.LogStream + ".r":          `"num_pending":1`,
		"$SYS.REQ.USER.INFO":                                          "permissions",
	} {
		subject, body, _ := strings.Cut(request, " ")
		msg, err := s.Request(subject, []byte(body), testPatience)
		if err != nil || !strings.Contains(string(msg.Data), want) {
			t.Errorf("%s: %v, want %s in %s", request, err, want, answer(msg))
		}
	}
	for _, subject := range []string{subjects.Exec, subjects.Query, subjects.Cancel, subjects.Join, subjects.ClusterInfo, subjects.BlobGet,
		subjects.NodeAck("x"), subjects.NodeCtl("x"), subjects.NodeLog("x"), subjects.NodeQuery("x"), subjects.NodeStatus("x"),
		"$SRV.PING", "$SRV.INFO.snapdb-node", nats.NewInbox()} {
		if err := s.Publish(subject, nil); err != nil {
			t.Fatal(err)
		}
		s.wantAllowed(subject)
	}
	for _, subject := range []string{subjects.Replicate, subjects.Epoch, subjects.Heads, subjects.NodeStatus("*")} {
		if _, err := s.SubscribeSync(subject); err != nil {
			t.Fatal(err)
		}
		s.wantAllowed(subject)
	}
}

func answer(msg *nats.Msg) []byte {
	if msg == nil {
		return nil
	}
	return msg.Data
}

// send has the server send the answer to a request to a subject that is closed to
// the stranger, and waits until it is stored there.
func (s *stranger) send(m *master, request, to string) {
	s.t.Helper()
	before, err := m.LogInfo(testContext(s.t))
	if err != nil {
		s.t.Fatal(err)
	}
	api, body, _ := strings.Cut(request, " ")
	if err := s.PublishRequest(api, to, []byte(body)); err != nil {
		s.t.Fatal(err)
	}
	eventually(s.t, request+" is answered to "+to, func() bool {
		info, err := m.LogInfo(testContext(s.t))
		return err == nil && info.Last > before.Last
	})
}

// answers are requests that strangers may make, whose answers are the server's.
var answers = []string{
	"$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST", "$JS.API.STREAM.INFO.DB_REPLICATE",
	`$JS.API.STREAM.MSG.GET.DB_REPLICATE {"seq":2}`, `$JS.API.STREAM.MSG.GET.DB_REPLICATE {"last_by_subj":"db.epoch"}`,
	"$JS.API.CONSUMER.NAMES.DB_REPLICATE", "$JS.API.CONSUMER.LIST.DB_REPLICATE",
	"$JS.API.CONSUMER.INFO.DB_REPLICATE.end", "$JS.API.CONSUMER.INFO.DB_REPLICATE.none",
	`$JS.API.CONSUMER.MSG.NEXT.DB_REPLICATE.end {"no_wait":true}`, "$SYS.REQ.USER.INFO",
}

func TestAnswersSentIntoTheLogAreForeign(t *testing.T) {
	m := start(t)
	m.append("a")
	m.addReader("end", m.term+1000)
	s := newStranger(t, m.Broker)
	want := []string{"a"}
	for _, request := range answers {
		s.send(m, request, subjects.Replicate)
		want = append(want, "foreign")
	}
	m.append("b")
	want = append(want, "b")
	wantIDs(t, m.ids(1), want...)
	wantIDs(t, readIDs(t, m, 1, len(want)), want...)
}

func TestAnswersSentToTheEpochAreNoClaims(t *testing.T) {
	m := start(t)
	m.append("a")
	m.addReader("end", m.term+1000)
	m.addReader("all", 1)
	s := newStranger(t, m.Broker)
	// A message of the log, with all its headers, gets into the log again, not there.
	s.send(m, `$JS.API.CONSUMER.MSG.NEXT.DB_REPLICATE.all {"batch":1}`, subjects.Epoch)
	m.append("b")
	for _, request := range answers {
		s.send(m, request, subjects.Epoch)
		if epoch, err := m.log.LastEpoch(testContext(t)); err != nil || epoch.Position <= m.term || epoch.Master != "" {
			t.Fatalf("%s: the last epoch is %+v, %v", request, epoch, err)
		}
	}
	if _, err := m.log.Append(testContext(t), m.header("c"), nil); !errors.Is(err, broker.ErrFenced) {
		t.Fatalf("error %v, want ErrFenced", err)
	}
	m.claim()
	m.append("c")
	wantIDs(t, m.ids(1), "a", "a", "b", "c")
}

// A message of the log that is stored once more says by its headers that it
// follows what the first one follows: nobody who has the first applies it.
func TestMessagesSentIntoTheLogAgainAreExactCopies(t *testing.T) {
	m := start(t)
	m.append("old")
	m.claim()
	head := subjects.Header{DB: "d", Inc: 1, Prev: m.term - 1, Chain: subjects.FirstChain(1), Term: m.term, ID: "now"}
	first, err := m.log.Append(testContext(t), head, []byte("body"))
	if err != nil {
		t.Fatal(err)
	}
	m.addReader("all", 1)
	s := newStranger(t, m.Broker)
	// The old one is refused for its term, the other one is stored.
	s.send(m, `$JS.API.CONSUMER.MSG.NEXT.DB_REPLICATE.all {"batch":2}`, subjects.Replicate)
	wantIDs(t, m.ids(1), "old", "now", "now")
	e, err := m.log.Get(testContext(t), first+1)
	if err != nil || e.Message == nil || e.Message.Header != head || string(e.Message.Data) != "body" {
		t.Fatalf("the copy is %+v, %v", e.Message, err)
	}
}

// Whoever answers requests answers with everybody's rights, or the asker could
// make the master speak for him.
func TestDoorsAnswerNowhereButWhereEverybodyMay(t *testing.T) {
	m := start(t)
	door, err := m.ConnectPublic("door")
	if err != nil {
		t.Fatal(err)
	}
	defer door.Close()
	answered := make(chan struct{}, 10)
	if _, err := door.Subscribe(subjects.Query, func(msg *nats.Msg) {
		if err := msg.Respond([]byte("answer")); err != nil {
			t.Error(err)
		}
		if err := door.Flush(); err != nil {
			t.Error(err)
		}
		answered <- struct{}{}
	}); err != nil {
		t.Fatal(err)
	}
	if err := door.Flush(); err != nil {
		t.Fatal(err)
	}
	s := newStranger(t, m.Broker)
	heads, err := s.SubscribeSync(subjects.Heads)
	if err != nil {
		t.Fatal(err)
	}
	for _, reply := range []string{subjects.Replicate, subjects.Epoch, subjects.Heads, "$JS.API.STREAM.PURGE." + subjects.LogStream} {
		if err := s.PublishRequest(subjects.Query, reply, nil); err != nil {
			t.Fatal(err)
		}
		receive(t, answered)
	}
	if msg, err := s.Request(subjects.Query, nil, testPatience); err != nil || string(msg.Data) != "answer" {
		t.Fatalf("in an inbox: %s, %v", answer(msg), err)
	}
	receive(t, answered) // the door is done with it too
	info, err := m.LogInfo(testContext(t))
	if n, _, perr := heads.Pending(); err != nil || perr != nil || n > 0 || info.Last != m.term || info.Messages != 1 {
		t.Fatalf("%d heads, log %+v, %v, %v", n, info, err, perr)
	}
}
