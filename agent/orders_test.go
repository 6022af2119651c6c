package agent_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/snapdb/snapdb/agent"
	"github.com/snapdb/snapdb/subjects"
)

// command asks the master something about commands.
func (c *cluster) command(subject string, q any) []subjects.CommandRecord {
	c.t.Helper()
	var resp subjects.CommandResponse
	if refused := c.control(subject, q, &resp); refused != nil {
		c.t.Fatalf("%s %+v: %v", subject, q, refused)
	}
	return resp.Commands
}

// control is a request of the control plane; its refusal is returned.
func (c *cluster) control(subject string, q, answer any) *subjects.Error {
	c.t.Helper()
	body, err := json.Marshal(q)
	if err != nil {
		c.t.Fatal(err)
	}
	data, err := c.c.DoRaw(testContext(c.t), subject, body)
	if err != nil {
		c.t.Fatal(err)
	}
	if refused := subjects.DecodeRefusal(data); refused != nil {
		return refused
	}
	if err := json.Unmarshal(data, answer); err != nil {
		c.t.Fatalf("%s: %v in %s", subject, err, data)
	}
	return nil
}

// stands is how a command stands on its nodes, such as "s1 done, s2 queued".
func (c *cluster) stands(id string) string {
	c.t.Helper()
	var all []string
	for _, n := range c.command(subjects.CommandList, subjects.CommandQuery{ID: id})[0].Nodes {
		all = append(all, n.Node+" "+string(n.State))
	}
	return strings.Join(all, ", ")
}

func (c *cluster) untilStands(id, want string) {
	c.t.Helper()
	until(c.t, "command "+id+" stands "+want, func() bool { return c.stands(id) == want })
}

func label(key, value string) json.RawMessage {
	return json.RawMessage(fmt.Sprintf(`{"set":{%q:%q}}`, key, value))
}

func TestCommandsReachTheirNodesAndAreRecorded(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{}, "s1", "s2")
	r := c.command(subjects.CommandSend, subjects.CommandRequest{Op: subjects.OpLabel, Args: label("room", "lab1"), Nodes: []string{"s2"}, By: "eve"})[0]
	c.untilStands(r.ID, "s2 done")
	until(t, "the label is known", func() bool { st := c.node("s2").Status; return st != nil && st.Labels["room"] == "lab1" })
	r = c.command(subjects.CommandSend, subjects.CommandRequest{Op: subjects.OpLabel, Args: label("floor", "1"), Select: "room=lab1"})[0]
	c.untilStands(r.ID, "s2 done")
	got := c.command(subjects.CommandList, subjects.CommandQuery{ID: r.ID})[0]
	if n := got.Nodes[0]; string(n.Output) != `{"floor":"1","room":"lab1"}` || n.Sent.IsZero() || n.Ended.IsZero() || got.Ended.IsZero() {
		t.Errorf("the record is %+v", got)
	}
	c.stopMaster()
	c.startMaster()
	if list := c.command(subjects.CommandList, subjects.CommandQuery{}); len(list) != 2 || list[1].By != "eve" || list[1].Nodes[0].State != subjects.CommandDone {
		t.Errorf("after a restart the records are %+v", list)
	}
	c.untilInSync("s1", "s2")
}

