package engine_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snapdb/snapdb/exec/engine"
)

const thousandRows = "CREATE TABLE t (n INTEGER PRIMARY KEY, x); WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM r WHERE n<1000) INSERT INTO t SELECT n, hex(zeroblob(10000)) FROM r"

func count(t testing.TB, c *engine.Conn) int64 {
	t.Helper()
	rows, err := run(c, engine.GuardNone, "SELECT count(*) FROM t")
	if err != nil {
		t.Fatal(err)
	}
	return rows[0][0].Int()
}

func always(int, int) error { return nil }

func TestCopyIsTheStateThatTheReaderSees(t *testing.T) {
	dir := t.TempDir()
	w := openAt(t, filepath.Join(dir, "a.db"), engine.Options{})
	mustExec(t, w, thousandRows)
	r := openAt(t, filepath.Join(dir, "a.db"), engine.Options{ReadOnly: true})
	if err := r.BeginRead(); err != nil {
		t.Fatal(err)
	}
	dst := openAt(t, filepath.Join(dir, "b.db"), engine.Options{Scratch: true})
	steps, last, total := 0, 0, 0
	err := r.CopyTo(dst, func(done, of int) error {
		mustExec(t, w, "INSERT INTO t (x) VALUES (zeroblob(100000))") // the copying goes on, and does not begin again
		steps, last, total = steps+1, done, of
		return nil
	})
	if err != nil || steps < 3 || last != total {
		t.Fatalf("error %v, %d steps, %d of %d pages", err, steps, last, total)
	}
	if n := count(t, dst); n != 1000 {
		t.Fatalf("the copy has %d rows", n)
	}
	if found, err := dst.QuickCheck(); found != "" || err != nil {
		t.Fatalf("the copy: %s, %v", found, err)
	}
}

func TestCopyReplacesAllAtOnce(t *testing.T) {
	dir := t.TempDir()
	src := openAt(t, filepath.Join(dir, "a.db"), engine.Options{})
	mustExec(t, src, thousandRows)
	w := openAt(t, filepath.Join(dir, "b.db"), engine.Options{})
	mustExec(t, w, "CREATE TABLE t (other); CREATE TABLE u (x); INSERT INTO t VALUES (1)")
	r := openAt(t, filepath.Join(dir, "b.db"), engine.Options{ReadOnly: true})
	if err := r.BeginRead(); err != nil {
		t.Fatal(err)
	}

	enough := errors.New("enough")
	if err := src.CopyTo(w, func(int, int) error { return enough }); !errors.Is(err, enough) {
		t.Fatalf("error %v", err)
	}
	if n := count(t, w); n != 1 {
		t.Fatalf("after a copying that was given up there are %d rows", n)
	}
	if err := src.CopyTo(w, always); err != nil {
		t.Fatal(err)
	}
	if n := count(t, r); n != 1 {
		t.Fatalf("a reader that had begun sees %d rows", n)
	}
	if err := r.Rollback(); err != nil {
		t.Fatal(err)
	}
	if n := count(t, r); n != 1000 {
		t.Fatalf("then it sees %d rows", n)
	}
	mustExec(t, w, "INSERT INTO t (x) VALUES (1)")
	if n := count(t, r); n != 1001 {
		t.Fatalf("after a write it sees %d rows", n)
	}
}

func TestCopyWaitsForNoWriter(t *testing.T) {
	dir := t.TempDir()
	src := openAt(t, filepath.Join(dir, "a.db"), engine.Options{})
	mustExec(t, src, thousandRows)
	w := openAt(t, filepath.Join(dir, "b.db"), engine.Options{})
	mustExec(t, w, "CREATE TABLE t (x); BEGIN IMMEDIATE")
	if err := src.CopyTo(w, always); err == nil {
		t.Fatal("a copy went into an open transaction")
	}
	mustExec(t, w, "ROLLBACK")
	if n := count(t, w); n != 0 {
		t.Fatalf("there are %d rows", n)
	}
}

func TestQuickCheckFindsDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	w := openAt(t, path, engine.Options{})
	mustExec(t, w, thousandRows)
	if _, _, _, err := w.Checkpoint(true); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// The header of a page in the middle, of a table or of overflow.
	copy(data[len(data)/2/4096*4096:], strings.Repeat("\xff", 64))
	bad := path + ".bad"
	if err := os.WriteFile(bad, data, 0o600); err != nil {
		t.Fatal(err)
	}
	r := openAt(t, bad, engine.Options{Scratch: true})
	found, err := r.QuickCheck()
	if found == "" && err == nil {
		t.Fatal("nothing is found")
	}
}
