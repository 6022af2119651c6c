package panel_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/snapdb/snapdb/exec/engine"
	"github.com/snapdb/snapdb/subjects"
)

// answer is the answer to SQL, as JSON has it.
type answer struct {
	Results []struct {
		Columns   []string
		Rows      [][]any
		Truncated bool
	}
	Position *uint64
	Error    *struct{ Code, Message string }
}

func TestSQLOverHTTP(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "snap1")
	var a answer
	h.do("POST", "/api/v1/databases", `{"name":"Shop"}`, http.StatusCreated, &a)
	h.do("POST", "/api/v1/databases", `{"name":"Shop"}`, http.StatusConflict, &a)
	h.do("POST", "/api/v1/exec", `{"db":"Shop","sql":"CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT); CREATE INDEX byname ON t (name)"}`, 200, &a)
	h.do("POST", "/api/v1/transaction", `{"db":"Shop","stmts":[{"sql":"INSERT INTO t VALUES (?,?)","args":[1,"Alice"]},{"sql":"INSERT INTO t VALUES (2,'Bob')"}],"ack":"all"}`, 200, &a)
	h.do("POST", "/api/v1/exec", `{"db":"Shop","sql":"INSERT INTO t VALUES (1,'again')"}`, http.StatusConflict, &a)
	if a.Error == nil || a.Error.Code != "constraint" {
		t.Errorf("the refusal is %+v", a.Error)
	}
	for _, node := range []string{"", "?node=snap1", "?node=master"} {
		a = answer{}
		h.do("POST", "/api/v1/query"+node, `{"db":"Shop","sql":"SELECT name FROM t ORDER BY id"}`, 200, &a)
		if got := fmt.Sprint(a.Results[0].Rows); got != "[[Alice] [Bob]]" {
			t.Errorf("query%s gives %s", node, got)
		}
	}
	var schema struct {
		Tables []struct {
			Name    string
			Columns []struct{ Name string }
			Indexes []struct{ Columns []string }
		}
	}
	h.do("GET", "/api/v1/databases/Shop/schema", "", 200, &schema)
	if got := fmt.Sprintf("%+v", schema.Tables); got != "[{Name:t Columns:[{Name:id} {Name:name}] Indexes:[{Columns:[name]}]}]" {
		t.Errorf("the schema is %s", got)
	}
	h.do("POST", "/api/v1/exec", `{"db":"Shop","sql":"CREATE VIEW broken AS SELECT * FROM missing"}`, 200, &a)
	h.do("GET", "/api/v1/databases/Shop/schema", "", 200, &schema)
	if len(schema.Tables) != 2 {
		t.Errorf("with a broken view the schema is %+v", schema.Tables)
	}
	h.do("DELETE", "/api/v1/databases/Shop", "", 200, &a)
	h.do("DELETE", "/api/v1/databases/Shop", "", http.StatusNotFound, &a)
}

func TestLongResultIsStreamed(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	var a answer
	h.do("POST", "/api/v1/databases", `{"name":"a"}`, http.StatusCreated, &a)
	long := `{"db":"a","sql":"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 100000) SELECT i, hex(zeroblob(16)) FROM n"}`
	a = answer{}
	h.do("POST", "/api/v1/query", long, 200, &a)
	if r := a.Results[0]; len(r.Rows) != 100_000 || r.Truncated || fmt.Sprint(r.Rows[99_999][0]) != "100000" || a.Position == nil {
		t.Errorf("%d rows, truncated %v, position %v", len(r.Rows), r.Truncated, a.Position)
	}
	a = answer{}
	h.do("POST", "/api/v1/query?max_rows=50000", long, 200, &a)
	if r := a.Results[0]; len(r.Rows) != 50_000 || !r.Truncated {
		t.Errorf("%d rows, truncated %v", len(r.Rows), r.Truncated)
	}
	_, header, data := h.request("POST", "/api/v1/query", long, "Accept", "application/x-ndjson")
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	if header.Get("Content-Type") != "application/x-ndjson" || len(lines) != 100_003 || !strings.HasPrefix(lines[100_002], `{"position":`) {
		t.Errorf("%s, %d lines, the last %s", header.Get("Content-Type"), len(lines), lines[len(lines)-1])
	}
	for _, line := range lines {
		if !json.Valid([]byte(line)) {
			t.Fatalf("no JSON: %s", line)
		}
	}
}

