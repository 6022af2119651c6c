package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/snapdb/snapdb/agent/client"
	"github.com/snapdb/snapdb/cmd/snapdb/format"
	"github.com/snapdb/snapdb/subjects"
)

func dbCommand() *cobra.Command {
	return group("db", "look at the databases of a cluster",
		"db shows the databases of a cluster: how far each node has come (ls), and whether\nall hold the same content (status). snapshot makes the master keep a copy of one as it\nis now. import makes a database of a SQLite file, dump writes one out.",
		dbListCommand(), dbStatusCommand(), dbSnapshotCommand(), dbImportCommand(), dbDumpCommand())
}

// databaseNames are those of a cluster, sorted, without the catalog.
func databaseNames(info *subjects.ClusterInfoResponse) []string {
	names := slices.Sorted(maps.Keys(info.Heads))
	return slices.DeleteFunc(names, func(name string) bool { return name == subjects.Catalog })
}

// dbEntry is one database in `db ls`.
type dbEntry struct {
	Name        string            `json:"name"`
	Position    uint64            `json:"position"`
	Chain       string            `json:"chain"`
	Incarnation uint64            `json:"incarnation"`
	Stopped     string            `json:"stopped,omitempty"` // why it takes no writes
	Acked       map[string]uint64 `json:"acked"`             // by slave
	Ill         map[string]ill    `json:"ill,omitempty"`     // by slave: copies that take no more changes
	// Snapshot is the newest the master keeps.
	Snapshot *subjects.Snapshot `json:"snapshot,omitempty"`
}

// ill is what is wrong with a copy that takes no more changes.
type ill struct {
	State  subjects.State `json:"state"` // diverged or stopped
	Reason string         `json:"reason,omitempty"`
}

func (i ill) String() string {
	if i.Reason == "" {
		return string(i.State)
	}
	return string(i.State) + ": " + i.Reason
}

// illness is what a slave says is wrong with its copy of a database.
func illness(n *subjects.NodeInfo, db string) (ill, bool) {
	if n.Status == nil {
		return ill{}, false
	}
	d := n.Status.Databases[db]
	return ill{d.State, d.Reason}, d.State == subjects.StateDiverged || d.State == subjects.StateStopped
}

func dbListCommand() *cobra.Command {
	var l look
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "list the databases, and how far each node has come",
		Long: `ls lists the databases with the position of their last change, and for every
slave the position it has acknowledged, and whether its copy has stopped or diverged.
The same position is the same content; db status reads it all to prove that.`,
		Example: "  snapdb db ls\n  snapdb db ls --json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, _, info, done, err := l.cluster(cmd)
			if err != nil {
				return err
			}
			defer done()
			entries := dbEntries(info)
			if l.json {
				return printJSON(cmd.OutOrStdout(), map[string]any{"databases": entries, "log_first": info.LogFirst,
					"log_bytes": info.LogBytes, "log_max": info.LogMax, "blob_bytes": info.BlobBytes, "snapshot_bytes": info.SnapshotBytes})
			}
			return errors.Join(printEntries(cmd.OutOrStdout(), slaveIDs(info), entries), printLog(cmd.OutOrStdout(), info))
		},
	}
	l.flags(cmd, answerPatience)
	return cmd
}

func dbEntries(info *subjects.ClusterInfoResponse) []dbEntry {
	entries := []dbEntry{}
	for _, name := range databaseNames(info) {
		h := info.Heads[name]
		e := dbEntry{Name: name, Position: h.Position, Chain: h.Chain, Incarnation: h.Incarnation, Stopped: info.Stopped[name], Acked: map[string]uint64{}, Ill: map[string]ill{}}
		if snap, ok := info.Snapshots[name]; ok {
			e.Snapshot = &snap
		}
		for i := range info.Nodes {
			n := &info.Nodes[i]
			if at, ok := n.Acked[name]; ok || info.Omitted == "" {
				e.Acked[n.ID] = at
			}
			if what, ok := illness(n, name); ok {
				e.Ill[n.ID] = what
			}
		}
		entries = append(entries, e)
	}
	return entries
}

func printEntries(out io.Writer, slaves []string, entries []dbEntry) error {
	head := append([]string{"DATABASE", strings.ToUpper(masterID), "SNAPSHOT"}, slaves...)
	rows := make([][]string, len(entries))
	for i, e := range entries {
		snap := "-"
		if e.Snapshot != nil {
			snap = strconv.FormatUint(e.Snapshot.Position, 10)
		}
		rows[i] = []string{e.Name, strconv.FormatUint(e.Position, 10), snap}
		for _, id := range slaves {
			acked, known := e.Acked[id]
			if !known {
				rows[i] = append(rows[i], "?")
				continue
			}
			at := strconv.FormatUint(acked, 10)
			what, isIll := e.Ill[id]
			switch behind := e.Position - min(acked, e.Position); {
			case isIll:
				at += " (" + string(what.State) + ")"
			case behind > 0:
				at += " (behind)"
			}
			rows[i] = append(rows[i], at)
		}
	}
	if err := printTable(out, head, rows); err != nil {
		return err
	}
	for _, e := range entries {
		if e.Stopped != "" {
			fmt.Fprintf(out, "%s takes no writes: %s\n", e.Name, format.Safe(e.Stopped))
		}
		for _, id := range slices.Sorted(maps.Keys(e.Ill)) {
			fmt.Fprintf(out, "%s on %s is %s\n", e.Name, id, format.Safe(e.Ill[id].String()))
		}
	}
	return nil
}