func TestQueuedCommandReachesANodeThatComesBackOnce(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{}, "s1", "s2")
	c.stopSlave("s1")
	c.untilGone("s1")
	skipped := c.command(subjects.CommandSend, subjects.CommandRequest{Op: subjects.OpPing, All: true})[0]
	c.untilStands(skipped.ID, "s1 failed, s2 done")
	if r := c.command(subjects.CommandList, subjects.CommandQuery{ID: skipped.ID})[0]; !r.Nodes[0].Skipped() || r.Nodes[1].Skipped() {
		t.Errorf("not s1 alone was skipped: %+v", r.Nodes)
	}
	queued := c.command(subjects.CommandSend, subjects.CommandRequest{Op: subjects.OpLabel, Args: label("n", "1"), All: true, Away: subjects.AwayQueue, ID: "mine"})[0]
	c.untilStands(queued.ID, "s1 queued, s2 done")
	again := c.command(subjects.CommandSend, subjects.CommandRequest{Op: subjects.OpLabel, Args: label("n", "2"), All: true, ID: "mine"})[0]
	if string(again.Args) != string(queued.Args) {
		t.Errorf("a repeated request was taken for another: %s", again.Args)
	}
	c.stopMaster()
	c.startMaster()
	c.startSlave("s1")
	c.untilStands("mine", "s1 done, s2 done")
	c.stopSlave("s1")
	c.stopMaster()
	c.startMaster()
	c.startSlave("s1")
	c.untilInSync("s1", "s2")
	// The node answers a repetition with what became of the first.
	nc := c.nats()
	var resp subjects.CtlResponse
	if err := json.Unmarshal(request(t, nc, subjects.NodeCtl("s1"), []byte(`{"op":"label","id":"mine","args":{"set":{"n":"3"}}}`)), &resp); err != nil {
		t.Fatal(err)
	}
	if resp.State != subjects.CommandDone || string(resp.Output) != `{"n":"1"}` {
		t.Errorf("the repetition was answered %+v", resp)
	}
	if r := c.command(subjects.CommandRetry, subjects.CommandQuery{ID: skipped.ID})[0]; r.RetryOf != skipped.ID || len(r.Nodes) != 1 || r.Nodes[0].Node != "s1" {
		t.Errorf("the retry is %+v", r)
	} else {
		c.untilStands(r.ID, "s1 done")
	}
}

func TestCommandsThatWaitCanBeCancelledAndExpire(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{}, "s1", "s2")
	c.stopSlave("s1")
	c.untilGone("s1")
	r := c.command(subjects.CommandSend, subjects.CommandRequest{Op: subjects.OpPing, All: true, Away: subjects.AwayQueue, At: time.Now().Add(time.Hour)})[0]
	if got := c.command(subjects.CommandCancel, subjects.CommandQuery{ID: r.ID, Nodes: []string{"s2"}})[0]; got.Nodes[1].State != subjects.CommandCancelled {
		t.Errorf("after the cancel: %+v", got)
	}
	c.command(subjects.CommandCancel, subjects.CommandQuery{ID: r.ID})
	c.untilStands(r.ID, "s1 cancelled, s2 cancelled")
	r = c.command(subjects.CommandSend, subjects.CommandRequest{Op: subjects.OpPing, Nodes: []string{"s1"}, Away: subjects.AwayQueue, Expires: time.Now().Add(300 * time.Millisecond)})[0]
	c.untilStands(r.ID, "s1 expired")
	r = c.command(subjects.CommandSend, subjects.CommandRequest{Op: subjects.OpPing, Nodes: []string{"s1"}, Away: subjects.AwayWait, TimeoutMS: 300})[0]
	c.untilStands(r.ID, "s1 expired")
	c.startSlave("s1")
	c.untilInSync("s1", "s2")
	c.untilStands(r.ID, "s1 expired")

	grace := c.command(subjects.CommandSend, subjects.CommandRequest{Op: subjects.OpShutdown, Args: json.RawMessage(`{"grace_ms":3600000}`), Nodes: []string{"s2"}})[0]
	c.untilStands(grace.ID, "s2 accepted")
	c.command(subjects.CommandCancel, subjects.CommandQuery{ID: grace.ID})
	c.untilStands(grace.ID, "s2 cancelled")
}

func TestBatchesFollowEachOther(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{}, "s1", "s2", "s3")
	r := c.command(subjects.CommandSend, subjects.CommandRequest{Op: subjects.OpShutdown, Args: json.RawMessage(`{"grace_ms":400}`), All: true, Batch: 1, PauseMS: 100})[0]
	c.untilStands(r.ID, "s1 done, s2 done, s3 done")
	got := c.command(subjects.CommandList, subjects.CommandQuery{ID: r.ID})[0]
	for i := 1; i < 3; i++ {
		if before, n := got.Nodes[i-1], got.Nodes[i]; n.Sent.Before(before.Ended.Add(100 * time.Millisecond)) {
			t.Errorf("%s was sent to at %v, %s ended at %v", n.Node, n.Sent, before.Node, before.Ended)
		}
	}
	for id, s := range c.slaves {
		if err := s.Wait(); err != nil {
			t.Errorf("%s ended with %v", id, err)
		}
		delete(c.slaves, id)
	}
}

