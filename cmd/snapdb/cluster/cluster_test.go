//go:build linux

package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/snapdb/snapdb/agent/client"
	"github.com/snapdb/snapdb/broker/brokertest"
	"github.com/snapdb/snapdb/subjects"
)

// cluster is a master and its slaves, each a process of its own.
type cluster struct {
	t      testing.TB
	dir    string
	url    string
	listen string
	master *node
	slaves []*node
}

// newCluster prepares a cluster of that many slaves, snap1 and so on, with
// nothing running yet. Flags are the master's.
func newCluster(t testing.TB, slaves int, flags ...string) *cluster {
	t.Helper()
	listen := brokertest.Address(t)
	c := &cluster{t: t, dir: t.TempDir(), listen: listen, url: "nats://" + listen}
	dir := filepath.Join(c.dir, "master")
	c.master = newNode(t, "master", dir, append([]string{"master", "--data", dir, "--nats", listen}, flags...)...)
	for i := range slaves {
		c.addSlave("snap" + strconv.Itoa(i+1))
	}
	return c
}

// startCluster is newCluster with everything running and joined.
func startCluster(t testing.TB, slaves int, flags ...string) *cluster {
	t.Helper()
	c := newCluster(t, slaves, flags...)
	c.start()
	return c
}

func (c *cluster) addSlave(id string) *node { c.t.Helper(); return c.addSlaveAt(id, c.url) }

// addSlaveAt is a slave that finds its master at a URL.
func (c *cluster) addSlaveAt(id, url string) *node {
	c.t.Helper()
	dir := filepath.Join(c.dir, id)
	n := newNode(c.t, id, dir, "slave", "--data", dir, "--id", id, "--nats", url)
	c.slaves = append(c.slaves, n)
	return n
}

func (c *cluster) nodes() []*node { return append([]*node{c.master}, c.slaves...) }

// start starts whoever does not run and waits until all have joined.
func (c *cluster) start() {
	c.t.Helper()
	for _, n := range c.nodes() {
		if !n.Running() {
			n.Start()
		}
	}
	c.awaitOnline(c.slaves...)
}

// client connects to the master, once it answers.
func (c *cluster) client() *client.Client {
	c.t.Helper()
	var cl *client.Client
	await(c.t, func() string {
		ctx, cancel := context.WithTimeout(c.t.Context(), 5*time.Second)
		defer cancel()
		var err error
		if cl == nil {
			if cl, err = client.Connect(ctx, c.url, client.Options{Name: c.t.Name()}); err != nil {
				cl = nil
				return err.Error()
			}
		}
		if _, err = cl.Info(ctx); err != nil {
			return err.Error()
		}
		return ""
	})
	c.t.Cleanup(cl.Close)
	return cl
}

// exec executes SQL at the master, which must succeed.
func (c *cluster) exec(cl *client.Client, db, sql string, args ...subjects.Value) *subjects.Response {
	c.t.Helper()
	return c.do(cl, subjects.Exec, &subjects.Request{DB: db, SQL: sql, Args: args})
}

// query reads one value on a node; "" is the master.
func (c *cluster) query(cl *client.Client, id, db, sql string) subjects.Value {
	c.t.Helper()
	return c.do(cl, door(id), &subjects.Request{DB: db, SQL: sql}).Results[0].Rows[0][0]
}

// do sends a request, which must succeed. One that could not be delivered, to a
// node that is just coming back, is sent again: nothing was done.
func (c *cluster) do(cl *client.Client, door string, r *subjects.Request) (resp *subjects.Response) {
	c.t.Helper()
	await(c.t, func() string {
		ctx, cancel := context.WithTimeout(c.t.Context(), patience)
		defer cancel()
		var err error
		resp, err = cl.Do(ctx, door, r)
		if errors.Is(err, client.ErrUnreachable) {
			return err.Error()
		}
		if err != nil {
			c.t.Fatalf("%.200s: %v", r.SQL, err)
		}
		return ""
	})
	return resp
}

// door is where a node takes queries; "" is the master.
func door(id string) string {
	if id == "" {
		return subjects.Query
	}
	return subjects.NodeQuery(id)
}

