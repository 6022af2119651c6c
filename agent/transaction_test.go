package agent_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/snapdb/snapdb/agent"
	"github.com/snapdb/snapdb/subjects"
)

func TestTransaction(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{}, "s1")
	c.do("", "CREATE DATABASE a")
	c.do("a", "CREATE TABLE t (x INTEGER PRIMARY KEY, y)")
	s := c.session("a")
	head := func() uint64 { return c.m.Store().Heads()["a"].Position }

	t.Run("reads its own writes and nobody else does", func(t *testing.T) {
		before := head()
		s.do("BEGIN")
		s.do("INSERT INTO t VALUES (1, random())")
		s.do("UPDATE t SET y = 'mine'")
		if got := show(s.do("SELECT x, y FROM t").Results); got != `1 "mine"` {
			t.Errorf("inside: %s", got)
		}
		if got := c.rows("a", "SELECT count(*) FROM t"); got != "0" {
			t.Errorf("outside: %s", got)
		}
		if head() != before {
			t.Error("something was replicated before COMMIT")
		}
		resp := s.do("COMMIT")
		if resp.Position != before+1 || strings.Join(resp.Applied, " ") != "s1" {
			t.Errorf("%+v", resp)
		}
		c.same()
	})
	t.Run("savepoints", func(t *testing.T) {
		for _, sql := range []string{"BEGIN", "SAVEPOINT p", "INSERT INTO t VALUES (2, 2)", "SAVEPOINT q", "INSERT INTO t VALUES (3, 3)", "ROLLBACK TO q", "RELEASE p", "COMMIT"} {
			s.do(sql)
		}
		if got := c.rows("a", "SELECT x FROM t"); got != "1; 2" {
			t.Errorf("rows %s", got)
		}
		s.do("BEGIN")
		s.fails(subjects.CodeSyntax, "RELEASE nothing")
		s.do("ROLLBACK")
		c.same()
	})
	t.Run("rollback", func(t *testing.T) {
		before := head()
		s.do("BEGIN; DELETE FROM t")
		s.do("ROLLBACK")
		if got := c.rows("a", "SELECT x FROM t"); got != "1; 2" || head() != before {
			t.Errorf("rows %s", got)
		}
	})
	t.Run("a failed statement leaves nothing and the transaction goes on", func(t *testing.T) {
		s.do("BEGIN")
		s.do("INSERT INTO t VALUES (4, 4)")
		s.fails(subjects.CodeConstraint, "INSERT OR FAIL INTO t VALUES (5, 5), (4, 4), (6, 6)")
		s.fails(subjects.CodeSyntax, "INSERT INTO nowhere VALUES (1)")
		s.do("INSERT INTO t VALUES (7, last_insert_rowid())")
		s.do("COMMIT")
		if got := c.rows("a", "SELECT x FROM t"); got != "1; 2; 4; 7" {
			t.Errorf("rows %s", got)
		}
		c.same()
	})
	t.Run("misplaced", func(t *testing.T) {
		s.fails(subjects.CodeTransaction, "COMMIT")
		s.fails(subjects.CodeTransaction, "ROLLBACK")
		c.fails(subjects.CodeTransaction, subjects.Request{DB: "a", SQL: "BEGIN"})
		s.do("BEGIN")
		s.fails(subjects.CodeTransaction, "BEGIN")
		s.fails(subjects.CodeTransaction, "CREATE DATABASE b")
		s.fails(subjects.CodeTransaction, "DROP DATABASE a")
		s.fails(subjects.CodeTransaction, "USE a")
		if !s.InTx() {
			t.Error("the transaction is over")
		}
		s.do("ROLLBACK")
		s.fails(subjects.CodeNoSuchDatabase, "USE nowhere")
		c.session("").fails(subjects.CodeNoDatabase, "BEGIN")
	})
	t.Run("a snapshot that is no longer the newest cannot write", func(t *testing.T) {
		s.do("BEGIN")
		s.do("SELECT count(*) FROM t")
		c.do("a", "INSERT INTO t VALUES (100, 1)")
		if got := show(s.do("SELECT count(*) FROM t WHERE x = 100").Results); got != "0" {
			t.Errorf("the snapshot shows %s", got)
		}
		s.fails(subjects.CodeBusy, "INSERT INTO t VALUES (101, 1)")
		s.fails(subjects.CodeTransaction, "COMMIT")
		s.do("BEGIN")
		s.do("SELECT count(*) FROM t")
		s.do("INSERT INTO t VALUES (101, 1)")
		s.do("COMMIT")
		c.same()
	})
	t.Run("RAISE(ROLLBACK) ends it", func(t *testing.T) {
		c.do("a", "CREATE TRIGGER no BEFORE INSERT ON t WHEN NEW.x = 666 BEGIN SELECT RAISE(ROLLBACK, 'not that'); END")
		s.do("BEGIN")
		s.do("INSERT INTO t VALUES (200, 1)")
		if msg := s.fails(subjects.CodeConstraint, "INSERT INTO t VALUES (666, 1)"); !strings.Contains(msg, "rolled back") {
			t.Errorf("message %q", msg)
		}
		s.fails(subjects.CodeTransaction, "COMMIT")
		if got := c.rows("a", "SELECT count(*) FROM t WHERE x = 200"); got != "0" {
			t.Errorf("%s rows", got)
		}
		c.same()
	})
	t.Run("deferred foreign keys are checked at COMMIT", func(t *testing.T) {
		c.do("a", "CREATE TABLE child (x REFERENCES t DEFERRABLE INITIALLY DEFERRED)")
		s.do("BEGIN")
		s.do("INSERT INTO child VALUES (300)")
		s.do("INSERT INTO t VALUES (300, 1)")
		s.do("COMMIT")
		s.do("BEGIN")
		s.do("INSERT INTO child VALUES (301)")
		s.fails(subjects.CodeConstraint, "COMMIT")
		if s.InTx() {
			t.Error("the session thinks that its transaction goes on")
		}
		if got := c.rows("a", "SELECT x FROM child"); got != "300" {
			t.Errorf("rows %s", got)
		}
		c.same()
	})
	t.Run("read-only doors", func(t *testing.T) {
		resp, err := c.c.Query(testContext(t), &subjects.Request{DB: "a", Session: "reader", SQL: "BEGIN; SELECT 1"})
		if err != nil || resp.Session == nil || !resp.Session.Tx {
			t.Fatalf("%+v, %v", resp, err)
		}
		resp, err = c.c.Query(testContext(t), &subjects.Request{DB: "a", Session: "reader", SQL: "INSERT INTO t VALUES (400, 1)"})
		wantCode(t, "write", resp, err, subjects.CodeReadOnly)
		if _, err := c.c.Query(testContext(t), &subjects.Request{DB: "a", Session: "reader", SQL: "COMMIT"}); err != nil {
			t.Error(err)
		}
		resp, err = c.c.Query(testContext(t), &subjects.Request{DB: "a", Session: "reader", SQL: "BEGIN IMMEDIATE; INSERT INTO t VALUES (400, 1); COMMIT"})
		wantCode(t, "BEGIN IMMEDIATE", resp, err, subjects.CodeReadOnly)
	})
	t.Run("a read-only door to a transaction that writes", func(t *testing.T) {
		s.do("BEGIN")
		s.do("INSERT INTO t VALUES (450, 1)")
		for _, sql := range []string{"INSERT INTO t VALUES (451, 1)", "COMMIT"} {
			resp, err := c.c.Query(testContext(t), &subjects.Request{DB: "a", Session: s.ID(), SQL: sql})
			wantCode(t, sql, resp, err, subjects.CodeReadOnly)
		}
		s.do("ROLLBACK")
		if got := c.rows("a", "SELECT count(*) FROM t WHERE x BETWEEN 400 AND 451"); got != "0" {
			t.Errorf("%s rows written", got)
		}
	})
	t.Run("arguments are dealt out over all statements, as outside", func(t *testing.T) {
		ints := func(n ...int64) (args []subjects.Value) {
			for _, v := range n {
				args = append(args, subjects.IntegerValue(v))
			}
			return args
		}
		const two = "INSERT INTO t VALUES (?, ?); INSERT INTO t VALUES (?, ?)"
		for _, begin := range []string{"", "BEGIN", "BEGIN IMMEDIATE"} {
			c.do("a", "DELETE FROM t WHERE x BETWEEN 600 AND 699")
			ask := func(sql string, args []subjects.Value) (*subjects.Response, error) {
				return s.Do(testContext(t), &subjects.Request{SQL: sql, Args: args})
			}
			if begin != "" {
				s.do(begin)
			}
			for what, tc := range map[string]struct {
				sql       string
				args      []subjects.Value
				statement int
			}{"too few": {two, ints(600, 1, 601), 2}, "too many": {two, ints(602, 1, 603, 1, 7), 2}, "for a command": {"SHOW TABLES", ints(1), 1}} {
				resp, err := ask(tc.sql, tc.args)
				wantCode(t, begin+" "+what, resp, err, subjects.CodeBadRequest)
				if resp == nil || resp.Error == nil || resp.Error.Statement != tc.statement {
					t.Errorf("%s %s: %+v", begin, what, resp)
				}
			}
			if resp, err := ask(two+"; SELECT ?", ints(610, 1, 611, 2, 3)); err != nil || show(resp.Results[2:]) != "3" {
				t.Errorf("%s: %+v, %v", begin, resp, err)
			}
			if begin != "" {
				s.do("COMMIT")
			}
			if got := c.rows("a", "SELECT y FROM t WHERE x BETWEEN 610 AND 611"); got != "1; 2" {
				t.Errorf("%s: rows %s", begin, got)
			}
		}
	})
	t.Run("acknowledged as asked for", func(t *testing.T) {
		s.do("BEGIN")
		s.do("INSERT INTO t VALUES (500, 1)")
		resp, err := s.Do(testContext(t), &subjects.Request{SQL: "COMMIT", Ack: subjects.Ack{Kind: subjects.AckCount, Count: 7}})
		if msg := wantCode(t, "COMMIT", resp, err, subjects.CodeBadRequest); !strings.Contains(msg, "ask for fewer") || !strings.Contains(msg, "the transaction was rolled back") {
			t.Errorf("message %q", msg)
		}
		if got := c.rows("a", "SELECT count(*) FROM t WHERE x = 500"); got != "0" || s.InTx() {
			t.Errorf("%s rows, in a transaction: %v", got, s.InTx())
		}
		// The rule named last, in BEGIN or later, is that of a COMMIT without one.
		seven := subjects.Ack{Kind: subjects.AckCount, Count: 7}
		for _, rules := range [][2]subjects.Ack{{seven, {}}, {{Kind: subjects.AckLog}, seven}, {seven, {Kind: subjects.AckLog}}} {
			for i, sql := range []string{"BEGIN", "INSERT INTO t VALUES (501, 1)"} {
				if _, err := s.Do(testContext(t), &subjects.Request{SQL: sql, Ack: rules[i]}); err != nil {
					t.Fatal(err)
				}
			}
			resp, err := s.try("COMMIT")
			if rules[1].Kind == subjects.AckLog {
				if err != nil {
					t.Error(err)
				}
				continue
			}
			wantCode(t, "COMMIT", resp, err, subjects.CodeBadRequest)
		}
		s.do("INSERT INTO t VALUES (502, 1)") // is no part of them
	})
}

