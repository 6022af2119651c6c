package exec_test

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// playground has something of everything whose result could differ between
// nodes. A user whose n is 666 to 668 makes a trigger raise an error.
var playground = []string{
	`CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT UNIQUE, n INTEGER, r INTEGER DEFAULT (random()), at TEXT DEFAULT CURRENT_TIMESTAMP,
	  s AS (n * 2) STORED, v AS (name || '?'), CHECK (n < 1000))`,
	`CREATE INDEX users_n ON users (n, v)`,
	`CREATE TABLE log (what, at DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now', 'localtime')), r DEFAULT (hex(randomblob(4))))`,
	`CREATE TRIGGER users_changed AFTER UPDATE ON users BEGIN
	  SELECT CASE NEW.n WHEN 666 THEN RAISE(ROLLBACK, 'six six six') WHEN 667 THEN RAISE(ABORT, 'abort') WHEN 668 THEN RAISE(FAIL, 'fail') END;
	  INSERT INTO log (what) VALUES (OLD.id || ' ' || changes() || ' ' || last_insert_rowid() || ' ' || random()); END`,
	`CREATE TABLE parent (id INTEGER PRIMARY KEY)`,
	`CREATE TABLE kid (id INTEGER PRIMARY KEY AUTOINCREMENT, p REFERENCES parent ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED)`,
	`CREATE TABLE pairs (a TEXT COLLATE NOCASE, b, c DEFAULT (total_changes()), PRIMARY KEY (a, b DESC)) WITHOUT ROWID`,
	`CREATE TABLE loose (x, y)`,
	`CREATE VIRTUAL TABLE docs USING fts5(title, body)`,
	`CREATE VIRTUAL TABLE boxes USING rtree(id, x0, x1, y0, y1)`,
	`CREATE VIEW named AS SELECT id, name, random() AS r, datetime('now') AS t FROM users`,
	`CREATE TRIGGER named_in INSTEAD OF INSERT ON named BEGIN INSERT INTO users (name, n) VALUES (NEW.name, abs(random()) % 50); END`,
}

