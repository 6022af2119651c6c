package agent_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snapdb/snapdb/agent"
	"github.com/snapdb/snapdb/exec/engine"
	"github.com/snapdb/snapdb/subjects"
)

// shortLog makes a master keep next to nothing of its log.
var shortLog = agent.MasterOptions{LogKeep: 1}

// first is where the log begins.
func (c *cluster) first() uint64 {
	c.t.Helper()
	info, err := c.c.Info(testContext(c.t))
	if err != nil {
		c.t.Fatal(err)
	}
	return info.LogFirst
}

// untilTrimmed waits until the log begins after a position.
func (c *cluster) untilTrimmed(after uint64) {
	c.t.Helper()
	until(c.t, fmt.Sprint("the log begins after ", after), func() bool {
		c.m.RouseKeeper()
		return c.first() > after
	})
}

// fill makes a database with some history.
func (c *cluster) fill(db string, rows int) (last uint64) {
	c.t.Helper()
	c.do("", "CREATE DATABASE "+db)
	c.do(db, "CREATE TABLE t (n INTEGER PRIMARY KEY, x)")
	for range rows {
		last = c.do(db, "INSERT INTO t (x) VALUES (hex(randomblob(100)))").Position
	}
	return last
}

// A slave that is new, or was away longer than the log reaches, gets snapshots.
func TestSlaveThatTheLogCannotHelpGetsSnapshots(t *testing.T) {
	t.Parallel()
	c := newCluster(t, shortLog, "s1", "away")
	c.fill("a", 10)
	c.fill("gone", 3)
	c.fill("idle", 1)
	c.untilInSync("s1", "away")
	c.stopSlave("away")
	c.untilGone("away")
	c.do("", "DROP DATABASE gone")
	c.do("a", "DELETE FROM t WHERE n < 5")
	last := c.fill("b", 10)
	c.untilTrimmed(last - 1)

	c.startSlave("away")
	c.startSlave("new")
	c.untilInSync("s1", "away", "new")
	c.same()
	c.do("a", "INSERT INTO t (x) VALUES (random())")
	c.do("b", "CREATE INDEX i ON t (x)")
	c.same()

	// All of it again after a restart of the master.
	c.stopMaster()
	c.startMaster()
	c.startSlave("newer")
	c.untilInSync("s1", "away", "new", "newer")
}

// A master whose file is lost gets it back from its snapshot and the log.
func TestMasterRestoresALostFileFromItsSnapshot(t *testing.T) {
	t.Parallel()
	c := newCluster(t, shortLog, "s1")
	last := c.fill("a", 10)
	c.untilTrimmed(last - 1)
	c.do("a", "INSERT INTO t (x) VALUES ('after the snapshot')")
	c.stopMaster()
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(filepath.Join(c.opts.Dir, "a.db"+suffix)); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	c.startMaster()
	c.untilInSync("s1")
	if got := c.rows("a", "SELECT count(*), max(x) FROM t"); got != `11 "after the snapshot"` {
		t.Errorf("the master has %s", got)
	}
}

// The log does not lose what a connected slave has yet to read.
func TestLogWaitsForConnectedSlaves(t *testing.T) {
	t.Parallel()
	c := newCluster(t, shortLog, "s1")
	c.fill("a", 3)
	slow := c.session("a")
	slow.do("BEGIN")
	slow.do("INSERT INTO t (x) VALUES (1)")
	slow.do("COMMIT")
	c.untilTrimmed(1)
	c.untilInSync("s1")
}

// What is not in the log any more takes its blobs with it.
func TestTrimmedLogDropsItsBlobs(t *testing.T) {
	t.Parallel()
	c := newCluster(t, shortLog, "s1")
	c.fill("a", 1)
	last := c.do("a", "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM r WHERE n<3) INSERT INTO t (x) SELECT ? FROM r", subjects.TextValue(strings.Repeat("x", 3<<20))).Position
	blobs := func() int {
		t.Helper()
		files, err := os.ReadDir(filepath.Join(c.opts.Dir, "blobs"))
		if err != nil {
			t.Fatal(err)
		}
		return len(files)
	}
	if blobs() != 1 {
		t.Fatalf("%d files of large transactions", blobs())
	}
	c.untilTrimmed(last)
	if blobs() != 0 {
		t.Errorf("%d files of large transactions are left", blobs())
	}
	c.startSlave("new")
	c.untilInSync("s1", "new")
}

// A copy that was changed by another program is replaced by itself; the changed one
// is kept aside.
func TestDivergedCopyHealsByItself(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]string{
		"a changed row":    "UPDATE t SET x = 'not of the log' WHERE n = 2",
		"a missing row":    "DELETE FROM t WHERE n = 2",
		"an extra trigger": "CREATE TRIGGER tr AFTER INSERT ON t BEGIN DELETE FROM t WHERE n = 1; END",
		"a missing table":  "DROP TABLE t",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, agent.MasterOptions{}, "s1", "s2", "s3")
			c.fill("a", 3)
			c.fill("b", 1)
			c.untilInSync("s1", "s2", "s3")
			f, err := engine.Open(filepath.Join(c.dir, "s2", "a.db"), engine.Options{})
			if err == nil {
				err = f.Exec(harm)
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			if resp := c.do("a", "INSERT INTO t (x) VALUES ('next')"); len(resp.Applied) < 2 {
				t.Errorf("applied by %v", resp.Applied)
			}
			c.untilInSync("s1", "s2", "s3")
			c.same()
			kept, err := filepath.Glob(filepath.Join(c.dir, "s2", "trash", "*-a.db"))
			if err != nil || len(kept) != 1 {
				t.Errorf("kept aside: %q, %v", kept, err)
			}
		})
	}
}