// While a transaction is open, others wait for the writer, and not for ever: who
// keeps it without using it loses it, sooner when others wait.
func TestTransactionLimits(t *testing.T) {
	t.Parallel()
	var o agent.MasterOptions
	o.Impatient(1500*time.Millisecond, 100*time.Millisecond, 2500*time.Millisecond, time.Second)
	c := newCluster(t, o, "s1")
	c.do("", "CREATE DATABASE a")
	c.do("a", "CREATE TABLE t (x)")

	t.Run("idle while others wait", func(t *testing.T) {
		s := c.session("a")
		s.do("BEGIN IMMEDIATE")
		s.do("INSERT INTO t VALUES ('lost')")
		c.do("a", "INSERT INTO t VALUES (1)")
		if msg := s.fails(subjects.CodeTransaction, "INSERT INTO t VALUES ('lost too')"); !strings.Contains(msg, "did nothing for 100ms") {
			t.Errorf("message %q", msg)
		}
		if s.InTx() {
			t.Error("the session thinks that its transaction goes on")
		}
	})
	for i, first := range []string{"INSERT INTO t VALUES ('lost')", "SELECT 1"} {
		idle, long := fmt.Sprintf("idle%d", i), fmt.Sprintf("long%d", i) // where nobody else waits
		for _, db := range []string{idle, long} {
			c.do("", "CREATE DATABASE "+db)
			c.do(db, "CREATE TABLE t (x)")
		}
		t.Run("idle after "+first, func(t *testing.T) {
			t.Parallel()
			s := c.session(idle)
			s.do("BEGIN")
			s.do(first)
			until(t, "expired", func() bool { return c.m.Expired(s.ID()) }) // looking is no use of it
			msg := s.fails(subjects.CodeTransaction, "COMMIT")
			if !strings.Contains(msg, "did nothing for 1.5s") {
				t.Errorf("message %q", msg)
			}
		})
		t.Run("too long after "+first, func(t *testing.T) {
			t.Parallel()
			s := c.session(long)
			s.do("BEGIN")
			s.do(first)
			var err error
			until(t, "ended", func() bool {
				_, err = s.try("SELECT count(*) FROM t")
				return err != nil
			})
			if msg := wantCode(t, "read", nil, err, subjects.CodeTransaction); !strings.Contains(msg, "longer than 2.5s") {
				t.Errorf("message %q", msg)
			}
		})
	}
}

