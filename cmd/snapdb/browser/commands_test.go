//go:build linux

package browser_test

import (
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// record waits until the newest command of a kind has that outcome in the list.
func (b *tab) record(kind, outcome string) {
	b.t.Helper()
	b.row(kind, outcome)
}

func TestShutdownThroughTheDialogEndsTheProcess(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 2)
	b := newTab(t, false)
	awaitPanel(c, b)
	b.row("snap1", "online")
	b.row("snap2", "online")
	b.do(clickTick("snap1"))
	b.press("Shut down…")
	b.sees("dialog", "Shut down snap1")
	b.press("Stop 1 agent")
	select {
	case <-c.slaves["snap1"].ended:
	case <-time.After(patience):
		t.Fatal("the process has not ended")
	}
	if code := c.slaves["snap1"].cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("it ended with exit code %d", code)
	}
	b.row("snap1", "stopped")
	if !c.slaves["snap2"].running() {
		t.Error("the other one ended too")
	}
	b.open(c.url + "/commands")
	b.record("Shut down", "done")
}

func TestQueuedCommandReachesANodeThatComesBack(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	b := newTab(t, false)
	awaitPanel(c, b)
	b.row("snap1", "online")
	c.slaves["snap1"].kill()
	b.row("snap1", "offline")
	b.do(clickTick("snap1"))
	b.press("Labels…")
	b.sees("dialog", "snap1 is away")
	b.do(chromedp.SendKeys(chromedp.CSS("dialog input.mono"), "room=lab1"))
	b.press("Change labels")
	b.open(c.url + "/commands")
	b.record("Label", "queued")
	c.slaves["snap1"].start()
	b.record("Label", "done")
	b.open(c.url)
	b.row("snap1", "room=lab1")
}

func TestLogsStream(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 0)
	b := newTab(t, false)
	awaitPanel(c, b)
	b.open(c.url + "/logs")
	b.live()
	c.startSlave("snap1")
	b.sees(".loglist .scroller", "snap1")

	// While it is paused, new lines wait and are counted.
	b.press("Pause")
	c.startSlave("snap2")
	b.sees(".loglist .pill", "new")
	if now := b.text(".loglist .scroller"); strings.Contains(now, "snap2") {
		t.Errorf("a line came while paused: %s", now)
	}
	b.press("Resume")
	b.sees(".loglist .scroller", "snap2")
}
