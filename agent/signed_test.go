package agent_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/snapdb/snapdb/agent"
	"github.com/snapdb/snapdb/agent/signing"
	"github.com/snapdb/snapdb/exec/engine"
	"github.com/snapdb/snapdb/subjects"
)

func newKey(t testing.TB) *signing.Key {
	t.Helper()
	k, err := signing.OpenKey(filepath.Join(t.TempDir(), "key"))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// untilOnline waits until all slaves are online, as the master sees them: they have
// everything, which being in sync makes them prove for a while.
func (c *cluster) untilOnline() {
	c.t.Helper()
	for id := range c.slaves {
		until(c.t, id+" is online", func() bool { return c.node(id).State == subjects.StateOnline })
	}
}

// foreign is how many messages a node has passed over.
func (c *cluster) foreign(id string) uint64 { return c.slaves[id].Status().Foreign }

// next is the header of the message that would continue a database, with the body of one
// that is in the log.
func (c *cluster) next(db string) (subjects.Header, []byte) {
	c.t.Helper()
	d, err := c.m.Store().Database(db)
	if err != nil {
		c.t.Fatal(err)
	}
	at := d.Applied()
	e, err := c.m.Wire().Get(testContext(c.t), at.Number)
	if err != nil {
		c.t.Fatal(err)
	}
	body := e.Message.Data
	return subjects.Header{DB: d.Name(), Inc: d.Incarnation(), Prev: at.Number, Chain: subjects.NextChain(at.Chain, d.Incarnation(), body),
		Term: c.m.Term(), ID: "forged"}, body
}

// forge stores a message with the rights of the master at the broker.
func (c *cluster) forge(subject string, header map[string][]string, body []byte) {
	c.t.Helper()
	msg, err := c.m.Conn().RequestMsgWithContext(testContext(c.t), &nats.Msg{Subject: subject, Header: header, Data: body})
	if err != nil || !strings.Contains(string(msg.Data), `"seq"`) {
		c.t.Fatalf("the log has not stored it: %v, %v", msg, err)
	}
}

// sealed is a signed header of a log message.
func sealed(k *signing.Key, cluster string, h subjects.Header, body []byte) subjects.Header {
	l := subjects.SignedLog{Cluster: cluster, Header: h, Body: body}
	h.Signature = k.Sign(l.Bytes())
	return h
}

// alterations are copies of a struct, each with one of its fields changed. Fields of
// structs inside are fields.
func alterations[T any](t testing.TB, v T) map[string]T {
	t.Helper()
	all := map[string]T{}
	var walk func(path string, of func(*T) reflect.Value)
	walk = func(path string, of func(*T) reflect.Value) {
		copied := v
		f := of(&copied)
		switch f.Kind() {
		case reflect.Struct:
			for i := range f.NumField() {
				walk(path+"."+f.Type().Field(i).Name, func(v *T) reflect.Value { return of(v).Field(i) })
			}
			return
		case reflect.String:
			f.SetString(f.String() + "x")
		case reflect.Uint64:
			f.SetUint(f.Uint() + 1)
		case reflect.Int64:
			f.SetInt(f.Int() + 1)
		case reflect.Slice:
			f.SetBytes(append(slices.Clone(f.Bytes()), ' '))
		case reflect.Array:
			last := f.Index(f.Len() - 1)
			last.SetUint(last.Uint() ^ 1)
		default:
			t.Fatalf("%s: the test cannot change a %s", path, f.Kind())
		}
		all[path] = copied
	}
	walk("", func(v *T) reflect.Value { return reflect.ValueOf(v).Elem() })
	return all
}

// What an open cluster does, a signed one does.
func TestSignedClusterReplicatesEverything(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "key")
	key, err := signing.OpenKey(path)
	if err != nil {
		t.Fatal(err)
	}
	c := newCluster(t, agent.MasterOptions{Sign: key, LogKeep: 1}, "s1", "s2", "s3")
	c.fill("a", 3)
	c.do("", "CREATE DATABASE b; CREATE DATABASE gone; DROP DATABASE gone; CREATE DATABASE gone")
	c.do("gone", "CREATE TABLE t (x); INSERT INTO t VALUES (1); CREATE TRIGGER tr AFTER INSERT ON t BEGIN DELETE FROM t WHERE x = 1; END; INSERT INTO t VALUES (random())")
	large := subjects.TextValue(strings.Repeat("x", 2<<20))
	if resp := c.do("a", "INSERT INTO t (x) VALUES (?)", large); len(resp.Applied) != 3 {
		t.Errorf("a large transaction was applied by %v", resp.Applied)
	}
	c.same()
	var v subjects.Verification
	if ask(t, c.nats(), subjects.Verify, subjects.VerifyRequest{DB: "a"}, &v); !v.Proven || len(v.Nodes) != 4 {
		t.Errorf("compared: %+v", v)
	}

	// A copy heals, which needs a snapshot and an answer to a join that names it.
	f, err := engine.Open(filepath.Join(c.dir, "s2", "a.db"), engine.Options{})
	if err == nil {
		err = f.Exec("DELETE FROM t WHERE n = 2")
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	c.do("a", "INSERT INTO t (x) VALUES (1)")
	c.same()

	// Another key, while a slave is away. What the first has signed is read by a slave
	// that never knew it.
	c.stopSlave("s3")
	c.stopMaster()
	if _, err := signing.Rotate(path); err != nil {
		t.Fatal(err)
	}
	if c.opts.Sign, err = signing.OpenKey(path); err != nil {
		t.Fatal(err)
	}
	c.startMaster()
	c.startSlave("new")
	c.untilOnline()
	c.do("a", "INSERT INTO t (x) VALUES (2)")
	c.startSlave("s3")
	c.untilOnline()
	c.command(subjects.CommandSend, subjects.CommandRequest{Op: subjects.OpLabel, Args: label("a", "b"), All: true, ID: "labels"})
	c.untilStands("labels", "new done, s1 done, s2 done, s3 done")
	for id := range c.slaves {
		if n := c.foreign(id); n != 0 {
			t.Errorf("%s has passed over %d messages", id, n)
		}
	}
}

// Whoever has the broker, but not the key, changes nothing on any node.
func TestLogMessageIsAppliedOnlyAsTheMasterSignedIt(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{Sign: newKey(t)}, "s1")
	c.fill("a", 2)
	cluster := c.m.Store().Identity().Cluster
	forgeries := uint64(0)
	refused := func(what string, h subjects.Header, body []byte) {
		t.Helper()
		c.forge(subjects.Replicate, subjects.EncodeHeader(h), body)
		forgeries++
		until(t, what+" is passed over", func() bool { return c.foreign("s1") == forgeries })
	}
	h, body := c.next("a")
	key := c.opts.Sign
	refused("no signature", h, body)
	refused("another key", sealed(newKey(t), cluster, h, body), body)
	refused("another cluster", sealed(key, cluster+"x", h, body), body)
	old := h
	old.Term--
	refused("an earlier term", sealed(key, cluster, old, body), body)
	good := sealed(key, cluster, h, body)
	for what, altered := range alterations(t, good) {
		refused("altered: "+what, altered, body)
	}
	longer := append(slices.Clone(body), ' ')
	refused("altered: the body", good, longer)
	d, err := c.m.Store().Database("a")
	if err != nil {
		t.Fatal(err)
	}
	good.Chain = subjects.NextChain(d.Applied().Chain, h.Inc, longer)
	refused("altered: the body, and its chain", good, longer)
	catalog := c.m.Store().Catalog().Applied()
	drop := []byte(`{"v":1,"db":"_snapdb","engine":"x","txns":[]}`)
	refused("a change of databases", subjects.Header{DB: subjects.Catalog, Prev: catalog.Number,
		Chain: subjects.NextChain(catalog.Chain, 0, drop), Term: h.Term, ID: "x"}, drop)
	heads := subjects.HeadsMessage{Term: h.Term, Cursor: 1 << 40, Heads: map[string]subjects.Head{}, Number: 1 << 40}
	data, err := json.Marshal(heads)
	if err == nil {
		err = c.m.Conn().Publish(subjects.Heads, data)
	}
	if err != nil {
		t.Fatal(err)
	}
	forgeries++
	until(t, "heads are passed over", func() bool { return c.foreign("s1") == forgeries })
	if st := c.slaves["s1"].Status(); st.Cursor >= heads.Cursor || st.State != subjects.StateOnline {
		t.Errorf("after foreign heads: %+v", st)
	}
	c.forge(subjects.Epoch, nats.Header{subjects.HeaderMaster: {"mallory"}}, []byte("{}"))
	claim := subjects.SignedClaim{Cluster: cluster, Last: c.lastClaim(), Master: "mallory", Body: []byte("{}")}
	claim.Last--
	if _, err := c.m.Wire().Claim(testContext(t), c.lastClaim(), claim.Master, claim.Body, key.Sign(claim.Bytes())); err != nil {
		t.Fatal(err)
	}

	// The master's own next message comes after all of them; its log has them when it
	// starts again, too.
	c.do("a", "INSERT INTO t (x) VALUES ('the master''s')")
	h, body = c.next("a")
	c.forge(subjects.Replicate, subjects.EncodeHeader(h), body)
	c.stopMaster()
	c.startMaster()
	c.untilInSync("s1")
	c.do("a", "INSERT INTO t (x) VALUES ('later')")
	if got := c.rows("a", "SELECT count(*) FROM t"); got != "4" {
		t.Errorf("%s rows", got)
	}

	// Another master with the same key is one.
	claim = subjects.SignedClaim{Cluster: cluster, Last: c.lastClaim(), Master: "another", Body: []byte("{}")}
	if _, err := c.m.Wire().Claim(testContext(t), claim.Last, claim.Master, claim.Body, key.Sign(claim.Bytes())); err != nil {
		t.Fatal(err)
	}
	if reason := c.fails(subjects.CodeUnavailable, subjects.Request{DB: "a", SQL: "DELETE FROM t"}); !strings.Contains(reason, "another master has taken over") {
		t.Errorf("after the claim of another master: %s", reason)
	}
}

