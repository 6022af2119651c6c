//go:build linux

package browser_test

import (
	"fmt"
	"testing"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// The keyboard reaches what a page is searched with and the help, and leaves both; it
// reads what a pointer does; and in front of what destroys something neither Enter nor
// Escape does harm.
func TestKeyboardReachesSearchAndHelpAndDoesNoHarm(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 2)
	b := newTab(t, false)
	c.sql("CREATE DATABASE Shop")
	awaitPanel(c, b)
	b.row("snap1", "online")
	b.row("snap2", "online")
	b.shutdownFocusesCancel()
	b.searchFocuses(c)
	b.helpOpensAndCloses()
	b.dropFocusesCancel(c)
	b.factsNeedNoMouse(c)
	b.open(c.url + "/commands")
	b.sees("#list", "snapdb node label --all room=lab1 --server nats://"+c.nats) // no command yet
	if !c.slaves["snap1"].Running() || !c.slaves["snap2"].Running() {
		t.Error("a node ended after Cancel")
	}
	c.awaitDatabases("master", "Shop")
}

// keys are pressed, whatever has the focus. As with a keyboard a letter belongs to its
// key: a page that takes the key keeps the letter out of whatever has the focus then.
func (b *tab) keys(keys string) {
	b.t.Helper()
	for _, r := range keys {
		events := kb.Encode(r)
		down, up := events[0], events[len(events)-1]
		if len(events) == 3 {
			down.Text, down.UnmodifiedText = events[1].Text, events[1].UnmodifiedText
		}
		for _, e := range []*input.DispatchKeyEventParams{down, up} {
			if _, err := chromedp.Call(b.ctx, input.DispatchKeyEvent, *e); err != nil {
				b.t.Fatalf("press %q: %v", r, err)
			}
		}
	}
}

// focused waits until the focus is on what is called that: its label, its id or its text.
func (b *tab) focused(name string) {
	b.t.Helper()
	await(b.t, func() string {
		if now := eval[string](b, `(({ ariaLabel, id, innerText }) => ariaLabel || id || innerText)(document.activeElement)`); now != name {
			return fmt.Sprintf("the focus is on %.80q, not on %q", now, name)
		}
		return ""
	})
}

// searchFocuses goes to the field of each page that has one.
func (b *tab) searchFocuses(c *cluster) {
	b.t.Helper()
	for _, page := range []struct{ path, field string }{{"/logs", "Search in the log"}, {"/commands", "filter"}, {"/", "filter"}} {
		b.open(c.url + page.path)
		b.live()
		if page.path == "/" {
			b.do(clickTick("snap1")) // what is chosen with a click does not keep the keys to itself
		}
		b.keys("/")
		b.focused(page.field)
	}
	b.keys("/?gl") // in a field, keys are letters
	if typed := eval[string](b, `document.querySelector("#filter").value`); typed != "/?gl" {
		b.t.Errorf("the filter holds %q", typed)
	}
}

// helpOpensAndCloses leaves the field for the help, and that for the page.
func (b *tab) helpOpensAndCloses() {
	b.t.Helper()
	b.keys(kb.Escape + "?")
	b.sees("dialog", "Search or filter this page")
	b.focused("Close")
	b.keys("/") // the page behind does not hear
	b.focused("Close")
	b.keys(kb.Escape)
	b.dialogClosed()
}

// shutdownFocusesCancel opens the dialog in front of a shutdown, which names the nodes.
func (b *tab) shutdownFocusesCancel() {
	b.t.Helper()
	b.do(clickTick("snap1"))
	for _, key := range []string{kb.Enter, kb.Escape} {
		b.press("Shut down…")
		b.sees("dialog", "Shut down snap1")
		b.focused("Cancel")
		b.keys(key)
		b.dialogClosed()
	}
	b.do(clickTick("snap2"))
	b.press("Shut down…")
	b.sees("dialog", "Shut down 2 nodes")
	for _, words := range []string{"snap1", "snap2", "agent", "host"} {
		b.sees("dialog", words)
	}
	b.focused("Cancel")
	const disabled = `document.querySelector("dialog button[type=submit]").disabled`
	if !eval[bool](b, disabled) {
		b.t.Error("two nodes can be shut down without typing anything")
	}
	b.fill("dialog input.mono", "2 nodes")
	if eval[bool](b, disabled) {
		b.t.Error("what was to be typed was typed, and the button is still off")
	}
	b.press("Cancel")
	b.dialogClosed()
}

// factsNeedNoMouse reads what a line of the log, a chart and a database have to say
// beyond what is shown at first.
func (b *tab) factsNeedNoMouse(c *cluster) {
	b.t.Helper()
	b.open(c.url + "/logs")
	b.sees(".loglist .scroller", "joined")
	b.focus(".loglist .scroller")
	b.keys(kb.Enter)
	b.sees(".loglist .opened", "message")
	b.keys(kb.Escape)
	await(b.t, func() string { return b.text(".loglist .opened") })

	b.open(c.url + "/nodes/snap1")
	b.sees("#cpu-now", "%")
	b.focus("#cpu svg")
	b.keys(kb.ArrowRight)
	b.sees("#cpu .tip", "snap1")

	b.open(c.url + "/databases?db=Shop")
	b.sees("#facts", "snap1, snap2")
	if hidden := eval[[]string](b, `[...document.querySelectorAll("[title]")].map((e) => e.title)`); len(hidden) > 0 {
		b.t.Errorf("only the mouse finds %q", hidden)
	}
}

// focus gives an element the focus, as Tab does.
func (b *tab) focus(selector string) {
	b.t.Helper()
	b.do(chromedp.Focus(chromedp.CSS(selector)))
}

// dropFocusesCancel does the same in front of the end of a database.
func (b *tab) dropFocusesCancel(c *cluster) {
	b.t.Helper()
	b.open(c.url + "/databases")
	for _, key := range []string{kb.Enter, kb.Escape} {
		b.click(`button[aria-label="Drop Shop"]`)
		b.sees("dialog", "This cannot be taken back")
		b.focused("Cancel")
		b.keys(key)
		b.dialogClosed()
	}
}
