package engine_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/snapdb/snapdb/exec/engine"
)

// split prepares and runs every statement of a script and returns their texts.
func split(c *engine.Conn, script string, g engine.Guard) (texts []string, err error) {
	for off := 0; off < len(script); {
		st, n, err := c.Prepare(script, off, g)
		if err != nil {
			return texts, err
		}
		off += n
		if st == nil {
			continue
		}
		texts = append(texts, st.SQL())
		_, err = st.Step()
		st.Close()
		if err != nil {
			return texts, err
		}
	}
	return texts, nil
}

func TestPrepareSplits(t *testing.T) {
	for _, test := range []struct {
		script string
		want   []string
	}{
		{"", nil},
		{" \n\t", nil},
		{";;", nil},
		{"-- only a comment", nil},
		{"/* unterminated", nil},
		{"SELECT 1", []string{"SELECT 1"}},
		{"SELECT 1;", []string{"SELECT 1"}},
		{"\xef\xbb\xbfSELECT 1;", []string{"SELECT 1"}},
		{" -- c;\n /* x; */ SELECT 1 ; ; -- tail\n", []string{"SELECT 1"}},
		{"SELECT ';--', \"a;b\" FROM (SELECT 1 AS \"a;b\"); SELECT 2", []string{"SELECT ';--', \"a;b\" FROM (SELECT 1 AS \"a;b\")", "SELECT 2"}},
		{"CREATE TABLE t(a); CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; SELECT 2; END; INSERT INTO t VALUES (1) ;\n",
			[]string{"CREATE TABLE t(a)", "CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; SELECT 2; END", "INSERT INTO t VALUES (1)"}},
		{"SELECT 1; /* unterminated ; SELECT 2", []string{"SELECT 1"}},
		{"SELECT /* in ; side */ 1;SELECT 2--x", []string{"SELECT /* in ; side */ 1", "SELECT 2--x"}},
	} {
		got, err := split(open(t), test.script, engine.GuardWrite)
		if err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%q: got %q (%v), want %q", test.script, got, err, test.want)
		}
	}
}

func TestPrepareErrors(t *testing.T) {
	c := open(t)
	for sql, want := range map[string]error{
		"SELECT 1\x00; DROP TABLE t": engine.ErrNUL,
		"SELECT '\xff'":              engine.ErrUTF8,
	} {
		if _, _, err := c.Prepare(sql, 0, engine.GuardNone); !errors.Is(err, want) || !errors.Is(err, engine.ErrText) {
			t.Errorf("%q: %v", sql, err)
		}
	}
	const script = "SELECT 1; -- x\n  SELECT * FRM t"
	_, n, err := c.Prepare(script, 0, engine.GuardRead)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = c.Prepare(script, n, engine.GuardRead)
	var e *engine.Error
	if !errors.As(err, &e) || !e.SQL() || e.Environmental() || e.Offset != len("SELECT * ") {
		t.Errorf("syntax error: %#v", err)
	}
	if _, err := run(c, engine.GuardRead, "SELECT * FROM nowhere"); !errors.As(err, &e) || !e.SQL() || e.Offset != -1 && e.Offset != 14 {
		t.Errorf("no such table: %#v", err)
	}
}

