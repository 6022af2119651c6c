//go:build linux

package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/snapdb/snapdb/agent/client"
	"github.com/snapdb/snapdb/subjects"
)

// disk is one that can be filled and freed.
type disk interface {
	fill(left int64) // no more than so many bytes can be written
	free()
}

// smallDisk puts the data directory of a node on a disk of its own: a file system
// in memory. Where the test may not mount one, the node's process is kept from
// making files any longer, which looks much the same to it.
func smallDisk(t *testing.T, n *node, size string) disk {
	t.Helper()
	if err := os.MkdirAll(n.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	err := unix.Mount("snapdb-test", n.dir, "tmpfs", 0, "size="+size)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		t.Log("no right to mount: a limit on the length of files stands in for a full disk")
		return &shortFiles{n}
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if n.Running() {
			n.Kill()
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

func (d *mounted) fill(left int64) {
	d.t.Helper()
	f, err := os.Create(d.filler())
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	size := int64(0)
	for block := make([]byte, 64<<10); len(block) > 0; {
		n, err := f.Write(block)
		size += int64(n)
		if errors.Is(err, unix.ENOSPC) {
			block = block[:len(block)/2]
		} else if err != nil {
			d.t.Fatal(err)
		}
	}
	if err := f.Truncate(size - left); err != nil {
		d.t.Fatal(err)
	}
}

func (d *mounted) free() {
	d.t.Helper()
	if err := os.Remove(d.filler()); err != nil && !errors.Is(err, os.ErrNotExist) { // the node may have lost all it had
		d.t.Fatal(err)
	}
}

type shortFiles struct{ n *node }

func (d *shortFiles) fill(left int64) { d.limit(uint64(left)) }
func (d *shortFiles) free()           { d.limit(unix.RLIM_INFINITY) }

func (d *shortFiles) limit(bytes uint64) {
	d.n.t.Helper()
	if !d.n.Running() {
		return // the next process has no limit
	}
	limit := unix.Rlimit{Cur: bytes, Max: unix.RLIM_INFINITY}
	if err := unix.Prlimit(d.n.PID(), unix.RLIMIT_FSIZE, &limit, nil); err != nil {
		d.n.t.Fatal(err)
	}
}

func TestSlaveWithAFullDiskStopsAndGoesOn(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	full := c.slaves[1]
	d := smallDisk(t, full, "48m")
	c.start()
	cl := c.client()
	c.exec(cl, "", "CREATE DATABASE A")
	c.exec(cl, "A", "CREATE TABLE t (a INTEGER, pad BLOB)")
	c.settle(cl)
	d.fill(0)
	const rows = 20
	for i := range rows {
		resp := c.exec(cl, "A", "INSERT INTO t VALUES (?, randomblob(100000))", subjects.IntegerValue(int64(i)))
		if len(resp.Applied) == 0 || resp.Applied[0] != "snap1" {
			t.Errorf("write %d is not applied by the slave that has room: %v", i, resp.Applied)
		}
	}
	c.exec(cl, "", "CREATE DATABASE B") // needs a new file there
	wantSaid(t, c.awaitState(cl, full.Name, subjects.StateStopped), "A")
	if n := c.query(cl, full.Name, "A", "SELECT count(*) FROM t").Int(); n > rows {
		t.Errorf("the full slave has %d rows of %d", n, rows)
	}
	d.free()
	c.settle(cl) // by itself
	c.finish(cl)
}

func TestSlaveWithAFullDiskGoesOnAfterARestart(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	d := smallDisk(t, c.slaves[0], "48m")
	c.start()
	cl := c.client()
	c.exec(cl, "", "CREATE DATABASE A")
	c.exec(cl, "A", "CREATE TABLE t (a INTEGER, pad BLOB)")
	c.settle(cl)
	d.fill(0)
	for i := range 5 {
		c.exec(cl, "A", "INSERT INTO t VALUES (?, randomblob(1000000))", subjects.IntegerValue(int64(i)))
	}
	c.awaitState(cl, "snap1", subjects.StateStopped)
	c.slaves[0].Kill()
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
	c.master.Stop(syscall.SIGTERM)
	plenty := c.master.Args
	c.master.Args = append(plenty[:len(plenty):len(plenty)], "--disk-reserve", "1000000000") // MB: more than there is
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
	c.master.Stop(syscall.SIGTERM)
	c.master.Args = plenty
	c.start()
	c.exec(cl, "A", "INSERT INTO t VALUES (3)")
	c.exec(cl, "", "CREATE DATABASE B")
	c.finish(cl)
}

// A disk can fill up faster than the reserve is looked at. Whatever the master
// then answers must be true, and it must go on by itself when there is room. How
// much room is left decides who meets the full disk first: the database, the
// catalog or the log, which no longer answers then.
func TestMasterWithAFullDiskGoesOnWithoutLoss(t *testing.T) {
	t.Parallel()
	for name, left := range map[string]int64{"nothing left": 0, "room for a database page or two": 200_000, "no room for the log": 300_000} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, 1, "--disk-reserve", "0")
			d := smallDisk(t, c.master, "48m")
			c.start()
			cl := c.client()
			c.exec(cl, "", "CREATE DATABASE A")
			c.exec(cl, "A", "CREATE TABLE t (a INTEGER, pad BLOB)")
			c.exec(cl, "", "CREATE DATABASE B")
			c.exec(cl, "B", "CREATE TABLE t (a INTEGER)")
			w := &numbered{t: t, cl: cl, fates: map[int64]fate{}}
			for range 3 {
				w.write()
			}
			d.fill(left)
			await(t, func() string {
				if f, _ := w.write(); f == written {
					return "writes still succeed"
				}
				return ""
			})
			w.write()
			c.tryCreate(cl)
			if got := c.query(cl, "", "A", "SELECT count(*) FROM t").Int(); got < 3 {
				t.Errorf("the full master has %d rows", got)
			}
			d.free()
			await(t, func() string {
				if f, err := w.write(); f != written {
					return fmt.Sprint("no write succeeds after space was freed: ", err)
				}
				return ""
			})
			await(t, func() string { return c.tryCreate(cl) })
			c.exec(cl, "B", "INSERT INTO t VALUES (1)")
			c.exec(cl, "Late", "CREATE TABLE t (a)")
			for i, f := range w.fates {
				got := c.query(cl, "", "A", fmt.Sprintf("SELECT count(*) FROM t WHERE a = %d", i)).Int()
				if got > 1 || got == 0 && f == written || got == 1 && f == absent {
					t.Errorf("write %d is there %d times, its fate was %d", i, got, f)
				}
			}
			c.finish(cl)
		})
	}
}

// tryCreate makes a database that may be there already. It returns why it did not.
func (c *cluster) tryCreate(cl *client.Client) string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	_, err := cl.Exec(ctx, &subjects.Request{SQL: "CREATE DATABASE IF NOT EXISTS Late"})
	if err == nil {
		return ""
	}
	return err.Error()
}

// numbered writes numbered rows and remembers what was said of each.
type numbered struct {
	t     *testing.T
	cl    *client.Client
	n     int64
	fates map[int64]fate
}

func (w *numbered) write() (fate, error) {
	w.t.Helper()
	w.n++
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	_, err := w.cl.Exec(ctx, &subjects.Request{DB: "A", SQL: "INSERT INTO t VALUES (?, ?)",
		Args: []subjects.Value{subjects.IntegerValue(w.n), subjects.BlobValue(make([]byte, 200_000))}})
	w.fates[w.n] = fateOf(w.t, err)
	return w.fates[w.n], err
}
