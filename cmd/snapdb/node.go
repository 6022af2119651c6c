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

// masterID is the master among node ids; no slave can have it.
const masterID = "master"

func nodeCommand() *cobra.Command {
	return group("node", "look at the nodes of a cluster, command them",
		"node shows the nodes of a cluster: as the master knows them (ls), or as each\nanswers itself (info, ping); makes the master forget one; commands nodes; and says\nwhich may come into a secured cluster (invite, revoke).",
		append([]*cobra.Command{nodeListCommand(), nodeInfoCommand(), nodePingCommand(), nodeForgetCommand(), nodeInviteCommand(), nodeInvitationsCommand(), nodeKeysCommand(), nodeRevokeCommand()}, nodeOrders()...)...)
}

func nodeListCommand() *cobra.Command {
	var l look
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "list the nodes, as the master knows them",
		Long: `ls lists the master and every slave that has joined and is not forgotten.

LAG is the age of the oldest change that the slave has not acknowledged; IN SYNC
counts the databases for which writes wait for it. POSITION is up to where a node
has the log; it, OS and HOST are left out where a terminal has no room for them. A
slave that is offline is remembered until it comes back, or node forget says that
it will not.`,
		Example: "  snapdb node ls\n  snapdb node ls --json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, _, info, done, err := l.cluster(cmd)
			if err != nil {
				return err
			}
			defer done()
			if l.json {
				return printJSON(cmd.OutOrStdout(), info)
			}
			return printNodes(cmd.OutOrStdout(), info)
		},
	}
	l.flags(cmd, answerPatience)
	return cmd
}

func printNodes(out io.Writer, info *subjects.ClusterInfoResponse) error {
	rows := [][]string{{masterID, string(subjects.StateOnline), "", "", "now", strconv.FormatUint(info.Cursor, 10), info.Version, info.OS, hostname(info.Host), "", stopped(info)}}
	databases := len(databaseNames(info))
	for _, n := range info.Nodes {
		version, labels, position, system, host := "", "", "", "", ""
		if st := n.Status; st != nil {
			version, labels, position = st.Version, labelText(st.Labels), strconv.FormatUint(info.Applied(&n), 10)
			system, host = st.OS, hostname(st.Host)
		}
		inSync := 0
		for _, db := range n.InSync {
			if db != subjects.Catalog {
				inSync++
			}
		}
		lag := ""
		if n.State != subjects.StateOffline || n.LagMS > 0 {
			lag = milliseconds(n.LagMS)
		}
		synced := fmt.Sprintf("%d/%d", inSync, databases)
		if info.Omitted != "" {
			synced = "?"
		}
		rows = append(rows, []string{n.ID, string(n.State), lag, synced, ago(n.LastSeen), position, version, system, host, labels, n.Reason})
	}
	return printFitting(out, []string{"NODE", "STATE", "LAG", "IN SYNC", "SEEN", "POSITION", "VERSION", "OS", "HOST", "LABELS", "REASON"}, rows, "OS", "HOST", "POSITION")
}

func hostname(h *subjects.HostFacts) string {
	if h == nil {
		return ""
	}
	return h.Hostname
}

// stopped says which databases of the master take no writes.
func stopped(info *subjects.ClusterInfoResponse) string {
	var all []string
	for _, db := range slices.Sorted(maps.Keys(info.Stopped)) {
		all = append(all, db+" takes no writes: "+info.Stopped[db])
	}
	return strings.Join(all, "; ")
}

func labelText(labels map[string]string) string {
	var all []string
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		all = append(all, k+"="+labels[k])
	}
	return strings.Join(all, " ")
}

func milliseconds(ms int64) string {
	if ms < 10_000 {
		return strconv.FormatInt(ms, 10) + " ms"
	}
	return (time.Duration(ms) * time.Millisecond).Round(time.Second).String()
}

// nodeAnswer is what one node answered to a command, and how fast.
type nodeAnswer struct {
	ID    string                  `json:"id"`
	OK    bool                    `json:"ok"`
	Error string                  `json:"error,omitempty"`
	MS    float64                 `json:"ms"`
	Info  *subjects.StatusMessage `json:"info,omitempty"`
}

// askNodes sends an op to each of the nodes at the same time. The error is for
// those that did not answer.
func askNodes(ctx context.Context, c *client.Client, ids []string, op subjects.Op) ([]nodeAnswer, error) {
	answers := make([]nodeAnswer, len(ids))
	each(ids, func(i int, id string) {
		start := time.Now()
		a := nodeAnswer{ID: id}
		var err error
		switch {
		case id == masterID:
			_, err = c.Info(ctx)
		case op == subjects.OpInfo:
			a.Info, err = c.Status(ctx, id)
		default:
			_, err = c.Ctl(ctx, id, &subjects.CtlRequest{Op: op})
		}
		a.OK = err == nil
		var nobody *client.UnreachableError
		if errors.As(err, &nobody) {
			err = nobody
		}
		if err != nil {
			a.Error = err.Error()
		}
		a.MS = float64(time.Since(start).Microseconds()) / 1000
		answers[i] = a
	})
	done := 0
	for _, a := range answers {
		if a.OK {
			done++
		}
	}
	return answers, answered(done, len(answers))
}

