package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/snapdb/snapdb/agent"
	"github.com/snapdb/snapdb/subjects"
)

// What everybody does first with a database, followed by every slave at each step.
func TestScript(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{}, "s1", "s2")
	s := c.session("")
	for _, step := range []struct{ sql, rows string }{
		{"CREATE DATABASE SnapDB", ""},
		{"USE SnapDB", ""},
		{"CREATE TABLE Users (id INTEGER, name TEXT)", ""},
		{"INSERT INTO Users VALUES (1, 'Alice')", ""},
		{"SELECT * FROM Users", `1 "Alice"`},
		{"UPDATE Users SET name = 'Bob' WHERE id = 1", ""},
		{"SELECT * FROM users", `1 "Bob"`},
		{"SHOW TABLES", `"Users"`},
		{"SHOW DATABASES", `"SnapDB"`},
		{"DELETE FROM Users WHERE id = 1", ""},
		{"DROP DATABASE snapdb", ""},
		{"SHOW DATABASES", ""},
	} {
		resp := s.do(step.sql)
		if got := show(resp.Results); step.rows != "" && got != step.rows {
			t.Errorf("%s: %s, want %s", step.sql, got, step.rows)
		}
		if resp.Applied != nil && strings.Join(resp.Applied, " ") != "s1 s2" {
			t.Errorf("%s: applied by %v", step.sql, resp.Applied)
		}
		c.same()
	}
	if s.DB() != "" {
		t.Errorf("the session is still in %s", s.DB())
	}
}

func TestAcknowledgementRules(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{}, "s1", "s2", "s3")
	c.do("", "CREATE DATABASE a")
	c.do("a", "CREATE TABLE t (x INTEGER PRIMARY KEY)")
	n := int64(0)
	insert := func(rule string, timeout int64) (*subjects.Response, error) {
		ack, err := subjects.ParseAck(rule)
		if err != nil {
			t.Fatal(err)
		}
		n++
		return c.try(subjects.Request{DB: "a", SQL: "INSERT INTO t VALUES (?)", Args: []subjects.Value{subjects.IntegerValue(n)}, Ack: ack, TimeoutMS: timeout})
	}
	met := func(rule string, atLeast int, pending string) {
		t.Helper()
		resp, err := insert(rule, 0)
		if err != nil {
			t.Fatalf("%s: %v", rule, err)
		}
		if len(resp.Applied) < atLeast || len(resp.Applied)+len(resp.Pending) != 3 || resp.Position == 0 {
			t.Errorf("%s: %+v", rule, resp)
		}
		if pending != "" && strings.Join(resp.Pending, " ") != pending {
			t.Errorf("%s: pending %v, want %s", rule, resp.Pending, pending)
		}
	}
	met("log", 0, "")
	met("insync", 3, "")
	met("2", 2, "")
	met("all", 3, "")
	resp, err := insert("4", 0)
	if msg := wantCode(t, "4 of 3", resp, err, subjects.CodeBadRequest); !strings.Contains(msg, "nothing was executed") {
		t.Errorf("message %q", msg)
	}
	resp, err = c.try(subjects.Request{SQL: "CREATE DATABASE b", Ack: subjects.Ack{Kind: subjects.AckCount, Count: 4}})
	wantCode(t, "create", resp, err, subjects.CodeBadRequest)

	c.stopSlave("s3")
	c.untilGone("s3")
	for range 20 {
		met("insync", 2, "s3")
	}
	met("2", 2, "s3")
	for _, rule := range []string{"all", "3"} {
		resp, err = insert(rule, 2000)
		msg := wantCode(t, rule, resp, err, subjects.CodeNotAcknowledged)
		if !strings.Contains(msg, "committed at position") || !strings.Contains(msg, "s1, s2") || !strings.Contains(msg, "s3") || resp.Position == 0 || !cmp.Equal(resp.Pending, []string{"s3"}) {
			t.Errorf("%s: %q, %+v", rule, msg, resp)
		}
	}
	if got := c.rows("a", "SELECT max(x) FROM t"); got != "28" {
		t.Errorf("last row %s: what was not acknowledged is committed all the same", got)
	}
	c.startSlave("s3")
	c.untilInSync("s3")
	met("all", 3, "")
}

