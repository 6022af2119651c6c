//go:build linux

package browser_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"testing"

	"github.com/chromedp/chromedp"
)

// Three pages stay open while the master is killed and comes back. Each says that it
// is cut off, and then goes on by itself: with every log line once and in order, also
// with those of the time before the panel was there again; with every command once,
// also with one that was made meanwhile; and with the nodes.
func TestPagesGoOnWhereTheyWereWhenTheMasterComesBack(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	nodes, logs, commands := newTab(t, true), newTab(t, true), newTab(t, true)
	awaitPanel(c, nodes)
	nodes.row("snap1", "online")
	logs.open(c.url + "/logs")
	commands.open(c.url + "/commands")
	for _, b := range []*tab{nodes, logs, commands} {
		b.live()
		eval[bool](b, `window.sameAsBefore = true`)
	}
	logs.sees(".loglist .scroller", "snap1")
	speaker := c.speaker("snap1")
	logs.do(chromedp.SendKeys(chromedp.CSS("[data-search]"), "probe-"))
	said := speaker.say(0, 200)
	logs.sees("#tally", "200 of")
	c.slaves["snap1"].Kill()
	nodes.row("snap1", "offline")
	c.queueLabel("before")
	commands.sees("#list tbody", "before=yes")

	c.master.Kill()
	for _, b := range []*tab{nodes, logs, commands} {
		b.sees("#banner", "Live updates lost")
	}
	for _, b := range []*tab{nodes, commands} {
		if dim := eval[string](b, `getComputedStyle(document.querySelector("#list")).opacity`); dim == "1" {
			t.Error("what is old is not dimmed")
		}
	}
	c.master.Start()
	speaker.await()
	said = speaker.say(said, 200) // before the panel is there, if they are quick
	c.queueLabel("meanwhile")
	for _, b := range []*tab{nodes, logs, commands} {
		b.live()
		if banner := b.text("#banner"); banner != "" {
			t.Errorf("the page is live again and says %q", banner)
		}
	}
	said = speaker.say(said, 200)
	c.slaves["snap1"].Start()
	nodes.row("snap1", "before=yes")
	nodes.row("snap1", "meanwhile=yes")
	logs.sees("#tally", fmt.Sprintf("%d of", said))
	logs.probesInOrder(said)
	commands.bothDone()
	for _, b := range []*tab{nodes, logs, commands} {
		if !eval[bool](b, `window.sameAsBefore === true`) {
			t.Error("a page was loaded anew")
		}
	}
}

// probesInOrder looks at all the lines that pass the filter, in a window so high that
// they are all in the page.
func (b *tab) probesInOrder(said int) {
	b.t.Helper()
	b.look(1000, int64(130+24*said+200), "light")
	var shown []string
	await(b.t, func() string {
		shown = eval[[]string](b, `[...document.querySelectorAll(".loglist .msg")].map((e) => e.textContent)`)
		if len(shown) < said {
			return fmt.Sprintf("%d of %d lines are in the page", len(shown), said)
		}
		return ""
	})
	for i, words := range shown {
		if words != probe(i) {
			b.t.Fatalf("line %d is %q, not %q", i, words, probe(i))
		}
	}
	if len(shown) != said {
		b.t.Errorf("%d lines were said and %d are shown", said, len(shown))
	}
}

// bothDone waits until the page of commands has two records, both of which are done.
func (b *tab) bothDone() {
	b.t.Helper()
	await(b.t, func() string {
		rows := eval[int](b, `document.querySelectorAll("#list tbody tr").length`)
		if done := eval[int](b, `document.querySelectorAll("#list tbody .state-done").length`); rows != 2 || done != 2 {
			return fmt.Sprintf("of %d records %d are done: %s", rows, done, b.text("#list"))
		}
		return ""
	})
}

// queueLabel asks for a label of snap1 under an id, as often as it takes to be heard.
func (c *cluster) queueLabel(key string) {
	c.t.Helper()
	body := fmt.Sprintf(`{"id":%q,"op":"label","nodes":["snap1"],"args":{"set":{%[1]q:"yes"}},"away":"queue"}`, key)
	await(c.t, func() string {
		ctx, cancel := context.WithTimeout(c.t.Context(), patience)
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+"/api/v1/commands", bytes.NewReader([]byte(body)))
		if err != nil {
			c.t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			return err.Error()
		}
		defer answer.Body.Close()
		if answer.StatusCode >= 300 {
			return "the panel answers " + answer.Status
		}
		return ""
	})
}