// A statement of a transaction cannot run longer than the transaction may.
func TestTransactionLimitBoundsStatements(t *testing.T) {
	t.Parallel()
	var o agent.MasterOptions
	o.Impatient(time.Second, time.Second, 300*time.Millisecond, time.Second)
	c := newCluster(t, o)
	c.do("", "CREATE DATABASE a")
	c.do("a", "CREATE TABLE t (x)")
	s := c.session("a")
	s.do("BEGIN IMMEDIATE")
	resp, err := s.Do(testContext(t), &subjects.Request{SQL: endlessWrite, TimeoutMS: 300_000})
	wantCode(t, "endless", resp, err, subjects.CodeTimeout)
	c.do("a", "INSERT INTO t VALUES (1)")
}

// Sessions of many clients at once, some of which fail, roll back or vanish: what
// was committed is there, once, and nothing else.
func TestTransactionsOfMany(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{}, "s1", "s2")
	c.do("", "CREATE DATABASE a")
	c.do("a", "CREATE TABLE t (x INTEGER PRIMARY KEY, who)")
	var clients []*pending
	for i := range 8 {
		clients = append(clients, start(t, func() (*subjects.Response, error) {
			s := c.session("a")
			for j := range 5 {
				n := i*100 + j*10
				// A transaction that begins with a write has read nothing that others
				// could make stale.
				for _, sql := range []string{[...]string{"BEGIN IMMEDIATE", "BEGIN"}[i%2], fmt.Sprintf("INSERT INTO t VALUES (%d, 'a')", n), fmt.Sprintf("INSERT INTO t VALUES (%d, 'b')", n+1), [...]string{"COMMIT", "ROLLBACK"}[j%2]} {
					if _, err := s.try(sql); err != nil {
						return nil, fmt.Errorf("%s: %w", sql, err)
					}
				}
				if _, err := c.try(subjects.Request{DB: "a", SQL: fmt.Sprintf("INSERT INTO t VALUES (%d, 'c')", n+2)}); err != nil {
					return nil, err
				}
			}
			return nil, nil
		}))
	}
	for _, p := range clients {
		if _, err := p.wait(); err != nil {
			t.Error(err)
		}
	}
	if got := c.rows("a", "SELECT who, count(*) FROM t GROUP BY 1"); got != `"a" 24; "b" 24; "c" 40` {
		t.Errorf("rows %s", got)
	}
}

