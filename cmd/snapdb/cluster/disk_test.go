//go:build linux

package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/snapdb/snapdb/agent/client"
	"github.com/snapdb/snapdb/subjects"
)

// disk is one that can be filled and freed.
type disk interface {
	fill() // nothing more can be written
	free()
}

// smallDisk puts the data directory of a node on a disk of its own: a file system
// in memory. Where the test may not mount one, the node's process is kept from
// making files any longer, which looks much the same to it.
func smallDisk(t *testing.T, n *node) disk {
	t.Helper()
	if err := os.MkdirAll(n.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	err := unix.Mount("snapdb-test", n.dir, "tmpfs", 0, "size=48m")
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		t.Log("no right to mount: a limit on the length of files stands in for a full disk")
		return &shortFiles{n}
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if n.running() {
			n.kill()
		}
		if err := unix.Unmount(n.dir, 0); err != nil {
			t.Error(err)
		}
	})
	return &mounted{t, n.dir}
}

type mounted struct {
	t   *testing.T
	dir string
}

func (d *mounted) filler() string { return filepath.Join(d.dir, "filler") }

func (d *mounted) fill() {
	d.t.Helper()
	f, err := os.Create(d.filler())
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 64<<10); len(block) > 0; {
		if _, err := f.Write(block); errors.Is(err, unix.ENOSPC) {
			block = block[:len(block)/2]
		} else if err != nil {
			d.t.Fatal(err)
		}
	}
}

func (d *mounted) free() {
	d.t.Helper()
	if err := os.Remove(d.filler()); err != nil {
		d.t.Fatal(err)
	}
}

type shortFiles struct{ n *node }

func (d *shortFiles) fill() { d.limit(0) }
func (d *shortFiles) free() { d.limit(unix.RLIM_INFINITY) }

func (d *shortFiles) limit(bytes uint64) {
	d.n.t.Helper()
	limit := unix.Rlimit{Cur: bytes, Max: unix.RLIM_INFINITY}
	if err := unix.Prlimit(d.n.cmd.Process.Pid, unix.RLIMIT_FSIZE, &limit, nil); err != nil {
		d.n.t.Fatal(err)
	}
}

func TestSlaveWithAFullDiskStopsAndGoesOn(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	full := c.slaves[1]
	d := smallDisk(t, full)
	c.start()
	cl := c.client()
	c.exec(cl, "", "CREATE DATABASE A")
	c.exec(cl, "A", "CREATE TABLE t (a INTEGER, pad BLOB)")
	c.settle(cl)
	d.fill()
	const rows = 20
	for i := range rows {
		resp := c.exec(cl, "A", "INSERT INTO t VALUES (?, randomblob(100000))", subjects.IntegerValue(int64(i)))
		if len(resp.Applied) == 0 || resp.Applied[0] != "snap1" {
			t.Errorf("write %d is not applied by the slave that has room: %v", i, resp.Applied)
		}
	}
	c.exec(cl, "", "CREATE DATABASE B") // needs a new file there
	wantSaid(t, c.awaitState(cl, full.name, subjects.StateStopped), "A")
	if n := c.query(cl, full.name, "A", "SELECT count(*) FROM t").Int(); n > rows {
		t.Errorf("the full slave has %d rows of %d", n, rows)
	}
	d.free()
	c.settle(cl) // by itself
	c.finish(cl)
}

func TestSlaveWithAFullDiskGoesOnAfterARestart(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	d := smallDisk(t, c.slaves[0])
	c.start()
	cl := c.client()
	c.exec(cl, "", "CREATE DATABASE A")
	c.exec(cl, "A", "CREATE TABLE t (a INTEGER, pad BLOB)")
	c.settle(cl)
	d.fill()
	for i := range 5 {
		c.exec(cl, "A", "INSERT INTO t VALUES (?, randomblob(1000000))", subjects.IntegerValue(int64(i)))
	}
	c.awaitState(cl, "snap1", subjects.StateStopped)
	c.slaves[0].kill()
	d.free()
	c.start()
	c.finish(cl)
}

