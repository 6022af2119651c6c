//go:build linux

package cluster_test

import (
	"encoding/json"
	"os"
	osexec "os/exec"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"github.com/snapdb/snapdb/subjects"
)

// requireNATS makes the absence of the nats tool a failure.
const requireNATS = "SNAPDB_REQUIRE_NATS"

// natsTool runs the nats command against the cluster and returns what it prints.
func (c *cluster) natsTool(t *testing.T, path string, args ...string) string {
	t.Helper()
	cmd := osexec.CommandContext(t.Context(), path, append([]string{"--server", c.url, "--no-context", "--timeout", "5s"}, args...)...)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "NO_COLOR=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("nats %s: %v", strings.Join(args, " "), err)
	}
	return string(out)
}

// Every command that the README gives to a person with nothing but the nats tool.
func TestNATSToolReadsAndWritesEverything(t *testing.T) {
	t.Parallel()
	path, err := osexec.LookPath("nats")
	if err != nil {
		if os.Getenv(requireNATS) != "" {
			t.Fatalf("%s is set, and there is no nats tool: %v", requireNATS, err)
		}
		t.Skipf("there is no nats tool (go install github.com/nats-io/natscli/nats@v0.5.1); set %s to make this a failure", requireNATS)
	}
	c := startCluster(t, 2)
	cl := c.client()
	c.exec(cl, "", "CREATE DATABASE SnapDB")
	c.exec(cl, "SnapDB", "CREATE TABLE Users (id INTEGER PRIMARY KEY, name TEXT)")
	run := func(says []string, args ...string) {
		t.Helper()
		wantSaid(t, c.natsTool(t, path, args...), says...)
	}

	run([]string{`"changes":1`, `"applied":["snap1","snap2"]`, `"pending":[]`}, "req", "db.exec", `{"db":"SnapDB","sql":"INSERT INTO Users VALUES (?,?)","args":[1,"Alice"]}`)
	seen := make(chan string, 1)
	go func() { seen <- c.natsTool(t, path, "sub", "db.replicate", "--count", "1") }()
	await(t, func() string { // until it listens, and there is something to hear
		c.exec(cl, "SnapDB", "UPDATE Users SET name = name || ? WHERE id = 1", subjects.TextValue(""))
		select {
		case text := <-seen:
			wantSaid(t, text, "Snapdb-Db: SnapDB", "Snapdb-Chain", `"sql":"UPDATE Users SET name = name || ? WHERE id = 1","args":[""]`)
			return ""
		default:
			return "nats sub has not seen a change"
		}
	})
	run([]string{`"rows":[[1,"Alice"]]`}, "req", "db.query", `{"db":"SnapDB","sql":"SELECT * FROM Users"}`)
	run([]string{`"rows":[[1,"Alice"]]`}, "req", "node.snap1.query", `{"db":"SnapDB","sql":"SELECT * FROM Users"}`)
	run([]string{`"state":"done"`, `"node":"snap1"`}, "req", "node.snap1.ctl", `{"op":"ping"}`)
	run([]string{`"state":"done"`, `"state":"online"`, `"SnapDB"`}, "req", "node.snap1.ctl", `{"op":"info"}`)
	run([]string{"Nats-Service-Error-Code: read_only", `"code":"read_only"`}, "req", "db.query", `{"db":"SnapDB","sql":"DELETE FROM Users"}`)
	run([]string{"snapdb-master", "snapdb-node"}, "micro", "ls")
	run([]string{"db.exec", "db.query"}, "micro", "info", "snapdb-master")
	run([]string{"node.snap", ".query", ".ctl"}, "micro", "info", "snapdb-node")
	run([]string{"snapdb-node", "Requests"}, "micro", "stats", "snapdb-node")
	run([]string{"db.replicate, db.epoch", "File"}, "stream", "info", subjects.LogStream)
	run([]string{"Snapdb-Db: SnapDB", "CREATE TABLE Users"}, "stream", "get", subjects.LogStream, "--last-for", "db.replicate", "3")
	run([]string{`"state":"online"`, `"cursor":`}, "sub", "node.*.status", "--count", "2")
	run([]string{`"heads":`}, "sub", "cluster.heads", "--count", "1")
	c.finish(cl)
}

