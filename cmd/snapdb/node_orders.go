package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/snapdb/snapdb/agent/client"
	"github.com/snapdb/snapdb/cmd/snapdb/format"
	"github.com/snapdb/snapdb/subjects"
)

// aboutOrders is what the help of every command to nodes says about them.
const aboutOrders = `

The nodes are named by their ids, by --select or by --all. The command is a record
at the master: what is printed is what the nodes answered, and snapdb command shows
it later too. The exit code is 4 if some nodes have not done it.`

// nodeOrders are the commands to nodes.
func nodeOrders() []*cobra.Command {
	return []*cobra.Command{nodeShutdownCommand(), nodeRebootCommand(), nodeWallpaperCommand(), nodePushCommand(), nodeFetchCommand(),
		nodeFilesCommand(), nodeLogsCommand(), nodeLabelCommand(), nodeResyncCommand()}
}

// run gives an errand and prints what became of it.
func (o *order) run(cmd *cobra.Command, ids []string, e *errand) error {
	r, c, err := o.give(cmd, ids, e)
	if err != nil {
		return err
	}
	defer c.Close()
	return o.result(cmd.OutOrStdout(), r, e.show)
}

// whom names the nodes of an order in a question.
func (o *order) whom(ids []string) string {
	switch {
	case o.all:
		return "ALL nodes"
	case o.selector != "":
		return "the nodes with " + o.selector
	}
	return listed(ids)
}

func graceFlags(cmd *cobra.Command, grace *time.Duration, message *string) {
	cmd.Flags().DurationVar(grace, "grace", 0, "wait before it, a `DURATION` like 60s; snapdb command cancel stops it then")
	cmd.Flags().StringVar(message, "message", "", "`TEXT` for who is logged in there")
}

func nodeShutdownCommand() *cobra.Command {
	var o order
	var agent, host bool
	var grace time.Duration
	var message string
	cmd := &cobra.Command{
		Use:   "shutdown [ID...]",
		Short: "stop the slaves of nodes, or power the machines off",
		Long: `shutdown stops the snapdb process of nodes cleanly (--agent, the default), or
powers their machines off (--host), which only nodes do that were started with
--allow-power.` + aboutOrders,
		Example: "  snapdb node shutdown snap1\n  snapdb node shutdown --host --select room=lab1 --grace 60s --message 'Lab closes'",
		Args:    nodeArgs,
		RunE: func(cmd *cobra.Command, ids []string) error {
			mode, what := subjects.ShutdownAgent, "stop snapdb on "
			if host {
				mode, what = subjects.ShutdownHost, "power off the machines of "
			}
			return o.run(cmd, ids, &errand{op: subjects.OpShutdown, asks: what + o.whom(ids),
				args: subjects.ShutdownArgs{Mode: mode, GraceMS: grace.Milliseconds(), Message: message}})
		},
	}
	o.flags(cmd)
	graceFlags(cmd, &grace, &message)
	cmd.Flags().BoolVar(&agent, "agent", false, "stop the snapdb process (the default)")
	cmd.Flags().BoolVar(&host, "host", false, "power the machine off")
	cmd.MarkFlagsMutuallyExclusive("agent", "host")
	return cmd
}

func nodeRebootCommand() *cobra.Command {
	var o order
	var grace time.Duration
	var message string
	cmd := &cobra.Command{
		Use:     "reboot [ID...]",
		Short:   "restart the machines of nodes",
		Long:    "reboot restarts the machines of nodes that were started with --allow-power." + aboutOrders,
		Example: "  snapdb node reboot snap1 --grace 60s",
		Args:    nodeArgs,
		RunE: func(cmd *cobra.Command, ids []string) error {
			return o.run(cmd, ids, &errand{op: subjects.OpReboot, asks: "restart the machines of " + o.whom(ids),
				args: subjects.ShutdownArgs{GraceMS: grace.Milliseconds(), Message: message}})
		},
	}
	o.flags(cmd)
	graceFlags(cmd, &grace, &message)
	return cmd
}

func nodeWallpaperCommand() *cobra.Command {
	var o order
	var restore bool
	cmd := &cobra.Command{
		Use:   "wallpaper IMAGE [ID...]",
		Short: "set the wallpaper of nodes, or bring the old one back",
		Long: `wallpaper sets an image as the wallpaper of the desktops of nodes; with --restore,
and then without an image, it brings back what was there before. The answer of a
node is what it has read back from its desktop.` + aboutOrders,
		Example: "  snapdb node wallpaper hills.png --all\n  snapdb node wallpaper --restore snap1",
		RunE: func(cmd *cobra.Command, args []string) error {
			if restore {
				return o.run(cmd, args, &errand{op: subjects.OpWallpaper, args: subjects.WallpaperArgs{Restore: true}})
			}
			if len(args) == 0 {
				return usageError(errors.New("which image? the first argument is its file; --restore takes none"))
			}
			e := &errand{op: subjects.OpWallpaper}
			e.prepare = func(ctx context.Context, c *client.Client) error {
				digest, size, err := upload(ctx, cmd, c, args[0])
				e.args = subjects.WallpaperArgs{Digest: digest, Size: size, Name: filepath.Base(args[0])}
				return err
			}
			return o.run(cmd, args[1:], e)
		},
	}
	o.flags(cmd)
	cmd.Flags().BoolVar(&restore, "restore", false, "bring back the wallpaper that was there before")
	cmd.ValidArgsFunction = fileThenNodes
	return cmd
}