// power is a machine that writes down what is done to it.
type power struct {
	mu   sync.Mutex
	done []string
}

func (p *power) note(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done = append(p.done, what)
}

func (p *power) Announce(_ context.Context, message string) { p.note("announce " + message) }
func (p *power) Off(context.Context) error                  { p.note("off"); return nil }
func (p *power) Reboot(context.Context) error {
	p.note("reboot")
	return fmt.Errorf("not permitted")
}

func TestMachinesArePoweredOffOnlyWhereThatIsAllowed(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{}, "s1")
	p := new(power)
	c.power = p
	c.startSlave("s2")
	c.untilInSync("s1", "s2")
	host := json.RawMessage(`{"mode":"host","message":"lunch"}`)
	r := c.command(subjects.CommandSend, subjects.CommandRequest{Op: subjects.OpShutdown, Args: host, All: true})[0]
	c.untilStands(r.ID, "s1 failed, s2 done")
	if why := c.command(subjects.CommandList, subjects.CommandQuery{ID: r.ID})[0].Nodes[0].Reason; !strings.Contains(why, "--allow-power") {
		t.Errorf("the refusal says %q", why)
	}
	r = c.command(subjects.CommandSend, subjects.CommandRequest{Op: subjects.OpReboot, Nodes: []string{"s2"}})[0]
	c.untilStands(r.ID, "s2 failed")
	p.mu.Lock()
	defer p.mu.Unlock()
	if got := strings.Join(p.done, ", "); got != "announce lunch, off, announce This machine is about to be restarted., reboot" {
		t.Errorf("done to the machine: %s", got)
	}
}

func TestResyncRebuildsACopyFromTheLog(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{}, "s1")
	c.do("", "CREATE DATABASE a")
	c.do("", "CREATE DATABASE b")
	for i := range 20 {
		c.do("a", "CREATE TABLE IF NOT EXISTS t (x)")
		c.do("a", "INSERT INTO t VALUES (?)", subjects.IntegerValue(int64(i)))
		c.do("b", "CREATE TABLE IF NOT EXISTS t (x)")
	}
	r := c.command(subjects.CommandSend, subjects.CommandRequest{Op: subjects.OpResync, Args: json.RawMessage(`{"databases":["A"]}`), Nodes: []string{"s1"}})[0]
	c.untilStands(r.ID, "s1 done")
	r = c.command(subjects.CommandSend, subjects.CommandRequest{Op: subjects.OpResync, All: true})[0]
	c.do("a", "INSERT INTO t VALUES ('meanwhile')")
	c.untilStands(r.ID, "s1 done")
	r = c.command(subjects.CommandSend, subjects.CommandRequest{Op: subjects.OpResync, Args: json.RawMessage(`{"databases":["nope"]}`), All: true})[0]
	c.untilStands(r.ID, "s1 failed")
	c.untilInSync("s1")
}

func TestResyncThatCannotSetTheCopyAsideFails(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{}, "s1")
	c.do("", "CREATE DATABASE a")
	c.do("a", "CREATE TABLE t (x)")
	c.untilInSync("s1")
	trash := filepath.Join(c.dir, "s1", "trash")
	if err := os.WriteFile(trash, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	resync := subjects.CommandRequest{Op: subjects.OpResync, All: true, Args: json.RawMessage(`{"databases":["a"]}`)}
	r := c.command(subjects.CommandSend, resync)[0]
	c.untilStands(r.ID, "s1 failed")
	if why := c.command(subjects.CommandList, subjects.CommandQuery{ID: r.ID})[0].Nodes[0].Reason; !strings.Contains(why, "mkdir trash") {
		t.Errorf("it failed with %q", why)
	}
	if err := os.Remove(trash); err != nil {
		t.Fatal(err)
	}
	r = c.command(subjects.CommandSend, resync)[0]
	c.untilStands(r.ID, "s1 done")
	c.do("a", "INSERT INTO t VALUES (1)")
	c.untilInSync("s1")
}

