package exec_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/exec/engine"
	"github.com/snapdb/snapdb/subjects"
)

// copyOf copies a database of a node into a new file.
func copyOf(n *node, db string) (path string, at exec.Position) {
	n.t.Helper()
	path = filepath.Join(tempDir(n.t), "copy")
	at, err := n.database(db).Copy(context.Background(), path)
	if err != nil {
		n.t.Fatal(err)
	}
	return path, at
}

// seed makes a node what another was: its catalog, and its databases from copies, put
// in their place one way or the other.
func seed(from, to *node, install bool) {
	to.t.Helper()
	list, at, err := from.Catalog().List()
	if err == nil {
		err = to.ReplaceCatalog(list, at)
	}
	if err != nil {
		to.t.Fatal(err)
	}
	for _, d := range from.Databases() {
		path, at := copyOf(from, d.Name())
		if install {
			err = to.Install(to.database(d.Name()), path, at)
		} else {
			err = to.database(d.Name()).Replace(path, at, nil)
		}
		if err != nil {
			to.t.Fatal(err)
		}
		if left, err := filepath.Glob(path + "?*"); err != nil || len(left) > 0 {
			to.t.Fatalf("left beside the copy: %q, %v", left, err)
		}
	}
}

// A node that was made from copies goes on as one that has executed everything.
func TestCopiedNodeGoesOnLikeAnyOther(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		h := newHistory(t)
		master, slave, copied := newMaster(t, h), newSlave(t), newSlave(t)
		h.command(master, "CREATE DATABASE d")
		h.mustWrite(master, "d", playground...)
		draw := func() {
			for range rapid.IntRange(0, 5).Draw(t, "groups") {
				var reqs []request
				for range rapid.IntRange(1, 4).Draw(t, "requests") {
					reqs = append(reqs, drawRequest(t))
				}
				h.group(master, "d", reqs...)
			}
		}
		draw()
		seed(master, copied, rapid.Bool().Draw(t, "install"))
		h.replay(slave, 100)
		same(t, master, slave, copied)
		draw()
		h.replay(slave, rapid.IntRange(1, 5).Draw(t, "batch"))
		h.replay(copied, rapid.IntRange(1, 5).Draw(t, "batch"))
		same(t, master, slave, copied)
		copied.close()
		copied.reopen()
		same(t, master, copied)
	})
}

func TestReadersSeeTheOldContentUntilAllIsNew(t *testing.T) {
	t.Parallel()
	h, master, slave := cluster(t, "CREATE TABLE t (a)", "INSERT INTO t VALUES (1)")
	h.replay(slave, 10)
	h.mustWrite(master, "d", "INSERT INTO t VALUES (2)", "CREATE TABLE u AS SELECT hex(zeroblob(3000000)) AS x")
	s := slave.read("d")
	defer s.Close()
	path, at := copyOf(master, "d")
	steps := 0
	err := slave.database("d").Replace(path, at, func(done, total int) error {
		if steps++; done < total {
			if got := slave.query("d", "SELECT count(*) FROM t"); got != "1" {
				t.Errorf("while it is being replaced a read sees %s", got)
			}
		}
		return nil
	})
	if err != nil || steps < 2 {
		t.Fatalf("%d steps, %v", steps, err)
	}
	var out subjects.Results
	if _, err := s.ReadAll([]subjects.Stmt{{SQL: "SELECT count(*) FROM t"}}, &out, exec.PageBytes); err != nil || !strings.Contains(string(out.Bytes()), "[[1]]") {
		t.Errorf("a read that had begun sees %s, %v", out.Bytes(), err)
	}
	if got := slave.query("d", "SELECT count(*) FROM t"); got != "2" {
		t.Errorf("a new read sees %s", got)
	}
	same(t, master, slave)
}

