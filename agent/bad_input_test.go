package agent_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/snapdb/snapdb/agent"
	"github.com/snapdb/snapdb/subjects"
)

// Whatever is sent to a door is answered with an error that names what is wrong,
// and afterwards a normal request works.
func TestBadInputAtEveryDoor(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{}, "s1")
	c.do("", "CREATE DATABASE a")
	c.do("a", "CREATE TABLE t (x INTEGER)")
	nc, err := nats.Connect(c.m.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	before := c.m.Store().Heads()

	garbage := map[string][]byte{
		"empty": nil, "null": []byte("null"), "list": []byte("[]"), "number": []byte("1"), "cut": []byte(`{"db":"a","sql":"SEL`),
		"trailing": []byte(`{"db":"a","sql":"SELECT 1"} x`), "large": bytes.Repeat([]byte{'x'}, subjects.MaxRequest),
		"binary": {0, 1, 2, 0xff, 0xfe}, "deep": []byte(strings.Repeat("[", 100_000)),
	}
	sql := map[string][]byte{
		"unknown field":  []byte(`{"db":"a","sql":"SELECT 1","colour":"red"}`),
		"field twice":    []byte(`{"db":"a","sql":"SELECT 1","sql":"SELECT 2"}`),
		"no sql":         []byte(`{"db":"a"}`),
		"wrong type":     []byte(`{"db":"a","sql":7}`),
		"two ways":       []byte(`{"db":"a","sql":"SELECT 1","stmts":[{"sql":"SELECT 2"}]}`),
		"bad argument":   []byte(`{"db":"a","sql":"SELECT ?","args":[{"x":1}]}`),
		"huge integer":   []byte(`{"db":"a","sql":"SELECT ?","args":[9223372036854775808]}`),
		"bad rule":       []byte(`{"db":"a","sql":"SELECT 1","ack":"some"}`),
		"invalid UTF-8":  []byte("{\"db\":\"a\",\"sql\":\"SELECT '\xff'\"}"),
		"NUL in sql":     []byte(`{"db":"a","sql":"SELECT 1\u0000; DROP TABLE t"}`),
		"too few args":   []byte(`{"db":"a","sql":"SELECT ?, ?","args":[1]}`),
		"too many args":  []byte(`{"db":"a","sql":"SELECT ?","args":[1,2]}`),
		"tx, no session": []byte(`{"db":"a","sql":"SELECT 1","tx":true}`),
		"long session":   []byte(`{"db":"a","sql":"SELECT 1","session":"` + strings.Repeat("s", 300) + `"}`),
		"only comments":  []byte(`{"db":"a","sql":"-- nothing"}`),
	}
	works := func(what string) {
		t.Helper()
		for _, door := range []string{subjects.Exec, subjects.Query, subjects.NodeQuery("s1")} {
			resp, err := c.c.Do(testContext(t), door, &subjects.Request{DB: "a", SQL: "SELECT 1"})
			if err != nil || show(resp.Results) != "1" {
				t.Fatalf("after %s: %s: %+v, %v", what, door, resp, err)
			}
		}
	}
	for _, door := range []string{subjects.Exec, subjects.Query, subjects.NodeQuery("s1")} {
		for _, bodies := range []map[string][]byte{garbage, sql} {
			for what, body := range bodies {
				msg, err := nc.RequestWithContext(testContext(t), door, body)
				if err != nil {
					t.Fatalf("%s: %s: %v", door, what, err)
				}
				var resp subjects.Response
				if err := subjects.DecodeResponse(msg.Data, &resp); err != nil || resp.Error == nil || resp.Error.Code != subjects.CodeBadRequest {
					t.Errorf("%s: %s: %.300s, %v", door, what, msg.Data, err)
				}
				if msg.Header.Get("Nats-Service-Error-Code") != string(subjects.CodeBadRequest) || msg.Header.Get("Nats-Service-Error") == "" {
					t.Errorf("%s: %s: headers %v", door, what, msg.Header)
				}
			}
		}
		works("garbage at " + door)
	}
	for what, body := range garbage {
		var join subjects.JoinResponse
		if answer := request(t, nc, subjects.Join, body); json.Unmarshal(answer, &join) != nil || join.Refused == nil || join.Refused.Code == "" {
			t.Errorf("join: %s: %.300s", what, answer)
		}
		var ctl subjects.CtlResponse
		if answer := request(t, nc, subjects.NodeCtl("s1"), body); json.Unmarshal(answer, &ctl) != nil || ctl.State != subjects.CommandFailed || ctl.Reason == "" {
			t.Errorf("ctl: %s: %.300s", what, answer)
		}
		if answer := request(t, nc, subjects.BlobGet, body); !bytes.Contains(answer, []byte("bad_request")) {
			t.Errorf("blob: %s: %.300s", what, answer)
		}
		var info subjects.ClusterInfoResponse // asks for nothing, so nothing is wrong
		if answer := request(t, nc, subjects.ClusterInfo, body); json.Unmarshal(answer, &info) != nil || info.Cluster == "" {
			t.Errorf("info: %s: %.300s", what, answer)
		}
		if err := nc.Publish(subjects.Cancel, body); err != nil {
			t.Fatal(err)
		}
	}
	digest := `{"digest":"` + strings.Repeat("a", 64) + `"`
	for blob, code := range map[string]subjects.Code{
		`{"digest":"../../node.json"}`: subjects.CodeBadRequest,
		digest + `,"offset":-1}`:       subjects.CodeBadRequest,
		digest + `}`:                   subjects.CodeNotFound,
	} {
		if answer := request(t, nc, subjects.BlobGet, []byte(blob)); !bytes.Contains(answer, []byte(code)) {
			t.Errorf("blob %s: %.300s", blob, answer)
		}
	}
	works("garbage at the other doors")
	if after := c.m.Store().Heads(); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("something was logged: %v, before %v", after, before)
	}
}

