package broker_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/snapdb/snapdb/broker/pki"
)

// over connects with TLS and stays what it was when that is lost.
func over(t testing.TB, url string, config *tls.Config) (*nats.Conn, error) {
	t.Helper()
	nc, err := nats.Connect(url, nats.Secure(config), nats.NoReconnect(), nats.Timeout(testPatience))
	if err == nil {
		t.Cleanup(nc.Close)
	}
	return nc, err
}

func pinned(t testing.TB, fingerprint string) *tls.Config {
	t.Helper()
	c, err := pki.ClientConfig(fingerprint)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestOverTLSTheBrokerServesThoseWhoKnowItAndNobodyElse(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tls")
	keeper, err := pki.Open(dir, pki.Options{Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	other, err := pki.Open(filepath.Join(t.TempDir(), "tls"), pki.Options{Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	c := config(t.TempDir())
	c.TLS = keeper.ServerConfig()
	m := startWith(t, c) // its own connections work without
	if !strings.HasPrefix(m.URL(), "tls://127.0.0.1:") {
		t.Errorf("URL %s", m.URL())
	}
	if m.append("a") == 0 {
		t.Error("the master cannot write")
	}

	ca, err := pki.ClientCA(filepath.Join(dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	for name, config := range map[string]*tls.Config{"fingerprint": pinned(t, keeper.Fingerprint()), "CA's file": ca} {
		nc, err := over(t, m.URL(), config)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		s, err := nc.TLSConnectionState()
		if err != nil || s.Version != tls.VersionTLS13 {
			t.Errorf("%s: version %x, %v", name, s.Version, err)
		}
		roundTrip(t, nc)
	}

	for name, test := range map[string]struct {
		config *tls.Config
		want   error
	}{
		"another fingerprint": {pinned(t, other.Fingerprint()), pki.ErrPin},
		"system's roots":      {pinned(t, ""), pki.ErrUntrusted},
		"TLS 1.2":             {&tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}, nats.ErrTLS},
	} {
		if _, err := over(t, m.URL(), test.config); !errors.Is(pki.Explain(err), test.want) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
	plainIsRefused(t, strings.TrimPrefix(m.URL(), "tls://"))

	// A Restart goes on the same way.
	if err := m.Restart(testContext(t)); err != nil {
		t.Fatal(err)
	}
	nc, err := over(t, m.URL(), pinned(t, keeper.Fingerprint()))
	if err != nil {
		t.Fatal(err)
	}
	roundTrip(t, nc)
}

// roundTrip makes sure that a connection carries messages.
func roundTrip(t testing.TB, nc *nats.Conn) {
	t.Helper()
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err == nil {
		err = nc.Publish(inbox, []byte("x"))
	}
	if err == nil {
		_, err = sub.NextMsg(testPatience)
	}
	if err != nil {
		t.Error(err)
	}
}

// plainIsRefused speaks NATS without TLS, as a client does that looks at nothing.
func plainIsRefused(t testing.TB, address string) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(testPatience)); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(conn)
	if line, err := in.ReadString('\n'); err != nil || !strings.Contains(line, `"tls_required":true`) {
		t.Fatalf("greeted with %q, %v", line, err)
	}
	if _, err := fmt.Fprint(conn, "CONNECT {\"verbose\":true}\r\nPING\r\n"); err != nil {
		t.Fatal(err)
	}
	for {
		line, err := in.ReadBytes('\n')
		if bytes.HasPrefix(line, []byte("PONG")) || bytes.HasPrefix(line, []byte("+OK")) {
			t.Fatalf("answered %q", line)
		}
		if err != nil {
			return
		}
	}
}

func TestACertificateIsRenewedUnderARunningBroker(t *testing.T) {
	var mu sync.Mutex
	now := time.Now().Add(-62 * 24 * time.Hour) // clients have the time of today
	keeper, err := pki.Open(filepath.Join(t.TempDir(), "tls"), pki.Options{Logger: quiet(), Now: func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}})
	if err != nil {
		t.Fatal(err)
	}
	c := config(t.TempDir())
	c.TLS = keeper.ServerConfig()
	m := startWith(t, c)
	old := pinned(t, keeper.Fingerprint())
	first, err := over(t, m.URL(), old)
	if err != nil {
		t.Fatal(err)
	}
	serial := func(nc *nats.Conn) string {
		s, err := nc.TLSConnectionState()
		if err != nil {
			t.Fatal(err)
		}
		return s.PeerCertificates[0].SerialNumber.String()
	}

	mu.Lock()
	now = time.Now()
	mu.Unlock()
	renewed, err := over(t, m.URL(), old)
	if err != nil {
		t.Fatal(err)
	}
	if serial(renewed) == serial(first) {
		t.Error("the certificate is the same")
	}
	if err := keeper.Rotate(time.Hour); err != nil {
		t.Fatal(err)
	}
	rotated, err := over(t, m.URL(), old)
	if err != nil {
		t.Fatal(err)
	}
	s, err := rotated.TLSConnectionState()
	if err != nil || pki.Issuer(s) != keeper.Fingerprint() {
		t.Errorf("issuer %s, %v, want %s", pki.Issuer(s), err, keeper.Fingerprint())
	}
	late, err := over(t, m.URL(), pinned(t, keeper.Fingerprint()))
	if err != nil {
		t.Fatal(err)
	}
	for _, nc := range []*nats.Conn{first, renewed, rotated, late} {
		roundTrip(t, nc)
	}
}