// A write behind snapdb's back stops a copy; the replaced one takes changes again.
func TestReplacedCopyForgetsForeignWrites(t *testing.T) {
	t.Parallel()
	h, master, slave := cluster(t, "CREATE TABLE t (a)")
	h.replay(slave, 10)
	c, err := engine.Open(slave.file("d"), engine.Options{})
	if err == nil {
		err = errors.Join(c.Exec("INSERT INTO t VALUES ('not of the log')"), c.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	h.mustWrite(master, "d", "INSERT INTO t VALUES (1)")
	_, msgs := h.missing(slave, 10)
	if _, err := slave.database("d").Apply(context.Background(), msgs, exec.Source{}); !errors.Is(err, exec.ErrForeignWrite) {
		t.Fatalf("error %v, want ErrForeignWrite", err)
	}
	if err := slave.KeepAside(context.Background(), slave.database("d")); err != nil {
		t.Fatal(err)
	}
	path, at := copyOf(master, "d")
	if err := slave.database("d").Replace(path, at, nil); err != nil {
		t.Fatal(err)
	}
	h.mustWrite(master, "d", "INSERT INTO t VALUES (2)")
	h.replay(slave, 10)
	same(t, master, slave)
	if kept := slave.trash(); len(kept) != 1 {
		t.Fatalf("the trash has %q", kept)
	}
}

func TestBadCopiesAreRefused(t *testing.T) {
	t.Parallel()
	h, master, slave := cluster(t, "CREATE TABLE t (a)", "INSERT INTO t VALUES (1)")
	h.command(master, "CREATE DATABASE other")
	h.replay(slave, 10)
	h.mustWrite(master, "d", "INSERT INTO t VALUES (2)")
	good, at := copyOf(master, "d")
	foreign, foreignAt := copyOf(master, "other")
	before := slave.checksum("d")
	dir := tempDir(t)
	content := func(name, data string) string {
		path := filepath.Join(dir, name)
		write(t, path, data)
		return path
	}
	whole, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		path string
		at   exec.Position
	}{
		"of another database": {foreign, foreignAt},
		"of another position": {good, exec.Position{Number: at.Number - 1, Chain: at.Chain}},
		"of another history":  {good, exec.Position{Number: at.Number, Chain: subjects.FirstChain(7)}},
		"no database":         {content("text", "this is no database at all, it is only some text"), at},
		"empty":               {content("empty", ""), at},
		"cut short":           {content("short", string(whole[:len(whole)/2])), at},
		"not there":           {filepath.Join(dir, "nothing", "here"), at},
		"a folder":            {dir, at},
	} {
		if err := slave.database("d").Replace(c.path, c.at, nil); err == nil {
			t.Errorf("a copy that is %s is taken", name)
		} else if !errors.Is(err, exec.ErrBadCopy) && name != "cut short" {
			t.Errorf("a copy that is %s: %v, want ErrBadCopy", name, err)
		}
		if err := slave.Install(slave.database("d"), c.path, c.at); err == nil {
			t.Errorf("a copy that is %s is installed", name)
		}
		if after := slave.checksum("d"); after.Position != before.Position {
			t.Fatalf("a copy that is %s left position %v", name, after.Position)
		}
	}
	stop := errors.New("stop")
	if err := slave.database("d").Replace(good, at, func(int, int) error { return stop }); err != nil && !errors.Is(err, stop) {
		t.Errorf("error %v", err)
	}
	h.replay(slave, 10)
	same(t, master, slave)
}

func TestDamagedDatabaseIsNotCopied(t *testing.T) {
	t.Parallel()
	h, master, _ := cluster(t, "CREATE TABLE t (a)")
	for range 50 {
		h.mustWrite(master, "d", "INSERT INTO t VALUES (hex(randomblob(20000)))")
	}
	master.close()
	damageFile(t, master.file("d"), func(data []byte) []byte {
		copy(data[len(data)/2/4096*4096:], strings.Repeat("\xff", 200))
		return data
	})
	master.reopen()
	path := filepath.Join(tempDir(t), "copy")
	if _, err := master.database("d").Copy(context.Background(), path); !errors.Is(err, exec.ErrBadCopy) {
		t.Errorf("error %v, want ErrBadCopy", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something is left of it: %v", err)
	}
}

func TestCopyEndsWithItsContext(t *testing.T) {
	t.Parallel()
	_, master, _ := cluster(t, "CREATE TABLE t (a)")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	path := filepath.Join(tempDir(t), "copy")
	if _, err := master.database("d").Copy(ctx, path); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something is left of it: %v", err)
	}
}

func TestReplacedCatalogHasTheListedDatabasesOnly(t *testing.T) {
	t.Parallel()
	h := newHistory(t)
	master, slave := newMaster(t, h), newSlave(t)
	for _, name := range []string{"stays", "goes", "again"} {
		h.command(master, "CREATE DATABASE "+name)
		h.mustWrite(master, name, "CREATE TABLE t (a)")
	}
	h.replay(slave, 10)
	h.command(master, "DROP DATABASE goes")
	h.command(master, "DROP DATABASE again")
	h.command(master, "CREATE DATABASE Again")
	h.mustWrite(master, "Again", "CREATE TABLE u (b)")
	h.command(master, "CREATE DATABASE new")
	stays := slave.database("stays")
	seed(master, slave, false)
	same(t, master, slave)
	if slave.database("stays") != stays {
		t.Error("a database that is in both lists was opened anew")
	}
	if kept := slave.trash(); len(kept) != 2 {
		t.Errorf("the trash has %q", kept)
	}
	slave.close()
	slave.reopen()
	same(t, master, slave)

	bad := []subjects.CatalogEntry{{Name: "../x", Incarnation: 3}}
	if err := slave.ReplaceCatalog(bad, exec.Position{Number: 99}); err == nil {
		t.Error("a name that is none is taken")
	}
	same(t, master, slave)
}

func BenchmarkCopyReplace(b *testing.B) {
	h, master, slave := cluster(b, "CREATE TABLE t (a, b)")
	h.replay(slave, 10)
	for range 16 {
		h.mustWrite(master, "d", "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM r WHERE n<20000) INSERT INTO t SELECT n, hex(zeroblob(50)) FROM r")
	}
	dir := tempDir(b)
	var copying, replacing time.Duration
	size := int64(0)
	for i := 0; b.Loop(); i++ {
		start := time.Now()
		path := filepath.Join(dir, fmt.Sprint(i))
		at, err := master.database("d").Copy(context.Background(), path)
		if err != nil {
			b.Fatal(err)
		}
		copying += time.Since(start)
		start = time.Now()
		if err := slave.database("d").Replace(path, at, nil); err != nil {
			b.Fatal(err)
		}
		replacing += time.Since(start)
		info, err := os.Stat(path)
		if err != nil {
			b.Fatal(err)
		}
		size = info.Size()
		if err := os.Remove(path); err != nil {
			b.Fatal(err)
		}
	}
	mb := float64(size) / (1 << 20) * float64(b.N)
	b.ReportMetric(mb/copying.Seconds(), "copied-MB/s")
	b.ReportMetric(mb/replacing.Seconds(), "replaced-MB/s")
}
