package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/snapdb/snapdb/agent/audit"
	"github.com/snapdb/snapdb/agent/client"
	"github.com/snapdb/snapdb/cmd/snapdb/format"
	"github.com/snapdb/snapdb/subjects"
)

// auditLook is what somebody wants to know of an audit log.
type auditLook struct {
	desk
	data, dir, since, outcome string
	verify                    bool
	filter                    audit.Filter
}

func auditCommand() *cobra.Command {
	a := &auditLook{}
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "show who did what, and prove that nothing of that was changed",
		Long: `audit shows what the master of a secured cluster has recorded: logins, changes of users,
commands to nodes, DDL, and what was denied, the newest first. Only an admin may ask it.
With --data it reads the files instead, whether the master runs or not, and changes
nothing.

Every entry carries the hash of the one before. --verify follows them all and says where
one was changed, removed, moved or put in between: the exit code is then 1. That the last
ones are missing, or that all were made anew, is seen only by who has noted the last hash
that --verify showed before, on another machine.`,
		Example: `  snapdb audit --since 24h
  snapdb audit --who alice --action user. --json
  snapdb audit --verify --data /var/lib/snapdb`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.run(cmd) },
	}
	f := cmd.Flags()
	a.flags(cmd)
	f.StringVar(&a.data, "data", "", "`DIR` of the master's data, to read the files in it and not to ask the master")
	f.StringVar(&a.dir, "dir", "", "`DIR` of the audit log itself, if it is not in a master's data")
	f.BoolVar(&a.verify, "verify", false, "prove that what is there is as it was written, instead of showing it")
	f.StringVar(&a.filter.Who, "who", "", "only what this `USER` did, or one of the user's tokens")
	f.StringVar(&a.filter.Action, "action", "", "only this `ACTION`; user. is all that begin so")
	f.StringVar(&a.filter.Target, "target", "", "only what was done to `TARGET`")
	f.StringVar(&a.outcome, "outcome", "", "only what was ok, denied or failed")
	f.StringVar(&a.since, "since", "", "only from this `TIME` on: a duration like 24h, or 18:00, or 2027-01-31T18:00")
	f.IntVar(&a.filter.Limit, "limit", 50, "at most so many")
	return cmd
}

func (a *auditLook) run(cmd *cobra.Command) (err error) {
	switch a.filter.Outcome = audit.Outcome(a.outcome); a.filter.Outcome {
	case "", audit.OK, audit.Denied, audit.Failed:
	default:
		return flagError(cmd, "outcome", fmt.Errorf("must be ok, denied or failed, not %q", a.outcome))
	}
	if a.filter.Limit <= 0 {
		return flagError(cmd, "limit", fmt.Errorf("must be positive, not %d", a.filter.Limit))
	}
	if a.filter.Since, err = pastMoment(a.since, time.Now()); err != nil {
		return flagError(cmd, "since", err)
	}
	if a.dir == "" && a.data == "" {
		if a.verify {
			return a.ask(cmd, func(ctx context.Context, c *client.Client) error { return a.askProof(ctx, cmd.OutOrStdout(), c) })
		}
		return a.ask(cmd, func(ctx context.Context, c *client.Client) error { return a.askEntries(ctx, cmd.OutOrStdout(), c) })
	}
	if a.dir == "" {
		a.dir = filepath.Join(a.data, "audit")
	}
	if a.verify {
		return a.prove(cmd.Context(), cmd.OutOrStdout())
	}
	return a.show(cmd.Context(), cmd.OutOrStdout())
}

// askEntries has the master look.
func (a *auditLook) askEntries(ctx context.Context, out io.Writer, c *client.Client) error {
	lines, err := c.Audit(ctx, subjects.AuditRequest{Who: a.filter.Who, Action: a.filter.Action, Target: a.filter.Target,
		Outcome: a.outcome, Since: a.filter.Since, Limit: a.filter.Limit})
	if err != nil {
		return err
	}
	if a.json {
		return printJSON(out, map[string]any{"entries": lines})
	}
	entries := make([]audit.Entry, len(lines))
	for i, line := range lines {
		if err := json.Unmarshal(line, &entries[i]); err != nil {
			return fmt.Errorf("read an entry of the audit record: %w", err)
		}
	}
	return printAudit(out, entries)
}

