package exec_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/exec/engine"
	"github.com/snapdb/snapdb/subjects"
)

// cluster is a master with one database d, and a slave.
func cluster(t tb, setup ...string) (h *history, master, slave *node) {
	t.Helper()
	h = newHistory(t)
	master, slave = newMaster(t, h), newSlave(t)
	h.command(master, "CREATE DATABASE d")
	h.mustWrite(master, "d", setup...)
	return h, master, slave
}

// codes are the codes of the errors of a group, "" where there is none.
func codes(outcomes []outcome) []subjects.Code {
	all := make([]subjects.Code, len(outcomes))
	for i, o := range outcomes {
		if o.err != nil {
			all[i] = exec.WireError(o.err).Code
		}
	}
	return all
}

const (
	maxRowID = "INSERT INTO t (rowid, a) VALUES (9223372036854775807, 'max')"
	twins    = "CREATE TABLE twins AS SELECT 1 AS a, 2 AS a, 3 AS a, 4 AS a, 5 AS a, 6 AS a, 7 AS a"
)

// SQLite would choose at random what follows: rowids, or column names.
func TestWhatWouldBecomeRandomFails(t *testing.T) {
	h, master, slave := cluster(t, "CREATE TABLE t (a); CREATE VIRTUAL TABLE f USING fts5(x); CREATE VIRTUAL TABLE r USING rtree(id, x0, x1)")
	got := codes(h.group(master, "d",
		text("INSERT INTO t VALUES ('before')"), text(maxRowID), text(twins),
		text("INSERT INTO t VALUES (1); UPDATE t SET rowid = 9223372036854775807 WHERE a = 1"),
		text("INSERT INTO f (rowid, x) VALUES (9223372036854775807, 'x')"), text("INSERT INTO r VALUES (9223372036854775807, 0, 1)"),
		text("INSERT INTO t VALUES ('after')")))
	constraint, denied := subjects.CodeConstraint, subjects.CodeDenied
	if diff := cmp.Diff([]subjects.Code{"", constraint, denied, constraint, constraint, constraint, ""}, got); diff != "" {
		t.Error(diff)
	}
	o := h.group(master, "d", interactive("INSERT INTO t VALUES ('one')", maxRowID, twins, "INSERT INTO t VALUES ('two')"))[0]
	for i, bad := range []bool{false, true, true, false} {
		if (o.errs[i] != nil) != bad {
			t.Errorf("statement %d: %v", i, o.errs[i])
		}
	}
	if got := master.query("d", "SELECT group_concat(a || rowid) FROM t"); o.err != nil || got != "before1,after2,one3,two4" {
		t.Errorf("content %s, %v", got, o.err)
	}
	h.replay(slave, 10)
	same(t, master, slave)
}

// Statement errors that roll back SQLite's whole transaction hurt nobody else in
// the group, whose results stay what their clients were told.
func TestLostGroupIsReplayed(t *testing.T) {
	h, master, slave := cluster(t,
		"CREATE TABLE t (id INTEGER PRIMARY KEY, r DEFAULT (random()), at DEFAULT (strftime('%f', 'now')), c DEFAULT (total_changes()))",
		"CREATE TRIGGER six BEFORE INSERT ON t WHEN NEW.id = 6 BEGIN SELECT RAISE(ROLLBACK, 'six'); END",
		"CREATE TABLE counted (id INTEGER PRIMARY KEY AUTOINCREMENT); INSERT INTO counted DEFAULT VALUES; UPDATE sqlite_sequence SET seq = 9223372036854775807")
	returning := " RETURNING id, r, at, c"
	d := master.database("d")
	g, err := d.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer g.Rollback()
	var told []outcome
	accept := func(r request) {
		t.Helper()
		o := h.run(d, g, r)
		if o.err != nil {
			t.Fatal(o.err)
		}
		told = append(told, o)
	}
	refuse := func(r request, code subjects.Code) {
		t.Helper()
		n := g.Len()
		wantCode(t, r.stmts[0].SQL, h.run(d, g, r).err, code)
		if g.Len() != n {
			t.Errorf("%d transactions in the group, %d before", g.Len(), n)
		}
	}
	refuse(text("INSERT INTO t (id) VALUES (6)"), subjects.CodeConstraint) // nothing to replay
	accept(text("INSERT INTO t (id) VALUES (1), (2)" + returning))
	refuse(text("INSERT OR ROLLBACK INTO t (id) VALUES (3), (1)"), subjects.CodeConstraint)
	accept(interactive("INSERT INTO t (id) VALUES (10)"+returning, "INSERT INTO t (id) VALUES (10)", "INSERT INTO t (id) VALUES (11)"+returning))
	refuse(text("INSERT INTO t (id) VALUES (4); INSERT INTO t (id) VALUES (5), (6)"), subjects.CodeConstraint)
	refuse(interactive("INSERT INTO t (id) VALUES (20)", "UPDATE OR ROLLBACK t SET id = 1"), subjects.CodeConstraint)
	refuse(text("INSERT INTO counted DEFAULT VALUES"), subjects.CodeUnavailable) // "full", says SQLite
	accept(text("INSERT INTO t (id) VALUES (30)" + returning))
	h.commit(d, g)

	var want [][]subjects.Value
	for _, o := range told {
		for _, r := range o.results {
			want = append(want, r.Rows...)
		}
	}
	if diff := cmp.Diff(want, master.rows("d", "SELECT id, r, at, c FROM t ORDER BY id")); diff != "" {
		t.Errorf("clients were told something else: %s", diff)
	}
	h.replay(slave, 1)
	same(t, master, slave)
}

