//go:build linux

package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/snapdb/snapdb/cmd/snapdb/processtest"
	"github.com/snapdb/snapdb/subjects"
)

func (c *campaign) slave() *node { return c.slaves[c.rng.IntN(len(c.slaves))] }

// strikeKill kills processes in the middle of what they do. Some slaves lose all they
// have.
func (c *campaign) strikeKill() func() {
	victims := []*node{c.nodes()[c.rng.IntN(1+len(c.slaves))]}
	switch c.rng.IntN(8) {
	case 0:
		victims = c.nodes()
	case 1:
		victims = []*node{c.master, c.slave()}
	}
	for _, n := range victims {
		if !n.Running() {
			continue // of an earlier fault
		}
		n.Kill()
		if n != c.master && c.rng.IntN(6) == 0 {
			n.wipe()
		}
	}
	return nil // revive starts them
}

// strikeFreeze stops a process that does not know it: a machine that hangs.
func (c *campaign) strikeFreeze() func() {
	n := c.nodes()[c.rng.IntN(1+len(c.slaves))]
	if !n.Running() {
		return nil
	}
	n.Freeze()
	c.pass(3 * time.Second)
	return func() {
		if n.Running() {
			n.Thaw()
		}
	}
}

// strikeCut breaks connections.
func (c *campaign) strikeCut() func() {
	for _, n := range c.slaves {
		if c.rng.IntN(2) == 0 {
			c.links[n].cut()
		}
	}
	return nil
}

// strikeWeather makes the link of a slave bad for a while.
func (c *campaign) strikeWeather() func() {
	l := c.links[c.slave()]
	w := []weather{
		{calm: true},
		{delay: 20 * time.Millisecond, piece: 2000},
		{delay: 200 * time.Millisecond},
		{breaks: 20_000},
		{breaks: 300, delay: time.Millisecond},
		{refuses: true, breaks: 1},
	}[c.rng.IntN(6)]
	l.set(w)
	c.pass(3 * time.Second)
	return func() { l.set(weather{}) }
}

// strikeDisk fills a disk, but for some bytes.
func (c *campaign) strikeDisk() func() {
	n := []*node{c.master, c.slaves[0]}[c.rng.IntN(2)]
	d := c.disks[n]
	if !n.Running() {
		return nil
	}
	d.fill(c.rng.Int64N(400_000))
	c.pass(time.Second)
	return d.free
}

// strikeDamage damages the files of a slave that does not run: what a kill leaves, or
// files without anything beside them.
func (c *campaign) strikeDamage() func() {
	n := c.slave()
	switch {
	case !n.Running():
	case c.rng.IntN(2) == 0:
		n.Kill()
	default:
		n.Signal(syscall.SIGCONT)
		n.Signal(syscall.SIGTERM)
		n.Wait(processtest.StopWithin) // one that is just starting has no exit code for that yet
	}
	c.spoil(n, "*.db", "*.db-wal", "*.db-shm")
	return nil
}

// strikeLoss takes from the master what a power cut or a mistake may: what it has not
// synced, or a whole file that can be had from elsewhere.
func (c *campaign) strikeLoss() func() {
	n := c.master
	if n.Running() {
		n.Kill()
	}
	switch kind := c.rng.IntN(3); {
	case kind == 0:
		c.remove(n, "*.db-wal", "*.db-shm")
	case kind == 1 && c.spares:
		c.spoil(n, "snapshots/*")
	case kind == 1:
		c.remove(n, "Load.db*")
	default: // a write to the log that had not ended, and so was not acknowledged
		c.tear(n, "log/jetstream/*/streams/DB_REPLICATE/msgs/*.blk")
	}
	return nil
}

// strikeMember lets a new slave join, or makes one leave for good.
func (c *campaign) strikeMember() func() {
	if c.rng.IntN(2) == 0 && len(c.slaves) < 5 {
		n := c.join()
		c.load.admit(n.Name)
		n.Start()
		return nil
	}
	if len(c.slaves) < 4 {
		return nil
	}
	n := c.slaves[len(c.slaves)-1]
	c.slaves = c.slaves[:len(c.slaves)-1]
	if n.Running() {
		n.Kill()
	}
	return func() {
		c.revive()
		await(c.t, func() string {
			ctx, cancel := context.WithTimeout(c.t.Context(), 5*time.Second)
			defer cancel()
			err := c.cl.Forget(ctx, n.Name)
			var refused *subjects.Error
			if err == nil || errors.As(err, &refused) && strings.Contains(refused.Message, "no slave") { // it had not joined, or the answer was lost
				return ""
			}
			return err.Error()
		})
	}
}

// strikeSchema changes the schema that the clients write to.
func (c *campaign) strikeSchema() func() {
	c.load.alter(c.cl, c.rng)
	return nil
}

// files are those of a node that match.
func (c *campaign) files(n *node, patterns ...string) (list []string) {
	for _, p := range patterns {
		found, err := filepath.Glob(filepath.Join(n.dir, p))
		if err != nil {
			c.t.Fatal(err)
		}
		list = append(list, found...)
	}
	return list
}

func (c *campaign) remove(n *node, patterns ...string) {
	for _, f := range c.files(n, patterns...) {
		if err := os.Remove(f); err != nil {
			c.t.Fatal(err)
		}
	}
}

// spoil removes, shortens or overwrites one of the files.
func (c *campaign) spoil(n *node, patterns ...string) {
	files := c.files(n, patterns...)
	if len(files) == 0 {
		return // it was wiped
	}
	path := files[c.rng.IntN(len(files))]
	info, err := os.Stat(path)
	if err != nil {
		c.t.Fatal(err)
	}
	size := max(info.Size(), 1)
	how := ""
	switch c.rng.IntN(3) {
	case 0:
		how, err = "removed", os.Remove(path)
	case 1:
		to := c.rng.Int64N(size)
		how, err = fmt.Sprintf("shortened from %d to %d bytes", info.Size(), to), os.Truncate(path, to)
	case 2:
		at := c.rng.Int64N(size)
		how, err = fmt.Sprintf("of %d bytes overwritten at %d", info.Size(), at), c.scribble(path, at)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.t.Fatal(err)
	}
	c.t.Logf("%s %s", path, how)
}

// tear leaves a part of a write at the end of the newest of the files.
func (c *campaign) tear(n *node, pattern string) {
	files := c.files(n, pattern)
	if len(files) == 0 {
		c.t.Fatalf("no file is %s", pattern)
	}
	newest, at := "", time.Time{}
	var size int64
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			c.t.Fatal(err)
		}
		if info.ModTime().After(at) {
			newest, at, size = f, info.ModTime(), info.Size()
		}
	}
	c.t.Logf("%s of %d bytes gets a torn end", newest, size)
	if err := c.scribble(newest, size); err != nil {
		c.t.Fatal(err)
	}
}

// scribble writes some bytes that mean nothing.
func (c *campaign) scribble(path string, at int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	junk := make([]byte, 1+c.rng.IntN(5000))
	for i := range junk {
		junk[i] = byte(c.rng.Uint32())
	}
	_, err = f.WriteAt(junk, at)
	return errors.Join(err, f.Close())
}
