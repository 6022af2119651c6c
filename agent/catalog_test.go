package agent_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snapdb/snapdb/agent"
	"github.com/snapdb/snapdb/subjects"
)

func TestDatabaseNames(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{}, "s1")
	before := c.m.Store().Heads()
	for _, name := range []string{`"../x"`, `"a/b"`, `""`, `"a.b"`, `"a b"`, `"ü"`, `main`, `temp`, `sqlite_x`, `_snapdb`, `_snapdb_more`, `con`, `COM1`, `"1a"`, strings.Repeat("x", 64), strings.Repeat("y", 300)} {
		c.fails(subjects.CodeBadRequest, subjects.Request{SQL: "CREATE DATABASE " + name})
		c.fails(subjects.CodeNoSuchDatabase, subjects.Request{DB: "a.b", SQL: "INSERT INTO t VALUES (1)"})
	}
	for _, sql := range []string{"CREATE DATABASE", "CREATE DATABASE a b", "CREATE DATABASE IF EXISTS a", "DROP DATABASE", "CREATE DATABASE 'a"} {
		c.fails(subjects.CodeSyntax, subjects.Request{SQL: sql})
	}
	if after := c.m.Store().Heads(); len(after) != len(before) || after[subjects.Catalog] != before[subjects.Catalog] {
		t.Errorf("something was logged: %v", after)
	}

	for name, quoted := range map[string]string{"a": "a", "B_1": `"B_1"`, "c": "[c]", "d": "`d`", "_e": "'_e'", strings.Repeat("x", 63): strings.Repeat("x", 63)} {
		c.do("", "CREATE DATABASE "+quoted)
		c.fails(subjects.CodeExists, subjects.Request{SQL: "CREATE DATABASE " + strings.ToUpper(name)})
		c.do("", "CREATE DATABASE IF NOT EXISTS "+strings.ToLower(name))
		c.do(strings.ToUpper(name), "CREATE TABLE t (x)")
	}
	c.same()
	c.do("", `DROP DATABASE "b_1"`)
	c.fails(subjects.CodeNoSuchDatabase, subjects.Request{SQL: "DROP DATABASE B_1"})
	c.do("", "DROP DATABASE IF EXISTS B_1")
	c.fails(subjects.CodeNoSuchDatabase, subjects.Request{DB: "B_1", SQL: "SELECT 1"})
	c.fails(subjects.CodeNoSuchDatabase, subjects.Request{SQL: "USE B_1"})
	c.fails(subjects.CodeNoSuchDatabase, subjects.Request{DB: subjects.Catalog, SQL: "SELECT * FROM _snapdb_databases"})
	if got := c.node("s1"); got.LagMS != 0 {
		t.Errorf("a slave lags by %d ms behind what was dropped", got.LagMS)
	}
}

