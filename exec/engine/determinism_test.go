package engine_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snapdb/snapdb/exec/engine"
	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// transactions use everything whose result SQLite takes from clock, generator or
// counters, in all places where it may stand.
var transactions = []string{
	`CREATE TABLE d (id INTEGER PRIMARY KEY, r INTEGER DEFAULT (random()), b BLOB DEFAULT (randomblob(8)), ts TEXT DEFAULT CURRENT_TIMESTAMP, dt TEXT DEFAULT CURRENT_DATE, tm TEXT DEFAULT CURRENT_TIME, j REAL DEFAULT (julianday('now')), u DEFAULT (unixepoch('now','subsec')));
	 CREATE TABLE log (id INTEGER PRIMARY KEY, what, at DEFAULT (datetime('now','localtime')), r)`,
	`INSERT INTO d DEFAULT VALUES; INSERT INTO d DEFAULT VALUES; INSERT INTO d (id) VALUES (100), (101)`,
	`CREATE TRIGGER dt AFTER UPDATE ON d BEGIN INSERT INTO log (what, r) VALUES ('update '||NEW.id||' '||changes()||' '||last_insert_rowid(), random()); END;
	 CREATE TRIGGER dd AFTER DELETE ON d BEGIN INSERT INTO log (what, r) VALUES (strftime('%Y-%m-%d %H:%M:%f','now'), hex(randomblob(4))); END`,
	`UPDATE d SET r=random() WHERE id>1; UPDATE d SET b=randomblob(id) WHERE id IN (SELECT id FROM d ORDER BY random() LIMIT 2)`,
	`DELETE FROM d WHERE id IN (SELECT id FROM d ORDER BY random() LIMIT 1) RETURNING id, random(), datetime('now')`,
	`CREATE VIEW v AS SELECT id, random() AS r, datetime('now') AS t FROM d; INSERT INTO log (what, r) SELECT t, r FROM v`,
	`CREATE VIEW w AS SELECT * FROM log; CREATE TRIGGER wi INSTEAD OF INSERT ON w BEGIN INSERT INTO log (what, r) VALUES (NEW.what||random(), NEW.r); END; INSERT INTO w (what, r) VALUES ('x', random())`,
	`INSERT INTO d (id, r) VALUES (1, 5) ON CONFLICT (id) DO UPDATE SET r=random(), ts=datetime('now') RETURNING r, ts`,
	`INSERT OR REPLACE INTO d (id) SELECT id+1000 FROM d ORDER BY random()`,
	`INSERT OR IGNORE INTO d (id, r) SELECT abs(random())%50, random() FROM d, d AS e LIMIT 40`,
	`CREATE TABLE rs AS SELECT random() AS r, randomblob(5) AS b, datetime('now') AS t, CURRENT_TIMESTAMP AS c`,
	`WITH RECURSIVE n(i, r) AS (SELECT 1, random() UNION ALL SELECT i+1, random() FROM n WHERE i<50) INSERT INTO log (what, r) SELECT i, r FROM n`,
	`CREATE VIRTUAL TABLE docs USING fts5(title, body); INSERT INTO docs SELECT 'title '||i, hex(randomblob(20))||' word'||(abs(random())%7) FROM (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<60) SELECT i FROM n)`,
	`UPDATE docs SET body=body||' more' WHERE docs MATCH 'word3'; DELETE FROM docs WHERE docs MATCH 'word5'`,
	`INSERT INTO docs (docs) VALUES ('optimize'); INSERT INTO log (what) SELECT group_concat(rowid) FROM docs WHERE docs MATCH 'more' ORDER BY rank`,
	`CREATE VIRTUAL TABLE boxes USING rtree(id, x0, x1, y0, y1); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<120), m AS MATERIALIZED (SELECT i, abs(random())%100 AS x, abs(random())%100 AS y FROM n) INSERT INTO boxes SELECT i, x, x+1, y, y+1 FROM m`,
	`INSERT INTO log (what) SELECT group_concat(id) FROM boxes WHERE x0>20 AND x1<60`,
	`INSERT INTO log (what, r) SELECT json_object('t', datetime('now'), 'r', random()), json_group_array(value) FROM (SELECT value FROM json_each('[1,2.5,"x",null]') ORDER BY random())`,
	`INSERT INTO log (what, r) SELECT sum(id) OVER (ORDER BY random()), row_number() OVER () FROM d`,
	`INSERT INTO log (what) SELECT date('now','localtime')||time('now','utc')||strftime('%s','now')||datetime('now','start of month','+1 month','localtime')`,
	`INSERT INTO log (what) SELECT timediff('now','2000-01-01')||julianday()||date()||datetime(0,'unixepoch','localtime')||datetime('2024-07-01 12:00','utc')`,
	`INSERT INTO log (what, r) SELECT exp(r/1e19)||'|'||sin(r)||'|'||pow(abs(r%97), 1.37), ln(abs(r)) FROM d WHERE r IS NOT NULL`,
	`INSERT INTO log (what) VALUES (last_insert_rowid()||' '||changes()||' '||total_changes())`,
	`CREATE TABLE g (a, b AS (a*2) STORED, c AS (upper(a)), CHECK (a < random() OR 1)); INSERT INTO g (a) VALUES (random()); CREATE INDEX gi ON g (b, c)`,
	`CREATE TABLE parent (id INTEGER PRIMARY KEY); CREATE TABLE kid (id INTEGER PRIMARY KEY, p REFERENCES parent ON DELETE CASCADE ON UPDATE SET NULL); INSERT INTO parent VALUES (1),(2); INSERT INTO kid (p) VALUES (1),(2),(1); DELETE FROM parent WHERE id=1`,
	`CREATE TABLE wr (k TEXT PRIMARY KEY, v) WITHOUT ROWID; INSERT INTO wr SELECT hex(randomblob(4)), random() FROM d`,
	`CREATE TABLE seq (id INTEGER PRIMARY KEY AUTOINCREMENT, x); INSERT INTO seq (x) VALUES (random()),(random()); DELETE FROM seq WHERE id=2; INSERT INTO seq (x) VALUES (last_insert_rowid())`,
	`CREATE INDEX di ON d (r); ANALYZE`,
	`INSERT INTO log (what) SELECT group_concat(stat) FROM sqlite_stat1`,
	`ALTER TABLE g ADD COLUMN z DEFAULT 5; ALTER TABLE g RENAME COLUMN a TO aa; UPDATE g SET z=random()`,
	`PRAGMA user_version=42; PRAGMA application_id=7`,
	`INSERT INTO log (what) SELECT name FROM sqlite_schema ORDER BY random()`,
	`REINDEX`,
	`INSERT INTO d (r) SELECT id FROM d WHERE random() % 2`,
	`UPDATE log SET r=(SELECT random() FROM d ORDER BY random() LIMIT 1) WHERE id%3=0`,
	`INSERT INTO log (what) SELECT CASE WHEN random()>0 THEN iif(random()>0,'a','b') ELSE coalesce(NULL, random()) END FROM d`,
	`DELETE FROM d WHERE id>1000; INSERT INTO d DEFAULT VALUES`,
	`DROP TABLE rs; CREATE TABLE rs2 (x DEFAULT (hex(randomblob(2)))); INSERT INTO rs2 DEFAULT VALUES`,
	`INSERT INTO docs (title) VALUES (random()); INSERT INTO docs (docs, rank) VALUES ('merge', 4)`,
	`INSERT INTO log (what) SELECT round(r/3.0, 2)||printf('%g %.3f', r/7.0, 0.1) FROM d`,
}

