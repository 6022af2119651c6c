package agent_test

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/snapdb/snapdb/agent"
	"github.com/snapdb/snapdb/exec/engine"
	"github.com/snapdb/snapdb/subjects"
)

// behindTheBack changes the file of a node that may be running, as another program
// would.
func (c *cluster) behindTheBack(dir, sql string) {
	c.t.Helper()
	f, err := engine.Open(filepath.Join(dir, "a.db"), engine.Options{})
	if err == nil {
		err = f.Exec(sql)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) verify(deep bool) *subjects.Verification {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 40*time.Second)
	defer cancel()
	v, err := c.c.Verify(ctx, "a", deep)
	if err != nil {
		c.t.Fatal(err)
	}
	return v
}

// states are what a comparison found, by node.
func states(v *subjects.Verification) map[string]subjects.VerifyState {
	all := map[string]subjects.VerifyState{}
	for id, n := range v.Nodes {
		all[id] = n.State
	}
	return all
}

const verifySchema = `CREATE TABLE u (k TEXT PRIMARY KEY, v BLOB) WITHOUT ROWID; CREATE INDEX i ON t (x); CREATE VIEW w AS SELECT n FROM t;
	CREATE TRIGGER tr AFTER DELETE ON t BEGIN DELETE FROM u WHERE k = old.n; END; INSERT INTO u VALUES ('one', x'00')`

func TestComparisonFindsWhatIsDifferentAndHealsIt(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]struct {
		sql   string
		table string
		deep  bool
	}{
		"a flipped bit":     {"UPDATE u SET v = x'01'", "u", false},
		"another type":      {"UPDATE u SET v = 0", "u", false},
		"a missing row":     {"DELETE FROM u", "u", false},
		"an extra index":    {"CREATE INDEX extra ON t (n)", "(schema)", false},
		"a changed trigger": {"DROP TRIGGER tr; CREATE TRIGGER tr AFTER DELETE ON t BEGIN DELETE FROM u; END", "(schema)", false},
		"a changed version": {"PRAGMA user_version = 7", "(schema)", false},
		"a wrong index":     {"", "", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, agent.MasterOptions{VerifyEvery: -1}, "s1", "s2", "s3")
			c.fill("a", 3)
			c.do("a", verifySchema)
			c.untilInSync("s1", "s2", "s3")
			if v := c.verify(true); !v.Proven || len(v.Nodes) != 4 || v.Rows != 4 {
				t.Errorf("equal copies: %+v", v)
			}
			c.stopSlave("s2") // or it would say itself that somebody has written to its file
			if harm.sql != "" {
				c.behindTheBack(filepath.Join(c.dir, "s2"), harm.sql)
			} else {
				flipInIndex(t, filepath.Join(c.dir, "s2", "a.db"))
			}
			c.startSlave("s2")
			c.untilInSync("s1", "s2", "s3")
			v := c.verify(harm.deep)
			if s := states(v); v.Proven || s["s2"] != subjects.VerifyDifferent || s["s1"] != subjects.VerifyEqual || s["s3"] != subjects.VerifyEqual || s["master"] != subjects.VerifyEqual {
				t.Fatalf("after the harm: %+v", v)
			}
			if n := v.Nodes["s2"]; harm.table != "" && !slices.Contains(n.Tables, harm.table) {
				t.Errorf("said to differ: %q, want %q", n.Tables, harm.table)
			}
			until(t, "the copy is healed and equal", func() bool { return c.verify(true).Proven })
			c.same()
		})
	}
}

// What another program writes to a file while its slave runs and nobody writes SQL is
// found too, also by the comparisons that nobody asks for.
func TestChangeUnderARunningSlaveIsFoundAndHealed(t *testing.T) {
	t.Parallel()
	for name, every := range map[string]time.Duration{"asked": -1, "by itself": 100 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, agent.MasterOptions{VerifyEvery: every}, "s1", "s2")
			c.fill("a", 3)
			c.untilInSync("s1", "s2")
			c.behindTheBack(filepath.Join(c.dir, "s2"), "DELETE FROM t")
			if every < 0 {
				if s := states(c.verify(false)); s["s2"] != subjects.VerifyDifferent || s["s1"] != subjects.VerifyEqual || s["master"] != subjects.VerifyEqual {
					t.Errorf("after the harm: %v", s)
				}
			}
			until(t, "the copy is healed", func() bool {
				aside, err := filepath.Glob(filepath.Join(c.dir, "s2", "trash", "*-a.db"))
				return err == nil && len(aside) > 0
			})
			until(t, "all copies are equal", func() bool { return c.verify(false).Proven })
			c.same()
		})
	}
}

