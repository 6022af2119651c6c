package shell

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/snapdb/snapdb/agent"
	"github.com/snapdb/snapdb/agent/client"
	"github.com/snapdb/snapdb/cmd/snapdb/format"
	"github.com/snapdb/snapdb/subjects"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// cluster is a master with database d, and a slave.
type cluster struct {
	t   *testing.T
	url string
	c   *client.Client
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
	t.Cleanup(cancel)
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	m, err := agent.StartMaster(ctx, agent.MasterOptions{Dir: filepath.Join(t.TempDir(), "m"), Listen: "127.0.0.1:0", Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Stop(ctx); err != nil {
			t.Errorf("stop master: %v", err)
		}
	})
	s, err := agent.StartSlave(ctx, agent.SlaveOptions{URL: m.URL(), ID: "snap1", Dir: filepath.Join(t.TempDir(), "s"), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(ctx); err != nil {
			t.Errorf("stop slave: %v", err)
		}
	})
	c, err := client.Connect(ctx, m.URL(), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	cl := &cluster{t: t, url: m.URL(), c: c}
	cl.await("the slave is online", func() bool {
		info, err := c.Info(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return len(info.Nodes) == 1 && info.Nodes[0].State == subjects.StateOnline
	})
	if _, err := c.Exec(ctx, &subjects.Request{SQL: "CREATE DATABASE d"}); err != nil {
		t.Fatal(err)
	}
	return cl
}

func (cl *cluster) await(what string, holds func() bool) {
	cl.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for !holds() {
		select {
		case <-tick.C:
		case <-late:
			cl.t.Fatalf("waited %v until %s", patience, what)
		}
	}
}

// assertEqual checks that the slave holds what the master holds, once the writes
// whose answers were lost are done.
func (cl *cluster) assertEqual() {
	cl.t.Helper()
	read := func(door string, position uint64) *subjects.Response {
		resp, err := cl.c.Do(cl.t.Context(), door, &subjects.Request{DB: "d", SQL: "SHOW CHECKSUM", MinPosition: position})
		if err != nil {
			cl.t.Fatalf("%s: %v", door, err)
		}
		return resp
	}
	var master, slave *subjects.Response
	cl.await("both are read at one position", func() bool {
		master = read(subjects.Query, 0)
		slave = read(subjects.NodeQuery("snap1"), master.Position)
		return slave.Position == master.Position
	})
	if table(slave) != table(master) {
		cl.t.Errorf("at %d the slave holds\n%s\nthe master\n%s", master.Position, table(slave), table(master))
	}
}

// table is the first result of an answer as text.
func table(resp *subjects.Response) string {
	var b bytes.Buffer
	w := format.New(format.CSV, &b)
	if w.Begin(resp.Results[0].Columns) == nil && w.Rows(resp.Results[0].Rows) == nil {
		return b.String()
	}
	return ""
}

// open makes a shell on d. What it writes to either stream is in out.
func (cl *cluster) open(c *client.Client, keepGoing bool) (sh *Shell, out *bytes.Buffer) {
	cl.t.Helper()
	out = new(bytes.Buffer)
	sh, err := New(Config{Session: c.NewSession("d"), Ack: subjects.Ack{Kind: subjects.AckLog}, Format: format.CSV, KeepGoing: keepGoing, Stdout: out, Stderr: out})
	if err != nil {
		cl.t.Fatal(err)
	}
	return sh, out
}

// steps are statements on table T, whose keys collide. Some fail, some take the
// transaction with them.
var steps = []string{
	"INSERT INTO T VALUES (1)", "INSERT INTO T VALUES (2)", "INSERT INTO T VALUES (3), (4)", "INSERT INTO T VALUES (5), (1)", "insert into T values (6)",
	"INSERT OR ROLLBACK INTO T VALUES (1)", "INSERT OR FAIL INTO T VALUES (7), (1), (8)", "REPLACE INTO T VALUES (1)", "DELETE FROM T WHERE a = 1", "UPDATE T SET a = a + 10 WHERE a < 5",
	"UPDATE T SET a = 1", "/* ; */ INSERT INTO T VALUES (9)", "SELECT count(*) FROM T", "SELEC;", "INSERT INTO nosuch VALUES (1)",
	"BEGIN", "BEGIN", "BEGIN IMMEDIATE", "COMMIT", "COMMIT", "END", "ROLLBACK", "SAVEPOINT s", "ROLLBACK TO s", "RELEASE s",
}

// oneByOne is what a script must have the effect of: its statements, each in a
// request of its own, to the first that fails or beyond it.
func (cl *cluster) oneByOne(t *rapid.T, script []string, keepGoing bool) (failed []int, begun int) {
	s := cl.c.NewSession("d")
	for i, sql := range script {
		_, err := s.Do(t.Context(), &subjects.Request{SQL: sql, Ack: subjects.Ack{Kind: subjects.AckLog}})
		if err != nil {
			failed = append(failed, i+1)
			if !keepGoing {
				break
			}
		}
		switch {
		case !s.InTx():
			begun = 0
		case begun == 0:
			begun = i + 1
		}
	}
	if _, err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	return failed, begun
}

func TestScriptHasTheEffectOfItsStatementsOneByOne(t *testing.T) {
	t.Parallel()
	cl := newCluster(t)
	run := 0
	rapid.Check(t, func(t *rapid.T) {
		run++
		script := rapid.SliceOfN(rapid.SampledFrom(steps), 1, 14).Draw(t, "script")
		keepGoing := rapid.Bool().Draw(t, "keep going")
		sizes := rapid.SliceOfN(rapid.IntRange(1, 200), 0, 4).Draw(t, "sizes")
		content := map[string]string{}
		var wantFailed []int
		var wantBegun int
		var err error
		var out *bytes.Buffer
		for _, name := range []string{"model", "script"} {
			name := fmt.Sprintf("%s%d", name, run)
			if _, err := cl.c.Exec(t.Context(), &subjects.Request{DB: "d", SQL: "CREATE TABLE " + name + " (a INTEGER PRIMARY KEY)", Ack: subjects.Ack{Kind: subjects.AckLog}}); err != nil {
				t.Fatal(err)
			}
			own := make([]string, len(script))
			for i, sql := range script {
				own[i] = strings.TrimSuffix(strings.ReplaceAll(sql, " T ", " "+name+" "), ";")
				own[i] = strings.ReplaceAll(own[i]+";", " T;", " "+name+";")
			}
			if strings.HasPrefix(name, "model") {
				wantFailed, wantBegun = cl.oneByOne(t, own, keepGoing)
			} else {
				var sh *Shell
				sh, out = cl.open(cl.c, keepGoing)
				err = sh.Script(t.Context(), "x", &chunks{rest: strings.Join(own, "\n"), sizes: sizes}, 0)
				if sh.Session.InTx() {
					t.Error("the script has left a transaction open")
				}
			}
			resp, err := cl.c.Query(t.Context(), &subjects.Request{DB: "d", SQL: "SELECT a FROM " + name + " ORDER BY a"})
			if err != nil {
				t.Fatal(err)
			}
			content[strings.TrimRight(name, "0123456789")] = table(resp)
		}
		if content["script"] != content["model"] {
			t.Errorf("the script left %q, its statements one by one %q", content["script"], content["model"])
		}
		checkFailure(t, err, out.String(), wantFailed, wantBegun, keepGoing)
	})
	cl.assertEqual()
}

// checkFailure compares what a script says of its end with what is true.
func checkFailure(t *rapid.T, err error, out string, failed []int, begun int, keepGoing bool) {
	var stopped *ScriptError
	var kept *FailedError
	switch {
	case errors.As(err, &stopped):
		if claim := "the transaction begun by statement " + fmt.Sprint(begun) + " was rolled back"; begun > 1 && !strings.Contains(stopped.Outcome, claim) {
			t.Errorf("outcome %q does not say that %s", stopped.Outcome, claim)
		}
		if begun == 0 && strings.Contains(stopped.Outcome, "rolled back") {
			t.Errorf("outcome %q, though no transaction was open", stopped.Outcome)
		}
		if len(failed) == 0 || keepGoing {
			if begun == 0 || stopped.Number != 0 {
				t.Errorf("the script stopped: %v; its statements one by one do not", err)
			}
			return
		}
		if stopped.Number != failed[0] || stopped.Line != failed[0] {
			t.Errorf("the script stopped at statement %d, line %d; statement %d fails", stopped.Number, stopped.Line, failed[0])
		}
	case errors.As(err, &kept):
		if kept.Failed != len(failed) || strings.Count(out, "error: x line") != len(failed) {
			t.Errorf("%d statements failed, want %v; output:\n%s", kept.Failed, failed, out)
		}
	case err != nil:
		t.Errorf("the script ended with %v", err)
	case len(failed) > 0 || begun > 0:
		t.Errorf("the script succeeded; one by one statements %v fail, and statement %d begins a transaction that stays open", failed, begun)
	}
}

// cable carries a connection to a server, and breaks when a text goes over it:
// the server gets the text, and nothing comes back.
type cable struct {
	l    net.Listener
	text string
	wg   sync.WaitGroup
}

func newCable(t *testing.T, server, text string) *cable {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	c := &cable{text: text}
	if c.l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	out, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	c.wg.Go(func() {
		in, err := c.l.Accept()
		c.l.Close() // one only
		if err != nil {
			out.Close()
			return
		}
		c.wg.Go(func() { _, _ = io.Copy(in, out) }) // ends when either is closed
		c.carry(in, out)
		in.Close()
		out.Close()
	})
	t.Cleanup(func() {
		c.l.Close()
		c.wg.Wait()
	})
	return c
}

func (c *cable) carry(in, out net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := in.Read(buf)
		if strings.Contains(string(buf[:n]), c.text) {
			in.Close()
		}
		if _, writeErr := out.Write(buf[:n]); err != nil || writeErr != nil {
			return
		}
	}
}

func TestScriptDoesNotClaimWhatNobodyAnswered(t *testing.T) {
	t.Parallel()
	cl := newCluster(t)
	if _, err := cl.c.Exec(t.Context(), &subjects.Request{DB: "d", SQL: "CREATE TABLE t (a)"}); err != nil {
		t.Fatal(err)
	}
	for script, want := range map[string]string{
		"SELECT 1;\nSELECT 'needle';": "statement 1 was applied; whether statement 2 was applied is not known",
		"INSERT INTO t VALUES (1);\nINSERT INTO t VALUES ('needle');\nINSERT INTO t VALUES (3);": "no statement was applied; whether statements 1 to 3 were applied is not known, either all were or none",
		"SELECT 1;\nBEGIN;\nINSERT INTO t VALUES (4);\nCOMMIT -- needle\n;":                      "whether the transaction begun by statement 2 was committed is not known; nothing after it was applied",
	} {
		cable := newCable(t, cl.url, "needle")
		c, err := client.Connect(t.Context(), "nats://"+cable.l.Addr().String(), client.Options{})
		if err != nil {
			t.Fatal(err)
		}
		sh, _ := cl.open(c, true) // a lost connection also stops those that keep going
		var stopped *ScriptError
		if err := sh.Script(t.Context(), "x", strings.NewReader(script), 0); !errors.As(err, &stopped) || !errors.Is(err, client.ErrLost) || stopped.Outcome != want {
			t.Errorf("%q: %v\nwant outcome %q", script, err, want)
		}
		c.Close()
	}
	cl.assertEqual()
}