// Every exchange of every test is checked against openapi.json; this one makes sure
// that no route is left out.
func TestEveryRouteAnswersAsItIsDescribed(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "snap1")
	var a answer
	h.do("POST", "/api/v1/databases", `{"name":"Shop","if_not_exists":true}`, http.StatusCreated, &a)
	h.do("POST", "/api/v1/exec", `{"db":"Shop","sql":"CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE t (x, y REFERENCES p (id) ON DELETE CASCADE); CREATE UNIQUE INDEX i ON t (x, y + 1); CREATE VIEW v AS SELECT 1; CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; END"}`, 200, &a)
	h.do("POST", "/api/v1/transaction", `{"db":"Shop","stmts":[{"sql":"INSERT INTO t VALUES (?, NULL), (1.5, NULL), (1e999, NULL), (x'00', NULL), (CAST(x'ff' AS TEXT), NULL)","args":[{"blob":"AA=="}]}],"ack":1,"id":"once"}`, 200, &a)
	h.do("POST", "/api/v1/query?node=snap1&max_rows=3", fmt.Sprintf(`{"db":"Shop","sql":"SELECT * FROM t","min_position":%d}`, *a.Position), 200, &a)
	var file struct{ Digest string }
	h.do("POST", "/api/v1/files?name=a.txt", "hello", http.StatusCreated, &file)
	var sent subjects.CommandResponse
	h.do("POST", "/api/v1/commands", `{"op":"info","all":true,"id":"c1","away":"wait"}`, http.StatusCreated, &sent)
	h.do("POST", "/api/v1/commands", fmt.Sprintf(`{"op":"push","nodes":["snap1"],"id":"c2","at":"2096-01-01T00:00:00Z","args":{"name":"a.txt","size":5,"digest":%q}}`, file.Digest), http.StatusCreated, &sent)
	h.do("POST", "/api/v1/commands/c2/cancel", `{"by":"me"}`, 200, &sent)
	h.do("POST", "/api/v1/commands/c2/retry", "", http.StatusCreated, &sent)
	h.do("POST", "/api/v1/commands/preview", `{"op":"ping","select":"id=snap1"}`, 200, &sent)
	await(h.watch(`{"type":"watch","topics":["commands"]}`), "command", "command", func(r subjects.CommandRecord) bool {
		return r.RetryOf == "c2" && r.Nodes[0].State == subjects.CommandDone
	})
	await(h.watch(`{"type":"watch","topics":["samples"]}`), "sample", "sample", func(s struct{ T int64 }) bool { return s.T > 0 })
	for _, path := range []string{"/healthz", "/readyz", "/metrics", "/api/v1/status", "/api/v1/nodes", "/api/v1/nodes/snap1", "/api/v1/databases", "/api/v1/databases/Shop/schema",
		"/nodes", "/api/v1/commands", "/api/v1/commands/c1", "/api/v1/files/" + file.Digest, "/api/v1/logs", "/api/v1/history?node=*", "/api/v1/openapi.json"} {
		if status, _, data := h.request("GET", path, ""); status != 200 {
			t.Errorf("%s: %d %.300s", path, status, data)
		}
	}
	h.do("DELETE", "/api/v1/databases/Shop", "", 200, &a)
	for path, methods := range h.api.Paths {
		for method := range methods {
			if !h.api.seen[method+" "+path] && path != "/api/v1/live" && !strings.HasPrefix(path, accessRoutes) {
				t.Errorf("%s %s has not answered", method, path)
			}
		}
	}
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	digest := strings.Repeat("a", 64)
	for _, c := range []struct {
		method, path, body string
		status             int
		says               string
	}{
		{"GET", "/api/v1/nothing", "", 404, "openapi.json"},
		{"PUT", "/api/v1/status", "", 405, "GET"},
		{"GET", "/api/v1/exec", "", 405, "POST"},
		{"GET", "/api/v1/nodes/nobody", "", 404, "nobody"},
		{"POST", "/api/v1/exec", `{"db":"a"}`, 400, "needs"},
		{"POST", "/api/v1/exec", `{"db":"a","sql":"SELECT 1","colour":"red"}`, 400, "colour"},
		{"POST", "/api/v1/exec", `{"db":"a","sql":"SELECT 1"}`, 404, "no_such_database"},
		{"POST", "/api/v1/exec", `{"db":"a","sql":"` + strings.Repeat("x", subjects.MaxRequest) + `"}`, 413, "too_big"},
		{"POST", "/api/v1/exec?db=a", `{"db":"a","sql":"SELECT 1"}`, 400, "no parameter"},
		{"POST", "/api/v1/query?node=a.b", `{"db":"a","sql":"SELECT 1"}`, 400, "node"},
		{"POST", "/api/v1/query?node=gone", `{"db":"a","sql":"SELECT 1"}`, 503, "gone"},
		{"POST", "/api/v1/query?max_rows=-1", `{"db":"a","sql":"SELECT 1"}`, 400, "max_rows"},
		{"POST", "/api/v1/query", `{"sql":"DELETE FROM t"}`, 400, "no_database"},
		{"POST", "/api/v1/transaction", `{"db":"a","sql":"SELECT 1"}`, 400, "list of statements"},
		{"POST", "/api/v1/transaction", `{"db":"a","stmts":[{"sql":"SELECT 1"}],"session":"s"}`, 400, "session"},
		{"POST", "/api/v1/databases", `{"name":"a; DROP DATABASE b"}`, 400, "database name"},
		{"POST", "/api/v1/databases", `{"nom":"a"}`, 400, "nom"},
		{"DELETE", "/api/v1/databases/_snapdb", "", 400, "reserved"},
		{"GET", "/api/v1/databases/nothing/schema", "", 404, "no_such_database"},
		{"POST", "/api/v1/commands", `{"op":"dance","all":true}`, 400, "dance"},
		{"POST", "/api/v1/commands", `{"op":"ping","nodes":["nobody"]}`, 400, "nobody"},
		{"POST", "/api/v1/commands/preview", `[]`, 400, "malformed"},
		{"GET", "/api/v1/commands?limit=0", "", 400, "limit"},
		{"GET", "/api/v1/commands/nothing", "", 404, "not_found"},
		{"POST", "/api/v1/commands/nothing/cancel", "", 404, "not_found"},
		{"POST", "/api/v1/commands/nothing/retry", `{"x":1}`, 400, "x"},
		{"GET", "/api/v1/files/abc", "", 400, "SHA-256"},
		{"GET", "/api/v1/files/" + digest, "", 404, "not_found"},
		{"POST", "/api/v1/files?name=" + strings.Repeat("n", 300), "x", 400, "name"},
		{"GET", "/api/v1/logs?level=loud", "", 400, "loud"},
		{"GET", "/api/v1/logs?after=x", "", 400, "after"},
		{"GET", "/api/v1/history?step=0", "", 400, "step"},
		{"GET", "/api/v1/history?node=nobody", "", 404, "not_found"},
		{"GET", "/api/v1/live", "", 426, ""},
	} {
		status, header, data := h.request(c.method, c.path, c.body)
		if status != c.status || !strings.Contains(string(data), c.says) {
			t.Errorf("%s %.60s %.60s: %d %.200s, want %d and %q", c.method, c.path, c.body, status, data, c.status, c.says)
		}
		if c.says != "" && (header.Get("Content-Type") != "application/json" || !json.Valid(data)) {
			t.Errorf("%s %.60s: the error is not JSON: %.200s", c.method, c.path, data)
		}
	}
	if status, _, data := h.request("POST", "/api/v1/exec", `{"db":"a","sql":"SELECT 1"}`, "Content-Type", "text/plain"); status != 415 {
		t.Errorf("text: %d %s", status, data)
	}
}

