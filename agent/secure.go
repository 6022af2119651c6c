package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"github.com/nats-io/nats.go"

	"github.com/snapdb/snapdb/agent/access"
	"github.com/snapdb/snapdb/agent/audit"
	"github.com/snapdb/snapdb/agent/signing"
	"github.com/snapdb/snapdb/broker"
	"github.com/snapdb/snapdb/broker/pki"
	"github.com/snapdb/snapdb/exec"
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

// ErrOpen is returned for the data directory of a cluster that is not secured.
var ErrOpen = errors.New("the cluster is not secured: there are no users")

// ResetAdmin gives the user admin of a stopped master a one-time password, for who has lost
// the last admin's but owns the machine. The error wraps exec.ErrInUse while the master
// runs.
func ResetAdmin(ctx context.Context, dir string) (oneTime string, err error) {
	secured, err := Secured(dir)
	if err == nil && !secured {
		err = fmt.Errorf("%s: %w", dir, ErrOpen)
	}
	if err != nil {
		return "", err
	}
	release, err := exec.Lock(dir)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, release()) }()
	store, err := access.Open(dir, access.Options{})
	if err != nil {
		return "", err
	}
	return store.ResetAdmin(ctx)
}

// unmake takes back the first user of a start that failed: nobody has heard the password.
func (m *Master) unmake() error {
	if m.oneTime == "" {
		return nil
	}
	return os.Remove(filepath.Join(m.opts.Dir, access.FileName))
}

// secure makes the master one of a secured cluster, whose broker is about to start, if it
// is to be one. Once it has been one it must.
func (m *Master) secure(ctx context.Context, config *broker.Config) error {
	if !m.opts.Secure {
		was, err := Secured(m.opts.Dir)
		if err == nil && was {
			err = ErrSecured
		}
		return err
	}
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
	if m.certificate, err = m.certify(); err != nil {
		return err
	}
	cluster := m.store.Identity().Cluster
	if m.audit, err = audit.Open(filepath.Join(m.opts.Dir, "audit"), audit.Options{Cluster: cluster, Mask: m.opts.Audit.Mask, MaxBytes: m.opts.Audit.Keep, MaxAge: m.opts.Audit.Age, Logger: m.log}); err != nil {
		return fmt.Errorf("open the audit record: %w", err)
	}
	m.warden = newWarden(store, m.record, m.log)
	config.Gate, config.TLS = m.warden.admit, m.certificate.ServerConfig()
	return nil
}

// certificate shows by TLS who a master is.
type certificate interface {
	ServerConfig() *tls.Config
	Fingerprint() string
}

// certify finds the master's certificate: a brought one, or one of the cluster's own
// authority.
func (m *Master) certify() (certificate, error) {
	own := m.opts.Certificate
	o := pki.Options{Hosts: own.Hosts, Logger: m.log}
	if host, _, err := net.SplitHostPort(m.opts.Listen); err == nil {
		o.Hosts = append(o.Hosts, host)
	}
	if own.File != "" {
		return pki.Own(own.File, own.Key, own.CA, o)
	}
	return pki.Open(filepath.Join(m.opts.Dir, "tls"), o)
}

// token is what a node is given, of an invitation's secret.
func (m *Master) token(secret string) string {
	return Token{Secret: secret, Pin: m.Fingerprint(), Key: m.opts.Sign.Public()}.String()
}

// FirstPassword is the one-time password of the user admin, if this master has made
// that user: "" otherwise. It is kept nowhere.
func (m *Master) FirstPassword() string { return m.oneTime }

// AsPanel are the options of a connection for the panel, which asks in the names of users
// that it has let in.
func (m *Master) AsPanel() []nats.Option { return m.broker.AsDeputy() }

// TLS is by what a secured master shows who it is; nil in an open cluster.
func (m *Master) TLS() *tls.Config {
	if m.certificate == nil {
		return nil
	}
	return m.certificate.ServerConfig()
}

// Fingerprint is that of the authority that certifies the master, by which nodes and
// clients know it; "" if it is one that their systems know, or in an open cluster.
func (m *Master) Fingerprint() string {
	if m.certificate == nil {
		return ""
	}
	return m.certificate.Fingerprint()
}
