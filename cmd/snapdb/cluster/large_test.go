//go:build linux

package cluster_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/snapdb/snapdb/agent/client"
	"github.com/snapdb/snapdb/subjects"
)

// Large transactions are applied whole or not at all on every node, and neither
// master nor slave holds them in memory.
func TestLargeTransactionsReplicateWholeInBoundedMemory(t *testing.T) {
	t.Parallel()
	rows, blobs := 60_000, 20
	if *large {
		rows, blobs = 1_000_000, 100
	}
	c := startCluster(t, 1)
	cl := c.client()
	c.exec(cl, "", "CREATE DATABASE A")
	c.exec(cl, "A", "CREATE TABLE t (a INTEGER, b TEXT DEFAULT (hex(randomblob(8)))); CREATE TABLE blobs (n INTEGER, data BLOB)")

	// One statement that makes many rows.
	c.do(cl, subjects.Exec, &subjects.Request{DB: "A", TimeoutMS: 120_000,
		SQL: fmt.Sprintf("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < %d) INSERT INTO t (a) SELECT i FROM n", rows)})
	c.settle(cl)
	t.Logf("%d rows in one statement: peak memory of master %d MB, slave %d MB", rows, peak(t, c.master), peak(t, c.slaves[0]))

	// One transaction whose log does not fit a message, nor memory.
	s := cl.NewSession("A")
	c.inSession(s, "BEGIN")
	data := make([]byte, 1<<20)
	for i := range blobs {
		for j := range data {
			data[j] = byte(i * j)
		}
		c.inSession(s, "INSERT INTO blobs VALUES (?, ?)", subjects.IntegerValue(int64(i)), subjects.BlobValue(data))
		if i == blobs/2 {
			if n := c.query(cl, "snap1", "A", "SELECT count(*) FROM blobs").Int(); n != 0 {
				t.Errorf("the slave has %d rows of a transaction that is not committed", n)
			}
		}
	}
	c.inSession(s, "COMMIT")
	c.settle(cl)
	if n := c.query(cl, "snap1", "A", "SELECT count(*) FROM blobs WHERE length(data) = 1048576").Int(); n != int64(blobs) {
		t.Errorf("the slave has %d blobs, want %d", n, blobs)
	}
	t.Logf("%d MB of blobs in one transaction: peak memory of master %d MB, slave %d MB", blobs, peak(t, c.master), peak(t, c.slaves[0]))
	for _, n := range c.nodes() {
		if mb := peak(t, n); mb > peakMost {
			t.Errorf("%s has used %d MB of memory, more than %d", n.Name, mb, peakMost)
		}
	}

	// One that is killed on its way leaves nothing, on no node.
	s = cl.NewSession("A")
	c.inSession(s, "BEGIN")
	for i := range 4 {
		c.inSession(s, "INSERT INTO blobs VALUES (?, ?)", subjects.IntegerValue(int64(-i)), subjects.BlobValue(data))
	}
	c.master.Kill()
	c.start()
	if n := c.query(cl, "", "A", "SELECT count(*) FROM blobs").Int(); n != int64(blobs) {
		t.Errorf("%d blobs after a crash before COMMIT, want %d", n, blobs)
	}
	c.finish(cl)
}

// peakMost bounds the memory of any process in the test of large transactions, in
// MB, whatever their size: the page caches, a statement and its parts in several
// forms, and what the garbage collector has not got to yet.
const peakMost = 300

// peak is the most memory that a process has had, in MB.
func peak(t *testing.T, n *node) int {
	t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", n.PID()))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if kb, ok := strings.CutPrefix(lines.Text(), "VmHWM:"); ok {
			size, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(kb, "kB")))
			if err != nil {
				t.Fatal(err)
			}
			return size / 1024
		}
	}
	t.Fatalf("the memory of %s is not known", n.Name)
	return 0
}

// inSession executes a statement of a session, which must succeed.
func (c *cluster) inSession(s *client.Session, sql string, args ...subjects.Value) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 2*patience)
	defer cancel()
	if _, err := s.Do(ctx, &subjects.Request{SQL: sql, Args: args, TimeoutMS: 60_000}); err != nil {
		c.t.Fatalf("%.100s: %v", sql, err)
	}
}
