//go:build linux

package cluster_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/snapdb/snapdb/agent/client"
	"github.com/snapdb/snapdb/agent/snapshot"
	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/exec/engine"
	"github.com/snapdb/snapdb/subjects"
)

var importSeed = flag.Uint64("import.seed", 0, "seed of the moments at which imports are cut off; 0 takes a new one")

// image is a file to import, packed, with that many rows.
type image struct {
	packed     *os.File
	size, file int64
	rows       int64
}

func newImage(t *testing.T, rows int64) image {
	t.Helper()
	dir := t.TempDir()
	c, err := engine.Open(filepath.Join(dir, "a.db"), engine.Options{Scratch: true})
	if err == nil {
		err = c.Exec(fmt.Sprintf("CREATE TABLE t (a INTEGER PRIMARY KEY, b BLOB); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < %d) INSERT INTO t SELECT i, randomblob(100) FROM n", rows))
	}
	im := image{rows: rows}
	for _, step := range []func() error{
		func() error { return c.Close() },
		func() error {
			return exec.Image(t.Context(), filepath.Join(dir, "a.db"), filepath.Join(dir, "image"), nil)
		},
		func() (err error) { im.packed, err = os.Create(filepath.Join(dir, "packed")); return err },
		func() (err error) {
			im.file, err = snapshot.Pack(t.Context(), im.packed, filepath.Join(dir, "image"))
			return err
		},
		func() (err error) { im.size, err = im.packed.Seek(0, 1); return err },
	} {
		if err == nil {
			err = step()
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { im.packed.Close() })
	return im
}

// into imports an image in the background; the error comes when that has ended.
func (im image) into(ctx context.Context, cl *client.Client, db string, stage func(subjects.ImportStage)) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, err := cl.Import(ctx, db, im.packed, im.size, im.file, nil, stage)
		done <- err
	}()
	return done
}

// Whoever is killed in the middle of an import: afterwards every node has all of the
// database, or none has any.
func TestKilledImportIsWholeOrAbsent(t *testing.T) {
	t.Parallel()
	seed := *importSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-import.seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 3))
	im := newImage(t, 20_000)
	c := startCluster(t, 2)
	cl := c.client()
	whole := 0
	const rounds = 5
	for round := range rounds {
		db := fmt.Sprintf("Import%d", round)
		victims := [][]*node{{c.master}, {c.slaves[0]}, {c.master}, c.nodes(), {c.master}}[round%5]
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		reached := make(chan subjects.ImportStage, 100)
		done := im.into(ctx, cl, db, func(s subjects.ImportStage) { reached <- s })
		for range rng.IntN(3) { // 0: while it is sent
			<-reached
		}
		<-time.After(time.Duration(rng.Int64N(int64(200 * time.Millisecond)))) // somewhere in the middle
		for _, n := range victims {
			n.Kill()
		}
		for _, n := range victims {
			n.Start()
		}
		err := <-done
		cancel()
		c.settle(cl)
		_, there := c.info(cl).Heads[db]
		if err == nil && !there {
			t.Errorf("round %d: the import ended well, but the database is not there", round)
		}
		if !there {
			t.Logf("round %d: %v", round, err)
			continue
		}
		whole++
		for _, id := range []string{"", "snap1", "snap2"} {
			if n := c.query(cl, id, db, "SELECT count(*) FROM t").Int(); n != im.rows {
				t.Errorf("round %d: %d rows on node %q, want %d (%v)", round, n, id, im.rows, err)
			}
		}
	}
	t.Logf("%d of %d imports ended well", whole, rounds)
	for _, n := range c.nodes() {
		for _, pattern := range []string{"*.image*", "files/*", "importing.json", "snapshots/imported*"} {
			left, err := filepath.Glob(filepath.Join(n.dir, pattern))
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range left {
				if !strings.Contains(pattern, "files") || n != c.master { // an upload whose client lost the master goes after an hour
					t.Errorf("left on %s: %s", n.Name, file)
				}
			}
		}
	}
	c.finish(cl)
}

// A slave without room for an import waits until it has some, and has all of it then;
// the others do not wait.
func TestImportOnASlaveWithAFullDisk(t *testing.T) {
	t.Parallel()
	im := newImage(t, 20_000)
	c := newCluster(t, 2)
	full := c.slaves[1]
	d := smallDisk(t, full, "48m")
	c.start()
	cl := c.client()
	c.exec(cl, "", "CREATE DATABASE A")
	c.settle(cl)
	d.fill(1 << 20)
	if err := <-im.into(t.Context(), cl, "B", nil); err != nil {
		t.Errorf("import: %v", err)
	}
	c.awaitState(cl, full.Name, subjects.StateStopped)
	if n := c.query(cl, "snap1", "B", "SELECT count(*) FROM t").Int(); n != im.rows {
		t.Errorf("%d rows on the slave that has room, want %d", n, im.rows)
	}
	c.exec(cl, "A", "CREATE TABLE t (a)")
	d.free()
	c.settle(cl) // by itself
	if n := c.query(cl, full.Name, "B", "SELECT count(*) FROM t").Int(); n != im.rows {
		t.Errorf("%d rows on the slave that had no room, want %d", n, im.rows)
	}
	c.finish(cl)
}
