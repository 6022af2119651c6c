//go:build linux

package cluster_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/snapdb/snapdb/broker/brokertest"
	"github.com/snapdb/snapdb/cmd/snapdb/processtest"
	"github.com/snapdb/snapdb/subjects"
)

func TestSlavesMayComeBeforeTheirMaster(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	for _, n := range c.slaves {
		n.Start()
		n.AwaitSaid("started")
	}
	c.master.Start()
	c.awaitOnline(c.slaves...)
	cl := c.client()
	c.exec(cl, "", "CREATE DATABASE A")
	c.exec(cl, "A", "CREATE TABLE t (a); INSERT INTO t VALUES (1)")
	c.finish(cl)
}

func TestRestartInEveryOrder(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 2)
	cl := c.client()
	c.exec(cl, "", "CREATE DATABASE A")
	c.exec(cl, "A", "CREATE TABLE t (a)")
	orders := [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}}
	for i, order := range orders {
		c.exec(cl, "A", "INSERT INTO t VALUES (?)", subjects.IntegerValue(int64(i)))
		down := orders[(i*5+2)%len(orders)]
		for _, n := range down {
			c.nodes()[n].Stop(syscall.SIGTERM)
		}
		for _, n := range order {
			c.nodes()[n].Start()
			c.nodes()[n].AwaitSaid(c.nodes()[n].greeting())
		}
		c.awaitOnline(c.slaves...)
	}
	if n := c.query(cl, "", "A", "SELECT count(*) FROM t").Int(); n != int64(len(orders)) {
		t.Errorf("%d rows, want %d", n, len(orders))
	}
	c.finish(cl)
}

func TestSecondSlaveWithALiveIDIsRefused(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	code, _, stderr := built.Run(t, "slave", "--data", filepath.Join(c.dir, "other"), "--id", "snap1", "--nats", c.url)
	if code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	wantSaid(t, stderr, "snap1", "already connected", "--id")
	cl := c.client()
	c.exec(cl, "", "CREATE DATABASE A")
	c.finish(cl)
}

func TestIDOfADeadSlaveIsFreeAgain(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	c.slaves[0].Kill()
	n := newNode(t, "other", filepath.Join(c.dir, "other"), "slave", "--data", filepath.Join(c.dir, "other"), "--id", "snap1", "--nats", c.url)
	n.Name = "snap1"
	n.Start()
	c.slaves[0] = n
	c.awaitOnline(n)
	cl := c.client()
	c.exec(cl, "", "CREATE DATABASE A")
	c.finish(cl)
}

func TestIDIsKeptInTheDataDirectory(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 0)
	cl := c.client()
	dir := filepath.Join(c.dir, "nameless")
	n := newNode(t, "nameless", dir, "slave", "--data", dir, "--nats", c.url)
	ids := map[string]bool{}
	for range 2 {
		n.Start()
		await(t, func() string {
			for _, info := range c.info(cl).Nodes {
				if info.State == subjects.StateOnline {
					ids[info.ID] = true
					return ""
				}
			}
			return "no slave is online"
		})
		n.Stop(syscall.SIGTERM)
	}
	if len(ids) != 1 {
		t.Errorf("the slave had ids %v, want one", ids)
	}
	code, _, stderr := built.Run(t, "slave", "--data", dir, "--id", "another", "--nats", c.url)
	if code != 1 {
		t.Errorf("exit code %d with another id, want 1", code)
	}
	for id := range ids {
		wantSaid(t, stderr, id, "another")
	}
}

func TestSignalsStopEveryRole(t *testing.T) {
	t.Parallel()
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		for _, masterFirst := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v/masterFirst=%v", s, masterFirst), func(t *testing.T) {
				t.Parallel()
				c := startCluster(t, 1)
				cl := c.client()
				l := c.startLoad(cl, "A", 2)
				l.awaitAcked(20)
				first, second := c.slaves[0], c.master
				if masterFirst {
					first, second = second, first
				}
				first.Stop(s)
				second.Stop(s)
				c.start()
				l.awaitAcked(20)
				l.stop()
				c.settle(cl)
				l.verify(cl, "")
				l.verify(cl, "snap1")
				c.finish(cl)
			})
		}
	}
}

func TestSlaveWithoutAMasterStops(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	n := c.slaves[0]
	n.Start()
	n.AwaitSaid("started")
	n.Stop(syscall.SIGINT)
}

func TestMasterStopsWhileWritesWaitForAFrozenSlave(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	cl := c.client()
	c.exec(cl, "", "CREATE DATABASE A")
	c.exec(cl, "A", "CREATE TABLE t (a)")
	c.slaves[0].Freeze()
	var wg sync.WaitGroup
	for i, session := range []string{"", "s"} {
		wg.Go(func() {
			_, err := cl.Exec(t.Context(), &subjects.Request{DB: "A", Session: session, TimeoutMS: 60_000,
				Ack: subjects.Ack{Kind: subjects.AckAll}, SQL: "INSERT INTO t VALUES (?)", Args: []subjects.Value{subjects.IntegerValue(int64(i))}})
			if code(err) != subjects.CodeNotAcknowledged {
				t.Errorf("a write that waits when its master stops: %v, want %s", err, subjects.CodeNotAcknowledged)
			}
		})
	}
	await(t, func() string {
		if n := c.query(cl, "", "A", "SELECT count(*) FROM t").Int(); n != 2 {
			return fmt.Sprintf("%d of 2 writes are committed", n)
		}
		return ""
	})
	c.master.Stop(syscall.SIGTERM)
	wg.Wait()
	c.slaves[0].Thaw()
	c.start()
	c.finish(cl)
}

