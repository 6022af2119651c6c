//go:build linux

package browser_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// record waits until the newest command of a kind has that outcome in the list.
func (b *tab) record(kind, outcome string) {
	b.t.Helper()
	b.row(kind, outcome)
}

// What a person has nodes do ends as the nodes say, one thing after the other.
func TestCommandsFromThePageAreCarriedOut(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 2)
	b := newTab(t, false)
	awaitPanel(c, b)
	b.row("snap1", "online")
	b.row("snap2", "online")
	b.shutdownEndsTheProcess(c)
	b.queuedReachesANodeThatComesBack(c)
	b.cancelledIsNotDoneAndSkippedIsRetried(c)
}

// shutdownEndsTheProcess stops one node of two through the dialog.
func (b *tab) shutdownEndsTheProcess(c *cluster) {
	b.t.Helper()
	b.do(clickTick("snap1"))
	b.press("Shut down…")
	b.sees("dialog", "Shut down snap1")
	b.press("Stop 1 agent")
	if code := c.slaves["snap1"].Wait(patience); code != 0 {
		b.t.Errorf("it ended with exit code %d", code)
	}
	b.row("snap1", "stopped")
	if !c.slaves["snap2"].Running() {
		b.t.Error("the other one ended too")
	}
	b.open(c.url + "/commands")
	b.record("Shut down", "done")
}

// queuedReachesANodeThatComesBack gives a label to the node that is away.
func (b *tab) queuedReachesANodeThatComesBack(c *cluster) {
	b.t.Helper()
	b.open(c.url)
	b.live()
	b.do(clickTick("snap1"))
	b.press("Labels…")
	b.sees("dialog", "snap1 is away")
	b.do(chromedp.SendKeys(chromedp.CSS("dialog input.mono"), "room=lab1"))
	b.press("Change labels")
	b.sees("#toasts", "recorded for 1 node")
	b.open(c.url + "/commands")
	b.record("Label", "queued")
	c.slaves["snap1"].Start()
	b.record("Label", "done")
	b.open(c.url)
	b.row("snap1", "room=lab1")
}

// cancelledIsNotDoneAndSkippedIsRetried: what waits for a node can be taken back, and
// what was skipped there asked for again; the node gets the second alone.
func (b *tab) cancelledIsNotDoneAndSkippedIsRetried(c *cluster) {
	b.t.Helper()
	c.slaves["snap1"].Kill()
	b.row("snap1", "offline")
	b.label(c, "snap1", "cancelled=yes", "queue")
	b.openRecord(c, "queued")
	b.press("Cancel on snap1")
	b.sees("#detail tbody", "cancelled")
	b.record("Label", "cancelled")

	b.label(c, "snap1", "retried=yes", "skip")
	b.openRecord(c, "skipped")
	c.slaves["snap1"].Start()
	b.open(c.url)
	b.row("snap1", "online")
	b.openRecord(c, "skipped")
	skipped := eval[string](b, `new URLSearchParams(location.search).get("id")`)
	b.press("Retry on snap1")
	await(b.t, func() string {
		of := eval[string](b, `[...document.querySelectorAll("#detail dt")].find((e) => e.innerText === "again of")?.nextElementSibling.innerText ?? ""`)
		if of != skipped {
			return fmt.Sprintf("the retry says it is again of %q, not of %q", of, skipped)
		}
		return ""
	})
	b.sees("#detail tbody", "done")
	b.open(c.url)
	b.row("snap1", "retried=yes")
	if now := b.text("tbody"); strings.Contains(now, "cancelled=yes") {
		b.t.Errorf("a cancelled command was carried out: %s", now)
	}
}

// label gives a node a label on the first page, and says what becomes of the command
// when the node is away.
func (b *tab) label(c *cluster, node, pair, away string) {
	b.t.Helper()
	b.open(c.url)
	b.live()
	b.do(clickTick(node))
	b.press("Labels…")
	b.do(chromedp.SendKeys(chromedp.CSS("dialog input.mono"), pair))
	eval[bool](b, fmt.Sprintf(`(() => {
		const e = document.querySelector("dialog details select");
		e.value = %q;
		e.dispatchEvent(new Event("change", { bubbles: true }));
		return true;
	})()`, away))
	b.press("Change labels")
	b.sees("#toasts", "recorded for 1 node") // leaving the page sooner would take the request back
}

// openRecord opens the newest command, once it has that outcome.
func (b *tab) openRecord(c *cluster, outcome string) {
	b.t.Helper()
	b.open(c.url + "/commands")
	b.live()
	b.record("Label", outcome)
	b.click("#list tbody a")
	b.sees("#detail tbody", outcome)
}
