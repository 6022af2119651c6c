package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/snapdb/snapdb/agent"
	"github.com/snapdb/snapdb/agent/client"
	"github.com/snapdb/snapdb/subjects"
)

// endless never ends by itself.
const endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n) SELECT count(*) FROM n"

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// start runs a master with database d and slaves snap1, snap2, ….
func start(t testing.TB, slaves int) (url string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	m, err := agent.StartMaster(ctx, agent.MasterOptions{Dir: filepath.Join(t.TempDir(), "m"), Listen: "127.0.0.1:0", Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Stop(ctx); err != nil {
			t.Errorf("stop master: %v", err)
		}
	})
	for i := range slaves {
		id := fmt.Sprintf("snap%d", i+1)
		s, err := agent.StartSlave(ctx, agent.SlaveOptions{URL: m.URL(), ID: id, Dir: filepath.Join(t.TempDir(), id), Logger: quiet()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Stop(ctx); err != nil {
				t.Errorf("stop %s: %v", id, err)
			}
		})
	}
	c := connect(t, m.URL())
	await(t, fmt.Sprintf("%d slaves are online", slaves), func() bool {
		info, err := c.Info(ctx)
		if err != nil {
			t.Fatal(err)
		}
		online := 0
		for _, n := range info.Nodes {
			if n.State == subjects.StateOnline {
				online++
			}
		}
		return online == slaves
	})
	must(t, c, "", "CREATE DATABASE d")
	return m.URL()
}

