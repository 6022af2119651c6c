package exec_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// node is one data directory in a test.
type node struct {
	*exec.Store
	t *testing.T
}

func open(t *testing.T, dir string, role exec.Role) *node {
	t.Helper()
	s, err := exec.Open(dir, exec.Options{Role: role})
	if err != nil {
		t.Fatal(err)
	}
	n := &node{s, t}
	t.Cleanup(func() { n.Close() })
	return n
}

// history is a log kept in memory: what package broker does for real.
type history struct {
	t    *testing.T
	msgs []*subjects.Message
}

func (h *history) add(head subjects.Header, body []byte) *subjects.Message {
	m := &subjects.Message{Position: uint64(len(h.msgs) + 1), Header: head, Data: append([]byte(nil), body...)}
	h.msgs = append(h.msgs, m)
	return m
}

func (h *history) command(n *node, sql string) {
	h.t.Helper()
	cmd, _, err := exec.ParseCommand(sql)
	if err != nil {
		h.t.Fatal(err)
	}
	body := n.Catalog().Body(cmd, 1)
	at := n.Catalog().Applied()
	m := h.add(subjects.Header{DB: subjects.Catalog, Prev: at.Number, Chain: subjects.NextChain(at.Chain, 0, body)}, body)
	if err := n.ApplyCatalog(m); err != nil {
		h.t.Fatal(err)
	}
}

// write executes each SQL text as one request of the same group.
func (h *history) write(n *node, db string, sqls ...string) []error {
	h.t.Helper()
	d, err := n.Database(db)
	if err != nil {
		h.t.Fatal(err)
	}
	g, err := d.Begin()
	if err != nil {
		h.t.Fatal(err)
	}
	var errs []error
	for i, sql := range sqls {
		tx, err := g.Open(subjects.Txn{Now: time.Now().UnixMilli(), Seed: uint64(i) * 77})
		if err != nil {
			h.t.Fatal(err)
		}
		var out subjects.Results
		err = tx.RunAll([]subjects.Stmt{{SQL: sql}}, &out)
		if err == nil {
			err = tx.Accept(out.Bytes())
		}
		if err != nil {
			if err := tx.Abort(); err != nil {
				h.t.Fatal(err)
			}
		} else if !json.Valid([]byte("[" + string(out.Bytes()) + "]")) {
			h.t.Errorf("results are no JSON: %s", out.Bytes())
		}
		errs = append(errs, err)
	}
	body, err := g.Seal()
	if err != nil {
		h.t.Fatal(err)
	}
	at := d.Applied()
	head := subjects.Header{DB: db, Inc: d.Incarnation(), Prev: at.Number, Chain: subjects.NextChain(at.Chain, d.Incarnation(), body)}
	m := h.add(head, body)
	if err := g.Commit(m.Position, head.Chain); err != nil {
		h.t.Fatal(err)
	}
	return errs
}

func (h *history) replay(n *node) {
	h.t.Helper()
	for _, m := range h.msgs {
		if m.Header.DB == subjects.Catalog {
			if err := n.ApplyCatalog(m); err != nil {
				h.t.Fatal(err)
			}
			continue
		}
		d, err := n.Database(m.Header.DB)
		if err != nil {
			h.t.Fatal(err)
		}
		if _, err := d.Apply(context.Background(), []*subjects.Message{m}, exec.Source{}); err != nil {
			h.t.Fatalf("message %d: %v\n%s", m.Position, err, m.Data)
		}
	}
}

func (n *node) query(db, sql string) string {
	n.t.Helper()
	d, err := n.Database(db)
	if err != nil {
		n.t.Fatal(err)
	}
	s, err := d.Read(context.Background(), time.Time{}, subjects.Counters{}, true)
	if err != nil {
		n.t.Fatal(err)
	}
	defer s.Close()
	var out subjects.Results
	if _, err := s.ReadAll([]subjects.Stmt{{SQL: sql}}, &out, exec.PageBytes); err != nil {
		n.t.Fatal(err)
	}
	var r subjects.Response
	if err := subjects.DecodeResponse(subjects.AppendResponse(nil, out.Bytes(), &subjects.Response{}), &r); err != nil {
		n.t.Fatal(err)
	}
	return fmt.Sprint(r.Results[0].Rows)
}

func TestSameContent(t *testing.T) {
	h := &history{t: t}
	master, slave := open(t, t.TempDir(), exec.RoleMaster), open(t, t.TempDir(), exec.RoleSlave)
	h.command(master, "CREATE DATABASE SnapDB")
	for i, err := range h.write(master, "SnapDB",
		`CREATE TABLE a (id INTEGER PRIMARY KEY, r DEFAULT (random()), at TEXT DEFAULT CURRENT_TIMESTAMP)`,
		`INSERT INTO a (id) VALUES (1), (2), (3) RETURNING r, at`,
		`CREATE VIRTUAL TABLE f USING fts5(x); INSERT INTO f VALUES ('hello world')`,
		`CREATE TABLE c AS SELECT random() AS r, datetime('now') AS d FROM a ORDER BY random()`,
	) {
		if err != nil {
			t.Errorf("statement %d: %v", i, err)
		}
	}
	// A failing transaction hurts nobody else, even one that takes SQLite's whole
	// transaction with it.
	errs := h.write(master, "SnapDB",
		`INSERT INTO a (id) VALUES (10)`,
		`INSERT OR ROLLBACK INTO a (id) VALUES (1)`,
		`INSERT INTO a (id) VALUES (11)`,
		`INSERT INTO a (id) VALUES (1)`,
		`INSERT INTO a (id) VALUES (12)`)
	for i, bad := range []bool{false, true, false, true, false} {
		if (errs[i] != nil) != bad {
			t.Errorf("request %d: %v", i, errs[i])
		}
	}
	h.replay(slave)
	for _, sql := range []string{"SELECT * FROM a", "SELECT * FROM c", "SELECT * FROM f", "SELECT count(*) FROM a"} {
		if m, s := master.query("SnapDB", sql), slave.query("SnapDB", sql); m != s {
			t.Errorf("%s\nmaster %s\nslave  %s", sql, m, s)
		}
	}
	if got := master.query("SnapDB", "SELECT count(*) FROM a"); got != "[[{1 6 []}]]" {
		t.Errorf("count: %s", got)
	}
	md, _ := master.Database("SnapDB")
	sd, _ := slave.Database("SnapDB")
	if md.Applied() != sd.Applied() {
		t.Errorf("positions differ: %v, %v", md.Applied(), sd.Applied())
	}
	h.command(master, "DROP DATABASE snapdb")
	if err := slave.ApplyCatalog(h.msgs[len(h.msgs)-1]); err != nil {
		t.Fatal(err)
	}
	if len(slave.Databases()) != 0 {
		t.Error("the slave still has the database")
	}
}
