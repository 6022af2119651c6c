package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/snapdb/snapdb/agent/client"
	"github.com/snapdb/snapdb/cmd/snapdb/format"
	"github.com/snapdb/snapdb/subjects"
)

// completionPatience is how long pressing Tab may wait for the master.
const completionPatience = 250 * time.Millisecond

// complete gives every command the completion of its flags and arguments.
func complete(cmd *cobra.Command) {
	for name, fn := range map[string]cobra.CompletionFunc{
		"ack":    fixed("log", "insync", "all"),
		"format": fixed(format.Kinds()...),
		"away":   fixed(string(subjects.AwaySkip), string(subjects.AwayWait), string(subjects.AwayQueue)),
		"level":  fixed("debug", "info", "warn", "error"),
		"node":   live(slaveIDs),
		"db":     live(databaseNames),
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
		const nothing = cobra.ShellCompDirectiveNoFileComp
		if settle(cmd) != nil {
			return nil, nothing
		}
		server, err := cmd.Flags().GetString("server")
		if err != nil {
			return nil, nothing
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(cmd.Context()), completionPatience)
		defer cancel()
		c, err := client.Connect(ctx, server, client.Options{Name: "snapdb completion"})
		if err != nil {
			return nil, nothing
		}
		defer c.Close()
		info, err := c.Info(ctx)
		if err != nil {
			return nil, nothing
		}
		return words(info), nothing
	}
}