// apply runs the transactions, batch of them in one SQLite transaction.
func apply(c *engine.Conn, batch int, between func()) error {
	for i, script := range transactions {
		if i%batch == 0 {
			if err := c.Begin(); err != nil {
				return err
			}
		}
		if err := applyOne(c, i, script); err != nil {
			return fmt.Errorf("transaction %d: %w", i, err)
		}
		between()
		if i%batch == batch-1 || i == len(transactions)-1 {
			if err := c.Commit(); err != nil {
				return err
			}
		}
	}
	return nil
}

func applyOne(c *engine.Conn, i int, script string) error {
	c.BeginRequest()
	if err := c.Savepoint(); err != nil {
		return err
	}
	c.SetCounters(0, 0, 0)
	c.SetClock(1_780_000_000_123 + int64(i)*3_600_017)
	for off, n := 0, 0; off < len(script); n++ {
		st, size, err := c.Prepare(script, off, engine.GuardWrite)
		if err != nil {
			return fmt.Errorf("%s: %w", script[off:], err)
		}
		off += size
		c.Seed(uint64(i)*77, n)
		for row := true; row && err == nil; {
			row, err = st.Step()
		}
		st.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", st.SQL(), err)
		}
	}
	c.SetClock(0)
	return c.Release()
}

// content is everything a client can see in the database, except where it is.
func content(c *engine.Conn) (string, error) {
	var out strings.Builder
	tables, err := run(c, engine.GuardNone, "SELECT name FROM sqlite_schema WHERE type='table' AND sql NOT LIKE 'CREATE VIRTUAL%' ORDER BY name")
	if err != nil {
		return "", err
	}
	queries := []string{"SELECT type, name, tbl_name, sql FROM sqlite_schema", "PRAGMA user_version"}
	for _, t := range tables {
		queries = append(queries, fmt.Sprintf(`SELECT * FROM "%s"`, t[0].Bytes()))
	}
	for _, q := range queries {
		fmt.Fprintln(&out, q)
		rows, err := run(c, engine.GuardNone, q)
		if err != nil {
			return "", err
		}
		for _, row := range rows {
			for _, v := range row {
				fmt.Fprintf(&out, "%s %d %b %q,", v.Kind(), v.Int(), v.Float(), v.Bytes())
			}
			fmt.Fprintln(&out)
		}
	}
	return out.String(), nil
}

