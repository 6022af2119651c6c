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
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/snapdb/snapdb/agent"
	"github.com/snapdb/snapdb/agent/client"
	"github.com/snapdb/snapdb/cmd/snapdb/format"
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
	relaxGC()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // who asks a second time does not want to wait
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is the whole program, for main and for tests.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := rootCommand()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	code := exitCode(err)
	if err != nil {
		fmt.Fprintf(stderr, "snapdb: %v\n", err)
	}
	if hint := hint(code, cmd, err); hint != "" {
		fmt.Fprintln(stderr, hint)
	}
	return code
}

// rootCommand is the program with all its commands.
func rootCommand() *cobra.Command {
	root := group("snapdb", "SQLite databases, replicated from one master to a fleet of slaves",
		`snapdb replicates SQLite databases from one master, which takes all writes, to
any number of slaves, each with its own plain SQLite files. The NATS broker that
carries the changes is built into the master.

Every flag can also be given in the environment, as SNAPDB_ and its name in
capitals (--disk-reserve is SNAPDB_DISK_RESERVE), or in a JSON config file:

  {"server": "nats://10.0.0.1:4222", "master": {"data": "/var/lib/snapdb"}}

The command line counts most, then the environment, then the file.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 nobody reachable, 4 done only by
some nodes, 5 denied.`, commands()...)
	root.Example = `  snapdb demo                                  a whole cluster in one process, to look around
  snapdb master --data m                       run a master
  snapdb slave --id snap1 --data s1            run a slave of it
  snapdb sql                                   the shell
  snapdb node ls                               how the nodes are`
	root.Version = version
	root.SilenceErrors, root.SilenceUsage = true, true
	root.PersistentFlags().String(configFlag, "", "JSON `FILE` to read settings from (default: snapdb/snapdb.json in the user's config directory, if it is there)")
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if cmd.Name() == cobra.ShellCompRequestCmd || cmd.Name() == cobra.ShellCompNoDescRequestCmd {
			return nil // completion fails silently, by itself
		}
		return settle(cmd)
	}
	complete(root)
	root.SetFlagErrorFunc(parseError)
	return root
}

// commands are all of the program's commands.
func commands() []*cobra.Command {
	return []*cobra.Command{
		demoCommand(), masterCommand(), slaveCommand(), sqlCommand(), nodeCommand(), commandCommand(), dbCommand(), userCommand(), loginCommand(), logoutCommand(), whoAmICommand(), natsContextCommand(), authorityCommand(), auditCommand(), benchCommand(), versionCommand(),
	}
}

// group is a command that only has others below it.
func group(use, short, long string, subs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			text := fmt.Sprintf("unknown command %q for %q", args[0], cmd.CommandPath())
			cmd.SuggestionsMinimumDistance = 2
			if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
				text += ": did you mean " + strings.Join(like, " or ") + "?"
			}
			return usageError(errors.New(text))
		},
	}
	addCommands(cmd, subs...)
	return cmd
}

// addCommands puts commands below one. Arguments that they do not take are wrong usage.
func addCommands(cmd *cobra.Command, subs ...*cobra.Command) {
	for _, sub := range subs {
		if check := sub.Args; check != nil {
			sub.Args = func(cmd *cobra.Command, args []string) error {
				if err := check(cmd, args); err != nil {
					return usageError(err)
				}
				return nil
			}
		}
	}
	cmd.AddCommand(subs...)
}

// noArgs refuses arguments, in other words than cobra's, which calls them unknown
// commands.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%s takes no argument, not %q", cmd.CommandPath(), args[0])
	}
	return nil
}

// usage marks an error of whoever typed the command.
type usage struct{ error }

func (u usage) Unwrap() error { return u.error }

func usageError(err error) error { return usage{err} }

// exitCode maps an error to the exit code that scripts may rely on.
func exitCode(err error) int {
	var u usage
	var partly *partlyError
	var undone *undoneError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &u):
		return exitUsage
	case errors.Is(err, client.ErrUnreachable), errors.As(err, &partly) && partly.done == 0:
		return exitUnreachable
	case partly != nil, errors.As(err, &undone), wireCode(err) == subjects.CodeNotAcknowledged:
		return exitPartly
	case errors.Is(err, client.ErrDenied), wireCode(err) == subjects.CodeDenied, wireCode(err) == subjects.CodeForbidden, notInvited(err):
		return exitDenied
	}
	return exitFailed
}

// wireCode is the code of an error that a server answered, "" for any other.
func wireCode(err error) subjects.Code {
	var e *subjects.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// notInvited says whether the error is that of a slave without an invitation.
func notInvited(err error) bool {
	var refused *agent.RefusedError
	return errors.As(err, &refused) && refused.Code == subjects.RefusedUnknown
}

// hint is what to do next after an error that cannot say it itself.
func hint(code int, cmd *cobra.Command, err error) string {
	var nobody *client.UnreachableError
	switch {
	case code == exitUsage:
		return fmt.Sprintf("  %s --help tells more", cmd.CommandPath())
	case errors.Is(err, client.ErrUnreachable) && !errors.As(err, &nobody) && !strange(err):
		return "  is the master running there? snapdb master starts one, --server names its address"
	}
	return ""
}

// partlyError is a command that some of the nodes did not carry out, or none.
type partlyError struct{ done, total int }

func (e *partlyError) Error() string {
	if e.done == 0 {
		return fmt.Sprintf("none of %s answered", format.Count(int64(e.total), "node"))
	}
	return fmt.Sprintf("only %d of %d nodes answered", e.done, e.total)
}