func TestPagesOfOtherSitesAreRefused(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	create := `{"name":"stolen"}`
	for what, c := range map[string]struct {
		method, path string
		header       []string
	}{
		"rebound name":        {"GET", "/api/v1/status", []string{"Host", "evil.test:8080"}},
		"name like ours":      {"GET", "/", []string{"Host", "localhost.evil.test"}},
		"cross site":          {"POST", "/api/v1/databases", []string{"Sec-Fetch-Site", "cross-site"}},
		"same site":           {"POST", "/api/v1/databases", []string{"Sec-Fetch-Site", "same-site"}},
		"other origin":        {"POST", "/api/v1/databases", []string{"Origin", "http://evil.test"}},
		"no origin":           {"POST", "/api/v1/databases", []string{"Origin", "null"}},
		"socket, other place": {"GET", "/api/v1/live", []string{"Origin", "http://evil.test", "Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="}},
	} {
		if status, _, data := h.request(c.method, c.path, map[string]string{"POST": create}[c.method], c.header...); status != http.StatusForbidden {
			t.Errorf("%s: %d %.200s", what, status, data)
		}
	}
	var list struct{ Databases []any }
	h.do("GET", "/api/v1/databases", "", 200, &list)
	if len(list.Databases) > 0 {
		t.Errorf("there is %v", list.Databases)
	}
	_, header, _ := h.request("GET", "/api/v1/status", "")
	for name, want := range map[string]string{"Content-Security-Policy": "default-src 'self'", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"} {
		if !strings.Contains(header.Get(name), want) {
			t.Errorf("%s is %q", name, header.Get(name))
		}
	}
}

