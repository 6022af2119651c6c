package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/snapdb/snapdb/agent/client"
	"github.com/snapdb/snapdb/cmd/snapdb/format"
	"github.com/snapdb/snapdb/subjects"
)

func commandCommand() *cobra.Command {
	return group("command", "look at commands to nodes, cancel them, try them again",
		`command shows what nodes were told and what became of it. Every command is a
record that the master keeps: who gave it, to whom, and how it stands on each node.
snapdb node gives commands.

queued: waits for its time or its node · sent: no answer yet · accepted: the node is
at it · done, failed: the node says so · timed out: no word from the node, it may
have happened · expired, cancelled: it has not happened, or was given up.`,
		commandListCommand(), commandShowCommand(), commandCancelCommand(), commandRetryCommand())
}

// desk is what the commands about records have in common.
type desk struct {
	way
	json bool
}

func (d *desk) flags(cmd *cobra.Command) {
	d.way.flags(cmd.Flags())
	cmd.Flags().BoolVar(&d.json, "json", false, "print JSON")
}

// ask connects for one request.
func (d *desk) ask(cmd *cobra.Command, ask func(ctx context.Context, c *client.Client) error) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), 2*answerPatience) // cancelling asks the nodes
	defer cancel()
	c, err := d.connect(ctx, cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	return ask(ctx, c)
}

func (d *desk) show(out io.Writer, r *subjects.CommandRecord) error {
	if d.json {
		return printJSON(out, r)
	}
	return printCommand(out, r)
}

func commandListCommand() *cobra.Command {
	var d desk
	var node string
	var limit int
	cmd := &cobra.Command{
		Use:     "ls",
		Short:   "list commands, the newest first",
		Long:    "ls lists the newest commands and on how many of their nodes they are done.",
		Example: "  snapdb command ls\n  snapdb command ls --node snap1 --limit 10 --json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return d.ask(cmd, func(ctx context.Context, c *client.Client) error {
				all, err := c.Commands(ctx, node, limit)
				if err != nil {
					return err
				}
				if d.json {
					return printJSON(cmd.OutOrStdout(), subjects.CommandResponse{Commands: all})
				}
				return printCommands(cmd.OutOrStdout(), all)
			})
		},
	}
	d.flags(cmd)
	cmd.Flags().StringVar(&node, "node", "", "only those to the node `ID`")
	cmd.Flags().IntVar(&limit, "limit", 20, "at most so many")
	return cmd
}

func printCommands(out io.Writer, all []subjects.CommandRecord) error {
	rows := make([][]string, len(all))
	for i := range all {
		r := &all[i]
		state := strings.TrimPrefix(standing(r), fmt.Sprintf("%s %s: ", r.Op, r.ID))
		rows[i] = []string{r.ID, string(r.Op), r.To, ago(r.Created), state, r.By}
	}
	return printTable(out, []string{"ID", "OP", "TO", "GIVEN", "STATE", "BY"}, rows)
}

func commandShowCommand() *cobra.Command {
	var d desk
	cmd := &cobra.Command{
		Use:               "show ID",
		Short:             "show a command and what became of it on each node",
		Long:              "show prints the record of one command with the outputs of its nodes.",
		Example:           "  snapdb command show k3mz8qpa",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: liveCommands,
		RunE: func(cmd *cobra.Command, args []string) error {
			return d.ask(cmd, func(ctx context.Context, c *client.Client) error {
				r, err := c.Command(ctx, args[0])
				if err != nil {
					return err
				}
				return d.show(cmd.OutOrStdout(), r)
			})
		},
	}
	d.flags(cmd)
	return cmd
}

func printCommand(out io.Writer, r *subjects.CommandRecord) error {
	facts := [][2]string{{"op", string(r.Op)}, {"args", string(r.Args)}, {"to", r.To}, {"by", r.By}, {"given", clock(r.Created)}, {"not before", clock(r.At)},
		{"expires", clock(r.Expires)}, {"away", string(r.Away)}, {"retry of", r.RetryOf}, {"ended", clock(r.Ended)}}
	if r.Batch > 0 {
		facts = append(facts, [2]string{"batches", fmt.Sprintf("of %d, %s between them", r.Batch, milliseconds(r.PauseMS))})
	}
	fmt.Fprintln(out, format.Safe(r.ID))
	for _, f := range facts {
		if f[1] != "" {
			fmt.Fprintf(out, "  %-11s%s\n", f[0], format.Safe(f[1]))
		}
	}
	return printOutcomes(out, r)
}

func clock(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

// printOutcomes prints how a command stands on its nodes, and what they answered.
func printOutcomes(out io.Writer, r *subjects.CommandRecord) error {
	rows := make([][]string, len(r.Nodes))
	for i, n := range r.Nodes {
		took := ""
		if !n.Sent.IsZero() && !n.Ended.IsZero() {
			took = milliseconds(n.Ended.Sub(n.Sent).Milliseconds())
		}
		text := n.Reason
		if len(n.Output) > 0 && string(n.Output) != "null" {
			text = strings.TrimPrefix(text+"; "+oneLine(n.Output), "; ")
		}
		rows[i] = []string{n.Node, stateWord(outcome(&n)), took, text}
	}
	return printTable(out, []string{"NODE", "STATE", "TOOK", "ANSWER"}, rows)
}

// oneLine is JSON without the space around it, cut for a table.
func oneLine(data json.RawMessage) string {
	var b bytes.Buffer
	if json.Compact(&b, data) != nil {
		return ""
	}
	return shortened(b.String())
}

// shortened is a text cut for a table.
func shortened(text string) string {
	const most = 200
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most]) + "… (--json shows all)"
	}
	return text
}

func commandCancelCommand() *cobra.Command {
	var d desk
	cmd := &cobra.Command{
		Use:   "cancel ID [NODE...]",
		Short: "withdraw a command",
		Long: `cancel withdraws a command from its nodes, or from those named. Where it is still
queued it does not happen; a node that is at it is told to give it up, and says
whether it did.`,
		Example:           "  snapdb command cancel k3mz8qpa",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: liveCommands,
		RunE: func(cmd *cobra.Command, args []string) error {
			return d.ask(cmd, func(ctx context.Context, c *client.Client) error {
				r, err := c.CancelCommand(ctx, &subjects.CommandQuery{ID: args[0], Nodes: args[1:], By: whoami()})
				if err != nil {
					return err
				}
				return d.show(cmd.OutOrStdout(), r)
			})
		},
	}
	d.flags(cmd)
	return cmd
}

func commandRetryCommand() *cobra.Command {
	var d desk
	var yes bool
	cmd := &cobra.Command{
		Use:   "retry ID [NODE...]",
		Short: "give a command again to the nodes that did not do it",
		Long: `retry makes a new command of one that has not been done by all of its nodes, for
those, or for some of them, and follows it. The exit code is 4 if some did not.`,
		Example:           "  snapdb command retry k3mz8qpa",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: liveCommands,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := confirm(cmd, "give command "+args[0]+" again", yes); err != nil {
				return err
			}
			return d.ask(cmd, func(ctx context.Context, c *client.Client) error {
				r, err := c.RetryCommand(ctx, &subjects.CommandQuery{ID: args[0], Nodes: args[1:], By: whoami()})
				if err != nil {
					return err
				}
				if r, err = follow(cmd.Context(), cmd, c, r, nil); err != nil {
					return err
				}
				o := order{json: d.json}
				return o.result(cmd.OutOrStdout(), r, nil)
			})
		},
	}
	d.flags(cmd)
	yesFlag(cmd.Flags(), &yes)
	return cmd
}
