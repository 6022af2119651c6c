package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/snapdb/snapdb/agent/client"
	"github.com/snapdb/snapdb/subjects"
)

func userTokenCommand() *cobra.Command {
	return group("token", "make tokens for programs, list and revoke them",
		"token is about what programs show instead of a password: --token-file and SNAPDB_TOKEN\ntake one, with --user, and so does the plain nats CLI as the password.",
		tokenMakeCommand(), tokenListCommand(), tokenRemoveCommand())
}

func tokenMakeCommand() *cobra.Command {
	var d desk
	var q subjects.TokenRequest
	var lasts time.Duration
	cmd := &cobra.Command{
		Use:   "make [USER]",
		Short: "make a token, which is shown this once",
		Long: `make makes a token of your own, or for an admin of any user, and prints it. It may
have a lower role and fewer databases than its user, and what its user loses it loses.`,
		Example:           "  snapdb user token make --label backup --role viewer --expires 8760h > token\n  snapdb user token make shop --label till --db Shop",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: liveUsers,
		RunE: func(cmd *cobra.Command, args []string) error {
			if q.Label == "" {
				return flagError(cmd, "label", errors.New("say what the token is for"))
			}
			if lasts < 0 {
				return flagError(cmd, "expires", fmt.Errorf("must be positive, not %v", lasts))
			}
			if lasts > 0 {
				q.Expires = time.Now().Add(lasts)
			}
			q.User = strings.Join(args, "")
			return d.ask(cmd, func(ctx context.Context, c *client.Client) error {
				made, err := c.MakeToken(ctx, q)
				if err != nil {
					return err
				}
				if d.json {
					return printJSON(cmd.OutOrStdout(), made)
				}
				fmt.Fprintf(cmd.ErrOrStderr(), "token %s, %s:\n", made.ID, good(made.Expires))
				_, err = fmt.Fprintln(cmd.OutOrStdout(), made.Secret)
				return err
			})
		},
	}
	d.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&q.Label, "label", "", "`TEXT` to tell the token by")
	f.StringVar(&q.Role, "role", "", "`ROLE` at most: "+roleText()+" (default: the user's)")
	f.StringSliceVar(&q.Databases, "db", nil, "`NAME` of a database to be bounded to; may be given several times")
	f.DurationVar(&lasts, "expires", 0, "how long the token is good, a `DURATION` like 720h (default: for ever)")
	return cmd
}

// whose is the user that a list is about.
func whose(args []string, everybody bool) (string, error) {
	if everybody && len(args) > 0 {
		return "", usageError(errors.New("give a USER or --all, not both"))
	}
	if everybody {
		return "*", nil
	}
	return strings.Join(args, ""), nil
}

func tokenListCommand() *cobra.Command {
	var d desk
	var all bool
	cmd := &cobra.Command{
		Use:               "ls [USER]",
		Short:             "list tokens",
		Long:              "ls lists your own tokens; for an admin those of any user, or with --all of everybody.",
		Example:           "  snapdb user token ls\n  snapdb user token ls --all --json",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: liveUsers,
		RunE: func(cmd *cobra.Command, args []string) error {
			user, err := whose(args, all)
			if err != nil {
				return err
			}
			return d.ask(cmd, func(ctx context.Context, c *client.Client) error {
				tokens, err := c.Tokens(ctx, user)
				if err != nil {
					return err
				}
				return d.list(cmd, map[string]any{"tokens": tokens}, []string{"TOKEN", "USER", "LABEL", "ROLE", "DATABASES", "CREATED", "USED", "UNTIL"}, len(tokens), func(i int) []string {
					t := tokens[i]
					return []string{t.ID, t.User, t.Label, t.Role, allOr(strings.Join(t.Databases, ", "), t.Databases == nil), ago(t.Created), ago(t.Used), day(t.Expires)}
				})
			})
		},
	}
	d.flags(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "everybody's")
	return cmd
}

func tokenRemoveCommand() *cobra.Command {
	var d desk
	cmd := &cobra.Command{
		Use:     "rm ID...",
		Short:   "revoke tokens",
		Long:    "rm revokes tokens, by the ids that ls shows, and cuts connections made with them.",
		Example: "  snapdb user token rm 67e73584f396",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, ids []string) error {
			return d.each(cmd, "", true, ids, "token %s is revoked", (*client.Client).RevokeToken)
		},
	}
	d.flags(cmd)
	return cmd
}

func userSessionsCommand() *cobra.Command {
	return group("sessions", "list and end logins in browsers",
		"sessions is about the browsers in which users are logged in to the panel.",
		sessionListCommand(), sessionRemoveCommand())
}

func sessionListCommand() *cobra.Command {
	var d desk
	var all bool
	cmd := &cobra.Command{
		Use:               "ls [USER]",
		Short:             "list logins in browsers",
		Long:              "ls lists your own; for an admin those of any user, or with --all of everybody.",
		Example:           "  snapdb user sessions ls\n  snapdb user sessions ls --all",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: liveUsers,
		RunE: func(cmd *cobra.Command, args []string) error {
			user, err := whose(args, all)
			if err != nil {
				return err
			}
			return d.ask(cmd, func(ctx context.Context, c *client.Client) error {
				sessions, err := c.Sessions(ctx, user)
				if err != nil {
					return err
				}
				return d.list(cmd, map[string]any{"sessions": sessions}, []string{"SESSION", "USER", "FROM", "OPENED", "USED", "BROWSER"}, len(sessions), func(i int) []string {
					s := sessions[i]
					return []string{s.ID, s.User, s.From, ago(s.Opened), ago(s.Used), s.Agent}
				})
			})
		},
	}
	d.flags(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "everybody's")
	return cmd
}

func sessionRemoveCommand() *cobra.Command {
	var d desk
	cmd := &cobra.Command{
		Use:     "rm ID...",
		Short:   "end logins in browsers",
		Long:    "rm ends logins in browsers, by the ids that ls shows.",
		Example: "  snapdb user sessions rm 67e73584f396",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, ids []string) error {
			return d.each(cmd, "", true, ids, "session %s is closed", (*client.Client).CloseSession)
		},
	}
	d.flags(cmd)
	return cmd
}
