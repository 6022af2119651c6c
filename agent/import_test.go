package agent_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/snapdb/snapdb/agent"
	"github.com/snapdb/snapdb/agent/snapshot"
	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/exec/engine"
	"github.com/snapdb/snapdb/subjects"
)

// foreign makes the packed image of a file with rows rows, as a client brings it.
func foreign(t testing.TB, rows string) (packed *os.File, size, file int64) {
	t.Helper()
	dir := t.TempDir()
	c, err := engine.Open(filepath.Join(dir, "a.db"), engine.Options{Trusted: true})
	if err == nil {
		err = c.Exec("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT); CREATE INDEX tb ON t(b); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < " + rows + ") INSERT INTO t SELECT i, hex(randomblob(20)) FROM n")
	}
	if err == nil {
		err = errors.Join(exec.Image(t.Context(), filepath.Join(dir, "a.db"), filepath.Join(dir, "image"), nil), c.Close())
	}
	if err == nil {
		packed, err = os.Create(filepath.Join(dir, "packed"))
	}
	if err == nil {
		file, err = snapshot.Pack(t.Context(), packed, filepath.Join(dir, "image"))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { packed.Close() })
	info, err := packed.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return packed, info.Size(), file
}

// left are the files that there may be only while an import runs. Blobs that the log
// names stay with it.
func (c *cluster) left() (left []string) {
	for _, pattern := range []string{"master/files/*", "master/blobs/*.*", "master/snapshots/imported*", "*/*.image*"} {
		files, err := filepath.Glob(filepath.Join(c.dir, pattern))
		if err != nil {
			c.t.Fatal(err)
		}
		left = append(left, files...)
	}
	return left
}