// What is in the way of a page is found by whoever reads or changes it.
func TestDamagedCopyIsMadeAnew(t *testing.T) {
	t.Parallel()
	for name, find := range map[string]func(c *cluster){
		"by a read": func(c *cluster) {
			read := func() bool {
				_, err := c.c.QueryNode(testContext(t), "s2", &subjects.Request{DB: "a", SQL: "SELECT count(x) FROM t"})
				return err == nil
			}
			if read() {
				t.Error("a damaged table was read")
			}
			until(t, "the copy can be read", read)
		},
		"by a write": func(c *cluster) { c.do("a", "UPDATE t SET x = 'changed'") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, agent.MasterOptions{}, "s1", "s2")
			c.fill("a", 3)
			c.do("a", "INSERT INTO t (x) SELECT hex(randomblob(500)) FROM json_each('["+strings.Repeat("1,", 100)+"1]')")
			c.untilInSync("s1", "s2")
			c.stopSlave("s2")
			path := filepath.Join(c.dir, "s2", "a.db")
			data, err := os.ReadFile(path)
			if err == nil {
				for page := 8 * 4096; page < len(data); page += 4096 {
					copy(data[page:], "no page of a database")
				}
				err = os.WriteFile(path, data, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			c.startSlave("s2")
			find(c)
			c.untilInSync("s1", "s2")
			c.same()
		})
	}
}

// When most slaves find that the log does not fit their content, the master's may be
// the wrong one: it is not spread.
func TestMasterThatIsWrongIsNotSpread(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{}, "s1", "s2", "s3")
	c.fill("a", 3)
	c.untilInSync("s1", "s2", "s3")
	c.stopMaster()
	f, err := engine.Open(filepath.Join(c.opts.Dir, "a.db"), engine.Options{})
	if err == nil {
		err = f.Exec("DELETE FROM t WHERE n = 2")
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	c.startMaster()
	c.untilInSync("s1", "s2", "s3")
	if _, err := c.try(subjects.Request{DB: "a", SQL: "UPDATE t SET x = 'changed'", Ack: subjects.Ack{Kind: subjects.AckLog}}); err != nil {
		t.Fatal(err)
	}
	until(t, "most slaves say that they have diverged", func() bool {
		n := 0
		for _, id := range []string{"s1", "s2", "s3"} {
			if st := c.node(id); st.State == subjects.StateDiverged {
				n++
			}
		}
		return n >= 2
	})
	still := 0
	for id := range c.slaves {
		resp, err := c.c.QueryNode(testContext(t), id, &subjects.Request{DB: "a", SQL: "SELECT count(*) FROM t WHERE n = 2"})
		if err != nil {
			t.Fatal(err)
		}
		if show(resp.Results) == "1" {
			still++
		}
	}
	if still < 2 {
		t.Errorf("the row that the master has lost is on %d slaves only", still)
	}
	c.do("", "DROP DATABASE a") // so that the nodes can be compared in the end
}

func TestSnapshotOnRequest(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{}, "s1")
	last := c.fill("a", 1)
	snap, err := c.c.Snapshot(testContext(t), "A")
	if err != nil || snap.Position != last || snap.Size == 0 {
		t.Fatalf("%+v, %v; want position %d", snap, err, last)
	}
	if _, err := c.c.Snapshot(testContext(t), "nothing"); err == nil {
		t.Error("a database that does not exist has a snapshot")
	}
}

// A snapshot that was damaged on the master's disk is found out by who gets it, and
// another is taken.
func TestDamagedSnapshotIsTakenAnew(t *testing.T) {
	t.Parallel()
	c := newCluster(t, shortLog, "s1")
	last := c.fill("a", 5)
	c.untilTrimmed(last - 1)
	snap, err := c.c.Snapshot(testContext(t), "a")
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(c.opts.Dir, "snapshots", snap.Digest), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{0xff, 0xff}, snap.Size/2); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	c.startSlave("new")
	c.untilInSync("s1", "new")
	if left, err := os.ReadDir(filepath.Join(c.dir, "new", "incoming")); !os.IsNotExist(err) {
		t.Errorf("left: %v, %v", left, err)
	}
}

// A slave that waits for a large transaction whose content went with the log gets a
// snapshot.
func TestSlaveWhoseLargeTransactionIsGoneGetsASnapshot(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{MaxLogBytes: 4 << 20, LogKeep: -1}, "s1", "away")
	c.fill("a", 1)
	c.untilInSync("s1", "away")
	c.stopSlave("away")
	c.untilGone("away")
	last := c.do("a", "INSERT INTO t (x) VALUES (?)", subjects.TextValue(strings.Repeat("x", 3<<20+1<<19))).Position
	blobs, err := filepath.Glob(filepath.Join(c.opts.Dir, "blobs", "*"))
	if err != nil || len(blobs) != 1 {
		t.Fatalf("%q, %v", blobs, err)
	}
	// Where it is now nobody finds it, but it counts for the length of the log.
	if err := os.Rename(blobs[0], blobs[0]+".aside"); err != nil {
		t.Fatal(err)
	}
	c.startSlave("away")
	until(t, "it cannot go on", func() bool { return c.node("away").State == subjects.StateStopped })
	c.stopMaster()
	c.opts.LogKeep = 1
	c.startMaster()
	c.untilTrimmed(last)
	c.untilInSync("s1", "away")
}