// A time limit that interrupts a write takes SQLite's transaction with it, and
// only the client whose limit it was loses.
func TestInterruptedWriteHurtsOnlyItsClient(t *testing.T) {
	h, master, slave := cluster(t, "CREATE TABLE t (a, r DEFAULT (random()))")
	d := master.database("d")
	g, err := d.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer g.Rollback()
	first := h.run(d, g, text("INSERT INTO t (a) VALUES (1) RETURNING r"))
	tx, err := g.Open(subjects.Txn{Now: 1, Seed: 2})
	if err != nil {
		t.Fatal(err)
	}
	d.Writer().SetDeadline(time.Now().Add(20 * time.Millisecond))
	var out subjects.Results
	growing := "INSERT INTO t (a) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n) SELECT i FROM n"
	wantCode(t, "time limit", tx.RunAll([]subjects.Stmt{{SQL: growing}}, &out), subjects.CodeTimeout)
	if !tx.Lost() {
		t.Error("the transaction is still there: this test tests nothing")
	}
	if err := tx.Abort(); err != nil {
		t.Fatal(err)
	}
	if o := h.run(d, g, text("INSERT INTO t (a) VALUES (2)")); o.err != nil {
		t.Error(o.err)
	}
	h.commit(d, g)
	if diff := cmp.Diff(first.results[0].Rows[0], master.rows("d", "SELECT r FROM t WHERE a = 1")[0]); diff != "" {
		t.Error(diff)
	}
	h.replay(slave, 1)
	same(t, master, slave)
}

// SQLite checks deferred foreign keys at COMMIT, which is the group's.
func TestDeferredForeignKeysFailTheirTransaction(t *testing.T) {
	h, master, slave := cluster(t, `CREATE TABLE parent (id INTEGER PRIMARY KEY);
		CREATE TABLE kid (p REFERENCES parent DEFERRABLE INITIALLY DEFERRED); CREATE TABLE strict (p REFERENCES parent)`)
	constraint := subjects.CodeConstraint
	got := codes(h.group(master, "d",
		text("INSERT INTO parent VALUES (1)"),
		text("INSERT INTO kid VALUES (7)"),
		text("INSERT INTO kid VALUES (8); INSERT INTO parent VALUES (8)"),
		interactive("INSERT INTO kid VALUES (9)", "SELECT 1"),
		text("PRAGMA defer_foreign_keys = ON; INSERT INTO strict VALUES (2); INSERT INTO parent VALUES (2)"),
		text("INSERT INTO strict VALUES (3); INSERT INTO parent VALUES (3)"), // not deferred any more
		text("PRAGMA defer_foreign_keys = ON; INSERT INTO strict VALUES (4)"),
		text("INSERT INTO kid VALUES (1)")))
	if diff := cmp.Diff([]subjects.Code{"", constraint, "", constraint, "", constraint, constraint, ""}, got); diff != "" {
		t.Error(diff)
	}
	h.replay(slave, 1)
	same(t, master, slave)
}