func TestImportedFileIsTheSameOnEveryNode(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{LogKeep: 1}, "snap1", "snap2", "away")
	c.stopSlave("away")
	var stages []subjects.ImportStage
	packed, size, file := foreign(t, "20000")
	resp, err := c.c.Import(testContext(t), "Shop", packed, size, file, nil, func(s subjects.ImportStage) { stages = append(stages, s) })
	if err != nil {
		t.Fatal(err)
	}
	// On a busy machine a slave may have left those that are waited for.
	if resp.DB != "Shop" || resp.Position == 0 || len(resp.Applied)+len(resp.Pending) != 3 || !slices.Contains(resp.Pending, "away") || stages[len(stages)-1] != subjects.ImportDone {
		t.Errorf("%+v after %v", resp, stages)
	}
	c.untilInSync("snap1", "snap2")
	if got := c.rows("Shop", "SELECT count(*), count(DISTINCT b) FROM t"); got != "20000 20000" {
		t.Errorf("%s rows", got)
	}
	c.same()
	if left := c.left(); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	// The same content twice is two databases, each with its own.
	packed, size, file = foreign(t, "2")
	for _, db := range []string{"b", "c"} {
		if _, err := c.c.Import(testContext(t), db, packed, size, file, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	c.do("Shop", "INSERT INTO t VALUES (-1, 'written after')")

	// A master that starts again, and slaves that were away or are new, have it too:
	// from the log, and from a snapshot once that is shortened.
	c.stopMaster()
	c.startMaster()
	c.startSlave("away")
	c.startSlave("new")
	c.untilInSync("snap1", "snap2", "away", "new")
	c.same()
	c.do("b", "DROP TABLE t")
	c.do("c", "INSERT INTO t VALUES (-1, 'written after')")
	c.untilTrimmed(resp.Position)
	if blobs, err := filepath.Glob(filepath.Join(c.dir, "master/blobs/*")); err != nil || len(blobs) > 2 {
		t.Errorf("blobs of the two later images: %q, %v", blobs, err)
	}
	c.startSlave("late")
	c.untilInSync("snap1", "snap2", "away", "new", "late")
	c.same()
}

func TestImportWhoseClientIsGoneLeavesNothing(t *testing.T) {
	t.Parallel()
	o := agent.MasterOptions{}
	o.Hasty(time.Millisecond)
	c := newCluster(t, o, "snap1")
	packed, size, file := foreign(t, "30000")
	digest, err := c.c.PutBlob(testContext(t), packed, size, nil)
	if err != nil {
		t.Fatal(err)
	}
	var resp subjects.ImportResponse
	ask(t, c.nats(), subjects.Import, subjects.ImportRequest{ID: "x", DB: "a", Digest: digest, Size: size, File: file}, &resp)
	if resp.Stage != subjects.ImportChecking {
		t.Errorf("%+v", resp)
	}
	until(t, "it is given up", func() bool { return !c.m.Importing() })
	if got := c.rows("", "SHOW DATABASES"); got != "" {
		t.Errorf("databases %q", got)
	}
	until(t, "nothing is left", func() bool { return len(c.left()) == 0 })
}

// Whoever gives up an import, or goes away, leaves nothing; nor does a refused one.
func TestImportThatEndsEarlyLeavesNothing(t *testing.T) {
	t.Parallel()
	full := make(chan uint64, 1)
	full <- 1 << 50
	c := newCluster(t, agent.MasterOptions{FreeBytes: func(string) (uint64, error) {
		n := <-full
		full <- n
		return n, nil
	}}, "snap1")
	gone := func(what string) {
		t.Helper()
		if got := c.rows("", "SHOW DATABASES"); got != "" {
			t.Errorf("%s: databases %q", what, got)
		}
		until(t, what+": nothing is left", func() bool { return len(c.left()) == 0 }) // slaves may still be at it
	}
	packed, size, file := foreign(t, "30000")
	ctx, cancel := context.WithCancel(testContext(t))
	if _, err := c.c.Import(ctx, "a", packed, size, file, func(done int64) {
		if done > 0 {
			cancel()
		}
	}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("given up while sending: %v", err)
	}
	gone("given up while sending")
	_, err := c.c.Import(testContext(t), "a", packed, size, file+1, nil, nil)
	if err == nil {
		t.Error("a file of another size was imported")
	}
	_, err = c.c.Import(testContext(t), "a", bytes.NewReader(make([]byte, 100)), 100, 100, nil, nil)
	if err == nil {
		t.Error("something that is not packed was imported")
	}
	_, err = c.c.Import(testContext(t), "temp", packed, size, file, nil, nil)
	wantCode(t, "import with a reserved name", nil, err, subjects.CodeBadRequest)
	gone("refused")
	for _, at := range []subjects.ImportStage{subjects.ImportChecking, subjects.ImportStoring} {
		ctx, cancel := context.WithCancelCause(testContext(t))
		why := errors.New("enough")
		_, err := c.c.Import(ctx, "a", packed, size, file, nil, func(s subjects.ImportStage) {
			if s == at {
				cancel(why)
			}
		})
		// What is quick may be over before it can be given up.
		if err != nil && !errors.Is(err, why) {
			t.Errorf("given up while %s: %v", at, err)
		}
		if strings.Contains(c.rows("", "SHOW DATABASES"), "a") {
			c.do("", "DROP DATABASE a")
		}
	}
	<-full
	full <- agent.DefaultDiskReserve + uint64(file)
	if _, err := c.c.Import(testContext(t), "a", packed, size, file, nil, nil); err == nil || !strings.Contains(err.Error(), "MB would be needed, reserve included") {
		t.Errorf("without room: %v", err)
	}
	<-full
	full <- 1 << 50
	if err := c.c.CheckImport(testContext(t), "a", file); err != nil {
		t.Errorf("with room: %v", err)
	}
	gone("without room")
	c.do("", "CREATE DATABASE a")
	_, err = c.c.Import(testContext(t), "A", packed, size, file, nil, nil)
	wantCode(t, "import over a database", nil, err, subjects.CodeExists)
	c.do("", "DROP DATABASE a")
	gone("over a database")
}
