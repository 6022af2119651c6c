//go:build linux

package browser_test

import (
	_ "embed"
	"testing"
)

// audit looks at a page as a checker of accessibility does, and lists what is wrong.
//
//go:embed testdata/audit.js
var audit string

// Every page, in both themes and in windows down to a small phone: everything that can be used has a
// name, text can be told from what is behind it, and nothing is wider than its place.
func TestPagesCanBeUsedByEverybody(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	c.startSlave("snap2", "--label", "building=north-west-annexe", "--label", "floor=2", "--label", "os=linux", "--label", "room=lab1")
	b := newTab(t, false)
	c.sql("CREATE DATABASE Shop")
	c.sql("CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT, picture BLOB); INSERT INTO items VALUES (1, 'lamp', x'00'), (2, NULL, NULL)", "--db", "Shop")
	awaitPanel(c, b)
	b.row("snap1", "online")
	b.row("snap2", "online")
	for _, path := range []string{"/", "/nodes/snap1", "/sql?db=Shop", "/databases?db=Shop", "/replication", "/commands", "/files", "/logs"} {
		b.open(c.url + path)
		b.live()
		for _, look := range []struct {
			width, height int64
			theme         string
		}{{1440, 900, "light"}, {1440, 900, "dark"}, {1024, 768, "light"}, {360, 740, "light"}} {
			b.look(look.width, look.height, look.theme)
			for _, fault := range eval[[]string](b, audit) {
				t.Errorf("%s at %d px, %s: %s", path, look.width, look.theme, fault)
			}
		}
	}
}

// The audit finds what is wrong with a page, or the test above would prove nothing.
func TestAuditFindsFaults(t *testing.T) {
	t.Parallel()
	b := newTab(t, false)
	b.open("data:text/html,<html lang=en><h1>x</h1><main><nav aria-label=n></nav><button></button><input><p style='color:%23999'>pale</p></main>")
	faults := eval[[]string](b, audit)
	if len(faults) != 3 {
		t.Errorf("three faults were planted, found: %q", faults)
	}
}
