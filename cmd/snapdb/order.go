package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/snapdb/snapdb/agent/client"
	"github.com/snapdb/snapdb/cmd/snapdb/format"
	"github.com/snapdb/snapdb/subjects"
)

// watchEvery is how often a command is looked at whose changes are not heard of.
const watchEvery = time.Second

// order is what the commands that command nodes have in common: to whom, when, and
// what becomes of nodes that are away.
type order struct {
	way
	selector, away, expires, at string
	all, json, yes              bool
	batch                       int
	pause, timeout              time.Duration
}

func (o *order) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	o.way.flags(f)
	f.StringVar(&o.selector, "select", "", "the nodes with these `LABELS`, like room=lab1,os=linux")
	f.BoolVar(&o.all, "all", false, "all nodes")
	f.StringVar(&o.away, "away", string(subjects.AwaySkip), "for nodes that are away: `skip`, wait or queue")
	f.StringVar(&o.expires, "expires", "", "not after this `TIME`, or a duration from now (default: in a day)")
	f.StringVar(&o.at, "at", "", "not before this `TIME` like 2027-01-31T18:00, 18:00, or a duration from now")
	f.IntVar(&o.batch, "batch", 0, "so many nodes at a time (0: all at once)")
	f.DurationVar(&o.pause, "pause", 0, "between batches, a `DURATION` like 30s")
	f.DurationVar(&o.timeout, "timeout", 0, "how long a node may be silent, a `DURATION` like 30s (default: by command)")
	f.BoolVar(&o.json, "json", false, "print the record as JSON")
	yesFlag(f, &o.yes)
	cmd.ValidArgsFunction = live(slaveIDs)
}

// errand is one command to nodes.
type errand struct {
	op   subjects.Op
	args any
	// prepare, if not nil, brings what the command carries and sets args.
	prepare func(ctx context.Context, c *client.Client) error
	// asks says what is asked about before it is done; "": nothing is.
	asks string
	// show, if not nil, prints what the nodes answered, instead of a table of it.
	show func(out io.Writer, r *subjects.CommandRecord) error
}

// give sends a command and follows it until it has ended, or only waits for nodes
// that are away.
func (o *order) give(cmd *cobra.Command, ids []string, e *errand) (*subjects.CommandRecord, *client.Client, error) {
	switch subjects.AwayPolicy(o.away) {
	case subjects.AwaySkip, subjects.AwayWait, subjects.AwayQueue:
	default:
		return nil, nil, flagError(cmd, "away", fmt.Errorf("must be %s, %s or %s, not %q", subjects.AwaySkip, subjects.AwayWait, subjects.AwayQueue, o.away))
	}
	req, err := o.request(ids, e.op)
	if err != nil {
		return nil, nil, usageError(err)
	}
	ctx := cmd.Context()
	c, err := o.connect(ctx, cmd)
	if err != nil {
		return nil, nil, err
	}
	r, err := o.giveOver(ctx, cmd, c, req, e)
	if err != nil {
		c.Close()
		return nil, nil, err
	}
	return r, c, nil
}

