package exec_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"hash"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// tb is what a test, a benchmark and a property have in common.
type tb interface {
	Helper()
	Error(args ...any)
	Errorf(format string, args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Cleanup(f func())
}

func tempDir(t tb) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "snapdb-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// node is one data directory in a test.
type node struct {
	*exec.Store
	t    tb
	dir  string
	opts exec.Options
}

func open(t tb, dir string, o exec.Options) *node {
	t.Helper()
	n := &node{t: t, dir: dir, opts: o}
	n.reopen()
	t.Cleanup(n.close)
	return n
}

// newMaster opens a master that keeps large bodies where h finds them.
func newMaster(t tb, h *history) *node {
	t.Helper()
	return open(t, tempDir(t), exec.Options{Role: exec.RoleMaster, Spill: h.blobs.spill})
}

func newSlave(t tb) *node {
	t.Helper()
	return open(t, tempDir(t), exec.Options{Role: exec.RoleSlave})
}

// close ends a node as a clean stop does. It may be closed again.
func (n *node) close() {
	n.t.Helper()
	if n.Store == nil {
		return
	}
	if err := n.Store.Close(); err != nil {
		n.t.Error(err)
	}
	n.Store = nil
}

// reopen starts a closed node again.
func (n *node) reopen() {
	n.t.Helper()
	s, err := exec.Open(n.dir, n.opts)
	if err != nil {
		n.t.Fatal(err)
	}
	n.Store = s
}

// file is the file of a database.
func (n *node) file(db string) string { return filepath.Join(n.dir, db+".db") }

func (n *node) database(name string) *exec.Database {
	n.t.Helper()
	d, err := n.Database(name)
	if err != nil {
		n.t.Fatal(err)
	}
	return d
}

func (n *node) read(db string) *exec.Snapshot {
	n.t.Helper()
	s, err := n.database(db).Read(context.Background(), time.Time{}, subjects.Counters{})
	if err != nil {
		n.t.Fatal(err)
	}
	return s
}

// rows are the rows of the last statement of a read, as they travel.
func (n *node) rows(db, sql string, args ...subjects.Value) [][]subjects.Value {
	n.t.Helper()
	s := n.read(db)
	defer s.Close()
	var out subjects.Results
	more, err := s.ReadAll([]subjects.Stmt{{SQL: sql, Args: args}}, &out, exec.PageBytes)
	if err != nil {
		n.t.Fatalf("%s: %v", sql, err)
	}
	if more != nil {
		n.t.Fatalf("%s: too many rows", sql)
	}
	results := decode(n.t, &out)
	return results[len(results)-1].Rows
}

// query is the only value that a read returns, as text.
func (n *node) query(db, sql string) string {
	n.t.Helper()
	rows := n.rows(db, "SELECT CAST(("+sql+") AS TEXT)")
	return string(rows[0][0].Bytes())
}

// decode reads results as a client does.
func decode(t tb, out *subjects.Results) []subjects.Result {
	t.Helper()
	var r subjects.Response
	if err := subjects.DecodeResponse(subjects.AppendResponse(nil, out.Bytes(), &subjects.Response{}), &r); err != nil {
		t.Fatal(err)
	}
	return r.Results
}

func (n *node) checksum(db string) *exec.Checksum {
	n.t.Helper()
	s := n.read(db)
	defer s.Close()
	sum, err := s.Checksum(context.Background())
	if err != nil {
		n.t.Fatal(err)
	}
	return sum
}

// same fails unless all nodes hold the same databases, with the same content, at
// the same positions.
func same(t tb, nodes ...*node) {
	t.Helper()
	for _, n := range nodes[1:] {
		if diff := cmp.Diff(nodes[0].Heads(), n.Heads()); diff != "" {
			t.Fatalf("other positions: %s", diff)
		}
		for _, d := range n.Databases() {
			want, got := nodes[0].checksum(d.Name()), n.checksum(d.Name())
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("database %s has other content: %s", d.Name(), diff)
			}
			if got.Position != d.Applied() {
				t.Fatalf("checksum at %v, applied %v", got.Position, d.Applied())
			}
		}
	}
}

// history is the log of a cluster, kept in memory: what package broker does for
// real.
type history struct {
	t     tb
	msgs  []*subjects.Message
	blobs blobs
	now   int64 // of the last request
}

func newHistory(t tb) *history {
	return &history{t: t, blobs: blobs{dir: tempDir(t)}, now: 1_780_000_000_000}
}

func (h *history) add(head subjects.Header, body []byte) *subjects.Message {
	m := &subjects.Message{Position: uint64(len(h.msgs) + 1), Header: head, Data: bytes.Clone(body)}
	h.msgs = append(h.msgs, m)
	return m
}

