package exec_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/exec/engine"
	"github.com/snapdb/snapdb/subjects"
)

// varied has a table of every kind.
var varied = []string{
	`CREATE TABLE plain (a, b)`,
	`CREATE TABLE keyed (id INTEGER PRIMARY KEY, r REAL, t TEXT UNIQUE)`,
	`CREATE TABLE "odd "" name" ("a ""b" TEXT PRIMARY KEY COLLATE NOCASE, "select", c) WITHOUT ROWID`,
	`CREATE TABLE down (a, b TEXT, c, PRIMARY KEY (b COLLATE NOCASE DESC, a)) WITHOUT ROWID; CREATE INDEX down_a ON down (a, c)`,
	`CREATE TABLE taken (rowid, _rowid_, oid)`,
	`CREATE TABLE half (rowid, "OID" TEXT)`,
	`CREATE TABLE made (a, s AS (a || '!') STORED, v AS (a || '?'))`,
	`CREATE TABLE auto (id INTEGER PRIMARY KEY AUTOINCREMENT, x)`,
	`CREATE TABLE strict (a INT, b ANY) STRICT`,
	`CREATE VIEW shown AS SELECT a FROM plain; CREATE VIEW broken AS SELECT * FROM gone`,
	`CREATE TRIGGER tr AFTER DELETE ON plain BEGIN DELETE FROM half; END`,
	`CREATE VIRTUAL TABLE docs USING fts5(title, body); CREATE VIRTUAL TABLE boxes USING rtree(id, x0, x1)`,
	`INSERT INTO plain VALUES (1, 'one'), (2.5, x'00ff'), (NULL, ''), ('5', 5), (x'35', 5.0), (9007199254740993, -9223372036854775808)`,
	`INSERT INTO keyed VALUES (-1, 1, 'a'), (5, 1e308, 'b')`,
	`INSERT INTO "odd "" name" VALUES ('k', 1, 2), ('J', 3, 4)`,
	`INSERT INTO down VALUES (1, 'x', 7), (1, 'Y', 3), (2, 'x', 1), (0, 'X', 9)`,
	`INSERT INTO taken VALUES (3, 2, 1), (1, 2, 3); INSERT INTO half VALUES (9, 'o'); INSERT INTO strict VALUES (1, 1.5)`,
	`INSERT INTO made (a) VALUES ('m'), ('n'); INSERT INTO auto (x) VALUES (1), (2); DELETE FROM auto WHERE id = 2`,
	`INSERT INTO docs VALUES ('first', 'some words here'); INSERT INTO boxes VALUES (1, 0, 10), (2, 5, 7)`,
	`PRAGMA user_version = 3; PRAGMA application_id = 4`,
}

