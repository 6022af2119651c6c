package client_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/snapdb/snapdb/agent/client"
	"github.com/snapdb/snapdb/subjects"
)

// awaitCommand waits until a command has ended.
func awaitCommand(t *testing.T, c *client.Client, id string) *subjects.CommandRecord {
	t.Helper()
	var r *subjects.CommandRecord
	await(t, "command "+id+" has ended", func() bool {
		var err error
		if r, err = c.Command(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		return !r.Ended.IsZero()
	})
	return r
}

func TestCommandsAreRecords(t *testing.T) {
	t.Parallel()
	c := connect(t, start(t, 2))
	p, err := c.Preview(t.Context(), &subjects.CommandRequest{Op: subjects.OpPing, Nodes: []string{"snap1", "snap9"}})
	if err != nil || !slices.Equal(p.Reached, []string{"snap1"}) || len(p.Unknown) != 1 {
		t.Errorf("preview: %+v, %v", p, err)
	}
	r, err := c.Send(t.Context(), &subjects.CommandRequest{Op: subjects.OpPing, All: true, By: "me"})
	if err != nil {
		t.Fatal(err)
	}
	r = awaitCommand(t, c, r.ID)
	if len(r.Nodes) != 2 || r.Nodes[0].State != subjects.CommandDone || r.Nodes[1].State != subjects.CommandDone || r.By != "me" {
		t.Errorf("after a ping: %+v", r)
	}
	again, err := c.Send(t.Context(), &subjects.CommandRequest{Op: subjects.OpPing, All: true, ID: r.ID})
	if err != nil || !again.Created.Equal(r.Created) {
		t.Errorf("the same id again: %+v, %v; want the first record", again, err)
	}
	if _, err := c.RetryCommand(t.Context(), &subjects.CommandQuery{ID: r.ID}); code(err) != subjects.CodeBadRequest {
		t.Errorf("retrying what is done: %v", err)
	}
	later, err := c.Send(t.Context(), &subjects.CommandRequest{Op: subjects.OpPing, Nodes: []string{"snap1"}, At: r.Created.AddDate(0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	withdrawn, err := c.CancelCommand(t.Context(), &subjects.CommandQuery{ID: later.ID})
	if err != nil || withdrawn.Nodes[0].State != subjects.CommandCancelled {
		t.Errorf("cancelling what is queued: %+v, %v", withdrawn, err)
	}
	retried, err := c.RetryCommand(t.Context(), &subjects.CommandQuery{ID: later.ID})
	if err != nil {
		t.Fatal(err)
	}
	if retried = awaitCommand(t, c, retried.ID); retried.RetryOf != later.ID || retried.Nodes[0].State != subjects.CommandDone {
		t.Errorf("retrying what was cancelled: %+v", retried)
	}
	all, err := c.Commands(t.Context(), "snap1", 0)
	if err != nil || len(all) != 3 || all[0].ID != retried.ID {
		t.Errorf("list: %+v, %v", all, err)
	}
	assertEqual(t, c, "snap1", "snap2")
}

func TestCommandsThatMakeNoSenseAreNotRecorded(t *testing.T) {
	t.Parallel()
	c := connect(t, start(t, 1))
	one := []string{"snap1"}
	for _, tt := range []struct {
		req  subjects.CommandRequest
		says string
	}{
		{subjects.CommandRequest{Op: "dance", Nodes: one}, "known are"},
		{subjects.CommandRequest{Op: subjects.OpPing}, "for which nodes"},
		{subjects.CommandRequest{Op: subjects.OpPing, Nodes: []string{"nosuch"}}, "no such node"},
		{subjects.CommandRequest{Op: subjects.OpPing, Select: "room=nowhere"}, "no node is meant"},
		{subjects.CommandRequest{Op: subjects.OpPing, Select: " "}, "expected key=value"},
		{subjects.CommandRequest{Op: subjects.OpPing, Nodes: one, Away: "hope"}, "away"},
		{subjects.CommandRequest{Op: subjects.OpPing, Nodes: one, PauseMS: 1}, "batch"},
		{subjects.CommandRequest{Op: subjects.OpAbort, Nodes: one, Args: json.RawMessage(`{"id":"x"}`)}, "cancelling"},
		{subjects.CommandRequest{Op: subjects.OpShutdown, Nodes: one, Args: json.RawMessage(`{"mode":"town"}`)}, "agent or host"},
		{subjects.CommandRequest{Op: subjects.OpFetch, Nodes: one, Args: json.RawMessage(`{"name":"../x"}`)}, "inside"},
		{subjects.CommandRequest{Op: subjects.OpPush, Nodes: one, Args: json.RawMessage(`{"name":"x","size":1,"digest":"` + strings.Repeat("0", 64) + `"}`)}, "does not have the file"},
	} {
		if _, err := c.Send(t.Context(), &tt.req); code(err) != subjects.CodeBadRequest || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%+v: %v; want an error that says %q", tt.req, err, tt.says)
		}
	}
	if all, err := c.Commands(t.Context(), "", 0); err != nil || len(all) != 0 {
		t.Errorf("recorded: %+v, %v", all, err)
	}
	if _, err := c.Command(t.Context(), "nosuch"); code(err) != subjects.CodeNotFound {
		t.Errorf("an unknown command: %v", err)
	}
}

func TestBlobsTravelBothWays(t *testing.T) {
	t.Parallel()
	c := connect(t, start(t, 0))
	for _, size := range []int{0, 1, subjects.BlobChunk, 3*subjects.BlobChunk + 7} {
		content := bytes.Repeat([]byte("snapdb!"), size/7+1)[:size]
		var told int64
		digest, err := c.PutBlob(t.Context(), bytes.NewReader(content), int64(size), func(done int64) { told = done })
		if err != nil || told != int64(size) {
			t.Fatalf("put %d bytes: %v, told of %d", size, err, told)
		}
		if again, err := c.PutBlob(t.Context(), bytes.NewReader(content), int64(size), nil); err != nil || again != digest {
			t.Errorf("put %d bytes again: %s, %v; want %s", size, again, err, digest)
		}
		var back bytes.Buffer
		if err := c.GetBlob(t.Context(), digest, &back, nil); err != nil || !bytes.Equal(back.Bytes(), content) {
			t.Errorf("got %d of %d bytes back, %v", back.Len(), size, err)
		}
	}
	if err := c.GetBlob(t.Context(), strings.Repeat("0", 64), new(bytes.Buffer), nil); code(err) != subjects.CodeNotFound {
		t.Errorf("a blob that is not there: %v", err)
	}
}