// command executes and logs a CREATE or DROP DATABASE.
func (h *history) command(n *node, sql string) {
	h.t.Helper()
	cmd, _, err := exec.ParseCommand(sql)
	if err != nil {
		h.t.Fatal(err)
	}
	if noEffect, err := n.Check(cmd); err != nil || noEffect {
		h.t.Fatalf("%s: without effect %v, %v", sql, noEffect, err)
	}
	body := n.Catalog().Body(cmd, 1)
	at := n.Catalog().Applied()
	m := h.add(subjects.Header{DB: subjects.Catalog, Prev: at.Number, Chain: subjects.NextChain(at.Chain, 0, body)}, body)
	if err := n.ApplyCatalog(m); err != nil {
		h.t.Fatal(err)
	}
}

// request is what a client sends: one transaction.
type request struct {
	stmts []subjects.Stmt
	// interactive says that each of stmts is one statement of a transaction that
	// goes on when one fails.
	interactive bool
	rollback    bool // it ends with ROLLBACK
	id          string
	counters    subjects.Counters
}

func text(sql string, args ...subjects.Value) request {
	return request{stmts: []subjects.Stmt{{SQL: sql, Args: args}}}
}

func interactive(sqls ...string) request {
	r := request{interactive: true}
	for _, sql := range sqls {
		r.stmts = append(r.stmts, subjects.Stmt{SQL: sql})
	}
	return r
}

// outcome is what the client of a request gets.
type outcome struct {
	results []subjects.Result
	err     error   // of the transaction
	errs    []error // of the statements of an interactive one
}

// run executes one request in an open group.
func (h *history) run(d *exec.Database, g *exec.Group, r request) outcome {
	h.t.Helper()
	h.now += 3_600_017
	tx, err := g.Open(subjects.Txn{Now: h.now, Seed: uint64(h.now) * 77, ID: r.id, Interactive: r.interactive, Counters: r.counters})
	if err != nil {
		h.t.Fatal(err)
	}
	var out subjects.Results
	var o outcome
	if r.interactive {
		for _, s := range r.stmts {
			d.Writer().BeginRequest() // each statement has its own time limit
			_, err := tx.RunNext(s.SQL, s.Args, &out)
			o.errs = append(o.errs, err)
			if tx.Ended() {
				o.err = err
				break
			}
		}
	} else {
		o.err = tx.RunAll(r.stmts, &out)
	}
	if o.err == nil && !r.rollback {
		o.err = tx.Accept(out.Bytes())
	}
	if o.err != nil || r.rollback {
		if err := tx.Abort(); err != nil {
			h.t.Fatal(err)
		}
		return o
	}
	if !json.Valid([]byte("[" + string(out.Bytes()) + "]")) {
		h.t.Errorf("results are no JSON: %s", out.Bytes())
	}
	o.results = decode(h.t, &out)
	failed := 0
	for _, err := range o.errs {
		if err != nil {
			failed++
		}
	}
	if r.interactive && len(o.results) != len(r.stmts)-failed {
		h.t.Errorf("%d results of %d statements, of which %d failed", len(o.results), len(r.stmts), failed)
	}
	return o
}

// group executes requests as one group and logs it.
func (h *history) group(n *node, db string, reqs ...request) []outcome {
	h.t.Helper()
	d := n.database(db)
	g, err := d.Begin()
	if err != nil {
		h.t.Fatal(err)
	}
	defer g.Rollback() // for a test that ends here: closing waits for groups
	outcomes := make([]outcome, len(reqs))
	for i, r := range reqs {
		outcomes[i] = h.run(d, g, r)
	}
	h.commit(d, g)
	return outcomes
}

// commit logs a group and commits it; an empty one is rolled back.
func (h *history) commit(d *exec.Database, g *exec.Group) {
	h.t.Helper()
	if g.Len() == 0 {
		if err := g.Rollback(); err != nil {
			h.t.Fatal(err)
		}
		return
	}
	body, err := g.Seal()
	if err != nil {
		h.t.Fatal(err)
	}
	at := d.Applied()
	head := subjects.Header{DB: d.Name(), Inc: d.Incarnation(), Prev: at.Number, Chain: subjects.NextChain(at.Chain, d.Incarnation(), body)}
	m := h.add(head, body)
	if err := g.Commit(m.Position, head.Chain); err != nil {
		h.t.Fatal(err)
	}
}

// write executes each SQL text as one request of the same group.
func (h *history) write(n *node, db string, sqls ...string) []error {
	h.t.Helper()
	reqs := make([]request, len(sqls))
	for i, sql := range sqls {
		reqs[i] = text(sql)
	}
	errs := make([]error, len(sqls))
	for i, o := range h.group(n, db, reqs...) {
		errs[i] = o.err
	}
	return errs
}

// mustWrite is write for requests that succeed.
func (h *history) mustWrite(n *node, db string, sqls ...string) {
	h.t.Helper()
	for i, err := range h.write(n, db, sqls...) {
		if err != nil {
			h.t.Fatalf("%s: %v", sqls[i], err)
		}
	}
}

