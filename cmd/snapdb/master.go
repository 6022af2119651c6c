package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/snapdb/snapdb/agent"
	"github.com/snapdb/snapdb/cmd/snapdb/panel"
	"github.com/snapdb/snapdb/dashboard"
	"github.com/snapdb/snapdb/subjects"
)

// stopPatience is how long an orderly stop may take.
const stopPatience = 20 * time.Second

func masterCommand() *cobra.Command {
	o := agent.MasterOptions{Version: version}
	var ack, http string // http: address of the panel
	var guard protection
	var printConfig bool
	var reserveMB, logMB, keepMB int64
	var reads, record func() error // check what was said
	cmd := &cobra.Command{
		Use:   "master",
		Short: "run the master: the broker, and the node that takes all SQL",
		Long: `master runs the one node of a cluster that takes writes, with the NATS broker
that carries them to the slaves.

On this machine only, as without flags, it is open: whoever reaches it may do
everything. Once --nats or --http can be reached over a network it is secured: connections
are encrypted, slaves come by invitation (snapdb node invite), and people log in (snapdb
login). The first start prints the password of the first user. A cluster that was
secured stays so. With --insecure it is open to a network as well.

It is ready when it says so on standard output. Ctrl-C or SIGTERM stops it in
order; a second time stops it at once, which loses nothing that was answered.`,
		Example: `  snapdb master --data m
  snapdb master --data /var/lib/snapdb/master --nats 0.0.0.0:4222 --ack all
  snapdb master --data m --nats 0.0.0.0:4222 --tls-cert db1.pem --tls-key db1.key
  snapdb master --data m --print-config`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			rule, err := subjects.ParseAck(ack)
			if err != nil {
				return flagError(cmd, "ack", err)
			}
			if err := checkListen(o.Listen); err != nil {
				return flagError(cmd, "nats", err)
			}
			if served(http) {
				if err := checkListen(http); err != nil {
					return flagError(cmd, "http", err)
				}
			}
			switch {
			case reserveMB < 0 || logMB < 1:
				return usageError(errors.New("--disk-reserve must not be negative, --log-max at least 1"))
			case keepMB >= logMB && cmd.Flags().Changed("log-keep"):
				return usageError(fmt.Errorf("--log-keep %d must be less than --log-max %d: at that size the log takes no more", keepMB, logMB))
			case o.SnapshotEvery <= 0:
				return usageError(errors.New("--snapshot-every must be more than 0"))
			case o.VerifyEvery < 0:
				return usageError(errors.New("--verify-every must not be negative"))
			case o.VerifyEvery == 0:
				o.VerifyEvery = -1 // only when somebody asks
			}
			if err := errors.Join(reads(), record()); err != nil {
				return usageError(err)
			}
			o.Ack = rule
			o.DiskReserve, o.MaxLogBytes = uint64(max(1, reserveMB<<20)), logMB<<20 // 0 is none
			o.LogKeep = min(keepMB, logMB/2) << 20
			switch {
			case keepMB < 0:
				o.LogKeep = -1
			case keepMB == 0:
				o.LogKeep = 1
			}
			o.Logger = newLogger(cmd.ErrOrStderr())
			if err := guard.decide(cmd, &o, http); err != nil {
				return err
			}
			if printConfig {
				return printSettings(cmd, [2]string{"secured", map[bool]string{true: "yes", false: "no"}[o.Secure] + ": " + guard.why})
			}
			guard.warn(o, http)
			return runMaster(cmd, o, http, guard.exposed)
		},
	}
	f := cmd.Flags()
	dataFlag(cmd, &o.Dir)
	f.StringVar(&o.Listen, "nats", agent.DefaultListen, "`HOST:PORT` where slaves and clients connect")
	f.StringVar(&http, "http", dashboard.DefaultListen, "`HOST:PORT` where the panel and the HTTP API are; off: none")
	f.StringVar(&ack, "ack", "insync", "acknowledgement `RULE` for writes that name none: log, insync, all or a number of slaves")
	f.Int64Var(&logMB, "log-max", 10<<10, "size of the log in `MiB` at which writes are refused")
	f.Int64Var(&keepMB, "log-keep", agent.DefaultLogKeep>>20, "size in `MiB` to which the log is shortened once snapshots have what is before; negative: never")
	f.DurationVar(&o.SnapshotEvery, "snapshot-every", agent.DefaultSnapshotEvery, "`TIME` after which a database that was changed gets a new snapshot")
	f.DurationVar(&o.VerifyEvery, "verify-every", agent.DefaultVerifyEvery, "`TIME` after which all nodes compare what they hold of a database that was changed; of one that was not, twelve times as long; 0: only when asked")
	f.Int64Var(&reserveMB, "disk-reserve", agent.DefaultDiskReserve>>20, "free disk space in `MiB` below which writes are refused")
	reads, record = readFlags(f, &o.Reads), auditFlags(f, &o.Audit)
	guard.flags(cmd)
	printConfigFlag(f, &printConfig)
	addCommands(cmd, resetAdminCommand())
	return cmd
}

func dataFlag(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "data", stateDir("master"), "`DIR` of the master's data")
}

func runMaster(cmd *cobra.Command, o agent.MasterOptions, http string, exposed bool) (err error) {
	ctx := cmd.Context()
	m, err := agent.StartMaster(ctx, o)
	if err != nil {
		return explainStart(err)
	}
	var p *panel.Panel
	defer func() {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopPatience)
		defer cancel()
		err = errors.Join(err, stopPanel(stop, p), m.Stop(stop))
	}()
	if p, err = startPanel(ctx, m, http, exposed, filepath.Join(o.Dir, "uploads"), o.Logger); err != nil {
		return err
	}
	if p != nil {
		fmt.Fprintf(cmd.OutOrStdout(), "panel at %s\n", p.URL())
	}
	introduce(cmd.OutOrStdout(), m, o)
	fmt.Fprintf(cmd.OutOrStdout(), "master ready at %s\n", m.URL())
	return m.Wait(ctx)
}

// noPanel is the address that means that there is to be none.
const noPanel = "off"

// served says whether an address is one, and not that there is to be no panel.
func served(http string) bool { return http != "" && http != noPanel }

// startPanel serves the panel of a master at an address, or returns nil. exposed says that
// everybody on a network may use it. Uploads lie in dir while they are on their way.
func startPanel(ctx context.Context, m *agent.Master, http string, exposed bool, dir string, log *slog.Logger) (*panel.Panel, error) {
	if !served(http) {
		return nil, nil
	}
	p, err := panel.Start(ctx, panel.Options{Listen: http, Master: m, Insecure: exposed, Dir: dir, Version: version, Logger: log})
	if err != nil {
		return nil, explainPanel(err)
	}
	return p, nil
}

func stopPanel(ctx context.Context, p *panel.Panel) error {
	if p == nil {
		return nil
	}
	return p.Stop(ctx)
}

// newLogger writes what the operator should know, one line each.
func newLogger(w interface{ Write([]byte) (int, error) }) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, nil))
}
