//go:build linux

package cluster_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/snapdb/snapdb/agent/client"
	"github.com/snapdb/snapdb/subjects"
)

// A master must not begin a new history over old databases and slaves.
func TestMasterRefusesToStartOverADamagedLog(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(t *testing.T, c *cluster, old []byte){
		"lost": func(t *testing.T, c *cluster, _ []byte) {
			if err := os.RemoveAll(filepath.Join(c.master.dir, "log")); err != nil {
				t.Fatal(err)
			}
		},
		"shortened by a flipped byte": func(t *testing.T, c *cluster, _ []byte) {
			flip(t, c, "needle-")
			if err := os.Remove(filepath.Join(c.messages(), "index.db")); err != nil {
				t.Fatal(err)
			}
		},
		"a flipped byte where a database must catch up": func(t *testing.T, c *cluster, old []byte) {
			flip(t, c, "needle-")
			if err := os.WriteFile(filepath.Join(c.master.dir, "A.db"), old, 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"a flipped byte in the last message": func(t *testing.T, c *cluster, old []byte) {
			flip(t, c, "needle-"+strconv.Itoa(needles-1))
			if err := os.WriteFile(filepath.Join(c.master.dir, "A.db"), old, 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"a flipped byte where the catalog must catch up": func(t *testing.T, c *cluster, _ []byte) {
			flip(t, c, "CREATE DATABASE")
			for _, f := range []string{"_snapdb.db", "A.db"} {
				if err := os.Remove(filepath.Join(c.master.dir, f)); err != nil {
					t.Fatal(err)
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := startCluster(t, 1)
			cl := c.client()
			c.exec(cl, "", "CREATE DATABASE A")
			c.exec(cl, "A", "CREATE TABLE t (a)")
			c.master.Stop(syscall.SIGTERM)
			old, err := os.ReadFile(filepath.Join(c.master.dir, "A.db"))
			if err != nil {
				t.Fatal(err)
			}
			c.start()
			c.insertNeedles(cl)
			c.settle(cl)
			c.master.Stop(syscall.SIGTERM)
			damage(t, c, old)
			c.master.Start()
			if code := c.master.Wait(patience); code != 1 {
				t.Errorf("exit code %d, want 1", code)
			}
			wantSaid(t, c.master.Last(3), "the log", "restore")
			c.slaves[0].Stop(syscall.SIGTERM)
		})
	}
}

// A position alone does not say which history it is of: a master that was set
// back, and has gone on, has other things at the positions of its slaves.
func TestSlaveNoticesThatItsMasterWasSetBack(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 2)
	cl := c.client()
	c.exec(cl, "", "CREATE DATABASE A")
	c.exec(cl, "A", "CREATE TABLE t (a)")
	c.settle(cl)
	c.slaves[1].Stop(syscall.SIGTERM)
	c.master.Stop(syscall.SIGTERM)
	backup := filepath.Join(t.TempDir(), "backup")
	if err := os.CopyFS(backup, os.DirFS(c.master.dir)); err != nil {
		t.Fatal(err)
	}
	c.master.Start()
	c.awaitOnline(c.slaves[0])
	for range 5 {
		c.exec(cl, "A", "INSERT INTO t VALUES ('before')")
	}
	c.slaves[0].Stop(syscall.SIGTERM)
	c.master.Stop(syscall.SIGTERM)
	if err := os.RemoveAll(c.master.dir); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(c.master.dir, os.DirFS(backup)); err != nil {
		t.Fatal(err)
	}
	c.master.Start()
	for range 10 {
		c.exec(cl, "A", "INSERT INTO t VALUES ('after')")
	}
	c.slaves[0].Start()
	c.slaves[1].Start()
	wantSaid(t, c.awaitState(cl, "snap1", subjects.StateDiverged), "A")
	if n := c.query(cl, "snap1", "A", "SELECT count(*) FROM t WHERE a = 'before'").Int(); n != 5 {
		t.Errorf("the slave has %d rows of its own history, want 5", n)
	}
	if n := c.query(cl, "snap1", "A", "SELECT count(*) FROM t WHERE a = 'after'").Int(); n != 0 {
		t.Errorf("the slave has %d rows of the other history", n)
	}
	c.slaves[0].Stop(syscall.SIGTERM)
	c.slaves = c.slaves[1:] // the one that was away then follows
	c.finish(cl)
}

// A slave that reads a damaged log must not pass over what it cannot read.
func TestSlaveStopsAtADamagedMessage(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	cl := c.client()
	c.exec(cl, "", "CREATE DATABASE A")
	c.exec(cl, "", "CREATE DATABASE B")
	c.exec(cl, "A", "CREATE TABLE t (a)")
	c.insertNeedles(cl)
	c.exec(cl, "B", "CREATE TABLE t (a); INSERT INTO t VALUES (1)")
	c.master.Stop(syscall.SIGTERM)
	flip(t, c, "needle-")
	c.start() // all databases have everything already
	late := c.addSlave("late")
	late.Start()
	reason := c.awaitState(cl, "late", subjects.StateStopped)
	wantSaid(t, reason, "A", "does not continue")
	if n := c.query(cl, "late", "B", "SELECT count(*) FROM t").Int(); n != 1 {
		t.Errorf("the other database has %d rows, want 1", n)
	}
	c.exec(cl, "A", "INSERT INTO t VALUES ('after')")
	if n := c.query(cl, "late", "A", "SELECT count(*) FROM t WHERE a = 'after'").Int(); n != 0 {
		t.Error("the slave has applied what came after the damaged message")
	}
	c.slaves = c.slaves[:1]
	c.finish(cl)
}

const needles = 50

// insertNeedles makes messages of the log that are easy to find in its files.
func (c *cluster) insertNeedles(cl *client.Client) {
	c.t.Helper()
	for i := range needles {
		c.exec(cl, "A", fmt.Sprintf("INSERT INTO t VALUES ('needle-%d')", i))
	}
}

// messages is the folder with the messages of the log.
func (c *cluster) messages() string {
	return filepath.Join(c.master.dir, "log", "jetstream", "$G", "streams", subjects.LogStream, "msgs")
}

// flip changes one byte of a message of the log with that text, the middle one.
func flip(t *testing.T, c *cluster, text string) {
	t.Helper()
	path := filepath.Join(c.messages(), "1.blk")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(data, []byte(text))
	for range bytes.Count(data, []byte(text)) / 2 {
		at += 1 + bytes.Index(data[at+1:], []byte(text))
	}
	data[at] ^= 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
