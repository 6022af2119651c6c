package main

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/snapdb/snapdb/agent/client"
	"github.com/snapdb/snapdb/broker"
	"github.com/snapdb/snapdb/broker/pki"
	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// natsContext is a context file of the nats tool, with what a cluster takes.
type natsContext struct {
	Description string `json:"description"`
	URL         string `json:"url"`
	User        string `json:"user,omitempty"`
	Password    string `json:"password,omitempty"`
	CA          string `json:"ca,omitempty"`
	API         string `json:"jetstream_api_prefix,omitempty"`
	Inbox       string `json:"inbox_prefix,omitempty"`
}

func natsContextCommand() *cobra.Command {
	var at way
	var name string
	cmd := &cobra.Command{
		Use:   "nats-context",
		Short: "let the plain nats tool into the cluster: write a context for it",
		Long: `nats-context writes a context file where the nats tool looks for them, with what lets
it into a secured cluster as the user of these commands: address, token, the authority
that certifies the master, and the subjects that are the user's own.

The nats tool knows no fingerprints: it takes only an address that is in the master's
certificate (snapdb master --host adds one). The token is that of the login: write the
context again after the next.`,
		Example: `  snapdb nats-context
  nats --context snapdb req db.query '{"db":"Shop","sql":"SELECT * FROM items"}'
  snapdb nats-context --name db1 --server tls://db1:4222 --user alice`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if name == "" || strings.ContainsAny(name, `/\`) || strings.Contains(name, "..") {
				return flagError(cmd, "name", fmt.Errorf("%q cannot be the name of a file", name))
			}
			e, err := at.find(cmd)
			if err != nil {
				return err
			}
			file, err := e.writeContext(cmd.Context(), name)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "written: %s\n  nats --context %s stream ls\n", file, name)
			return err
		},
	}
	at.flags(cmd.Flags())
	cmd.Flags().StringVar(&name, "name", "snapdb", "`NAME` of the context")
	return cmd
}

// writeContext gets in, to see that it can be done, and writes the context of that name.
func (e *entry) writeContext(ctx context.Context, name string) (file string, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerPatience)
	defer cancel()
	c, err := client.Connect(ctx, e.url, e.options)
	if err != nil {
		return "", e.explain(err)
	}
	defer c.Close()
	dir, err := natsContexts()
	if err != nil {
		return "", err
	}
	is := natsContext{Description: "a cluster of snapdb", URL: e.url, CA: e.ca}
	if e.options.User != "" {
		is.User, is.Password = e.options.User, e.options.Secret
		is.API, is.Inbox = broker.APIPrefix, subjects.UserInbox(subjects.CredentialName(is.User, is.Password))
	}
	switch {
	case e.pin != "":
		is.CA = filepath.Join(dir, name+".ca.pem")
		err = e.writeAuthority(c, is.CA)
	case e.ca != "":
		is.CA, err = filepath.Abs(e.ca)
	}
	if err != nil {
		return "", err
	}
	data, err := json.MarshalIndent(is, "", "  ")
	if err != nil {
		return "", fmt.Errorf("encode the context: %w", err)
	}
	file = filepath.Join(dir, name+".json")
	if err := exec.WriteFile(file, append(data, '\n')); err != nil {
		return "", fmt.Errorf("write the context: %w", err)
	}
	return file, nil
}

// natsContexts is the folder in which the nats tool keeps its contexts.
func natsContexts() (string, error) {
	config := os.Getenv("XDG_CONFIG_HOME")
	if config == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("find the contexts of nats: %w", err)
		}
		config = filepath.Join(home, ".config")
	}
	dir := filepath.Join(config, "nats", "context")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("find the contexts of nats: %w", err)
	}
	return dir, nil
}

// writeAuthority writes the certificate of the authority that the fingerprint has proven.
func (e *entry) writeAuthority(c *client.Client, file string) error {
	state, err := c.TLS()
	if err != nil {
		return fmt.Errorf("find the master's authority: %w", err)
	}
	ca := pki.Authority(state, e.pin)
	if ca == nil {
		return errors.New("the master does not show the certificate of the authority with this fingerprint\n  bring the file of the authority here, and give --ca")
	}
	if err := exec.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw})); err != nil {
		return fmt.Errorf("write the master's authority: %w", err)
	}
	return nil
}
