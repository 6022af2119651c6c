//go:build linux

package browser_test

import "testing"

// A person watches the first page while slaves join and one of them dies.
func TestNodesPageFollowsTheCluster(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 0)
	b := newTab(t, false)
	awaitPanel(c, b)
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
	c.slaves["snap2"].kill()
	b.row("snap2", "offline")
	b.sees("#bulk", "1 node chosen")
}

// The dialog in front of a shutdown names the nodes, and neither Enter nor Escape
// does harm.
func TestShutdownDialogFocusesCancel(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 2)
	b := newTab(t, false)
	awaitPanel(c, b)
	b.row("snap1", "online")
	b.row("snap2", "online")
	b.do(clickTick("snap1"), clickTick("snap2"))
	b.press("Shut down…")
	b.sees("dialog", "Shut down 2 nodes")
	for _, id := range []string{"snap1", "snap2", "agent", "host"} {
		b.sees("dialog", id)
	}
	if focus := eval[string](b, `document.activeElement.innerText`); focus != "Cancel" {
		t.Errorf("the focus is on %q", focus)
	}
	if !eval[bool](b, `document.querySelector("dialog button[type=submit]").disabled`) {
		t.Error("two nodes can be shut down without typing anything")
	}
	b.fill("dialog input.mono", "2 nodes")
	if eval[bool](b, `document.querySelector("dialog button[type=submit]").disabled`) {
		t.Error("what was to be typed was typed, and the button is still off")
	}
	b.press("Cancel")
	if !c.slaves["snap1"].running() || !c.slaves["snap2"].running() {
		t.Error("a node ended after Cancel")
	}
}
