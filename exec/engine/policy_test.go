package engine_test

import (
	"errors"
	"testing"

	"github.com/snapdb/snapdb/exec/engine"
)

const policySchema = `
CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT UNIQUE, c REAL DEFAULT 1.5, d AS (b || 'x'), CHECK (a <> -1));
CREATE TABLE child (id INTEGER PRIMARY KEY, a REFERENCES t(a) DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE p (a);
CREATE VIEW v AS SELECT a, b FROM t;
CREATE VIEW roots AS SELECT name, rootpage FROM sqlite_schema;
CREATE VIEW ours AS SELECT * FROM _snapdb_applied;
CREATE TABLE log2 (x);
CREATE TRIGGER tr2 AFTER INSERT ON log2 BEGIN DELETE FROM sqlite_stat1; END;
CREATE TABLE log3 (x);
CREATE TRIGGER tr3 AFTER INSERT ON log3 BEGIN UPDATE _snapdb_applied SET position=0; END;
CREATE VIRTUAL TABLE docs USING fts5(body);
CREATE TABLE _snapdb_applied (position INTEGER PRIMARY KEY, chain TEXT);
CREATE INDEX _snapdb_index ON _snapdb_applied (chain);
INSERT INTO _snapdb_applied VALUES (1, 'x');
INSERT INTO t (a, b) VALUES (1, 'one'), (2, 'two');
ANALYZE;
`

// unsafeSchema is not trusted by SQLite, and makes it refuse ALTER TABLE.
const unsafeSchema = `
CREATE VIEW pages AS SELECT * FROM dbstat;
CREATE TABLE log (x);
CREATE TRIGGER tr AFTER INSERT ON log BEGIN INSERT INTO p SELECT pageno FROM dbstat; END;
`