func TestMasterBelowItsDiskReserveReadsOn(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	cl := c.client()
	c.exec(cl, "", "CREATE DATABASE A")
	c.exec(cl, "A", "CREATE TABLE t (a); INSERT INTO t VALUES (1)")
	c.settle(cl)
	c.master.stop(syscall.SIGTERM)
	plenty := c.master.args
	c.master.args = append(plenty[:len(plenty):len(plenty)], "--disk-reserve", "1000000000") // MB: more than there is
	c.start()
	cl = c.client()
	for _, r := range []*subjects.Request{{DB: "A", SQL: "INSERT INTO t VALUES (2)"}, {SQL: "CREATE DATABASE B"}, {SQL: "DROP DATABASE A"}} {
		_, err := cl.Exec(t.Context(), r)
		if code(err) != subjects.CodeUnavailable {
			t.Errorf("%s: %v, want %s", r.SQL, err, subjects.CodeUnavailable)
		}
		wantSaid(t, fmt.Sprint(err), "disk", "reserve", "free")
	}
	for _, id := range []string{"", "snap1"} {
		if n := c.query(cl, id, "A", "SELECT count(*) FROM t").Int(); n != 1 {
			t.Errorf("%q has %d rows, want 1", id, n)
		}
	}
	c.master.stop(syscall.SIGTERM)
	c.master.args = plenty
	c.start()
	c.exec(cl, "A", "INSERT INTO t VALUES (3)")
	c.exec(cl, "", "CREATE DATABASE B")
	c.finish(cl)
}

// A disk can fill up faster than the reserve is looked at. Whatever the master
// then answers must be true, and it must go on by itself when there is room.
func TestMasterWithAFullDiskGoesOnWithoutLoss(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, "--disk-reserve", "1")
	d := smallDisk(t, c.master)
	c.start()
	cl := c.client()
	c.exec(cl, "", "CREATE DATABASE A")
	c.exec(cl, "A", "CREATE TABLE t (a INTEGER, pad BLOB)")
	c.exec(cl, "", "CREATE DATABASE B")
	c.exec(cl, "B", "CREATE TABLE t (a INTEGER)")
	fates := map[int64]fate{}
	n := int64(0)
	write := func() (fate, error) {
		n++
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_, err := cl.Exec(ctx, &subjects.Request{DB: "A", SQL: "INSERT INTO t VALUES (?, ?)",
			Args: []subjects.Value{subjects.IntegerValue(n), subjects.BlobValue(make([]byte, 200_000))}})
		switch code(err) {
		case "":
			if err != nil && !errors.Is(err, client.ErrUnreachable) {
				t.Fatalf("write %d: %v", n, err)
			}
			fates[n] = written
			if err != nil {
				fates[n] = absent
			}
		case subjects.CodeNotAcknowledged:
			fates[n] = written
		case subjects.CodeOutcomeUnknown:
			fates[n] = maybe
		case subjects.CodeUnavailable, subjects.CodeBusy:
			fates[n] = absent
		default:
			t.Fatalf("write %d: %s: %v", n, code(err), err)
		}
		return fates[n], err
	}
	for range 3 {
		write()
	}
	for round := range 2 {
		d.fill()
		said := map[string]bool{}
		await(t, func() string {
			f, err := write()
			if f == written {
				return "writes still succeed"
			}
			said[fmt.Sprint(err)] = true
			return ""
		})
		for range 3 {
			_, err := write()
			said[fmt.Sprint(err)] = true
		}
		t.Logf("full disk, round %d: %s", round, strings.Join(keys(said), "\n"))
		_, err := cl.Exec(t.Context(), &subjects.Request{SQL: "CREATE DATABASE Full" + fmt.Sprint(round)})
		t.Logf("CREATE DATABASE: %v", err)
		// Reads go on.
		if got := c.query(cl, "", "A", "SELECT count(*) FROM t").Int(); got < 3 {
			t.Errorf("the full master has %d rows", got)
		}
		d.free()
		await(t, func() string {
			if f, err := write(); f != written {
				return fmt.Sprint("no write succeeds after space was freed: ", err)
			}
			return ""
		})
		c.exec(cl, "B", "INSERT INTO t VALUES (?)", subjects.IntegerValue(int64(round)))
		c.exec(cl, "", "CREATE DATABASE IF NOT EXISTS Full"+fmt.Sprint(round))
	}
	for i := int64(1); i <= n; i++ {
		got := c.query(cl, "", "A", fmt.Sprintf("SELECT count(*) FROM t WHERE a = %d", i)).Int()
		if got > 1 || got == 0 && fates[i] == written || got == 1 && fates[i] == absent {
			t.Errorf("write %d is there %d times, its fate was %d", i, got, fates[i])
		}
	}
	c.finish(cl)
}

func keys(m map[string]bool) (list []string) {
	for k := range m {
		list = append(list, k)
	}
	return list
}