// A statement that fails inside a transaction leaves nothing behind, even where
// SQLite alone would keep its first rows, and the transaction goes on.
func TestFailedStatementLeavesNothing(t *testing.T) {
	h, master, slave := cluster(t, "CREATE TABLE t (id INTEGER PRIMARY KEY, c DEFAULT (changes() || ' ' || last_insert_rowid()))",
		"INSERT INTO t (id) VALUES (1)")
	o := h.group(master, "d", interactive(
		"INSERT INTO t (id) VALUES (10)",
		"INSERT OR FAIL INTO t (id) VALUES (2), (3), (1), (4)",
		"SAVEPOINT s", "INSERT INTO t (id) VALUES (20), (21)", "INSERT INTO nowhere VALUES (1)", "ROLLBACK TO s",
		"INSERT INTO t (id) VALUES (30)", "RELEASE s", "RELEASE s", "SELECT count(*) FROM t"))[0]
	if o.err != nil {
		t.Fatal(o.err)
	}
	for i, err := range o.errs {
		if want := i == 1 || i == 4 || i == 8; (err != nil) != want {
			t.Errorf("statement %d: %v", i, err)
		}
	}
	if n := o.results[len(o.results)-1].Rows[0][0].Int(); n != 3 {
		t.Errorf("the transaction sees %d rows", n)
	}
	if got := master.query("d", "SELECT group_concat(id || ':' || c) FROM t"); got != "1:0 0,10:0 0,30:2 21" {
		t.Errorf("content %s", got)
	}
	h.replay(slave, 1)
	same(t, master, slave)
}

// What a session sees in its counters comes with the request and goes on.
func TestCountersOfASession(t *testing.T) {
	h, master, slave := cluster(t, "CREATE TABLE t (id INTEGER PRIMARY KEY, c)", "CREATE VIRTUAL TABLE f USING fts5(x)")
	r := text("INSERT INTO f VALUES ('something to flush')")
	r2 := text("INSERT INTO t (c) VALUES (last_insert_rowid() || ' ' || changes() || ' ' || total_changes()) RETURNING c")
	r2.counters = subjects.Counters{RowID: 77, Changes: 5, Total: 123}
	os := h.group(master, "d", r, r2, text(r2.stmts[0].SQL))
	if got := string(os[1].results[0].Rows[0][0].Bytes()); got != "77 5 123" {
		t.Errorf("a session that brings its counters sees %s", got)
	}
	if got := string(os[2].results[0].Rows[0][0].Bytes()); got != "0 0 0" {
		t.Errorf("a new session sees %s", got)
	}
	h.replay(slave, 10)
	same(t, master, slave)
}

// FTS5 writes its index when a savepoint ends: what that gives must not depend on
// how transactions were batched, nor on those that failed between.
func TestFullTextIndexIsTheSameInEveryBatch(t *testing.T) {
	h, master, slave := cluster(t, "CREATE VIRTUAL TABLE f USING fts5(x, prefix='2'); CREATE TABLE u (a UNIQUE); INSERT INTO u VALUES (1)")
	batched := newSlave(t)
	var reqs []request
	for i := range 60 {
		reqs = append(reqs, text(fmt.Sprintf("INSERT INTO f VALUES ('word%d of %d')", i%7, i)))
		switch i % 10 {
		case 3:
			reqs = append(reqs, text("INSERT INTO f VALUES ('never'); INSERT INTO u VALUES (1)"))
		case 6:
			reqs = append(reqs, text("DELETE FROM f WHERE f MATCH 'word3'"), text("INSERT OR ROLLBACK INTO u VALUES (1)"))
		case 9:
			reqs = append(reqs, interactive("INSERT INTO f VALUES ('inside')", "INSERT INTO u VALUES (1)", "SAVEPOINT s", "UPDATE f SET x = 'gone'", "ROLLBACK TO s", "INSERT INTO f (f) VALUES ('optimize')"))
		}
	}
	for len(reqs) > 0 {
		n := min(len(reqs), 1+len(reqs)%13)
		h.group(master, "d", reqs[:n]...)
		reqs = reqs[n:]
	}
	h.replay(slave, 1)
	h.replay(batched, 1000)
	same(t, master, slave, batched)
}