func TestFilesGoInAndOut(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for what, body := range map[string]string{
		"like a refusal": `{"error":{"code":"internal","message":"x"}}`,
		"large":          strings.Repeat("0123456789abcdef", 100_000),
		"whole chunks":   strings.Repeat("x", 2*subjects.BlobChunk),
		"empty":          "",
	} {
		var info struct {
			Digest, Name string
			Size         int
		}
		h.do("POST", "/api/v1/files?name=f", body, http.StatusCreated, &info)
		if info.Size != len(body) || info.Name != "f" {
			t.Errorf("%s: %+v", what, info)
		}
		status, header, data := h.request("GET", "/api/v1/files/"+info.Digest+"?name=a%0d%0ab", "")
		if status != 200 || string(data) != body || header.Get("Content-Type") != "application/octet-stream" {
			t.Errorf("%s: %d, %d bytes, %v", what, status, len(data), header)
		}
	}
}

// say publishes log lines of a node.
func (h *house) say(from, to int) {
	h.t.Helper()
	nc, err := nats.Connect(h.m.URL())
	if err != nil {
		h.t.Error(err)
		return
	}
	defer nc.Close()
	for i := from; i <= to; i++ {
		if err := nc.Publish(subjects.NodeLog("snap9"), fmt.Appendf(nil, `{"level":"WARN","msg":"line","n":%d}`, i)); err != nil {
			h.t.Error(err)
			return
		}
	}
	if err := nc.Flush(); err != nil {
		h.t.Error(err)
	}
}

type line struct {
	Seq   uint64
	Node  string
	Attrs struct{ N int }
}

// lines reads until so many lines have come, which must follow one another.
func (s *socket) lines(from, to int) (last uint64) {
	s.t.Helper()
	for from <= to {
		await(s, "logs", "lines", func(lines []line) bool {
			for _, l := range lines {
				if l.Attrs.N != from || l.Node != "snap9" {
					s.t.Fatalf("%+v, want line %d", l, from)
				}
				from, last = from+1, l.Seq
			}
			return true
		})
	}
	return last
}

func TestLogsAreResumedWithoutGapsAndDuplicates(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	s := h.watch(`{"type":"watch","topics":["logs"]}`)
	h.say(1, 1200)
	last := s.lines(1, 1200)
	s.conn.CloseNow()
	h.say(1201, 1300)
	s = h.watch(fmt.Sprintf(`{"type":"watch","topics":["logs"],"node":"snap9","after":%d}`, last))
	s.lines(1201, 1300)
	var got struct{ Lines []line }
	h.do("GET", "/api/v1/logs?level=warn&limit=3", "", 200, &got)
	if len(got.Lines) != 3 || got.Lines[2].Attrs.N != 1300 {
		t.Errorf("the newest lines are %+v", got.Lines)
	}
}