func nodePingCommand() *cobra.Command {
	var l look
	cmd := &cobra.Command{
		Use:   "ping [ID...]",
		Short: "ask nodes whether they are there",
		Long: `ping asks the nodes, or all of them, and shows how long each took to answer.
The exit code is 4 if some did not answer, 3 if none did.`,
		Example:           "  snapdb node ping\n  snapdb node ping snap1 snap2",
		Args:              nodeArgs,
		ValidArgsFunction: live(slaveIDs),
		RunE: func(cmd *cobra.Command, ids []string) error {
			ctx, c, info, done, err := l.cluster(cmd)
			if err != nil {
				return err
			}
			defer done()
			if len(ids) == 0 {
				ids = append([]string{masterID}, slaveIDs(info)...)
			}
			answers, partly := askNodes(ctx, c, ids, subjects.OpPing)
			if l.json {
				return errors.Join(printJSON(cmd.OutOrStdout(), map[string]any{"nodes": answers}), partly)
			}
			rows := make([][]string, len(answers))
			for i, a := range answers {
				rows[i] = []string{a.ID, fmt.Sprintf("%.1f ms", a.MS), ""}
				if !a.OK {
					rows[i] = []string{a.ID, "", a.Error}
				}
			}
			return errors.Join(printTable(cmd.OutOrStdout(), []string{"NODE", "ANSWER", "ERROR"}, rows), partly)
		},
	}
	l.flags(cmd, answerPatience)
	return cmd
}

func nodeForgetCommand() *cobra.Command {
	var at way
	var yes bool
	cmd := &cobra.Command{
		Use:   "forget ID...",
		Short: "forget slaves that will not come back",
		Long: `forget makes the master forget slaves: they are not listed any more, and writes
that ask for the acknowledgement of all slaves do not wait for them. A slave that
is connected is not forgotten; one that joins later is a slave again. Its data
stays where it is.`,
		Example:           "  snapdb node forget snap3\n  snapdb node forget snap3 --yes",
		Args:              cobra.MatchAll(cobra.MinimumNArgs(1), nodeArgs),
		ValidArgsFunction: live(slaveIDs),
		RunE: func(cmd *cobra.Command, ids []string) error {
			if err := confirm(cmd, "forget "+strings.Join(ids, ", "), yes); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), answerPatience)
			defer cancel()
			c, err := at.connect(ctx, cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			var errs []error
			for _, id := range ids {
				err := c.Forget(ctx, id)
				if err == nil {
					_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is forgotten\n", id)
				}
				errs = append(errs, err)
			}
			return errors.Join(errs...)
		},
	}
	at.flags(cmd.Flags())
	yesFlag(cmd.Flags(), &yes)
	return cmd
}

func nodeInfoCommand() *cobra.Command {
	var l look
	cmd := &cobra.Command{
		Use:   "info [ID...]",
		Short: "show what nodes say of themselves",
		Long: `info asks the slaves, or all of them, how they are: state and reason, labels,
version and, for each database, how far they have come. The exit code is 4 if
some did not answer, 3 if none did.`,
		Example:           "  snapdb node info snap1\n  snapdb node info --json",
		Args:              nodeArgs,
		ValidArgsFunction: live(slaveIDs),
		RunE: func(cmd *cobra.Command, ids []string) error {
			ctx, c, info, done, err := l.cluster(cmd)
			if err != nil {
				return err
			}
			defer done()
			if len(ids) == 0 {
				ids = slaveIDs(info)
			}
			if slices.Contains(ids, masterID) {
				return usageError(errors.New("info is about slaves: node ls and db ls show the master"))
			}
			answers, partly := askNodes(ctx, c, ids, subjects.OpInfo)
			if l.json {
				return errors.Join(printJSON(cmd.OutOrStdout(), map[string]any{"nodes": answers}), partly)
			}
			return errors.Join(printInfos(cmd.OutOrStdout(), answers), partly)
		},
	}
	l.flags(cmd, answerPatience)
	return cmd
}

func printInfos(out io.Writer, answers []nodeAnswer) error {
	for i, a := range answers {
		if i > 0 {
			fmt.Fprintln(out)
		}
		if a.Info == nil {
			fmt.Fprintf(out, "%s: %s\n", a.ID, format.Safe(a.Error))
			continue
		}
		st := a.Info
		facts := [][2]string{
			{"state", string(st.State)}, {"reason", st.Reason}, {"lag", milliseconds(st.LagMS)},
			{"labels", labelText(st.Labels)}, {"version", st.Version}, {"system", st.OS + "/" + st.Arch},
			{"started", ago(st.Started)}, {"position", strconv.FormatUint(st.Cursor, 10)},
		}
		if st.Foreign > 0 {
			facts = append(facts, [2]string{"warning", fmt.Sprintf("%d messages in the log were not written by a master", st.Foreign)})
		}
		fmt.Fprintln(out, a.ID)
		for _, f := range facts {
			if f[1] != "" {
				fmt.Fprintf(out, "  %-9s %s\n", f[0], format.Safe(f[1]))
			}
		}
		if err := printCopies(out, st); err != nil {
			return err
		}
	}
	return nil
}

func printCopies(out io.Writer, st *subjects.StatusMessage) error {
	var rows [][]string
	for _, name := range slices.Sorted(maps.Keys(st.Databases)) {
		if d := st.Databases[name]; name != subjects.Catalog {
			rows = append(rows, []string{"  " + name, string(d.State), strconv.FormatUint(d.Position, 10), strconv.FormatUint(d.Head, 10), d.Reason})
		}
	}
	if len(rows) == 0 {
		return nil
	}
	return printTable(out, []string{"  DATABASE", "STATE", "POSITION", "OF", "REASON"}, rows)
}

// nodeArgs are any number of node ids.
func nodeArgs(_ *cobra.Command, ids []string) error {
	for _, id := range ids {
		if id == masterID {
			continue
		}
		if err := subjects.CheckNodeID(id); err != nil {
			return err
		}
	}
	return nil
}

func slaveIDs(info *subjects.ClusterInfoResponse) []string {
	ids := make([]string, len(info.Nodes))
	for i, n := range info.Nodes {
		ids[i] = n.ID
	}
	return ids
}