// What no client may say, whatever it may do otherwise.
var forbidden = []string{
	"ATTACH 'x.db' AS x",
	"ATTACH ':memory:' AS x",
	"DETACH main",
	"VACUUM",
	"  /* c */ vacuum main",
	"VACUUM INTO 'x.db'",
	"SELECT load_extension('x')",
	"SELECT sqlite_offset(a) FROM t",
	"SELECT sqlite_compileoption_get(1)",
	"SELECT sqlite_compileoption_used('X')",
	"SELECT sqlite_log(1, 'x')",
	"SELECT fts5_locale('en', 'x')",
	"CREATE TEMP TABLE x (a)",
	"CREATE TABLE temp.x (a)",
	"CREATE TEMP TABLE x AS SELECT 1",
	"CREATE TEMP VIEW x AS SELECT 1",
	"CREATE TEMP TRIGGER x AFTER INSERT ON t BEGIN SELECT 1; END",
	"CREATE VIRTUAL TABLE temp.x USING fts5(a)",
	"CREATE VIRTUAL TABLE x USING dbstat",
	"CREATE VIRTUAL TABLE x USING nosuch(a)",
	"PRAGMA foreign_keys=OFF",
	"PRAGMA journal_mode=DELETE",
	"PRAGMA journal_mode",
	"PRAGMA synchronous=OFF",
	"PRAGMA main.synchronous=OFF",
	"PRAGMA writable_schema=ON",
	"PRAGMA writable_schema=RESET",
	"PRAGMA trusted_schema=ON",
	"PRAGMA query_only=OFF",
	"PRAGMA recursive_triggers=ON",
	"PRAGMA case_sensitive_like=ON",
	"PRAGMA reverse_unordered_selects=ON",
	"PRAGMA ignore_check_constraints=ON",
	"PRAGMA cache_size=10",
	"PRAGMA threads=4",
	"PRAGMA temp_store=2",
	"PRAGMA wal_checkpoint(TRUNCATE)",
	"PRAGMA wal_autocheckpoint=1",
	"PRAGMA auto_vacuum=1",
	"PRAGMA incremental_vacuum",
	"PRAGMA optimize",
	"PRAGMA analysis_limit=10",
	"PRAGMA schema_version=7",
	"PRAGMA encoding='UTF-16'",
	"PRAGMA page_size=8192",
	"PRAGMA locking_mode=EXCLUSIVE",
	"PRAGMA busy_timeout=1",
	"PRAGMA shrink_memory",
	"PRAGMA nosuchpragma",
	"PRAGMA temp.user_version=5",
	"EXPLAIN PRAGMA foreign_keys=OFF",
	"SELECT * FROM pragma_optimize",
	"SELECT * FROM pragma_busy_timeout",
	"SELECT * FROM _snapdb_applied",
	"SELECT count(*) FROM _SNAPDB_applied",
	"SELECT * FROM ours",
	"SELECT data FROM sqlite_dbpage",
	"SELECT count(*) FROM SQLITE_DBPAGE('main')",
	"SELECT * FROM (SELECT pgno FROM sqlite_dbpage)",
	"CREATE VIRTUAL TABLE x USING sqlite_dbpage",
	"SELECT * FROM temp.sqlite_dbpage",
	"SELECT (SELECT chain FROM _snapdb_applied) FROM t",
	"EXPLAIN SELECT * FROM _snapdb_applied",
	"INSERT INTO _snapdb_applied VALUES (2, 'y')",
	"UPDATE _snapdb_applied SET position=0",
	"DELETE FROM _snapdb_applied",
	"INSERT INTO log3 VALUES (1)",
	"DROP TABLE _snapdb_applied",
	"ALTER TABLE _snapdb_applied ADD COLUMN x",
	"CREATE INDEX x ON _snapdb_applied (chain)",
	"DROP INDEX _snapdb_index",
	"CREATE TRIGGER x AFTER UPDATE ON _snapdb_applied BEGIN SELECT 1; END",
	"CREATE TABLE _snapdb_x (a)",
	"CREATE TABLE \"_SnapDB\" (a)",
	"CREATE TABLE _snapdb_x AS SELECT 1",
	"CREATE VIEW _snapdb_x AS SELECT 1",
	"CREATE INDEX _snapdb_x ON t (c)",
	"CREATE TRIGGER _snapdb_x AFTER INSERT ON t BEGIN SELECT 1; END",
	"CREATE VIRTUAL TABLE _snapdb_x USING fts5(a)",
	"ALTER TABLE p RENAME TO _snapdb_x",
	"ALTER TABLE p RENAME TO [_SNAPDB_x]",
	"SAVEPOINT _snapdb",
	"RELEASE _snapdb",
	"ROLLBACK TO _snapdb",
	"SAVEPOINT \"_Snapdb_x\"",
}

// What a client may not write.
var forbiddenWrites = []string{
	"INSERT INTO p SELECT pageno FROM dbstat",
	"INSERT INTO p SELECT data FROM sqlite_dbpage",
	"INSERT INTO p SELECT rootpage FROM roots",
	"INSERT INTO p SELECT rootpage FROM sqlite_schema",
	"INSERT INTO p SELECT rootpage FROM sqlite_master",
	"UPDATE p SET a = (SELECT max(RootPage) FROM sqlite_schema)",
	"DELETE FROM p WHERE a IN (SELECT pageno FROM dbstat)",
	"INSERT INTO p SELECT page_count FROM pragma_page_count",
	"INSERT INTO p SELECT name FROM pragma_table_info('t')",
	"CREATE TABLE x AS SELECT * FROM dbstat",
	"CREATE TABLE x AS SELECT * FROM sqlite_schema",
	"CREATE TABLE x AS SELECT schema_version FROM pragma_schema_version",
	"INSERT INTO t (a) VALUES (9) RETURNING (SELECT max(pageno) FROM dbstat)",
	"INSERT INTO log2 VALUES (1)",
	"INSERT INTO sqlite_stat1 VALUES ('t', NULL, '9')",
	"UPDATE sqlite_stat1 SET stat='1'",
	"DELETE FROM sqlite_stat4",
}

