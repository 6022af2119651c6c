package exec_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/exec/engine"
	"github.com/snapdb/snapdb/subjects"
)

// heapWatch measures by how much the Go heap has grown. What SQLite has is
// bounded by its page cache.
type heapWatch struct{ start, most uint64 }

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func newHeapWatch() *heapWatch { return &heapWatch{start: heap()} }

func (w *heapWatch) look() { w.most = max(w.most, heap()) }

func (w *heapWatch) check(t *testing.T, what string, bound uint64) {
	t.Helper()
	if w.most > w.start+bound {
		t.Errorf("%s: the heap grew by %d MB, at most %d expected", what, (w.most-w.start)>>20, bound>>20)
	}
}

// A transaction of any size is one transaction: it goes to disk, and neither who
// makes it nor who applies it keeps it in memory.
func TestLargeTransactionTakesBoundedMemory(t *testing.T) {
	const rows, bound = 200_000, 32 << 20
	h, master, slave := cluster(t, "CREATE TABLE t (id INTEGER PRIMARY KEY, s TEXT, n INTEGER)")
	h.replay(slave, 1)
	d := master.database("d")
	g, err := d.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer g.Rollback()
	if o := h.run(d, g, text("INSERT INTO t VALUES (-1, 'before', 0)")); o.err != nil {
		t.Fatal(o.err)
	}
	tx, err := g.Open(subjects.Txn{Now: 1, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	st, _, err := d.Writer().Prepare("INSERT INTO t VALUES (?, ?, random())", 0, engine.GuardWrite)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	watch := newHeapWatch()
	for i := range int64(rows) {
		args := []subjects.Value{subjects.IntegerValue(i), subjects.TextValue("a row among many others")}
		if err := tx.Run(st, args, nil); err != nil {
			t.Fatal(err)
		}
		if i%20_000 == 0 {
			watch.look()
		}
	}
	watch.check(t, "executing", bound)
	if err := tx.Accept(nil); err != nil {
		t.Fatal(err)
	}
	if !g.Full() {
		t.Error("a group with a large transaction takes more")
	}
	h.commit(d, g)
	m := h.msgs[len(h.msgs)-1]
	if len(m.Data) > 1000 {
		t.Fatalf("the message has %d bytes", len(m.Data))
	}

	watch = newHeapWatch()
	last := 0
	n, err := slave.database("d").Apply(context.Background(), []*subjects.Message{m}, exec.Source{OpenBlob: h.blobs.open, Progress: func(statements int) {
		if statements-last >= 20_000 {
			last = statements
			watch.look()
		}
	}})
	if n != 1 || err != nil || last < rows-20_000 {
		t.Fatalf("%d messages, %d statements: %v", n, last, err)
	}
	watch.check(t, "applying", bound)
	same(t, master, slave)
	if got := slave.query("d", "SELECT count(*) FROM t"); got != fmt.Sprint(rows+1) {
		t.Errorf("%s rows", got)
	}
}

// Whatever becomes of a large transaction, its neighbours are not touched and
// nothing is left on disk.
func TestLargeTransactionAmongOthers(t *testing.T) {
	h, master, slave := cluster(t, "CREATE TABLE t (a UNIQUE, b DEFAULT (random()))")
	big := func(mark, end string) request {
		r := request{}
		for i := range 12 {
			r.stmts = append(r.stmts, subjects.Stmt{SQL: "INSERT INTO t (a) VALUES (?)", Args: []subjects.Value{subjects.TextValue(mark + fmt.Sprint(i) + strings.Repeat("x", 100_000))}})
		}
		r.stmts = append(r.stmts, subjects.Stmt{SQL: end})
		return r
	}
	bigInteractive := big("interactive", "INSERT INTO t (a) VALUES (8)")
	bigInteractive.interactive = true
	withID := big("id", "SELECT count(*) FROM t")
	withID.id = "large"
	rolledBack := big("never", "SELECT 1")
	rolledBack.interactive, rolledBack.rollback = true, true
	for name, c := range map[string]struct {
		reqs []request
		fail int // index of the one that fails, -1 for none
	}{
		"alone":            {[]request{big("alone", "SELECT 1")}, -1},
		"last":             {[]request{text("INSERT INTO t (a) VALUES (6)"), text("INSERT INTO t (a) VALUES (7)"), big("last", "SELECT 1")}, -1},
		"fails":            {[]request{text("INSERT INTO t (a) VALUES (1)"), big("fails", "INSERT INTO t (a) VALUES (1)"), text("INSERT INTO t (a) VALUES (2)")}, 1},
		"takes the group":  {[]request{text("INSERT INTO t (a) VALUES (3)"), big("takes", "INSERT OR ROLLBACK INTO t (a) VALUES (3)"), text("INSERT INTO t (a) VALUES (4)")}, 1},
		"interactive":      {[]request{bigInteractive}, -1},
		"with an id":       {[]request{withID}, -1},
		"rolled back":      {[]request{text("INSERT INTO t (a) VALUES (5)"), rolledBack}, -1},
		"only one value":   {[]request{text("INSERT INTO t (a) VALUES (?)", subjects.BlobValue(make([]byte, 2<<20)))}, -1},
		"only a long text": {[]request{text("INSERT INTO t (a) VALUES ('" + strings.Repeat("y", 2<<20) + "')")}, -1},
	} {
		for i, o := range h.group(master, "d", c.reqs...) {
			if (o.err != nil) != (i == c.fail) {
				t.Errorf("%s: request %d: %v", name, i, o.err)
			}
		}
	}
	h.replay(slave, 3)
	same(t, master, slave)
	if left, err := filepath.Glob(filepath.Join(h.blobs.dir, "spill-*")); err != nil || len(left) > 0 {
		t.Errorf("left on disk: %v, %v", left, err)
	}

	// A group that is rolled back after a large transaction takes its blob along.
	d := master.database("d")
	g, err := d.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if o := h.run(d, g, big("gone", "SELECT 1")); o.err != nil {
		t.Fatal(o.err)
	}
	if err := g.Rollback(); err != nil {
		t.Fatal(err)
	}
	if left, err := filepath.Glob(filepath.Join(h.blobs.dir, "spill-*")); err != nil || len(left) > 0 {
		t.Errorf("left on disk after a rollback: %v, %v", left, err)
	}
	same(t, master, slave)
}

// A disk on which no blob can be kept fails the transaction, not the group.
func TestLargeTransactionWithoutRoomForIt(t *testing.T) {
	h, master, slave := cluster(t, "CREATE TABLE t (a)")
	if err := os.Rename(h.blobs.dir, h.blobs.dir+".away"); err != nil {
		t.Fatal(err)
	}
	big := subjects.BlobValue(make([]byte, 2<<20))
	outcomes := h.group(master, "d", text("INSERT INTO t VALUES (1)"), text("INSERT INTO t VALUES (?)", big), text("INSERT INTO t VALUES (2)"))
	if outcomes[0].err != nil || outcomes[1].err == nil || outcomes[2].err != nil {
		t.Errorf("%v", codes(outcomes))
	}
	if err := os.Rename(h.blobs.dir+".away", h.blobs.dir); err != nil {
		t.Fatal(err)
	}
	h.replay(slave, 1)
	same(t, master, slave)
}

// The disk may be full when the last bytes of a transaction are written, after all
// of its statements have succeeded: it must be undone all the same, or the group
// would commit what it does not log.
func TestLargeTransactionWhoseEndDoesNotFit(t *testing.T) {
	h, master, slave := cluster(t, "CREATE TABLE t (a)")
	row := text("INSERT INTO t VALUES (?)", subjects.BlobValue(make([]byte, 300<<10)))
	large := request{stmts: []subjects.Stmt{row.stmts[0], row.stmts[0], row.stmts[0], row.stmts[0], {SQL: "INSERT INTO t VALUES ('end')"}}}
	if outcomes := h.group(master, "d", large); outcomes[0].err != nil {
		t.Fatal(outcomes[0].err)
	}
	files, err := os.ReadDir(h.blobs.dir)
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	info, err := files[0].Info()
	if err != nil {
		t.Fatal(err)
	}
	h.blobs.room = info.Size() - 20
	outcomes := h.group(master, "d", large, text("INSERT INTO t VALUES (1)"), text("INSERT INTO t VALUES (2)"))
	if outcomes[0].err == nil || outcomes[1].err != nil || outcomes[2].err != nil {
		t.Errorf("%v", codes(outcomes))
	}
	h.replay(slave, 1)
	same(t, master, slave)
	if left, err := filepath.Glob(filepath.Join(h.blobs.dir, "spill-*")); err != nil || len(left) > 0 {
		t.Errorf("left on disk: %v, %v", left, err)
	}
}