func TestOps(t *testing.T) {
	c := open(t)
	mustExec(t, c, "CREATE TABLE t (a INTEGER PRIMARY KEY, b); CREATE INDEX i ON t (b)")
	for _, test := range []struct {
		sql  string
		want engine.Op
	}{
		{"SELECT * FROM t", engine.OpRead},
		{"VALUES (1)", engine.OpRead},
		{"WITH x AS (SELECT 1) SELECT * FROM x", engine.OpRead},
		{"EXPLAIN INSERT INTO t VALUES (1, 2)", engine.OpRead},
		{"EXPLAIN QUERY PLAN DELETE FROM t", engine.OpRead},
		{"EXPLAIN BEGIN IMMEDIATE", engine.OpRead},
		{"EXPLAIN PRAGMA defer_foreign_keys=ON", engine.OpRead},
		{"PRAGMA table_info(t)", engine.OpRead},
		{"PRAGMA user_version", engine.OpRead},
		{"PRAGMA integrity_check", engine.OpRead},
		{"PRAGMA foreign_key_check", engine.OpRead},
		{"PRAGMA user_version=3", engine.OpWrite},
		{"PRAGMA application_id=3", engine.OpWrite},
		{"PRAGMA defer_foreign_keys=ON", engine.OpWrite},
		{"INSERT INTO t VALUES (1, 2) RETURNING a", engine.OpWrite},
		{"WITH x AS (SELECT 1) INSERT INTO t SELECT 7, * FROM x", engine.OpWrite},
		{"DELETE FROM t WHERE 0", engine.OpWrite},
		{"CREATE TABLE u (a)", engine.OpWrite},
		{"CREATE TABLE IF NOT EXISTS t (a)", engine.OpWrite},
		{"ANALYZE", engine.OpWrite},
		{"REINDEX", engine.OpWrite},
		{"BEGIN", engine.OpBegin},
		{"BEGIN DEFERRED TRANSACTION", engine.OpBegin},
		{"BEGIN IMMEDIATE", engine.OpBegin},
		{"BEGIN EXCLUSIVE", engine.OpBegin},
		{"COMMIT", engine.OpCommit},
		{"END", engine.OpCommit},
		{"ROLLBACK", engine.OpRollback},
		{"SAVEPOINT a", engine.OpSavepoint},
		{"RELEASE SAVEPOINT a", engine.OpRelease},
		{"RELEASE a", engine.OpRelease},
		{"ROLLBACK TO a", engine.OpRollbackTo},
		{"ROLLBACK TRANSACTION TO SAVEPOINT a", engine.OpRollbackTo},
	} {
		st, _, err := c.Prepare(test.sql, 0, engine.GuardWrite)
		if err != nil {
			t.Errorf("%s: %v", test.sql, err)
			continue
		}
		if st.Op() != test.want {
			// CREATE TABLE IF NOT EXISTS of an existing table compiles to nothing.
			if !strings.Contains(test.sql, "IF NOT EXISTS") || st.Op() != engine.OpRead {
				t.Errorf("%s: op %d, want %d", test.sql, st.Op(), test.want)
			}
		}
		st.Close()
	}
}

func TestWhatAStatementIs(t *testing.T) {
	c := open(t)
	mustExec(t, c, "CREATE TABLE t (a, b); CREATE VIEW v AS SELECT 1")
	type is struct{ analyzes, schema, creates, defers bool }
	for sql, want := range map[string]is{
		"SELECT 1":                             {},
		"INSERT INTO t VALUES (1, 2)":          {},
		"ANALYZE":                              {analyzes: true},
		"ANALYZE t":                            {analyzes: true},
		"analyze v":                            {analyzes: true},
		"ANALYZE sqlite_schema":                {analyzes: true},
		"EXPLAIN ANALYZE":                      {},
		"CREATE TABLE u (a)":                   {schema: true},
		"CREATE TABLE u AS SELECT 1":           {schema: true, creates: true},
		"CREATE INDEX i ON t (a)":              {schema: true},
		"DROP TABLE t":                         {schema: true},
		"ALTER TABLE t RENAME COLUMN a TO c":   {schema: true},
		"CREATE VIRTUAL TABLE f USING fts5(x)": {schema: true},
		"PRAGMA defer_foreign_keys":            {},
		"PRAGMA defer_foreign_keys=1":          {defers: true},
	} {
		st, _, err := c.Prepare(sql, 0, engine.GuardWrite)
		if err != nil {
			t.Errorf("%s: %v", sql, err)
			continue
		}
		got := is{st.Analyzes(), st.ChangesSchema(), st.CreatesTable(), st.DefersForeignKeys()}
		if strings.HasPrefix(strings.ToUpper(sql), "ANALYZE") {
			got.schema = false // the first ANALYZE creates its tables
		}
		if got != want {
			t.Errorf("%s: %+v, want %+v", sql, got, want)
		}
		st.Close()
	}
}