func TestCommandsThatCannotBeAreRefused(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{}, "s1")
	for name, q := range map[string]subjects.CommandRequest{
		"no such node":           {Op: subjects.OpPing, Nodes: []string{"s1", "zz"}},
		"for which nodes":        {Op: subjects.OpPing},
		"one of them":            {Op: subjects.OpPing, All: true, Select: "id=s1"},
		"no node is meant":       {Op: subjects.OpPing, Select: "room=none"},
		"expected key=value":     {Op: subjects.OpPing, Select: "room"},
		"unknown op":             {Op: "fly", All: true},
		"unknown field":          {Op: subjects.OpShutdown, Args: json.RawMessage(`{"when":1}`), All: true},
		"away:":                  {Op: subjects.OpPing, All: true, Away: "never"},
		"is over already":        {Op: subjects.OpPing, All: true, Expires: time.Now().Add(-time.Second)},
		"before its time":        {Op: subjects.OpPing, All: true, Expires: time.Now().Add(time.Hour), At: time.Now().Add(2 * time.Hour)},
		"needs batch":            {Op: subjects.OpPing, All: true, PauseMS: 5},
		"negative":               {Op: subjects.OpPing, All: true, Batch: -1},
		"does not have the file": {Op: subjects.OpPush, All: true, Args: json.RawMessage(`{"name":"x","size":1,"digest":"` + strings.Repeat("ab", 32) + `"}`)},
	} {
		refused := c.control(subjects.CommandSend, q, new(subjects.CommandResponse))
		if refused == nil || refused.Code != subjects.CodeBadRequest || !strings.Contains(refused.Message, name) {
			t.Errorf("%+v: %v, want %q", q, refused, name)
		}
	}
	for _, subject := range []string{subjects.CommandCancel, subjects.CommandRetry, subjects.CommandList} {
		if refused := c.control(subject, subjects.CommandQuery{ID: "nope"}, new(subjects.CommandResponse)); refused == nil || refused.Code != subjects.CodeNotFound {
			t.Errorf("%s of an unknown command: %v", subject, refused)
		}
	}
	if list := c.command(subjects.CommandList, subjects.CommandQuery{}); len(list) != 0 {
		t.Errorf("refused commands are on record: %+v", list)
	}
}