// SQLite itself refuses these. The first two because it does not trust the schema.
var refusedBySQLite = []string{
	"INSERT INTO p SELECT pageno FROM pages",
	"INSERT INTO log VALUES (1)",
	"UPDATE sqlite_schema SET sql='x'",
	"DELETE FROM sqlite_schema",
	"INSERT INTO docs_data VALUES (1, 'x')",
	"UPDATE sqlite_dbpage SET data='x' WHERE pgno=1",
	"CREATE TABLE sqlite_x (a)",
	"DROP TABLE sqlite_stat1x",
	"CREATE INDEX x ON t (random())",
	"CREATE TABLE x (a, b AS (random()))",
}

var allowedReads = []string{
	"SELECT a, b, d FROM t ORDER BY random()",
	"SELECT * FROM v",
	"SELECT name, rootpage FROM sqlite_schema",
	"SELECT * FROM dbstat",
	"SELECT * FROM sqlite_stat1",
	"SELECT * FROM pragma_table_info('t')",
	"SELECT * FROM pragma_function_list",
	"SELECT m.name, i.name FROM sqlite_schema m, pragma_index_list(m.name) i",
	"SELECT random(), randomblob(3), changes(), total_changes(), last_insert_rowid(), sqlite_version()",
	"SELECT datetime('now', 'localtime'), CURRENT_TIMESTAMP",
	"SELECT json_extract('{\"a\":1}', '$.a'), value FROM json_each('[1,2]')",
	"SELECT sum(a) OVER (ORDER BY b ROWS UNBOUNDED PRECEDING) FROM t",
	"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<5) SELECT * FROM n",
	"SELECT highlight(docs, 0, '<', '>') FROM docs WHERE docs MATCH 'x*' ORDER BY rank",
	"EXPLAIN QUERY PLAN SELECT * FROM t",
	"EXPLAIN INSERT INTO p SELECT pageno FROM dbstat",
	"PRAGMA table_info(t)",
	"PRAGMA main.table_xinfo('t')",
	"PRAGMA table_list",
	"PRAGMA index_list(t)",
	"PRAGMA index_info(sqlite_autoindex_t_1)",
	"PRAGMA index_xinfo(sqlite_autoindex_t_1)",
	"PRAGMA foreign_key_list(child)",
	"PRAGMA foreign_key_check",
	"PRAGMA foreign_key_check(child)",
	"PRAGMA integrity_check",
	"PRAGMA integrity_check(3)",
	"PRAGMA quick_check",
	"PRAGMA database_list",
	"PRAGMA function_list",
	"PRAGMA module_list",
	"PRAGMA pragma_list",
	"PRAGMA collation_list",
	"PRAGMA compile_options",
	"PRAGMA page_count",
	"PRAGMA page_size",
	"PRAGMA freelist_count",
	"PRAGMA encoding",
	"PRAGMA user_version",
	"PRAGMA application_id",
	"PRAGMA data_version",
	"PRAGMA schema_version",
	"PRAGMA foreign_keys",
	"PRAGMA Defer_Foreign_Keys",
}