// flipInIndex changes a bit in the first leaf of an index that has a text of 200
// digits in it: the tables stay as they are.
func flipInIndex(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for page := 4096; page < len(data); page += 4096 {
		digits := regexp.MustCompile("[0-9A-F]{200}").FindIndex(data[page : page+4096])
		if data[page] != 0x0a || digits == nil {
			continue
		}
		data[page+digits[0]+150] ^= 1
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatal("no leaf of an index found")
}

// Copies are compared by themselves, while they are being written to.
func TestCopiesAreComparedByThemselves(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{VerifyEvery: 50 * time.Millisecond}, "s1", "s2")
	c.fill("a", 3)
	c.do("a", verifySchema)
	var last uint64
	until(t, "it was proven three times at new positions", func() bool {
		at := c.do("a", "INSERT INTO t (x) VALUES (1)").Position
		v := c.m.Info(t.Context()).Verified["a"]
		if v.Proven && v.Position > last {
			last = v.Position
			return at > 12
		}
		return false
	})
	c.stopSlave("s2")
	c.behindTheBack(filepath.Join(c.dir, "s2"), "UPDATE u SET v = x'01'")
	c.startSlave("s2")
	until(t, "the copy is healed by itself", func() bool {
		got, err := c.c.QueryNode(testContext(t), "s2", &subjects.Request{DB: "a", SQL: "SELECT v FROM u"})
		return err == nil && len(got.Results[0].Rows) == 1 && len(got.Results[0].Rows[0][0].Bytes()) == 1 && got.Results[0].Rows[0][0].Bytes()[0] == 0
	})
	c.compareNoMore()
}

// compareNoMore ends comparisons that come by themselves, which would move the position
// while nodes are looked at one after the other.
func (c *cluster) compareNoMore() {
	c.t.Helper()
	c.stopMaster()
	c.opts.VerifyEvery = -1
	c.startMaster()
	c.untilInSync("s1", "s2")
}

// When most nodes hold the same and the master does not, it says so and takes no writes.
func TestComparisonFindsThatTheMasterIsWrong(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{VerifyEvery: -1}, "s1", "s2", "s3")
	c.fill("a", 3)
	c.untilInSync("s1", "s2", "s3")
	c.stopMaster()
	c.behindTheBack(c.opts.Dir, "DELETE FROM t WHERE n = 2")
	c.startMaster()
	c.untilInSync("s1", "s2", "s3")
	v := c.verify(false)
	if s := states(v); v.Proven || s["master"] != subjects.VerifyDifferent || s["s1"] != subjects.VerifyUnknown {
		t.Errorf("%+v", v)
	}
	c.fails(subjects.CodeUnavailable, subjects.Request{DB: "a", SQL: "INSERT INTO t (x) VALUES (9)"})
	for id := range c.slaves {
		resp, err := c.c.QueryNode(testContext(t), id, &subjects.Request{DB: "a", SQL: "SELECT count(*) FROM t"})
		if err != nil || show(resp.Results) != "3" {
			t.Errorf("%s: %v %v", id, resp, err)
		}
	}
	c.do("", "DROP DATABASE a") // the copies will never be equal
}

// Databases that are due at the same moment are compared one after the other.
func TestManyDatabasesAreCompared(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{VerifyEvery: 50 * time.Millisecond}, "s1", "s2")
	names := []string{"a", "b", "d", "e"}
	for _, db := range names {
		c.fill(db, 1)
	}
	c.untilInSync("s1", "s2")
	until(t, "all are proven", func() bool {
		all := c.m.Info(t.Context()).Verified
		for _, v := range all {
			if v.Nodes["master"].State != subjects.VerifyEqual {
				t.Errorf("%+v", v)
			}
		}
		return !slices.ContainsFunc(names, func(db string) bool { return !all[db].Proven })
	})
	c.compareNoMore()
}

