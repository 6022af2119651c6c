package exec_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/exec/engine"
	"github.com/snapdb/snapdb/subjects"
)

// stripped is a database of a node as a file without snapdb's own tables.
func stripped(n *node, db string) string {
	n.t.Helper()
	path, _ := copyOf(n, db)
	if err := exec.Strip(path); err != nil {
		n.t.Fatal(err)
	}
	return path
}

// restored is a file made by another program from the SQL of a dump.
func restored(t tb, file string) (path, script string) {
	t.Helper()
	var out bytes.Buffer
	if _, err := exec.Dump(context.Background(), file, &out); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(tempDir(t), "restored.db")
	other, err := sql.Open("sqlite", path)
	if err == nil {
		_, err = other.Exec(out.String())
		err = errors.Join(err, other.Close())
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	return path, out.String()
}

// roundTrip imports a file, dumps it in both forms and imports those: all hold the same.
func roundTrip(t tb, file string) (script string) {
	t.Helper()
	h := newHistory(t)
	n := newMaster(t, h)
	defer n.close()
	h.importFile(n, file, "a")
	first := stripped(n, "a")
	h.importFile(n, first, "b")
	again, script := restored(t, first)
	h.importFile(n, again, "c")
	want := n.checksum("a").Sum
	for _, db := range []string{"b", "c"} {
		if got := n.checksum(db).Sum; got != want {
			t.Fatalf("database %s has %s, want %s\n%.4000s", db, got, want, script)
		}
	}
	return script
}

func TestDumpGivesTheSameContent(t *testing.T) {
	t.Parallel()
	script := roundTrip(t, foreign(t, everything))
	for _, want := range []string{"BEGIN TRANSACTION;\n", "ANALYZE;\nCOMMIT;\n", "PRAGMA user_version=7;\n", "9.0e+999", "-9.0e+999",
		"CAST(x'610062ff' AS TEXT)", "(rowid,\"a\",\"rowid_\") VALUES (-5,"} {
		if !strings.Contains(script, want) {
			t.Errorf("no %q in\n%s", want, script)
		}
	}
	roundTrip(t, foreign(t, `CREATE TABLE "odd ""name" ("select" PRIMARY KEY, "a b" AS ("select" || 1), c DEFAULT 'd'); INSERT INTO "odd ""name" ("select") VALUES ('it''s'), (NULL), (NULL), (2);
		CREATE TABLE one (rowid, _rowid_, oid); INSERT INTO one VALUES (7, 8, 9), (1, 2, 3);
		CREATE TABLE none (a); CREATE TABLE counted (id INTEGER PRIMARY KEY AUTOINCREMENT); INSERT INTO counted VALUES (5); DROP TABLE counted;
		CREATE TABLE bad (a REFERENCES bad(b), b UNIQUE); PRAGMA foreign_keys=OFF; INSERT INTO bad VALUES (1, 2);
		CREATE TABLE strictly (a INTEGER, b ANY) STRICT; INSERT INTO strictly VALUES (1, '1'), (2, 1.0);
		CREATE TABLE descending (a INTEGER PRIMARY KEY DESC, b); INSERT INTO descending VALUES (5, 1), (3, 2);
		CREATE INDEX expression ON one (oid + 1) WHERE "rowid" > 2; CREATE VIEW "v w" (x) AS SELECT a FROM none`))
}

// What SQLite stores is what it gets back, whatever the number.
func TestDumpGivesTheSameValues(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.OneOf(anyValue(), rapid.Map(rapid.Uint64(), func(bits uint64) subjects.Value {
			f := math.Float64frombits(bits)
			if math.IsNaN(f) {
				f = math.Copysign(0, -1)
			}
			return subjects.RealValue(f)
		})), 1, 200).Draw(t, "values")
		path := filepath.Join(tempDir(t), "values.db")
		c := keep(t, path, "CREATE TABLE v (a, r REAL, n NUMERIC)")
		st, _, err := c.Prepare("INSERT INTO v VALUES (?1, ?1, ?1)", 0, engine.GuardNone)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range values {
			if err = st.Bind([]subjects.Value{v}); err == nil {
				_, err = st.Step()
			}
			if err != nil {
				t.Fatal(err)
			}
			st.Reset()
		}
		st.Close()
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		roundTrip(t, path)
	})
}

// A stripped file says nothing of snapdb and needs none of its settings.
func TestStrippedFileIsAnyProgramsOwn(t *testing.T) {
	t.Parallel()
	h := newHistory(t)
	n := newMaster(t, h)
	h.command(n, "CREATE DATABASE d")
	h.mustWrite(n, "d", "CREATE TABLE t (a); INSERT INTO t VALUES (1)")
	r := text("INSERT INTO t VALUES (2) RETURNING 'a secret answer'")
	r.id = "request"
	if o := h.group(n, "d", r)[0]; o.err != nil {
		t.Fatal(o.err)
	}
	path := stripped(n, "d")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if data[18] != 1 || data[19] != 1 {
		t.Error("the file is in WAL mode")
	}
	for _, word := range []string{"_snapdb", "secret"} {
		if bytes.Contains(data, []byte(word)) {
			t.Errorf("the file holds %q", word)
		}
	}
	if left, err := filepath.Glob(path + "?*"); err != nil || len(left) > 0 {
		t.Errorf("left: %q, %v", left, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := exec.Dump(ctx, path, &bytes.Buffer{}); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
	full := errors.New("no room")
	if _, err := exec.Dump(context.Background(), path, failing{full}); !errors.Is(err, full) {
		t.Errorf("without room: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, fmt.Errorf("write: %w", f.err) }
