package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/snapdb/snapdb/agent/client"
)

func authorityCommand() *cobra.Command {
	return group("authority", "replace the authority by which a secured master is known",
		"authority is about the cluster's own certificate authority, whose fingerprint is that of\nthe master.",
		authorityRotateCommand())
}

func authorityRotateCommand() *cobra.Command {
	var d desk
	var grace time.Duration
	var yes bool
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "make a new authority, and print its fingerprint",
		Long: `rotate makes a new authority for the cluster, whose fingerprint it prints. For a time of
grace the master is known by the old one too: nodes, and the logins of these commands,
take over the new one whenever they connect until then; who does not must be told it.

Without grace, for an authority whose key was stolen, everybody must be told: nodes by a
new invitation, people by snapdb login --pin.`,
		Example: "  snapdb authority rotate\n  snapdb authority rotate --grace 0s --yes",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if grace < 0 {
				return flagError(cmd, "grace", fmt.Errorf("must not be negative, not %v", grace))
			}
			if err := confirm(cmd, "replace the authority", yes); err != nil {
				return err
			}
			if grace == 0 {
				grace = -1
			}
			return d.ask(cmd, func(ctx context.Context, c *client.Client) error {
				pin, err := c.RotateAuthority(ctx, grace)
				if err != nil {
					return err
				}
				if d.json {
					return printJSON(cmd.OutOrStdout(), map[string]string{"fingerprint": pin})
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "fingerprint %s\n", pin)
				return err
			})
		},
	}
	d.flags(cmd)
	cmd.Flags().DurationVar(&grace, "grace", 30*24*time.Hour, "how long the old one is good too, a `DURATION` like 720h; 0: not at all")
	yesFlag(cmd.Flags(), &yes)
	return cmd
}
