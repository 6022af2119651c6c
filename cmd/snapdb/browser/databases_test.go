//go:build linux

package browser_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// Two people have the panel open. What one makes the other sees without asking; when
// both drop the same database, one did it and the other is told why not.
func TestTwoPanelsActAtOnce(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	first, second := newTab(t, true), newTab(t, true) // one of them is refused
	awaitPanel(c, first)
	first.row("snap1", "online")
	for _, b := range []*tab{first, second} {
		b.open(c.url + "/databases")
		b.live()
	}
	first.press("Create database")
	first.do(chromedp.SendKeys(chromedp.CSS("dialog input.mono"), "Shop"))
	first.click("dialog button.main-action")
	second.row("Shop", "snap1")
	c.sql("CREATE TABLE items (name TEXT)", "--db", "Shop")

	for _, b := range []*tab{first, second} {
		b.dialogClosed()
		b.typeToDrop("Shop")
	}
	c.awaitDatabases("master", "Shop") // nothing is dropped by typing
	first.press("Drop Shop")
	second.press("Drop Shop")
	done, refused := 0, 0
	for _, b := range []*tab{first, second} {
		switch said := b.outcome(); {
		case strings.Contains(said, "Shop is dropped"):
			done++
		case strings.Contains(said, "no_such_database") && strings.Contains(said, "Shop"):
			refused++
		default:
			t.Errorf("a panel says %q", said)
		}
	}
	if done != 1 || refused != 1 {
		t.Errorf("%d panels say that they dropped it, %d that it was not there", done, refused)
	}
	for _, b := range []*tab{first, second} {
		b.sees("#list", "There is no database yet")
	}
	c.awaitDatabases("master", "")
	c.awaitDatabases("snap1", "")

	second.open(c.url + "/commands")
	second.live()
	first.label(c, "snap1", "room=lab1", "skip")
	second.record("Label", "done")
}

// dialogClosed waits until no dialog is open.
func (b *tab) dialogClosed() {
	b.t.Helper()
	await(b.t, func() string {
		if eval[bool](b, `document.querySelector("dialog") !== null`) {
			return "a dialog is open: " + b.text("dialog")
		}
		return ""
	})
}

// typeToDrop opens the dialog that drops a database and types its name. Short of the
// whole name the database cannot be dropped.
func (b *tab) typeToDrop(name string) {
	b.t.Helper()
	b.click(fmt.Sprintf("button[aria-label=%q]", "Drop "+name))
	b.sees("dialog", "This cannot be taken back")
	const disabled = `document.querySelector("dialog button.danger").disabled`
	for i, letter := range strings.Split(name, "") {
		if !eval[bool](b, disabled) {
			b.t.Fatalf("%s can be dropped with %q typed", name, name[:i])
		}
		b.do(chromedp.SendKeys(chromedp.CSS("dialog input.mono"), letter))
	}
	if eval[bool](b, disabled) {
		b.t.Fatalf("%s cannot be dropped with its name typed", name)
	}
}

// outcome is what the page says of the drop: in passing, or in the dialog.
func (b *tab) outcome() (said string) {
	b.t.Helper()
	await(b.t, func() string {
		said = eval[string](b, `[...document.querySelectorAll(".toast, dialog .trouble")].map((e) => e.innerText).filter((s) => !s.includes("is there")).join("; ")`)
		if said == "" {
			return "the page does not say what became of it"
		}
		return ""
	})
	return said
}

// awaitDatabases waits until a node has those databases, and no others.
func (c *cluster) awaitDatabases(node, names string) {
	c.t.Helper()
	var flags []string
	if node != "master" {
		flags = []string{"--node", node}
	}
	await(c.t, func() string {
		var has []string
		for _, row := range rows(c.t, c.sql("SHOW DATABASES", flags...)) {
			for _, name := range row {
				if s, is := name.(string); is {
					has = append(has, s)
				}
			}
		}
		if now := strings.Join(has, " "); now != names {
			return fmt.Sprintf("%s has the databases %q, not %q", node, now, names)
		}
		return ""
	})
}