// connect opens a plain NATS connection to the cluster.
func (c *cluster) connect() *nats.Conn {
	c.t.Helper()
	nc, err := nats.Connect(c.url, nats.Name(c.t.Name()), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(nc.Close)
	return nc
}

// ask sends a request as any NATS program would, and reads the answer's JSON.
func ask(t *testing.T, nc *nats.Conn, subject, body string) (map[string]any, nats.Header) {
	t.Helper()
	msg, err := nc.Request(subject, []byte(body), 10*time.Second)
	if err != nil {
		t.Fatalf("%s: %v", subject, err)
	}
	answer := map[string]any{}
	if err := json.Unmarshal(msg.Data, &answer); err != nil {
		t.Fatalf("%s answers %q: %v", subject, msg.Data, err)
	}
	return answer, msg.Header
}

func TestPlainNATSClientReadsAndWritesEverything(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	cl := c.client()
	nc := c.connect()
	ask(t, nc, "db.exec", `{"sql":"CREATE DATABASE SnapDB"}`)
	ask(t, nc, "db.exec", `{"db":"SnapDB","sql":"CREATE TABLE Users (id INTEGER, name TEXT)"}`)
	changes, err := nc.SubscribeSync("db.replicate")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	wrote, _ := ask(t, nc, "db.exec", `{"db":"SnapDB","sql":"INSERT INTO Users VALUES (?,?)","args":[9007199254740993,"Alice"]}`)
	if applied, ok := wrote["applied"].([]any); !ok || len(applied) != 1 || applied[0] != "snap1" {
		t.Errorf("the write says applied %v", wrote["applied"])
	}
	change, err := changes.NextMsg(patience)
	if err != nil {
		t.Fatal(err)
	}
	wantSaid(t, string(change.Data), `"args":[9007199254740993,"Alice"]`)
	if db := change.Header.Get("Snapdb-Db"); db != "SnapDB" {
		t.Errorf("the change is of database %q", db)
	}
	for _, subject := range []string{"db.query", "node.snap1.query"} {
		got, err := nc.Request(subject, []byte(`{"db":"SnapDB","sql":"SELECT * FROM Users"}`), patience)
		if err != nil {
			t.Fatal(err)
		}
		wantSaid(t, string(got.Data), `[[9007199254740993,"Alice"]]`)
	}
	answer, header := ask(t, nc, "node.snap1.query", `{"db":"SnapDB","sql":"DROP TABLE Users"}`)
	if answer["error"] == nil || header.Get(micro.ErrorCodeHeader) != string(subjects.CodeReadOnly) {
		t.Errorf("a write at a node is answered %v, %v", answer, header)
	}
	if pong, _ := ask(t, nc, "node.snap1.ctl", `{"op":"ping"}`); pong["state"] != "done" {
		t.Errorf("ping: %v", pong)
	}
	for _, subject := range []string{"node.*.status", "cluster.heads"} {
		sub, err := nc.SubscribeSync(subject)
		if err != nil {
			t.Fatal(err)
		}
		if msg, err := sub.NextMsg(patience); err != nil || !json.Valid(msg.Data) {
			t.Errorf("%s: %v", subject, err)
		}
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), subjects.LogStream)
	if err != nil {
		t.Fatal(err)
	}
	if last, err := stream.GetLastMsgForSubject(t.Context(), "db.replicate"); err != nil || string(last.Data) != string(change.Data) {
		t.Errorf("the last message of the stream is not the last change: %v", err)
	}
	c.finish(cl)
}

// What others put on the log's subjects, by whatever trick, must neither be
// executed nor keep the master from writing.
func TestForeignMessagesOnTheLogChangeNothing(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 2)
	cl := c.client()
	c.exec(cl, "", "CREATE DATABASE A")
	c.exec(cl, "A", "CREATE TABLE t (a); INSERT INTO t VALUES (1)")
	nc := c.connect()
	for round := range 3 {
		for _, subject := range []string{subjects.Replicate, subjects.Epoch} {
			// Refused: nobody else may publish there.
			if err := nc.Publish(subject, []byte(`{"v":1,"db":"A","txns":[]}`)); err != nil {
				t.Fatal(err)
			}
			// An answer goes where its asker wants it to, and comes from the server.
			for _, api := range []string{"$JS.API.STREAM.INFO." + subjects.LogStream, "$JS.API.INFO", "$SRV.PING", "db.query", "node.snap1.query", "cluster.join"} {
				if err := nc.PublishRequest(api, subject, []byte(`{"db":"A","sql":"SELECT 1"}`)); err != nil {
					t.Fatal(err)
				}
			}
			body, err := json.Marshal(map[string]any{"last_by_subj": subjects.Replicate})
			if err != nil {
				t.Fatal(err)
			}
			if err := nc.PublishRequest("$JS.API.STREAM.MSG.GET."+subjects.LogStream, subject, body); err != nil {
				t.Fatal(err)
			}
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		c.exec(cl, "A", "UPDATE t SET a = a + 1")
		if round == 1 {
			for _, n := range c.nodes() {
				n.Kill()
			}
			c.start()
			nc = c.connect()
		}
	}
	if n := c.query(cl, "snap2", "A", "SELECT a FROM t").Int(); n != 4 {
		t.Errorf("the row has %d, want 4", n)
	}
	c.finish(cl)
}
