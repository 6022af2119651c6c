package exec_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/exec/engine"
	"github.com/snapdb/snapdb/subjects"
)

// forge makes the message that a master with other ideas would have stored after
// position at.
func forge(t tb, d *exec.Database, m *subjects.Message, change func(*subjects.Body)) *subjects.Message {
	t.Helper()
	var b subjects.Body
	if err := subjects.DecodeBody(bytes.Clone(m.Data), &b); err != nil {
		t.Fatal(err)
	}
	change(&b)
	return signed(d, m, subjects.AppendBody(nil, &b))
}

// signed is m with another body and the chain that belongs to it.
func signed(d *exec.Database, m *subjects.Message, body []byte) *subjects.Message {
	f := *m
	f.Data = body
	f.Header.Chain = subjects.NextChain(d.Applied().Chain, d.Incarnation(), body)
	return &f
}

func (h *history) apply(n *node, db string, msgs ...*subjects.Message) (int, error) {
	return n.database(db).Apply(context.Background(), msgs, exec.Source{OpenBlob: h.blobs.open})
}

func TestContinuity(t *testing.T) {
	h, master, slave := cluster(t, "CREATE TABLE t (a)")
	h.mustWrite(master, "d", "INSERT INTO t VALUES (1)")
	h.step(slave, 1)
	h.step(slave, 1)
	d, at := slave.database("d"), slave.database("d").Applied()
	next := h.msgs[2]
	for name, c := range map[string]struct {
		change func(*subjects.Message)
		want   exec.Continuity
	}{
		"the next one":         {func(*subjects.Message) {}, exec.Next},
		"one applied before":   {func(m *subjects.Message) { *m = *h.msgs[1] }, exec.Old},
		"one of an older time": {func(m *subjects.Message) { m.Position = 1 }, exec.Old},
		"one after a gap":      {func(m *subjects.Message) { m.Header.Prev++; m.Position++ }, exec.Broken},
		"another incarnation":  {func(m *subjects.Message) { m.Header.Inc++ }, exec.Broken},
		"another chain":        {func(m *subjects.Message) { m.Header.Chain[3]++ }, exec.Broken},
		"another body":         {func(m *subjects.Message) { m.Data = bytes.Replace(m.Data, []byte("(1)"), []byte("(2)"), 1) }, exec.Broken},
	} {
		m := *next
		c.change(&m)
		if got := at.Continues(d.Incarnation(), &m); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
		if c.want == exec.Next {
			continue
		}
		if n, err := h.apply(slave, "d", &m); n != 0 || !errors.Is(err, exec.ErrBroken) {
			t.Errorf("apply %s: %d, %v", name, n, err)
		}
	}
	h.replay(slave, 1)
	same(t, master, slave)
}

