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

// verified is the last comparison of a database in a few words.
func verified(v *subjects.Verification) string {
	if v == nil {
		return "-"
	}
	var different []string
	for _, id := range slices.Sorted(maps.Keys(v.Nodes)) {
		if v.Nodes[id].State == subjects.VerifyDifferent {
			different = append(different, id)
		}
	}
	when := ago(time.UnixMilli(v.At))
	switch {
	case v.Proven:
		return fmt.Sprintf("at %d, %s", v.Position, when)
	case len(different) > 0:
		return strings.Join(different, ", ") + " differed, " + when
	}
	return "not of all nodes, " + when
}

func dbStatusCommand() *cobra.Command {
	var l look
	cmd := &cobra.Command{
		Use:   "status [NAME...]",
		Short: "show how each node's copy of a database is",
		Long: `status shows, for databases or all of them, how each node's copy is: its position,
what is wrong with it if anything is, and what the last comparison with the other nodes
has found. It reads nothing; db verify does.`,
		Example:           "  snapdb db status\n  snapdb db status Shop --json",
		ValidArgsFunction: live(databaseNames),
		RunE: func(cmd *cobra.Command, names []string) error {
			_, _, info, done, err := l.cluster(cmd)
			if err != nil {
				return err
			}
			defer done()
			if names, err = chosen(info, names); err != nil {
				return err
			}
			entries := slices.DeleteFunc(dbEntries(info), func(e dbEntry) bool { return !slices.Contains(names, e.Name) })
			if l.json {
				return printJSON(cmd.OutOrStdout(), map[string]any{"databases": entries})
			}
			return printStates(cmd.OutOrStdout(), slaveIDs(info), entries)
		},
	}
	l.flags(cmd, answerPatience)
	return cmd
}

// chosen are the databases that were named, in the case of their creation; all, if
// none was.
func chosen(info *subjects.ClusterInfoResponse, names []string) ([]string, error) {
	known := databaseNames(info)
	if len(names) == 0 {
		return known, nil
	}
	var list []string
	for _, name := range names {
		i := slices.IndexFunc(known, func(k string) bool { return strings.EqualFold(k, name) })
		if i < 0 {
			return nil, subjects.Errorf(subjects.CodeNoSuchDatabase, "no such database: %s", name)
		}
		list = append(list, known[i])
	}
	return list, nil
}

func printStates(out io.Writer, slaves []string, entries []dbEntry) error {
	var rows [][]string
	for _, e := range entries {
		for i, id := range append([]string{masterID}, slaves...) {
			name, at, state := "", e.Position, "ok"
			if i == 0 {
				name = e.Name
				if e.Stopped != "" {
					state = "takes no writes: " + e.Stopped
				}
			} else {
				at = e.Acked[id]
				what, isIll := e.Ill[id]
				switch {
				case isIll:
					state = what.String()
				case at < e.Position:
					state = "behind"
				}
			}
			found := "-"
			if e.Verified != nil {
				if n, ok := e.Verified.Nodes[id]; ok {
					found = fmt.Sprintf("%s at %d, %s", finding(n), e.Verified.Position, ago(time.UnixMilli(e.Verified.At)))
				}
			}
			rows = append(rows, []string{name, id, strconv.FormatUint(at, 10), found, format.Safe(state)})
		}
	}
	return printTable(out, []string{"DATABASE", "NODE", "POSITION", "VERIFIED", "STATE"}, rows)
}

// finding is what a comparison found of a copy, in words.
func finding(n subjects.CopyVerification) string {
	s := string(n.State)
	if len(n.Tables) > 0 {
		s += " (" + strings.Join(n.Tables, ", ") + ")"
	}
	if n.Reason != "" {
		s += ": " + n.Reason
	}
	return format.Safe(s)
}

// verifyCommandPatience is how long comparing one database may take by default.
const verifyCommandPatience = 2 * time.Minute

func dbVerifyCommand() *cobra.Command {
	var l look
	deep := false
	cmd := &cobra.Command{
		Use:   "verify [NAME...]",
		Short: "prove that all nodes hold the same",
		Long: `verify has all nodes sum up what they hold of the databases, or of all of them, at one
and the same position, every row and the schema, and compares the sums. Writes may go on
meanwhile. --deep also checks every node's file for damage, indexes included.

A copy that turns out to differ is replaced by itself; db ls shows when it is equal again.

The exit code is 0 only if every enrolled node was proven to hold the same, 1 if some
differ or nothing could be compared, 4 if some nodes did not say what they hold.`,
		Example:           "  snapdb db verify\n  snapdb db verify Shop --deep",
		ValidArgsFunction: live(databaseNames),
		RunE: func(cmd *cobra.Command, names []string) error {
			ctx, c, info, done, err := l.cluster(cmd)
			if err != nil {
				return err
			}
			defer done()
			if names, err = chosen(info, names); err != nil {
				return err
			}
			all := []*subjects.Verification{}
			var failed error
			for _, name := range names {
				v, err := c.Verify(ctx, name, deep)
				if failed = errors.Join(failed, err); err == nil {
					all = append(all, v)
				}
				if ctx.Err() != nil {
					break
				}
			}
			if l.json {
				err = printJSON(cmd.OutOrStdout(), map[string]any{"databases": all})
			} else if len(all) > 0 {
				err = printVerified(cmd.OutOrStdout(), all)
			}
			if failed == nil {
				failed = verdict(all)
			}
			return errors.Join(err, failed)
		},
	}
	l.flags(cmd, verifyCommandPatience)
	cmd.Flags().BoolVar(&deep, "deep", false, "also check the files for damage")
	return cmd
}

// verdict is nil only if everything is proven.
func verdict(all []*subjects.Verification) error {
	var different []string
	silent, nodes := map[string]bool{}, map[string]bool{}
	for _, v := range all {
		for id, n := range v.Nodes {
			nodes[id] = true
			switch n.State {
			case subjects.VerifyDifferent:
				different = append(different, v.Database)
			case subjects.VerifyUnknown:
				silent[id] = true
			}
		}
	}
	slices.Sort(different)
	switch {
	case len(different) > 0:
		return fmt.Errorf("the nodes hold different content of %s", strings.Join(slices.Compact(different), ", "))
	case silent[masterID]:
		return errors.New("nothing was compared: the master does not know what it holds; try again")
	}
	return answered(len(nodes)-len(silent), len(nodes))
}

func printVerified(out io.Writer, all []*subjects.Verification) error {
	var rows [][]string
	for _, v := range all {
		ids := slices.DeleteFunc(slices.Sorted(maps.Keys(v.Nodes)), func(id string) bool { return id == masterID })
		for i, id := range append([]string{masterID}, ids...) {
			row := []string{"", "", "", "", id, finding(v.Nodes[id])}
			if i == 0 {
				copy(row, []string{v.Database, strconv.FormatUint(v.Position, 10), strconv.FormatInt(v.Rows, 10), v.Sum})
			}
			rows = append(rows, row)
		}
	}
	return printTable(out, []string{"DATABASE", "POSITION", "ROWS", "CHECKSUM", "NODE", "COPY"}, rows)
}
