package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/snapdb/snapdb/agent/client"
	"github.com/snapdb/snapdb/cmd/snapdb/format"
	"github.com/snapdb/snapdb/subjects"
)

// loginLasts is how long the token of a login is good.
const loginLasts = 30 * 24 * time.Hour

// signIn is what snapdb login is told.
type signIn struct {
	server, user, pin, ca, passwordFile string
}

func loginCommand() *cobra.Command {
	var s signIn
	cmd := &cobra.Command{
		Use:   "login",
		Short: "log in to a secured cluster, so that other commands get in",
		Long: `login asks for the password of a user, once: what it keeps is a token that is good
for 30 days, in a file that only this user of the machine can read. Other commands then
find server, user and token there. Log in to several clusters, or as several users, and
choose with --server and --user: without them the last login counts.

The master must be known before it hears a password: by its fingerprint, which it prints
whenever it starts (--pin), by the file of the authority behind its certificate (--ca),
or else by one that this system knows.

A password for one time is replaced on the spot. Without a terminal the password comes
from --password-file, SNAPDB_PASSWORD or standard input; the new one, if it takes one,
from the next line, or SNAPDB_NEW_PASSWORD.`,
		Example: `  snapdb login --server tls://db1:4222 --pin sha256:6ab4… --user admin
  snapdb login                                            again, where it was last
  snapdb login --server tls://db1.example.org --user alice --password-file -`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return s.run(cmd) },
	}
	f := cmd.Flags()
	f.StringVar(&s.server, "server", client.DefaultURL, "NATS `URL` of the master; if there was a login, where that was last")
	f.StringVar(&s.user, "user", "", "`NAME` of the user (default: who logged in there last)")
	f.StringVar(&s.pin, "pin", "", "`FINGERPRINT` by which the master is known, as it prints it (default: that of the last login there)")
	f.StringVar(&s.ca, "ca", "", "PEM `FILE` of the authority that certifies the master")
	passwordFlag(f, &s.passwordFile)
	return cmd
}

func passwordFlag(f *pflag.FlagSet, file *string) {
	f.StringVar(file, "password-file", "", "`FILE` with the password, -: standard input (default: SNAPDB_PASSWORD, or ask)")
}

// settle completes what was said by what is kept of the last login.
func (s *signIn) settle(cmd *cobra.Command, kept *logins) (last *login, err error) {
	server := ""
	if cmd.Flags().Changed("server") {
		server = s.server
		if err := checkServers(server); err != nil {
			return nil, flagError(cmd, "server", err)
		}
	}
	last = kept.find(server, s.user)
	if like := cmp.Or(last, kept.find(server, "")); like != nil { // another user's will do to know the master
		if server == "" {
			s.server = like.Server
		}
		if s.pin == "" && s.ca == "" {
			s.pin, s.ca = like.Pin, like.CA
		}
	}
	if last != nil {
		s.user = last.User
	}
	if s.user == "" {
		return nil, usageError(errors.New("say who you are: --user NAME"))
	}
	if s.ca != "" {
		if s.ca, err = filepath.Abs(s.ca); err != nil { // for commands in other directories
			return nil, flagError(cmd, "ca", err)
		}
	}
	return last, nil
}

func (s *signIn) run(cmd *cobra.Command) error {
	kept, err := readLogins()
	if err != nil {
		return err
	}
	last, err := s.settle(cmd, kept)
	if err != nil {
		return err
	}
	config, err := knownBy(s.pin, s.ca, true)
	if err != nil {
		return err
	}
	words, err := passwords(cmd, s.passwordFile)
	if err != nil {
		return err
	}
	password, err := words.ask("password of " + s.user)
	if err != nil {
		return err
	}
	as := func(password string) (*client.Client, error) {
		ctx, cancel := context.WithTimeout(cmd.Context(), answerPatience)
		defer cancel()
		c, err := client.Connect(ctx, s.server, client.Options{Name: cmd.CommandPath(), User: s.user, Secret: password, TLS: config})
		return c, s.explain(err)
	}
	c, err := as(password)
	if err != nil {
		return err
	}
	defer func() { c.Close() }()
	who, err := whoIs(cmd, c)
	if err != nil {
		return err
	}
	if who.MustChange {
		fmt.Fprintf(cmd.ErrOrStderr(), "this password is for one time: choose another, of at least %d characters\n", minPassword)
		if password, err = words.change(cmd, c, password); err != nil {
			return err
		}
		c.Close()
		if c, err = as(password); err != nil {
			return err
		}
	}
	return s.keep(cmd, c, who, kept, last)
}