func TestChecksumSeesEveryDifference(t *testing.T) {
	h := newHistory(t)
	n := newMaster(t, h)
	h.command(n, "CREATE DATABASE d")
	h.mustWrite(n, "d", varied...)
	seen := map[exec.Sum]string{n.checksum("d").Sum: "the beginning"}
	for _, sql := range []string{
		`UPDATE plain SET b = 'One' WHERE a = 1`,
		`UPDATE plain SET b = '1' WHERE a = 1`,
		`UPDATE plain SET b = 1 WHERE a = 1`,
		`UPDATE plain SET b = 1.0 WHERE a = 1`,
		`UPDATE plain SET b = x'31' WHERE a = 1`,
		`UPDATE plain SET b = '' WHERE a = 1`,
		`UPDATE plain SET b = x'' WHERE a = 1`,
		`UPDATE plain SET b = NULL WHERE a = 1`,
		`UPDATE plain SET b = 0.0 WHERE a = 1`,
		`UPDATE plain SET b = CAST(x'ff' AS TEXT) WHERE a = 1`,
		`UPDATE plain SET b = CAST(x'fe' AS TEXT) WHERE a = 1`,
		`UPDATE plain SET b = CAST(x'610062' AS TEXT) WHERE a = 1`,
		`UPDATE plain SET b = CAST(x'610063' AS TEXT) WHERE a = 1`,
		`UPDATE plain SET b = 9007199254740993 WHERE a = 1`,
		`UPDATE plain SET b = 9007199254740992 WHERE a = 1`,
		`UPDATE plain SET b = 9e999 WHERE a = 1`,
		`UPDATE plain SET b = -9e999 WHERE a = 1`,
		`UPDATE plain SET a = b, b = a WHERE a = 2.5`,
		`UPDATE plain SET a = 'ab', b = 'c' WHERE a = 1`,
		`UPDATE plain SET a = 'a', b = 'bc' WHERE a = 'ab'`,
		`UPDATE plain SET rowid = 100 WHERE rowid = 1`,
		`INSERT INTO plain VALUES (NULL, NULL)`,
		`UPDATE keyed SET r = 1e307 WHERE id = 5`,
		`UPDATE keyed SET id = 6 WHERE id = 5`,
		`UPDATE "odd "" name" SET "a ""b" = 'K' WHERE c = 2`,
		`UPDATE down SET c = 8 WHERE c = 7`,
		`UPDATE taken SET rowid = 4 WHERE oid = 3`,
		`UPDATE half SET _rowid_ = 77`,
		`UPDATE made SET a = 'z' WHERE a = 'm'`,
		`INSERT INTO auto VALUES (50, 1); DELETE FROM auto WHERE id = 50`, // the counter alone
		`UPDATE strict SET b = 'x'`,
		`INSERT INTO docs (rowid, title) VALUES (9, 'second')`,
		`UPDATE boxes SET x1 = 8 WHERE id = 2`,
		`CREATE INDEX plain_a ON plain (a)`,
		`DROP VIEW shown`,
		`CREATE VIEW shown AS SELECT b FROM plain`,
		`DROP TRIGGER tr`,
		`ALTER TABLE half ADD COLUMN extra`,
		`DROP VIEW broken; ALTER TABLE half RENAME COLUMN extra TO other`,
		`ALTER TABLE half RENAME TO quarter`,
		`CREATE TABLE empty (x)`,
		`CREATE TABLE empty2 (x)`,
		`DROP TABLE empty`,
		`PRAGMA user_version = 5`,
		`PRAGMA application_id = 5`,
	} {
		h.mustWrite(n, "d", sql)
		sum := n.checksum("d").Sum
		if before, ok := seen[sum]; ok {
			t.Errorf("the checksum after %s is that after %s", sql, before)
		}
		seen[sum] = sql
	}
}

func TestChecksumIgnoresWhatIsNotContent(t *testing.T) {
	h := newHistory(t)
	n := newMaster(t, h)
	h.command(n, "CREATE DATABASE d")
	h.mustWrite(n, "d", varied...)
	want := n.checksum("d")
	unchanged := func(what string) {
		t.Helper()
		got := n.checksum("d")
		got.Position = want.Position
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
	}
	h.mustWrite(n, "d", "INSERT INTO keyed VALUES (77, 7, NULL)", "DELETE FROM keyed WHERE id = 77")
	unchanged("a row that came and went")
	h.mustWrite(n, "d", "ANALYZE")
	unchanged("planner statistics")
	r := text("UPDATE plain SET a = a")
	r.id = "once"
	if o := h.group(n, "d", r)[0]; o.err != nil {
		t.Fatal(o.err)
	}
	unchanged("a remembered request")
	n.close()
	n.reopen()
	unchanged("a restart")

	// Another file with the same content: other pages, other root pages.
	image := filepath.Join(tempDir(t), "image.db")
	vacuumInto(t, n.file("d"), image)
	n.close()
	if err := os.Rename(image, n.file("d")); err != nil {
		t.Fatal(err)
	}
	n.reopen()
	unchanged("VACUUM INTO")
}

// A checksum is of its snapshot, however old it has become.
func TestChecksumIsOfOnePosition(t *testing.T) {
	h := newHistory(t)
	n := newMaster(t, h)
	h.command(n, "CREATE DATABASE d")
	h.mustWrite(n, "d", varied...)
	before := n.checksum("d")
	s := n.read("d")
	defer s.Close()
	h.mustWrite(n, "d", "DELETE FROM plain", "DROP TABLE down; CREATE TABLE another (x)")
	got, err := s.Checksum(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, got); diff != "" {
		t.Error(diff)
	}
	if now := n.checksum("d"); now.Sum == got.Sum || now.Position.Number != uint64(len(h.msgs)) {
		t.Errorf("now at %v with the old checksum", now.Position)
	}
}

