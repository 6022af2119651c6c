package engine_test

import (
	"path/filepath"
	"testing"

	"github.com/snapdb/snapdb/exec/engine"
	"github.com/snapdb/snapdb/subjects"
)

// open opens a new writer that is closed with the test.
func open(t testing.TB) *engine.Conn {
	t.Helper()
	return openAt(t, filepath.Join(t.TempDir(), "test.db"), engine.Options{})
}

func openAt(t testing.TB, path string, o engine.Options) *engine.Conn {
	t.Helper()
	c, err := engine.Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func mustExec(t testing.TB, c *engine.Conn, sql string) {
	t.Helper()
	if err := c.Exec(sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// run prepares the only statement of sql, binds args and returns all rows.
func run(c *engine.Conn, g engine.Guard, sql string, args ...subjects.Value) (rows [][]subjects.Value, err error) {
	st, _, err := c.Prepare(sql, 0, g)
	if err != nil {
		return nil, err
	}
	defer st.Close()
	if err := st.Bind(args); err != nil {
		return nil, err
	}
	for {
		row, err := st.Step()
		if err != nil || !row {
			return rows, err
		}
		var vals []subjects.Value
		for i := range st.ColumnCount() {
			vals = append(vals, st.Column(i).Clone())
		}
		rows = append(rows, vals)
	}
}

func mustRun(t testing.TB, c *engine.Conn, g engine.Guard, sql string, args ...subjects.Value) [][]subjects.Value {
	t.Helper()
	rows, err := run(c, g, sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return rows
}

// text is the first value of the first row, as text.
func text(t testing.TB, c *engine.Conn, sql string) string {
	t.Helper()
	rows := mustRun(t, c, engine.GuardNone, "SELECT CAST(("+sql+") AS TEXT)")
	return string(rows[0][0].Bytes())
}

func integer(n int64) subjects.Value { return subjects.IntegerValue(n) }

func TestBasicPath(t *testing.T) {
	c := open(t)
	mustExec(t, c, "CREATE TABLE t (id INTEGER PRIMARY KEY, at TEXT DEFAULT CURRENT_TIMESTAMP, r INTEGER DEFAULT (random()), s TEXT)")
	if err := c.Begin(); err != nil {
		t.Fatal(err)
	}
	if err := c.Savepoint(); err != nil {
		t.Fatal(err)
	}
	c.SetCounters(7, 8, 9)
	c.SetClock(1)
	c.Seed(1, 2)
	mustRun(t, c, engine.GuardWrite, "INSERT INTO t (s) VALUES (?)", subjects.TextValue("x"))
	if id, changes, total := c.Counters(); id != 1 || changes != 1 || total != 10 {
		t.Errorf("counters %d %d %d", id, changes, total)
	}
	if err := c.Release(); err != nil {
		t.Fatal(err)
	}
	if err := c.Commit(); err != nil {
		t.Fatal(err)
	}
	if got := text(t, c, "SELECT at FROM t"); got != "1970-01-01 00:00:00" {
		t.Errorf("CURRENT_TIMESTAMP %s", got)
	}
}

func TestDigest(t *testing.T) {
	a, err := engine.Digest()
	if err != nil {
		t.Fatal(err)
	}
	b, err := engine.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if a != b || len(a) != 16 {
		t.Errorf("digests %q, %q", a, b)
	}
}

func textValue(s string) subjects.Value { return subjects.TextValue(s) }
