package pki_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/snapdb/snapdb/broker/pki"
)

// caOf is the CA of a folder, in the hands of the test.
func caOf(t testing.TB, dir string) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	block, _ := pem.Decode(read(t, filepath.Join(dir, "ca.key")))
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return firstCert(t, filepath.Join(dir, "ca.pem")), key.(*ecdsa.PrivateKey)
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// sign makes a certificate that names an issuer, whosever the key is that signs it.
func sign(t testing.TB, c, issuer *x509.Certificate, public *ecdsa.PublicKey, by *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	named := *issuer
	named.PublicKey = &by.PublicKey
	der, err := x509.CreateCertificate(rand.Reader, c, &named, public, by)
	if err == nil {
		c, err = x509.ParseCertificate(der)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// serving shows certificates, the first with a key.
func serving(key *ecdsa.PrivateKey, shown ...*x509.Certificate) *tls.Config {
	c := tls.Certificate{PrivateKey: key}
	for _, s := range shown {
		c.Certificate = append(c.Certificate, s.Raw)
	}
	return &tls.Config{Certificates: []tls.Certificate{c}}
}

func serverTemplate(usage x509.ExtKeyUsage) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "snapdb master"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{usage}, BasicConstraintsValid: true,
		DNSNames: []string{"localhost"},
	}
}

func TestAPinnedClientTakesOnlyAServerThatTheCAHasCertified(t *testing.T) {
	k, dir := newKeeper(t)
	other, _ := newKeeper(t)
	ca, caKey := caOf(t, dir)
	key := newKey(t)
	server := serverTemplate(x509.ExtKeyUsageServerAuth)
	good := sign(t, server, ca, &key.PublicKey, caKey)
	forged := sign(t, server, server, &key.PublicKey, key)
	like := sign(t, server, ca, &key.PublicKey, key)
	// A CA of its own, with the public key of the cluster's.
	fake := *ca
	fake.AuthorityKeyId = nil
	fakeCA := sign(t, &fake, &fake, &caKey.PublicKey, newKey(t))
	// Certified by the server's key, that is by nobody who may.
	below := sign(t, server, good, &newKey(t).PublicKey, key)
	client := sign(t, serverTemplate(x509.ExtKeyUsageClientAuth), ca, &key.PublicKey, caKey)
	at := func(since time.Duration) *tls.Config {
		return open(t, t.TempDir(), options(clockAt(-since))).ServerConfig()
	}
	short := serverTemplate(x509.ExtKeyUsageServerAuth)
	short.NotAfter = time.Now().Add(-time.Minute)
	expired := sign(t, short, ca, &key.PublicKey, caKey)
	early := serverTemplate(x509.ExtKeyUsageServerAuth)
	early.NotBefore = time.Now().Add(time.Minute)
	tooEarly := sign(t, early, ca, &key.PublicKey, caKey)
	oldCA := *ca
	oldCA.NotBefore, oldCA.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(-time.Minute)
	ended := sign(t, &oldCA, &oldCA, &caKey.PublicKey, caKey)
	old := k.ServerConfig()
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12

	for name, test := range map[string]struct {
		server *tls.Config
		want   error
	}{
		"the cluster's":                        {k.ServerConfig(), nil},
		"certified by the CA":                  {serving(key, good, ca), nil},
		"with others in between":               {serving(key, good, forged, ca), nil},
		"another cluster's":                    {other.ServerConfig(), pki.ErrPin},
		"without its CA":                       {serving(key, good), pki.ErrPin},
		"self-made with the right CA":          {serving(key, forged, ca), pki.ErrForged},
		"self-made that names the right CA":    {serving(key, like, ca), pki.ErrForged},
		"self-made CA with the right key":      {serving(key, like, fakeCA), pki.ErrPin},
		"certified by a server of the CA":      {serving(key, forged, below, good, ca), pki.ErrForged},
		"a client's certificate":               {serving(key, client, ca), pki.ErrForged},
		"expired":                              {serving(key, expired, ca), pki.ErrExpired},
		"not valid yet":                        {serving(key, tooEarly, ca), pki.ErrExpired},
		"with an expired CA":                   {serving(key, good, ended), pki.ErrExpired},
		"with an expired CA and the right one": {serving(key, good, ended, ca), nil},
		"another's, expired":                   {at(100 * day), pki.ErrPin},
		"TLS 1.2":                              {old, pki.ErrVersion},
	} {
		t.Run(name, func(t *testing.T) {
			refuses(t, "pinned", echo(t, test.server), pinned(t, k.Fingerprint()), test.want)
		})
	}
}