func applied(dir string, batch int, o engine.Options, between func()) (string, error) {
	c, err := engine.Open(filepath.Join(dir, "test.db"), o)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := apply(c, batch, between); err != nil {
		return "", err
	}
	return content(c)
}

func TestSameContent(t *testing.T) {
	tls := libc.NewTLS()
	defer tls.Close()
	buf := libc.Xmalloc(tls, 64)
	defer libc.Xfree(tls, buf)
	other := open(t)
	want, err := applied(t.TempDir(), 1, engine.Options{}, func() {})
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(want, "\n"); n < 500 {
		t.Fatalf("only %d lines of content", n)
	}
	for _, batch := range []int{2, 7, 1000} {
		got, err := applied(t.TempDir(), batch, engine.Options{Statements: 1}, func() {
			lib.Xsqlite3_randomness(tls, 13, buf) // eat SQLite's own generator
			mustRun(t, other, engine.GuardRead, "SELECT random(), datetime('now')")
		})
		if err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("in batches of %d: %s", batch, firstDifference(want, got))
		}
	}
}

func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(w), len(g)) {
		if w[i] != g[i] {
			return fmt.Sprintf("line %d:\nwant %s\ngot  %s", i, w[i], g[i])
		}
	}
	return fmt.Sprintf("%d and %d lines", len(w), len(g))
}

// childVar tells the test binary to be another process of a test.
const childVar = "SNAPDB_ENGINE_TEST_CHILD"

func TestMain(m *testing.M) {
	switch job, arg, _ := strings.Cut(os.Getenv(childVar), " "); job {
	case "":
		os.Exit(m.Run())
	case "content":
		got, err := applied(arg, 3, engine.Options{}, func() {})
		exit(fmt.Sprintf("%x", sha256.Sum256([]byte(got))), err)
	case "open":
		exit("", openAndClose(arg))
	}
}

// openAndClose is what another program does that only looks at the file. As the
// last to close it, it would put the WAL into the file and delete it.
func openAndClose(path string) error {
	c, err := engine.Open(path, engine.Options{})
	if err != nil {
		return err
	}
	_, err = run(c, engine.GuardNone, "SELECT count(*) FROM t")
	if cerr := c.Close(); err == nil {
		err = cerr
	}
	return err
}

func exit(out string, err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(out)
	os.Exit(0)
}

// child runs this test binary as another process.
func child(t *testing.T, job string, env ...string) string {
	t.Helper()
	cmd := osexec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(append(os.Environ(), childVar+"="+job), env...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %v: %v", job, env, err)
	}
	return string(out)
}

func TestSameContentInEveryTimeZone(t *testing.T) {
	want := child(t, "content "+t.TempDir(), "TZ=UTC")
	for _, tz := range []string{"America/New_York", "Asia/Kolkata", "XYZ-5:30"} {
		if got := child(t, "content "+t.TempDir(), "TZ="+tz); got != want {
			t.Errorf("TZ=%s gives other content", tz)
		}
	}
}

