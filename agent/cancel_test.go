package agent_test

import (
	"strings"
	"testing"

	"github.com/snapdb/snapdb/agent"
	"github.com/snapdb/snapdb/subjects"
)

// endless only ends when it is interrupted.
const (
	endless      = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c) SELECT count(*) FROM c"
	endlessWrite = "INSERT INTO t WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c) SELECT count(*) FROM c"
)

func TestCancel(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{}, "s1")
	c.do("", "CREATE DATABASE a")
	c.do("a", "CREATE TABLE t (x INTEGER PRIMARY KEY)")

	t.Run("read", func(t *testing.T) {
		s := c.session("a")
		resp, err := c.cancelled(s, s.start(endless))
		wantCode(t, "read", resp, err, subjects.CodeCancelled)
		s.do("SELECT 1")
	})
	t.Run("read on a slave", func(t *testing.T) {
		s := c.session("a")
		if err := s.SetNode("s1"); err != nil {
			t.Fatal(err)
		}
		resp, err := c.cancelled(s, s.start(endless))
		wantCode(t, "read", resp, err, subjects.CodeCancelled)
		s.do("SELECT 1")
	})
	t.Run("running write", func(t *testing.T) {
		s := c.session("a")
		resp, err := c.cancelled(s, s.start(endlessWrite))
		if msg := wantCode(t, "write", resp, err, subjects.CodeCancelled); !strings.Contains(msg, "nothing was changed") {
			t.Errorf("message %q", msg)
		}
		if got := c.rows("a", "SELECT count(*) FROM t"); got != "0" {
			t.Errorf("%s rows", got)
		}
	})
	t.Run("waiting write", func(t *testing.T) {
		holder, s := c.session("a"), c.session("a")
		holder.do("BEGIN IMMEDIATE")
		resp, err := c.cancelled(s, s.start("INSERT INTO t VALUES (1)"))
		wantCode(t, "write", resp, err, subjects.CodeCancelled)
		resp, err = c.cancelled(s, s.start("BEGIN IMMEDIATE"))
		wantCode(t, "begin", resp, err, subjects.CodeCancelled)
		holder.do("ROLLBACK")
		if got := c.rows("a", "SELECT count(*) FROM t"); got != "0" {
			t.Errorf("%s rows", got)
		}
	})
	t.Run("in a transaction", func(t *testing.T) {
		s := c.session("a")
		s.do("BEGIN")
		s.do("INSERT INTO t VALUES (10)")
		resp, err := c.cancelled(s, s.start(endless))
		wantCode(t, "read", resp, err, subjects.CodeCancelled)
		if !s.InTx() {
			t.Fatal("a cancelled read has ended the transaction")
		}
		s.do("COMMIT")
		s.do("BEGIN")
		s.do("DELETE FROM t")
		resp, err = c.cancelled(s, s.start(endlessWrite))
		msg := wantCode(t, "write", resp, err, subjects.CodeCancelled)
		if ended := strings.Contains(msg, "rolled back"); ended == s.InTx() {
			t.Errorf("message %q, and the session is in a transaction: %v", msg, s.InTx())
		}
		if s.InTx() { // it was cancelled before it began
			s.do("ROLLBACK")
		}
		if got := c.rows("a", "SELECT x FROM t"); got != "10" {
			t.Errorf("rows %s", got)
		}
	})
}

// Those who are in the same group as a cancelled write get what they asked for.
func TestCancelHurtsNobodyElse(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{}, "s1")
	c.do("", "CREATE DATABASE a")
	c.do("a", "CREATE TABLE t (x INTEGER PRIMARY KEY)")
	c.do("a", "INSERT INTO t VALUES (0)")
	holder, victim := c.session("a"), c.session("a")
	holder.do("BEGIN IMMEDIATE")
	var others []*pending
	insert := func(n int64) {
		others = append(others, c.start(subjects.Request{DB: "a", SQL: "INSERT INTO t VALUES (?)", Args: []subjects.Value{subjects.IntegerValue(n)}}))
	}
	for n := range int64(20) {
		insert(n + 1)
	}
	waiting := func(n int) func() bool { return func() bool { return c.m.Waiting("a") == n } }
	until(t, "20 wait", waiting(20))
	failing := c.start(subjects.Request{DB: "a", SQL: "INSERT INTO t VALUES (0)"})
	until(t, "21 wait", waiting(21))
	long := victim.start(endlessWrite)
	until(t, "22 wait", waiting(22))
	for n := range int64(20) {
		insert(n + 101)
	}
	until(t, "42 wait", waiting(42))
	holder.do("COMMIT")
	resp, err := failing.wait() // answered when it has failed; the endless one is next
	wantCode(t, "insert", resp, err, subjects.CodeConstraint)
	resp, err = c.cancelled(victim, long)
	wantCode(t, "endless", resp, err, subjects.CodeCancelled)
	for _, p := range others {
		if _, err := p.wait(); err != nil {
			t.Error(err)
		}
	}
	if got := c.rows("a", "SELECT count(*) FROM t"); got != "41" {
		t.Errorf("%s rows", got)
	}
}

// A write that is in the log cannot be taken back: the answer says so, and does
// not wait any longer.
func TestCancelOfCommittedWrite(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{}, "s1", "s2")
	c.do("", "CREATE DATABASE a")
	c.do("a", "CREATE TABLE t (x)")
	c.stopSlave("s2")
	s := c.session("a")
	p := start(t, func() (*subjects.Response, error) {
		return s.Do(testContext(t), &subjects.Request{SQL: "INSERT INTO t VALUES (1)", Ack: subjects.Ack{Kind: subjects.AckAll}, TimeoutMS: 15_000})
	})
	until(t, "committed", func() bool { return c.rows("a", "SELECT count(*) FROM t") == "1" })
	resp, err := c.cancelled(s, p)
	msg := wantCode(t, "insert", resp, err, subjects.CodeNotAcknowledged)
	if !strings.Contains(msg, "committed at position") || resp.Position == 0 || len(resp.Pending) == 0 {
		t.Errorf("%q, %+v", msg, resp)
	}
}

// Names that are no session's, or nobody's, are of no consequence.
func TestCancelOfNobody(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{})
	s := c.session("")
	if err := s.Cancel(); err != nil {
		t.Fatal(err)
	}
	s.do("SHOW DATABASES")
	if err := s.Cancel(); err != nil {
		t.Fatal(err)
	}
	s.do("SHOW DATABASES")
}