// What a node answers to a command counts only if it is an answer, and in its own
// name; else nobody knows what it did.
func TestAnswersThatAreNoneAreNoOutcome(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{}, "s1")
	c.stopSlave("s1")
	c.untilGone("s1")
	other := c.command(subjects.CommandSend, subjects.CommandRequest{Op: subjects.OpPing, Nodes: []string{"s1"}, Away: subjects.AwayQueue})[0]
	nc := c.nats()
	answers := make(chan string, 1)
	if _, err := nc.Subscribe(subjects.NodeCtl("s9"), func(msg *nats.Msg) {
		if err := msg.Respond([]byte(<-answers)); err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	for what, answer := range map[string]string{
		"nonsense":              "done",
		"another node's":        fmt.Sprintf(`{"node":"s1","id":%q,"state":"done"}`, other.ID),
		"another's command":     fmt.Sprintf(`{"node":"s9","id":%q,"state":"done"}`, other.ID),
		"no state of a command": `{"node":"s9","id":"x","state":"glorious"}`,
	} {
		if resp := join(t, nc, &subjects.JoinRequest{V: subjects.Version, ID: "s9", Boot: "b", Engine: c.m.Store().Engine()}); resp.Refused != nil {
			t.Fatal(resp.Refused)
		}
		answers <- answer
		r := c.command(subjects.CommandSend, subjects.CommandRequest{Op: subjects.OpPing, Nodes: []string{"s9"}, TimeoutMS: 200})[0]
		c.untilStands(r.ID, "s9 timed_out")
		if got := c.stands(other.ID); got != "s1 queued" {
			t.Errorf("after %s: the other command stands %s", what, got)
		}
	}
	c.startSlave("s1")
	c.untilStands(other.ID, "s1 done")
	c.untilInSync("s1")
	ask(t, nc, subjects.Forget, subjects.ForgetRequest{ID: "s9"}, new(subjects.ForgetRequest))
}

func TestNodesReportOnlyForThemselves(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{}, "s1", "s2")
	c.stopSlave("s2")
	c.untilGone("s2")
	r := c.command(subjects.CommandSend, subjects.CommandRequest{Op: subjects.OpPing, Nodes: []string{"s2"}, Away: subjects.AwayQueue})[0]
	nc := c.nats()
	report := func(node string, resp subjects.CtlResponse) *subjects.Error {
		data, err := json.Marshal(resp)
		if err != nil {
			t.Fatal(err)
		}
		return subjects.DecodeRefusal(request(t, nc, subjects.NodeReport(node), data))
	}
	for what, refused := range map[string]*subjects.Error{
		"in another's name":     report("s1", subjects.CtlResponse{Node: "s2", ID: r.ID, State: subjects.CommandDone}),
		"on another's command":  report("s1", subjects.CtlResponse{Node: "s1", ID: r.ID, State: subjects.CommandDone}),
		"of a stranger":         report("zz", subjects.CtlResponse{Node: "zz", ID: "x", State: subjects.CommandDone}),
		"of a state that is no": report("s1", subjects.CtlResponse{Node: "s1", ID: "x", State: "glorious"}),
		"without id":            report("s1", subjects.CtlResponse{Node: "s1", State: subjects.CommandDone}),
	} {
		if refused == nil || refused.Code != subjects.CodeBadRequest {
			t.Errorf("a report %s: %v", what, refused)
		}
	}
	c.untilStands(r.ID, "s2 queued")
	// A command given directly gets a record.
	request(t, nc, subjects.NodeCtl("s1"), []byte(`{"op":"label","id":"direct","args":{"set":{"a":"b"}}}`))
	until(t, "there is a record", func() bool {
		list := c.command(subjects.CommandList, subjects.CommandQuery{Node: "s1"})
		return len(list) == 1 && list[0].ID == "direct" && list[0].By == "nats" && list[0].Nodes[0].State == subjects.CommandDone
	})
	var lines []struct{ Msg string }
	var logs subjects.CtlResponse
	if err := json.Unmarshal(request(t, nc, subjects.NodeCtl("s1"), []byte(`{"op":"logs","args":{"lines":2}}`)), &logs); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(logs.Output, &lines); err != nil || len(lines) != 2 || lines[1].Msg != "command ended" {
		t.Errorf("the newest log lines are %s", logs.Output)
	}
}

func TestFilesArrivePieceByPiece(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{})
	nc := c.nats()
	data := []byte(strings.Repeat("wallpaper", 1000))
	sum := sha256.Sum256(data)
	digest := hex.EncodeToString(sum[:])
	put := func(digest string, size, offset int, chunk []byte) (subjects.BlobPutResponse, *subjects.Error) {
		t.Helper()
		return putChunk(t, nc, digest, size, offset, chunk)
	}
	for _, step := range []struct {
		offset, to int
		next       int64
		done       bool
	}{
		{0, 0, 0, false}, {0, 4000, 4000, false}, {0, 100, 4000, false}, {5000, 6000, 4000, false},
		{4000, 4000, 4000, false}, {4000, len(data), int64(len(data)), true}, {0, 10, int64(len(data)), true},
	} {
		if resp, err := put(digest, len(data), step.offset, data[step.offset:step.to]); err != nil || resp.Offset != step.next || resp.Done != step.done {
			t.Errorf("%+v: %+v, %v", step, resp, err)
		}
	}
	got := request(t, nc, subjects.BlobGet, []byte(`{"digest":"`+digest+`","offset":9}`))
	if string(got) != string(data[9:]) {
		t.Errorf("read back %d bytes, want %d", len(got), len(data)-9)
	}
	wrong := strings.Repeat("00", 32)
	for what, err := range map[string]*subjects.Error{
		"a wrong digest": second(put(wrong, 3, 0, []byte("abc"))), "too much": second(put(wrong, 3, 0, []byte("abcd"))),
		"a digest that is none": second(put("../x", 3, 0, []byte("abc"))), "a negative size": second(put(wrong, -1, 0, nil)),
		"9 GB": second(put(wrong, 9<<30, 0, nil)),
	} {
		if err == nil {
			t.Errorf("%s was taken", what)
		}
	}
}