// A master that stops does not wait for clients that have left something open.
func TestMasterStopsOverOpenSessions(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{})
	c.do("", "CREATE DATABASE a")
	c.do("a", "CREATE TABLE t (x)")
	reading, writing := c.session("a"), c.session("a")
	reading.do("BEGIN; SELECT * FROM t")
	writing.do("BEGIN IMMEDIATE")
	writing.do("INSERT INTO t VALUES (1)")
	waiting := c.start(subjects.Request{DB: "a", SQL: "INSERT INTO t VALUES (2)"})
	until(t, "one waits", func() bool { return c.m.Waiting("a") == 1 })
	endlessRead := c.start(subjects.Request{DB: "a", SQL: endless, TimeoutMS: 300_000})
	c.stopMaster()
	for _, p := range []*pending{waiting, endlessRead} {
		if resp, err := p.wait(); err == nil {
			t.Errorf("answered %+v", resp)
		}
	}
	c.startMaster()
	if got := c.rows("a", "SELECT count(*) FROM t"); got != "0" {
		t.Errorf("%s rows", got)
	}
}

// Transactions that only keep their snapshots make room for those who want to read.
func TestIdleSnapshotsMakeRoomForReaders(t *testing.T) {
	t.Parallel()
	var o agent.MasterOptions
	o.Impatient(time.Hour, 100*time.Millisecond, time.Hour, time.Second)
	c := newCluster(t, o)
	c.do("", "CREATE DATABASE a")
	idle := make([]session, 16)
	for i := range idle {
		idle[i] = c.session("a")
		idle[i].do("BEGIN")
		idle[i].do("SELECT 1")
	}
	c.rows("a", "SELECT 2")
	for _, s := range idle {
		if c.m.Expired(s.ID()) {
			if msg := s.fails(subjects.CodeTransaction, "COMMIT"); !strings.Contains(msg, "while others waited to read") {
				t.Errorf("message %q", msg)
			}
			return
		}
	}
	t.Error("the read did not need any of the idle transactions' connections")
}
