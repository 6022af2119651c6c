//go:build unix

package exec_test

import (
	"errors"
	"os"
	osexec "os/exec"
	"os/signal"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/google/go-cmp/cmp"

	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/exec/engine"
	"github.com/snapdb/snapdb/subjects"
)

// limitFiles makes every write of this process beyond size bytes of a file fail, as
// a full disk does; 0 lifts the limit.
func limitFiles(t *testing.T, size int64) {
	t.Helper()
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &lim); err != nil {
		t.Fatal(err)
	}
	lim.Cur = lim.Max
	if size > 0 {
		lim.Cur = uint64(size)
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &lim); err != nil {
		t.Fatal(err)
	}
}

func fileSize(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// A disk that is full shows before the log says that a group is committed, and
// leaves nothing; one that gets full after that leaves a copy that knows it is
// behind. The limit that stands for the disk is of a whole process, so this test
// runs itself in another one.
func TestFullDisk(t *testing.T) {
	const inChild = "SNAPDB_EXEC_TEST_FULL_DISK"
	if os.Getenv(inChild) == "" {
		cmd := osexec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFullDisk$", "-test.v")
		cmd.Env = append(os.Environ(), inChild+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	signal.Ignore(unix.SIGXFSZ)
	h, master, slave := cluster(t, "CREATE TABLE t (a)", "INSERT INTO t VALUES ('before')")
	h.replay(slave, 1)
	before := master.checksum("d")
	d, wal := master.database("d"), master.file("d")+"-wal"
	large := text("INSERT INTO t SELECT randomblob(100000) FROM (VALUES (1), (2), (3), (4), (5), (6), (7), (8))")

	// Full while the group is made.
	g, err := d.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if o := h.run(d, g, large); o.err != nil {
		t.Fatal(o.err)
	}
	limitFiles(t, fileSize(t, wal)+100_000)
	_, err = g.Seal()
	var ee *engine.Error
	if !errors.As(err, &ee) || !ee.Environmental() {
		t.Errorf("the group was sealed on a full disk: %v", err)
	}
	if err := g.Rollback(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, master.checksum("d")); diff != "" {
		t.Errorf("the group left something: %s", diff)
	}
	limitFiles(t, 0)
	h.mustWrite(master, "d", "INSERT INTO t VALUES ('between')")

	// Full after the group was sealed: the log has it, and is replayed.
	if g, err = d.Begin(); err != nil {
		t.Fatal(err)
	}
	if o := h.run(d, g, large); o.err != nil {
		t.Fatal(o.err)
	}
	body, err := g.Seal()
	if err != nil {
		t.Fatal(err)
	}
	limitFiles(t, fileSize(t, wal))
	at := d.Applied()
	m := h.add(subjects.Header{DB: "d", Inc: d.Incarnation(), Prev: at.Number, Chain: subjects.NextChain(at.Chain, d.Incarnation(), body)}, body)
	if err := g.Commit(m.Position, m.Header.Chain); err == nil {
		t.Error("committed on a full disk")
	}
	if d.Applied() != at {
		t.Errorf("at %v after a commit that failed, %v before", d.Applied(), at)
	}
	limitFiles(t, 0)
	h.replay(master, 1)

	// Full while a slave applies.
	limitFiles(t, fileSize(t, slave.file("d")+"-wal"))
	if n, err := h.apply(slave, "d", h.msgs[3:]...); n != 0 || err == nil || errors.As(err, new(*exec.DivergedError)) {
		t.Errorf("applied on a full disk: %d, %v", n, err)
	}
	limitFiles(t, 0)
	h.replay(slave, 1)
	same(t, master, slave)
}