// The answer to a repeated request is the first one, on every node that has the
// transaction, whoever becomes master.
func TestRepeatedRequestGetsTheFirstAnswer(t *testing.T) {
	h, master, slave := cluster(t, "CREATE TABLE t (id INTEGER PRIMARY KEY, r DEFAULT (random()))", "INSERT INTO t (id) VALUES (1)")
	r := text("INSERT INTO t (id) VALUES (2); SELECT id, r, random() FROM t ORDER BY id; UPDATE t SET id = id WHERE id = 99")
	r.id = "request-1"
	first := h.group(master, "d", text("INSERT INTO t (id) VALUES (50)"), r)[1]
	if first.err != nil {
		t.Fatal(first.err)
	}
	at := uint64(len(h.msgs))
	h.replay(slave, 10)
	repeat := func(n *node, g *exec.Group) (uint64, bool, []subjects.Result) {
		t.Helper()
		tx, err := g.Open(subjects.Txn{Now: h.now + 1000, Seed: 5, ID: r.id})
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Abort()
		var out subjects.Results
		position, found, err := tx.Done(&out)
		if err != nil {
			t.Fatal(err)
		}
		return position, found, decode(t, &out)
	}
	for name, n := range map[string]*node{"master": master, "slave": slave} {
		g, err := n.database("d").Begin()
		if err != nil {
			t.Fatal(err)
		}
		position, found, again := repeat(n, g)
		if diff := cmp.Diff(first.results, again); !found || position != at || diff != "" {
			t.Errorf("%s: found %v at %d: %s", name, found, position, diff)
		}
		if err := g.Rollback(); err != nil {
			t.Fatal(err)
		}
	}

	// The clock may be set: that is no reason to forget it. After an hour of writes
	// it is forgotten; in the group that carries it, an id has no position yet.
	d := master.database("d")
	g, err := d.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer g.Rollback()
	for i := range 61 {
		if i == 10 {
			h.now -= int64(24 * time.Hour / time.Millisecond)
		}
		if _, found, _ := repeat(master, g); !found {
			t.Fatalf("forgotten after %d jumps of the clock", i)
		}
		other := text("INSERT INTO t DEFAULT VALUES")
		other.id = fmt.Sprint("other-", i)
		if o := h.run(d, g, other); o.err != nil {
			t.Fatal(o.err)
		}
	}
	next := text("INSERT INTO t DEFAULT VALUES")
	next.id = "request-2"
	if o := h.run(d, g, next); o.err != nil {
		t.Fatal(o.err)
	}
	if _, found, _ := repeat(master, g); found {
		t.Error("remembered for ever")
	}
	r.id = next.id
	if position, found, _ := repeat(master, g); !found || position != 0 {
		t.Errorf("in the same group: found %v at %d", found, position)
	}
	h.commit(d, g)
	h.replay(slave, 1)
	same(t, master, slave)
}

// A file of before what was asked was kept with an answer still repeats answers.
func TestRepeatedRequestInAnOlderFile(t *testing.T) {
	h, master, _ := cluster(t, "CREATE TABLE t (a)")
	r := text("INSERT INTO t VALUES (1)")
	r.id = "old"
	h.group(master, "d", r)
	path := filepath.Join(master.dir, "d.db")
	master.close()
	c, err := engine.Open(path, engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.Exec("ALTER TABLE _snapdb_requests DROP COLUMN request"), c.Close()); err != nil {
		t.Fatal(err)
	}
	master.reopen()
	for _, id := range []string{"old", "new"} {
		g, err := master.database("d").Begin()
		if err != nil {
			t.Fatal(err)
		}
		tx, err := g.Open(subjects.Txn{Now: h.now, ID: id, Request: 9})
		if err != nil {
			t.Fatal(err)
		}
		if _, found, err := tx.Done(new(subjects.Results)); found != (id == "old") || err != nil {
			t.Errorf("%s: found %v, %v", id, found, err)
		}
		if err := errors.Join(tx.Abort(), g.Rollback()); err != nil {
			t.Error(err)
		}
	}
}

