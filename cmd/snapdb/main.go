// Command snapdb runs and uses a cluster of replicated SQLite databases: the
// master, its slaves, a shell, and tools to look at them. Here are flags, wiring,
// signals and the order of stopping; what the program does is in the packages it
// wires.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/snapdb/snapdb/agent/client"
	"github.com/snapdb/snapdb/subjects"
)

// version of this program.
const version = "0.1.0"

// Exit codes.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitUnreachable = 3
	exitPartly      = 4 // some nodes did not
	exitDenied      = 5
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is the whole program, for main and for tests.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use: "snapdb", Short: "SQLite databases, replicated from one master to a fleet of slaves",
		SilenceErrors: true, SilenceUsage: true, Version: version,
	}
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError(err) })
	root.AddCommand(commands()...)
	err := root.ExecuteContext(ctx)
	if err != nil {
		fmt.Fprintf(stderr, "snapdb: %v\n", err)
	}
	return exitCode(err)
}

// commands are all of the program's commands.
func commands() []*cobra.Command {
	return []*cobra.Command{demoCommand(), masterCommand(), slaveCommand(), benchCommand()}
}

// usage marks an error of whoever typed the command.
type usage struct{ error }

func (u usage) Unwrap() error { return u.error }

func usageError(err error) error { return usage{err} }

// exitCode maps an error to the exit code that scripts may rely on.
func exitCode(err error) int {
	var u usage
	var we *subjects.Error
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &u):
		return exitUsage
	case errors.Is(err, client.ErrUnreachable):
		return exitUnreachable
	case errors.Is(err, client.ErrDenied):
		return exitDenied
	case errors.As(err, &we) && we.Code == subjects.CodeDenied:
		return exitDenied
	}
	return exitFailed
}