func (o *order) giveOver(ctx context.Context, cmd *cobra.Command, c *client.Client, req *subjects.CommandRequest, e *errand) (*subjects.CommandRecord, error) {
	short, cancel := context.WithTimeout(ctx, answerPatience)
	defer cancel()
	p, err := c.Preview(short, req)
	if err != nil {
		return nil, err
	}
	fmt.Fprintln(cmd.ErrOrStderr(), format.Safe(o.reach(req, p)))
	if e.asks != "" && len(p.Unknown) == 0 && len(p.Reached)+len(p.Away) > 0 {
		if err := confirm(cmd, e.asks, o.yes); err != nil {
			return nil, err
		}
	}
	if e.prepare != nil {
		if err := e.prepare(ctx, c); err != nil {
			return nil, err
		}
	}
	if e.args != nil {
		if req.Args, err = json.Marshal(e.args); err != nil {
			return nil, fmt.Errorf("encode arguments: %w", err)
		}
	}
	news := make(chan struct{}, 1)
	stop, err := c.Subscribe(subjects.CommandChanged, func(string, []byte) {
		select {
		case news <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return nil, err
	}
	defer stop()
	short, cancel = context.WithTimeout(ctx, answerPatience) // the first may be over, people read slowly
	defer cancel()
	r, err := c.Send(short, req)
	if err != nil {
		return nil, err
	}
	return follow(ctx, cmd, c, r, news)
}

// request is everything about a command but its arguments.
func (o *order) request(ids []string, op subjects.Op) (*subjects.CommandRequest, error) {
	if ways := min(len(ids), 1) + min(len(o.selector), 1); ways > 1 || o.all && ways > 0 || ways == 0 && !o.all {
		return nil, errors.New("say for which nodes: their ids, --select or --all, one of them")
	}
	now := time.Now()
	expires, err := moment(o.expires, now)
	if err != nil {
		return nil, fmt.Errorf("--expires: %w", err)
	}
	at, err := moment(o.at, now)
	if err != nil {
		return nil, fmt.Errorf("--at: %w", err)
	}
	return &subjects.CommandRequest{Op: op, Nodes: ids, Select: o.selector, All: o.all, Away: subjects.AwayPolicy(o.away), Expires: expires, At: at,
		Batch: o.batch, PauseMS: o.pause.Milliseconds(), TimeoutMS: o.timeout.Milliseconds(), By: whoami()}, nil
}

// reach says whom a command reaches, and what becomes of the others.
func (o *order) reach(req *subjects.CommandRequest, p *subjects.CommandPreviewResponse) string {
	text := string(req.Op) + ": reaches " + listed(p.Reached)
	if len(p.Away) > 0 {
		var away []string
		for _, n := range p.Away {
			away = append(away, fmt.Sprintf("%s (%s, seen %s)", n.ID, n.State, ago(n.LastSeen)))
		}
		what := map[subjects.AwayPolicy]string{subjects.AwaySkip: "skipped", subjects.AwayWait: "waited for", subjects.AwayQueue: "reached when they return"}[req.Away]
		text += "; away, " + what + ": " + listed(away)
	}
	return text
}

// listed is a list for people, cut where they would stop reading.
func listed(items []string) string {
	const most = 12
	switch n := len(items); {
	case n == 0:
		return "no node"
	case n > most:
		return fmt.Sprintf("%s and %d more", strings.Join(items[:most], ", "), n-most)
	}
	return strings.Join(items, ", ")
}

// follow watches a command until nothing more is to be waited for, and shows how
// it gets on at a terminal.
func follow(ctx context.Context, cmd *cobra.Command, c *client.Client, r *subjects.CommandRecord, news <-chan struct{}) (*subjects.CommandRecord, error) {
	live := isTerminal(cmd.ErrOrStderr())
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		if live {
			fmt.Fprintf(cmd.ErrOrStderr(), "\r\x1b[K%s", format.Safe(standing(r)))
		}
		waits, err := waitsFor(ctx, c, r)
		if err == nil && waits {
			select {
			case <-news:
			case <-tick.C:
			case <-ctx.Done():
			}
			if err = ctx.Err(); err == nil {
				r, err = commandOf(ctx, c, r)
			}
		}
		if !waits || err != nil {
			if live {
				fmt.Fprint(cmd.ErrOrStderr(), "\r\x1b[K")
			}
			if err != nil {
				err = fmt.Errorf("stopped watching, the command goes on (snapdb command show %s): %w", r.ID, err)
			}
			return r, err
		}
	}
}

// commandOf asks for the record again. While the master is away it stays as it was.
func commandOf(ctx context.Context, c *client.Client, r *subjects.CommandRecord) (*subjects.CommandRecord, error) {
	short, cancel := context.WithTimeout(ctx, answerPatience)
	defer cancel()
	is, err := c.Command(short, r.ID)
	if errors.Is(err, client.ErrUnreachable) || errors.Is(err, client.ErrLost) {
		return r, nil
	}
	if err != nil {
		return r, err
	}
	return is, nil
}

// waitsFor says whether something will happen soon: not if all that has not ended
// waits for its time or for nodes that are away.
func waitsFor(ctx context.Context, c *client.Client, r *subjects.CommandRecord) (bool, error) {
	var queued []string
	for _, n := range r.Nodes {
		switch {
		case n.State == subjects.CommandQueued:
			queued = append(queued, n.Node)
		case !n.State.Ended():
			return true, nil
		}
	}
	if len(queued) == 0 || r.At.After(time.Now()) {
		return false, nil
	}
	if r.Away != subjects.AwayQueue {
		return true, nil // the others end by themselves
	}
	short, cancel := context.WithTimeout(ctx, answerPatience)
	defer cancel()
	p, err := c.Preview(short, &subjects.CommandRequest{Op: r.Op, Nodes: queued})
	if errors.Is(err, client.ErrUnreachable) || errors.Is(err, client.ErrLost) {
		return true, nil // the master is away, and takes it up again
	}
	if err != nil {
		return false, err
	}
	return len(p.Reached) > 0, nil
}

// standing is how a command stands, in a line.
func standing(r *subjects.CommandRecord) string {
	var done, total int64
	states := map[subjects.CommandState]int{}
	for _, n := range r.Nodes {
		states[outcome(&n)]++
		done, total = done+n.Progress, total+n.Total
	}
	var parts []string
	for _, s := range []subjects.CommandState{subjects.CommandQueued, subjects.CommandSent, subjects.CommandAccepted, subjects.CommandDone,
		subjects.CommandFailed, skipped, subjects.CommandTimedOut, subjects.CommandExpired, subjects.CommandCancelled} {
		if states[s] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", states[s], stateWord(s)))
		}
	}
	text := fmt.Sprintf("%s %s: %s", r.Op, r.ID, strings.Join(parts, ", "))
	if total > 0 {
		text += fmt.Sprintf(", %d %%", 100*done/total)
	}
	return text
}