func TestClock(t *testing.T) {
	c := open(t)
	const ms = 1_700_000_000_789
	c.SetClock(ms)
	for sql, want := range map[string]string{
		"datetime('now')":                     "2023-11-14 22:13:20",
		"strftime('%Y-%m-%d %H:%M:%f','now')": "2023-11-14 22:13:20.789",
		"CURRENT_TIMESTAMP":                   "2023-11-14 22:13:20",
		"unixepoch()":                         "1700000000",
		"unixepoch('subsec')":                 "1700000000.789",
		"datetime('now','localtime')":         "2023-11-14 22:13:20",
		"datetime('2023-11-14','utc')":        "2023-11-14 00:00:00",
	} {
		if got := text(t, c, sql); got != want {
			t.Errorf("%s is %s, want %s", sql, got, want)
		}
	}
	// A cached statement sees the clock of its execution; 0 is real time again.
	c.SetClock(ms + 1000)
	if got := text(t, c, "unixepoch()"); got != "1700000001" {
		t.Errorf("a cached statement still sees %s", got)
	}
	c.SetClock(0)
	if got := text(t, c, "unixepoch() > 1750000000"); got != "1" {
		t.Error("real time is not back")
	}
}

func TestSeed(t *testing.T) {
	c := open(t)
	draw := func(seed uint64, index int) string {
		c.Seed(seed, index)
		return text(t, c, "random()||hex(randomblob(11))||random()")
	}
	seen := map[string]bool{}
	for seed := range uint64(20) {
		for index := range 20 {
			a := draw(seed, index)
			if b := draw(seed, index); a != b {
				t.Errorf("seed %d, %d: %s, then %s", seed, index, a, b)
			}
			if seen[a] {
				t.Errorf("seed %d, %d repeats another's values", seed, index)
			}
			seen[a] = true
		}
	}
	// Without a seed two connections differ.
	if a, b := text(t, open(t), "random()"), text(t, open(t), "random()"); a == b {
		t.Error("two connections draw the same number")
	}
	// As with SQLite's own, never the number whose abs() fails.
	mustRun(t, c, engine.GuardRead, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<1000) SELECT abs(random()) FROM n")
}

// FTS5 writes what it has gathered when a savepoint opens, which sets changes():
// counters set before would differ with the size of the batch.
func TestCountersAreSetAfterSavepoint(t *testing.T) {
	c := open(t)
	mustExec(t, c, "CREATE VIRTUAL TABLE f USING fts5(x); BEGIN; INSERT INTO f VALUES ('a b c')")
	c.SetCounters(0, 0, 0)
	if err := c.Savepoint(); err != nil {
		t.Fatal(err)
	}
	if _, changes, total := c.Counters(); changes == 0 && total == 0 {
		t.Error("opening a savepoint changed no counter: this test tests nothing")
	}
	c.SetCounters(5, 6, 7)
	if got := text(t, c, "last_insert_rowid()||' '||changes()||' '||total_changes()"); got != "5 6 7" {
		t.Errorf("counters %s", got)
	}
	mustRun(t, c, engine.GuardWrite, "INSERT INTO f VALUES ('d')")
	if got := text(t, c, "last_insert_rowid()||' '||changes()"); got != "2 1" {
		t.Errorf("after one insert: %s", got)
	}
}

// After the largest rowid SQLite picks random ones.
func TestMaxRowID(t *testing.T) {
	c := open(t)
	mustExec(t, c, "CREATE TABLE t (a)")
	mustRun(t, c, engine.GuardWrite, "INSERT INTO t (rowid, a) VALUES (?, 1)", integer(math.MaxInt64-1))
	if c.MaxRowID() {
		t.Error("said of the largest rowid but one")
	}
	mustRun(t, c, engine.GuardWrite, "INSERT INTO t VALUES (1)")
	if !c.MaxRowID() {
		t.Error("not seen")
	}
	if c.MaxRowID() {
		t.Error("not forgotten")
	}
}