func TestChecksumIsInterrupted(t *testing.T) {
	h := newHistory(t)
	n := newMaster(t, h)
	h.command(n, "CREATE DATABASE d")
	h.mustWrite(n, "d", "CREATE TABLE t AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 300000) SELECT i, 'row ' || i FROM n")
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	s := n.read("d")
	_, err := s.Checksum(ctx)
	s.Close()
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("after the end of its context: %v", err)
	}
	wantCode(t, "interrupted", err, subjects.CodeTimeout)
	if sum := n.checksum("d"); sum.Rows != 300000 {
		t.Errorf("%d rows", sum.Rows)
	}
}

func TestShowChecksum(t *testing.T) {
	h := newHistory(t)
	n := newMaster(t, h)
	h.command(n, "CREATE DATABASE d")
	h.mustWrite(n, "d", "CREATE TABLE b (x); CREATE TABLE a (x)", "INSERT INTO a VALUES (1), (2); INSERT INTO b VALUES (1)")
	cmd, _, err := exec.ParseCommand("SHOW CHECKSUM;")
	if err != nil || cmd.Verb != exec.ShowChecksum {
		t.Fatalf("%+v, %v", cmd, err)
	}
	s := n.read("d")
	defer s.Close()
	var out subjects.Results
	if err := s.Show(context.Background(), cmd, &out); err != nil {
		t.Fatal(err)
	}
	r := decode(t, &out)[0]
	sum := n.checksum("d")
	want := [][]subjects.Value{
		{subjects.TextValue("a"), subjects.IntegerValue(2), subjects.TextValue(sum.Tables[0].Sum.String())},
		{subjects.TextValue("b"), subjects.IntegerValue(1), subjects.TextValue(sum.Tables[1].Sum.String())},
		{{}, subjects.IntegerValue(3), subjects.TextValue(sum.Sum.String())},
	}
	if diff := cmp.Diff(want, r.Rows); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"table", "rows", "checksum"}, r.Columns); diff != "" {
		t.Error(diff)
	}
}

// vacuumInto writes the canonical image of a database file.
func vacuumInto(t tb, from, to string) {
	t.Helper()
	c, err := engine.Open(from, engine.Options{ReadOnly: true, Trusted: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Exec("VACUUM INTO '" + to + "'"); err != nil {
		t.Fatal(err)
	}
}

// image is the canonical image of a database file, without its schema cookie,
// which counts how often the schema was changed.
func image(t tb, path string) []byte {
	t.Helper()
	to := filepath.Join(tempDir(t), "image.db")
	vacuumInto(t, path, to)
	data, err := os.ReadFile(to)
	if err != nil {
		t.Fatal(err)
	}
	clear(data[40:44])
	return data
}

// A database that is closed does not wait for a read that yields.
func TestYieldingReadDoesNotHoldCloseUp(t *testing.T) {
	h := newHistory(t)
	n := newMaster(t, h)
	h.command(n, "CREATE DATABASE d")
	h.mustWrite(n, "d", "CREATE TABLE t (x)", "WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < 1000) INSERT INTO t SELECT n FROM i")
	s := n.read("d")
	s.Yield()
	resting, goOn := make(chan struct{}), make(chan struct{})
	read := make(chan error)
	go func() {
		var once sync.Once
		_, err := s.ChecksumGently(t.Context(), func() { once.Do(func() { close(resting); <-goOn }) })
		s.Close()
		read <- err
	}()
	<-resting
	closed := make(chan error)
	d := n.database("d")
	go func() { closed <- d.Close(t.Context()) }() // which never ends
	for {
		other, err := d.Read(t.Context(), time.Time{}, subjects.Counters{})
		if errors.Is(err, exec.ErrClosed) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		other.Close()
	}
	close(goOn)
	if err := <-read; err == nil {
		t.Error("the read went on")
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}