// What nodes say from when the broker takes it until the panel listens is shown too,
// and what they say just then is shown once.
func TestLogLinesOfBeforeThePanelAreShownOnce(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	if err := h.p.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.say(1, 100)
	var saying sync.WaitGroup
	t.Cleanup(saying.Wait)
	saying.Go(func() {
		for i := range 50 {
			h.say(101+10*i, 110+10*i)
		}
	})
	h.startPanel()
	h.watch(`{"type":"watch","topics":["logs"],"node":"snap9"}`).lines(1, 600)
}

func TestTwoPanelsSeeOneCommand(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "snap1")
	one, two := h.watch(`{"type":"watch","topics":["commands","cluster"]}`), h.watch(`{"type":"watch","topics":["commands"]}`)
	await(one, "cluster", "cluster", func(i subjects.ClusterInfoResponse) bool { return i.Online() == 1 })
	var sent subjects.CommandResponse
	h.do("POST", "/api/v1/commands", `{"op":"ping","all":true,"id":"c1"}`, http.StatusCreated, &sent)
	h.do("POST", "/api/v1/commands", `{"op":"ping","all":true,"id":"c1"}`, http.StatusCreated, &sent)
	done := func(r subjects.CommandRecord) bool {
		return r.ID == "c1" && r.Nodes[0].State == subjects.CommandDone
	}
	await(one, "command", "command", done)
	await(two, "command", "command", done)
	var list subjects.CommandResponse
	h.do("GET", "/api/v1/commands", "", 200, &list)
	if len(list.Commands) != 1 || list.Commands[0].By != "http" {
		t.Errorf("the commands are %+v", list.Commands)
	}
	await(h.watch(`{"type":"watch","topics":["commands"]}`), "command", "command", done)
}

func TestSamplesMakeTheHistory(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "snap1")
	s := h.watch(`{"type":"watch","topics":["samples"]}`)
	type sample struct {
		T     int64
		Head  uint64
		Nodes map[string]struct {
			Away     bool
			Position uint64
		}
	}
	last := await(s, "sample", "sample", func(s sample) bool { return s.T > 0 && len(s.Nodes) == 1 })
	var got struct{ Samples []sample }
	h.do("GET", "/api/v1/history?node=snap1", "", 200, &got)
	if n := len(got.Samples); n == 0 || got.Samples[n-1].T < last.T || len(got.Samples[n-1].Nodes) != 1 {
		t.Errorf("the history is %+v", got.Samples)
	}

	// Of a node that is away it keeps how far it had come.
	var a answer
	h.do("POST", "/api/v1/databases", `{"name":"Shop"}`, http.StatusCreated, &a)
	h.do("POST", "/api/v1/exec", `{"db":"Shop","sql":"CREATE TABLE t (x)","ack":"all"}`, 200, &a)
	if err := h.slaves["snap1"].Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	gone := await(s, "sample", "sample", func(s sample) bool { return s.Nodes["snap1"].Away }).Nodes["snap1"]
	if gone.Position < *a.Position {
		t.Errorf("the node that is away is at %d, and had acknowledged %d", gone.Position, *a.Position)
	}
}