// missing are the messages that a node lacks, at most limit of one database.
func (h *history) missing(n *node, limit int) (db string, msgs []*subjects.Message) {
	heads := n.Heads()
	for _, m := range h.msgs {
		if head, ok := heads[m.Header.DB]; ok && m.Position <= head.Position {
			continue
		}
		if len(msgs) > 0 && (m.Header.DB != db || len(msgs) == limit) {
			break
		}
		if m.Header.DB != subjects.Catalog && m.Header.Inc < heads[subjects.Catalog].Position && heads[m.Header.DB].Incarnation != m.Header.Inc {
			continue // of a database that was dropped
		}
		db = m.Header.DB
		msgs = append(msgs, m)
		if db == subjects.Catalog {
			break
		}
	}
	return db, msgs
}

// replay applies what a node lacks, up to batch messages at a time.
func (h *history) replay(n *node, batch int) {
	h.t.Helper()
	for h.step(n, batch) {
	}
}

// step applies the next messages that a node lacks; false if there are none.
func (h *history) step(n *node, batch int) bool {
	h.t.Helper()
	db, msgs := h.missing(n, batch)
	if len(msgs) == 0 {
		return false
	}
	if db == subjects.Catalog {
		if err := n.ApplyCatalog(msgs[0]); err != nil {
			h.t.Fatal(err)
		}
		return true
	}
	if k, err := n.database(db).Apply(context.Background(), msgs, exec.Source{OpenBlob: h.blobs.open, Image: h.blobs.image}); err != nil || k != len(msgs) {
		h.t.Fatalf("applied %d messages from %d on: %v\n%s", k, msgs[0].Position, err, msgs[min(k, len(msgs)-1)].Data)
	}
	return true
}

// blobs keeps large bodies in a folder.
type blobs struct {
	dir  string
	kept int
	room int64 // bytes of one blob that fit the disk; 0: all
}

func (b *blobs) spill() (exec.Spill, error) {
	f, err := os.CreateTemp(b.dir, "spill-")
	if err != nil {
		return nil, err
	}
	return &spill{b: b, f: f, name: f.Name(), h: sha256.New()}, nil
}

func (b *blobs) open(_ context.Context, ref subjects.BlobRef) (io.ReadCloser, error) {
	return os.Open(filepath.Join(b.dir, ref.Digest))
}

// image makes a file of one that was put into the folder under its digest.
func (b *blobs) image(_ context.Context, ref subjects.ImageRef, path string) error {
	data, err := os.ReadFile(filepath.Join(b.dir, ref.Digest))
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o600)
}

type spill struct {
	b    *blobs
	f    *os.File
	name string
	h    hash.Hash
	size int64
}

func (s *spill) Write(p []byte) (int, error) {
	if s.b.room > 0 && s.size+int64(len(p)) > s.b.room {
		return 0, syscall.ENOSPC
	}
	s.h.Write(p)
	s.size += int64(len(p))
	return s.f.Write(p)
}

func (s *spill) Commit() (subjects.BlobRef, error) {
	ref := subjects.BlobRef{Digest: hex.EncodeToString(s.h.Sum(nil)), Size: s.size}
	s.name = filepath.Join(s.b.dir, ref.Digest)
	err := errors.Join(s.f.Sync(), s.f.Close(), os.Rename(s.f.Name(), s.name))
	return ref, err
}

func (s *spill) Keep() { s.b.kept++ }

func (s *spill) Abort() {
	s.f.Close()
	os.Remove(s.name)
}

func wantCode(t tb, what string, err error, code subjects.Code) {
	t.Helper()
	if err == nil || exec.WireError(err).Code != code {
		t.Errorf("%s: %v, want code %s", what, err, code)
	}
}

func TestSameContent(t *testing.T) {
	h := newHistory(t)
	master, slave := newMaster(t, h), newSlave(t)
	h.command(master, "CREATE DATABASE SnapDB")
	h.mustWrite(master, "SnapDB",
		`CREATE TABLE a (id INTEGER PRIMARY KEY, r DEFAULT (random()), at TEXT DEFAULT CURRENT_TIMESTAMP)`,
		`INSERT INTO a (id) VALUES (1), (2), (3) RETURNING r, at`,
		`CREATE VIRTUAL TABLE f USING fts5(x); INSERT INTO f VALUES ('hello world')`,
		`CREATE TABLE c AS SELECT random() AS r, datetime('now') AS d FROM a ORDER BY random()`)
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
	h.replay(slave, 1)
	same(t, master, slave)
	if got := master.query("SnapDB", "SELECT count(*) FROM a"); got != "6" {
		t.Errorf("count: %s", got)
	}
	h.command(master, "DROP DATABASE snapdb")
	h.replay(slave, 1)
	same(t, master, slave)
	if len(slave.Databases()) != 0 {
		t.Error("the slave still has the database")
	}
}