// A cached statement fits the schema of now, whoever changed it.
func TestCachedStatementFollowsSchema(t *testing.T) {
	path := filepath.Join(t.TempDir(), "test.db")
	w := openAt(t, path, engine.Options{})
	mustExec(t, w, "CREATE TABLE t (a INT); INSERT INTO t VALUES (1)")
	r := openAt(t, path, engine.Options{ReadOnly: true})
	columns := func(c *engine.Conn) string {
		st, _, err := c.Prepare("SELECT * FROM t", 0, engine.GuardRead)
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		return fmt.Sprint(st.ColumnCount(), st.Columns(), st.DeclTypes())
	}
	inRead := func() string {
		if err := r.BeginRead(); err != nil {
			t.Fatal(err)
		}
		defer r.Rollback()
		return columns(r)
	}
	want := "1 [a] [INT]"
	if w, r := columns(w), inRead(); w != want || r != want {
		t.Errorf("writer %s, reader %s, want %s", w, r, want)
	}
	mustExec(t, w, "BEGIN; ALTER TABLE t ADD COLUMN b TEXT")
	want = "2 [a b] [INT TEXT]"
	if got := columns(w); got != want {
		t.Errorf("inside the transaction: %s, want %s", got, want)
	}
	mustExec(t, w, "ROLLBACK")
	want = "1 [a] [INT]"
	if w, r := columns(w), inRead(); w != want || r != want {
		t.Errorf("rolled back: writer %s, reader %s, want %s", w, r, want)
	}
	mustExec(t, w, "ALTER TABLE t ADD COLUMN c BLOB")
	want = "2 [a c] [INT BLOB]"
	if w, r := columns(w), inRead(); w != want || r != want {
		t.Errorf("altered: writer %s, reader %s, want %s", w, r, want)
	}
}

// The names are right also when SQLite had to compile a statement anew by itself.
func TestColumnsAfterStep(t *testing.T) {
	path := filepath.Join(t.TempDir(), "test.db")
	w := openAt(t, path, engine.Options{})
	mustExec(t, w, "CREATE TABLE t (a); INSERT INTO t VALUES (1)")
	r := openAt(t, path, engine.Options{ReadOnly: true})
	st, _, err := r.Prepare("SELECT * FROM t", 0, engine.GuardRead)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	if got := fmt.Sprint(st.Columns()); got != "[a]" {
		t.Fatal(got)
	}
	mustExec(t, w, "ALTER TABLE t ADD COLUMN b")
	if _, err := st.Step(); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(st.Columns()); got != "[a b]" {
		t.Errorf("after the first step: %s", got)
	}
}

// Two users of one text do not share a statement.
func TestSameTextTwice(t *testing.T) {
	c := open(t)
	const sql = "SELECT 1 UNION ALL SELECT 2"
	a, _, err := c.Prepare(sql, 0, engine.GuardRead)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Step(); err != nil {
		t.Fatal(err)
	}
	if rows := mustRun(t, c, engine.GuardRead, sql); len(rows) != 2 {
		t.Errorf("%d rows", len(rows))
	}
	if row, err := a.Step(); !row || err != nil || a.Column(0).Int() != 2 {
		t.Errorf("the first statement lost its place: %v %v", row, err)
	}
	a.Close()
}

// Guards are part of what a statement is cached by.
func TestCacheKeepsGuardsApart(t *testing.T) {
	c := open(t)
	const sql = "PRAGMA foreign_keys=ON"
	if err := c.Exec(sql); err != nil {
		t.Fatal(err)
	}
	if _, err := run(c, engine.GuardWrite, sql); !errors.Is(err, engine.ErrDenied) {
		t.Errorf("got %v", err)
	}
}