// stateWord is a state as people write it.
func stateWord(s subjects.CommandState) string { return strings.ReplaceAll(string(s), "_", " ") }

// skipped is how people read the failure of a node that was away.
const skipped subjects.CommandState = "skipped"

// outcome is how a command stands on a node, as people read it.
func outcome(n *subjects.NodeOutcome) subjects.CommandState {
	if n.Skipped() {
		return skipped
	}
	return n.State
}

// result prints a record and is the error of a command that some nodes did not
// carry out.
func (o *order) result(out io.Writer, r *subjects.CommandRecord, show func(io.Writer, *subjects.CommandRecord) error) error {
	if o.json {
		return errors.Join(printJSON(out, r), undone(r))
	}
	if show == nil {
		show = printOutcomes
	}
	return errors.Join(show(out, r), undone(r))
}

// undone is the error of a command that not all of its nodes have done.
func undone(r *subjects.CommandRecord) error {
	done := 0
	for _, n := range r.Nodes {
		if n.State == subjects.CommandDone {
			done++
		}
	}
	if done == len(r.Nodes) {
		return nil
	}
	return &undoneError{id: r.ID, done: done, total: len(r.Nodes), open: r.Ended.IsZero()}
}

// undoneError is a command that some of its nodes have not done, or not yet.
type undoneError struct {
	id          string
	done, total int
	open        bool
}

func (e *undoneError) Error() string {
	if e.open {
		return fmt.Sprintf("done by %d of %s so far: snapdb command show %s tells how it goes on", e.done, format.Count(int64(e.total), "node"), e.id)
	}
	return fmt.Sprintf("done by %d of %s: snapdb command retry %s tries the others again", e.done, format.Count(int64(e.total), "node"), e.id)
}

// moment reads a time that somebody types: a duration from now, a time of today,
// or a date with a time, where no zone is given in local time.
func moment(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(d), nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	for _, layout := range []string{"2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02 15:04"} {
		if t, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return t, nil
		}
	}
	if t, err := time.Parse("15:04", text); err == nil {
		at := time.Date(now.Year(), now.Month(), now.Day(), t.Hour(), t.Minute(), 0, 0, now.Location())
		if at.Before(now) {
			at = at.AddDate(0, 0, 1)
		}
		return at, nil
	}
	return time.Time{}, fmt.Errorf("%q is no time: write a duration like 90m, or 18:00, or 2027-01-31T18:00", text)
}

// whoami says who gives a command, for people who look at its record.
func whoami() string {
	name := "somebody"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	return name
}

// split separates what a command is about from the ids of the nodes.
func split(args []string, is func(string) bool) (yes, no []string) {
	return slices.DeleteFunc(slices.Clone(args), func(a string) bool { return !is(a) }), slices.DeleteFunc(slices.Clone(args), is)
}
