//go:build linux

package cluster_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/snapdb/snapdb/agent/client"
	"github.com/snapdb/snapdb/subjects"
)

// Of the test that cuts the power: repeat a failed run as nearly as its moments let it,
// go on for longer, or see that the test can fail.
var (
	cutSeed   = flag.Uint64("cut.seed", 0, "seed of the moments of power cuts and of what they leave; 0 takes a new one")
	cutRounds = flag.Int("cut.rounds", 3, "how many moments")
	cutIgnore = flag.String("cut.ignore", "", "a regular expression: syncs of files whose path it matches do nothing")
)

// requireTrace is the environment variable that makes the lack of strace a failure.
const requireTrace = "SNAPDB_REQUIRE_STRACE"

// promise is what a client was told, and how to see that it is still so.
type promise struct {
	made time.Time
	what string
	kept func(c *cluster, cl *client.Client) string // "" or what is missing
}

// What was acknowledged is on stable storage. A cluster is watched while it works;
// from what it wrote and synced, its disks are made again as a power cut at some moment
// would have left them, all machines at once, and everything that was acknowledged by
// then must be there: rows, a large transaction, the list of databases, a snapshot that
// the log was shortened for, records of commands and what nodes did for them.
func TestAcknowledgedIsSynced(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, "--log-keep", "0")
	traces := filepath.Join(t.TempDir(), "trace.")
	for _, n := range c.nodes() {
		if n.By = tracer(traces + n.Name); n.By == nil {
			if os.Getenv(requireTrace) == "1" {
				t.Fatal("strace is not installed, or may not trace")
			}
			t.Skip("strace is not installed, or may not trace")
		}
	}
	c.start()
	begun := time.Now()
	promises := work(c)
	ended := time.Now()
	for _, n := range slices.Backward(c.nodes()) {
		end := regexp.MustCompile(fmt.Sprintf(`(?m)^%d +[0-9.]+ \+\+\+ exited with 0`, n.PID()))
		n.Stop(syscall.SIGTERM)
		n.By = nil
		await(t, func() string {
			data, err := os.ReadFile(traces + n.Name)
			switch {
			case err != nil:
				return err.Error()
			case !end.Match(data[max(0, len(data)-4096):]):
				return "the trace has no end"
			}
			return ""
		})
	}
	var ignored *regexp.Regexp
	if *cutIgnore != "" {
		ignored = regexp.MustCompile(*cutIgnore)
	}
	seed := *cutSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-cut.seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	for _, n := range c.nodes() {
		readDisk(t, traces+n.Name, n.dir, ended.Add(time.Hour), nil).matches(t)
	}
	for round := range *cutRounds {
		at, way := ended, round%remains
		if round > 1 {
			at = begun.Add(time.Duration(rng.Int64N(int64(ended.Sub(begun)))))
			way = rng.IntN(remains)
		}
		for _, n := range c.nodes() {
			d := readDisk(t, traces+n.Name, n.dir, at, ignored)
			n.wipe()
			d.restore(t, way, rng)
			if round == 1 {
				loseFile(t, n, "A") // so that all of it must come from its snapshot and the log
			}
		}
		c.start()
		cl := c.client()
		c.settle(cl)
		checked := 0
		for _, p := range promises {
			if p.made.After(at) {
				continue
			}
			checked++
			if missing := p.kept(c, cl); missing != "" {
				t.Errorf("a power cut after %v (%d) took %s: %s", at.Sub(begun), way, p.what, missing)
			}
		}
		t.Logf("power cut after %v (%d): %d of %d promises", at.Sub(begun), way, checked, len(promises))
		c.exec(cl, "", "CREATE DATABASE IF NOT EXISTS After")
		c.exec(cl, "After", "CREATE TABLE t (a); INSERT INTO t VALUES (1)")
		c.finish(cl)
	}
}