// An answer that is too large to be kept comes back without its rows, and says so.
func TestRepeatedRequestSaysThatItsRowsAreNotKept(t *testing.T) {
	h, master, slave := cluster(t, "CREATE TABLE t (id INTEGER PRIMARY KEY, b)")
	many := request{id: "many"}
	for range 20_000 {
		many.stmts = append(many.stmts, subjects.Stmt{SQL: "INSERT INTO t DEFAULT VALUES"})
	}
	large := text("INSERT INTO t VALUES (1, hex(zeroblob(600000))); SELECT * FROM t; SELECT 1 AS one WHERE 0")
	large.id = "large"
	for _, o := range h.group(master, "d", large, many) {
		if o.err != nil {
			t.Fatal(o.err)
		}
	}
	h.replay(slave, 10)
	for name, n := range map[string]*node{"master": master, "slave": slave} {
		g, err := n.database("d").Begin()
		if err != nil {
			t.Fatal(err)
		}
		defer g.Rollback()
		repeat := func(id string) []subjects.Result {
			tx, err := g.Open(subjects.Txn{Now: h.now, Seed: 5, ID: id})
			if err != nil {
				t.Fatal(err)
			}
			defer tx.Abort()
			var out subjects.Results
			if _, found, err := tx.Done(&out); !found || err != nil {
				t.Fatalf("%s: found %v, %v", name, found, err)
			}
			return decode(t, &out)
		}
		r := repeat("large")
		if len(r) != 3 || r[0].Truncated || r[0].Changes != 1 || !r[1].Truncated || len(r[1].Rows) != 0 || len(r[1].Columns) != 2 || r[2].Truncated {
			t.Errorf("%s: %+v", name, r)
		}
		if r := repeat("many"); len(r) == 0 || len(r) == len(many.stmts) || r[0].Truncated || !r[len(r)-1].Truncated {
			t.Errorf("%s: %d results, the last %+v", name, len(r), r[len(r)-1])
		}
	}
}

// Requests without effect are not logged.
func TestReadsAreNotLogged(t *testing.T) {
	h, master, _ := cluster(t, "CREATE TABLE t (a)")
	d := master.database("d")
	g, err := d.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer g.Rollback()
	withID := text("SELECT 1")
	withID.id = "read"
	for _, r := range []request{text("SELECT * FROM t"), interactive("SELECT 1", "SAVEPOINT s", "SELECT 2", "RELEASE s"), withID} {
		if o := h.run(d, g, r); o.err != nil || g.Len() != 0 {
			t.Errorf("%v: %d transactions, %v", r.stmts, g.Len(), o.err)
		}
	}
}