func TestRandomColumnNames(t *testing.T) {
	c := open(t)
	for sql, bad := range map[string]bool{
		"CREATE TABLE x AS SELECT 1 AS a, 2 AS a, 3 AS b":                                         false,
		"CREATE TABLE x AS SELECT 1 AS a, 2 AS a, 3 AS a, 4 AS a, 5 AS a, 6 AS a, 7 AS a":         true,
		"CREATE TABLE x AS SELECT * FROM (SELECT 1 AS a, 2 AS a, 3 AS a, 4 AS a, 5 AS a, 6 AS a)": true,
		"CREATE TABLE x AS SELECT 1 AS \"time 10:30\"":                                            true, // cannot be told apart
		"CREATE TABLE x AS SELECT 1 AS \"time 10:30h\"":                                           false,
	} {
		st, _, err := c.Prepare(sql, 0, engine.GuardWrite)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := st.Step(); err != nil || !st.CreatesTable() {
			t.Fatal(err)
		}
		st.Close()
		if err := c.CheckColumns(); errors.Is(err, engine.ErrRandomName) != bad {
			t.Errorf("%s: %v", sql, err)
		}
		mustExec(t, c, "DROP TABLE x")
	}
}

// SQLite executes PRAGMA defer_foreign_keys while preparing it. Only running it
// may count, as often as it is run.
func TestDeferForeignKeysTakesEffectWhenRun(t *testing.T) {
	c := open(t)
	mustExec(t, c, "CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE k (p REFERENCES p); BEGIN")
	st, _, err := c.Prepare("PRAGMA defer_foreign_keys=ON", 0, engine.GuardWrite)
	if err != nil {
		t.Fatal(err)
	}
	var e *engine.Error
	if _, err := run(c, engine.GuardWrite, "INSERT INTO k VALUES (1)"); !errors.As(err, &e) || !e.Constraint() {
		t.Errorf("prepared, not run: %v", err)
	}
	if _, err := st.Step(); err != nil {
		t.Fatal(err)
	}
	st.Close()
	mustRun(t, c, engine.GuardWrite, "INSERT INTO k VALUES (1)")
	if !c.DeferredViolations() {
		t.Error("a violation is not seen")
	}
	if err := c.Commit(); err == nil || c.Autocommit() {
		t.Errorf("commit with a violation: %v", err)
	}
	mustRun(t, c, engine.GuardWrite, "INSERT INTO p VALUES (1)")
	if c.DeferredViolations() {
		t.Error("a violation is seen after it was mended")
	}
	mustExec(t, c, "COMMIT; BEGIN")
	if _, err := run(c, engine.GuardWrite, "INSERT INTO k VALUES (7)"); err == nil {
		t.Error("still deferred in the next transaction")
	}
	mustRun(t, c, engine.GuardWrite, "PRAGMA defer_foreign_keys=ON")
	mustRun(t, c, engine.GuardWrite, "INSERT INTO k VALUES (7)")
	mustExec(t, c, "ROLLBACK")
}

const skewed = `
CREATE TABLE s (a, b, c);
CREATE INDEX sa ON s (a); CREATE INDEX sb ON s (b);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<2000) INSERT INTO s SELECT i%1000, i%2, i FROM n;
`

// Planner statistics that were rolled back must not choose plans.
func TestReloadStatistics(t *testing.T) {
	const query = "SELECT c FROM s WHERE a=1 AND b=1"
	plan := func(c *engine.Conn) string {
		rows := mustRun(t, c, engine.GuardNone, "EXPLAIN QUERY PLAN "+query)
		return string(rows[0][3].Bytes())
	}
	swap := "UPDATE s SET a=b, b=a" // now the other index is the better one
	for name, before := range map[string]string{"first ANALYZE": "", "second ANALYZE": "ANALYZE;"} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "test.db")
			c := openAt(t, path, engine.Options{})
			mustExec(t, c, skewed+before)
			want := plan(c)
			dump, err := content(c)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Begin(); err != nil {
				t.Fatal(err)
			}
			if err := c.Savepoint(); err != nil {
				t.Fatal(err)
			}
			mustExec(t, c, swap+"; ANALYZE")
			if got := plan(c); got == want && before != "" {
				t.Fatalf("ANALYZE changed no plan (%s): this test tests nothing", got)
			}
			if err := c.RollbackTo(); err != nil {
				t.Fatal(err)
			}
			if got := plan(c); got == want && before != "" {
				t.Fatalf("a rollback unloads statistics (%s): this test tests nothing", got)
			}
			if err := c.ReloadStatistics(); err != nil {
				t.Fatal(err)
			}
			if got := plan(c); got != want {
				t.Errorf("plan after reloading: %s, want %s", got, want)
			}
			mustRun(t, c, engine.GuardWrite, "CREATE TABLE other (x)")
			if err := c.Rollback(); err != nil {
				t.Fatal(err)
			}
			if got := plan(c); got != want {
				t.Errorf("plan after the transaction: %s, want %s", got, want)
			}
			if got, err := content(c); err != nil || got != dump {
				t.Errorf("content changed (%v): %s", err, firstDifference(dump, got))
			}
		})
	}
}