// A slave that is gone for good is forgotten: nobody waits for it, whatever the rule,
// and the master does not remember it after a restart. One that comes back is
// enrolled again.
func TestForgottenSlave(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{}, "s1", "s2")
	c.do("", "CREATE DATABASE a")
	c.do("a", "CREATE TABLE t (x)")
	forget := func(id string) error { return c.c.Forget(testContext(t), id) }
	for id, want := range map[string]string{"s1": "stop it first", "s9": "no slave", "a.b": "node id"} {
		if err := forget(id); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", id, err)
		}
	}
	c.stopSlave("s2")
	c.untilGone("s2")
	waiting := c.start(subjects.Request{DB: "a", SQL: "INSERT INTO t VALUES (1)", Ack: subjects.Ack{Kind: subjects.AckAll}, TimeoutMS: 20_000})
	until(t, "the write is in the log", func() bool { return c.rows("a", "SELECT count(*) FROM t") == "1" })
	if err := forget("s2"); err != nil {
		t.Fatal(err)
	}
	if resp, err := waiting.wait(); err != nil || len(resp.Pending) != 0 {
		t.Errorf("%+v, %v", resp, err)
	}
	if n := c.node("s2"); n.ID != "" {
		t.Errorf("%+v", n)
	}
	c.stopMaster()
	c.startMaster()
	c.untilInSync("s1")
	if n := c.node("s2"); n.ID != "" {
		t.Errorf("after a restart: %+v", n)
	}
	c.startSlave("s2")
	c.untilInSync("s1", "s2")
	if resp, err := c.try(subjects.Request{DB: "a", SQL: "INSERT INTO t VALUES (2)", Ack: subjects.Ack{Kind: subjects.AckAll}}); err != nil || len(resp.Applied) != 2 {
		t.Errorf("%+v, %v", resp, err)
	}
}

// A slave that is started again at once is not taken for a second one, although its old
// connection ends only when the new process is here already.
func TestSlaveStartedAgainAtOnceIsLetIn(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{})
	as := func(boot string) (*nats.Conn, *subjects.JoinRequest) {
		nc, err := nats.Connect(c.m.URL(), nats.Name("snapdb slave s9 "+boot))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		return nc, &subjects.JoinRequest{V: subjects.Version, ID: "s9", Boot: boot, Cluster: c.m.Store().Identity().Cluster, Engine: c.m.Store().Engine()}
	}
	old, first := as("one")
	if resp := join(t, old, first); resp.Refused != nil {
		t.Fatalf("the first was refused: %+v", resp.Refused)
	}
	again, second := as("two")
	answers, err := again.SubscribeSync(again.NewInbox())
	body, jerr := json.Marshal(second)
	if err = errors.Join(err, jerr); err == nil {
		err = again.PublishRequest(subjects.Join, answers.Subject, body)
	}
	if err != nil {
		t.Fatal(err)
	}
	if msg, err := answers.NextMsg(100 * time.Millisecond); err == nil { // within which a refusal comes
		t.Fatalf("nobody waited for the old process to go: %s", msg.Data)
	}
	old.Close()
	var resp subjects.JoinResponse
	msg, err := answers.NextMsg(10 * time.Second)
	if err == nil {
		err = json.Unmarshal(msg.Data, &resp)
	}
	if err != nil || resp.Refused != nil {
		t.Errorf("the second was not let in: %+v, %v", resp.Refused, err)
	}
}

// A slave knocks before there is a master, and follows it through restarts.
func TestSlaveBeforeMaster(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{})
	c.stopMaster()
	c.startSlave("s1")
	c.startMaster()
	c.untilInSync("s1")
	c.do("", "CREATE DATABASE a")
	c.do("a", "CREATE TABLE t (x)")
	session := c.node("s1").Session
	for range 3 {
		c.stopMaster()
		c.startMaster()
		resp := c.do("a", "INSERT INTO t VALUES (1)") // with an answer that promises nothing of s1
		c.untilInSync("s1")
		if now := c.node("s1").Session; now <= session {
			t.Errorf("session %d after %d", now, session)
		} else {
			session = now
		}
		if got, err := c.c.QueryNode(testContext(t), "s1", &subjects.Request{DB: "a", SQL: "SELECT count(*) FROM t", MinPosition: resp.Position}); err != nil || show(got.Results) != c.rows("a", "SELECT count(*) FROM t") {
			t.Errorf("%+v, %v", got, err)
		}
	}
}

func TestJoinRefused(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{}, "s1")
	other := newCluster(t, agent.MasterOptions{}, "o1")
	nc, err := nats.Connect(c.m.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	good := subjects.JoinRequest{V: subjects.Version, ID: "s9", Boot: "b", Cluster: c.m.Store().Identity().Cluster, Engine: c.m.Store().Engine()}
	for name, tc := range map[string]struct {
		change func(*subjects.JoinRequest)
		code   subjects.RefusalCode
		reason string
	}{
		"live id":  {func(r *subjects.JoinRequest) { r.ID = "s1" }, subjects.RefusedIDInUse, "another --id"},
		"cluster":  {func(r *subjects.JoinRequest) { r.Cluster = "other" }, subjects.RefusedCluster, "another --data"},
		"engine":   {func(r *subjects.JoinRequest) { r.Engine = "3.1" }, subjects.RefusedEngine, "same snapdb"},
		"version":  {func(r *subjects.JoinRequest) { r.V = 99 }, subjects.RefusedVersion, "same snapdb"},
		"bad id":   {func(r *subjects.JoinRequest) { r.ID = "a.b" }, subjects.RefusedInvalid, "letters"},
		"no id":    {func(r *subjects.JoinRequest) { r.ID = "" }, subjects.RefusedInvalid, "characters"},
		"no nonce": {func(r *subjects.JoinRequest) { r.Boot = "" }, subjects.RefusedInvalid, "boot"},
	} {
		req := good
		tc.change(&req)
		resp := join(t, nc, &req)
		if resp.Refused == nil || resp.Refused.Code != tc.code || !strings.Contains(resp.Refused.Reason, tc.reason) {
			t.Errorf("%s: %+v", name, resp.Refused)
		}
	}
	if n := c.node("s9"); n.ID != "" {
		t.Errorf("who was refused is enrolled: %+v", n)
	}

	// As real slaves see it: one that gives up, with the reason.
	for dir, want := range map[string]string{"s9": "--id", "../" + filepath.Base(other.dir) + "/o1": "--data"} {
		id := "s1"
		if want == "--data" {
			other.stopSlave("o1")
			id = "o1"
		}
		s, err := agent.StartSlave(t.Context(), agent.SlaveOptions{URL: c.m.URL(), ID: id, Dir: filepath.Join(c.dir, dir), Logger: quiet()})
		if err != nil {
			t.Fatal(err)
		}
		var refused *agent.RefusedError
		if err := s.Wait(); !errors.As(err, &refused) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want advice about %s", dir, err, want)
		}
	}
}

