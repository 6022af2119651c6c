//go:build linux

package browser_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/nats-io/nats.go"

	"github.com/snapdb/snapdb/subjects"
)

// Two hundred nodes say every second how they are, and a hundred thousand log lines
// come; the pages still do what is asked of them, and hold no more than they show.
func TestPagesOfALargeClusterCanBeUsed(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 0)
	b := newTab(t, false)
	awaitPanel(c, b)
	ids := c.crowd(200)
	b.sees("#tally", "200 online")
	b.narrowsTheNodes()

	b.open(c.url + "/logs")
	b.live()
	speaker := c.speaker(ids...)
	const batch = 4000 // less than what the panel keeps for a page that is slow
	said := 0
	for said < mostLines+batch {
		said = speaker.say(said, batch)
		b.sees(".loglist .scroller", probe(said-1))
		if rows := eval[int](b, `document.querySelectorAll(".logline").length`); rows > 200 {
			t.Fatalf("%d rows are in the page", rows)
		}
	}
	b.searchesTheLines(said)
	b.pausesTheLines(speaker, said)
}

// narrowsTheNodes filters the list of nodes, chooses all that are shown, and takes the
// filter away again.
func (b *tab) narrowsTheNodes() {
	b.t.Helper()
	rows := func(want int) {
		b.t.Helper()
		await(b.t, func() string {
			if n := eval[int](b, `document.querySelectorAll("#list tbody tr").length`); n != want {
				return fmt.Sprintf("%d nodes are shown, not %d", n, want)
			}
			return ""
		})
	}
	rows(200)
	b.do(chromedp.SendKeys(chromedp.ID("filter"), "room=lab7"))
	rows(20)
	b.click(`input[aria-label="Choose all that are shown"]`)
	b.sees("#bulk", "20 nodes chosen")
	b.press("Shut down…")
	b.sees("dialog", "Shut down 20 nodes")
	b.press("Cancel")
	b.fill("#filter", "")
	rows(200)
	b.do(clickTick("node8"))
	b.sees("#bulk", "19 nodes chosen")
}

// mostLines is how many lines a page keeps.
const mostLines = 100_000

// searchesTheLines finds one line among all: one that came long ago, alone, which a
// line about others that were left out would be beside.
func (b *tab) searchesTheLines(said int) {
	b.t.Helper()
	wanted := probe(said - mostLines/2)
	b.do(chromedp.SendKeys(chromedp.CSS("[data-search]"), wanted))
	b.sees(".loglist mark", wanted)
	var found, kept int
	await(b.t, func() string {
		tally := b.text("#tally")
		if _, err := fmt.Sscanf(strings.ReplaceAll(tally, ",", ""), "%d of %d lines", &found, &kept); err != nil || found != 1 {
			return fmt.Sprintf("one line was searched for, and found %q", tally)
		}
		return ""
	})
	if kept < mostLines*9/10 || kept > mostLines {
		b.t.Errorf("the page keeps %d lines", kept)
	}
	b.fill("[data-search]", "")
	b.sees(".loglist .scroller", probe(said-1))
}

// pausesTheLines has others come meanwhile, which are counted and shown afterwards.
func (b *tab) pausesTheLines(s *speaker, said int) {
	b.t.Helper()
	b.press("Pause")
	said = s.say(said, 300)
	b.sees(".loglist .pill", "300 new")
	if now := b.text(".loglist .scroller"); strings.Contains(now, probe(said-1)) {
		b.t.Errorf("a line came while paused: %s", now)
	}
	b.press("Resume")
	b.sees(".loglist .scroller", probe(said-1))
}

// crowd has that many nodes join, and say every second how they are until the test
// ends. They speak as slaves do, each on a connection of its own, and have no data.
func (c *cluster) crowd(size int) (ids []string) {
	c.t.Helper()
	engine := c.engine()
	members := make([]*member, size)
	for i := range members {
		members[i] = c.member(fmt.Sprintf("node%d", i+1), i, engine)
		ids = append(ids, members[i].status.ID)
	}
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(c.t.Context())
	c.t.Cleanup(func() {
		cancel()
		wg.Wait() // before the connections are closed, each by its own cleanup
	})
	wg.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for turn := 0; ; turn++ {
			for _, m := range members {
				m.tell(turn)
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
	return ids
}

// engine is the digest of the master's SQL engine, without which nobody is let in.
func (c *cluster) engine() string {
	c.t.Helper()
	s := c.speaker()
	answer, err := s.nc.Request(subjects.ClusterInfo, []byte("{}"), patience)
	if err != nil {
		c.t.Fatal(err)
	}
	var info subjects.ClusterInfoResponse
	if err := json.Unmarshal(answer.Data, &info); err != nil {
		c.t.Fatal(err)
	}
	return info.Engine
}

// member is one of a crowd.
type member struct {
	t      testing.TB
	nc     *nats.Conn
	status subjects.StatusMessage
}

// member lets a node join.
func (c *cluster) member(id string, i int, engine string) *member {
	c.t.Helper()
	boot := "boot-" + id
	nc, err := nats.Connect("nats://"+c.nats, nats.Name("snapdb slave "+id+" "+boot))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(nc.Close)
	request, err := json.Marshal(subjects.JoinRequest{V: subjects.Version, ID: id, Boot: boot, Engine: engine, Version: "test"})
	if err != nil {
		c.t.Fatal(err)
	}
	answer, err := nc.Request(subjects.Join, request, patience)
	if err != nil {
		c.t.Fatal(err)
	}
	var in subjects.JoinResponse
	if err := json.Unmarshal(answer.Data, &in); err != nil || in.Refused != nil {
		c.t.Fatalf("%s is not let in: %s %v", id, answer.Data, err)
	}
	return &member{c.t, nc, subjects.StatusMessage{V: subjects.Version, ID: id, Boot: boot, Session: in.Session, State: subjects.StateOnline, Version: "test", OS: "linux", Arch: "amd64",
		Labels: map[string]string{"room": fmt.Sprintf("lab%d", i%10)}, Host: &subjects.HostFacts{}}}
}

// tell says how the node is.
func (m *member) tell(turn int) {
	m.status.Host.CPUPercent = float64((turn*7 + len(m.status.ID)) % 100)
	data, err := json.Marshal(&m.status)
	if err == nil {
		err = m.nc.Publish(subjects.NodeStatus(m.status.ID), data)
	}
	if err != nil {
		m.t.Errorf("%s: %v", m.status.ID, err)
	}
}