// loseFile removes the file of a database.
func loseFile(t testing.TB, n *node, db string) {
	t.Helper()
	for _, suffix := range []string{"", "-wal"} {
		if err := os.Remove(filepath.Join(n.dir, db+".db"+suffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
}

// work does everything whose outcome must last, and returns what was promised.
func work(c *cluster) (promises []promise) {
	cl := c.client()
	promised := func(what string, kept func(c *cluster, cl *client.Client) string) {
		promises = append(promises, promise{time.Now(), what, kept})
	}
	finds := func(db, sql string) func(c *cluster, cl *client.Client) string {
		return func(c *cluster, cl *client.Client) string {
			for _, id := range []string{"", "snap1"} {
				if n := c.query(cl, id, db, sql).Int(); n != 1 {
					return fmt.Sprintf("%q has %d", id, n)
				}
			}
			return ""
		}
	}
	insert := func(db string, from, to int) {
		for i := from; i < to; i++ {
			c.exec(cl, db, "INSERT INTO t VALUES (?)", subjects.IntegerValue(int64(i)))
			promised(fmt.Sprintf("row %d of %s", i, db), finds(db, fmt.Sprintf("SELECT count(*) FROM t WHERE a = %d", i)))
		}
	}
	command := func(op subjects.Op, args string) {
		r, err := cl.Send(c.t.Context(), &subjects.CommandRequest{Op: op, Args: json.RawMessage(args), All: true})
		if err != nil {
			c.t.Fatal(err)
		}
		promised("the record of a "+string(op), func(c *cluster, cl *client.Client) string {
			if _, err := cl.Command(c.t.Context(), r.ID); err != nil {
				return err.Error()
			}
			return ""
		})
		c.awaitCommand(cl, r.ID, subjects.CommandDone)
		promised("the end of a "+string(op), func(c *cluster, cl *client.Client) string {
			if r, err := cl.Command(c.t.Context(), r.ID); err != nil || r.Nodes[0].State != subjects.CommandDone {
				return fmt.Sprint(r, err)
			}
			return ""
		})
	}
	c.exec(cl, "", "CREATE DATABASE A")
	c.exec(cl, "A", "CREATE TABLE t (a)")
	insert("A", 0, 8)
	c.exec(cl, "", "CREATE DATABASE B")
	c.exec(cl, "B", "CREATE TABLE gone (a)")
	c.exec(cl, "", "DROP DATABASE B")
	c.exec(cl, "", "CREATE DATABASE B")
	c.exec(cl, "B", "CREATE TABLE t (a)")
	insert("B", 0, 4)

	for _, db := range []string{"A", "B"} {
		snap, err := cl.Snapshot(c.t.Context(), db)
		if err != nil {
			c.t.Fatal(err)
		}
		promised("a snapshot of "+db, func(c *cluster, cl *client.Client) string {
			if s := c.info(cl).Snapshots[db]; s.Position < snap.Position {
				return fmt.Sprintf("the newest is of %d, not of %d", s.Position, snap.Position)
			}
			return ""
		})
		insert(db, 10, 14)
	}
	last := c.info(cl).LogLast
	await(c.t, func() string {
		if first := c.info(cl).LogFirst; first < last {
			return fmt.Sprintf("the log begins at %d, is not shortened to %d", first, last)
		}
		return ""
	})
	large := strings.Repeat("large", subjects.MaxInline/5+1)
	c.exec(cl, "A", "INSERT INTO t VALUES (?)", subjects.TextValue(large))
	promised("a large transaction", finds("A", fmt.Sprintf("SELECT count(*) FROM t WHERE length(a) = %d", len(large))))

	content := "content"
	digest, err := cl.PutBlob(c.t.Context(), strings.NewReader(content), int64(len(content)), nil)
	if err != nil {
		c.t.Fatal(err)
	}
	command(subjects.OpPush, fmt.Sprintf(`{"name":"in/a.txt","size":%d,"digest":%q}`, len(content), digest))
	promised("a file", func(c *cluster, _ *client.Client) string {
		if data, err := os.ReadFile(filepath.Join(c.slaves[0].dir, "files", "in", "a.txt")); string(data) != content {
			return fmt.Sprintf("%q %v", data, err)
		}
		return ""
	})
	command(subjects.OpLabel, `{"set":{"room":"lab1"}}`)
	promised("a label", func(c *cluster, cl *client.Client) string {
		if st, err := cl.Status(c.t.Context(), "snap1"); err != nil || st.Labels["room"] != "lab1" {
			return fmt.Sprint(st, err)
		}
		return ""
	})
	insert("A", 20, 28)
	return promises
}