func TestExplainSaysWhyAClientWithRootsRefuses(t *testing.T) {
	k, dir := newKeeper(t)
	_, otherDir := newKeeper(t)
	system := pinned(t, "")
	ca := rooted(t, filepath.Join(dir, "ca.pem"))
	misnamed := ca.Clone()
	misnamed.ServerName = "db.example.com"
	old := k.ServerConfig()
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	expired, expiredDir := clockAt(-100*day), t.TempDir()
	expiredConfig := open(t, expiredDir, options(expired)).ServerConfig()

	address := echo(t, k.ServerConfig())
	for name, test := range map[string]struct {
		address string
		client  *tls.Config
		want    error
	}{
		"CA's file":         {address, ca, nil},
		"system's roots":    {address, system, pki.ErrUntrusted},
		"another CA's file": {address, rooted(t, filepath.Join(otherDir, "ca.pem")), pki.ErrUntrusted},
		"another name":      {address, misnamed, pki.ErrHost},
		"expired":           {echo(t, expiredConfig), rooted(t, filepath.Join(expiredDir, "ca.pem")), pki.ErrExpired},
		"TLS 1.2":           {echo(t, old), ca, pki.ErrVersion},
		"plain, CA's file":  {plain(t), ca, pki.ErrPlain},
		"plain, pinned":     {plain(t), pinned(t, k.Fingerprint()), pki.ErrPlain},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := shake(test.address, test.client)
			if err = pki.Explain(err); !errors.Is(err, test.want) || pki.Explain(err) != err {
				t.Errorf("%v, want %v", err, test.want)
			}
		})
	}
}

// plain is a server that greets without TLS.
func plain(t testing.TB) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
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
			_, _ = c.Write([]byte("INFO {\"server_id\":\"x\"}\r\n"))
			_, _ = io.Copy(io.Discard, c) // until the client has had enough
			c.Close()
		}
	})
	return l.Addr().String()
}

func TestExplainLeavesOtherErrorsAlone(t *testing.T) {
	for _, err := range []error{nil, io.ErrUnexpectedEOF} {
		if is := pki.Explain(err); is != err {
			t.Errorf("%v became %v", err, is)
		}
	}
}

func TestATLS12ClientIsRefused(t *testing.T) {
	k, _ := newKeeper(t)
	if _, err := shake(echo(t, k.ServerConfig()), &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}); err == nil {
		t.Error("it was let in")
	}
}

func TestFingerprintsAreReadStrictly(t *testing.T) {
	hex := strings.Repeat("0123456789abcdef", 4)
	for text, good := range map[string]bool{
		"sha256:" + hex: true, "sha256:" + strings.ToUpper(hex): true,
		hex: false, "sha256:": false, "sha256:" + hex[1:]: false, "sha256:" + hex + "0": false, "sha256:" + hex[1:] + "g": false,
		"sha1:" + hex: false, " sha256:" + hex: false, "sha256: " + hex[1:]: false, "SHA256:" + hex: false,
	} {
		if _, err := pki.ClientConfig(text); (err == nil) != good || !good && !errors.Is(err, pki.ErrFingerprint) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestClientCARefusesFilesWithoutCertificates(t *testing.T) {
	_, dir := newKeeper(t)
	if _, err := pki.ClientCA(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if _, err := pki.ClientCA(filepath.Join(dir, "server.key")); !errors.Is(err, pki.ErrDamaged) {
		t.Error(err)
	}
}
