//go:build linux

package cluster_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/snapdb/snapdb/agent/client"
	"github.com/snapdb/snapdb/subjects"
)

func TestFrozenSlaveDelaysTheOthersOnce(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 2)
	cl := c.client()
	c.exec(cl, "", "CREATE DATABASE A")
	c.exec(cl, "A", "CREATE TABLE t (a)")
	c.slaves[1].Freeze()
	first := c.exec(cl, "A", "INSERT INTO t VALUES (1)")
	if got := fmt.Sprint(first.Applied, first.Pending); got != "[snap1] [snap2]" {
		t.Errorf("the first write is applied and pending at %s", got)
	}
	// The slave is out of the in-sync set now. A write that waited for it again
	// would not meet its rule in the time it has.
	for i := range 5 {
		resp := c.do(cl, subjects.Exec, &subjects.Request{DB: "A", SQL: "INSERT INTO t VALUES (?)", Args: []subjects.Value{subjects.IntegerValue(int64(i))}, TimeoutMS: 1000})
		if got := fmt.Sprint(resp.Applied, resp.Pending); got != "[snap1] [snap2]" {
			t.Errorf("a later write is applied and pending at %s", got)
		}
	}
	_, err := cl.Exec(t.Context(), &subjects.Request{DB: "A", SQL: "INSERT INTO t VALUES (7)", Ack: subjects.Ack{Kind: subjects.AckAll}, TimeoutMS: 300})
	if code(err) != subjects.CodeNotAcknowledged {
		t.Errorf("ack all with a frozen slave: %v, want %s", err, subjects.CodeNotAcknowledged)
	}
	c.slaves[1].Thaw()
	c.settle(cl)
	if n := c.query(cl, "snap2", "A", "SELECT count(*) FROM t").Int(); n != 7 {
		t.Errorf("the slave has %d rows, want 7", n)
	}
	c.finish(cl)
}

func TestSlaveComesBackAfterTenThousandWrites(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 2)
	cl := c.client()
	c.exec(cl, "", "CREATE DATABASE A")
	c.exec(cl, "A", "CREATE TABLE t (a INTEGER, r DEFAULT (random()))")
	c.slaves[0].Kill()
	c.slaves[1].Freeze() // and one that does not know
	const writes = 10_000
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for n := next.Add(1); n <= writes; n = next.Add(1) {
				insert(t, cl, n)
			}
		})
	}
	wg.Wait()
	c.slaves[0].Start()
	c.slaves[1].Thaw()
	c.settle(cl)
	for _, n := range c.slaves {
		if n := c.query(cl, n.Name, "A", "SELECT count(DISTINCT a) FROM t").Int(); n != writes {
			t.Errorf("a slave has %d rows, want %d", n, writes)
		}
	}
	c.finish(cl)
}

func insert(t *testing.T, cl *client.Client, n int64) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := cl.Exec(ctx, &subjects.Request{DB: "A", SQL: "INSERT INTO t (a) VALUES (?)", Args: []subjects.Value{subjects.IntegerValue(n)}, Ack: subjects.Ack{Kind: subjects.AckLog}})
	if err != nil {
		t.Errorf("insert %d: %v", n, err)
	}
}

func TestTwentySlavesFollow(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 20)
	c.master.Start()
	cl := c.client()
	c.exec(cl, "", "CREATE DATABASE A")
	c.exec(cl, "A", "CREATE TABLE t (a, r DEFAULT (random()))")
	c.start()
	resp := c.do(cl, subjects.Exec, &subjects.Request{DB: "A", SQL: "INSERT INTO t (a) VALUES (1)", Ack: subjects.Ack{Kind: subjects.AckAll}})
	var all []string
	for _, n := range c.slaves {
		all = append(all, n.Name)
	}
	slices.Sort(all)
	if !slices.Equal(resp.Applied, all) || len(resp.Pending) != 0 {
		t.Errorf("ack all: applied %v, pending %v", resp.Applied, resp.Pending)
	}
	c.finish(cl)
}

// The content must not depend on where a node is, nor what time it believes it is.
func TestNodesInOtherTimeZonesHoldTheSame(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	for i, zone := range []string{"Pacific/Kiritimati", "America/St_Johns", "Asia/Kathmandu"} {
		c.nodes()[i].Env = []string{"TZ=" + zone}
	}
	c.start()
	cl := c.client()
	c.exec(cl, "", "CREATE DATABASE A")
	c.exec(cl, "A", `CREATE TABLE t (a DEFAULT (datetime('now','localtime')), b DEFAULT CURRENT_TIMESTAMP, c DEFAULT (strftime('%s','now','utc')));
		CREATE INDEX i ON t (a); INSERT INTO t DEFAULT VALUES`)
	c.master.Stop(syscall.SIGTERM)
	c.master.Env = []string{"TZ=America/Los_Angeles"} // 22 hours earlier, as far as it can see
	c.start()
	c.exec(cl, "A", "INSERT INTO t DEFAULT VALUES; CREATE TABLE u AS SELECT datetime(b, 'localtime') AS l, * FROM t")
	row := c.do(cl, subjects.Query, &subjects.Request{DB: "A", SQL: "SELECT (SELECT count(*) FROM t WHERE a = b), (SELECT count(*) FROM u WHERE l = b)"}).Results[0].Rows[0]
	if row[0].Int() != 2 || row[1].Int() != 2 {
		t.Errorf("local time is not UTC in %d and %d of 2 rows", 2-row[0].Int(), 2-row[1].Int())
	}
	c.finish(cl)
}

func TestSlavesKeepTheirDataWhenTheirMasterIsReplaced(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	cl := c.client()
	c.exec(cl, "", "CREATE DATABASE A")
	c.exec(cl, "A", "CREATE TABLE t (a); INSERT INTO t VALUES (1)")
	c.settle(cl)
	c.master.Stop(syscall.SIGTERM)
	stranger := newNode(t, "stranger", "", "master", "--data", t.TempDir(), "--nats", c.listen)
	stranger.Start()
	c.slaves[0].AwaitSaid("belongs to cluster")
	if n := c.query(cl, "snap1", "A", "SELECT count(*) FROM t").Int(); n != 1 {
		t.Errorf("the slave has %d rows, want 1", n)
	}
	st, err := cl.Status(t.Context(), "snap1")
	if err != nil {
		t.Fatal(err)
	}
	if st.State != subjects.StateStopped || !strings.Contains(st.Reason, "cluster") {
		t.Errorf("the slave is %s (%s), want it stopped because of the cluster", st.State, st.Reason)
	}
	stranger.Stop(syscall.SIGTERM)
	c.start()
	c.finish(cl)
}
