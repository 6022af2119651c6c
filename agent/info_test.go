package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// An answer about a cluster that would not fit a message leaves out the most of it
// and says so; one that cannot be made to fit is an error, not silence.
func TestInfoOfALargeClusterFits(t *testing.T) {
	t.Parallel()
	large := func() *subjects.ClusterInfoResponse {
		info := &subjects.ClusterInfoResponse{V: subjects.Version, Heads: map[string]subjects.Head{}}
		for i := range 50 {
			info.Heads[fmt.Sprint("db", i)] = subjects.Head{Position: uint64(i)}
		}
		for i := range 20 {
			n := subjects.NodeInfo{ID: fmt.Sprint("snap", i), Acked: map[string]uint64{}, State: subjects.StateOnline,
				Status: &subjects.StatusMessage{Databases: map[string]subjects.DatabaseStatus{}}}
			for db := range info.Heads {
				n.InSync = append(n.InSync, db)
				n.Acked[db] = 7
				n.Status.Databases[db] = subjects.DatabaseStatus{Position: 7}
			}
			info.Nodes = append(info.Nodes, n)
		}
		return info
	}
	whole, err := encodeInfo(large(), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	const most = 20_000
	if len(whole) < 2*most {
		t.Fatalf("%d bytes are not large", len(whole))
	}
	info := large()
	status := info.Nodes[0].Status
	data, err := encodeInfo(info, most)
	if err != nil || len(data) > most {
		t.Fatalf("%d bytes, %v", len(data), err)
	}
	var got subjects.ClusterInfoResponse
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(got.Omitted, "node.<id>.ctl") || got.Online() != 20 || len(got.Heads) != 50 {
		t.Errorf("%d online, %d heads, omitted %q", got.Online(), len(got.Heads), got.Omitted)
	}
	if len(status.Databases) != 50 {
		t.Error("what the master knows of a slave has changed")
	}
	if _, err := encodeInfo(large(), 1000); err == nil || exec.WireError(err).Code != subjects.CodeTooBig {
		t.Errorf("%v", err)
	}
}

// Stop waits no longer than its context, says so, and goes on: a second one hears of
// the end.
func TestMasterStopsInTime(t *testing.T) {
	t.Parallel()
	m := startMaster(t, MasterOptions{Dir: t.TempDir()})
	over := make(chan struct{})
	if !m.crew.do(func() { <-over }) {
		t.Fatal("nobody to hold up the master")
	}
	short, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	cancel(cause)
	if err := m.Stop(short); !errors.Is(err, cause) {
		t.Errorf("%v, want %v", err, cause)
	}
	close(over)
	m.stop()
}
