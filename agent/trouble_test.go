package agent_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/snapdb/snapdb/agent"
	"github.com/snapdb/snapdb/exec/engine"
	"github.com/snapdb/snapdb/subjects"
)

// Below the disk reserve writes are refused, reads go on, and space that is free
// again is noticed.
func TestDiskReserve(t *testing.T) {
	t.Parallel()
	var free atomic.Uint64
	free.Store(1 << 30)
	c := newCluster(t, agent.MasterOptions{DiskReserve: 1 << 20, FreeBytes: func(string) (uint64, error) { return free.Load(), nil }}, "s1")
	c.do("", "CREATE DATABASE a")
	c.do("a", "CREATE TABLE t (x)")
	s := c.session("a")
	s.do("BEGIN IMMEDIATE")
	s.do("INSERT INTO t VALUES (1)")
	free.Store(1000)
	made := 0
	until(t, "refused", func() bool { // it is measured now and then
		made++
		_, err := c.try(subjects.Request{SQL: fmt.Sprintf("CREATE DATABASE b%d", made)})
		var we *subjects.Error
		return errors.As(err, &we) && we.Code == subjects.CodeUnavailable && strings.Contains(we.Message, "free some space")
	})
	s.do("COMMIT") // what has begun may end
	c.fails(subjects.CodeUnavailable, subjects.Request{DB: "a", SQL: "INSERT INTO t VALUES (2)"})
	c.fails(subjects.CodeUnavailable, subjects.Request{SQL: "DROP DATABASE a"})
	s.fails(subjects.CodeUnavailable, "BEGIN IMMEDIATE")
	if got := c.rows("a", "SELECT x FROM t"); got != "1" {
		t.Errorf("rows %s", got)
	}
	free.Store(1 << 30)
	c.do("a", "INSERT INTO t VALUES (3)")
	c.do("", fmt.Sprintf("CREATE DATABASE b%d", made))
}

// A full log refuses writes and says what to do; a larger one takes them again.
func TestFullLog(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{MaxLogBytes: 300_000, LogKeep: -1}, "s1")
	c.do("", "CREATE DATABASE a")
	c.do("a", "CREATE TABLE t (x)")
	var err error
	wrote := 0
	for err == nil && wrote < 100 {
		if _, err = c.try(subjects.Request{DB: "a", SQL: "INSERT INTO t VALUES (?)", Args: []subjects.Value{subjects.TextValue(strings.Repeat("x", 20_000))}}); err == nil {
			wrote++
		}
	}
	if msg := wantCode(t, "insert", nil, err, subjects.CodeUnavailable); !strings.Contains(msg, "--log-max") || !strings.Contains(msg, "nothing was changed") {
		t.Errorf("message %q", msg)
	}
	c.do("a", "INSERT INTO t VALUES ('small')") // fits
	c.fails(subjects.CodeUnavailable, subjects.Request{DB: "a", SQL: "INSERT INTO t VALUES (?)", Args: []subjects.Value{subjects.TextValue(strings.Repeat("x", 30_000))}})
	c.same()
	c.stopMaster()
	c.startMaster() // although a new epoch does not fit
	c.untilInSync("s1")
	c.fails(subjects.CodeUnavailable, subjects.Request{DB: "a", SQL: "INSERT INTO t VALUES (?)", Args: []subjects.Value{subjects.TextValue(strings.Repeat("x", 30_000))}})
	c.same()
	c.stopMaster()
	c.opts.MaxLogBytes = 1 << 20
	c.startMaster()
	c.untilInSync("s1")
	c.do("a", "INSERT INTO t VALUES (?)", subjects.TextValue(strings.Repeat("x", 20_000)))
	if got := c.rows("a", "SELECT count(*) - 2 FROM t"); got != text(wrote) {
		t.Errorf("%s rows, wrote %d", got, wrote)
	}
}

// What large transactions keep beside the log counts towards its limit.
func TestFullLogOfLargeTransactions(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{MaxLogBytes: 4 << 20, LogKeep: -1}, "s1")
	c.do("", "CREATE DATABASE a")
	c.do("a", "CREATE TABLE t (x)")
	large := subjects.Request{DB: "a", SQL: "INSERT INTO t VALUES (?)", Args: []subjects.Value{subjects.TextValue(strings.Repeat("x", 1_500_000))}}
	for i := range 3 {
		if _, err := c.try(large); err != nil {
			t.Fatalf("transaction %d: %v", i+1, err)
		}
	}
	if msg := c.fails(subjects.CodeUnavailable, large); !strings.Contains(msg, "--log-max") || !strings.Contains(msg, "nothing was changed") {
		t.Errorf("message %q", msg)
	}
	c.do("a", "INSERT INTO t VALUES ('small')")
	info := c.m.Info(testContext(t))
	if info.BlobBytes < 4_500_000 || info.LogBytes+info.BlobBytes < info.LogMax {
		t.Errorf("log %d, blobs %d, limit %d", info.LogBytes, info.BlobBytes, info.LogMax)
	}
	if got := c.rows("a", "SELECT count(*) FROM t"); got != "4" {
		t.Errorf("%s rows", got)
	}
}

