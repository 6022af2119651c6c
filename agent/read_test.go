package agent_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/snapdb/snapdb/agent"
	"github.com/snapdb/snapdb/agent/client"
	"github.com/snapdb/snapdb/subjects"
)

// pages is a cluster with a table whose content is several answers long.
func pages(t testing.TB) *cluster {
	c := newCluster(t, agent.MasterOptions{}, "s1")
	c.do("", "CREATE DATABASE a")
	c.do("a", "CREATE TABLE t (n INTEGER PRIMARY KEY, x)")
	c.do("a", "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 250) SELECT i, hex(zeroblob(5000)) FROM n")
	return c
}

func TestResultsLongerThanAnAnswer(t *testing.T) {
	t.Parallel()
	c := pages(t)
	for _, door := range []string{subjects.Query, subjects.Exec, subjects.NodeQuery("s1")} {
		rows, want := 0, int64(1)
		for row, err := range c.c.Rows(testContext(t), door, &subjects.Request{DB: "a", SQL: "SELECT n, x FROM t ORDER BY n"}) {
			if err != nil {
				t.Fatalf("%s: %v", door, err)
			}
			if row[0].Int() != want || len(row[1].Bytes()) != 10000 {
				t.Fatalf("%s: row %v instead of %d", door, row[0].Int(), want)
			}
			if rows++; rows == 150 {
				c.do("a", "DELETE FROM t WHERE n = 249; INSERT INTO t VALUES (249, hex(zeroblob(5000)))") // the result is of one moment
			}
			want++
		}
		if rows != 250 {
			t.Errorf("%s: %d rows", door, rows)
		}
	}
	// Only the last of several results can be gone on with.
	resp := c.do("a", "SELECT x FROM t; SELECT 1; SELECT x FROM t")
	for i, want := range []struct{ truncated, more bool }{{true, false}, {false, false}, {true, true}} {
		if r := resp.Results[i]; r.Truncated != want.truncated || (r.More != "") != want.more {
			t.Errorf("result %d: truncated %v, more %q", i, r.Truncated, r.More)
		}
	}
	s := c.session("a")
	s.do("BEGIN")
	if r := s.do("SELECT x FROM t").Results[0]; !r.Truncated || r.More != "" {
		t.Errorf("in a transaction: truncated %v, more %q", r.Truncated, r.More)
	}
	s.do("ROLLBACK")
	for _, token := range []string{"x", strings.Repeat("0", 24), resp.Results[2].More + "0"} {
		resp, err := c.c.Query(testContext(t), &subjects.Request{DB: "a", More: token})
		wantCode(t, "token "+token, resp, err, subjects.CodeBadRequest)
	}
}

// Whoever leaves results unfinished makes room for others, and cannot keep them
// from reading.
func TestUnfinishedResultsMakeRoom(t *testing.T) {
	t.Parallel()
	c := pages(t)
	for _, door := range []string{subjects.Query, subjects.NodeQuery("s1")} {
		var tokens []string
		for range 14 {
			resp, err := c.c.Do(testContext(t), door, &subjects.Request{DB: "a", SQL: "SELECT x FROM t"})
			if err != nil || resp.Results[0].More == "" {
				t.Fatalf("%+v, %v", resp, err)
			}
			tokens = append(tokens, resp.Results[0].More)
		}
		if _, err := c.c.Do(testContext(t), door, &subjects.Request{DB: "a", SQL: "SELECT 1"}); err != nil {
			t.Error(err)
		}
		first, err := c.c.Do(testContext(t), door, &subjects.Request{DB: "a", More: tokens[0]})
		wantCode(t, "the oldest", first, err, subjects.CodeBadRequest)
		last, err := c.c.Do(testContext(t), door, &subjects.Request{DB: "a", More: tokens[13]})
		if err != nil || len(last.Results[0].Rows) == 0 {
			t.Errorf("the newest: %+v, %v", last, err)
		}
	}
}

// An answer that does not fit a message is an error; of a write it says that it is
// committed.
func TestAnswersTooLarge(t *testing.T) {
	t.Parallel()
	c := pages(t)
	many := strings.Repeat("SELECT x FROM t;", 9)
	for _, door := range []string{subjects.Query, subjects.Exec, subjects.NodeQuery("s1")} {
		resp, err := c.c.Do(testContext(t), door, &subjects.Request{DB: "a", SQL: many})
		wantCode(t, door, resp, err, subjects.CodeTooBig)
		resp, err = c.c.Do(testContext(t), door, &subjects.Request{DB: "a", SQL: "SELECT hex(zeroblob(6000000))"})
		wantCode(t, door, resp, err, subjects.CodeTooBig)
	}
	returning := strings.Repeat("UPDATE t SET n = n RETURNING x;", 4)
	resp, err := c.try(subjects.Request{DB: "a", SQL: returning})
	if msg := wantCode(t, "RETURNING", resp, err, subjects.CodeTooBig); !strings.Contains(msg, "committed at position") || resp.Position == 0 {
		t.Errorf("%q, %+v", msg, resp)
	}
	if resp, err := c.c.Query(testContext(t), &subjects.Request{DB: "a", SQL: "SELECT count(*) FROM t"}); err != nil || show(resp.Results) != "250" {
		t.Errorf("%+v, %v", resp, err)
	}
}