func (a *auditLook) askProof(ctx context.Context, out io.Writer, c *client.Client) error {
	r, err := c.AuditVerify(ctx)
	if err != nil {
		return err
	}
	if a.json {
		err = printJSON(out, r)
	} else if r.Bad == "" {
		_, err = fmt.Fprintf(out, "entries: %d, all as they were written\n  first %d\n  last  %d · hash %s\n", r.Entries, r.First, r.Last, r.Hash)
	}
	if r.Bad != "" {
		err = errors.Join(err, fmt.Errorf("the audit record is not as it was written: %s", r.Bad))
	}
	return err
}

// explainFolder says what to do about a folder that cannot be read.
func (a *auditLook) explainFolder(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no audit log in %s: --data names the data directory of a master", a.dir)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: only the user whom the master runs as may read it", err)
	}
	return err
}

func (a *auditLook) show(ctx context.Context, out io.Writer) error {
	entries, damaged := []audit.Entry{}, 0
	a.filter.Newest = true
	for e, err := range audit.ReadDir(ctx, a.dir, a.filter) {
		var d *audit.DamagedError
		switch {
		case errors.As(err, &d):
			damaged++
		case err != nil:
			return a.explainFolder(err)
		default:
			entries = append(entries, e)
		}
	}
	var err error
	if a.json {
		err = printJSON(out, map[string]any{"entries": entries, "damaged": damaged})
	} else {
		err = printAudit(out, entries)
	}
	if damaged > 0 {
		err = errors.Join(err, fmt.Errorf("%s of the audit log cannot be read: snapdb audit --verify tells where it was changed", format.Count(int64(damaged), "line")))
	}
	return err
}

func printAudit(out io.Writer, entries []audit.Entry) error {
	rows := make([][]string, len(entries))
	for i, e := range entries {
		outcome := string(e.Outcome)
		if e.Code != "" && e.Code != outcome {
			outcome += " (" + e.Code + ")"
		}
		rows[i] = []string{strconv.FormatUint(e.N, 10), clock(e.Time), e.Who, e.From, e.Action, e.Target, outcome, shortened(e.Detail)}
	}
	return printFitting(out, []string{"N", "TIME", "WHO", "FROM", "ACTION", "TARGET", "OUTCOME", "DETAIL"}, rows)
}

func (a *auditLook) prove(ctx context.Context, out io.Writer) error {
	r, err := audit.VerifyDir(ctx, a.dir)
	if err != nil {
		return a.explainFolder(err)
	}
	if a.json {
		err = printJSON(out, r)
	} else {
		err = printReport(out, &r)
	}
	if r.Bad != nil {
		err = errors.Join(err, r.Bad)
	}
	return err
}

func printReport(out io.Writer, r *audit.Report) error {
	if r.Entries == 0 {
		_, err := fmt.Fprintln(out, "no entries")
		return err
	}
	text := fmt.Sprintf("entries: %d, all as they were written\n", r.Entries)
	if r.Bad != nil {
		text = fmt.Sprintf("entries: %d\n", r.Entries)
	}
	for _, end := range []struct {
		word string
		at   audit.Place
	}{{"first", r.First}, {"last", r.Last}} {
		text += fmt.Sprintf("  %-6s%d · %s · hash %s\n", end.word, end.at.N, clock(end.at.Time), end.at.Hash)
	}
	if r.First.N > 1 {
		text += "  those before the first were removed\n"
	}
	if r.Torn > 0 {
		text += fmt.Sprintf("  behind the last: %s of one that is being written, or that a crash has cut\n", format.Count(r.Torn, "byte"))
	}
	_, err := io.WriteString(out, text)
	return err
}

// pastMoment reads a time that has been: a duration until now, a time of the last 24
// hours, a date, or one with a time.
func pastMoment(text string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(-d.Abs()), nil
	}
	if t, err := time.ParseInLocation(time.DateOnly, text, now.Location()); err == nil {
		return t, nil
	}
	t, err := moment(text, now)
	if _, ofDay := time.Parse("15:04", text); ofDay == nil && t.After(now) {
		t = t.AddDate(0, 0, -1)
	}
	return t, err
}
