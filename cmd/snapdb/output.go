package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/snapdb/snapdb/agent/client"
	"github.com/snapdb/snapdb/cmd/snapdb/format"
	"github.com/snapdb/snapdb/subjects"
)

// look is what the commands that show how a cluster is have in common.
type look struct {
	way
	json    bool
	timeout time.Duration
}

func (l *look) flags(cmd *cobra.Command, timeout time.Duration) {
	f := cmd.Flags()
	l.way.flags(f)
	f.BoolVar(&l.json, "json", false, "print JSON")
	f.DurationVar(&l.timeout, "timeout", timeout, "how long to wait for answers, a `DURATION` like 10s")
}

// cluster connects and asks the master how the cluster is. done ends both the
// connection and ctx, which is good for the command's time limit.
func (l *look) cluster(cmd *cobra.Command) (ctx context.Context, c *client.Client, info *subjects.ClusterInfoResponse, done func(), err error) {
	if l.timeout <= 0 {
		return nil, nil, nil, nil, flagError(cmd, "timeout", fmt.Errorf("must be positive, not %v", l.timeout))
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), l.timeout)
	c, err = l.connect(ctx, cmd)
	if err != nil {
		cancel()
		return nil, nil, nil, nil, err
	}
	done = func() {
		c.Close()
		cancel()
	}
	if info, err = c.Info(ctx); err != nil {
		done()
		return nil, nil, nil, nil, err
	}
	if info.Omitted != "" {
		fmt.Fprintf(cmd.ErrOrStderr(), "note: the answer has no room for %s\n", info.Omitted)
	}
	return ctx, c, info, done, nil
}

func yesFlag(f *pflag.FlagSet, yes *bool) {
	f.BoolVar(yes, "yes", false, "do it without asking")
}

// mayWrite says whether a file can be made: what is there is only replaced if that was
// asked for.
func mayWrite(file string, replace bool) error {
	switch _, err := os.Lstat(file); {
	case err == nil && !replace:
		return fmt.Errorf("%s is there already: --yes replaces it", file)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return nil
}

// confirm asks whoever sits at the terminal before something that cannot be undone.
// Where nobody can be asked, --yes must say so.
func confirm(cmd *cobra.Command, what string, yes bool) error {
	if yes {
		return nil
	}
	if !isTerminal(cmd.InOrStdin()) || !isTerminal(cmd.ErrOrStderr()) {
		return usageError(fmt.Errorf("to %s, say --yes: there is no terminal to ask at", what))
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "really %s? [y/N] ", what)
	line := make(chan string, 1)
	go func() { // ends with the process if nobody answers
		text, _ := bufio.NewReader(cmd.InOrStdin()).ReadString('\n') // an end of input is a no
		line <- strings.ToLower(strings.TrimSpace(text))
	}()
	select {
	case answer := <-line:
		if answer == "y" || answer == "yes" {
			return nil
		}
	case <-cmd.Context().Done():
		fmt.Fprintln(cmd.ErrOrStderr())
	}
	return errors.New("nothing was done")
}

// each calls ask for every item at the same time and waits for all.
func each[T any](items []T, ask func(i int, item T)) {
	var wg sync.WaitGroup
	for i, item := range items {
		wg.Go(func() { ask(i, item) })
	}
	wg.Wait()
}

// answered is the error of a command that so many of the nodes carried out.
func answered(done, total int) error {
	if done == total {
		return nil
	}
	return &partlyError{done: done, total: total}
}

// printJSON writes one object, indented: people look at it too.
func printJSON(out io.Writer, v any) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// printTable writes rows in columns. What nodes say of themselves cannot harm the
// terminal.
func printTable(out io.Writer, head []string, rows [][]string) error {
	return printFitting(out, head, rows)
}

// printFitting is printTable that leaves out columns, the first named first, where a
// terminal has no room for them. Where there is none, it has room for all.
func printFitting(out io.Writer, head []string, rows [][]string, spare ...string) error {
	all := append([][]string{head}, rows...)
	for _, row := range all {
		for i := range row {
			row[i] = format.Safe(row[i])
		}
	}
	widths := columnWidths(all)
	for room := columns(out); len(spare) > 0 && 2*len(widths)-2+sum(widths) > room; spare = spare[1:] {
		drop := slices.Index(head, spare[0])
		for i := range all {
			all[i] = slices.Delete(slices.Clone(all[i]), drop, drop+1)
		}
		head, widths = all[0], columnWidths(all)
	}
	var b strings.Builder
	for _, row := range all {
		line := ""
		for i, cell := range row {
			line += cell + strings.Repeat(" ", widths[i]-format.Width(cell)+2)
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	if _, err := io.WriteString(out, b.String()); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// columnWidths are how wide the columns of a table must be.
func columnWidths(rows [][]string) []int {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], format.Width(cell))
		}
	}
	return widths
}

func sum(widths []int) int {
	n := 0
	for _, w := range widths {
		n += w
	}
	return n
}

// columns is how wide the terminal is that out is, no limit if it is none.
func columns(out io.Writer) int {
	if f, ok := out.(*os.File); ok {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
			return width
		}
	}
	return math.MaxInt
}

// ago is how long ago a moment was, as people say it.
func ago(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	switch d := time.Since(t); {
	case d < 2*time.Second:
		return "now"
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s ago", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h ago", int(d.Hours()))
	default:
		return fmt.Sprintf("%d days ago", int(d.Hours()/24))
	}
}
