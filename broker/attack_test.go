package broker_test

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/snapdb/snapdb/broker"
	"github.com/snapdb/snapdb/subjects"
)

// smuggled is what must not arrive in another's name.
const smuggled = "SMUGGLED"

// witness notes where what is smuggled arrives, and under which name.
type witness struct {
	t    *testing.T
	nc   *nats.Conn
	mu   sync.Mutex
	seen []*nats.Msg
}

func newWitness(t *testing.T, nc *nats.Conn, listen ...string) *witness {
	w := &witness{t: t, nc: nc}
	for _, subject := range listen {
		if _, err := nc.Subscribe(subject, w.note); err != nil {
			t.Fatal(err)
		}
	}
	w.wait()
	return w
}

func (w *witness) note(msg *nats.Msg) {
	if strings.Contains(string(msg.Data), smuggled) && !strings.HasPrefix(msg.Subject, "_R_.") && !strings.HasPrefix(msg.Subject, "_INBOX") {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.seen = append(w.seen, msg)
	}
}

func (w *witness) wait() {
	w.t.Helper()
	if err := w.nc.Flush(); err != nil {
		w.t.Fatal(err)
	}
}

// saw are the subjects on which something arrived in a name that counts there.
func (w *witness) saw() []string {
	w.t.Helper()
	w.wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	var subjects []string
	for _, msg := range w.seen {
		var c broker.Caller
		if text := msg.Header.Get(broker.CallerHeader); text != "" {
			if err := json.Unmarshal([]byte(text), &c); err != nil {
				w.t.Fatal(err)
			}
			if !c.User() && c.Node() == "" {
				continue // the doors know that nobody asks
			}
		}
		subjects = append(subjects, msg.Subject)
	}
	w.seen = nil
	return subjects
}

// targets are subjects at which nobody but the master or another node may be heard.
func targets() []string {
	list := []string{
		subjects.Replicate, subjects.Epoch, subjects.Heads, subjects.CommandChanged, subjects.Join, subjects.Verified,
		subjects.NodeLog(subjects.MasterID), "_INBOX_master.x.y",
		"$JS.API.STREAM.PURGE." + subjects.LogStream, "$JS.API.CONSUMER.CREATE." + subjects.LogStream,
		"$JS.API.CONSUMER.MSG.NEXT.DB_REPLICATE.a", "$JS.ACK.DB_REPLICATE.a.1.1.1.1.1",
		"relay.node.b.status", "relay.db.cancel",
	}
	for _, word := range []string{"ack", "status", "log", "report", "ctl", "query", "copy"} {
		list = append(list, "node.b."+word)
	}
	return list
}

// serveSmuggled has the doors answer everything with what is smuggled.
func (g *gated) serveSmuggled() {
	for _, subject := range []string{subjects.BlobGet, subjects.BlobPut, subjects.Query, subjects.Exec, subjects.ClusterInfo} {
		if _, err := g.doors.Subscribe(subject, func(msg *nats.Msg) { msg.Respond([]byte(smuggled)) }); err != nil {
			g.t.Fatal(err)
		}
	}
	if err := g.doors.Flush(); err != nil {
		g.t.Fatal(err)
	}
}

// try has a client say something at a subject, by itself and by way of whoever answers.
func (g *gated) try(nc *nats.Conn, target string, doors ...string) {
	g.t.Helper()
	nc.Publish(target, []byte(smuggled))
	nc.PublishRequest(target, target, []byte(smuggled))
	for _, door := range doors {
		nc.PublishRequest(door, target, []byte("{}"))
	}
	// What the doors answer now comes after what they have answered before.
	if _, err := nc.Request(subjects.BlobGet, nil, testPatience); err != nil {
		g.t.Fatalf("%s: %v", target, err)
	}
	if err := g.doors.Flush(); err != nil {
		g.t.Fatal(err)
	}
}

func TestNodeCanSpeakOnlyForItself(t *testing.T) {
	t.Parallel()
	g := startGated(t)
	g.append("x")
	if err := g.log.AddReader(testContext(t), "a", 1); err != nil {
		t.Fatal(err)
	}
	g.serveSmuggled()
	a := g.node("a")
	inside := newWitness(t, g.nc, ">")
	other := newWitness(t, g.node("b"), "node.b.ctl", "node.b.query", "node.b.copy", subjects.Heads, subjects.Cancel, "$SRV.>")
	user := newWitness(t, g.user("alice"), "node.*.status", "node.*.log", subjects.Heads, subjects.Replicate, subjects.CommandChanged, "_INBOX_alice.>")
	for _, target := range targets() {
		g.try(a, target, subjects.BlobGet, subjects.BlobPut, "log.next.a")
		for name, w := range map[string]*witness{"the master": inside, "node b": other, "a user": user} {
			for _, subject := range w.saw() {
				if subject != subjects.Join && subject != subjects.Verified { // where node a may speak, and did in its own name
					t.Errorf("%s: %s heard it at %s", target, name, subject)
				}
			}
		}
	}
	g.append("y")
	wantIDs(t, g.ids(1), "x", "y")
}

