//go:build linux

package cluster_test

import (
	"encoding/json"
	"testing"

	"github.com/snapdb/snapdb/agent/client"
	"github.com/snapdb/snapdb/cmd/snapdb/processtest"
	"github.com/snapdb/snapdb/subjects"
)

// awaitCommand waits until a command stands as wanted on its first node.
func (c *cluster) awaitCommand(cl *client.Client, id string, want subjects.CommandState) (n subjects.NodeOutcome) {
	c.t.Helper()
	await(c.t, func() string {
		r, err := cl.Command(c.t.Context(), id)
		if err != nil {
			return err.Error()
		}
		if n = r.Nodes[0]; n.State != want {
			return "command " + id + " is " + string(n.State) + ", not " + string(want) + ": " + n.Reason
		}
		return ""
	})
	return n
}

// A command that waits for a killed slave outlives its killed master, is carried
// out when the slave is back, and a slave that was told to stop ends by itself.
func TestQueuedCommandOutlivesMasterAndSlave(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 2)
	cl := c.client()
	c.slaves[0].Kill()
	c.awaitState(cl, "snap1", subjects.StateOffline)
	r, err := cl.Send(t.Context(), &subjects.CommandRequest{Op: subjects.OpLabel, Args: json.RawMessage(`{"set":{"room":"lab1"}}`), Nodes: []string{"snap1"}, Away: subjects.AwayQueue})
	if err != nil {
		t.Fatal(err)
	}
	c.master.Kill()
	c.master.Start()
	c.awaitCommand(cl, r.ID, subjects.CommandQueued)
	c.slaves[0].Start()
	if n := c.awaitCommand(cl, r.ID, subjects.CommandDone); string(n.Output) != `{"room":"lab1"}` {
		t.Errorf("the slave answered %s", n.Output)
	}
	c.awaitOnline(c.slaves...)

	r, err = cl.Send(t.Context(), &subjects.CommandRequest{Op: subjects.OpShutdown, Nodes: []string{"snap1"}})
	if err != nil {
		t.Fatal(err)
	}
	c.awaitCommand(cl, r.ID, subjects.CommandDone)
	if code := c.slaves[0].Wait(processtest.StopWithin); code != 0 {
		t.Errorf("the slave that was told to stop ended with exit code %d", code)
	}
	c.slaves[0].Start() // and is not told again
	c.awaitOnline(c.slaves...)
	c.finish(cl)
}
