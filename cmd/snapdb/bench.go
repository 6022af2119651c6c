package main

import (
	"errors"
	"fmt"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/snapdb/snapdb/cmd/snapdb/bench"
	"github.com/snapdb/snapdb/subjects"
)

func benchCommand() *cobra.Command {
	var o bench.Options
	var at way
	var ack string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "measure throughput, latency and lag of a cluster",
		Long: `Load a running master, or with --local a cluster started for the purpose, and
print throughput, latency and how the slaves followed. A database named
snapdbench is made for it and dropped afterwards. Ctrl-C ends it early, with a
result that says that it is partial, and exit code 1.`,
		Example: `  snapdb bench --local 2 --clients 64
  snapdb bench --local 2 --workload tx --rows 100 --clients 8 --json
  snapdb bench --server nats://db1:4222 --workload get --node snap2`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if ack != "" {
				var err error
				if o.Ack, err = subjects.ParseAck(ack); err != nil {
					return flagError(cmd, "ack", err)
				}
			}
			o.Start = cmd.Flags().Changed("local")
			if flag, err := o.Check(); err != nil {
				return flagError(cmd, flag, err)
			}
			o.Progress = cmd.ErrOrStderr()
			// A cluster of its own must not outlive a terminal that is closed.
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGHUP)
			defer stop()
			_, end := tidy()
			defer end()
			var e *entry
			if !o.Start {
				var err error
				if e, err = at.find(cmd); err != nil {
					return err
				}
				o.Server, o.Client = e.url, e.options
			}
			report, err := bench.Run(ctx, o)
			if e != nil {
				err = e.explain(err)
			}
			if report == nil {
				return err
			}
			if report.Partial {
				err = errors.Join(errors.New("interrupted: the result is a partial one"), err)
			}
			if report.Ops == 0 && report.Errors > 0 {
				return fmt.Errorf("nothing was measured: all %d operations failed, the first: %s", report.Errors, report.FirstError)
			}
			if asJSON {
				return errors.Join(printJSON(cmd.OutOrStdout(), report), err)
			}
			return errors.Join(report.Print(cmd.OutOrStdout()), err)
		},
	}
	f := cmd.Flags()
	at.flags(f)
	f.IntVar(&o.Local, "local", 0, "start a master and this many `SLAVES`, or none, as separate processes, and measure them")
	f.BoolVar(&o.Secure, "secure", false, "with --local: a secured cluster, with TLS, logins and signatures")
	f.StringVar((*string)(&o.Workload), "workload", string(bench.Insert), "`WORK` to measure: "+strings.Join(bench.Workloads(), ", "))
	f.IntVar(&o.Clients, "clients", 64, "`NUMBER` of clients, each with one request at a time")
	f.IntVar(&o.Connections, "connections", 1, "`NUMBER` of connections the clients share")
	f.DurationVar(&o.Duration, "duration", 10*time.Second, "how long to measure, e.g. 10s")
	f.IntVar(&o.Rate, "rate", 0, "operations a second of all clients together (default: as many as they can)")
	f.StringVar(&ack, "ack", "", "acknowledgement `RULE` of writes: log, insync, all or a number of slaves (default: the master's)")
	f.IntVar(&o.Rows, "rows", 100, "rows of a transaction (tx) or a statement (bulk)")
	f.StringVar(&o.Node, "node", "", "`ID` of the node that get and mixed read from (default: the master)")
	f.BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}