// awaitOnline waits until the master sees these slaves online.
func (c *cluster) awaitOnline(slaves ...*node) {
	c.t.Helper()
	cl := c.client()
	for _, n := range slaves {
		c.awaitState(cl, n.Name, subjects.StateOnline)
	}
}

// awaitState waits until the master sees a slave in a state, and returns the
// reason given for it.
func (c *cluster) awaitState(cl *client.Client, id string, want subjects.State) (reason string) {
	c.t.Helper()
	await(c.t, func() string {
		for _, n := range c.info(cl).Nodes {
			if n.ID == id {
				if n.State == want {
					reason = n.Reason
					return ""
				}
				return fmt.Sprintf("%s is %s (%s), not %s", id, n.State, n.Reason, want)
			}
		}
		return id + " is not known to the master"
	})
	return reason
}

func (c *cluster) info(cl *client.Client) (info *subjects.ClusterInfoResponse) {
	c.t.Helper()
	await(c.t, func() string {
		ctx, cancel := context.WithTimeout(c.t.Context(), patience)
		defer cancel()
		var err error
		if info, err = cl.Info(ctx); err != nil {
			return err.Error()
		}
		return ""
	})
	return info
}

// settle waits until every slave has applied all that the master has logged. It
// returns the master's heads.
func (c *cluster) settle(cl *client.Client) map[string]subjects.Head {
	c.t.Helper()
	heads := c.info(cl).Heads
	for _, n := range c.slaves {
		await(c.t, func() string { return behind(c.t.Context(), cl, n.Name, heads) })
	}
	return heads
}

// behind says what a slave lacks of heads, "" if nothing.
func behind(ctx context.Context, cl *client.Client, id string, heads map[string]subjects.Head) string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	st, err := cl.Status(ctx, id)
	if err != nil {
		return err.Error()
	}
	if st.State != subjects.StateOnline {
		return fmt.Sprintf("%s is %s (%s): %+v", id, st.State, st.Reason, st.Databases)
	}
	if len(st.Databases) != len(heads) {
		return fmt.Sprintf("%s has %d databases, the master %d", id, len(st.Databases), len(heads))
	}
	for db, h := range heads {
		if has := st.Databases[db]; has.Incarnation != h.Incarnation || has.Position != h.Position {
			return fmt.Sprintf("%s has database %s at %d of %d, the master at %d of %d", id, db, has.Position, has.Incarnation, h.Position, h.Incarnation)
		}
	}
	return ""
}

// finish ends a test: every node must be at the same position and hold the same,
// as their checksums say and, once all have stopped in order, as their files say.
func (c *cluster) finish(cl *client.Client) {
	c.t.Helper()
	heads := c.settle(cl)
	databases := make([]string, 0, len(heads))
	for db := range heads {
		if db != subjects.Catalog {
			databases = append(databases, db)
		}
	}
	slices.Sort(databases)
	for _, db := range databases {
		want := c.checksum(cl, "", db)
		for _, n := range c.slaves {
			if got := c.checksum(cl, n.Name, db); got != want {
				c.t.Errorf("the checksum of %s on %s is %s, on the master %s", db, n.Name, got, want)
			}
		}
	}
	for _, n := range slices.Backward(c.nodes()) {
		n.Stop(syscall.SIGTERM)
	}
	for _, db := range append(databases, subjects.Catalog) {
		want := readFile(c.t, filepath.Join(c.master.dir, db+".db"))
		if h := heads[db]; want.incarnation != h.Incarnation || want.position != h.Position || want.chain != h.Chain {
			c.t.Errorf("the master's file of %s is at %d of %d (%s), it had said %d of %d (%s)", db, want.position, want.incarnation, want.chain, h.Position, h.Incarnation, h.Chain)
		}
		for _, n := range c.slaves {
			if got := readFile(c.t, filepath.Join(n.dir, db+".db")); got != want {
				c.t.Errorf("the file of %s on %s is not that of the master:\n%+v\n%+v", db, n.Name, got, want)
			}
		}
	}
}