// lastClaim is the position of the newest message on db.epoch.
func (c *cluster) lastClaim() uint64 {
	c.t.Helper()
	e, err := c.m.Wire().LastEpoch(testContext(c.t))
	if err != nil {
		c.t.Fatal(err)
	}
	return e.Position
}

// order sends a command to a node with a seal, or without.
func (c *cluster) order(id string, seal *subjects.Seal, body []byte) (resp subjects.CtlResponse) {
	c.t.Helper()
	msg := &nats.Msg{Subject: subjects.NodeCtl(id), Data: body}
	if seal != nil {
		msg.Header = subjects.EncodeSeal(*seal)
	}
	answer, err := c.nats().RequestMsgWithContext(testContext(c.t), msg)
	if err == nil {
		err = json.Unmarshal(answer.Data, &resp)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return resp
}

// sealOf signs a command.
func sealOf(k *signing.Key, s subjects.SignedCommand) *subjects.Seal {
	return &subjects.Seal{Signature: k.Sign(s.Bytes()), Node: s.Node, Expires: s.Expires}
}

func TestNodeObeysOnlyItsMaster(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{Sign: newKey(t)}, "s1", "s2")
	key := c.opts.Sign
	number := 0
	// fresh is a command that is right in everything, and no other.
	fresh := func() subjects.SignedCommand {
		number++
		id := fmt.Sprintf("c%d", number)
		return subjects.SignedCommand{Cluster: c.m.Store().Identity().Cluster, Key: key.ID(), Node: "s1", ID: id, Op: subjects.OpLabel,
			Expires: time.Now().Add(subjects.CommandLife).UnixMilli(), Body: fmt.Appendf(nil, `{"op":"label","id":%q,"args":{"set":{"n":"%d"}}}`, id, number)}
	}
	labels := func() map[string]string { return c.slaves["s1"].Status().Labels }
	refused := func(what, want string, seal *subjects.Seal, body []byte) {
		t.Helper()
		before, foreign := labels(), c.foreign("s1")
		resp := c.order("s1", seal, body)
		if resp.State != subjects.CommandFailed || !strings.Contains(resp.Reason, want) {
			t.Errorf("%s: answered %s %q, want %q", what, resp.State, resp.Reason, want)
		}
		if !maps.Equal(labels(), before) || c.foreign("s1") != foreign+1 {
			t.Errorf("%s: labels %v, were %v; %d foreign, were %d", what, labels(), before, c.foreign("s1"), foreign)
		}
	}
	done := func(cmd subjects.SignedCommand) {
		t.Helper()
		if resp := c.order("s1", sealOf(key, cmd), cmd.Body); resp.State != subjects.CommandDone || labels()["n"] != fmt.Sprint(number) {
			t.Errorf("a command of the master: %+v, labels %v", resp, labels())
		}
	}
	first := fresh()
	done(first)
	refused("replayed", "come before", sealOf(key, first), first.Body)
	done(fresh())
	sent := fresh()
	for what, signed := range alterations(t, sent) {
		seal := sealOf(key, signed)
		seal.Node, seal.Expires = sent.Node, sent.Expires
		refused("signed with another "+what, "signature is wrong", seal, sent.Body)
	}
	cmd := fresh()
	refused("not signed", "not signed", nil, cmd.Body)
	refused("signed by somebody", "not trusted", sealOf(newKey(t), cmd), cmd.Body)
	other := sealOf(newKey(t), cmd)
	other.Key = key.ID()
	refused("signed by somebody in the master's name", "signature is wrong", other, cmd.Body)
	cmd.Node = "s2"
	refused("for another node", "for node s2", sealOf(key, cmd), cmd.Body)
	other = sealOf(key, cmd)
	other.Node = "s1"
	refused("for another node, and readdressed", "signature is wrong", other, cmd.Body)
	cmd = fresh()
	cmd.Expires = time.Now().Add(-subjects.ClockSkew - time.Second).UnixMilli()
	refused("expired", "too late", sealOf(key, cmd), cmd.Body)
	cmd.Expires = time.Now().Add(subjects.CommandLife + subjects.ClockSkew + time.Minute).UnixMilli()
	refused("good for too long", "clocks", sealOf(key, cmd), cmd.Body)
	cmd = fresh()
	cmd.ID, cmd.Body = "", []byte(`{"op":"label","args":{"set":{"n":"x"}}}`)
	refused("without an id", "no id", sealOf(key, cmd), cmd.Body)
	for _, op := range subjects.Ops() {
		args := map[string]string{"push": `{"digest":"` + strings.Repeat("0", 64) + `","size":1,"name":"f"}`, "fetch": `{"name":"f"}`,
			"wallpaper": `{"restore":true}`, "abort": `{"id":"c1"}`}[op]
		if args == "" {
			args = "{}"
		}
		body := fmt.Appendf(nil, `{"op":%q,"id":"unsigned","args":%s}`, op, args)
		switch subjects.Op(op) {
		case subjects.OpPing, subjects.OpInfo, subjects.OpLogs:
			if resp := c.order("s1", nil, body); resp.State != subjects.CommandDone {
				t.Errorf("%s without a signature: %+v", op, resp)
			}
		default:
			refused(op+" without a signature", "not signed", nil, body)
		}
	}
	late := fresh()
	late.Expires = time.Now().Add(-subjects.ClockSkew / 2).UnixMilli()
	done(late) // by a clock that differs

	// A node that has forgotten what it has seen still knows what it has done.
	c.stopSlave("s1")
	c.startSlave("s1")
	c.untilInSync("s1")
	if resp := c.order("s1", sealOf(key, first), first.Body); resp.State != subjects.CommandDone || labels()["n"] != fmt.Sprint(number) {
		t.Errorf("replayed after a restart: %+v, labels %v", resp, labels())
	}
	// The master's dispatcher, a command that is withdrawn included.
	c.command(subjects.CommandSend, subjects.CommandRequest{Op: subjects.OpShutdown, Args: json.RawMessage(`{"grace_ms":3600000}`), All: true, ID: "stop"})
	c.untilStands("stop", "s1 accepted, s2 accepted")
	c.command(subjects.CommandCancel, subjects.CommandQuery{ID: "stop"})
	c.untilStands("stop", "s1 cancelled, s2 cancelled")
}

