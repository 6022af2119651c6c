package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/snapdb/snapdb/agent"
	"github.com/snapdb/snapdb/broker"
	"github.com/snapdb/snapdb/subjects"
)

// stopPatience is how long an orderly stop may take.
const stopPatience = 20 * time.Second

func masterCommand() *cobra.Command {
	o := agent.MasterOptions{Version: version}
	var ack string
	var reserveMB, logMB int64
	cmd := &cobra.Command{
		Use:   "master",
		Short: "run the master: the broker, and the node that takes all SQL",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			rule, err := subjects.ParseAck(ack)
			if err != nil {
				return usageError(fmt.Errorf("--ack: %w", err))
			}
			o.Ack = rule
			o.DiskReserve, o.MaxLogBytes = uint64(reserveMB)<<20, logMB<<20
			o.Logger = newLogger(cmd.ErrOrStderr())
			return runMaster(cmd, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Dir, "data", stateDir("master"), "data `DIR`ectory of the master")
	f.StringVar(&o.Listen, "nats", agent.DefaultListen, "`HOST:PORT` where slaves and clients connect")
	f.StringVar(&ack, "ack", "insync", "acknowledgement `RULE` for writes that name none: log, insync, all or a number of slaves")
	f.Int64Var(&logMB, "log-max", 10<<10, "size of the log in `MB` at which writes are refused")
	f.Int64Var(&reserveMB, "disk-reserve", agent.DefaultDiskReserve>>20, "free disk space in `MB` below which writes are refused")
	return cmd
}

func runMaster(cmd *cobra.Command, o agent.MasterOptions) error {
	ctx := cmd.Context()
	m, err := agent.StartMaster(ctx, o)
	if err != nil {
		return explainStart(err)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "master ready at %s\n", m.URL())
	reason := m.Wait(ctx)
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopPatience)
	defer cancel()
	return errors.Join(reason, m.Stop(stop))
}

// explainStart adds what to do to the errors that have a flag for it.
func explainStart(err error) error {
	if errors.Is(err, broker.ErrPortTaken) {
		return fmt.Errorf("%w: stop what listens there, or choose another address with --nats", err)
	}
	return err
}

// newLogger writes what the operator should know, one line each.
func newLogger(w interface{ Write([]byte) (int, error) }) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, nil))
}

// stateDir is where a role keeps its data unless told otherwise.
func stateDir(role string) string {
	if dir := os.Getenv("STATE_DIRECTORY"); dir != "" {
		return filepath.Join(dir, role)
	}
	if dir := os.Getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "snapdb", role)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return role
	}
	return filepath.Join(home, ".local", "state", "snapdb", role)
}