func text(n int) string { return string(subjects.AppendValue(nil, subjects.IntegerValue(int64(n)))) }

// When the master's own commit fails after the log has the write, the write is
// committed: the answer says so, and that the master does not have it yet. It
// replays the log and goes on.
func TestCommitThatFailsAfterTheLog(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{}, "s1")
	c.do("", "CREATE DATABASE a")
	c.do("a", "CREATE TABLE t (x INTEGER PRIMARY KEY)")
	c.stopMaster()
	file := filepath.Join(c.opts.Dir, "a.db")
	edit := func(sql string) {
		t.Helper()
		conn, err := engine.Open(file, engine.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(conn.Exec(sql), conn.Close()); err != nil {
			t.Fatal(err)
		}
	}
	// It fails now and then, like a bad disk.
	edit(`CREATE TRIGGER _snapdb_fault BEFORE UPDATE ON _snapdb_applied WHEN CAST(unixepoch('subsec') * 1000 AS INTEGER) / 300 % 2
 BEGIN SELECT RAISE(ABORT, 'a bad disk'); END`)
	c.startMaster()
	c.untilInSync("s1")
	rows, behind := int64(0), 0
	until(t, "some commits have failed", func() bool {
		resp, err := c.try(subjects.Request{DB: "a", SQL: "INSERT INTO t VALUES (?)", Args: []subjects.Value{subjects.IntegerValue(rows)}})
		if err != nil {
			wantCode(t, "insert", resp, err, subjects.CodeUnavailable) // while it catches up
			if stopped := c.m.Info(context.Background()).Stopped["a"]; stopped != "" && !strings.Contains(stopped, "recovers by itself") {
				t.Errorf("stopped: %s", stopped)
			}
			return false
		}
		rows++
		if len(resp.Pending) > 0 {
			if resp.Pending[0] != "master" || resp.Applied[0] != "s1" {
				t.Errorf("%+v", resp)
			}
			behind++
		}
		return behind == 2
	})
	until(t, "recovered", func() bool { return c.m.Info(context.Background()).Stopped["a"] == "" })
	if got := c.rows("a", "SELECT count(*) FROM t"); got != text(int(rows)) {
		t.Errorf("%s rows, wrote %d", got, rows)
	}
	c.stopMaster()
	edit("DROP TRIGGER _snapdb_fault")
	c.startMaster()
	c.untilInSync("s1")
}

// What somebody else has written into a file of the master stops that database; the
// others go on.
func TestForeignWriteStopsTheDatabase(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{}, "s1")
	for _, db := range []string{"a", "b"} {
		c.do("", "CREATE DATABASE "+db)
		c.do(db, "CREATE TABLE t (x)")
	}
	conn, err := engine.Open(filepath.Join(c.opts.Dir, "a.db"), engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(conn.Exec("INSERT INTO t VALUES ('foreign')"), conn.Close()); err != nil {
		t.Fatal(err)
	}
	if msg := c.fails(subjects.CodeUnavailable, subjects.Request{DB: "a", SQL: "INSERT INTO t VALUES (1)"}); !strings.Contains(msg, "another program") {
		t.Errorf("message %q", msg)
	}
	c.fails(subjects.CodeUnavailable, subjects.Request{DB: "a", SQL: "INSERT INTO t VALUES (1)"})
	if why := c.m.Info(context.Background()).Stopped["a"]; !strings.Contains(why, "another program") {
		t.Errorf("stopped: %q", why)
	}
	c.do("b", "INSERT INTO t VALUES (1)")
	c.do("", "DROP DATABASE a")
	c.do("", "CREATE DATABASE a")
	c.do("a", "CREATE TABLE t (x)")
}

