package agent_test

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/snapdb/snapdb/agent"
	"github.com/snapdb/snapdb/subjects"
)

// Of many clients whose writes share groups, those that fail, in whatever way, get
// their error and leave nothing; the others are not touched.
func TestFailuresHurtTheirClientOnly(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{}, "s1", "s2")
	c.do("", "CREATE DATABASE a")
	c.do("a", `CREATE TABLE parent (x INTEGER PRIMARY KEY);
CREATE TABLE child (x REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE t (x INTEGER PRIMARY KEY, y CHECK (y <> 'bad'), r DEFAULT (random()));
CREATE TRIGGER no BEFORE INSERT ON t WHEN NEW.y = 'roll' BEGIN SELECT RAISE(ROLLBACK, 'rolled'); END;
INSERT INTO t (x, y) VALUES (0, 'first')`)
	bad := []struct {
		sql  string
		code subjects.Code
	}{
		{"INSERT OR ROLLBACK INTO t (x) VALUES (%d), (0)", subjects.CodeConstraint},
		{"INSERT INTO t (x, y) VALUES (%d, 'roll')", subjects.CodeConstraint},
		{"INSERT INTO t (x) VALUES (%d); INSERT INTO child VALUES (-1)", subjects.CodeConstraint},
		{"INSERT OR FAIL INTO t (x, y) VALUES (%d, 'bad')", subjects.CodeConstraint},
		{"INSERT INTO t (x) VALUES (%d); SELECT * FROM nowhere", subjects.CodeSyntax},
		{"INSERT INTO t (x) VALUES (%d); ROLLBACK", subjects.CodeTransaction},
		{"INSERT INTO t (x) VALUES (%d); PRAGMA foreign_keys = OFF", subjects.CodeDenied},
	}
	var failed atomic.Int64
	var clients []*pending
	for i := range 12 {
		clients = append(clients, start(t, func() (*subjects.Response, error) {
			for j := range 15 {
				n := 1 + i*1000 + j
				if i%3 == 0 {
					b := bad[(i+j)%len(bad)]
					_, err := c.try(subjects.Request{DB: "a", SQL: fmt.Sprintf(b.sql, n)})
					var we *subjects.Error
					if !errors.As(err, &we) || we.Code != b.code {
						return nil, fmt.Errorf("%s: %w, want %s", b.sql, err, b.code)
					}
					failed.Add(1)
					continue
				}
				resp, err := c.try(subjects.Request{DB: "a", SQL: fmt.Sprintf("INSERT INTO parent VALUES (%d); INSERT INTO child VALUES (%d); INSERT INTO t (x) VALUES (%d) RETURNING x", n, n, n)})
				if err != nil {
					return nil, err
				}
				if got := show(resp.Results[2:]); got != fmt.Sprint(n) {
					return nil, fmt.Errorf("RETURNING gave %s, not %d", got, n)
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
	if got := c.rows("a", "SELECT (SELECT count(*) FROM t), (SELECT count(*) FROM parent), (SELECT count(*) FROM child), (SELECT count(*) FROM t WHERE r IS NULL)"); got != "121 120 120 0" {
		t.Errorf("rows %s", got)
	}
	if failed.Load() != 60 {
		t.Errorf("%d failed", failed.Load())
	}
}

// A request whose id was seen before gets the first answer and does nothing.
func TestRepeatedRequests(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{}, "s1")
	c.do("", "CREATE DATABASE a")
	c.do("a", "CREATE TABLE t (x INTEGER PRIMARY KEY, y)")
	req := subjects.Request{DB: "a", SQL: "INSERT INTO t (y) VALUES (random()) RETURNING x, y", ID: "once"}
	first, err := c.try(req)
	if err != nil {
		t.Fatal(err)
	}
	same := func(what string) {
		t.Helper()
		again, err := c.try(req)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if show(again.Results) != show(first.Results) || again.Position != first.Position || strings.Join(again.Applied, " ") != "s1" {
			t.Errorf("%s: %+v, at first %+v", what, again, first)
		}
		if got := c.rows("a", "SELECT count(*) FROM t"); got != "1" {
			t.Errorf("%s: %s rows", what, got)
		}
	}
	same("at once")
	other := func(what string) {
		t.Helper()
		for _, r := range []subjects.Request{
			{SQL: "INSERT INTO t (y) VALUES (7)"},
			{SQL: req.SQL + " -- again"},
			{Stmts: []subjects.Stmt{{SQL: req.SQL}, {SQL: "DELETE FROM t"}}},
		} {
			r.DB, r.ID = "a", req.ID
			if msg := c.fails(subjects.CodeBadRequest, r); !strings.Contains(msg, `the id "once" was used for another request`) {
				t.Errorf("%s: message %q", what, msg)
			}
		}
		same(what)
	}
	other("after other requests with its id")
	withArgs := func(args ...subjects.Value) subjects.Request {
		return subjects.Request{DB: "a", SQL: "UPDATE t SET y = y WHERE ? IS NOT NULL", Args: args, ID: "args"}
	}
	if _, err := c.try(withArgs(subjects.IntegerValue(5))); err != nil {
		t.Fatal(err)
	}
	c.fails(subjects.CodeBadRequest, withArgs(subjects.RealValue(5)))
	c.do("a", "CREATE TABLE other (x)")
	same("later")
	c.stopMaster()
	c.startMaster()
	c.untilInSync("s1")
	same("after a restart")
	other("after a restart, and other requests with its id")

	// The rule is that of the repeated request.
	c.stopSlave("s1")
	c.untilGone("s1")
	all := req
	all.Ack, all.TimeoutMS = subjects.Ack{Kind: subjects.AckAll}, 100
	resp, err := c.try(all)
	wantCode(t, "all", resp, err, subjects.CodeNotAcknowledged)
	c.startSlave("s1")
	c.untilInSync("s1")
	same("after all")

	// A failed request may be tried again under its id.
	failing := subjects.Request{DB: "a", SQL: "INSERT INTO other VALUES (1); INSERT INTO nowhere VALUES (1)", ID: "twice"}
	c.fails(subjects.CodeSyntax, failing)
	c.do("a", "CREATE TABLE nowhere (x)")
	if _, err := c.try(failing); err != nil {
		t.Error(err)
	}

	// Many at once, of the same id.
	var clients []*pending
	for range 16 {
		clients = append(clients, c.start(subjects.Request{DB: "a", SQL: "INSERT INTO t (y) VALUES ('many') RETURNING x", ID: "many"}))
	}
	var want string
	for _, p := range clients {
		resp, err := p.wait()
		if err != nil {
			t.Fatal(err)
		}
		if want == "" {
			want = fmt.Sprint(show(resp.Results), " ", resp.Position)
		}
		if got := fmt.Sprint(show(resp.Results), " ", resp.Position); got != want {
			t.Errorf("answer %s, another %s", got, want)
		}
	}
	if got := c.rows("a", "SELECT count(*) FROM t WHERE y = 'many'"); got != "1" {
		t.Errorf("%s rows", got)
	}

	// Where it cannot be kept, the id is refused instead of ignored.
	s := c.session("a")
	s.do("BEGIN")
	resp, err = s.Do(testContext(t), &subjects.Request{SQL: "INSERT INTO t (y) VALUES (1)", ID: "x"})
	wantCode(t, "id in a transaction", resp, err, subjects.CodeBadRequest)
	s.do("ROLLBACK")
	c.fails(subjects.CodeBadRequest, subjects.Request{SQL: "CREATE DATABASE b", ID: "x"})
}

func TestTimeLimits(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{}, "s1")
	c.do("", "CREATE DATABASE a")
	c.do("a", "CREATE TABLE t (x)")
	limited := func(sql string) subjects.Request { return subjects.Request{DB: "a", SQL: sql, TimeoutMS: 50} }
	c.fails(subjects.CodeTimeout, limited(endless))
	if msg := c.fails(subjects.CodeTimeout, limited(endlessWrite)); !strings.Contains(msg, "nothing was changed") {
		t.Errorf("message %q", msg)
	}
	c.fails(subjects.CodeTimeout, limited("CREATE TABLE u (x); SELECT 1; "+endless))
	resp, err := c.c.Query(testContext(t), &subjects.Request{DB: "a", SQL: endless, TimeoutMS: 50})
	wantCode(t, "query", resp, err, subjects.CodeTimeout)
	resp, err = c.c.QueryNode(testContext(t), "s1", &subjects.Request{DB: "a", SQL: endless, TimeoutMS: 50})
	wantCode(t, "query on a slave", resp, err, subjects.CodeTimeout)

	holder := c.session("a")
	holder.do("BEGIN IMMEDIATE")
	c.fails(subjects.CodeTimeout, limited("INSERT INTO t VALUES (1)"))
	s := c.session("a")
	resp, err = s.Do(testContext(t), &subjects.Request{SQL: "BEGIN IMMEDIATE", TimeoutMS: 50})
	wantCode(t, "BEGIN IMMEDIATE", resp, err, subjects.CodeTimeout)
	s.do("BEGIN")
	resp, err = s.Do(testContext(t), &subjects.Request{SQL: "INSERT INTO t VALUES (1)", TimeoutMS: 50})
	wantCode(t, "first write", resp, err, subjects.CodeTimeout)
	resp, err = holder.Do(testContext(t), &subjects.Request{SQL: endless, TimeoutMS: 50})
	wantCode(t, "read in a transaction", resp, err, subjects.CodeTimeout)
	holder.do("INSERT INTO t VALUES (2)")
	holder.do("COMMIT")
	if got := c.rows("a", "SELECT x FROM t"); got != "2" {
		t.Errorf("rows %s", got)
	}
}
