package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	lib "modernc.org/sqlite/lib"
)

func TestCacheIsBounded(t *testing.T) {
	c, err := Open(filepath.Join(t.TempDir(), "test.db"), Options{Statements: 10, StatementBytes: 100_000})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	prepare := func(sql string) *Stmt {
		t.Helper()
		st, _, err := c.Prepare(sql, 0, GuardRead)
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	kept := prepare("SELECT 'kept'")
	kept.Close()
	for i := range 100 {
		prepare(fmt.Sprintf("SELECT %d", i)).Close()
		st := prepare("SELECT 'kept'")
		if st != kept {
			t.Fatalf("a statement used again and again was dropped at %d", i)
		}
		st.Close()
		check(t, c, 10, 100_000)
	}
	for i := range 100 {
		prepare(fmt.Sprintf("SELECT %d, '%s'", i, strings.Repeat("x", 15_000))).Close()
		check(t, c, 10, 100_000)
	}
	if st := prepare("SELECT '" + strings.Repeat("x", 50_000) + "'"); st.cached {
		t.Error("a statement of half the cache's size drove out the others")
	} else {
		st.Close()
	}
	// Statements in use stay, and are given back when the pressure is over.
	var open []*Stmt
	for i := range 30 {
		open = append(open, prepare(fmt.Sprintf("SELECT %d, 'open'", i)))
	}
	for _, st := range open {
		if _, err := st.Step(); err != nil {
			t.Error(err)
		}
		st.Close()
	}
	prepare("SELECT 'last'").Close()
	check(t, c, 10, 100_000)
}

func check(t *testing.T, c *Conn, entries, bytes int) {
	t.Helper()
	ring, size := 0, 0
	for s := c.stmts.ring.next; s != &c.stmts.ring; s = s.next {
		ring++
		size += s.size
	}
	if ring != len(c.stmts.byKey) || size != c.stmts.bytes {
		t.Fatalf("ring of %d and %d bytes, map of %d and %d bytes", ring, size, len(c.stmts.byKey), c.stmts.bytes)
	}
	if ring > entries || size > bytes {
		t.Fatalf("%d statements, %d bytes", ring, size)
	}
	handles := 0
	for h := lib.Xsqlite3_next_stmt(c.tls, c.db, 0); h != 0; h = lib.Xsqlite3_next_stmt(c.tls, c.db, h) {
		handles++
	}
	if handles != ring {
		t.Fatalf("%d statements in the cache, SQLite holds %d", ring, handles)
	}
}

// The digest says which modules it is made of.
func TestVersionsAreThoseOfTheModule(t *testing.T) {
	mod := readFile(t, "../../go.mod")
	for _, want := range []string{sqliteModule, libcModule} {
		if !strings.Contains(mod, "\t"+want+"\n") {
			t.Errorf("go.mod does not require %s: correct the constant", want)
		}
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
