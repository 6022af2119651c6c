package main

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/snapdb/snapdb/agent/client"
	"github.com/snapdb/snapdb/subjects"
)

func nodeInviteCommand() *cobra.Command {
	var d desk
	var q subjects.InvitationRequest
	var lasts time.Duration
	cmd := &cobra.Command{
		Use:   "invite",
		Short: "invite a node to a secured cluster: print how to start it",
		Long: `invite prints the command that starts a slave, to be pasted on its machine. The token
in it lets one node in (or --uses), within the hour (or --expires), and tells it by what
the master is known. The node then makes a key of its own.

The address in the command is that of --server, or of the last login; where that is this
machine's own, put in the one by which the other reaches it. On the other machine
--token-file and SNAPDB_TOKEN keep the token out of the list of processes.

A node that was reinstalled, or revoked, comes back only with --node ID: that is for this
one node, and ends the key that it had.`,
		Example: `  snapdb node invite
  snapdb node invite --uses 10 --expires 24h --label room=lab1
  snapdb node invite --node snap3                  # its machine was replaced
  snapdb node invite --json | jq -r .token`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if lasts <= 0 {
				return flagError(cmd, "expires", fmt.Errorf("must be positive, not %v", lasts))
			}
			q.Expires = time.Now().Add(lasts)
			return d.ask(cmd, func(ctx context.Context, c *client.Client) error {
				made, err := c.Invite(ctx, q)
				if err != nil {
					return err
				}
				return d.tellInvitation(cmd, c, &q, made)
			})
		},
	}
	d.flags(cmd)
	f := cmd.Flags()
	f.StringToStringVar(&q.Labels, "label", nil, "`KEY=VALUE` that the nodes get; may be given several times")
	f.Lookup("label").DefValue = "" // none, which would be shown as []
	f.IntVar(&q.Uses, "uses", 1, "`NUMBER` of nodes it lets in")
	f.DurationVar(&lasts, "expires", time.Hour, "how long it is good, a `DURATION` like 30m or 24h")
	f.StringVar(&q.Node, "node", "", "`ID` of the only node it lets in, also in the place of the one that has it")
	return cmd
}

func (d *desk) tellInvitation(cmd *cobra.Command, c *client.Client, q *subjects.InvitationRequest, made *subjects.Secret) error {
	url := masterURL(c, d.server, cmd.Flags().Changed("server"))
	line := "snapdb slave --nats " + url
	if q.Node != "" {
		line += " --id " + q.Node
	}
	line += " --token " + made.Secret
	if d.json {
		return printJSON(cmd.OutOrStdout(), map[string]any{"id": made.ID, "token": made.Secret, "nats": url, "command": line, "expires": made.Expires})
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "invitation %s for %s, %s:\n", made.ID, nodesText(q), good(made.Expires))
	if _, err := fmt.Fprintln(cmd.OutOrStdout(), line); err != nil {
		return err
	}
	if _, at, _ := strings.Cut(url, "://"); loopback(at) {
		fmt.Fprintln(cmd.ErrOrStderr(), "note: this address is this machine's own: on another, put in the one by which it reaches the master")
	}
	return nil
}

func nodesText(q *subjects.InvitationRequest) string {
	switch {
	case q.Node != "":
		return "node " + q.Node
	case q.Uses == 1:
		return "one node"
	}
	return strconv.Itoa(q.Uses) + " nodes"
}

// masterURL is the address of a secured master as this machine calls it.
func masterURL(c *client.Client, server string, given bool) string {
	if !given {
		server = c.URL()
	}
	server, _, _ = strings.Cut(server, ",")
	if _, rest, ok := strings.Cut(server, "://"); ok {
		server = rest
	}
	if at := strings.LastIndexByte(server, '@'); at >= 0 {
		server = server[at+1:]
	}
	server = strings.TrimSuffix(strings.TrimSpace(server), "/")
	if _, _, err := net.SplitHostPort(server); err != nil {
		server += ":4222"
	}
	return "tls://" + server
}

func nodeInvitationsCommand() *cobra.Command {
	return group("invitations", "list and revoke invitations of nodes",
		"invitations is about what snapdb node invite has made.",
		invitationListCommand(), invitationRemoveCommand())
}

func invitationListCommand() *cobra.Command {
	var d desk
	cmd := &cobra.Command{
		Use:     "ls",
		Short:   "list invitations",
		Long:    "ls lists the invitations, for a week also those that have ended.",
		Example: "  snapdb node invitations ls\n  snapdb node invitations ls --json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return d.ask(cmd, func(ctx context.Context, c *client.Client) error {
				all, err := c.Invitations(ctx)
				if err != nil {
					return err
				}
				return d.list(cmd, map[string]any{"invitations": all}, []string{"INVITATION", "USED", "NODE", "LABELS", "CREATED", "UNTIL"}, len(all), func(i int) []string {
					v := all[i]
					return []string{v.ID, fmt.Sprintf("%d/%d", v.Used, v.Uses), v.Node, labelText(v.Labels), ago(v.Created), day(v.Expires)}
				})
			})
		},
	}
	d.flags(cmd)
	return cmd
}

func invitationRemoveCommand() *cobra.Command {
	var d desk
	cmd := &cobra.Command{
		Use:     "rm ID...",
		Short:   "revoke invitations",
		Long:    "rm revokes invitations. Nodes that came by them stay: node revoke is for those.",
		Example: "  snapdb node invitations rm 67e73584f396",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, ids []string) error {
			return d.each(cmd, "", true, ids, "invitation %s is revoked", (*client.Client).RevokeInvitation)
		},
	}
	d.flags(cmd)
	return cmd
}

func nodeKeysCommand() *cobra.Command {
	var d desk
	cmd := &cobra.Command{
		Use:     "keys",
		Short:   "list the nodes that were let in, and their keys",
		Long:    "keys lists the nodes of a secured cluster that were let in by an invitation, those that\nwere revoked included.",
		Example: "  snapdb node keys\n  snapdb node keys --json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return d.ask(cmd, func(ctx context.Context, c *client.Client) error {
				all, err := c.NodeKeys(ctx)
				if err != nil {
					return err
				}
				return d.list(cmd, map[string]any{"nodes": all}, []string{"NODE", "ENROLLED", "REVOKED", "INVITATION", "LABELS", "KEY"}, len(all), func(i int) []string {
					n := all[i]
					revoked := ""
					if !n.Revoked.IsZero() {
						revoked = ago(n.Revoked)
					}
					return []string{n.ID, ago(n.Enrolled), revoked, n.Invitation, labelText(n.Labels), n.Key}
				})
			})
		},
	}
	d.flags(cmd)
	return cmd
}

func nodeRevokeCommand() *cobra.Command {
	var d desk
	var yes bool
	cmd := &cobra.Command{
		Use:   "revoke ID...",
		Short: "cut nodes off, for good",
		Long: `revoke cuts nodes off at once, and keeps them out: neither their keys nor an open
invitation lets them in again, only one that is for exactly that node (node invite --node
ID). What they have copied they have.`,
		Example:           "  snapdb node revoke snap3\n  snapdb node revoke snap3 --yes",
		Args:              cobra.MatchAll(cobra.MinimumNArgs(1), nodeArgs),
		ValidArgsFunction: live(slaveIDs),
		RunE: func(cmd *cobra.Command, ids []string) error {
			return d.each(cmd, "cut off "+strings.Join(ids, ", "), yes, ids, "%s is cut off", (*client.Client).RevokeNode)
		},
	}
	d.flags(cmd)
	yesFlag(cmd.Flags(), &yes)
	return cmd
}