// shapes are statements with places for drawn values: %n a small number, %w a
// word, %v any value. Each is given with arguments or as literal text.
var shapes = []string{
	`INSERT INTO users (id, name, n) VALUES (%n, %w, %n)`,
	`INSERT INTO users (name, n) VALUES (%w || random(), %n) RETURNING id, r, at, s, v`,
	`INSERT INTO users (id, name, n) VALUES (%n, %w, %n) ON CONFLICT (id) DO UPDATE SET n = n + 1, r = random(), at = datetime('now') RETURNING *`,
	`INSERT OR REPLACE INTO users (id, name, n) VALUES (%n, %w, %n)`,
	`INSERT OR ROLLBACK INTO users (id, name, n) VALUES (%n, %w, %n), (%n, %w, %n)`,
	`INSERT OR FAIL INTO users (id, name, n) VALUES (%n + 100, %w || %n, 1), (%n, %w, %n), (%n, %w, %n)`,
	`INSERT OR IGNORE INTO users (id, name, n) VALUES (%n, %w, %n), (%n, %w, %n)`,
	`INSERT INTO users (id, n) SELECT id + 1000 + %n, n FROM users ORDER BY random() LIMIT 3`,
	`UPDATE users SET n = 660 + %n WHERE id = %n`,
	`UPDATE OR FAIL users SET n = n + 1, name = name || %w WHERE id >= %n`,
	`UPDATE users SET r = random() WHERE id IN (SELECT id FROM users ORDER BY random() LIMIT 2)`,
	`DELETE FROM users WHERE id IN (SELECT id FROM users ORDER BY random() LIMIT 1) RETURNING id, name, random()`,
	`DELETE FROM users WHERE n = %n`,
	`INSERT INTO named (name) VALUES (%w || %n)`,
	`INSERT INTO log (what) SELECT r || t FROM named WHERE id < %n + 10`,
	`INSERT INTO log (what) VALUES (last_insert_rowid() || ' ' || changes() || ' ' || total_changes())`,
	`INSERT INTO parent VALUES (%n)`,
	`INSERT INTO kid (p) VALUES (%n)`,
	`INSERT INTO kid (p) SELECT id FROM parent`,
	`DELETE FROM parent WHERE id = %n`,
	`PRAGMA defer_foreign_keys = ON`,
	`INSERT INTO pairs (a, b) VALUES (%w, %v)`,
	`INSERT OR REPLACE INTO pairs (a, b) VALUES (%w, %n), (upper(%w), %n)`,
	`DELETE FROM pairs WHERE a = %w`,
	`INSERT INTO loose VALUES (%v, %v)`,
	`INSERT INTO loose SELECT id, randomblob(3) FROM users WHERE random() % 2`,
	`DELETE FROM loose`,
	`INSERT INTO docs (title, body) VALUES (%w, %w || ' ' || %w || ' ' || hex(randomblob(3)))`,
	`INSERT INTO docs (rowid, title) VALUES (%n, %w)`,
	`INSERT INTO docs SELECT what, at FROM log`,
	`UPDATE docs SET body = body || ' more' WHERE docs MATCH %w`,
	`DELETE FROM docs WHERE docs MATCH %w`,
	`INSERT INTO docs (docs, rank) VALUES ('merge', %n + 1)`,
	`INSERT INTO docs (docs) VALUES ('optimize')`,
	`INSERT INTO boxes VALUES (%n, %n, %n + 20, %n, %n + 20)`,
	`INSERT INTO boxes SELECT id, abs(r) % 100, abs(r) % 100 + 1, 0, 1 FROM users WHERE id BETWEEN 30 AND 200`,
	`DELETE FROM boxes WHERE x0 < %n`,
	`CREATE TABLE IF NOT EXISTS made AS SELECT random() AS r, datetime('now') AS t, name FROM users ORDER BY random() LIMIT 5`,
	`DROP TABLE IF EXISTS made`,
	`ALTER TABLE loose ADD COLUMN z DEFAULT 7`,
	`ALTER TABLE loose DROP COLUMN z`,
	`ALTER TABLE made RENAME TO loose2`,
	`CREATE INDEX IF NOT EXISTS loose_y ON loose (y)`,
	`DROP INDEX IF EXISTS loose_y`,
	`ANALYZE`,
	`ANALYZE users`,
	`REINDEX`,
	`PRAGMA user_version = %n`,
	`INSERT INTO loose (x) SELECT name FROM users WHERE n = %n AND v > %w`, // its order depends on the plan
	`SELECT n, r FROM users WHERE n > %n`,
	`INSERT INTO loose (nothing) VALUES (1)`,
	`INSERT INTO loose VALUES (9223372036854775807, abs(-9223372036854775808))`,
	`INSERT INTO loose (rowid, x) VALUES (9223372036854775807, %v)`,
	`CREATE TABLE twins AS SELECT 1 AS a, 2 AS a, 3 AS a, 4 AS a, 5 AS a, 6 AS a, 7 AS a`,
	`SAVEPOINT s`,
	`RELEASE s`,
	`ROLLBACK TO s`,
}

func anyValue() *rapid.Generator[subjects.Value] {
	return rapid.OneOf(
		rapid.Just(subjects.Value{}),
		rapid.Map(rapid.Int64(), subjects.IntegerValue),
		rapid.Map(rapid.Float64(), subjects.RealValue),
		rapid.SampledFrom([]subjects.Value{
			subjects.RealValue(math.Inf(1)), subjects.RealValue(math.Inf(-1)), subjects.RealValue(math.Copysign(0, -1)), subjects.RealValue(5),
			subjects.IntegerValue(math.MinInt64), subjects.IntegerValue(5), subjects.TextValue("5"), subjects.TextValue("\xff\x00a"), subjects.BlobValue(nil),
		}),
		rapid.Map(rapid.String(), subjects.TextValue),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 40), subjects.BlobValue),
	)
}

// literal writes a value as SQL. Text that SQL text cannot hold becomes a blob.
func literal(v subjects.Value) string {
	switch v.Kind() {
	case subjects.Integer:
		if v.Int() == math.MinInt64 {
			return "(-9223372036854775807 - 1)"
		}
		return fmt.Sprint(v.Int())
	case subjects.Real:
		if math.IsInf(v.Float(), 0) {
			return fmt.Sprintf("%+.0fe999", math.Copysign(9, v.Float()))
		}
		return fmt.Sprintf("%.17e", v.Float())
	case subjects.Text, subjects.Blob:
		return fmt.Sprintf("x'%x'", v.Bytes())
	}
	return "NULL"
}