// A cluster that was open is made a signed one: what is not signed of its log is not
// needed.
func TestOpenClusterBecomesASignedOne(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{}, "s1", "away")
	c.fill("a", 3)
	c.fill("idle", 1)
	c.untilInSync("s1", "away")
	c.stopSlave("away")
	c.untilGone("away")
	c.do("a", "INSERT INTO t (x) VALUES ('while one is away')")
	c.stopSlave("s1")
	c.stopMaster()
	c.opts.Sign = newKey(t)
	c.startMaster()
	for _, id := range []string{"s1", "away", "new"} {
		c.startSlave(id)
	}
	c.untilOnline()
	c.do("a", "INSERT INTO t (x) VALUES ('signed')")
	c.do("", "DROP DATABASE idle")
	c.same()
	c.startSlave("newer")
	c.untilOnline()
}

// A message whose signature is lost or damaged in the log's store stops the copy, with
// the reason; it is not applied.
func TestCopyStopsWhereTheLogIsNotSigned(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.key = newKey(t)
	o.catalog("CREATE DATABASE a")
	o.write("a", "CREATE TABLE t (x)")
	s := o.start(t.TempDir())
	o.untilOnline(s)
	o.careless = true
	missing := o.write("a", "INSERT INTO t VALUES (1)")
	o.careless = false
	o.write("a", "INSERT INTO t VALUES (2)")
	until(t, "stopped", func() bool { o.publishHeads(); return s.Status().State == subjects.StateStopped })
	st := s.Status()
	if want := fmt.Sprintf("at %d, is not from the master: it is not signed", missing); !strings.Contains(st.Reason, want) || st.Foreign == 0 {
		t.Errorf("reason %q, want %q; %d foreign", st.Reason, want, st.Foreign)
	}
	if n := position(s, "a"); n != missing-1 {
		t.Errorf("at position %d", n)
	}
}

