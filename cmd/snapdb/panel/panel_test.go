package panel_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/snapdb/snapdb/agent"
	"github.com/snapdb/snapdb/cmd/snapdb/panel"
	"github.com/snapdb/snapdb/subjects"
)

// house is a real master with slaves and a panel, all in this process.
type house struct {
	t      testing.TB
	dir    string
	m      *agent.Master
	slaves map[string]*agent.Slave
	p      *panel.Panel
	api    *description // against which every exchange is checked
	client *http.Client
	header []string // of every request: names and values
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func newHouse(t testing.TB, slaves ...string) *house {
	t.Helper()
	h := startHouse(t, agent.MasterOptions{})
	h.furnish(slaves...)
	return h
}

// startHouse starts the master only.
func startHouse(t testing.TB, o agent.MasterOptions) *house {
	t.Helper()
	h := &house{t: t, dir: t.TempDir(), slaves: map[string]*agent.Slave{}, client: http.DefaultClient}
	o.Dir, o.Listen, o.Version, o.Logger = filepath.Join(h.dir, "master"), "127.0.0.1:0", "test", quiet()
	var err error
	if h.m, err = agent.StartMaster(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.down)
	return h
}

// furnish starts the slaves and the panel.
func (h *house) furnish(slaves ...string) {
	h.t.Helper()
	for _, id := range slaves {
		h.startSlave(id)
	}
	h.startPanel()
	_, _, data := h.request("GET", "/api/v1/openapi.json", "")
	h.api = &description{seen: map[string]bool{}}
	if err := json.Unmarshal(data, h.api); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) startSlave(id string) {
	h.t.Helper()
	h.startSlaveWith(id, "")
}

// startSlaveWith starts a slave with a token, which a secured cluster demands.
func (h *house) startSlaveWith(id, token string) {
	h.t.Helper()
	s, err := agent.StartSlave(context.Background(), agent.SlaveOptions{URL: h.m.URL(), ID: id, Dir: filepath.Join(h.dir, id), Token: token, Version: "test", Logger: quiet()})
	if err != nil {
		h.t.Fatal(err)
	}
	h.slaves[id] = s
}

func (h *house) startPanel() {
	h.t.Helper()
	var err error
	h.p, err = panel.Start(h.t.Context(), panel.Options{Listen: "127.0.0.1:0", Master: h.m, Version: "test", Logger: quiet()})
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) down() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if h.p != nil {
		if err := h.p.Stop(ctx); err != nil {
			h.t.Errorf("stop the panel: %v", err)
		}
	}
	for id, s := range h.slaves {
		if err := s.Stop(ctx); err != nil {
			h.t.Errorf("stop %s: %v", id, err)
		}
	}
	if err := h.m.Stop(ctx); err != nil {
		h.t.Errorf("stop the master: %v", err)
	}
}

// request sends a request to the panel, a body as JSON unless header says otherwise.
func (h *house) request(method, path, body string, header ...string) (int, http.Header, []byte) {
	h.t.Helper()
	req, err := http.NewRequestWithContext(h.t.Context(), method, h.p.URL()+path, strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	header = append(slices.Clone(h.header), header...)
	for i := 0; i < len(header); i += 2 {
		if req.Header.Set(header[i], header[i+1]); header[i] == "Host" {
			req.Host = header[i+1]
		}
	}
	resp, err := h.client.Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	if h.api != nil {
		if err := h.api.check(method, path, body, resp.StatusCode, resp.Header.Get("Content-Type"), data); err != nil {
			h.t.Errorf("%s %.80s %.100s: %d %.400s is not as openapi.json says: %v", method, path, body, resp.StatusCode, data, err)
		}
	}
	return resp.StatusCode, resp.Header, data
}

// do sends a request that must be answered with a status, and reads the answer.
func (h *house) do(method, path, body string, status int, answer any) {
	h.t.Helper()
	got, _, data := h.request(method, path, body)
	if got != status {
		h.t.Fatalf("%s %s %.200s: %d %.300s, want %d", method, path, body, got, data, status)
	}
	if err := json.Unmarshal(data, answer); err != nil {
		h.t.Fatalf("%s %s: %v in %.300s", method, path, err, data)
	}
}

// headers makes them of names and values.
func headers(list []string) http.Header {
	all := http.Header{}
	for i := 0; i < len(list); i += 2 {
		all.Set(list[i], list[i+1])
	}
	return all
}

// socket is a browser that watches.
type socket struct {
	t    testing.TB
	conn *websocket.Conn
}

func (h *house) watch(message string) *socket {
	h.t.Helper()
	conn, _, err := websocket.Dial(h.t.Context(), "ws"+strings.TrimPrefix(h.p.URL(), "http")+"/api/v1/live", &websocket.DialOptions{HTTPClient: h.client, HTTPHeader: headers(h.header)})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { conn.CloseNow() })
	conn.SetReadLimit(32 << 20)
	s := &socket{h.t, conn}
	s.say(message)
	return s
}

func (s *socket) say(message string) {
	s.t.Helper()
	if err := s.conn.Write(s.t.Context(), websocket.MessageText, []byte(message)); err != nil {
		s.t.Fatal(err)
	}
}

// next is the next message, which must come within 20 s.
func (s *socket) next() map[string]json.RawMessage {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	_, data, err := s.conn.Read(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal(data, &m); err != nil {
		s.t.Fatalf("%v in %.300s", err, data)
	}
	return m
}

// await reads until a message of a kind is as wanted.
func await[T any](s *socket, kind, field string, ok func(T) bool) T {
	s.t.Helper()
	for {
		m := s.next()
		if string(m["type"]) != fmt.Sprintf("%q", kind) {
			continue
		}
		var v T
		if err := json.NewDecoder(bytes.NewReader(m[field])).Decode(&v); err != nil {
			s.t.Fatalf("%v in %.300s", err, m[field])
		}
		if ok(v) {
			return v
		}
	}
}

func TestStateOfTheClusterIsShownAndLive(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "snap1", "snap2")
	s := h.watch(`{"type":"watch","topics":["cluster"]}`)
	online := func(n int) func(subjects.ClusterInfoResponse) bool {
		return func(info subjects.ClusterInfoResponse) bool { return info.Online() == n }
	}
	await(s, "cluster", "cluster", online(2))
	var info subjects.ClusterInfoResponse
	h.do("GET", "/api/v1/status", "", 200, &info)
	if info.Online() != 2 || info.Version != "test" || info.OS == "" || info.Connections < 3 || info.Host == nil || info.Host.MemoryTotal == 0 {
		t.Errorf("the status is %+v", info)
	}
	var node subjects.NodeInfo
	h.do("GET", "/api/v1/nodes/snap2", "", 200, &node)
	if node.ID != "snap2" || node.State != subjects.StateOnline {
		t.Errorf("the node is %+v", node)
	}
	if err := h.slaves["snap2"].Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	delete(h.slaves, "snap2")
	await(s, "cluster", "cluster", online(1))
	s.say(`{"type":"watch","topics":["logs"],"node":"master"}`)
	h.startSlave("snap2")
	await(s, "logs", "lines", func(lines []struct{ Node, Msg string }) bool {
		return len(lines) > 0 && lines[0].Node == "master" && lines[0].Msg == "slave joined"
	})
	await(h.watch(`{"type":"watch","topics":["cluster"]}`), "cluster", "cluster", online(2))
}