// What cannot be applied leaves the copy where it was, and says at which message
// and why.
func TestDivergence(t *testing.T) {
	h, master, slave := cluster(t, "CREATE TABLE t (id INTEGER PRIMARY KEY, a)")
	h.group(master, "d", interactive("INSERT INTO t VALUES (1, random() || last_insert_rowid()) RETURNING a", "INSERT INTO t VALUES (1, 2)"))
	h.step(slave, 1)
	h.step(slave, 1)
	d, before := slave.database("d"), slave.checksum("d")
	good := h.msgs[2]
	stmts := func(b *subjects.Body) []subjects.LogStmt { return b.Txns[0].Stmts }
	for name, change := range map[string]func(b *subjects.Body){
		"another sum":                        func(b *subjects.Body) { b.Txns[0].Sum++ },
		"another seed":                       func(b *subjects.Body) { b.Txns[0].Seed++ },
		"other counters":                     func(b *subjects.Body) { b.Txns[0].Counters.RowID = 9 },
		"a statement more":                   func(b *subjects.Body) { b.Txns[0].Stmts = append(stmts(b), stmts(b)[1]) },
		"a statement less":                   func(b *subjects.Body) { b.Txns[0].Stmts = stmts(b)[:1] },
		"a failure that was none":            func(b *subjects.Body) { stmts(b)[0].Fails = "x" },
		"a success that was none":            func(b *subjects.Body) { stmts(b)[1].Fails = "" },
		"two statements in one":              func(b *subjects.Body) { stmts(b)[0].SQL += "; DELETE FROM t" },
		"no statement":                       func(b *subjects.Body) { stmts(b)[0].SQL = "-- nothing" },
		"a syntax error":                     func(b *subjects.Body) { stmts(b)[0].SQL = "SELEKT" },
		"a table that is not here":           func(b *subjects.Body) { stmts(b)[0].SQL = "INSERT INTO gone VALUES (1)" },
		"what no client may write":           func(b *subjects.Body) { stmts(b)[0].SQL = "DELETE FROM _snapdb_applied" },
		"a parameter more":                   func(b *subjects.Body) { stmts(b)[0].SQL = "INSERT INTO t VALUES (1, ?)" },
		"foreign keys violated at the end":   func(b *subjects.Body) { stmts(b)[0].SQL = "PRAGMA defer_foreign_keys = ON" },
		"a COMMIT":                           func(b *subjects.Body) { stmts(b)[0].SQL = "COMMIT" },
		"something that takes all back":      func(b *subjects.Body) { stmts(b)[0].SQL = "INSERT OR ROLLBACK INTO t VALUES (1, 2), (1, 3)" },
		"the largest rowid":                  func(b *subjects.Body) { stmts(b)[0].SQL = "INSERT INTO t VALUES (9223372036854775807, 1)" },
		"a value beyond the limits":          func(b *subjects.Body) { stmts(b)[0].SQL = "INSERT INTO t VALUES (1, zeroblob(100000000))" },
		"one transaction for another's kind": func(b *subjects.Body) { b.Txns[0].Interactive = false },
	} {
		m := forge(t, d, good, change)
		n, err := h.apply(slave, "d", m)
		var diverged *exec.DivergedError
		if n != 0 || !errors.As(err, &diverged) || diverged.Position != m.Position || diverged.Database != "d" {
			t.Errorf("%s: %d, %v", name, n, err)
		}
		if diff := cmp.Diff(before, slave.checksum("d")); diff != "" {
			t.Fatalf("%s left something: %s", name, diff)
		}
	}
	m := signed(d, good, good.Data[:len(good.Data)-9])
	if _, err := h.apply(slave, "d", m); !errors.As(err, new(*exec.DivergedError)) || !errors.Is(err, subjects.ErrMalformed) {
		t.Errorf("a body cut short: %v", err)
	}
	// Another engine is no divergence: it might have been right.
	m = forge(t, d, good, func(b *subjects.Body) { b.Engine = "0123456789abcdef" })
	if _, err := h.apply(slave, "d", m); !errors.Is(err, exec.ErrEngine) || errors.As(err, new(*exec.DivergedError)) {
		t.Errorf("another engine: %v", err)
	}
	// Nor is a message of a newer program, whatever else it holds.
	for _, rest := range []string{`,"db":"d","txns":[]}`, `,"what":[{}]}`} {
		m = signed(d, good, []byte(`{"v":2`+rest))
		if n, err := h.apply(slave, "d", m); n != 0 || !errors.Is(err, subjects.ErrVersion) || errors.As(err, new(*exec.DivergedError)) {
			t.Errorf("a newer message: %d, %v", n, err)
		}
	}
	h.replay(slave, 1)
	same(t, master, slave)
}

// Of several messages, those before the bad one are applied.
func TestApplyStopsExactlyWhereItBelongs(t *testing.T) {
	h, master, slave := cluster(t, "CREATE TABLE t (a)")
	for range 5 {
		h.mustWrite(master, "d", "INSERT INTO t VALUES (random())", "INSERT INTO t VALUES (2)")
	}
	h.step(slave, 1) // CREATE DATABASE
	all := h.msgs[1:]
	bad := slices.Clone(all)
	broken := *all[3]
	broken.Data = bytes.Replace(broken.Data, []byte("(2)"), []byte("(3)"), 1)
	bad[3] = &broken
	n, err := h.apply(slave, "d", bad...)
	if n != 3 || !errors.Is(err, exec.ErrBroken) || slave.database("d").Applied().Number != all[2].Position {
		t.Fatalf("%d messages, at %v, %v", n, slave.database("d").Applied(), err)
	}
	h.replay(slave, 10)
	same(t, master, slave)
}