func TestNodeMayNotListenToOthers(t *testing.T) {
	t.Parallel()
	g := startGated(t)
	a := newWitness(t, g.node("a"), ">", "node.>", "_INBOX_master.>", "_INBOX_alice.>", subjects.Replicate, subjects.Exec)
	g.serveSmuggled()
	alice := g.user("alice")
	for nc, subject := range map[*nats.Conn]string{g.nc: subjects.Replicate, g.node("b"): "node.b.status", alice: subjects.Exec} {
		if err := nc.Publish(subject, []byte(smuggled)); err != nil {
			t.Fatal(err)
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := alice.Request(subjects.Query, []byte(smuggled), testPatience); err != nil {
		t.Fatal(err)
	}
	if saw := a.saw(); len(saw) > 0 {
		t.Errorf("heard %v", saw)
	}
}

// A user's requests arrive in the user's name; what others answer, at doors, in nobody's.
func TestUserCanSpeakOnlyForItself(t *testing.T) {
	t.Parallel()
	g := startGated(t)
	g.append("x")
	g.serveSmuggled()
	inside := newWitness(t, g.nc, ">")
	other := newWitness(t, g.node("b"), subjects.Heads, subjects.Cancel)
	for _, name := range []string{"guest", "alice"} {
		nc := g.user(name)
		for _, target := range append(targets(), subjects.Exec, subjects.CommandSend) {
			own := strings.HasPrefix(target, "node.b.") && name == "alice" // may ask there, and a node looks for the master's signature
			nc.PublishRequest(subjects.BlobGet, target, []byte("{}"))
			g.try(nc, target, subjects.Query, subjects.ClusterInfo, broker.APIPrefix+".INFO")
			for _, subject := range append(inside.saw(), other.saw()...) {
				if !own && subject != subjects.Exec && subject != subjects.CommandSend {
					t.Errorf("%s: %s is heard at %s", target, name, subject)
				}
			}
		}
	}
	g.append("y")
	wantIDs(t, g.ids(1), "x", "y")
}

// A node may answer with a header that names another: where the answer arrives at a door,
// the door can tell.
func TestAnswerOfANodeIsNobodysRequest(t *testing.T) {
	t.Parallel()
	g := startGated(t)
	a, alice := g.node("a"), g.user("alice")
	if _, err := a.Subscribe(subjects.NodeQuery("a"), func(msg *nats.Msg) {
		msg.RespondMsg(&nats.Msg{Data: []byte(smuggled), Header: nats.Header{broker.CallerHeader: {`{"acc":"USERS","user":"root"}`}}})
	}); err != nil {
		t.Fatal(err)
	}
	if err := a.Flush(); err != nil {
		t.Fatal(err)
	}
	heard := make(chan *nats.Msg, 1)
	if _, err := g.doors.ChanSubscribe(subjects.Exec, heard); err != nil {
		t.Fatal(err)
	}
	if err := g.doors.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := alice.PublishRequest(subjects.NodeQuery("a"), subjects.Exec, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	var c broker.Caller
	if err := json.Unmarshal([]byte(receive(t, heard).Header.Get(broker.CallerHeader)), &c); err != nil {
		t.Fatal(err)
	}
	if c.Service == "" {
		t.Errorf("the door takes it for a request of %+v", c)
	}
	if c := g.own(alice, heard); c.Service != "" || c.Name != "alice" {
		t.Errorf("alice's own request is %+v", c)
	}
}

// own is the caller of a request of a client's own, as a door hears it.
func (g *gated) own(nc *nats.Conn, heard chan *nats.Msg) broker.Caller {
	g.t.Helper()
	if err := nc.PublishRequest(subjects.Exec, nc.NewInbox(), nil); err != nil {
		g.t.Fatal(err)
	}
	var c broker.Caller
	if err := json.Unmarshal([]byte(receive(g.t, heard).Header.Get(broker.CallerHeader)), &c); err != nil {
		g.t.Fatal(err)
	}
	return c
}

func TestUsersCannotHearEachOther(t *testing.T) {
	t.Parallel()
	g := startGated(t)
	g.serveSmuggled()
	guest := &witness{t: t, nc: g.user("guest")}
	for _, subject := range []string{">", "_INBOX_alice.>", "_INBOX.>", subjects.Replicate, "node.*.status", subjects.Exec} {
		if _, err := guest.nc.Subscribe(subject, func(msg *nats.Msg) {
			guest.mu.Lock()
			defer guest.mu.Unlock()
			guest.seen = append(guest.seen, msg)
		}); err != nil {
			t.Fatal(err)
		}
	}
	guest.wait()
	if _, err := g.user("alice").Request(subjects.Exec, nil, testPatience); err != nil {
		t.Fatal(err)
	}
	g.append("x")
	if saw := guest.saw(); len(saw) > 0 {
		t.Errorf("heard %v", saw)
	}
}

func TestNobodyElseComesIn(t *testing.T) {
	t.Parallel()
	g := startGated(t)
	public, _ := g.keys["a"].PublicKey()
	for name, opts := range map[string][]nats.Option{
		"nothing shown":          nil,
		"wrong secret":           {nats.UserInfo("alice", "wrong")},
		"no name":                {nats.UserInfo("", "sesame")},
		"another's key":          {nats.Nkey(public, g.keys["b"].Sign)},
		"a key beside a user":    {nats.Nkey("alice", g.keys["a"].Sign), nats.UserInfo("bob", "sesame")},
		"the deputy's key alone": {nats.Nkey(g.Deputy(), g.keys["a"].Sign)},
		"no signature":           {nats.Nkey(public, func([]byte) ([]byte, error) { return nil, nil })},
	} {
		if nc, err := nats.Connect(g.URL(), opts...); err == nil {
			nc.Close()
			t.Errorf("%s: let in", name)
		}
	}
}

func TestDisconnectedGuestsAreGone(t *testing.T) {
	t.Parallel()
	g := startGated(t)
	a, alice := g.node("a"), g.user("alice")
	lost := a.StatusChanged(nats.RECONNECTING, nats.CLOSED)
	g.Disconnect(g.Guests(func(guest broker.Guest) bool { return guest.Node == "a" }))
	<-lost
	if err := alice.Flush(); err != nil {
		t.Errorf("alice: %v", err)
	}
}