// Run one after the other in one transaction.
var allowedWrites = []string{
	"PRAGMA user_version=7",
	"PRAGMA application_id=8",
	"PRAGMA defer_foreign_keys=ON",
	"INSERT INTO t (a, b) VALUES (3, 'three') RETURNING a, d",
	"INSERT INTO t (a, b) VALUES (3, 'drei') ON CONFLICT (a) DO UPDATE SET b=excluded.b",
	"REPLACE INTO t (a, b) VALUES (2, 'zwei')",
	"UPDATE t SET c=c+1 FROM p WHERE p.a=t.a",
	"INSERT INTO child VALUES (1, 1)",
	"DELETE FROM child",
	"WITH x AS (SELECT 5 AS n) INSERT INTO p SELECT n FROM x",
	"INSERT INTO p SELECT name FROM sqlite_schema",
	"INSERT INTO p SELECT stat FROM sqlite_stat1",
	"CREATE TABLE n AS SELECT a, b FROM t",
	"CREATE TABLE g (a, b AS (a*2) STORED, c DEFAULT CURRENT_TIMESTAMP, d DEFAULT (random())) ",
	"INSERT INTO g (a) VALUES (4)",
	"ALTER TABLE n RENAME TO m",
	"ALTER TABLE m RENAME COLUMN a TO aa",
	"ALTER TABLE m ADD COLUMN z INTEGER NOT NULL DEFAULT 5 CHECK (z > 0)",
	"ALTER TABLE m ADD COLUMN y REFERENCES t(a)",
	"ALTER TABLE m ADD COLUMN w AS (z+1)",
	"ALTER TABLE m DROP COLUMN w",
	"ALTER TABLE docs RENAME TO documents",
	"CREATE INDEX mi ON m (z) WHERE z > 1",
	"CREATE INDEX me ON m (lower(b), date(b))",
	"CREATE VIEW mv AS SELECT * FROM m",
	"CREATE TRIGGER mt INSTEAD OF INSERT ON mv BEGIN INSERT INTO m (b) VALUES (NEW.b || random()); END",
	"INSERT INTO mv (b) VALUES ('via view')",
	"CREATE VIRTUAL TABLE f USING fts5(title, body, content='', contentless_delete=1)",
	"INSERT INTO f (rowid, title, body) VALUES (1, 'hello', 'world')",
	"INSERT INTO f (f) VALUES ('optimize')",
	"CREATE VIRTUAL TABLE ext USING fts5(b, content='t', content_rowid='a')",
	"INSERT INTO ext (ext) VALUES ('rebuild')",
	"CREATE VIRTUAL TABLE vocab USING fts5vocab(ext, 'row')",
	"CREATE VIRTUAL TABLE r USING rtree(id, x0, x1)",
	"INSERT INTO r VALUES (1, 0, 1)",
	"CREATE VIRTUAL TABLE ri USING rtree_i32(id, x0, x1)",
	"CREATE VIRTUAL TABLE geo USING geopoly(a)",
	"INSERT INTO geo (_shape) VALUES ('[[0,0],[1,0],[1,1],[0,0]]')",
	"ANALYZE",
	"ANALYZE t",
	"ANALYZE v",
	"ANALYZE sqlite_schema",
	"REINDEX",
	"REINDEX m",
	"DROP VIEW mv",
	"DROP INDEX mi",
	"DROP TABLE m",
	"DROP TABLE f",
	"DROP TABLE r",
	"CREATE TABLE auto (id INTEGER PRIMARY KEY AUTOINCREMENT)",
	"INSERT INTO auto DEFAULT VALUES",
	"UPDATE sqlite_sequence SET seq=100 WHERE name='auto'",
	"SAVEPOINT mine",
	"INSERT INTO p VALUES (99)",
	"ROLLBACK TO mine",
	"RELEASE mine",
}

func denied(err error) bool {
	var e *engine.Error
	return errors.As(err, &e) && e.Denied() && errors.Is(err, engine.ErrDenied) && e.Forbidden != "" && !e.Environmental()
}

func TestForbidden(t *testing.T) {
	c := open(t)
	mustExec(t, c, policySchema)
	mustExec(t, c, "BEGIN")
	for _, sql := range forbidden {
		for _, g := range []engine.Guard{engine.GuardRead, engine.GuardWrite} {
			if _, err := run(c, g, sql); !denied(err) {
				t.Errorf("guard %d: %s: %v", g, sql, err)
			}
		}
	}
	for _, sql := range forbiddenWrites {
		if _, err := run(c, engine.GuardWrite, sql); !denied(err) {
			t.Errorf("%s: %v", sql, err)
		}
	}
	for _, sql := range []string{"PRAGMA user_version=5", "PRAGMA defer_foreign_keys=ON", "PRAGMA application_id=5"} {
		if _, err := run(c, engine.GuardRead, sql); !denied(err) {
			t.Errorf("where only reads are allowed: %s: %v", sql, err)
		}
	}
	mustExec(t, c, unsafeSchema)
	for _, sql := range refusedBySQLite {
		if _, err := run(c, engine.GuardWrite, sql); err == nil {
			t.Errorf("%s: no error", sql)
		}
	}
}