// whoIs asks who a connection is.
func whoIs(cmd *cobra.Command, c *client.Client) (*subjects.Who, error) {
	ctx, cancel := context.WithTimeout(cmd.Context(), answerPatience)
	defer cancel()
	return c.WhoAmI(ctx)
}

// keep makes a token in the place of the password, and keeps that.
func (s *signIn) keep(cmd *cobra.Command, c *client.Client, who *subjects.Who, kept *logins, last *login) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), answerPatience)
	defer cancel()
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	made, err := c.MakeToken(ctx, subjects.TokenRequest{Label: "cli@" + host, Expires: time.Now().Add(loginLasts)})
	if err != nil {
		return err
	}
	is := login{Server: s.server, User: s.user, Token: made.Secret, ID: made.ID, Pin: s.pin, CA: s.ca, Expires: made.Expires}
	if err := kept.keep(is); err != nil {
		return errors.Join(err, c.RevokeToken(ctx, made.ID))
	}
	if last != nil { // it may have ended by itself
		if err := c.RevokeToken(ctx, last.ID); err != nil && wireCode(err) != subjects.CodeNotFound {
			fmt.Fprintf(cmd.ErrOrStderr(), "note: the token of the login before is %s: %v\n", good(last.Expires), err)
		}
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "logged in at %s as %s (%s), until %s\n", s.server, who.User, who.Role, day(made.Expires))
	return err
}

// explain says what to do about an error of logging in.
func (s *signIn) explain(err error) error {
	e := entry{url: s.server}
	if errors.Is(err, client.ErrDenied) {
		return fmt.Errorf("%w\n  user or password are wrong, or there were too many wrong ones: then wait some minutes", err)
	}
	return e.explain(err)
}

// good says how long something is.
func good(until time.Time) string {
	if until.IsZero() {
		return "good for ever"
	}
	return "good until " + day(until)
}

// day is a moment as people say when something ends.
func day(t time.Time) string {
	if t.IsZero() {
		return "for ever"
	}
	return t.Local().Format("2006-01-02 15:04")
}

func logoutCommand() *cobra.Command {
	var server, user string
	cmd := &cobra.Command{
		Use:     "logout",
		Short:   "end a login",
		Long:    "logout revokes the token of a login, the last one if nothing else is said, and\nforgets it.",
		Example: "  snapdb logout\n  snapdb logout --server tls://db1:4222 --user alice",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			kept, err := readLogins()
			if err != nil {
				return err
			}
			is := kept.find(server, user)
			if is == nil {
				return errors.New("there is no such login")
			}
			kept.drop(is.Server, is.User)
			if err := kept.write(); err != nil {
				return err
			}
			if err := revokeLogin(cmd, is); err != nil {
				fmt.Fprintf(cmd.ErrOrStderr(), "note: the token was not revoked, and is %s, for who has a copy: %v\n", good(is.Expires), err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "logged out at %s as %s\n", is.Server, is.User)
			return err
		},
	}
	cmd.Flags().StringVar(&server, "server", "", "NATS `URL` of the master (default: that of the last login)")
	cmd.Flags().StringVar(&user, "user", "", "`NAME` of the user (default: that of the last login there)")
	return cmd
}

func revokeLogin(cmd *cobra.Command, is *login) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), answerPatience)
	defer cancel()
	config, err := knownBy(is.Pin, is.CA, true)
	if err != nil {
		return err
	}
	c, err := client.Connect(ctx, is.Server, client.Options{Name: cmd.CommandPath(), User: is.User, Secret: is.Token, TLS: config})
	if err != nil {
		return err
	}
	defer c.Close()
	return c.RevokeToken(ctx, is.ID)
}

func whoAmICommand() *cobra.Command {
	var d desk
	cmd := &cobra.Command{
		Use:     "whoami",
		Short:   "show who you are in a secured cluster, and what you may do",
		Long:    "whoami asks the master who the commands of this user of the machine come from.",
		Example: "  snapdb whoami\n  snapdb whoami --json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return d.ask(cmd, func(ctx context.Context, c *client.Client) error {
				who, err := c.WhoAmI(ctx)
				if err != nil {
					return err
				}
				out := cmd.OutOrStdout()
				if d.json {
					return printJSON(out, who)
				}
				_, err = fmt.Fprintf(out, "user       %s\nrole       %s\ndatabases  %s\nnodes      %s\nuntil      %s\n",
					format.Safe(who.User), who.Role, format.Safe(allOr(strings.Join(who.Databases, ", "), who.Databases == nil)), format.Safe(allOr(who.Labels, who.Labels == "")), day(who.Expires))
				return err
			})
		},
	}
	d.flags(cmd)
	return cmd
}

func allOr(text string, all bool) string {
	if all {
		return "all"
	}
	return text
}
