package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/snapdb/snapdb/agent"
	"github.com/snapdb/snapdb/agent/client"
	"github.com/snapdb/snapdb/agent/desktop"
	"github.com/snapdb/snapdb/agent/power"
	"github.com/snapdb/snapdb/subjects"
)

func slaveCommand() *cobra.Command {
	o := agent.SlaveOptions{Version: version}
	var token tokenSource
	var allowPower, printConfig bool
	var reads func() error
	cmd := &cobra.Command{
		Use:   "slave",
		Short: "run a slave: a node that keeps a copy of every database",
		Long: `slave runs a node that follows a master: it applies every change to its own
SQLite files, says so to the master, and answers reads. It waits for a master that
is not there yet, and reconnects for ever to one that went away.

In a secured cluster its first start takes the token that snapdb node invite prints:
from --token, --token-file, SNAPDB_TOKEN, or a systemd credential named snapdb-token.
With it the node proves that it was invited, and knows its master. After that it has a
key of its own in its data directory, and the token is of no more use to anybody.

While it runs, any SQLite tool may open <data>/<database>.db read-only.`,
		Example: `  snapdb slave --id snap1 --data s1
  snapdb slave --nats nats://10.0.0.1:4222 --data /var/lib/snapdb/slave --label site=berlin
  snapdb slave --nats tls://10.0.0.1:4222 --id snap1 --data s1 --token-file token`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.ID != "" {
				if err := subjects.CheckNodeID(o.ID); err != nil {
					return flagError(cmd, "id", err)
				}
			}
			if err := checkServers(o.URL); err != nil {
				return flagError(cmd, "nats", err)
			}
			if !cmd.Flags().Changed("data") && o.ID != "" {
				o.Dir = stateDir("slave-" + o.ID)
			}
			var err error
			if o.Token, err = token.read(cmd); err != nil {
				return err
			}
			if printConfig {
				return printSettings(cmd)
			}
			if err := reads(); err != nil {
				return usageError(err)
			}
			if allowPower {
				o.Power = power.System()
			}
			o.Wallpaper = desktop.Session{Dir: filepath.Join(o.Dir, "desktop")}
			o.Logger = newLogger(cmd.ErrOrStderr())
			return runSlave(cmd, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Dir, "data", stateDir("slave"), "`DIR` of the slave's data")
	f.StringVar(&o.URL, "nats", client.DefaultURL, "`URL` of the master's broker: nats:// or tls://")
	f.StringVar(&o.ID, "id", "", "`NAME` of the node; kept in the data directory (default: the one kept there, else made from the host name)")
	f.StringToStringVar(&o.Labels, "label", nil, "`KEY=VALUE` to tell the node by; may be given several times")
	f.Lookup("label").DefValue = "" // none, which would be shown as []
	token.flags(f)
	printConfigFlag(f, &printConfig)
	f.BoolVar(&allowPower, "allow-power", false, "let commands power this machine off and restart it")
	reads = readFlags(f, &o.Reads)
	return cmd
}

func runSlave(cmd *cobra.Command, o agent.SlaveOptions) error {
	ctx := cmd.Context()
	// The slave outlives ctx by the time it takes to stop in order.
	s, err := agent.StartSlave(context.WithoutCancel(ctx), o)
	if err != nil {
		return explainStart(err)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "slave %s started\n", s.ID())
	ended := make(chan error, 1)
	go func() { ended <- s.Wait() }()
	select {
	case err := <-ended:
		return explainStart(err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopPatience)
	defer cancel()
	err = s.Stop(stop)
	return errors.Join(err, <-ended)
}