func connect(t testing.TB, url string) *client.Client {
	t.Helper()
	c, err := client.Connect(t.Context(), url, client.Options{Name: t.Name()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// await waits until a condition holds.
func await(t testing.TB, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for !holds() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("waited %v until %s", patience, what)
		}
	}
}

func must(t testing.TB, c *client.Client, db, sql string, args ...subjects.Value) *subjects.Response {
	t.Helper()
	resp, err := c.Exec(t.Context(), &subjects.Request{DB: db, SQL: sql, Args: args})
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return resp
}

// code is the code of an error of the server, "" if it is none.
func code(err error) subjects.Code {
	var e *subjects.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func TestRequestsAndTheirErrors(t *testing.T) {
	t.Parallel()
	c := connect(t, start(t, 2))
	must(t, c, "d", "CREATE TABLE t (a INTEGER PRIMARY KEY, b)")
	resp := must(t, c, "d", "INSERT INTO t VALUES (?, ?), (9007199254740993, x'00')", subjects.IntegerValue(1), subjects.TextValue("one"))
	if resp.Position == 0 || !cmp.Equal(resp.Applied, []string{"snap1", "snap2"}) || len(resp.Pending) > 0 || resp.Results[0].Changes != 2 {
		t.Errorf("write: position %d, applied %v, pending %v, %d changes", resp.Position, resp.Applied, resp.Pending, resp.Results[0].Changes)
	}
	read := &subjects.Request{DB: "d", SQL: "SELECT a, b FROM t ORDER BY a DESC", MinPosition: resp.Position}
	for _, door := range []string{subjects.Exec, subjects.Query, subjects.NodeQuery("snap1"), subjects.NodeQuery("snap2")} {
		got, err := c.Do(t.Context(), door, read)
		if err != nil {
			t.Fatalf("%s: %v", door, err)
		}
		row := got.Results[0].Rows[0]
		if row[0].Int() != 9007199254740993 || row[1].Kind() != subjects.Blob || got.Position < resp.Position {
			t.Errorf("%s: %v at %d", door, row, got.Position)
		}
	}

	ctx := t.Context()
	for what, test := range map[string]struct {
		want subjects.Code
		do   func() (*subjects.Response, error)
	}{
		"constraint": {subjects.CodeConstraint, func() (*subjects.Response, error) {
			return c.Exec(ctx, &subjects.Request{DB: "d", SQL: "INSERT INTO t VALUES (1, 2)"})
		}},
		"syntax":      {subjects.CodeSyntax, func() (*subjects.Response, error) { return c.Exec(ctx, &subjects.Request{DB: "d", SQL: "SELEC"}) }},
		"no database": {subjects.CodeNoDatabase, func() (*subjects.Response, error) { return c.Query(ctx, &subjects.Request{SQL: "SELECT * FROM t"}) }},
		"write at the door for reads": {subjects.CodeReadOnly, func() (*subjects.Response, error) {
			return c.Query(ctx, &subjects.Request{DB: "d", SQL: "DELETE FROM t"})
		}},
		"write at a slave": {subjects.CodeReadOnly, func() (*subjects.Response, error) {
			return c.QueryNode(ctx, "snap1", &subjects.Request{DB: "d", SQL: "DELETE FROM t"})
		}},
		"time limit": {subjects.CodeTimeout, func() (*subjects.Response, error) {
			return c.Query(ctx, &subjects.Request{DB: "d", SQL: endless, TimeoutMS: 20})
		}},
		"malformed": {subjects.CodeBadRequest, func() (*subjects.Response, error) { return c.Exec(ctx, &subjects.Request{}) }},
	} {
		if _, err := test.do(); code(err) != test.want {
			t.Errorf("%s: error %v of code %q, want code %q", what, err, code(err), test.want)
		}
	}
	var e *subjects.Error
	_, err := c.Exec(ctx, &subjects.Request{DB: "d", Stmts: []subjects.Stmt{{SQL: "INSERT INTO t VALUES (5, 5)"}, {SQL: "INSERT INTO t VALUES (1, 2)"}}})
	if !errors.As(err, &e) || e.Statement != 2 {
		t.Errorf("failing second statement: %v", err)
	}
	if _, err := c.Exec(ctx, &subjects.Request{DB: "d", SQL: "INSERT INTO t VALUES (6, 6)", Ack: subjects.Ack{Kind: subjects.AckCount, Count: 9}}); code(err) == "" {
		t.Errorf("more slaves demanded than there are: %v", err)
	}
	assertEqual(t, c, "snap1", "snap2")
}

// assertEqual checks that all nodes hold the same at the same position.
func assertEqual(t testing.TB, c *client.Client, slaves ...string) {
	t.Helper()
	req := &subjects.Request{DB: "d", SQL: "SHOW CHECKSUM"}
	want, err := c.Query(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	req.MinPosition = want.Position
	for _, id := range slaves {
		got, err := c.QueryNode(t.Context(), id, req)
		if err != nil {
			t.Fatalf("%s: %v", id, err)
		}
		if got.Position != want.Position || !cmp.Equal(got.Results[0].Rows, want.Results[0].Rows, cmp.Comparer(func(a, b subjects.Value) bool {
			return string(subjects.AppendValue(nil, a)) == string(subjects.AppendValue(nil, b))
		})) {
			t.Errorf("%s at %d differs from the master at %d", id, got.Position, want.Position)
		}
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := "nats://user:secret@" + l.Addr().String()
	l.Close()
	_, err = client.Connect(t.Context(), nobody, client.Options{})
	if !errors.Is(err, client.ErrUnreachable) || strings.Contains(err.Error(), "secret") {
		t.Errorf("connect to nobody: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := client.Connect(ended, nobody, client.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("connect with an ended context: %v", err)
	}

	c := connect(t, start(t, 0))
	var door *client.UnreachableError
	_, err = c.QueryNode(t.Context(), "nosuch", &subjects.Request{DB: "d", SQL: "SELECT 1"})
	if !errors.Is(err, client.ErrUnreachable) || !errors.As(err, &door) || door.Door != "node.nosuch.query" {
		t.Errorf("a node that is not there: %v", err)
	}
	if _, err := c.Ctl(t.Context(), "nosuch", &subjects.CtlRequest{Op: subjects.OpPing}); !errors.Is(err, client.ErrUnreachable) {
		t.Errorf("a command to a node that is not there: %v", err)
	}
	if _, err := c.Ctl(t.Context(), "no such", &subjects.CtlRequest{Op: subjects.OpPing}); !errors.Is(err, subjects.ErrNodeID) {
		t.Errorf("a command to a name no node can have: %v", err)
	}
}

func TestCommandsAreAnsweredByTheNode(t *testing.T) {
	t.Parallel()
	c := connect(t, start(t, 1))
	pong, err := c.Ctl(t.Context(), "snap1", &subjects.CtlRequest{Op: subjects.OpPing})
	if err != nil || pong.State != subjects.CommandDone || pong.Node != "snap1" {
		t.Errorf("ping: %+v, %v", pong, err)
	}
	status, err := c.Status(t.Context(), "snap1")
	if err != nil || status.State != subjects.StateOnline {
		t.Errorf("info: %+v, %v", status, err)
	}
	if out, err := c.Ctl(t.Context(), "snap1", &subjects.CtlRequest{Op: "dance"}); err != nil || out.State != subjects.CommandFailed || out.Reason == "" {
		t.Errorf("a command that no node knows: %+v, %v; want one that failed", out, err)
	}
}

func TestTooBigIsRefusedUnsent(t *testing.T) {
	t.Parallel()
	c := connect(t, start(t, 0))
	must(t, c, "d", "CREATE TABLE t (a)")
	var big *client.TooBigError
	_, err := c.Exec(t.Context(), &subjects.Request{DB: "d", SQL: "INSERT INTO t VALUES (?)", Args: []subjects.Value{subjects.TextValue(strings.Repeat("x", subjects.MaxRequest))}})
	if !errors.As(err, &big) || big.Size <= subjects.MaxRequest {
		t.Errorf("got %v", err)
	}
	most := subjects.MaxRequest - 100
	must(t, c, "d", "INSERT INTO t VALUES (?)", subjects.TextValue(strings.Repeat("x", most)))
	resp, err := c.Query(t.Context(), &subjects.Request{DB: "d", SQL: "SELECT length(a) FROM t"})
	if err != nil || resp.Results[0].Rows[0][0].Int() != int64(most) {
		t.Errorf("the largest request that fits: %v, %v", resp, err)
	}
}

func TestForbiddenSubjectIsDenied(t *testing.T) {
	t.Parallel()
	c := connect(t, start(t, 0))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := c.DoRaw(ctx, subjects.Replicate, []byte("{}")); !errors.Is(err, client.ErrDenied) {
		t.Errorf("a forged change: %v, want ErrDenied", err)
	}
	must(t, c, "d", "SELECT 1")
}

func TestPages(t *testing.T) {
	t.Parallel()
	c := connect(t, start(t, 1))
	must(t, c, "d", "CREATE TABLE t (a INTEGER PRIMARY KEY, b)")
	const rows = 700 // of 10 kB, more than a page by far
	resp := must(t, c, "d", fmt.Sprintf("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < %d) INSERT INTO t SELECT i, hex(zeroblob(5000)) FROM n", rows))
	for _, door := range []string{subjects.Query, subjects.NodeQuery("snap1")} {
		req := &subjects.Request{DB: "d", SQL: "SELECT a, b FROM t ORDER BY a", MinPosition: resp.Position}
		n := int64(0)
		for row, err := range c.Rows(t.Context(), door, req) {
			if err != nil {
				t.Fatalf("%s after %d rows: %v", door, n, err)
			}
			if n++; row[0].Int() != n {
				t.Fatalf("%s: row %d has key %d", door, n, row[0].Int())
			}
		}
		if n != rows {
			t.Errorf("%s: %d rows, want %d", door, n, rows)
		}
		n = 0
		for _, err := range c.Rows(t.Context(), door, req) {
			if err != nil {
				t.Fatal(err)
			}
			if n++; n == 10 {
				break
			}
		}
	}

	for _, err := range c.Rows(t.Context(), subjects.Query, &subjects.Request{DB: "d", SQL: "SELECT nosuch FROM t"}) {
		if code(err) != subjects.CodeSyntax {
			t.Errorf("rows of a wrong statement: %v", err)
		}
	}
	assertEqual(t, c, "snap1")
}

func TestSessionRemembers(t *testing.T) {
	t.Parallel()
	c := connect(t, start(t, 1))
	ctx := t.Context()
	s := c.NewSession("d")
	do := func(sql string) *subjects.Response {
		t.Helper()
		resp, err := s.Do(ctx, &subjects.Request{SQL: sql})
		if err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		return resp
	}
	do("CREATE TABLE t (a)")
	if s.DB() != "d" || s.InTx() {
		t.Errorf("database %q, transaction %t", s.DB(), s.InTx())
	}
	do("BEGIN")
	do("INSERT INTO t VALUES (1)")
	if err := s.SetNode("snap1"); err == nil || !s.InTx() {
		t.Errorf("turned to a slave inside a transaction: %v", err)
	}
	if n := must(t, c, "d", "SELECT count(*) FROM t").Results[0].Rows[0][0].Int(); n != 0 {
		t.Errorf("another client sees %d rows before COMMIT", n)
	}
	do("COMMIT")

	do("BEGIN")
	do("INSERT INTO t VALUES (2)")
	if rolledBack, err := s.Close(ctx); err != nil || !rolledBack || s.InTx() {
		t.Errorf("close with an open transaction: %t, %v", rolledBack, err)
	}
	if rolledBack, err := s.Close(ctx); err != nil || rolledBack {
		t.Errorf("close again: %t, %v", rolledBack, err)
	}

	position := do("INSERT INTO t VALUES (3)").Position
	if err := s.SetNode("snap1"); err != nil {
		t.Fatal(err)
	}
	resp, err := s.Do(ctx, &subjects.Request{SQL: "SELECT a FROM t ORDER BY a", MinPosition: position})
	if err != nil || len(resp.Results[0].Rows) != 2 || s.DB() != "d" {
		t.Errorf("on the slave: %v, %v, database %q", resp, err, s.DB())
	}
	if err := s.SetNode(""); err != nil {
		t.Fatal(err)
	}
	do("USE D")
	do("CREATE DATABASE other; USE other")
	if s.DB() != "other" {
		t.Errorf("database %q behind USE other", s.DB())
	}
	do("DROP DATABASE other")
	if s.DB() != "" {
		t.Errorf("database %q, which was dropped", s.DB())
	}

	s.Use("d")
	id := s.ID()
	if _, err := s.Do(ctx, &subjects.Request{SQL: "BEGIN"}); err != nil {
		t.Fatal(err)
	}
	s.Renew()
	if s.ID() == id || s.InTx() || s.DB() != "d" {
		t.Errorf("renewed session %q of %q: database %q, transaction %t", s.ID(), id, s.DB(), s.InTx())
	}
	do("INSERT INTO t VALUES (4)")
	assertEqual(t, c, "snap1")
}

// A result that is cut inside a transaction cannot be gone on with: it must not
// look complete.
func TestResultCutForGoodIsAnError(t *testing.T) {
	t.Parallel()
	c := connect(t, start(t, 0))
	s := c.NewSession("d")
	var resp *subjects.Response
	var err error
	for _, sql := range []string{"CREATE TABLE t (a)", "BEGIN", "INSERT INTO t VALUES (1)", "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 700) SELECT i, hex(zeroblob(5000)) FROM n"} {
		if resp, err = s.Do(t.Context(), &subjects.Request{SQL: sql}); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	rows := 0
	err = s.Pages(t.Context(), 0, &resp.Results[0], func(page *subjects.Result) error {
		rows += len(page.Rows)
		return nil
	})
	if rows < 700 && !errors.Is(err, client.ErrCut) || rows == 700 && err != nil {
		t.Errorf("%d rows, then %v", rows, err)
	}
}

// Many goroutines share a client, some give up early: each gets its own answer,
// and none another's.
func TestManyShareOneClient(t *testing.T) {
	t.Parallel()
	c := connect(t, start(t, 1))
	must(t, c, "d", "CREATE TABLE t (a INTEGER PRIMARY KEY)")
	const goroutines, requests = 64, 40
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(g), 7))
			for i := range requests {
				key := int64(g*requests + i)
				req := &subjects.Request{DB: "d", SQL: "SELECT ?", Args: []subjects.Value{subjects.IntegerValue(key)}}
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				if rng.IntN(4) == 0 {
					ctx, cancel = context.WithTimeout(t.Context(), time.Duration(rng.IntN(1000))*time.Microsecond)
				}
				door := []string{subjects.Exec, subjects.Query, subjects.NodeQuery("snap1")}[rng.IntN(3)]
				resp, err := c.Do(ctx, door, req)
				gaveUp := ctx.Err() != nil
				cancel()
				switch {
				case err != nil && !(gaveUp && errors.Is(err, client.ErrTimeout) && errors.Is(err, context.DeadlineExceeded)):
					t.Errorf("request %d at %s: %v", key, door, err)
				case err == nil && resp.Results[0].Rows[0][0].Int() != key:
					t.Errorf("request %d got the answer of %v", key, resp.Results[0].Rows[0][0].Int())
				}
				if i%8 == 0 {
					if _, err := c.Exec(t.Context(), &subjects.Request{DB: "d", SQL: "INSERT INTO t VALUES (?)", Args: req.Args}); err != nil {
						t.Errorf("insert %d: %v", key, err)
					}
				}
			}
		})
	}
	wg.Wait()
	if n := must(t, c, "d", "SELECT count(*) FROM t").Results[0].Rows[0][0].Int(); n != goroutines*requests/8 {
		t.Errorf("%d rows, want %d", n, goroutines*requests/8)
	}
	assertEqual(t, c, "snap1")
}
