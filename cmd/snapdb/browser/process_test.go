//go:build linux

package browser_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/snapdb/snapdb/broker/brokertest"
	"github.com/snapdb/snapdb/cmd/snapdb/processtest"
)

// patience of the tests.
const patience = processtest.Patience

// cluster is a master with its panel, and its slaves.
type cluster struct {
	t      testing.TB
	dir    string
	nats   string
	url    string // of the panel
	master *processtest.Process
	slaves map[string]*processtest.Process
}

// startCluster starts a master and that many slaves, snap1 and so on.
func startCluster(t testing.TB, slaves int) *cluster {
	t.Helper()
	c := &cluster{t: t, dir: t.TempDir(), nats: brokertest.Address(t), slaves: map[string]*processtest.Process{}}
	http := brokertest.Address(t)
	c.url = "http://" + http
	c.master = built.New(t, "master", "master", "--data", filepath.Join(c.dir, "master"), "--nats", c.nats, "--http", http)
	c.master.Start()
	for i := range slaves {
		c.startSlave("snap" + strconv.Itoa(i+1))
	}
	return c
}

func (c *cluster) startSlave(id string, flags ...string) *processtest.Process {
	c.t.Helper()
	p := c.newSlave(id, flags...)
	p.Start()
	return p
}

// newSlave prepares a slave that is not started yet.
func (c *cluster) newSlave(id string, flags ...string) *processtest.Process {
	c.t.Helper()
	p := built.New(c.t, id, append([]string{"slave", "--data", filepath.Join(c.dir, id), "--id", id, "--nats", "nats://" + c.nats}, flags...)...)
	c.slaves[id] = p
	return p
}

// sql runs SQL with the program, at the master or at a node, and returns its output.
func (c *cluster) sql(sql string, flags ...string) (out string) {
	c.t.Helper()
	await(c.t, func() string {
		code, said, why := built.Run(c.t, append([]string{"sql", "--server", "nats://" + c.nats, "--format", "json", "-c", sql}, flags...)...)
		if out = said; code != 0 {
			return fmt.Sprintf("exit code %d: %s%s", code, said, why)
		}
		return ""
	})
	return out
}

// rows are the objects in an output of sql.
func rows(t testing.TB, out string) []map[string]any {
	t.Helper()
	var list []map[string]any
	if err := json.Unmarshal([]byte(strings.TrimSpace(out)), &list); err != nil {
		t.Fatalf("%q is no list of rows: %v", out, err)
	}
	return list
}

func await(t testing.TB, missing func() string) { t.Helper(); processtest.Await(t, missing) }
