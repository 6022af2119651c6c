package engine_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	lib "modernc.org/sqlite/lib"

	"github.com/snapdb/snapdb/exec/engine"
)

const endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n) SELECT count(*) FROM n"

func interrupted(err, cause error) bool {
	var e *engine.Error
	return errors.As(err, &e) && e.Primary() == lib.SQLITE_INTERRUPT && e.Environmental() && errors.Is(err, cause)
}

func TestDeadline(t *testing.T) {
	c := open(t)
	mustExec(t, c, "CREATE TABLE t (a)")
	for _, sql := range []string{endless, "INSERT INTO t " + endless} {
		start := time.Now()
		c.SetDeadline(start.Add(20 * time.Millisecond))
		_, err := run(c, engine.GuardWrite, sql)
		if took := time.Since(start); !interrupted(err, context.DeadlineExceeded) || took > 2*time.Second {
			t.Errorf("%s: %v after %v", sql, err, took)
		}
	}
	// It holds until the next request, even for statements that look short.
	if _, err := run(c, engine.GuardRead, endless); !interrupted(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	c.BeginRequest()
	mustRun(t, c, engine.GuardRead, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<100000) SELECT count(*) FROM n")
	c.SetDeadline(time.Now().Add(-time.Hour))
	c.SetDeadline(time.Time{})
	mustRun(t, c, engine.GuardRead, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<100000) SELECT count(*) FROM n")
}

func TestInterrupt(t *testing.T) {
	c := open(t)
	mustExec(t, c, "CREATE TABLE t (a); INSERT INTO t VALUES (1)")
	var wg sync.WaitGroup
	// A statement that is running: interrupted once its first row is out.
	st, _, err := c.Prepare("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n) SELECT i FROM n WHERE i=1 OR i<0", 0, engine.GuardRead)
	if err != nil {
		t.Fatal(err)
	}
	if row, err := st.Step(); !row {
		t.Fatal(err)
	}
	wg.Go(c.Interrupt)
	if _, err := st.Step(); !interrupted(err, context.Canceled) {
		t.Errorf("running: %v", err)
	}
	st.Close()
	wg.Wait()
	// One that begins later, until the request is over.
	if _, err := run(c, engine.GuardRead, endless); !interrupted(err, context.Canceled) {
		t.Errorf("later: %v", err)
	}
	c.BeginRequest()
	mustRun(t, c, engine.GuardRead, "SELECT count(*) FROM t")
}

// An interrupted read leaves the transaction alone, an interrupted write ends it.
func TestInterruptedTransaction(t *testing.T) {
	c := open(t)
	mustExec(t, c, "CREATE TABLE t (a)")
	for sql, lost := range map[string]bool{endless: false, "INSERT INTO t " + endless: true} {
		c.BeginRequest()
		if err := c.Begin(); err != nil {
			t.Fatal(err)
		}
		mustRun(t, c, engine.GuardWrite, "INSERT INTO t VALUES (1)")
		if err := c.Savepoint(); err != nil {
			t.Fatal(err)
		}
		c.Interrupt()
		if _, err := run(c, engine.GuardWrite, sql); !interrupted(err, context.Canceled) {
			t.Errorf("%s: %v", sql, err)
		}
		if c.Autocommit() != lost {
			t.Errorf("%s: the transaction is lost: %v, want %v", sql, c.Autocommit(), lost)
		}
		if !lost {
			// Undoing works while the interrupt is still on.
			if err := errors.Join(c.RollbackTo(), c.Rollback()); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestInterruptAndClose(t *testing.T) {
	c, err := engine.Open(filepath.Join(t.TempDir(), "test.db"), engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	st, _, err := c.Prepare("SELECT 1 UNION SELECT 2", 0, engine.GuardNone)
	if err != nil {
		t.Fatal(err)
	}
	mustExec(t, c, "CREATE VIRTUAL TABLE f USING fts5(x); BEGIN; INSERT INTO f VALUES ('y')")
	if _, err := st.Step(); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 1000 {
				c.Interrupt()
			}
		})
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	st.Close()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func TestStatementLimits(t *testing.T) {
	c := open(t)
	for name, sql := range map[string]string{
		"parentheses": "SELECT " + strings.Repeat("(", 5000) + "1" + strings.Repeat(")", 5000),
		"operators":   "SELECT 1" + strings.Repeat("+1", 100_000),
		"text":        "SELECT '" + strings.Repeat("x", 66<<20) + "'",
	} {
		var e *engine.Error
		if _, err := run(c, engine.GuardRead, sql); !errors.As(err, &e) || e.Environmental() {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReader(t *testing.T) {
	path := filepath.Join(t.TempDir(), "test.db")
	if _, err := engine.Open(path, engine.Options{ReadOnly: true}); err == nil {
		t.Error("a reader made the file")
	}
	w := openAt(t, path, engine.Options{})
	mustExec(t, w, "CREATE TABLE t (a); INSERT INTO t VALUES (1)")
	r := openAt(t, path, engine.Options{ReadOnly: true})
	var e *engine.Error
	for _, sql := range []string{"INSERT INTO t VALUES (2)", "CREATE TABLE u (a)", "PRAGMA user_version=5"} {
		if err := r.Exec(sql); !errors.As(err, &e) || !e.ReadOnly() {
			t.Errorf("%s: %v", sql, err)
		}
	}
	// A snapshot stays what it was at BeginRead, also when nothing was read in it.
	if err := r.BeginRead(); err != nil {
		t.Fatal(err)
	}
	mustExec(t, w, "INSERT INTO t VALUES (2)")
	if got := text(t, r, "SELECT count(*) FROM t"); got != "1" {
		t.Errorf("a row written after BeginRead is seen: %s", got)
	}
	if err := r.Rollback(); err != nil {
		t.Fatal(err)
	}
	if got := text(t, r, "SELECT count(*) FROM t"); got != "2" {
		t.Errorf("%s rows", got)
	}
	r.SetClock(1)
	if got := text(t, r, "unixepoch() > 1750000000"); got != "1" {
		t.Error("a reader has no real time")
	}
}

func TestCheckpoint(t *testing.T) {
	path := filepath.Join(t.TempDir(), "test.db")
	w := openAt(t, path, engine.Options{})
	mustExec(t, w, "CREATE TABLE t (a); INSERT INTO t VALUES (1)")
	if busy, pages, done, err := w.Checkpoint(false); busy || pages == 0 || done != pages || err != nil {
		t.Errorf("passive: busy %v, %d of %d pages: %v", busy, done, pages, err)
	}
	r := openAt(t, path, engine.Options{ReadOnly: true})
	mustExec(t, w, "INSERT INTO t VALUES (2)")
	if err := r.BeginRead(); err != nil {
		t.Fatal(err)
	}
	mustExec(t, w, "INSERT INTO t VALUES (3)")
	start := time.Now()
	busy, pages, done, err := w.Checkpoint(true)
	if !busy || done >= pages || err != nil || time.Since(start) > time.Second {
		t.Errorf("with a reader: busy %v, %d of %d pages after %v: %v", busy, done, pages, time.Since(start), err)
	}
	if err := r.Rollback(); err != nil {
		t.Fatal(err)
	}
	if busy, pages, done, err := w.Checkpoint(true); busy || pages != 0 || done != 0 || err != nil {
		t.Errorf("truncate: busy %v, %d of %d pages: %v", busy, done, pages, err)
	}
	if err := w.Begin(); err != nil {
		t.Fatal(err)
	}
	mustExec(t, w, "INSERT INTO t VALUES (4)")
	if err := w.CacheFlush(); err != nil {
		t.Error(err)
	}
	if err := w.Rollback(); err != nil {
		t.Error(err)
	}
}

func TestDataVersion(t *testing.T) {
	path := filepath.Join(t.TempDir(), "test.db")
	a, b := openAt(t, path, engine.Options{}), openAt(t, path, engine.Options{})
	version := func() uint32 {
		v, err := a.DataVersion()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	v := version()
	mustExec(t, a, "CREATE TABLE t (a)")
	if version() != v {
		t.Error("changed by a commit of its own")
	}
	mustExec(t, b, "INSERT INTO t VALUES (1)")
	if version() == v {
		t.Error("not changed by another's commit")
	}
}