// printLog says how much of its limit the log takes.
func printLog(out io.Writer, info *subjects.ClusterInfoResponse) error {
	const mb = 1 << 20
	_, err := fmt.Fprintf(out, "log from %d on: %.1f MB of %.0f MB, large transactions %.1f MB, snapshots %.1f MB\n", info.LogFirst,
		float64(info.LogBytes)/mb, float64(info.LogMax)/mb, float64(info.BlobBytes)/mb, float64(info.SnapshotBytes)/mb)
	return err
}

// snapshotPatience is how long a snapshot may take by default.
const snapshotPatience = 10 * time.Minute

func dbSnapshotCommand() *cobra.Command {
	var l look
	cmd := &cobra.Command{
		Use:   "snapshot NAME...",
		Short: "make the master keep a copy of a database as it is now",
		Long: `snapshot makes the master keep a copy of each database as it is now, and waits
until that is on stable storage. The master does so by itself (--snapshot-every of
snapdb master); slaves that the log does not help any more get the newest. Neither
reads nor writes wait.`,
		Example:           "  snapdb db snapshot Shop",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: live(databaseNames),
		RunE: func(cmd *cobra.Command, names []string) error {
			ctx, c, _, done, err := l.cluster(cmd)
			if err != nil {
				return err
			}
			defer done()
			snaps := map[string]*subjects.Snapshot{}
			for _, name := range names {
				begun := time.Now()
				snap, err := c.Snapshot(ctx, name)
				if err != nil {
					return err
				}
				if snaps[name] = snap; l.json {
					continue
				}
				if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s · position %d · %.1f MB, packed %.1f MB · %v\n", name, snap.Position,
					float64(snap.File)/(1<<20), float64(snap.Size)/(1<<20), time.Since(begun).Round(time.Millisecond)); err != nil {
					return err
				}
			}
			if l.json {
				return printJSON(cmd.OutOrStdout(), map[string]any{"snapshots": snaps})
			}
			return nil
		},
	}
	l.flags(cmd, snapshotPatience)
	return cmd
}

// dbCopy is one node's copy of a database in `db status`.
type dbCopy struct {
	Node     string `json:"node"`
	Position uint64 `json:"position,omitempty"`
	Rows     int64  `json:"rows"`
	Checksum string `json:"checksum,omitempty"`
	Error    string `json:"error,omitempty"`

	diverged bool
}

// dbStatus is one database in `db status`.
type dbStatus struct {
	Name   string   `json:"name"`
	Equal  string   `json:"equal"` // yes, no or unknown
	Copies []dbCopy `json:"copies"`
}

// Whether the copies of a database hold the same.
const (
	equalYes     = "yes"
	equalNo      = "no"
	equalUnknown = "unknown" // they were seen at different positions, or not at all
)

// statusTries is how often copies are read again that a write came in between of.
const statusTries = 3

// dbCheckPatience is how long reading every row of every copy may take by default.
const dbCheckPatience = 60 * time.Second

func dbStatusCommand() *cobra.Command {
	var l look
	cmd := &cobra.Command{
		Use:   "status [NAME...]",
		Short: "compare what the nodes hold, row by row",
		Long: `status reads the databases, or all of them, on every node and compares their
checksums at the same position. It reads every row; writes may go on meanwhile.

The exit code is 0 if all copies are equal, 1 if some differ or were written to
so fast that they could not be compared, 4 if some nodes did not answer.`,
		Example:           "  snapdb db status\n  snapdb db status Shop --json",
		ValidArgsFunction: live(databaseNames),
		RunE: func(cmd *cobra.Command, names []string) error {
			ctx, c, info, done, err := l.cluster(cmd)
			if err != nil {
				return err
			}
			defer done()
			all, err := checkDatabases(ctx, c, info, names)
			if all == nil {
				return err
			}
			if l.json {
				return errors.Join(printJSON(cmd.OutOrStdout(), map[string]any{"databases": all}), err)
			}
			return errors.Join(printStatus(cmd.OutOrStdout(), all), err)
		},
	}
	l.flags(cmd, dbCheckPatience)
	return cmd
}