func putChunk(t *testing.T, nc *nats.Conn, digest string, size, offset int, chunk []byte) (resp subjects.BlobPutResponse, refused *subjects.Error) {
	t.Helper()
	msg, err := nc.RequestMsgWithContext(testContext(t), &nats.Msg{Subject: subjects.BlobPut, Data: chunk, Header: nats.Header{
		subjects.HeaderDigest: {digest}, subjects.HeaderSize: {fmt.Sprint(size)}, subjects.HeaderOffset: {fmt.Sprint(offset)}}})
	if err != nil {
		t.Fatal(err)
	}
	if refused := subjects.DecodeRefusal(msg.Data); refused != nil {
		return resp, refused
	}
	if err := json.Unmarshal(msg.Data, &resp); err != nil {
		t.Fatal(err)
	}
	return resp, nil
}

// put gives the master a file and returns its digest.
func (c *cluster) put(data []byte) string {
	c.t.Helper()
	sum := sha256.Sum256(data)
	digest := hex.EncodeToString(sum[:])
	nc := c.nats()
	for at := 0; ; {
		resp, refused := putChunk(c.t.(*testing.T), nc, digest, len(data), at, data[at:min(len(data), at+subjects.BlobChunk)])
		if refused != nil {
			c.t.Fatal(refused)
		}
		if resp.Done {
			return digest
		}
		at = int(resp.Offset)
	}
}

func TestFilesArePushedAndFetchedWhateverHappensMeanwhile(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{}, "s1", "s2")
	data := make([]byte, 40<<20+7)
	for i := range data {
		data[i] = byte(i * i >> 7)
	}
	args, err := json.Marshal(subjects.PushArgs{Digest: c.put(data), Size: int64(len(data)), Name: "deep/er/big.bin"})
	if err != nil {
		t.Fatal(err)
	}
	r := c.command(subjects.CommandSend, subjects.CommandRequest{Op: subjects.OpPush, Args: args, All: true})[0]
	until(t, "some of it has arrived", func() bool {
		n := c.command(subjects.CommandList, subjects.CommandQuery{ID: r.ID})[0].Nodes[0]
		return n.Progress > 0 || n.State.Ended()
	})
	c.stopMaster()
	c.startMaster()
	c.untilStands(r.ID, "s1 done, s2 done")
	for _, id := range []string{"s1", "s2"} {
		got, err := os.ReadFile(filepath.Join(c.dir, id, "files", "deep", "er", "big.bin"))
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s has %d bytes, %v; want %d", id, len(got), err, len(data))
		}
	}
	if err := os.WriteFile(filepath.Join(c.dir, "s2", "files", "own.txt"), data[:1<<20], 0o600); err != nil {
		t.Fatal(err)
	}
	r = c.command(subjects.CommandSend, subjects.CommandRequest{Op: subjects.OpFetch, Args: json.RawMessage(`{"name":"own.txt"}`), All: true})[0]
	c.untilStands(r.ID, "s1 failed, s2 done")
	var info subjects.FileInfo
	if err := json.Unmarshal(c.command(subjects.CommandList, subjects.CommandQuery{ID: r.ID})[0].Nodes[1].Output, &info); err != nil || info.Size != 1<<20 {
		t.Fatalf("fetched %+v, %v", info, err)
	}
	if got := request(t, c.nats(), subjects.BlobGet, []byte(`{"digest":"`+info.Digest+`"}`)); !bytes.Equal(got, data[:len(got)]) || len(got) == 0 {
		t.Errorf("the master has %d other bytes", len(got))
	}
	c.untilInSync("s1", "s2")
}

func second(_ subjects.BlobPutResponse, err *subjects.Error) *subjects.Error { return err }
