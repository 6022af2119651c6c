package main

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/snapdb/snapdb/agent/audit"
	"github.com/snapdb/snapdb/agent/client"
	"github.com/snapdb/snapdb/cmd/snapdb/format"
	"github.com/snapdb/snapdb/subjects"
)

// completionPatience is how long pressing Tab may wait for the master.
const completionPatience = 250 * time.Millisecond

// complete gives every command the completion of its flags and arguments.
func complete(cmd *cobra.Command) {
	for name, fn := range map[string]cobra.CompletionFunc{
		"ack":     fixed("log", "insync", "all"),
		"format":  fixed(format.Kinds()...),
		"away":    fixed(string(subjects.AwaySkip), string(subjects.AwayWait), string(subjects.AwayQueue)),
		"level":   fixed("debug", "info", "warn", "error"),
		"role":    fixed(roleNames[:]...),
		"outcome": fixed(string(audit.OK), string(audit.Denied), string(audit.Failed)),
		"node":    live(slaveIDs),
		"db":      live(databaseNames),
		"select":  liveSelectors,
	} {
		if cmd.Flags().Lookup(name) != nil {
			// The only way to fail is a flag that does not exist.
			_ = cmd.RegisterFlagCompletionFunc(name, fn)
		}
	}
	for _, sub := range cmd.Commands() {
		complete(sub)
	}
}

func fixed(words ...string) cobra.CompletionFunc {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return words, cobra.ShellCompDirectiveNoFileComp
	}
}

// live asks the master for the words. If it does not answer at once there are
// none: an error would only get in the way of typing.
func live(words func(*subjects.ClusterInfoResponse) []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		info := liveInfo(cmd)
		if info == nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return words(info), cobra.ShellCompDirectiveNoFileComp
	}
}

// liveInfo is how the cluster is, nil if the master does not answer at once.
func liveInfo(cmd *cobra.Command) *subjects.ClusterInfoResponse {
	return completing(cmd, func(ctx context.Context, c *client.Client) (*subjects.ClusterInfoResponse, error) { return c.Info(ctx) })
}

// completing asks the master something for a completion, with the flags typed so far; the
// answer is the zero value if there is none at once.
func completing[A any](cmd *cobra.Command, ask func(context.Context, *client.Client) (A, error)) (answer A) {
	if settle(cmd) != nil {
		return answer
	}
	at := wayOf(cmd)
	if at.tokenFile == "-" { // standard input is not for this
		return answer
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(cmd.Context()), completionPatience)
	defer cancel()
	c, err := at.connect(ctx, cmd)
	if err != nil {
		return answer
	}
	defer c.Close()
	if got, err := ask(ctx, c); err == nil {
		return got
	}
	return answer
}

// liveSelectors completes the last term of a selector: its key from those that nodes
// have, behind '=' its value. Further terms may follow.
func liveSelectors(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	const more = cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	info := liveInfo(cmd)
	if info == nil {
		return nil, more
	}
	at := strings.LastIndexByte(typed, ',') + 1
	before, term := typed[:at], typed[at:]
	all := map[string]bool{}
	for i := range info.Nodes {
		n := &info.Nodes[i]
		facts := map[string]string{"id": n.ID, "state": string(n.State)}
		if n.Status != nil {
			facts["os"], facts["arch"] = n.Status.OS, n.Status.Arch
			maps.Copy(facts, n.Status.Labels)
		}
		for key, value := range facts {
			word := key + "="
			if strings.Contains(term, "=") {
				word += value
			}
			if strings.HasPrefix(word, term) {
				all[before+word] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(all)), more
}
