package engine_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snapdb/snapdb/exec/engine"
)

// few rows: an aggregate that has no memory left says so at its end.
const few = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n LIMIT 2000) "

const counting = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n) "

// reader opens a reader of an empty database that shares an allowance.
func reader(t *testing.T, a *engine.Allowance) *engine.Conn {
	t.Helper()
	dir := t.TempDir()
	a.Dir = filepath.Join(dir, "tmp")
	if err := os.Mkdir(a.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	mustExec(t, openAt(t, filepath.Join(dir, "test.db"), engine.Options{}), "CREATE TABLE t (a)")
	return openAt(t, filepath.Join(dir, "test.db"), engine.Options{ReadOnly: true, Allowance: a})
}

func TestReaderTakesNoMoreMemoryThanItMay(t *testing.T) {
	c := reader(t, &engine.Allowance{Memory: 24 << 20, AllMemory: 1 << 30, Files: 1 << 30, Room: func() error { return nil }})
	for name, sql := range map[string]string{
		"columns":             "SELECT " + strings.Repeat("randomblob(4000000),", 500) + "1",
		"columns of zeros":    "SELECT " + strings.Repeat("zeroblob(4000000),", 500) + "1",
		"arguments":           "SELECT max(" + strings.Repeat("randomblob(4000000),", 500) + "1)",
		"format":              "SELECT printf('%30000000s', 1)",
		"hex":                 "SELECT length(hex(zeroblob(14000000)))",
		"replace":             "SELECT length(replace(hex(zeroblob(1000)), '0', hex(zeroblob(10000))))",
		"group_concat":        few + "SELECT group_concat(hex(zeroblob(10000))) FROM n",
		"several aggregates":  few + "SELECT " + strings.Repeat("group_concat(hex(zeroblob(10000))),", 8) + "1 FROM n",
		"JSON":                few + "SELECT json_group_array(hex(zeroblob(10000))) FROM n",
		"text as it is given": "SELECT CAST(zeroblob(20000000) AS TEXT) || 'x'",
	} {
		c.BeginRequest()
		if _, err := run(c, engine.GuardRead, sql); !errors.Is(err, engine.ErrMemory) {
			t.Errorf("%s: %.100v", name, err)
		}
		// It is given back.
		if got := text(t, c, "length(hex(zeroblob(5000000)))"); got != "10000000" {
			t.Errorf("after %s: %s", name, got)
		}
	}
}

// What all have together is not for whoever asks first, and small reads never lack it.
func TestReadersShareMemory(t *testing.T) {
	a := &engine.Allowance{Memory: 64 << 20, AllMemory: 70 << 20, Files: 1 << 30, Room: func() error { return nil }}
	first := reader(t, a)
	second := openAt(t, filepath.Join(filepath.Dir(a.Dir), "test.db"), engine.Options{ReadOnly: true, Allowance: a})
	st, _, err := first.Prepare("SELECT randomblob(50000000)", 0, engine.GuardRead)
	if err != nil {
		t.Fatal(err)
	}
	if row, err := st.Step(); !row {
		t.Fatal(err)
	}
	if _, err := run(second, engine.GuardRead, "SELECT randomblob(40000000)"); !errors.Is(err, engine.ErrMemory) {
		t.Errorf("beyond what all may have: %v", err)
	}
	second.BeginRequest()
	mustRun(t, second, engine.GuardRead, "SELECT randomblob(10000000)")
	st.Close()
	mustRun(t, second, engine.GuardRead, "SELECT randomblob(40000000)")
}

func TestReaderWritesNoMoreTemporaryFilesThanItMay(t *testing.T) {
	asked := 0
	var full error
	a := &engine.Allowance{Memory: 1 << 30, AllMemory: 1 << 30, Files: 12 << 20, Room: func() error { asked++; return full }}
	c := reader(t, a)
	endless := map[string]string{
		"ORDER BY":     counting + "SELECT randomblob(5000) AS x FROM n ORDER BY x",
		"GROUP BY":     counting + "SELECT randomblob(5000) AS x, count(*) FROM n GROUP BY x",
		"DISTINCT":     counting + "SELECT count(DISTINCT randomblob(5000)) FROM n",
		"UNION":        "WITH RECURSIVE n(x) AS (SELECT x'00' UNION SELECT randomblob(5000) FROM n) SELECT count(*) FROM n",
		"window":       counting + "SELECT max(i) OVER (), randomblob(5000) FROM n",
		"materialized": "WITH n(x) AS MATERIALIZED (" + counting + "SELECT randomblob(5000) FROM n) SELECT count(*) FROM n a, n b",
	}
	for name, sql := range endless {
		c.BeginRequest()
		if _, err := run(c, engine.GuardRead, sql); !errors.Is(err, engine.ErrFiles) {
			t.Errorf("%s: %v", name, err)
		}
		// What was taken is given back: this needs 11 MB of files.
		mustRun(t, c, engine.GuardRead, "WITH RECURSIVE n(i, x) AS (SELECT 1, 1 UNION ALL SELECT i+1, randomblob(5000) FROM n LIMIT 2200) SELECT x FROM n ORDER BY x")
	}
	if asked < 2*len(endless) {
		t.Errorf("asked %d times for room on the disk", asked)
	}
	full = errors.New("the disk is nearly full")
	for name, sql := range endless {
		c.BeginRequest()
		if _, err := run(c, engine.GuardRead, sql); !errors.Is(err, engine.ErrRoom) || !errors.Is(err, full) {
			t.Errorf("%s on a full disk: %v", name, err)
		}
	}
	c.BeginRequest()
	mustRun(t, c, engine.GuardRead, "SELECT count(*) FROM t")
	if left, err := os.ReadDir(a.Dir); err != nil || len(left) != 0 {
		t.Errorf("left in the folder: %v, %v", left, err)
	}
}

// One comparison with a pattern takes pattern times value, and no time limit ends it.
func TestReaderBoundsPatterns(t *testing.T) {
	c := reader(t, &engine.Allowance{Memory: 64 << 20, AllMemory: 64 << 20, Files: 1 << 20, Room: func() error { return nil }})
	mustRun(t, c, engine.GuardRead, "SELECT 'x' LIKE printf('%.*c', 1000, '_')")
	for _, op := range []string{"LIKE", "GLOB"} {
		var e *engine.Error
		if _, err := run(c, engine.GuardRead, "SELECT 'x' "+op+" printf('%.*c', 1001, '_')"); !errors.As(err, &e) || !e.SQL() {
			t.Errorf("%s: %v", op, err)
		}
	}
}
