package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/snapdb/snapdb/agent/client"
	"github.com/snapdb/snapdb/subjects"
)

// roleNames are the roles, each of which may do what those before it may.
var roleNames = [...]string{"viewer", "writer", "operator", "admin"}

func userCommand() *cobra.Command {
	return group("user", "look after the users of a secured cluster",
		`user is about who may do what in a secured cluster. Each user has a role:

  viewer    reads
  writer    and changes data
  operator  and commands nodes, takes snapshots, compares copies
  admin     and looks after users, invitations and nodes, drops databases

--db bounds all of that to some databases, --select commands to some nodes. Programs
get tokens, which may have less than their user.`,
		userAddCommand(), userListCommand(), userRoleCommand(), userPasswordCommand(), userResetCommand(), userRemoveCommand(),
		userTokenCommand(), userSessionsCommand())
}

// rights are what a user is given.
type rights struct {
	databases []string
	selector  string
}

func (r *rights) flags(f *pflag.FlagSet) {
	f.StringSliceVar(&r.databases, "db", nil, "`NAME` of a database to be bounded to; may be given several times")
	f.StringVar(&r.selector, "select", "", "nodes with these `LABELS` only may be commanded, like room=lab1")
}

// give completes a request by what was said; what was not stays.
func (r *rights) give(cmd *cobra.Command, q *subjects.UserRequest) {
	if cmd.Flags().Changed("db") {
		q.Databases = slices.DeleteFunc(slices.Clone(r.databases), func(db string) bool { return db == "" })
	}
	if cmd.Flags().Changed("select") {
		q.Labels = r.selector
	}
}

func userAddCommand() *cobra.Command {
	var d desk
	var r rights
	var role, file string
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "make a user",
		Long: `add makes a user with a password for one time, which it prints: the user replaces
it at the first login. With --password-file the password is the one in there, and stays.`,
		Example: "  snapdb user add alice --role writer --db Shop\n  snapdb user add bob --role operator --select room=lab1",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			q := subjects.UserRequest{User: args[0], Role: role}
			r.give(cmd, &q)
			if file != "" {
				words, err := passwords(cmd, file)
				if err == nil {
					q.Password, err = words.ask("password of " + q.User)
				}
				if err != nil {
					return err
				}
			}
			return d.ask(cmd, func(ctx context.Context, c *client.Client) error {
				password, err := c.AddUser(ctx, q)
				if err != nil {
					return err
				}
				return d.tellPassword(cmd, q.User, password)
			})
		},
	}
	d.flags(cmd)
	r.flags(cmd.Flags())
	cmd.Flags().StringVar(&role, "role", roleNames[0], "`ROLE` "+roleText())
	cmd.Flags().StringVar(&file, "password-file", "", "`FILE` with the password, -: standard input (default: one for one time is made)")
	return cmd
}

func roleText() string {
	return strings.Join(roleNames[:3], ", ") + " or " + roleNames[3]
}

// tellPassword shows a user's password for one time, if one was made.
func (d *desk) tellPassword(cmd *cobra.Command, user, password string) error {
	out := cmd.OutOrStdout()
	if d.json {
		return printJSON(out, map[string]string{"user": user, "password": password})
	}
	var err error
	if password == "" {
		_, err = fmt.Fprintf(out, "user %s is made\n", user)
	} else {
		_, err = fmt.Fprintf(out, "user      %s\npassword  %s   for one time: login asks for another\n", user, password)
	}
	return err
}

func userListCommand() *cobra.Command {
	var d desk
	cmd := &cobra.Command{
		Use:     "ls",
		Short:   "list the users",
		Long:    "ls lists the users and what they may do. ONE-TIME: the password waits to be replaced.",
		Example: "  snapdb user ls\n  snapdb user ls --json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return d.ask(cmd, func(ctx context.Context, c *client.Client) error {
				all, err := c.Users(ctx)
				if err != nil {
					return err
				}
				return d.list(cmd, map[string]any{"users": all}, []string{"USER", "ROLE", "DATABASES", "NODES", "CREATED", "PASSWORD"}, len(all), func(i int) []string {
					u := all[i]
					return []string{u.User, u.Role, allOr(strings.Join(u.Databases, ", "), u.Databases == nil), allOr(u.Labels, u.Labels == ""), ago(u.Created), map[bool]string{true: "one-time"}[u.MustChange]}
				})
			})
		},
	}
	d.flags(cmd)
	return cmd
}

// list prints n rows, or the same as JSON.
func (d *desk) list(cmd *cobra.Command, asJSON any, head []string, n int, row func(i int) []string) error {
	if d.json {
		return printJSON(cmd.OutOrStdout(), asJSON)
	}
	rows := make([][]string, n)
	for i := range rows {
		rows[i] = row(i)
	}
	return printTable(cmd.OutOrStdout(), head, rows)
}