func join(t testing.TB, nc *nats.Conn, req *subjects.JoinRequest) *subjects.JoinResponse {
	t.Helper()
	var resp subjects.JoinResponse
	ask(t, nc, subjects.Join, req, &resp)
	return &resp
}

// A slave whose process is gone makes room for another of its name, at once.
func TestJoinReplaces(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{}, "s1")
	first := c.node("s1").Session
	c.stopSlave("s1")
	s := c.startSlave("s1")
	c.untilInSync("s1")
	if n := c.node("s1"); n.Session <= first || n.Session != s.Status().Session {
		t.Errorf("session %d after %d, the slave's is %d", n.Session, first, s.Status().Session)
	}

	// A join of the process that is there already ends its older session.
	nc, err := nats.Connect(c.m.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	resp := join(t, nc, &subjects.JoinRequest{V: subjects.Version, ID: "s1", Boot: s.Status().Boot, Engine: c.m.Store().Engine()})
	if resp.Refused != nil || resp.Session <= s.Status().Session || resp.Start != 1 {
		t.Fatalf("%+v", resp)
	}
	c.do("", "CREATE DATABASE a")
	until(t, "the slave has noticed and joined again", func() bool { return c.node("s1").Session > resp.Session })
	c.untilInSync("s1")
}

// An acknowledgement of another session, or of what was never logged, counts for
// nothing; malformed ones do no harm.
func TestForgedAcknowledgements(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{}, "s1", "s2")
	c.do("", "CREATE DATABASE a")
	c.do("a", "CREATE TABLE t (x)")
	c.stopSlave("s2")
	c.untilGone("s2")
	nc, err := nats.Connect(c.m.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	forge := func(id string, ack subjects.AckMessage) {
		t.Helper()
		if err := nc.Publish(subjects.NodeAck(id), subjects.AppendAck(nil, &ack)); err != nil {
			t.Fatal(err)
		}
	}
	head := c.m.Store().Heads()["a"].Position
	for _, session := range []uint64{0, 1, c.node("s2").Session, c.node("s2").Session + 1, 1 << 63} {
		for _, id := range []string{"s2", "s9"} {
			forge(id, subjects.AckMessage{Session: session, Applied: map[string]uint64{"a": head + 1, "nowhere": 3, "": 1}})
		}
	}
	forge("s1", subjects.AckMessage{Session: c.node("s1").Session, Applied: map[string]uint64{"a": 1 << 40}, Applying: map[string]uint64{"x": 1}})
	for _, garbage := range []string{"", "{", "null", `{"session":-1}`, strings.Repeat("x", 1<<20), `{"term":1,"session":1,"applied":{"a":"b"}}`} {
		for _, subject := range []string{subjects.NodeAck("s1"), subjects.NodeStatus("s1"), subjects.NodeStatus("s9")} {
			if err := nc.Publish(subject, []byte(garbage)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := nc.FlushWithContext(testContext(t)); err != nil {
		t.Fatal(err)
	}
	resp, err := c.try(subjects.Request{DB: "a", SQL: "INSERT INTO t VALUES (1)", Ack: subjects.Ack{Kind: subjects.AckAll}, TimeoutMS: 300})
	wantCode(t, "insert", resp, err, subjects.CodeNotAcknowledged)
	if !cmp.Equal(resp.Applied, []string{"s1"}) || !cmp.Equal(resp.Pending, []string{"s2"}) {
		t.Errorf("%+v", resp)
	}
	resp = c.do("a", "INSERT INTO t VALUES (2)")
	if !cmp.Equal(resp.Applied, []string{"s1"}) {
		t.Errorf("%+v", resp)
	}
	if len(c.m.Info(context.Background()).Nodes) != 2 {
		t.Error("a forgery has enrolled a node")
	}
}