// A database in which nothing happens but comparisons does not keep the log long.
func TestComparisonsDoNotHoldTheLogBack(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{LogKeep: 1, VerifyEvery: -1}, "s1")
	c.untilTrimmed(c.fill("a", 1) - 1)
	c.verify(false)
	c.untilTrimmed(c.fill("b", 5) - 1)
	c.startSlave("new")
	c.untilInSync("s1", "new")
}

// A database that was only compared since its snapshot does not get another, also if it
// was compared before that.
func TestComparisonsMakeNoSnapshotsDue(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{SnapshotEvery: time.Nanosecond, VerifyEvery: -1}, "s1")
	c.fill("a", 1)
	snapshots := func() map[string]subjects.Snapshot { return c.m.Info(t.Context()).Snapshots }
	untilTaken := func(db string, position uint64) {
		t.Helper()
		until(t, "there is a snapshot of "+db, func() bool {
			c.m.RouseKeeper()
			return snapshots()[db].Position >= position
		})
	}
	first := c.verify(false).Position
	if _, err := c.c.Snapshot(testContext(t), "a"); err != nil {
		t.Fatal(err)
	}
	c.verify(false)
	untilTaken("b", c.fill("b", 1)) // and a had its turn before it
	if at := snapshots()["a"].Position; at != first {
		t.Errorf("the snapshot is of %d, want %d", at, first)
	}
	// What is written does.
	untilTaken("a", c.do("a", "INSERT INTO t (x) VALUES (1)").Position)
}

// A comparison is nobody for whom an open transaction has to make room.
func TestComparisonDoesNotHurryTransactions(t *testing.T) {
	t.Parallel()
	o := agent.MasterOptions{VerifyEvery: -1}
	o.Impatient(time.Second, 200*time.Millisecond, time.Hour, time.Second)
	c := newCluster(t, o, "s1")
	c.fill("a", 1)
	s := c.session("a")
	s.do("BEGIN IMMEDIATE")
	compared := make(chan error, 1)
	go func() {
		_, err := c.c.Verify(t.Context(), "a", false)
		compared <- err
	}()
	until(t, "the comparison waits", func() bool { return c.m.Waiting("a") == 1 })
	until(t, "the transaction is given up", func() bool { return c.m.Waiting("a") == 0 })
	if msg := s.fails(subjects.CodeTransaction, "INSERT INTO t (x) VALUES (1)"); !strings.Contains(msg, "did nothing for 1s") {
		t.Errorf("message %q", msg)
	}
	if err := <-compared; err != nil {
		t.Error(err)
	}
}

// Who asks for a comparison behind an open transaction waits no longer than he said.
func TestComparisonIsNotWaitedForTooLong(t *testing.T) {
	t.Parallel()
	o := agent.MasterOptions{VerifyEvery: -1}
	o.Impatient(time.Hour, time.Hour, time.Hour, time.Second)
	c := newCluster(t, o, "s1")
	c.fill("a", 1)
	s := c.session("a")
	s.do("BEGIN IMMEDIATE")
	ctx, cancel := context.WithTimeout(testContext(t), 500*time.Millisecond)
	defer cancel()
	if _, err := c.c.Verify(ctx, "a", false); err == nil {
		t.Error("it was compared in spite of an open transaction")
	}
	s.do("ROLLBACK")
	before := c.do("a", "INSERT INTO t (x) VALUES (1)").Position
	if v := c.verify(false); v.Position != before+1 {
		t.Errorf("compared at %d after a write at %d: what nobody waits for is logged", v.Position, before)
	}
}

// Writes go on while a comparison cannot get hold of a read connection, which it says.
func TestComparisonDoesNotWaitForReaders(t *testing.T) {
	t.Parallel()
	o := agent.MasterOptions{VerifyEvery: -1}
	o.Impatient(time.Hour, time.Hour, time.Hour, time.Second)
	c := newCluster(t, o, "s1")
	c.fill("a", 1)
	reading := make([]session, 16)
	for i := range reading {
		reading[i] = c.session("a")
		reading[i].do("BEGIN")
		reading[i].do("SELECT count(*) FROM t")
	}
	if v := c.verify(false); v.Proven || v.Nodes["master"].State != subjects.VerifyUnknown {
		t.Errorf("%+v", v)
	}
	c.do("a", "INSERT INTO t (x) VALUES (1)")
	for _, s := range reading {
		s.do("ROLLBACK")
	}
	if v := c.verify(false); !v.Proven {
		t.Errorf("%+v", v)
	}
}