func TestMonitoring(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "snap1")
	var a answer
	h.do("POST", "/api/v1/databases", `{"name":"Shop"}`, http.StatusCreated, &a)
	h.do("POST", "/api/v1/exec", `{"db":"Shop","sql":"CREATE TABLE t (x)","ack":"all"}`, 200, &a)
	if status, _, data := h.request("GET", "/healthz", ""); status != 200 || string(data) != `{"ok":true,"secured":false}` {
		t.Errorf("/healthz: %d %s", status, data)
	}
	var is struct {
		Ready              bool
		Why                []string
		Position, Log_last uint64
		Applied            map[string]uint64
	}
	h.do("GET", "/readyz", "", 200, &is)
	if at := *a.Position; !is.Ready || len(is.Why) > 0 || is.Position != at || is.Log_last != at || is.Applied["Shop"] != at {
		t.Errorf("/readyz: %+v after position %d", is, at)
	}
	h.wantMetrics(*a.Position)
	// Somebody writes into a file of the master.
	conn, err := engine.Open(filepath.Join(h.dir, "master", "Shop.db"), engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(conn.Exec("INSERT INTO t VALUES ('foreign')"), conn.Close()); err != nil {
		t.Fatal(err)
	}
	h.do("POST", "/api/v1/exec", `{"db":"Shop","sql":"INSERT INTO t VALUES (1)"}`, http.StatusServiceUnavailable, &a)
	h.do("GET", "/readyz", "", http.StatusServiceUnavailable, &is)
	if is.Ready || len(is.Why) != 1 || !strings.Contains(is.Why[0], "database Shop takes no writes") {
		t.Errorf("/readyz of a master with a stopped database: %+v", is)
	}
}

// wantMetrics reads /metrics as monitoring does. The newest position is Shop's, and
// snap1 has acknowledged it.
func (h *house) wantMetrics(position uint64) {
	h.t.Helper()
	_, header, data := h.request("GET", "/metrics", "")
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(data))
	if err != nil || expfmt.ResponseFormat(header).FormatType() != expfmt.TypeTextPlain {
		h.t.Fatalf("%v in %s, %s", err, header.Get("Content-Type"), data)
	}
	for name, want := range map[string]func(m *dto.Metric) bool{
		"snapdb_up":                  func(m *dto.Metric) bool { return m.GetGauge().GetValue() == 1 },
		"snapdb_database_position":   func(m *dto.Metric) bool { return m.GetGauge().GetValue() == float64(position) },
		"snapdb_log_last_position":   func(m *dto.Metric) bool { return m.GetGauge().GetValue() == float64(position) },
		"snapdb_log_bytes":           func(m *dto.Metric) bool { return m.GetGauge().GetValue() > 0 },
		"snapdb_log_max_bytes":       func(m *dto.Metric) bool { return m.GetGauge().GetValue() > 0 },
		"snapdb_behind_seconds":      func(m *dto.Metric) bool { return m.GetGauge().GetValue() == 0 },
		"snapdb_nats_connections":    func(m *dto.Metric) bool { return m.GetGauge().GetValue() >= 4 },
		"snapdb_panel_connections":   func(m *dto.Metric) bool { return m.GetGauge().GetValue() == 0 },
		"snapdb_writes_total":        func(m *dto.Metric) bool { return m.GetCounter().GetValue() == 2 },
		"snapdb_node_state":          func(m *dto.Metric) bool { return m.GetGauge().GetValue() == 1 },
		"snapdb_node_position":       func(m *dto.Metric) bool { return m.GetGauge().GetValue() == float64(position) },
		"snapdb_node_lag_seconds":    func(m *dto.Metric) bool { return m.GetGauge().GetValue() == 0 },
		"snapdb_group_transactions":  func(m *dto.Metric) bool { return m.GetHistogram().GetSampleSum() == 1 },
		"snapdb_write_seconds":       func(m *dto.Metric) bool { return m.GetHistogram().GetSampleCount() == 2 },
		"snapdb_log_publish_seconds": func(m *dto.Metric) bool { return m.GetHistogram().GetSampleCount() >= 1 },
		"snapdb_ack_seconds":         func(m *dto.Metric) bool { return m.GetHistogram().GetSampleCount() >= 1 },
		"go_goroutines":              func(m *dto.Metric) bool { return m.GetGauge().GetValue() > 0 },
	} {
		family := families[name]
		if family == nil || family.GetHelp() == "" || !slices.ContainsFunc(family.GetMetric(), want) {
			h.t.Errorf("%s: %v", name, family)
		}
	}
}

func TestNonsenseOnTheSocketClosesIt(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for _, text := range []string{"", "x", `{"type":"watch","topics":["secrets"]}`, `{"type":"listen"}`, `{"type":"watch","colour":1}`, strings.Repeat("x", 10_000)} {
		s := h.watch(text)
		for {
			if _, _, err := s.conn.Read(t.Context()); err != nil {
				break
			}
		}
	}
}
