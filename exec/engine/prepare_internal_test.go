package engine

import (
	"path/filepath"
	"strings"
	"testing"
)

// A script that is prepared statement by statement is copied for SQLite once,
// whatever is prepared meanwhile: copying what is left of it each time would make
// long scripts quadratic. The test sees it by changing the copy.
func TestLongScriptIsCopiedOnce(t *testing.T) {
	c, err := Open(filepath.Join(t.TempDir(), "test.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Exec("CREATE TABLE t (a)"); err != nil {
		t.Fatal(err)
	}
	if err := c.Begin(); err != nil {
		t.Fatal(err)
	}
	prepare := func(sql string, copied *script, meanwhile string) {
		t.Helper()
		for off := 0; off < len(sql); {
			st, m, err := c.Prepare(sql, off, GuardWrite)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := st.Step(); err != nil {
				t.Fatal(err)
			}
			st.Close()
			if off == 0 { // from now on the last statement of the copy inserts a 2
				copy(bytesAt(copied.p, len(sql))[len(sql)-len("1);\n"):], "2")
			}
			off += m
			if err := c.Exec(meanwhile); err != nil {
				t.Fatal(err)
			}
		}
	}
	const insert = "INSERT INTO t VALUES (1);\n"
	prepare(strings.Repeat(insert, 4000), &c.long, "SELECT 1; SELECT 2")
	prepare(strings.Repeat(insert, 10), &c.short, "")
	got, err := c.render("SELECT count(*), count(*) FILTER (WHERE a = 2) FROM t")
	if err != nil {
		t.Fatal(err)
	}
	if want := "integer 4010 0p-1074 \"\"\ninteger 2 0p-1074 \"\"\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
