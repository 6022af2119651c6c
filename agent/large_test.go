package agent_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snapdb/snapdb/agent"
	"github.com/snapdb/snapdb/subjects"
)

// Many rows by a short statement, and many statements whose log body is a blob: each
// is wholly on every node, also on one that was stopped on the way and on a new one.
func TestLargeTransactions(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{}, "s1", "s2")
	c.do("", "CREATE DATABASE a")
	c.do("a", "CREATE TABLE t (n INTEGER PRIMARY KEY, x)")
	if _, err := c.try(subjects.Request{DB: "a", TimeoutMS: 60_000,
		SQL: "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 200000) SELECT i, random() FROM n"}); err != nil {
		t.Fatal(err)
	}
	c.same()

	before := c.m.Store().Heads()["a"].Position
	s := c.session("a")
	s.do("BEGIN")
	for i := range 60 {
		if _, err := s.Do(testContext(t), &subjects.Request{SQL: "INSERT INTO t (x) VALUES (?)", Args: []subjects.Value{subjects.TextValue(strings.Repeat("x", 50_000))}}); err != nil {
			t.Fatalf("insert %d: %v", i, err)
		}
		if i == 30 {
			c.stopSlave("s2")
		}
	}
	if got := c.rows("a", "SELECT count(*) FROM t"); got != "200000" {
		t.Errorf("%s rows before COMMIT", got)
	}
	resp := s.do("COMMIT")
	if resp.Position != before+1 {
		t.Errorf("position %d after %d: not one message", resp.Position, before)
	}
	blobs, err := filepath.Glob(filepath.Join(c.opts.Dir, "blobs", "*"))
	if err != nil || len(blobs) == 0 {
		t.Errorf("no blob was used: %v, %v", blobs, err)
	}
	c.startSlave("s2")
	c.startSlave("s3")
	c.untilInSync("s1", "s2", "s3")
	c.same()

	// A transaction that is given up leaves no blob.
	s.do("BEGIN")
	for range 30 {
		if _, err := s.Do(testContext(t), &subjects.Request{SQL: "INSERT INTO t (x) VALUES (?)", Args: []subjects.Value{subjects.TextValue(strings.Repeat("y", 50_000))}}); err != nil {
			t.Fatal(err)
		}
	}
	s.do("ROLLBACK")
	left, err := os.ReadDir(filepath.Join(c.opts.Dir, "blobs"))
	if err != nil || len(left) != len(blobs) {
		t.Errorf("%d files in the blob folder, before %d, %v", len(left), len(blobs), err)
	}
	if got := c.rows("a", "SELECT count(*) FROM t"); got != "200060" {
		t.Errorf("%s rows", got)
	}
}