// The end of its context stops an apply at once, and is not divergence.
func TestApplyIsInterrupted(t *testing.T) {
	h, master, slave := cluster(t, "CREATE TABLE t (a)")
	var reqs []request
	for range 300 {
		reqs = append(reqs, text("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 50) INSERT INTO t SELECT i FROM n"))
	}
	for range 4 {
		h.group(master, "d", reqs...)
	}
	h.step(slave, 1)
	ctx, cancel := context.WithCancelCause(context.Background())
	stopping := errors.New("stopping")
	seen := 0
	n, err := slave.database("d").Apply(ctx, h.msgs[1:], exec.Source{Progress: func(statements int) {
		if seen = statements; seen > 1000 {
			cancel(stopping)
		}
	}})
	if n != 0 || !errors.Is(err, stopping) || errors.As(err, new(*exec.DivergedError)) || seen < 1000 {
		t.Errorf("%d messages after %d statements: %v", n, seen, err)
	}
	h.replay(slave, 2)
	same(t, master, slave)
}

// A write behind snapdb's back is seen before anything is built upon it.
func TestForeignWriteIsSeen(t *testing.T) {
	h, master, slave := cluster(t, "CREATE TABLE t (a)")
	h.replay(slave, 1)
	h.mustWrite(master, "d", "INSERT INTO t VALUES (1)")
	for name, n := range map[string]*node{"master": master, "slave": slave} {
		c, err := engine.Open(n.file("d"), engine.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Exec("SELECT * FROM t"); err != nil { // a look is no harm
			t.Fatal(err)
		}
		try := func() error {
			if name == "slave" {
				_, err := h.apply(n, "d", h.msgs[2])
				return err
			}
			g, err := n.database("d").Begin()
			if err == nil {
				err = g.Rollback()
			}
			return err
		}
		if name == "master" {
			if err := try(); err != nil {
				t.Errorf("%s after a look: %v", name, err)
			}
		}
		if err := c.Exec("DELETE FROM t"); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			err := try()
			if !errors.Is(err, exec.ErrForeignWrite) {
				t.Errorf("%s: %v", name, err)
			}
			wantCode(t, name, err, subjects.CodeUnavailable)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Of a large body, what is wrong with the blob is told apart from what is wrong
// with its content.
func TestBlobTrouble(t *testing.T) {
	h, master, slave := cluster(t, "CREATE TABLE t (a)")
	big := text("INSERT INTO t VALUES (?)", subjects.TextValue(strings.Repeat("x", 2<<20)))
	h.group(master, "d", text("INSERT INTO t VALUES (1)"), big)
	h.step(slave, 1)
	h.step(slave, 1)
	d, m := slave.database("d"), h.msgs[2]
	if bytes.Contains(m.Data, []byte("xxx")) {
		t.Fatal("the body was not large enough for a blob")
	}
	n, err := d.Apply(context.Background(), []*subjects.Message{m}, exec.Source{OpenBlob: (&blobs{dir: t.TempDir()}).open})
	if n != 0 || !errors.Is(err, fs.ErrNotExist) || errors.As(err, new(*exec.DivergedError)) {
		t.Errorf("a blob that is not there: %d, %v", n, err)
	}
	for name, content := range map[string]string{
		"rubbish":      "rubbish\n",
		"half a line":  `{"now":1,"seed":"0000000000000001"`,
		"no end":       `{"now":1,"seed":"0000000000000001"}` + "\n" + `{"sql":"INSERT INTO t VALUES (1)"}` + "\n",
		"another sum":  `{"now":1,"seed":"0000000000000001"}` + "\n" + `{"sql":"INSERT INTO t VALUES (1)"}` + "\n" + `{"sum":"0000000000000001"}` + "\n",
		"wrong values": `{"now":1,"seed":"0000000000000001"}` + "\n" + `{"sql":"INSERT INTO t VALUES (1)","args":[1]}` + "\n" + `{"sum":"0000000000000001"}` + "\n",
	} {
		sp, err := h.blobs.spill()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := sp.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
		ref, err := sp.Commit()
		if err != nil {
			t.Fatal(err)
		}
		forged := forge(t, d, m, func(b *subjects.Body) { b.Blob = &ref })
		n, err := h.apply(slave, "d", forged)
		if n != 0 || !errors.As(err, new(*exec.DivergedError)) {
			t.Errorf("%s: %d, %v", name, n, err)
		}
	}
	h.replay(slave, 1)
	same(t, master, slave)
}
