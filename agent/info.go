package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"

	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// Info says how the cluster is, as the master sees it.
func (m *Master) Info(ctx context.Context) subjects.ClusterInfoResponse {
	heads := m.fleet.heads()
	info := subjects.ClusterInfoResponse{
		V: subjects.Version, Cluster: m.store.Identity().Cluster, Term: heads.Term, Version: m.opts.Version,
		Engine: m.store.Engine(), Ack: m.opts.Ack.String(), Started: m.started, Cursor: heads.Cursor,
		Heads: heads.Heads, Nodes: m.fleet.nodes(), Writes: m.fleet.written(),
		BehindMS: m.fleet.behind().Milliseconds(), Connections: m.broker.Connections(), OS: runtime.GOOS, Arch: runtime.GOARCH, Host: m.host.facts(),
	}
	m.mu.RLock()
	for _, w := range m.writers {
		if why := w.reason(); why != nil {
			if info.Stopped == nil {
				info.Stopped = map[string]string{}
			}
			info.Stopped[w.db.Name()] = why.Error()
		}
	}
	m.mu.RUnlock()
	if log, err := m.broker.LogInfo(ctx); err == nil {
		info.LogFirst, info.LogLast, info.LogBytes, info.LogMax = log.First, log.Last, log.Bytes, log.MaxBytes
	}
	if size, err := m.blobs.Size(); err == nil {
		info.BlobBytes = uint64(size)
	}
	if size, err := m.keeper.snaps.Size(); err == nil {
		info.SnapshotBytes = uint64(size)
	}
	info.Verified = m.verifier.results()
	info.Snapshots = map[string]subjects.Snapshot{}
	for _, d := range m.store.Databases() {
		if snap, ok := m.keeper.snaps.Newest(d.Incarnation()); ok {
			info.Snapshots[d.Name()] = snap
		}
	}
	return info
}

// encodeInfo makes the answer about a cluster fit a message of at most so many
// bytes: if all of it does not, it leaves out what nodes can be asked themselves,
// and says so.
func encodeInfo(info *subjects.ClusterInfoResponse, most int) ([]byte, error) {
	data, err := json.Marshal(info)
	if err == nil && len(data) > most {
		info.Omitted = "how each database is on each node; ask the nodes: node.<id>.ctl, op info"
		for i := range info.Nodes {
			n := &info.Nodes[i]
			n.InSync, n.Acked = []string{}, map[string]uint64{}
			if n.Status != nil {
				st := *n.Status
				st.Databases = map[string]subjects.DatabaseStatus{}
				n.Status = &st
			}
		}
		data, err = json.Marshal(info)
	}
	if err != nil {
		return nil, fmt.Errorf("encode the state of the cluster: %w", err)
	}
	if len(data) > most {
		return nil, subjects.Errorf(subjects.CodeTooBig, "the state of %d nodes and %d databases does not fit an answer: ask the nodes themselves: node.<id>.ctl, op info", len(info.Nodes), len(info.Heads))
	}
	return data, nil
}

// show answers SHOW DATABASES, SHOW SLAVES and SHOW MASTER STATUS.
func (m *Master) show(verb exec.Verb, who *caller, out *subjects.Results) {
	switch verb {
	case exec.ShowDatabases:
		out.Begin([]string{"database"})
		for _, d := range m.databasesOf(who) {
			row(out, d.Name())
		}
		out.End([]string{"text"}, 0, 0)
	case exec.ShowSlaves:
		out.Begin([]string{"slave", "state", "reason", "last_seen", "lag_ms", "in_sync", "version"})
		for _, n := range m.fleet.nodes() {
			version, seen := "", ""
			if n.Status != nil {
				version = n.Status.Version
			}
			if !n.LastSeen.IsZero() {
				seen = n.LastSeen.UTC().Format("2006-01-02T15:04:05Z")
			}
			row(out, n.ID, string(n.State), n.Reason, seen, n.LagMS, strings.Join(n.InSync, " "), version)
		}
		out.End([]string{"text", "text", "text", "text", "integer", "text", "text"}, 0, 0)
	case exec.ShowMasterStatus:
		heads := m.fleet.heads()
		out.Begin([]string{"database", "position", "chain", "incarnation", "term", "cluster"})
		for _, d := range m.databasesOf(who) {
			h := heads.Heads[d.Name()]
			row(out, d.Name(), int64(h.Position), h.Chain, int64(h.Incarnation), int64(heads.Term), m.store.Identity().Cluster)
		}
		out.End([]string{"text", "integer", "text", "integer", "integer", "text"}, 0, 0)
	}
}

// databasesOf are those that the caller may use.
func (m *Master) databasesOf(who *caller) []*exec.Database {
	return slices.DeleteFunc(m.store.Databases(), func(d *exec.Database) bool { return who.uses(d.Name()) != nil })
}

// row appends a row of strings and integers.
func row(out *subjects.Results, values ...any) {
	out.Row()
	for _, v := range values {
		switch v := v.(type) {
		case int64:
			out.Value(subjects.IntegerValue(v))
		case string:
			out.Value(subjects.TextValue(v))
		}
	}
}

// openBlob opens the blob of a large body on the master itself.
func (m *Master) openBlob(_ context.Context, ref subjects.BlobRef) (io.ReadCloser, error) {
	return m.blobs.Open(ref.Digest)
}