func TestMasterStopsInTheMiddleOfEndlessStatements(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	cl := c.client()
	c.exec(cl, "", "CREATE DATABASE A")
	c.exec(cl, "A", "CREATE TABLE t (a)")
	c.settle(cl)
	const endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n) "
	var wg sync.WaitGroup
	for _, sql := range []string{endless + "SELECT count(*) FROM n", "INSERT INTO t " + endless + "SELECT i FROM n WHERE i < 0"} {
		wg.Go(func() {
			_, err := cl.Exec(t.Context(), &subjects.Request{DB: "A", SQL: sql, TimeoutMS: 60_000})
			if c := code(err); c != subjects.CodeCancelled && c != subjects.CodeUnavailable {
				t.Errorf("%s: %v", sql, err)
			}
		})
	}
	await(t, func() string { // until the writer is busy
		_, err := cl.Exec(t.Context(), &subjects.Request{DB: "A", SQL: "INSERT INTO t VALUES (1)", TimeoutMS: 100})
		if code(err) == subjects.CodeTimeout {
			return ""
		}
		return fmt.Sprint("a write is not held up: ", err)
	})
	before := c.query(cl, "", "A", "SELECT count(*) FROM t").Int()
	c.master.Stop(syscall.SIGINT)
	wg.Wait()
	c.start()
	if n := c.query(cl, "", "A", "SELECT count(*) FROM t").Int(); n != before {
		t.Errorf("%d rows after the stop, %d before", n, before)
	}
	c.finish(cl)
}

func TestDemoEndsByItselfAndBySignal(t *testing.T) {
	t.Parallel()
	code, stdout, stderr := built.Run(t, "demo", "--for", "1s", "--nats", brokertest.Address(t))
	if code != 0 || stderr != "" {
		t.Errorf("demo --for: exit code %d, stderr %q", code, stderr)
	}
	wantSaid(t, stdout, "CREATE DATABASE SnapDB", "applied by snap1 snap2 snap3", "Try next")
	for _, s := range [][]syscall.Signal{{syscall.SIGINT}, {syscall.SIGTERM}, {syscall.SIGTERM, syscall.SIGTERM}} {
		n := newNode(t, "demo", "", "demo", "--nats", brokertest.Address(t))
		n.Start()
		n.AwaitSaid("Ctrl-C ends the demo")
		n.Signal(s[0])
		for _, more := range s[1:] { // must not keep it from cleaning up
			n.AwaitSaid("stopping")
			_ = syscall.Kill(n.PID(), more) // it may be quicker
		}
		if code := n.Wait(processtest.StopWithin); code != 0 {
			t.Errorf("after %v: exit code %d", s, code)
		}
		dir := n.Said()[strings.Index(n.Said(), "data in ")+len("data in "):]
		dir, _, _ = strings.Cut(dir, "\n")
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("the demo has left its data in %s: %v", dir, err)
		}
	}
}

func TestTakenPortNamesTheFlag(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, args := range [][]string{{"demo"}, {"master", "--data", filepath.Join(t.TempDir(), "m")}} {
		code, _, stderr := built.Run(t, append(args, "--nats", l.Addr().String())...)
		if code != 1 {
			t.Errorf("%s: exit code %d, want 1", args[0], code)
		}
		wantSaid(t, stderr, l.Addr().String(), "in use", "--nats")
	}
}

func TestDataDirectoryThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("not a directory"), 0o600); err != nil {
		t.Fatal(err)
	}
	newer := filepath.Join(t.TempDir(), "newer")
	if err := os.MkdirAll(newer, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(newer, "node.json"), []byte(`{"format":99,"role":"slave"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	other := startCluster(t, 0)
	c.slaves[0].Stop(syscall.SIGTERM)
	for what, x := range map[string]struct {
		args []string
		says []string
	}{
		"in use":                   {[]string{"master", "--data", c.master.dir, "--nats", brokertest.Address(t)}, []string{c.master.dir, "in use"}},
		"in use by the other role": {[]string{"slave", "--data", c.master.dir, "--nats", c.url}, []string{c.master.dir, "in use"}},
		"a slave's for a master":   {[]string{"master", "--data", c.slaves[0].dir, "--nats", brokertest.Address(t)}, []string{c.slaves[0].dir, "slave", "master"}},
		"a file for a master":      {[]string{"master", "--data", file, "--nats", brokertest.Address(t)}, []string{file, "not a directory"}},
		"a file for a slave":       {[]string{"slave", "--data", file, "--nats", c.url}, []string{file, "not a directory"}},
		"below a file":             {[]string{"slave", "--data", filepath.Join(file, "d"), "--nats", c.url}, []string{file, "not a directory"}},
		"of a newer version":       {[]string{"slave", "--data", newer, "--nats", c.url}, []string{newer, "newer"}},
		"of another cluster":       {[]string{"slave", "--data", c.slaves[0].dir, "--nats", other.url}, []string{"cluster", "--data"}},
	} {
		code, _, stderr := built.Run(t, x.args...)
		if code != 1 {
			t.Errorf("%s: exit code %d, want 1", what, code)
		}
		wantSaid(t, stderr, x.says...)
	}
	c.start()
	c.finish(c.client())
}

// greeting is what the node writes when it is ready.
func (n *node) greeting() string {
	if n.Name == "master" {
		return "ready at"
	}
	return "started"
}

// wantSaid fails the test unless text has all these words in it.
func wantSaid(t testing.TB, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%q does not say %q", text, w)
		}
	}
}