// A schema that is rolled back after statistics were reloaded must not be
// remembered: statements would be compiled for tables that are not there.
func TestReloadStatisticsAndRollBackSchema(t *testing.T) {
	for name, rollback := range map[string]func(*engine.Conn) error{"savepoint": (*engine.Conn).RollbackTo, "transaction": (*engine.Conn).Rollback} {
		t.Run(name, func(t *testing.T) {
			c := open(t)
			mustExec(t, c, "CREATE TABLE t (a); CREATE TABLE u (a)")
			if err := c.Begin(); err != nil {
				t.Fatal(err)
			}
			if err := c.Savepoint(); err != nil {
				t.Fatal(err)
			}
			mustExec(t, c, "ALTER TABLE t ADD COLUMN z; DROP TABLE u")
			if err := c.ReloadStatistics(); err != nil {
				t.Fatal(err)
			}
			mustExec(t, c, "INSERT INTO t (z) VALUES (1)")
			if err := rollback(c); err != nil {
				t.Fatal(err)
			}
			if _, _, err := c.Prepare("ALTER TABLE t DROP COLUMN z", 0, engine.GuardWrite); err == nil {
				t.Error("a column that was rolled back is still there")
			}
			mustExec(t, c, "INSERT INTO u VALUES (1)")
		})
	}
}

// Statistics of snapdb's own tables would depend on what is in flight.
func TestAnalyzeSkipsReservedTables(t *testing.T) {
	c := open(t)
	mustExec(t, c, "CREATE TABLE t (a); CREATE INDEX i ON t (a); INSERT INTO t VALUES (1); CREATE TABLE _snapdb_x (a); CREATE INDEX _snapdb_i ON _snapdb_x (a); INSERT INTO _snapdb_x VALUES (1)")
	for _, sql := range []string{"ANALYZE", "ANALYZE _snapdb_x", "ANALYZE main"} {
		mustRun(t, c, engine.GuardWrite, sql)
	}
	if got := text(t, c, "SELECT group_concat(DISTINCT tbl) FROM sqlite_stat1"); got != "t" {
		t.Errorf("statistics of %s", got)
	}
}

func TestSavepoints(t *testing.T) {
	c := open(t)
	mustExec(t, c, "CREATE TABLE t (a)")
	step := func(f func() error) {
		t.Helper()
		if err := f(); err != nil {
			t.Fatal(err)
		}
	}
	insert := func(n int64) { t.Helper(); mustRun(t, c, engine.GuardWrite, "INSERT INTO t VALUES (?)", integer(n)) }
	step(c.Begin)
	step(c.Savepoint)
	insert(1)
	mustRun(t, c, engine.GuardWrite, "SAVEPOINT mine")
	insert(2)
	step(c.Savepoint)
	insert(3)
	step(c.RollbackTo)
	step(c.Savepoint)
	insert(4)
	step(c.Release)
	mustRun(t, c, engine.GuardWrite, "ROLLBACK TO mine")
	insert(5)
	step(c.Release) // takes the client's with it
	if _, err := run(c, engine.GuardWrite, "RELEASE mine"); err == nil {
		t.Error("the client's savepoint outlived the one around it")
	}
	if c.Autocommit() {
		t.Error("no transaction is open")
	}
	step(c.Commit)
	if got := text(t, c, "SELECT group_concat(a) FROM t"); got != "1,5" || !c.Autocommit() {
		t.Errorf("content %s", got)
	}
	// What ends the whole transaction shows.
	step(c.Begin)
	step(c.Savepoint)
	mustExec(t, c, "CREATE UNIQUE INDEX u ON t (a)")
	if _, err := run(c, engine.GuardWrite, "INSERT OR ROLLBACK INTO t VALUES (1)"); err == nil || !c.Autocommit() {
		t.Errorf("OR ROLLBACK: %v, autocommit %v", err, c.Autocommit())
	}
	if err := c.Release(); err == nil {
		t.Error("released a savepoint that is gone")
	}
}
