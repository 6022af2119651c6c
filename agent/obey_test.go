package agent_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

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
	c := newCluster(t, agent.MasterOptions{}, "s1")
	later := subjects.CommandRequest{Op: subjects.OpShutdown, Args: json.RawMessage(`{"grace_ms":3600000}`), All: true, ID: "later"}
	c.command(subjects.CommandSend, later)
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