func request(t testing.TB, nc *nats.Conn, subject string, body []byte) []byte {
	t.Helper()
	msg, err := nc.RequestWithContext(testContext(t), subject, body)
	if err != nil {
		t.Fatalf("%s: %v", subject, err)
	}
	return msg.Data
}

// SQL that would leave the database, or change what nodes must share, is refused.
func TestForbiddenSQL(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{}, "s1")
	c.do("", "CREATE DATABASE a")
	c.do("a", "CREATE TABLE t (x)")
	s := c.session("a")
	for _, sql := range []string{
		"ATTACH 'x.db' AS x", "DETACH main", "VACUUM", "VACUUM INTO 'x.db'", "SELECT load_extension('x')",
		"PRAGMA journal_mode = DELETE", "PRAGMA synchronous = OFF", "PRAGMA writable_schema = ON",
		"CREATE TABLE _snapdb_x (x)", "INSERT INTO _snapdb_applied VALUES (1, 1, 1, 1, 'x')", "DROP TABLE _snapdb_requests",
		"SELECT * FROM _snapdb_applied",
	} {
		for _, door := range []string{subjects.Exec, subjects.Query, subjects.NodeQuery("s1")} {
			if resp, err := c.c.Do(testContext(t), door, &subjects.Request{DB: "a", SQL: sql}); err == nil {
				t.Errorf("%s: %s: %+v", door, sql, resp)
			}
		}
		s.do("BEGIN")
		if resp, err := s.try(sql); err == nil {
			t.Errorf("in a transaction: %s: %+v", sql, resp)
		}
		s.do("ROLLBACK")
	}
	for _, door := range []string{subjects.Query, subjects.NodeQuery("s1")} {
		for _, sql := range []string{"INSERT INTO t VALUES (1)", "CREATE DATABASE b", "DROP DATABASE a", "CREATE TABLE u (x)", "DELETE FROM t RETURNING x"} {
			resp, err := c.c.Do(testContext(t), door, &subjects.Request{DB: "a", SQL: sql})
			wantCode(t, door+": "+sql, resp, err, subjects.CodeReadOnly)
		}
	}
	c.fails(subjects.CodeNoDatabase, subjects.Request{SQL: "SELECT 1"})
	c.fails(subjects.CodeNoDatabase, subjects.Request{SQL: "INSERT INTO t VALUES (1)"})
	c.do("a", "INSERT INTO t VALUES (1)")
}
