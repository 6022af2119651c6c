package agent_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/snapdb/snapdb/agent"
	"github.com/snapdb/snapdb/subjects"
)

// ctl tells a node something directly.
func (c *cluster) ctl(id, body string) (resp subjects.CtlResponse) {
	c.t.Helper()
	data := request(c.t, c.nats(), subjects.NodeCtl(id), []byte(body))
	if err := json.Unmarshal(data, &resp); err != nil {
		c.t.Fatalf("%.100s: %v in %s", body, err, data)
	}
	return resp
}

func TestNonsenseIsRefusedByTheNodeInWords(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{}, "s1")
	for body, want := range map[string]string{
		"":                                   "nothing was sent",
		"ping":                               `{"op":"ping"}`,
		"[1]":                                "malformed",
		"\xff":                               "UTF-8",
		`{"op":"ping"} x`:                    "something follows",
		`{"op":7}`:                           "op",
		`{"op":"fly"}`:                       "known are abort",
		`{"op":"ping","colour":1}`:           "colour",
		`{"op":"ping","args":{"x":1}}`:       `"x"`,
		`{"op":"label","args":[]}`:           "args of label",
		`{"op":"logs","args":{"lines":"9"}}`: "lines",
		`{"op":"abort","args":{"id":"no"}}`:  "knows no command",
		`{"op":"shutdown","args":{"mode":"cat"}}`:              "mode must be",
		`{"op":"ping","expires":"2020-01-01T00:00:00Z"}`:       "it expired",
		`{"op":"label","expires":"2020-01-01T00:00:00Z"}`:      "it expired",
		`{"op":"ping","id":"` + strings.Repeat("i", 64) + `"}`: "at most 63",
		`{"op":"ping","args":` + strings.Repeat("[", 500_000):  "malformed",
	} {
		if resp := c.ctl("s1", body); resp.State != subjects.CommandFailed || resp.Node != "s1" || !strings.Contains(resp.Reason, want) {
			t.Errorf("%.60q was answered %s %.200q, want %q", body, resp.State, resp.Reason, want)
		}
	}
	if resp := c.ctl("s1", `{"op":"ping"}`); resp.State != subjects.CommandDone {
		t.Errorf("afterwards a ping is answered %+v", resp)
	}
}

func TestRepetitionAfterItsExpiryIsAnsweredWithTheFirst(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{}, "s1")
	expires := time.Now().Add(2 * time.Second)
	body := fmt.Sprintf(`{"op":"label","id":"once","args":{"set":{"a":"1"}},"expires":%q}`, expires.Format(time.RFC3339Nano))
	if resp := c.ctl("s1", body); resp.State != subjects.CommandDone {
		t.Fatalf("it was answered %+v", resp)
	}
	until(t, "it has expired", func() bool { return time.Now().After(expires) })
	if resp := c.ctl("s1", body); resp.State != subjects.CommandDone {
		t.Errorf("the repetition was answered %+v", resp)
	}
}

func TestShutdownIsGivenUpWhileItsGraceRuns(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{}, "s1")
	later := subjects.CommandRequest{Op: subjects.OpShutdown, Args: json.RawMessage(`{"grace_ms":3600000}`), All: true, ID: "later"}
	c.command(subjects.CommandSend, later)
	c.untilStands("later", "s1 accepted")
	for _, grace := range []string{`{}`, `{"grace_ms":3600000}`} {
		id := c.command(subjects.CommandSend, subjects.CommandRequest{Op: subjects.OpShutdown, Args: json.RawMessage(grace), All: true})[0].ID
		c.untilStands(id, "s1 failed")
		why := c.command(subjects.CommandList, subjects.CommandQuery{ID: id})[0].Nodes[0].Reason
		if !strings.Contains(why, "command later is about to end this node already; cancel that one first") {
			t.Errorf("a second shutdown ended with %q", why)
		}
	}
	c.untilStands("later", "s1 accepted")
	if resp := c.ctl("s1", `{"op":"abort","args":{"id":"later"}}`); resp.State != subjects.CommandDone {
		t.Errorf("giving it up was answered %+v", resp)
	}
	c.untilStands("later", "s1 cancelled")

	// A node that is stopped by somebody else says what that means for the command.
	later.ID = "never"
	c.command(subjects.CommandSend, later)
	c.untilStands("never", "s1 accepted")
	c.stopSlave("s1")
	c.untilStands("never", "s1 failed")
	c.startSlave("s1")
	c.untilInSync("s1")
	if resp := c.ctl("s1", `{"op":"shutdown","id":"never","args":{"grace_ms":3600000}}`); resp.State != subjects.CommandFailed || !strings.Contains(resp.Reason, "stopped before") {
		t.Errorf("the repetition was answered %+v", resp)
	}
}