func nodePushCommand() *cobra.Command {
	var o order
	var name string
	cmd := &cobra.Command{
		Use:   "push FILE [ID...]",
		Short: "copy a file to the file folders of nodes",
		Long: `push copies a file to the master, from where each node gets it and puts it into its
own file folder, once its content is verified. A connection that is lost delays it
only.` + aboutOrders,
		Example: "  snapdb node push setup.tar snap1 snap2\n  snapdb node push setup.tar --as tools/setup.tar --all --batch 10 --pause 30s",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if name == "" {
				name = filepath.Base(args[0])
			}
			e := &errand{op: subjects.OpPush}
			e.prepare = func(ctx context.Context, c *client.Client) error {
				digest, size, err := upload(ctx, cmd, c, args[0])
				e.args = subjects.PushArgs{Digest: digest, Size: size, Name: name}
				return err
			}
			return o.run(cmd, args[1:], e)
		},
	}
	o.flags(cmd)
	cmd.Flags().StringVar(&name, "as", "", "its `NAME` in the nodes' folders (default: the file's own)")
	cmd.ValidArgsFunction = fileThenNodes
	return cmd
}

func nodeFilesCommand() *cobra.Command {
	var o order
	cmd := &cobra.Command{
		Use:     "files [ID...]",
		Short:   "list the files in the file folders of nodes",
		Long:    "files shows what is in the file folders of nodes, where push puts files." + aboutOrders,
		Example: "  snapdb node files snap1\n  snapdb node files --all --json",
		Args:    nodeArgs,
		RunE: func(cmd *cobra.Command, ids []string) error {
			return o.run(cmd, ids, &errand{op: subjects.OpFiles, show: printFiles})
		},
	}
	o.flags(cmd)
	return cmd
}

func nodeLabelCommand() *cobra.Command {
	var o order
	var remove []string
	cmd := &cobra.Command{
		Use:   "label [ID...] [KEY=VALUE...]",
		Short: "label nodes, or show their labels",
		Long: `label sets labels of nodes (KEY=VALUE) and removes some (--remove KEY); without
any of these it shows them. --select picks nodes by their labels.` + aboutOrders,
		Example: "  snapdb node label snap1 snap2 room=lab1\n  snapdb node label snap1 --remove room",
		RunE: func(cmd *cobra.Command, args []string) error {
			pairs, ids := split(args, func(a string) bool { return strings.Contains(a, "=") })
			set := map[string]string{}
			for _, pair := range pairs {
				key, value, _ := strings.Cut(pair, "=")
				if err := subjects.CheckLabel(key, value); err != nil {
					return usageError(err)
				}
				set[key] = value
			}
			if err := nodeArgs(cmd, ids); err != nil {
				return usageError(err)
			}
			return o.run(cmd, ids, &errand{op: subjects.OpLabel, args: subjects.LabelArgs{Set: set, Remove: remove}})
		},
	}
	o.flags(cmd)
	cmd.Flags().StringSliceVar(&remove, "remove", nil, "remove the label `KEY`")
	return cmd
}

func nodeResyncCommand() *cobra.Command {
	var o order
	var dbs []string
	cmd := &cobra.Command{
		Use:   "resync [ID...]",
		Short: "make nodes build their copies of databases anew",
		Long: `resync makes nodes set aside their copies of databases and build them anew from
the log. Until that is done they do not answer reads of these.` + aboutOrders,
		Example: "  snapdb node resync snap1\n  snapdb node resync snap1 --db SnapDB",
		Args:    nodeArgs,
		RunE: func(cmd *cobra.Command, ids []string) error {
			what := "all databases"
			if len(dbs) > 0 {
				what = strings.Join(dbs, ", ")
			}
			return o.run(cmd, ids, &errand{op: subjects.OpResync, asks: "build " + what + " anew on " + o.whom(ids), args: subjects.ResyncArgs{Databases: dbs}})
		},
	}
	o.flags(cmd)
	cmd.Flags().StringSliceVar(&dbs, "db", nil, "only the database `NAME`")
	return cmd
}

// upload brings a local file to the master.
func upload(ctx context.Context, cmd *cobra.Command, c *client.Client, path string) (digest string, size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", 0, err
	}
	if !info.Mode().IsRegular() {
		return "", 0, fmt.Errorf("%s is not a file", path)
	}
	digest, err = c.PutBlob(ctx, f, info.Size(), progress(cmd, "to the master", info.Size()))
	return digest, info.Size(), err
}

// progress shows at a terminal how far long work has come; nil where there is none.
func progress(cmd *cobra.Command, what string, total int64) func(int64) {
	out := cmd.ErrOrStderr()
	if !isTerminal(out) {
		return nil
	}
	shown := int64(-1)
	return func(done int64) {
		percent := int64(100)
		if total > 0 {
			percent = 100 * done / total
		}
		if percent == shown {
			return
		}
		shown = percent
		fmt.Fprintf(out, "\r\x1b[K%s: %d %% of %s", what, percent, format.Bytes(uint64(total)))
		if percent == 100 {
			fmt.Fprint(out, "\r\x1b[K")
		}
	}
}

// fileThenNodes completes a local file and then ids of nodes.
func fileThenNodes(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return live(slaveIDs)(cmd, args, typed)
}
