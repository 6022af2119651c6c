package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/nats-io/nats.go"

	"github.com/snapdb/snapdb/agent/access"
	"github.com/snapdb/snapdb/agent/signing"
	"github.com/snapdb/snapdb/broker"
)

// Secured says whether a master's data directory has been that of a secured cluster.
func Secured(dir string) (bool, error) {
	_, err := os.Stat(filepath.Join(dir, access.FileName))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look whether the cluster is secured: %w", err)
	}
	return true, nil
}

// secure makes the master one of a secured cluster, whose broker is about to start.
func (m *Master) secure(ctx context.Context, config *broker.Config) error {
	store, err := access.Open(m.opts.Dir, access.Options{Costs: m.opts.hashing})
	if err != nil {
		return err
	}
	if m.oneTime, err = store.Bootstrap(ctx); err != nil {
		return fmt.Errorf("make the first user: %w", err)
	}
	if m.opts.Sign == nil {
		if m.opts.Sign, err = signing.OpenKey(filepath.Join(m.opts.Dir, "_snapdb_signing.json")); err != nil {
			return err
		}
	}
	m.warden = newWarden(store, m.log)
	config.Gate = m.warden.admit
	return nil
}

// token is what a node is given, of an invitation's secret.
func (m *Master) token(secret string) string {
	return Token{Secret: secret, Key: m.opts.Sign.Public()}.String()
}

// FirstPassword is the one-time password of the user admin, if this master has made
// that user: "" otherwise. It is kept nowhere.
func (m *Master) FirstPassword() string { return m.oneTime }

// ConnectPanel opens a connection for the panel, which asks in the names of users that
// it has let in.
func (m *Master) ConnectPanel(opts ...nats.Option) (*nats.Conn, error) {
	return m.broker.ConnectDeputy("snapdb panel", opts...)
}
