//go:build linux

package browser_test

import (
	"fmt"
	"testing"
)

// A person watches the first page while slaves join and one of them dies.
func TestNodesPageFollowsTheCluster(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 0)
	b := newTab(t, false)
	awaitPanel(c, b)
	c.sql("CREATE DATABASE Shop")
	b.sees("#list", "No node has joined yet")
	if line := b.text(".command-line code"); line != "snapdb slave --nats nats://"+c.nats+" --id snap1 --data snap1" {
		t.Errorf("the command to join is %q", line)
	}

	c.startSlave("snap1")
	c.startSlave("snap2")
	b.row("snap1", "online")
	b.row("snap2", "online")
	b.sees("#tally", "2 online")

	// What is chosen stays chosen while rows change.
	b.do(clickTick("snap2"))
	c.slaves["snap2"].Kill()
	b.row("snap2", "offline")
	b.sees("#bulk", "1 node chosen")

	// The charts go on with what was last known of it.
	b.open(c.url + "/replication")
	b.sees("#ack .legend", "snap2 (offline)")
	b.sees("#behind .legend", "snap1\nsnap2 (offline)")
	await(t, func() string {
		if lines := eval[int](b, `document.querySelectorAll("#behind .line.away").length`); lines != 1 {
			return fmt.Sprintf("%d lines are broken", lines)
		}
		return ""
	})
}