// Requests that a group refuses before they run, and scripts that say BEGIN and
// COMMIT around what is one transaction anyway.
func TestWhatARequestMayBe(t *testing.T) {
	h, master, slave := cluster(t, "CREATE TABLE t (a, b)")
	one, two := subjects.IntegerValue(1), subjects.IntegerValue(2)
	for sql, want := range map[string]struct {
		args []subjects.Value
		code subjects.Code
	}{
		"INSERT INTO t VALUES (?, ?)":                          {[]subjects.Value{one, two}, ""},
		"INSERT INTO t VALUES (?, 1); DELETE FROM t WHERE a=?": {[]subjects.Value{one, two}, ""},
		"BEGIN; INSERT INTO t VALUES (1, 1); COMMIT;":          {nil, ""},
		"BEGIN IMMEDIATE; INSERT INTO t VALUES (1, 2); END":    {nil, ""},
		"INSERT INTO t VALUES (?, ?) ":                         {[]subjects.Value{one}, subjects.CodeBadRequest},
		"INSERT INTO t VALUES (?, 3)":                          {[]subjects.Value{one, two}, subjects.CodeBadRequest},
		"":                                                     {nil, subjects.CodeBadRequest},
		" -- nothing":                                          {nil, subjects.CodeBadRequest},
		"INSERT INTO t VALUES (1, 2); BEGIN":                   {nil, subjects.CodeTransaction},
		"BEGIN; BEGIN":                                         {nil, subjects.CodeTransaction},
		"BEGIN; COMMIT; INSERT INTO t VALUES (5, 5)":           {nil, subjects.CodeTransaction},
		"INSERT INTO t VALUES (1, 2); ROLLBACK":                {nil, subjects.CodeTransaction},
		"INSERT INTO t VALUES (1, 2); SELEKT":                  {nil, subjects.CodeSyntax},
		"INSERT INTO nowhere VALUES (1)":                       {nil, subjects.CodeSyntax},
		"ATTACH 'x' AS y":                                      {nil, subjects.CodeDenied},
		"VACUUM":                                               {nil, subjects.CodeDenied},
		"PRAGMA foreign_keys = OFF":                            {nil, subjects.CodeDenied},
		"DELETE FROM _snapdb_applied":                          {nil, subjects.CodeDenied},
		"SELECT * FROM _snapdb_applied":                        {nil, subjects.CodeDenied},
		"SAVEPOINT _snapdb":                                    {nil, subjects.CodeDenied},
		"INSERT INTO t VALUES (1, '\x00')":                     {nil, subjects.CodeBadRequest},
		"INSERT INTO t VALUES (1, '\xff')":                     {nil, subjects.CodeBadRequest},
		"INSERT INTO t VALUES (1, zeroblob(100000000))":        {nil, subjects.CodeTooBig},
	} {
		o := h.group(master, "d", text(sql, want.args...))[0]
		if got := codes([]outcome{o})[0]; got != want.code {
			t.Errorf("%q: %v, want code %q", sql, o.err, want.code)
		}
	}
	// The error names the statement, counted over the whole request.
	o := h.group(master, "d", request{stmts: []subjects.Stmt{{SQL: "SELECT 1; SELECT 2"}, {SQL: "SELECT 3;\nSELEKT 4"}}})[0]
	if we := exec.WireError(o.err); we.Statement != 4 || !strings.Contains(we.Message, "SELEKT") {
		t.Errorf("%+v", we)
	}
	o = h.group(master, "d", text("INSERT INTO t VALUES (1, 2); -- then\n SHOW TABLES; SELECT 1"))[0]
	if we := exec.WireError(o.err); we.Code != subjects.CodeSyntax || we.Statement != 2 || we.Message != "SHOW TABLES must come before all other statements of its request, or in a request of its own" {
		t.Errorf("%+v", we)
	}
	h.replay(slave, 1)
	same(t, master, slave)
}

// A group whose commit is not wanted leaves nothing, and the next one starts clean.
func TestRolledBackGroupLeavesNothing(t *testing.T) {
	h, master, slave := cluster(t, "CREATE TABLE t (a)")
	before := master.checksum("d")
	d := master.database("d")
	g, err := d.Begin()
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{"INSERT INTO t VALUES (1)", "CREATE TABLE u (a); ANALYZE"} {
		if o := h.run(d, g, text(sql)); o.err != nil {
			t.Fatal(o.err)
		}
	}
	if _, err := g.Seal(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(g.Rollback(), g.Rollback()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, master.checksum("d")); diff != "" {
		t.Error(diff)
	}
	h.mustWrite(master, "d", "INSERT INTO t VALUES (2)")
	h.replay(slave, 1)
	same(t, master, slave)
}

// What the log holds is what clients see, and nobody else's.
func TestSnapshotSeesCommittedGroupsOnly(t *testing.T) {
	h, master, _ := cluster(t, "CREATE TABLE t (a)")
	d := master.database("d")
	g, err := d.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer g.Rollback()
	if o := h.run(d, g, text("INSERT INTO t VALUES (1)")); o.err != nil {
		t.Fatal(o.err)
	}
	if got := master.query("d", "SELECT count(*) FROM t"); got != "0" {
		t.Errorf("%s rows before the commit", got)
	}
	h.commit(d, g)
	if got := master.query("d", "SELECT count(*) FROM t"); got != "1" {
		t.Errorf("%s rows after it", got)
	}
	s := master.read("d")
	defer s.Close()
	if s.Position() != d.Applied() {
		t.Errorf("a snapshot at %v, applied %v", s.Position(), d.Applied())
	}
	var out subjects.Results
	if _, err := s.ReadAll([]subjects.Stmt{{SQL: "DELETE FROM t"}}, &out, exec.PageBytes); !errors.Is(err, exec.ErrWrites) {
		wantCode(t, "a write through a snapshot", err, subjects.CodeReadOnly)
	}
}
