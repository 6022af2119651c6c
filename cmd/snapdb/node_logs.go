package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/snapdb/snapdb/agent/client"
	"github.com/snapdb/snapdb/cmd/snapdb/format"
	"github.com/snapdb/snapdb/subjects"
)

func nodeLogsCommand() *cobra.Command {
	var o order
	var lines int
	var level string
	var goOn bool
	cmd := &cobra.Command{
		Use:   "logs [ID...]",
		Short: "show the newest log lines of nodes",
		Long: `logs shows what nodes have logged lately, and with --follow what they log from
then on, until Ctrl-C. With --json the latter are the lines as nodes write them.` + aboutOrders,
		Example: "  snapdb node logs snap1 --level warn --lines 20 --json\n  snapdb node logs --all --follow",
		Args:    nodeArgs,
		RunE: func(cmd *cobra.Command, ids []string) error {
			if err := subjects.CheckLogLevel(level); err != nil {
				return flagError(cmd, "level", err)
			}
			e := &errand{op: subjects.OpLogs, args: subjects.LogsArgs{Lines: lines, Level: level}, show: printLogs}
			if !goOn {
				return o.run(cmd, ids, e)
			}
			return o.follow(cmd, ids, e, level)
		},
	}
	o.flags(cmd)
	cmd.Flags().IntVar(&lines, "lines", 100, "the newest so many")
	cmd.Flags().StringVar(&level, "level", "", "this `LEVEL` and above: debug, info, warn or error")
	cmd.Flags().BoolVar(&goOn, "follow", false, "go on with what is logged, until Ctrl-C")
	return cmd
}

// logLine is one line that a node has logged.
type logLine struct {
	node string
	raw  []byte
}

// follow shows the newest lines of nodes and then those that come.
func (o *order) follow(cmd *cobra.Command, ids []string, e *errand, level string) error {
	ctx := cmd.Context()
	lines := make(chan logLine, 1024)
	e.prepare = func(_ context.Context, c *client.Client) error { // first, so that no line is missed
		_, err := c.Subscribe(subjects.NodeLog("*"), func(subject string, data []byte) {
			if id, _, ok := subjects.SplitNode(subject); ok {
				select {
				case lines <- logLine{id, data}:
				default: // too slow a terminal; the lines are in the nodes' own logs
				}
			}
		})
		return err
	}
	r, c, err := o.give(cmd, ids, e)
	if err != nil {
		return err
	}
	defer c.Close()
	err = o.result(cmd.OutOrStdout(), r, e.show)
	shown := lastTimes(r)
	for {
		select {
		case line := <-lines:
			fields, at, ok := newer(line, shown, level)
			if !ok {
				continue
			}
			shown[line.node] = at
			text := string(line.raw)
			if !o.json {
				text = strings.Join(logCells(line.node, fields), "  ")
			}
			if _, failed := fmt.Fprintln(cmd.OutOrStdout(), format.Safe(text)); failed != nil {
				return fmt.Errorf("print: %w", failed)
			}
		case <-ctx.Done():
			return err
		}
	}
}

// lastTimes are when the nodes of a record logged the newest line that it has.
func lastTimes(r *subjects.CommandRecord) map[string]time.Time {
	last := map[string]time.Time{}
	for _, n := range r.Nodes {
		var lines []struct{ Time time.Time }
		last[n.Node] = time.Time{}
		if n.State == subjects.CommandDone && json.Unmarshal(n.Output, &lines) == nil && len(lines) > 0 {
			last[n.Node] = lines[len(lines)-1].Time
		}
	}
	return last
}

// newer reads a line. ok says that it is of one of the nodes, was not shown yet, and
// has the level.
func newer(line logLine, shown map[string]time.Time, level string) (fields map[string]any, at time.Time, ok bool) {
	last, meant := shown[line.node]
	var is struct {
		Time  time.Time
		Level slog.Level
	}
	if !meant || json.Unmarshal(line.raw, &is) != nil || readExact(line.raw, &fields) != nil {
		return nil, at, false
	}
	least := slog.LevelDebug
	if level != "" && least.UnmarshalText([]byte(level)) != nil {
		return nil, at, false
	}
	return fields, is.Time, is.Time.After(last) && is.Level >= least
}

// readExact reads JSON and leaves numbers as they are written: sessions and positions are
// no floats.
func readExact(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	return d.Decode(v)
}

// printLogs prints log lines of nodes, node by node.
func printLogs(out io.Writer, r *subjects.CommandRecord) error {
	var rows [][]string
	for _, n := range r.Nodes {
		var lines []map[string]any
		if n.State != subjects.CommandDone || readExact(n.Output, &lines) != nil {
			rows = append(rows, []string{n.Node, "", "", stateWord(n.State) + ": " + n.Reason})
			continue
		}
		for _, line := range lines {
			rows = append(rows, logCells(n.Node, line))
		}
	}
	return printTable(out, []string{"NODE", "TIME", "LEVEL", "LINE"}, rows)
}

// logCells are a log line as people read it: node, time, level and all the rest.
func logCells(node string, line map[string]any) []string {
	text := fmt.Sprint(line["msg"])
	for _, key := range slices.Sorted(maps.Keys(line)) {
		if key != "time" && key != "level" && key != "msg" {
			text += fmt.Sprintf(" %s=%v", key, line[key])
		}
	}
	at, _, _ := strings.Cut(fmt.Sprint(line["time"]), ".")
	return []string{node, at, fmt.Sprint(line["level"]), text}
}