// upload gives the master a file, and returns its digest.
func (c *cluster) upload(data []byte) string {
	c.t.Helper()
	sum := sha256.Sum256(data)
	digest, nc := hex.EncodeToString(sum[:]), c.nats()
	for offset := 0; offset < len(data); {
		msg, err := nc.RequestMsgWithContext(testContext(c.t), &nats.Msg{Subject: subjects.BlobPut, Data: data[offset:min(len(data), offset+4<<20)], Header: nats.Header{
			subjects.HeaderDigest: {digest}, subjects.HeaderSize: {fmt.Sprint(len(data))}, subjects.HeaderOffset: {fmt.Sprint(offset)}}})
		if err != nil {
			c.t.Fatal(err)
		}
		var resp subjects.BlobPutResponse
		if err := json.Unmarshal(msg.Data, &resp); err != nil || resp.Offset <= int64(offset) {
			c.t.Fatalf("put at %d: %s, %v", offset, msg.Data, err)
		}
		offset = int(resp.Offset)
	}
	return digest
}

func TestFilesReachNodesAndComeBackAlsoAcrossAMasterRestart(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{}, "s1")
	data := bytes.Repeat([]byte("snapdb's own file\n"), 2_000_000)
	digest := c.upload(data)
	push := subjects.CommandRequest{Op: subjects.OpPush, All: true, ID: "push",
		Args: json.RawMessage(fmt.Sprintf(`{"name":"docs/a.bin","size":%d,"digest":%q}`, len(data), digest))}
	c.command(subjects.CommandSend, push)
	until(t, "the node has it", func() bool { return c.stands("push") != "s1 queued" && c.stands("push") != "s1 sent" })
	c.stopMaster()
	c.startMaster()
	c.untilStands("push", "s1 done")
	if got, err := os.ReadFile(filepath.Join(c.dir, "s1", "files", "docs", "a.bin")); err != nil || !bytes.Equal(got, data) {
		t.Errorf("the node has %d bytes of %d, %v", len(got), len(data), err)
	}
	own := []byte("made on the node")
	if err := os.WriteFile(filepath.Join(c.dir, "s1", "files", "own.txt"), own, 0o600); err != nil {
		t.Fatal(err)
	}
	r := c.command(subjects.CommandSend, subjects.CommandRequest{Op: subjects.OpFetch, Nodes: []string{"s1"}, Args: json.RawMessage(`{"name":"own.txt"}`)})[0]
	c.untilStands(r.ID, "s1 done")
	var info subjects.FileInfo
	if err := json.Unmarshal(c.command(subjects.CommandList, subjects.CommandQuery{ID: r.ID})[0].Nodes[0].Output, &info); err != nil {
		t.Fatal(err)
	}
	if got := request(t, c.nats(), subjects.BlobGet, []byte(`{"digest":"`+info.Digest+`"}`)); !bytes.Equal(got, own) {
		t.Errorf("%+v came back as %q", info, got)
	}
	if resp := c.ctl("s1", `{"op":"files"}`); !strings.Contains(string(resp.Output), "docs/a.bin") || !strings.Contains(string(resp.Output), "own.txt") {
		t.Errorf("files are listed as %s %s", resp.State, resp.Output)
	}
	r = c.command(subjects.CommandSend, subjects.CommandRequest{Op: subjects.OpFetch, All: true, Args: json.RawMessage(`{"name":"missing"}`)})[0]
	c.untilStands(r.ID, "s1 failed")
	c.untilInSync("s1")
}