// A master whose databases are gone builds them anew from its log, through drops and
// large transactions, and is where its slaves are.
func TestMasterIsRebuiltFromItsLog(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{}, "s1")
	for round := range 2 {
		for _, db := range []string{"a", "b"} {
			c.do("", "CREATE DATABASE "+db)
			c.do(db, "CREATE TABLE t (x, r DEFAULT (random()))")
		}
		for i := range 40 {
			c.do([]string{"a", "b"}[i%2], "INSERT INTO t (x) VALUES (?)", subjects.IntegerValue(int64(i)))
		}
		c.do("a", "INSERT INTO t (x) VALUES (?), (?)", subjects.TextValue(strings.Repeat("x", 700_000)), subjects.TextValue(strings.Repeat("y", 700_000)))
		if round == 0 {
			c.do("", "DROP DATABASE a; DROP DATABASE b")
		}
	}
	heads := c.m.Store().Heads()
	c.stopMaster()
	for _, db := range []string{"a", "b"} {
		for _, suffix := range []string{"", "-wal", "-shm"} {
			if err := os.Remove(filepath.Join(c.opts.Dir, db+".db"+suffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
		}
	}
	c.startMaster()
	if diff := cmp.Diff(heads, c.m.Store().Heads()); diff != "" {
		t.Error(diff)
	}
	c.untilInSync("s1")
}

// spoilMaster puts an older file of database a, with a row that nobody wrote, in the
// place of the master's.
func (c *cluster) spoilMaster() {
	c.t.Helper()
	file := filepath.Join(c.opts.Dir, "a.db")
	c.stopMaster()
	old, err := os.ReadFile(file)
	if err != nil {
		c.t.Fatal(err)
	}
	c.startMaster()
	c.untilInSync("s1")
	c.do("a", "INSERT INTO t VALUES (1)")
	c.do("a", "INSERT INTO t VALUES (2)")
	c.stopMaster()
	if err := os.WriteFile(file, old, 0o600); err != nil {
		c.t.Fatal(err)
	}
	conn, err := engine.Open(file, engine.Options{})
	if err != nil {
		c.t.Fatal(err)
	}
	if err := errors.Join(conn.Exec("INSERT INTO t VALUES (2)"), conn.Close()); err != nil {
		c.t.Fatal(err)
	}
	c.startMaster()
}

// A database of the master whose content is not what its log makes of it is made
// anew, from the log or from a snapshot and the log.
func TestMasterMakesADatabaseAnewThatDiverged(t *testing.T) {
	t.Parallel()
	for name, snapshot := range map[string]bool{"from the log": false, "from a snapshot": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, agent.MasterOptions{LogKeep: -1}, "s1")
			c.do("", "CREATE DATABASE a")
			c.do("a", "CREATE TABLE t (x INTEGER PRIMARY KEY)")
			if snapshot {
				if _, err := c.c.Snapshot(testContext(t), "a"); err != nil {
					t.Fatal(err)
				}
			}
			c.spoilMaster()
			if got := c.rows("a", "SELECT x FROM t"); got != "1; 2" {
				t.Errorf("rows %s", got)
			}
			c.do("a", "INSERT INTO t VALUES (3)")
			c.untilInSync("s1")
			c.same()
		})
	}
}

// One that cannot be made anew takes no writes and says why; the others are served,
// and it can be dropped.
func TestMasterServesTheOthersWhenOneDiverges(t *testing.T) {
	t.Parallel()
	c := newCluster(t, shortLog, "s1")
	for _, db := range []string{"a", "b"} {
		c.do("", "CREATE DATABASE "+db)
		c.do(db, "CREATE TABLE t (x INTEGER PRIMARY KEY)")
	}
	c.untilTrimmed(c.do("b", "INSERT INTO t VALUES (1)").Position)
	if err := os.RemoveAll(filepath.Join(c.opts.Dir, "snapshots")); err != nil {
		t.Fatal(err)
	}
	c.opts.LogKeep = -1
	c.spoilMaster()
	if why := c.m.Info(t.Context()).Stopped["a"]; !strings.Contains(why, "diverged at position") || !strings.Contains(why, "restore a.db") {
		t.Errorf("stopped: %q", why)
	}
	c.fails(subjects.CodeUnavailable, subjects.Request{DB: "a", SQL: "INSERT INTO t VALUES (3)"})
	if got := c.rows("a", "SELECT x FROM t"); got != "1; 2" {
		t.Errorf("rows %s", got)
	}
	c.do("b", "INSERT INTO t VALUES (3)")
	until(t, "the slave is there", func() bool { return len(c.node("s1").InSync) == 3 })
	c.do("", "DROP DATABASE a")
	c.do("", "CREATE DATABASE a")
	c.do("a", "CREATE TABLE t (x)")
}
