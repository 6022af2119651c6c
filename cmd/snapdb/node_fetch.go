package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/snapdb/snapdb/agent/client"
	"github.com/snapdb/snapdb/subjects"
)

func nodeFetchCommand() *cobra.Command {
	var o order
	var to string
	cmd := &cobra.Command{
		Use:   "fetch NAME [ID...]",
		Short: "copy a file out of the file folders of nodes",
		Long: `fetch makes nodes bring a file of their own file folder to the master, and copies it
from there, verified. That of one node becomes a file of the same name in --to, those
of several go to folders named after the nodes. A file that is there already is only
replaced with --yes.` + aboutOrders,
		Example: "  snapdb node fetch report.csv snap1\n  snapdb node fetch report.csv --all --to reports",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, ids := args[0], args[1:]
			r, c, err := o.give(cmd, ids, &errand{op: subjects.OpFetch, args: subjects.FetchArgs{Name: name}})
			if err != nil {
				return err
			}
			defer c.Close()
			errs := []error{}
			for _, n := range r.Nodes {
				if n.State != subjects.CommandDone {
					continue
				}
				file := filepath.Join(to, path.Base(name))
				if len(r.Nodes) > 1 {
					file = filepath.Join(to, n.Node, path.Base(name))
				}
				if err := download(cmd, c, n, file, o.yes); err != nil {
					errs = append(errs, fmt.Errorf("the file of %s: %w", n.Node, err))
				}
			}
			return errors.Join(append(errs, o.result(cmd.OutOrStdout(), r, nil))...)
		},
	}
	o.flags(cmd)
	cmd.Flags().StringVar(&to, "to", ".", "into the `FOLDER`")
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) == 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return live(slaveIDs)(cmd, args, typed)
	}
	return cmd
}

// download copies a file that a node has brought to the master. It has its name
// only when it is whole.
func download(cmd *cobra.Command, c *client.Client, n subjects.NodeOutcome, file string, replace bool) error {
	var info subjects.FileInfo
	if err := json.Unmarshal(n.Output, &info); err != nil {
		return fmt.Errorf("read the node's answer: %w", err)
	}
	if err := mayWrite(file, replace); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".snapdb-*")
	if err != nil {
		return err
	}
	err = c.GetBlob(cmd.Context(), info.Digest, f, progress(cmd, "from the master", info.Size))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	_, err = fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s, %d bytes\n", n.Node, file, info.Size)
	return err
}

// printFiles prints what is in the file folders of nodes.
func printFiles(out io.Writer, r *subjects.CommandRecord) error {
	var rows [][]string
	for _, n := range r.Nodes {
		var files []subjects.FileInfo
		if n.State != subjects.CommandDone || json.Unmarshal(n.Output, &files) != nil {
			rows = append(rows, []string{n.Node, "", "", "", stateWord(n.State) + ": " + n.Reason})
			continue
		}
		for _, f := range files {
			rows = append(rows, []string{n.Node, f.Name, strconv.FormatInt(f.Size, 10), clock(f.Modified), ""})
		}
	}
	return printTable(out, []string{"NODE", "FILE", "SIZE", "MODIFIED", "REASON"}, rows)
}

// liveCommands completes ids of commands.
func liveCommands(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	const nothing = cobra.ShellCompDirectiveNoFileComp
	if len(args) > 0 {
		return nil, nothing
	}
	all := completing(cmd, func(ctx context.Context, c *client.Client) ([]subjects.CommandRecord, error) {
		return c.Commands(ctx, "", 0)
	})
	ids := make([]string, len(all))
	for i, r := range all {
		ids[i] = r.ID
	}
	return ids, nothing
}