// Reads as new as asked for: on the master, and on a slave for every database, also
// those that others are written to meanwhile.
func TestReadYourWrites(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{Ack: subjects.Ack{Kind: subjects.AckLog}}, "s1", "s2")
	dbs := []string{"a", "b", "c"}
	for _, db := range dbs {
		c.do("", "CREATE DATABASE "+db)
		c.do(db, "CREATE TABLE t (x)")
	}
	var clients []*pending
	for i, db := range dbs {
		clients = append(clients, start(t, func() (*subjects.Response, error) {
			for j := range 25 {
				resp, err := c.try(subjects.Request{DB: db, SQL: fmt.Sprintf("INSERT INTO t VALUES (%d)", j)})
				if err != nil {
					return nil, err
				}
				// All three databases have what they had at that position.
				for k := range 3 {
					other := dbs[(i+k)%3]
					for _, door := range []string{subjects.NodeQuery("s1"), subjects.NodeQuery("s2"), subjects.Query} {
						read, err := c.c.Do(testContext(t), door, &subjects.Request{DB: other, SQL: "SELECT max(x) FROM t", MinPosition: resp.Position})
						if err != nil {
							return nil, fmt.Errorf("%s at %d: %w", door, resp.Position, err)
						}
						if k == 0 && show(read.Results) != fmt.Sprint(j) {
							return nil, fmt.Errorf("%s: %s, written was %d", door, show(read.Results), j)
						}
					}
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
	head := c.m.Info(testContext(t)).Cursor
	for _, door := range []string{subjects.Query, subjects.NodeQuery("s1")} {
		resp, err := c.c.Do(testContext(t), door, &subjects.Request{DB: "a", SQL: "SELECT 1", MinPosition: head + 1000, TimeoutMS: 50})
		wantCode(t, door, resp, err, subjects.CodeStale)
		if _, err := c.c.Do(testContext(t), door, &subjects.Request{DB: "a", SQL: "SELECT 1", MaxLagMS: 5000}); err != nil {
			t.Errorf("%s: %v", door, err)
		}
	}
	c.stopMaster()
	until(t, "s1 knows that it may be old", func() bool {
		cl, err := client.Connect(testContext(t), "nats://"+c.opts.Listen, client.Options{})
		if err == nil {
			cl.Close()
		}
		return err != nil && c.slaves["s1"].Status().State == subjects.StateJoining
	})
}

// A read waits for the database that it reads, not for the one the request began
// with.
func TestReadWaitsForTheDatabaseInUse(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{Ack: subjects.Ack{Kind: subjects.AckLog}}, "s1")
	for _, db := range []string{"a", "b"} {
		c.do("", "CREATE DATABASE "+db)
		c.do(db, "CREATE TABLE t (x)")
	}
	c.same()
	held, err := c.slaves["s1"].Store().Database("b")
	if err != nil {
		t.Fatal(err)
	}
	g, err := held.Begin() // b cannot follow
	if err != nil {
		t.Fatal(err)
	}
	c.do("b", "INSERT INTO t VALUES (1)")
	at := c.do("a", "INSERT INTO t VALUES (1)").Position
	read := subjects.Request{DB: "a", SQL: "SELECT count(*) FROM t", MinPosition: at}
	if resp, err := c.c.QueryNode(testContext(t), "s1", &read); err != nil || show(resp.Results) != "1" {
		t.Errorf("%+v, %v", resp, err)
	}
	read.SQL, read.TimeoutMS = "USE b; SELECT count(*) FROM t", 100
	resp, err := c.c.QueryNode(testContext(t), "s1", &read)
	wantCode(t, read.SQL, resp, err, subjects.CodeStale)
	if err := g.Rollback(); err != nil {
		t.Fatal(err)
	}
	read.TimeoutMS = 0
	if resp, err := c.c.QueryNode(testContext(t), "s1", &read); err != nil || show(resp.Results) != "1" {
		t.Errorf("%+v, %v", resp, err)
	}
	c.same()
}

// Many small statements must not be answered at the price of all memory.
func TestResultsOfOneRequestAreBounded(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{}, "s1")
	c.do("", "CREATE DATABASE a")
	c.do("a", "CREATE TABLE t (x)")
	big := strings.Repeat("SELECT zeroblob(600000);", 100)
	for _, door := range []string{subjects.Exec, subjects.Query, subjects.NodeQuery("s1")} {
		resp, err := c.c.Do(testContext(t), door, &subjects.Request{DB: "a", SQL: big})
		wantCode(t, door, resp, err, subjects.CodeTooBig)
	}
	c.fails(subjects.CodeTooBig, subjects.Request{DB: "a", SQL: strings.Repeat("INSERT INTO t VALUES (1) RETURNING zeroblob(600000);", 100)})
	if got := c.rows("a", "SELECT count(*) FROM t"); got != "0" {
		t.Errorf("%s rows", got)
	}
	c.same()
}