// drawStatement fills a shape. With arguments allowed, values are those.
func drawStatement(t *rapid.T, arguments bool) subjects.Stmt {
	var out strings.Builder
	var st subjects.Stmt
	rest := rapid.SampledFrom(shapes).Draw(t, "shape")
	for {
		before, after, found := strings.Cut(rest, "%")
		out.WriteString(before)
		if !found {
			break
		}
		var v subjects.Value
		switch after[0] {
		case 'n':
			v = subjects.IntegerValue(int64(rapid.IntRange(0, 12).Draw(t, "n")))
		case 'w':
			v = subjects.TextValue(rapid.SampledFrom([]string{"ant", "bee", "cat", "Bee"}).Draw(t, "w"))
		case 'v':
			v = anyValue().Draw(t, "v")
		default: // a percent sign of SQL
			out.WriteByte('%')
			rest = after
			continue
		}
		rest = after[1:]
		switch {
		case arguments:
			st.Args = append(st.Args, v)
			out.WriteByte('?')
		case after[0] == 'w':
			fmt.Fprintf(&out, "'%s'", v.Bytes())
		default:
			out.WriteString(literal(v))
		}
	}
	st.SQL = out.String()
	return st
}

// drawRequest draws a transaction: a statement with arguments, a script, several
// statements, or an interactive transaction.
func drawRequest(t *rapid.T) request {
	var r request
	switch rapid.IntRange(0, 5).Draw(t, "kind") {
	case 0, 1:
		r.stmts = []subjects.Stmt{drawStatement(t, true)}
	case 2:
		var script []string
		for range rapid.IntRange(1, 3).Draw(t, "statements") {
			script = append(script, drawStatement(t, false).SQL)
		}
		r.stmts = []subjects.Stmt{{SQL: strings.Join(script, "; ")}}
	case 3:
		for range rapid.IntRange(1, 3).Draw(t, "statements") {
			r.stmts = append(r.stmts, drawStatement(t, rapid.Bool().Draw(t, "arguments")))
		}
		r.id = rapid.StringMatching("[a-z]{12}").Draw(t, "id")
	default:
		r.interactive = true
		for range rapid.IntRange(2, 7).Draw(t, "statements") {
			r.stmts = append(r.stmts, drawStatement(t, rapid.Bool().Draw(t, "arguments")))
		}
		r.rollback = rapid.IntRange(0, 4).Draw(t, "rollback") == 0
		r.counters = subjects.Counters{RowID: rapid.Int64().Draw(t, "rowid"), Changes: 3, Total: 1000}
	}
	return r
}

// Whatever clients do, every node ends with the same content, however the log is
// batched and whoever was restarted or read meanwhile.
func TestEveryNodeHoldsTheSame(t *testing.T) {
	t.Parallel()
	accepted, refused := 0, map[subjects.Code]int{}
	rapid.Check(t, func(t *rapid.T) {
		h := newHistory(t)
		master := newMaster(t, h)
		together, alone, behind := newSlave(t), newSlave(t), newSlave(t)
		h.command(master, "CREATE DATABASE d")
		h.mustWrite(master, "d", playground...)
		for range rapid.IntRange(1, 16).Draw(t, "groups") {
			var reqs []request
			for range rapid.IntRange(1, 10).Draw(t, "requests") {
				reqs = append(reqs, drawRequest(t))
			}
			for i, o := range h.group(master, "d", reqs...) {
				if o.err == nil {
					accepted++
					continue
				}
				code := exec.WireError(o.err).Code
				refused[code]++
				switch code {
				case subjects.CodeConstraint, subjects.CodeSyntax, subjects.CodeBadRequest, subjects.CodeDenied:
				default:
					t.Fatalf("%+v: %s %v", reqs[i], code, o.err)
				}
			}
			switch rapid.IntRange(0, 5).Draw(t, "meanwhile") {
			case 0:
				master.close()
				master.reopen()
			case 1:
				alone.close()
				alone.reopen()
			case 2:
				h.replay(behind, rapid.IntRange(1, 4).Draw(t, "batch"))
				behind.rows("d", "SELECT random(), count(*), datetime('now') FROM users, log")
			case 3:
				behind.close()
				behind.reopen()
			}
			h.replay(alone, 1)
		}
		h.replay(together, 1000)
		h.replay(behind, rapid.IntRange(1, 10).Draw(t, "batch"))
		same(t, master, together, alone, behind)
		want := image(t, master.file("d"))
		for _, n := range []*node{together, alone, behind} {
			if got := image(t, n.file("d")); !bytes.Equal(want, got) {
				t.Fatalf("the images differ at byte %d", firstDifference(want, got))
			}
		}
	})
	t.Logf("%d accepted, refused: %v", accepted, refused)
}

func firstDifference(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}