func userRoleCommand() *cobra.Command {
	var d desk
	var r rights
	cmd := &cobra.Command{
		Use:   "role NAME ROLE",
		Short: "give a user another role, or other bounds",
		Long: `role changes what a user may do, from now on, also for logins and tokens that there
are. Bounds that are not named stay; --db "" and --select "" take them away.`,
		Example:           "  snapdb user role alice operator\n  snapdb user role alice writer --db Shop --db Stock",
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: liveUsers,
		RunE: func(cmd *cobra.Command, args []string) error {
			return d.ask(cmd, func(ctx context.Context, c *client.Client) error {
				all, err := c.Users(ctx)
				if err != nil {
					return err
				}
				q := subjects.UserRequest{User: args[0], Role: args[1]}
				for _, u := range all {
					if u.User == q.User {
						q.Databases, q.Labels = u.Databases, u.Labels
					}
				}
				r.give(cmd, &q)
				if err := c.ChangeUser(ctx, q); err != nil {
					return err
				}
				return d.done(cmd.OutOrStdout(), "%s is %s", q.User, q.Role)
			})
		},
	}
	d.flags(cmd)
	r.flags(cmd.Flags())
	return cmd
}

// done says that something was done.
func (d *desk) done(out io.Writer, text string, args ...any) error {
	if d.json {
		return printJSON(out, map[string]bool{"done": true})
	}
	_, err := fmt.Fprintf(out, text+"\n", args...)
	return err
}

func userPasswordCommand() *cobra.Command {
	var at way
	var file string
	cmd := &cobra.Command{
		Use:   "passwd",
		Short: "change your own password",
		Long: `passwd asks for your password and for a new one. Web sessions end, but tokens, that
of snapdb login too, stay. An admin gives other users a new one with user reset.`,
		Example: "  snapdb user passwd",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			c, err := at.connect(ctx, cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			who, err := whoIs(cmd, c)
			if err != nil {
				return err
			}
			words, err := passwords(cmd, file)
			if err != nil {
				return err
			}
			old, err := words.ask("password of " + who.User)
			if err != nil {
				return err
			}
			if _, err := words.change(cmd, c, old); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "the password of %s is changed\n", who.User)
			return err
		},
	}
	at.flags(cmd.Flags())
	passwordFlag(cmd.Flags(), &file)
	return cmd
}

func userResetCommand() *cobra.Command {
	var d desk
	cmd := &cobra.Command{
		Use:   "reset NAME",
		Short: "give a user a password for one time",
		Long: `reset is for a user who has lost the password, or whose password somebody else may
have: until the new one is replaced neither it nor the user's tokens are of any use.`,
		Example:           "  snapdb user reset alice",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: liveUsers,
		RunE: func(cmd *cobra.Command, args []string) error {
			return d.ask(cmd, func(ctx context.Context, c *client.Client) error {
				password, err := c.ResetUser(ctx, args[0])
				if err != nil {
					return err
				}
				return d.tellPassword(cmd, args[0], password)
			})
		},
	}
	d.flags(cmd)
	return cmd
}

func userRemoveCommand() *cobra.Command {
	var d desk
	var yes bool
	cmd := &cobra.Command{
		Use:               "rm NAME...",
		Short:             "remove users",
		Long:              "rm removes users with their tokens and web sessions, and cuts their connections.",
		Example:           "  snapdb user rm alice\n  snapdb user rm alice --yes",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: liveUsers,
		RunE: func(cmd *cobra.Command, names []string) error {
			return d.each(cmd, "remove "+strings.Join(names, ", "), yes, names, "%s is removed", (*client.Client).RemoveUser)
		},
	}
	d.flags(cmd)
	yesFlag(cmd.Flags(), &yes)
	return cmd
}

// each does something to each of several, after asking; what comes after one that fails is
// done all the same.
func (d *desk) each(cmd *cobra.Command, what string, yes bool, ids []string, said string, do func(*client.Client, context.Context, string) error) error {
	if err := confirm(cmd, what, yes); err != nil {
		return err
	}
	return d.ask(cmd, func(ctx context.Context, c *client.Client) error {
		var errs []error
		for _, id := range ids {
			err := do(c, ctx, id)
			if err == nil && !d.json {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), said+"\n", id)
			}
			errs = append(errs, err)
		}
		err := errors.Join(errs...)
		if err == nil && d.json {
			return printJSON(cmd.OutOrStdout(), map[string]bool{"done": true})
		}
		return err
	})
}

// liveUsers completes the name of a user, and a role behind it.
func liveUsers(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	const nothing = cobra.ShellCompDirectiveNoFileComp
	switch {
	case len(args) == 1 && cmd.Name() == "role":
		return roleNames[:], nothing
	case len(args) > 0 && cmd.Name() != "rm":
		return nil, nothing
	}
	var names []string
	for _, u := range completing(cmd, func(ctx context.Context, c *client.Client) ([]subjects.UserEntry, error) { return c.Users(ctx) }) {
		names = append(names, u.User)
	}
	return names, nothing
}
