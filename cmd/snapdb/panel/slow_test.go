package panel_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/nats-io/nats.go"

	"github.com/snapdb/snapdb/subjects"
)

// deaf opens a connection that holds little, asks to see everything, and reads
// nothing until the test reads from it.
func (h *house) deaf() *websocket.Conn {
	h.t.Helper()
	small := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return c, c.(*net.TCPConn).SetReadBuffer(4 << 10)
	}}}
	conn, _, err := websocket.Dial(h.t.Context(), "ws"+strings.TrimPrefix(h.p.URL(), "http")+"/api/v1/live", &websocket.DialOptions{HTTPClient: small})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { conn.CloseNow() })
	conn.SetReadLimit(32 << 20)
	if err := conn.Write(h.t.Context(), websocket.MessageText, []byte(`{"type":"watch","topics":["cluster","commands","logs","samples"]}`)); err != nil {
		h.t.Fatal(err)
	}
	return conn
}

// What is shouted at a time: more than sockets hold.
const (
	shouted      = 5000 // lines
	shoutedBytes = 4000
)

// shout publishes long log lines, numbered, and waits until the panel has them.
func (h *house) shout(from, to int) {
	h.t.Helper()
	nc, err := nats.Connect(h.m.URL())
	if err != nil {
		h.t.Fatal(err)
	}
	defer nc.Close()
	long := strings.Repeat("x", shoutedBytes)
	for i := from; i <= to; i++ {
		if err := nc.Publish(subjects.NodeLog("snap9"), fmt.Appendf(nil, `{"msg":%q,"n":%d}`, long, i)); err != nil {
			h.t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		h.t.Fatal(err)
	}
	await(h.watch(`{"type":"watch","topics":["logs"],"node":"snap9"}`), "logs", "lines", func(lines []line) bool {
		return len(lines) > 0 && lines[len(lines)-1].Attrs.N == to
	})
}

// A browser that reads nothing holds up neither writes nor those who read, and the
// panel does not keep for it what it misses.
func TestABrowserThatReadsNothingHarmsNobody(t *testing.T) {
	h := newHouse(t)
	h.do("POST", "/api/v1/exec", `{"sql":"CREATE DATABASE Shop"}`, 200, new(any))
	h.do("POST", "/api/v1/exec", `{"db":"Shop","sql":"CREATE TABLE t (x)"}`, 200, new(any))
	h.shout(1, shouted) // fills what is kept in any case
	before := heap()
	for range 10 {
		h.deaf()
	}
	reads := h.watch(`{"type":"watch","topics":["cluster"]}`)
	h.shout(shouted+1, 2*shouted)
	if grown := heap() - before; grown > 2*shouted*shoutedBytes {
		t.Errorf("the heap has grown by %d MB", grown>>20)
	}
	var answer struct{ Position uint64 }
	for range 20 {
		h.do("POST", "/api/v1/exec", `{"db":"Shop","sql":"INSERT INTO t VALUES (1)"}`, 200, &answer)
	}
	await(reads, "cluster", "cluster", func(i subjects.ClusterInfoResponse) bool { return i.Heads["Shop"].Position == answer.Position })
}

// heap is how many bytes are in use.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// The panel leaves nothing running when it stops, also while browsers watch.
func TestNothingOfThePanelRunsAfterItsStop(t *testing.T) {
	h := newHouse(t, "snap1")
	s := h.watch(`{"type":"watch","topics":["cluster","commands","logs","samples"]}`)
	await(s, "cluster", "cluster", func(i subjects.ClusterInfoResponse) bool { return i.Online() == 1 })
	h.deaf()
	if !strings.Contains(stacks(), panelCode) {
		t.Fatal("the stacks do not show the panel while it runs")
	}
	if err := h.p.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.p = nil
	// A message that the bus was just handing over may be in hand for a moment.
	left := stacks()
	for late := time.Now().Add(5 * time.Second); strings.Contains(left, panelCode) && time.Now().Before(late); left = stacks() {
		runtime.Gosched()
	}
	for _, g := range strings.Split(left, "\n\n") {
		if strings.Contains(g, panelCode) {
			t.Errorf("still there:\n%s", g)
		}
	}
}

// panelCode is in the stack of everything that the panel runs.
const panelCode = "snapdb/dashboard."

// stacks are those of all goroutines.
func stacks() string {
	all := make([]byte, 4<<20)
	return string(all[:runtime.Stack(all, true)])
}
