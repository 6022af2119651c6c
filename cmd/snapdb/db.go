package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/snapdb/snapdb/cmd/snapdb/format"
	"github.com/snapdb/snapdb/subjects"
)

func dbCommand() *cobra.Command {
	return group("db", "look at the databases of a cluster",
		"db shows the databases of a cluster, how far each node has come (ls) and how its copy\nis (status), proves that all copies are equal (verify), makes the master keep a copy of\none (snapshot), and brings databases in (import) and out (dump).",
		dbListCommand(), dbStatusCommand(), dbVerifyCommand(), dbSnapshotCommand(), dbImportCommand(), dbDumpCommand())
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
	// Verified is the last time that the nodes compared it.
	Verified *subjects.Verification `json:"verified,omitempty"`
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
The same position is the same content. The nodes compare that by themselves now and
then, which VERIFIED tells of; db verify has them do it now.`,
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
		if v, ok := info.Verified[name]; ok {
			e.Verified = &v
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
	head := append([]string{"DATABASE", "VERIFIED", "SNAPSHOT", strings.ToUpper(masterID)}, slaves...)
	rows := make([][]string, len(entries))
	for i, e := range entries {
		snap := "-"
		if e.Snapshot != nil {
			snap = strconv.FormatUint(e.Snapshot.Position, 10)
		}
		rows[i] = []string{e.Name, verified(e.Verified), snap, strconv.FormatUint(e.Position, 10)}
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
	_, err := fmt.Fprintf(out, "log from %d on: %s of %s, large transactions %s, snapshots %s\n", info.LogFirst,
		format.Bytes(info.LogBytes), format.Bytes(info.LogMax), format.Bytes(info.BlobBytes), format.Bytes(info.SnapshotBytes))
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
				if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s · position %d · %s, packed %s · %v\n", name, snap.Position,
					format.Bytes(uint64(snap.File)), format.Bytes(uint64(snap.Size)), time.Since(begun).Round(time.Millisecond)); err != nil {
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