func TestDeniedSaysWhy(t *testing.T) {
	c := open(t)
	for sql, want := range map[string]string{
		"ATTACH 'x' AS y":          "ATTACH is not allowed: every database is a replicated file of its own; name the database in the request instead",
		"VACUUM INTO 'y'":          "VACUUM is not allowed: it would rewrite the file of one node beside the replication",
		"PRAGMA Foreign_Keys=OFF":  "PRAGMA foreign_keys is not allowed: connections are shared between clients and set up alike on every node",
		"SELECT Load_Extension(1)": "function load_extension() is not allowed: its result differs between nodes or it reaches outside the database",
	} {
		if _, err := run(c, engine.GuardWrite, sql); err == nil || err.Error() != want {
			t.Errorf("%s: %v", sql, err)
		}
	}
}

func TestAllowed(t *testing.T) {
	c := open(t)
	mustExec(t, c, policySchema)
	mustExec(t, c, "BEGIN; SAVEPOINT _snapdb")
	for _, g := range []engine.Guard{engine.GuardRead, engine.GuardWrite} {
		for _, sql := range allowedReads {
			if _, err := run(c, g, sql); err != nil {
				t.Errorf("guard %d: %s: %v", g, sql, err)
			}
		}
	}
	for _, sql := range allowedWrites {
		if _, err := run(c, engine.GuardWrite, sql); err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
	mustExec(t, c, "RELEASE _snapdb; COMMIT")
	if got := text(t, c, "SELECT group_concat(integrity_check) FROM pragma_integrity_check"); got != "ok" {
		t.Error(got)
	}
	for _, sql := range []string{"BEGIN", "COMMIT", "BEGIN IMMEDIATE", "ROLLBACK", "BEGIN EXCLUSIVE", "END"} {
		if _, err := run(c, engine.GuardWrite, sql); err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
}

// What virtual tables prepare while a statement runs is policed too.
func TestForbiddenWhileRunning(t *testing.T) {
	c := open(t)
	mustExec(t, c, policySchema)
	mustExec(t, c, "BEGIN")
	for _, sql := range []string{
		"CREATE VIRTUAL TABLE stolen USING fts5(chain, content='_snapdb_applied', content_rowid='position')",
		"CREATE VIEW places AS SELECT rootpage, name FROM sqlite_schema",
		"CREATE VIRTUAL TABLE indexed USING fts5(name, content='places', content_rowid='rootpage')",
	} {
		mustRun(t, c, engine.GuardWrite, sql)
	}
	for _, sql := range []string{
		"INSERT INTO stolen (stolen) VALUES ('rebuild')",
		"SELECT * FROM stolen",
		"INSERT INTO indexed (indexed) VALUES ('rebuild')",
	} {
		if _, err := run(c, engine.GuardWrite, sql); !denied(err) {
			t.Errorf("%s: %v", sql, err)
		}
	}
	mustRun(t, c, engine.GuardRead, "SELECT * FROM indexed")
}

// A statement that SQLite compiles anew because the schema changed after Prepare is
// judged by the new schema.
func TestForbiddenAfterSchemaChange(t *testing.T) {
	c := open(t)
	mustExec(t, c, "CREATE TABLE p (a); CREATE VIEW x AS SELECT 1 AS n")
	st, _, err := c.Prepare("INSERT INTO p SELECT n FROM x", 0, engine.GuardWrite)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	mustExec(t, c, "DROP VIEW x; CREATE VIEW x AS SELECT rootpage AS n FROM sqlite_schema")
	if _, err := st.Step(); !denied(err) {
		t.Errorf("got %v", err)
	}
}

// Trusted files have no guards, and can be compacted.
func TestTrusted(t *testing.T) {
	dir := t.TempDir()
	c := openAt(t, dir+"/a.db", engine.Options{Trusted: true})
	mustExec(t, c, "CREATE TABLE t (a); INSERT INTO t VALUES (1)")
	mustRun(t, c, engine.GuardRead, "VACUUM INTO ?", textValue(dir+"/b.db"))
	b := openAt(t, dir+"/b.db", engine.Options{ReadOnly: true})
	if got := text(t, b, "SELECT a FROM t"); got != "1" {
		t.Error(got)
	}
	// Without trust not even snapdb's own SQL can.
	if err := open(t).Exec("VACUUM INTO '" + dir + "/c.db'"); err == nil {
		t.Error("VACUUM INTO ran")
	}
}
