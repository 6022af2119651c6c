package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/snapdb/snapdb/agent"
	"github.com/snapdb/snapdb/agent/client"
	"github.com/snapdb/snapdb/broker/pki"
)

// way is how every command finds its cluster, knows it, and is let in.
type way struct {
	server, user, tokenFile, pin, ca string
}

func (w *way) flags(f *pflag.FlagSet) {
	f.StringVar(&w.server, "server", client.DefaultURL, "NATS `URL` of the master; if snapdb login was used, where that was last")
	f.StringVar(&w.user, "user", "", "`NAME` of the user in a secured cluster (default: who logged in there)")
	f.StringVar(&w.tokenFile, "token-file", "", "`FILE` with an API token of that user, -: standard input; SNAPDB_TOKEN is one itself (default: that of snapdb login)")
	f.StringVar(&w.pin, "pin", "", "`FINGERPRINT` by which the master is known, as it prints it (default: that of snapdb login)")
	f.StringVar(&w.ca, "ca", "", "PEM `FILE` of the authority that certifies the master")
}

// wayOf is the way that the flags of a command say.
func wayOf(cmd *cobra.Command) *way {
	text := func(flag string) string {
		if f := cmd.Flags().Lookup(flag); f != nil {
			return f.Value.String()
		}
		return ""
	}
	return &way{text("server"), text("user"), text("token-file"), text("pin"), text("ca")}
}

// entry is how to get into a cluster.
type entry struct {
	url     string
	options client.Options
	pin, ca string
	kept    *logins // by one of which the master is known; nil: by what was said
}

// find puts together what the flags say and what was kept by a login.
func (w *way) find(cmd *cobra.Command) (*entry, error) {
	kept, err := readLogins()
	if err != nil {
		return nil, err
	}
	server := ""
	if f := cmd.Flags().Lookup("server"); f != nil && f.Changed {
		server = w.server
	}
	e := &entry{url: w.server, pin: w.pin, ca: w.ca}
	e.options = client.Options{Name: cmd.CommandPath(), User: w.user}
	if e.options.Secret, err = w.token(cmd); err != nil {
		return nil, err
	}
	l := kept.find(server, w.user)
	if like := cmp.Or(l, kept.find(server, "")); like != nil { // another user's will do to know the master
		if server == "" {
			e.url = like.Server
		}
		if w.pin == "" && w.ca == "" {
			e.pin, e.ca, e.kept = like.Pin, like.CA, kept
		}
	}
	if l != nil && e.options.Secret == "" {
		if !l.Expires.IsZero() && time.Now().After(l.Expires) {
			return nil, fmt.Errorf("%w: the login of %s at %s has expired\n  %s", client.ErrDenied, l.User, l.Server, loginLine(l.Server, l.User))
		}
		e.options.User, e.options.Secret = l.User, l.Token
	}
	if e.options.Secret != "" && e.options.User == "" {
		return nil, usageError(errors.New("a token is that of a user: say whose with --user or SNAPDB_USER"))
	}
	if e.options.User != "" && e.options.Secret == "" {
		return nil, fmt.Errorf("%w: %s has not logged in at %s\n  %s; programs take a token from --token-file or SNAPDB_TOKEN", client.ErrDenied, w.user, e.url, loginLine(e.url, w.user))
	}
	e.options.TLS, err = knownBy(e.pin, e.ca, e.options.Secret != "")
	return e, err
}

// token is the API token that was given, "" if none was.
func (w *way) token(cmd *cobra.Command) (string, error) {
	if w.tokenFile != "" {
		token, err := readSecret(cmd.InOrStdin(), w.tokenFile)
		if err != nil {
			return "", flagError(cmd, "token-file", err)
		}
		return token, nil
	}
	token := os.Getenv(envPrefix + "TOKEN")
	if _, err := agent.ParseToken(token); err == nil {
		return "", usageError(errors.New("SNAPDB_TOKEN is the invitation of a slave, not an API token of a user: unset it"))
	}
	return token, nil
}

// connect gets in.
func (w *way) connect(ctx context.Context, cmd *cobra.Command) (*client.Client, error) {
	e, err := w.find(cmd)
	if err != nil {
		return nil, err
	}
	c, err := client.Connect(ctx, e.url, e.options)
	if err != nil {
		return nil, e.explain(err)
	}
	if err := e.learn(c); err != nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "note: the master has another fingerprint from now on, which could not be kept: %v\n", err)
	}
	return c, nil
}

// learn takes over the fingerprint of a new authority, which the old one has proven.
func (e *entry) learn(c *client.Client) error {
	if e.kept == nil || e.pin == "" {
		return nil
	}
	state, err := c.TLS()
	if err != nil {
		return err
	}
	now := pki.Issuer(state)
	if now == "" || now == e.pin {
		return nil
	}
	return e.kept.know(e.url, e.pin, now)
}

// explain says what to do about an error of connecting.
func (e *entry) explain(err error) error {
	switch {
	case errors.Is(err, client.ErrDenied) && e.options.Secret == "":
		return fmt.Errorf("%w\n  the cluster is secured: %s", err, loginLine(e.url, "NAME"))
	case errors.Is(err, client.ErrDenied):
		return fmt.Errorf("%w\n  the token of %s has expired, or was revoked, or is another's: %s", err, e.options.User, loginLine(e.url, e.options.User))
	case errors.Is(err, pki.ErrUntrusted), errors.Is(err, pki.ErrHost):
		return fmt.Errorf("%w\n  %s --pin FINGERPRINT: the master prints it whenever it starts", err, loginLine(e.url, "NAME"))
	}
	return err
}

func loginLine(server, user string) string {
	return "snapdb login --server " + server + " --user " + user
}

// strange says whether an error is that of a server which is not known to be the master.
func strange(err error) bool {
	for _, is := range []error{pki.ErrPin, pki.ErrForged, pki.ErrExpired, pki.ErrUntrusted, pki.ErrHost, pki.ErrVersion, pki.ErrPlain} {
		if errors.Is(err, is) {
			return true
		}
	}
	return false
}
