package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/snapdb/snapdb/agent/client"
	"github.com/snapdb/snapdb/cmd/snapdb/format"
	"github.com/snapdb/snapdb/cmd/snapdb/shell"
	"github.com/snapdb/snapdb/subjects"
)

// sqlOptions are the flags of sql.
type sqlOptions struct {
	way
	db      string
	node    string
	ack     string
	format  string
	json    bool
	command []string
	timeout time.Duration
	keep    bool
	timing  bool
}

func sqlCommand() *cobra.Command {
	var o sqlOptions
	cmd := &cobra.Command{
		Use:   "sql [SCRIPT]",
		Short: "execute SQL: a script, statements, or what you type",
		Long: `sql executes SQL at the master, or reads from one node's own copy.

On a terminal it is a shell: a statement ends with ';' and may have many lines,
Ctrl-R searches what was typed before, Ctrl-C stops the statement that is running
and Ctrl-D leaves. ".help" lists what else it knows.

Otherwise it executes SCRIPT, the SQL of -c, or what comes from standard input.
A script may be of any size. It stops at the first statement that fails and says
where that is and what was applied before it.

Results go to standard output, everything else to standard error.`,
		Example: `  snapdb sql
  snapdb sql script.sql --db Shop
  snapdb sql --db Shop -c "SELECT * FROM items" --format csv
  snapdb sql --db Shop --node snap2 -c "SELECT count(*) FROM items"
  sqlite3 old.db .dump | snapdb sql --db Shop`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd, args)
		},
	}
	f := cmd.Flags()
	o.way.flags(f)
	f.StringVar(&o.db, "db", "", "`NAME` of the database to use first")
	f.StringVar(&o.node, "node", "", "`ID` of the node to read from (default: the master, which reads and writes)")
	f.StringVar(&o.ack, "ack", "", "when a write is answered: `RULE` log, insync, all or a number of slaves (default: the master's)")
	f.StringVar(&o.format, "format", string(format.Table), "how results look: `KIND` table, json, csv or line")
	f.BoolVar(&o.json, "json", false, "the same as --format json")
	f.StringArrayVarP(&o.command, "command", "c", nil, "execute this `SQL`; may be given several times")
	f.DurationVar(&o.timeout, "timeout", 0, "time limit of a statement, a `DURATION` like 10s (default: the master's)")
	f.BoolVar(&o.keep, "keep-going", false, "go on behind a statement that fails; the exit code is 1 all the same")
	f.BoolVar(&o.timing, "timing", false, "say after each statement what it did, who has it and how long it took (default: when typing)")
	return cmd
}

func (o *sqlOptions) run(cmd *cobra.Command, args []string) (err error) {
	input, err := o.input(cmd, args)
	if err != nil {
		return err
	}
	c, err := o.config(cmd)
	if err != nil {
		return err
	}
	conn, err := o.connect(cmd.Context(), cmd)
	if err != nil {
		return err
	}
	defer conn.Close()
	c.Session = conn.NewSession(o.db)
	if input.typed && !cmd.Flags().Changed("timing") {
		c.Timing = true
	}
	sh, err := shell.New(c)
	if err != nil {
		return flagError(cmd, "node", err)
	}
	defer func() {
		open, closeErr := sh.Close(cmd.Context())
		if err = errors.Join(err, closeErr); open && input.typed { // a script's error has said so
			fmt.Fprintln(cmd.ErrOrStderr(), "note: the open transaction was rolled back")
		}
	}()
	if input.typed {
		return interactive(cmd, conn, sh, o.node)
	}
	return input.script(cmd.Context(), sh)
}

// config checks the flags.
func (o *sqlOptions) config(cmd *cobra.Command) (shell.Config, error) {
	c := shell.Config{
		Node: o.node, Timing: o.timing, Timeout: o.timeout, KeepGoing: o.keep,
		Stdout: cmd.OutOrStdout(), Stderr: cmd.ErrOrStderr(), Progress: isTerminal(cmd.ErrOrStderr()),
	}
	var err error
	if c.Format, err = format.ParseKind(o.format); err != nil {
		return c, flagError(cmd, "format", err)
	}
	if o.json {
		c.Format = format.JSON
	}
	if o.ack != "" {
		if c.Ack, err = subjects.ParseAck(o.ack); err != nil {
			return c, flagError(cmd, "ack", err)
		}
	}
	if o.timeout < 0 {
		return c, flagError(cmd, "timeout", errors.New("must not be negative"))
	}
	return c, nil
}

// sqlInput is where the SQL comes from.
type sqlInput struct {
	typed bool      // by a person, on a terminal
	name  string    // for messages; "": the command line
	file  string    // script to open; "": read r
	r     io.Reader //
}

func (o *sqlOptions) input(cmd *cobra.Command, args []string) (sqlInput, error) {
	stdin := cmd.InOrStdin()
	switch {
	case len(o.command) > 0 && len(args) > 0:
		return sqlInput{}, usageError(errors.New("give a SCRIPT or -c, not both"))
	case len(o.command) > 0:
		return sqlInput{r: strings.NewReader(strings.Join(o.command, "\n;\n"))}, nil
	case len(args) == 1 && args[0] != "-":
		return sqlInput{name: args[0], file: args[0]}, nil
	case len(args) == 0 && isTerminal(stdin) && isTerminal(cmd.OutOrStdout()):
		return sqlInput{typed: true}, nil
	}
	return sqlInput{name: "standard input", r: stdin}, nil
}

// script executes what is not typed.
func (in sqlInput) script(ctx context.Context, sh *shell.Shell) error {
	var err error
	if in.file != "" {
		err = sh.File(ctx, in.file)
	} else {
		err = sh.Script(ctx, in.name, in.r, 0)
	}
	if errors.Is(err, shell.ErrQuit) {
		return nil
	}
	return err
}

// interactive is the shell on a terminal. Ctrl-C is for the statement that runs,
// so it must not end the program: only the other signals do.
func interactive(cmd *cobra.Command, conn *client.Client, sh *shell.Shell, node string) error {
	ctx, stop := signal.NotifyContext(context.WithoutCancel(cmd.Context()), syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt)
	defer signal.Stop(interrupts)

	if err := greet(ctx, cmd.ErrOrStderr(), conn, node); err != nil {
		return err
	}
	terminal, err := shell.OpenTerminal(filepath.Join(stateHome(), "history"))
	if terminal == nil {
		return err
	}
	if err != nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "note: %v\n", err)
	}
	closed := make(chan error, 1)
	context.AfterFunc(ctx, func() { closed <- terminal.Close() }) // ends the reading of a line
	err = sh.Interactive(ctx, terminal, interrupts)
	stop()
	return errors.Join(err, <-closed)
}

// greet says where the shell is connected to, so that a wrong address shows before
// the first statement.
func greet(ctx context.Context, out io.Writer, conn *client.Client, node string) error {
	ctx, cancel := context.WithTimeout(ctx, answerPatience)
	defer cancel()
	info, err := conn.Info(ctx)
	switch {
	case err == nil:
		fmt.Fprintf(out, "snapdb %s at %s, %d of %s online\n", info.Version, conn.URL(), info.Online(), format.Count(int64(len(info.Nodes)), "slave"))
	case node == "":
		return err
	default:
		fmt.Fprintf(out, "snapdb at %s, reading from %s; the master does not answer\n", conn.URL(), node)
	}
	fmt.Fprintln(out, `".help" lists commands, Ctrl-D leaves`)
	return nil
}

// answerPatience is how long a command waits for an answer that needs no work.
const answerPatience = 5 * time.Second

// isTerminal says whether a person is at the other end.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
