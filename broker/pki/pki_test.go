package pki_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/snapdb/snapdb/broker/pki"
)

const day = 24 * time.Hour

// clock is one that goes on when it is told to. Clients have the real one.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func clockAt(fromNow time.Duration) *clock { return &clock{now: time.Now().Add(fromNow)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// notes is what was logged.
type notes struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (n *notes) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.text.Write(p)
}

func (n *notes) count(what string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return bytes.Count(n.text.Bytes(), []byte(what))
}

func (n *notes) logger() *slog.Logger { return slog.New(slog.NewTextHandler(n, nil)) }

func options(c *clock) pki.Options { return pki.Options{Now: c.Now, Logger: new(notes).logger()} }

func open(t testing.TB, dir string, o pki.Options) *pki.Keeper {
	t.Helper()
	k, err := pki.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// newKeeper keeps a folder of its own, as of now.
func newKeeper(t testing.TB) (*pki.Keeper, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tls")
	return open(t, dir, options(clockAt(0))), dir
}

func pinned(t testing.TB, fingerprint string) *tls.Config {
	t.Helper()
	c, err := pki.ClientConfig(fingerprint)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// rooted trusts the CA of a file.
func rooted(t testing.TB, file string) *tls.Config {
	t.Helper()
	c, err := pki.ClientCA(file)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// echo is a server that says what it hears.
func echo(t testing.TB, config *tls.Config) (address string) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	t.Cleanup(func() {
		l.Close()
		serving.Wait()
	})
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				_, _ = io.Copy(c, c) // who is refused hears nothing
			})
		}
	})
	return l.Addr().String()
}

func dial(address string, config *tls.Config) (*tls.Conn, error) {
	return tls.DialWithDialer(&net.Dialer{Timeout: 20 * time.Second}, "tcp", address, config)
}

// say makes sure that a connection is alive.
func say(c *tls.Conn) error {
	if _, err := c.Write([]byte("x")); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return err
}

// shake connects, hears an echo and says what the server has shown.
func shake(address string, config *tls.Config) (tls.ConnectionState, error) {
	c, err := dial(address, config)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer c.Close()
	return c.ConnectionState(), say(c)
}

// leaf is the certificate that a server shows to somebody who takes any.
func leaf(t testing.TB, address string) *x509.Certificate {
	t.Helper()
	s, err := shake(address, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	return s.PeerCertificates[0]
}

// firstCert is the first certificate of a file.
func firstCert(t testing.TB, path string) *x509.Certificate {
	t.Helper()
	for rest := read(t, path); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			t.Fatalf("%s has no certificate", path)
		}
		if block.Type == "CERTIFICATE" {
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
	}
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func write(t testing.TB, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func copyFiles(t testing.TB, from, to string, files ...string) {
	t.Helper()
	for _, f := range files {
		write(t, filepath.Join(to, f), read(t, filepath.Join(from, f)))
	}
}