// Databases are made and dropped while they are written to, by many at once: each
// request is done or refused, and every node ends with the same.
func TestDatabasesComeAndGoUnderLoad(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{}, "s1", "s2")
	var made, dropped, wrote atomic.Int64
	allowed := map[subjects.Code]bool{subjects.CodeExists: true, subjects.CodeNoSuchDatabase: true, subjects.CodeUnavailable: true, subjects.CodeSyntax: true}
	var clients []*pending
	for i := range 6 {
		clients = append(clients, start(t, func() (*subjects.Response, error) {
			for j := range 24 {
				db := fmt.Sprintf("d%d", (i+j)%2)
				var req subjects.Request
				var count *atomic.Int64
				switch (i + j/2) % 4 {
				case 0:
					req, count = subjects.Request{SQL: "CREATE DATABASE " + db}, &made
				case 1:
					req, count = subjects.Request{SQL: "DROP DATABASE " + db}, &dropped
				default:
					req, count = subjects.Request{DB: db, SQL: "CREATE TABLE IF NOT EXISTS t (x); INSERT INTO t VALUES (random())"}, &wrote
				}
				resp, err := c.try(req)
				if err == nil {
					count.Add(1)
					continue
				}
				we, ok := err.(*subjects.Error)
				if !ok || !allowed[we.Code] {
					return resp, fmt.Errorf("%s in %s: %w", req.SQL, db, err)
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
	if made.Load() == 0 || dropped.Load() == 0 {
		t.Errorf("made %d, dropped %d, wrote %d: nothing was tested", made.Load(), dropped.Load(), wrote.Load())
	}
	c.same()
	heads := c.m.Store().Heads()
	c.stopMaster()
	c.startMaster()
	c.untilInSync("s1", "s2")
	for db, h := range c.m.Store().Heads() {
		if heads[db] != h {
			t.Errorf("%s at %v before the restart, at %v after", db, heads[db], h)
		}
	}
}

// DROP lets running requests finish for a while, then interrupts them; who waits is
// refused, who has left something open is told.
func TestDropEndsWhatRuns(t *testing.T) {
	t.Parallel()
	var o agent.MasterOptions
	o.Impatient(time.Minute, time.Minute, time.Minute, 300*time.Millisecond)
	c := newCluster(t, o, "s1")
	c.do("", "CREATE DATABASE a")
	c.do("a", "CREATE TABLE t (x)")
	c.do("a", "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 30) SELECT zeroblob(200000) FROM n")
	cut := c.do("a", "SELECT hex(x) FROM t").Results[0]
	if cut.More == "" {
		t.Fatal("the result is whole")
	}
	reading := c.session("a")
	reading.do("BEGIN; SELECT count(*) FROM t")
	quick := c.session("a")
	quick.do("BEGIN IMMEDIATE")
	quick.do("INSERT INTO t VALUES ('quick')")
	endlessly := c.start(subjects.Request{DB: "a", SQL: endlessWrite, TimeoutMS: 300_000})
	until(t, "one waits", func() bool { return c.m.Waiting("a") == 1 })
	waits := c.start(subjects.Request{DB: "a", SQL: "INSERT INTO t VALUES (1)"})
	until(t, "two wait", func() bool { return c.m.Waiting("a") == 2 })
	if got := show(quick.do("COMMIT").Results); got != "" {
		t.Error(got)
	}
	until(t, "the endless one runs", func() bool { return c.m.Waiting("a") < 2 })
	drop := c.start(subjects.Request{SQL: "DROP DATABASE a"})
	if resp, err := drop.wait(); err != nil {
		t.Fatalf("%+v, %v", resp, err)
	}
	for what, p := range map[string]*pending{"endless": endlessly, "waiting": waits} {
		resp, err := p.wait()
		if msg := wantCode(t, what, resp, err, subjects.CodeUnavailable); !strings.Contains(msg, "being dropped") {
			t.Errorf("%s: %q", what, msg)
		}
	}
	resp, err := c.try(subjects.Request{DB: "a", More: cut.More})
	wantCode(t, "more", resp, err, subjects.CodeUnavailable)
	if msg := reading.fails(subjects.CodeTransaction, "SELECT count(*) FROM t"); !strings.Contains(msg, "dropped") {
		t.Errorf("message %q", msg)
	}
	quick.fails(subjects.CodeNoSuchDatabase, "INSERT INTO t VALUES (1)")

	// A slave does not wait for unfinished results either.
	c.do("", "CREATE DATABASE a")
	c.do("a", "CREATE TABLE t AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 30) SELECT zeroblob(200000) AS x FROM n")
	onSlave, err := c.c.QueryNode(testContext(t), "s1", &subjects.Request{DB: "a", SQL: "SELECT hex(x) FROM t"})
	if err != nil || onSlave.Results[0].More == "" {
		t.Fatalf("%+v, %v", onSlave, err)
	}
	if resp := c.do("", "DROP DATABASE a"); len(resp.Applied) != 1 {
		t.Errorf("%+v", resp)
	}
	resp, err = c.c.QueryNode(testContext(t), "s1", &subjects.Request{DB: "a", More: onSlave.Results[0].More})
	wantCode(t, "more on the slave", resp, err, subjects.CodeUnavailable)
}

// A slave that is behind applies a drop and a creation of the same name where they
// belong among the writes.
func TestCatalogChangesAreBarriers(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{}, "s1")
	c.stopSlave("s1")
	for round := range 5 {
		c.do("", "CREATE DATABASE a")
		c.do("a", "CREATE TABLE t (x)")
		for i := range 5 {
			c.do("a", fmt.Sprintf("INSERT INTO t VALUES (%d)", 10*round+i))
		}
		if round < 4 {
			c.do("", "DROP DATABASE a")
		}
	}
	c.startSlave("s1")
	c.startSlave("s2") // from nothing
	c.untilInSync("s1", "s2")
	c.same()
	if got := c.rows("a", "SELECT min(x), count(*) FROM t"); got != "40 5" {
		t.Errorf("rows %s", got)
	}
}

// A list of statements may begin with snapdb's own, as a text may.
func TestCommandsInAListOfStatements(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{}, "s1")
	list := func(sqls ...string) subjects.Request {
		var r subjects.Request
		for _, sql := range sqls {
			r.Stmts = append(r.Stmts, subjects.Stmt{SQL: sql})
		}
		return r
	}
	if _, err := c.try(list("CREATE DATABASE x")); err != nil {
		t.Error(err)
	}
	resp, err := c.try(list("CREATE DATABASE y", "USE y", "CREATE TABLE t (n)", "INSERT INTO t VALUES (1)", "SELECT n FROM t"))
	if err != nil || show(resp.Results[2:]) != "1" {
		t.Errorf("%+v, %v", resp, err)
	}
	resp, err = c.try(list("USE y", "INSERT INTO t VALUES (2)", "INSERT INTO nowhere VALUES (1)"))
	wantCode(t, "a failing list", resp, err, subjects.CodeSyntax)
	if resp == nil || resp.Error == nil || resp.Error.Statement != 3 {
		t.Errorf("%+v", resp)
	}
	req := list("USE y", "SHOW TABLES", "SELECT n FROM t")
	if resp, err := c.c.QueryNode(testContext(t), "s1", &req); err != nil || show(resp.Results) != `"t" | 1` {
		t.Errorf("%+v, %v", resp, err)
	}
}