// checkDatabases compares the copies of databases. The error says what is wrong
// with any of them.
func checkDatabases(ctx context.Context, c *client.Client, info *subjects.ClusterInfoResponse, names []string) ([]dbStatus, error) {
	known := databaseNames(info)
	if len(names) == 0 {
		names = known
	}
	all := []dbStatus{}
	var different, unknown []string
	silent := map[string]bool{}
	for _, name := range names {
		i := slices.IndexFunc(known, func(k string) bool { return strings.EqualFold(k, name) })
		if i < 0 {
			return nil, subjects.Errorf(subjects.CodeNoSuchDatabase, "no such database: %s", name)
		}
		st := checkDatabase(ctx, c, known[i], info.Nodes)
		all = append(all, st)
		switch st.Equal {
		case equalNo:
			different = append(different, st.Name)
		case equalUnknown:
			unknown = append(unknown, st.Name)
		}
		for _, copied := range st.Copies {
			if copied.Error != "" {
				silent[copied.Node] = true
			}
		}
	}
	switch {
	case len(different) > 0:
		return all, fmt.Errorf("the nodes hold different content of %s", strings.Join(different, ", "))
	case len(silent) > 0:
		total := 1 + len(info.Nodes)
		return all, answered(total-len(silent), total)
	case len(unknown) > 0:
		return all, fmt.Errorf("%s was written to while it was read: not all nodes were seen at the same position; try again", strings.Join(unknown, ", "))
	}
	return all, nil
}

// checkDatabase reads a database on every node until all were read at the same
// position, or often enough. A copy that takes no more changes never gets there,
// and is not read.
func checkDatabase(ctx context.Context, c *client.Client, name string, slaves []subjects.NodeInfo) dbStatus {
	st := dbStatus{Name: name}
	for range statusTries {
		st.Copies = make([]dbCopy, 1+len(slaves))
		st.Copies[0] = readCopy(ctx, c, name, masterID, 0)
		each(slaves, func(i int, n subjects.NodeInfo) {
			if what, ok := illness(&n, name); ok && n.State != subjects.StateOffline {
				st.Copies[i+1] = dbCopy{Node: n.ID, Error: what.String(), diverged: what.State == subjects.StateDiverged}
				return
			}
			st.Copies[i+1] = readCopy(ctx, c, name, n.ID, st.Copies[0].Position)
		})
		if st.Equal = compare(st.Copies); st.Equal != equalUnknown {
			break
		}
	}
	return st
}

func readCopy(ctx context.Context, c *client.Client, name, node string, position uint64) dbCopy {
	req := &subjects.Request{DB: name, SQL: "SHOW CHECKSUM", MinPosition: position}
	if end, ok := ctx.Deadline(); ok {
		req.TimeoutMS = max(time.Until(end).Milliseconds(), 1)
	}
	door := subjects.Query
	if node != masterID {
		door = subjects.NodeQuery(node)
	}
	resp, err := c.Do(ctx, door, req)
	if err == nil && (len(resp.Results) != 1 || len(resp.Results[0].Rows) == 0) {
		err = errors.New("the answer has no checksum")
	}
	if err != nil {
		return dbCopy{Node: node, Error: err.Error()}
	}
	rows := resp.Results[0].Rows
	whole := rows[len(rows)-1] // table, rows, checksum
	return dbCopy{Node: node, Position: resp.Position, Rows: whole[1].Int(), Checksum: string(whole[2].Bytes())}
}

// compare says whether all copies that were read are the same, and none has
// diverged.
func compare(copies []dbCopy) string {
	if slices.ContainsFunc(copies, func(c dbCopy) bool { return c.diverged }) {
		return equalNo
	}
	read := slices.DeleteFunc(slices.Clone(copies), func(c dbCopy) bool { return c.Error != "" })
	verdict := equalYes
	for i, a := range read {
		for _, b := range read[i+1:] {
			switch {
			case a.Position != b.Position:
				verdict = equalUnknown
			case a.Checksum != b.Checksum:
				return equalNo
			}
		}
	}
	if len(read) == 0 {
		return equalUnknown
	}
	return verdict
}

func printStatus(out io.Writer, all []dbStatus) error {
	var rows [][]string
	for _, st := range all {
		for i, c := range st.Copies {
			name, equal := "", ""
			if i == 0 {
				name, equal = st.Name, st.Equal
			}
			row := []string{name, equal, c.Node, "", "", "", c.Error}
			if c.Error == "" {
				row = []string{name, equal, c.Node, strconv.FormatUint(c.Position, 10), strconv.FormatInt(c.Rows, 10), c.Checksum, ""}
			}
			rows = append(rows, row)
		}
	}
	return printTable(out, []string{"DATABASE", "EQUAL", "NODE", "POSITION", "ROWS", "CHECKSUM", "ERROR"}, rows)
}