// Only the answer of the master to just this request lets a slave in, or refuses it.
func TestAnswerToAJoinIsTakenOnlyFromTheMaster(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.key = newKey(t)
	o.catalog("CREATE DATABASE a")
	last := o.write("a", "CREATE TABLE t (x)")
	other := newKey(t)
	var first *nats.Msg
	spoils := []struct {
		what, want string
		spoil      func(request []byte, answer *nats.Msg)
	}{
		{"no signature", "it is not signed", func(_ []byte, a *nats.Msg) { first, a.Header = &nats.Msg{Header: a.Header, Data: a.Data}, nil }},
		{"a refusal without a signature", "it is not signed", func(_ []byte, a *nats.Msg) {
			a.Header, a.Data = nil, []byte(`{"v":1,"refused":{"code":"id_in_use","reason":"go away"}}`)
		}},
		{"the answer to an earlier request", "signature is wrong", func(_ []byte, a *nats.Msg) { a.Header, a.Data = first.Header, first.Data }},
		{"another body", "signature is wrong", func(_ []byte, a *nats.Msg) { a.Data = append(a.Data, ' ') }},
		{"another key", "not trusted", func(request []byte, a *nats.Msg) {
			j := subjects.SignedJoin{Cluster: "c1", Node: "snap1", Request: request, Answer: a.Data}
			a.Header = nats.Header{}
			subjects.EncodeSignature(a.Header, other.Sign(j.Bytes()))
		}},
		{"nonsense for a signature", "is not a signature", func(_ []byte, a *nats.Msg) { a.Header[subjects.HeaderSig] = []string{"x"} }},
	}
	next := make(chan struct{}, 1) // answers wait until the one before was looked at
	o.spoil = func(n int, request []byte, answer *nats.Msg) {
		<-next
		if n <= len(spoils) {
			spoils[n-1].spoil(request, answer)
		}
	}
	s := o.start(t.TempDir())
	for _, x := range spoils {
		next <- struct{}{}
		until(t, x.what+" is seen", func() bool { return strings.Contains(s.Status().Reason, x.want) })
		if heads := s.Store().Heads(); len(heads) > 1 || s.Status().State != subjects.StateStopped {
			t.Errorf("%s: %+v", x.what, s.Status())
		}
	}
	close(next)
	untilAt(t, s, "a", last)
	o.untilOnline(s)
	if o.joinCount() != len(spoils)+1 {
		t.Errorf("%d joins", o.joinCount())
	}

	// Heads with a number that was used before are not heard, whoever has signed them.
	o.publishHeads()
	again := o.heads()
	again.Number, again.Cursor = o.told, 1<<40
	data, err := json.Marshal(again)
	if err == nil {
		err = o.nc.PublishMsg(&nats.Msg{Subject: subjects.Heads, Data: data, Header: o.sign(&subjects.SignedHeads{Cluster: "c1", Body: data})})
	}
	if err != nil {
		t.Fatal(err)
	}
	last = o.write("a", "INSERT INTO t VALUES (1)")
	untilAt(t, s, "a", last)
	o.publishHeads()
	until(t, "the cursor moves", func() bool { return s.Status().Cursor >= last })
	if at := s.Status().Cursor; at != last {
		t.Errorf("the cursor is %d, the log ends at %d", at, last)
	}
}
