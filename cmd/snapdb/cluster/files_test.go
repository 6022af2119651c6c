//go:build linux

package cluster_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/snapdb/snapdb/subjects"
)

// consistent is true of every state that the load can leave: what was written is
// what was counted. It also makes SQLite look at every page.
const consistent = `SELECT (SELECT count(*) FROM ops), (SELECT sum(n) FROM counters), (SELECT group_concat(integrity_check) FROM pragma_integrity_check)`

// A slave's files are plain SQLite files: other programs open them and see sound,
// whole and ever newer content while snapdb writes, and do no harm.
func TestOtherProgramsReadASlavesFileUnderLoad(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	cl := c.client()
	l := c.startLoad(cl, "A", 4)
	path := filepath.Join(c.slaves[0].dir, "A.db")
	readers := map[string]func() (int, error){"Go": func() (int, error) { return readWithGo(t, path) }}
	if tool, err := osexec.LookPath("sqlite3"); err == nil {
		readers["sqlite3 -readonly"] = func() (int, error) { return readWithTool(t, tool, "-readonly", path) }
		readers["sqlite3"] = func() (int, error) { return readWithTool(t, tool, path) }
	}
	last := 0
	for range 8 {
		l.awaitAcked(10)
		before := int(l.acked.Load())
		for name, read := range readers {
			rows, err := read()
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			// Every write adds a row at least; insync says that the slave had it.
			if rows < before || rows < last {
				t.Errorf("%s sees %d rows after %d acknowledged writes and %d rows before", name, rows, before, last)
			}
			last = rows
		}
	}
	// Opened and closed behind the slave's back, which is killed then.
	c.slaves[0].Kill()
	for name, read := range readers {
		if _, err := read(); err != nil {
			t.Fatalf("%s, without the slave: %v", name, err)
		}
	}
	c.start()
	l.awaitAcked(20)
	l.stop()
	c.settle(cl)
	l.verify(cl, "snap1")
	c.finish(cl)
}

// readWithGo reads a file as another program does, opening it anew, and returns
// its number of rows.
func readWithGo(t *testing.T, path string) (int, error) {
	db := openReadOnly(t, path)
	defer db.Close()
	var rows, counted int
	var check string
	if err := db.QueryRowContext(t.Context(), consistent).Scan(&rows, &counted, &check); err != nil {
		return 0, err
	}
	return sound(strconv.Itoa(rows), strconv.Itoa(counted), check)
}

func readWithTool(t *testing.T, tool string, args ...string) (int, error) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := osexec.CommandContext(ctx, tool, append(append([]string{"-batch", "-cmd", ".timeout 10000"}, args...), consistent)...)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("%w: %s", err, out)
	}
	return sound(strings.Split(strings.TrimSpace(string(out)), "|")...)
}

func sound(columns ...string) (int, error) {
	if len(columns) != 3 || columns[0] != columns[1] || columns[2] != "ok" {
		return 0, fmt.Errorf("rows, counted, integrity: %q", columns)
	}
	return strconv.Atoi(columns[0])
}

// A program that keeps a file locked for writing is not meant to, and holds up
// that database on that node only, for as long as it does.
func TestProgramThatLocksAFileDelaysThatDatabaseOnly(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	cl := c.client()
	for _, db := range []string{"A", "B"} {
		c.exec(cl, "", "CREATE DATABASE "+db)
		c.exec(cl, db, "CREATE TABLE t (a)")
	}
	c.settle(cl)
	for _, n := range c.nodes() {
		db, err := sql.Open("sqlite", "file:"+filepath.Join(n.dir, "A.db")+"?_txlock=immediate&_pragma=busy_timeout(10000)")
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		tx, err := db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = cl.Exec(t.Context(), &subjects.Request{DB: "A", SQL: "INSERT INTO t VALUES (1)", TimeoutMS: 30_000})
		if n == c.master && code(err) != subjects.CodeBusy {
			t.Errorf("a write to a file locked on the master: %v, want %s", err, subjects.CodeBusy)
		}
		if n != c.master && err != nil {
			t.Errorf("a write to a file locked on the slave: %v", err)
		}
		c.exec(cl, "B", "INSERT INTO t VALUES (1)")
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		c.exec(cl, "A", "INSERT INTO t VALUES (2)")
		c.settle(cl)
	}
	c.finish(cl)
}
