package pki_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/snapdb/snapdb/broker/pki"
)

var files = []string{"ca.key", "ca.pem", "server.key", "server.pem"}

func TestFirstOpenMakesAllAndTheNextChangesNothing(t *testing.T) {
	k, dir := newKeeper(t)
	if !regexp.MustCompile(`^sha256:[0-9a-f]{64}$`).MatchString(k.Fingerprint()) {
		t.Errorf("fingerprint %q", k.Fingerprint())
	}
	found, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	before := map[string][]byte{}
	for _, f := range found {
		names = append(names, f.Name())
		before[f.Name()] = read(t, filepath.Join(dir, f.Name()))
		info, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		if runtime.GOOS != "windows" && info.Mode() != 0o600 {
			t.Errorf("%s has mode %v", f.Name(), info.Mode())
		}
	}
	if fmt.Sprint(names) != fmt.Sprint(files) {
		t.Errorf("the folder has %v, want %v", names, files)
	}
	if info, err := os.Stat(dir); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o700 {
		t.Errorf("folder %v, %v", info.Mode(), err)
	}

	again := open(t, dir, options(clockAt(0)))
	if again.Fingerprint() != k.Fingerprint() {
		t.Errorf("fingerprint %s, was %s", again.Fingerprint(), k.Fingerprint())
	}
	for name, text := range before {
		if !bytes.Equal(read(t, filepath.Join(dir, name)), text) {
			t.Errorf("%s has changed", name)
		}
	}
	if other, _ := newKeeper(t); other.Fingerprint() == k.Fingerprint() {
		t.Error("two clusters have the same fingerprint")
	}
}

func TestCertificatesSayWhatTheyAreFor(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tls")
	now := clockAt(0)
	o := options(now)
	o.Hosts = []string{"DB.example.com.", "10.1.2.3", "fe80::1%eth0", "0.0.0.0"}
	k := open(t, dir, o)

	ca := firstCert(t, filepath.Join(dir, "ca.pem"))
	if !ca.IsCA || ca.MaxPathLen != 1 || ca.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign || len(ca.ExtKeyUsage) > 0 {
		t.Errorf("the CA: CA %v, %d below, usage %b, %v", ca.IsCA, ca.MaxPathLen, ca.KeyUsage, ca.ExtKeyUsage)
	}
	if !strings.HasPrefix(ca.Subject.CommonName, "snapdb cluster ") {
		t.Errorf("the CA is called %q", ca.Subject)
	}
	if end := now.Now().AddDate(10, 0, 0); ca.NotAfter.Sub(end).Abs() > time.Minute {
		t.Errorf("the CA ends %v, want %v", ca.NotAfter, end)
	}

	c := leaf(t, echo(t, k.ServerConfig()))
	if c.IsCA || !c.BasicConstraintsValid || c.KeyUsage != x509.KeyUsageDigitalSignature || fmt.Sprint(c.ExtKeyUsage) != fmt.Sprint([]x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}) {
		t.Errorf("the server: CA %v, usage %b, %v", c.IsCA, c.KeyUsage, c.ExtKeyUsage)
	}
	if end := now.Now().Add(90 * day); c.NotAfter.Sub(end).Abs() > time.Minute {
		t.Errorf("the server's certificate ends %v, want %v", c.NotAfter, end)
	}
	want := []string{"localhost", "127.0.0.1", "::1", "db.example.com", "10.1.2.3", "fe80::1"}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		if ip := a.(*net.IPNet).IP; !ip.IsLinkLocalUnicast() {
			want = append(want, ip.String())
		}
	}
	for _, host := range want {
		if err := c.VerifyHostname(host); err != nil {
			t.Error(err)
		}
	}
}

func TestAServerCertificateIsRenewedInItsLastThirdWithoutLosingConnections(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tls")
	now := clockAt(-62 * day)
	k := open(t, dir, options(now))
	address := echo(t, k.ServerConfig())
	old, err := dial(address, pinned(t, k.Fingerprint()))
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	first := old.ConnectionState().PeerCertificates[0]

	now.pass(59 * day)
	if c := leaf(t, address); !c.Equal(first) {
		t.Fatal("renewed with more than a third of its life left")
	}
	now.pass(3 * day)
	s, err := shake(address, pinned(t, k.Fingerprint()))
	if err != nil {
		t.Fatal(err)
	}
	second := s.PeerCertificates[0]
	if end := now.Now().Add(90 * day); second.NotAfter.Sub(end).Abs() > time.Minute {
		t.Errorf("the new certificate ends %v, want %v", second.NotAfter, end)
	}
	if bytes.Equal(second.RawSubjectPublicKeyInfo, first.RawSubjectPublicKeyInfo) {
		t.Error("the new certificate has the old key")
	}
	if err := say(old); err != nil {
		t.Errorf("the connection made before: %v", err)
	}
	if c := leaf(t, address); !c.Equal(second) {
		t.Error("renewed again at the next handshake")
	}
	if c := leaf(t, echo(t, open(t, dir, options(now)).ServerConfig())); !c.Equal(second) {
		t.Error("the next start has another certificate")
	}
	now.pass(-63 * day)
	if c := leaf(t, address); c.NotBefore.After(now.Now()) {
		t.Error("after the clock was set back the certificate is not valid yet")
	}
}

func TestAServerCertificateIsRenewedWhenANameIsMissing(t *testing.T) {
	k, dir := newKeeper(t)
	o := options(clockAt(0))
	o.Hosts = []string{"db.lan"}
	again := open(t, dir, o)
	if err := leaf(t, echo(t, again.ServerConfig())).VerifyHostname("db.lan"); err != nil {
		t.Error(err)
	}
	if again.Fingerprint() != k.Fingerprint() {
		t.Error("the CA has changed")
	}
}

func TestARenewedCertificateIsShownThoughItCannotBeStored(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tls")
	now, log := clockAt(-62*day), new(notes)
	k := open(t, dir, pki.Options{Now: now.Now, Logger: log.logger()})
	address := echo(t, k.ServerConfig())
	first := leaf(t, address)
	if err := os.MkdirAll(filepath.Join(dir, "server.key.tmp", "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	now.pass(62 * day)
	for range 3 {
		if c := leaf(t, address); c.Equal(first) {
			t.Fatal("the old certificate is shown")
		}
	}
	if n := log.count("not stored"); n != 1 {
		t.Errorf("logged %d times", n)
	}
	if err := os.RemoveAll(filepath.Join(dir, "server.key.tmp")); err != nil {
		t.Fatal(err)
	}
	if _, err := shake(echo(t, open(t, dir, options(now)).ServerConfig()), pinned(t, k.Fingerprint())); err != nil {
		t.Errorf("after the next start: %v", err)
	}
}

func TestACertificateIsNotRenewedForNothingAtTheEndOfTheCA(t *testing.T) {
	log, now := new(notes), clockAt(-3650*day)
	k := open(t, t.TempDir(), pki.Options{Now: now.Now, Logger: log.logger()})
	address := echo(t, k.ServerConfig())
	now.pass(3645 * day) // ten years have at least 3652 days
	last := leaf(t, address)
	if c := leaf(t, address); !c.Equal(last) || log.count("it ends soon") != 1 {
		t.Errorf("renewed %d times", log.count("it ends soon"))
	}
	now.pass(5 * day)
	if _, err := shake(address, pinned(t, k.Fingerprint())); err != nil {
		t.Errorf("before the end of the CA: %v", err)
	}
}

func TestOpenRefusesWhatItCannotTrustAndSaysWhatToDo(t *testing.T) {
	_, other := newKeeper(t)
	chmod := func(file string, mode os.FileMode) func(string) error {
		return func(dir string) error { return os.Chmod(filepath.Join(dir, file), mode) }
	}
	put := func(text ...[]byte) func(string) error {
		return func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "ca.key"), bytes.Join(text, nil), 0o600)
		}
	}
	_, good := newKeeper(t)
	text := read(t, filepath.Join(good, "ca.key"))
	key, cert, _ := bytes.Cut(text, []byte("-----BEGIN CERT"))
	cert = append([]byte("-----BEGIN CERT"), cert...)
	serverCert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: firstCert(t, filepath.Join(good, "server.pem")).Raw})
	ca, caKey := caOf(t, good)
	notBridge := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: sign(t, ca, firstCert(t, filepath.Join(other, "ca.pem")), &caKey.PublicKey, newKey(t)).Raw})
	foreign := read(t, filepath.Join(other, "ca.pem"))

	for name, test := range map[string]struct {
		spoil func(dir string) error
		at    time.Duration
		want  error
		says  string
	}{
		"CA lost":                     {func(dir string) error { return os.Remove(filepath.Join(dir, "ca.key")) }, 0, pki.ErrDamaged, "backup"},
		"CA empty":                    {put(), 0, pki.ErrDamaged, "backup"},
		"CA cut off":                  {put(text[:len(text)-40]), 0, pki.ErrDamaged, "backup"},
		"CA without certificate":      {put(key), 0, pki.ErrDamaged, "backup"},
		"CA without key":              {put(cert), 0, pki.ErrDamaged, "backup"},
		"certificate of another CA":   {put(key, foreign), 0, pki.ErrDamaged, "another key"},
		"certificate of a server":     {put(read(t, filepath.Join(good, "server.key")), serverCert), 0, pki.ErrDamaged, "not that of a CA"},
		"not from the CA before":      {put(text, foreign, foreign), 0, pki.ErrDamaged, "before"},
		"not signed by the CA before": {put(text, notBridge, foreign), 0, pki.ErrDamaged, "before"},
		"something after it":          {put(text, []byte("x")), 0, pki.ErrDamaged, "follows"},
		"CA is a folder": {func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, "ca.key")), os.Mkdir(filepath.Join(dir, "ca.key"), 0o700))
		}, 0, pki.ErrDamaged, "not a file"},
		"CA too large":           {put(make([]byte, 2<<20)), 0, pki.ErrDamaged, "bytes"},
		"CA readable by all":     {chmod("ca.key", 0o644), 0, pki.ErrExposed, "chmod go-rwx"},
		"CA readable by a group": {chmod("ca.key", 0o640), 0, pki.ErrExposed, "chmod go-rwx"},
		"server's key readable":  {chmod("server.key", 0o604), 0, pki.ErrExposed, "made anew"},
		"folder of all":          {chmod(".", 0o777), 0, pki.ErrExposed, "chmod go-w"},
		"CA expired":             {chmod(".", 0o700), 3700 * day, pki.ErrExpired, "move"},
		"clock before the CA":    {chmod(".", 0o700), -3 * day, pki.ErrExpired, "clock"},
	} {
		t.Run(name, func(t *testing.T) {
			if runtime.GOOS == "windows" && errors.Is(test.want, pki.ErrExposed) {
				return // there are no such modes
			}
			dir := t.TempDir()
			copyFiles(t, good, dir, files...)
			if err := test.spoil(dir); err != nil {
				t.Fatal(err)
			}
			_, err := pki.Open(dir, options(clockAt(test.at)))
			if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), dir) {
				t.Fatalf("error %v, want %v that names %s and says %q", err, test.want, dir, test.says)
			}
		})
	}
}

func TestOpenRefusesHostsThatAreNone(t *testing.T) {
	for _, host := range []string{"db.lan:4222", "a b", "[::1]", "ü.example", "a..b", ".", strings.Repeat("a", 64), strings.Repeat("a.", 127) + "a"} {
		o := options(clockAt(0))
		o.Hosts = []string{host}
		if _, err := pki.Open(t.TempDir(), o); err == nil || !strings.Contains(err.Error(), "host name") {
			t.Errorf("%q: %v", host, err)
		}
	}
}

func TestWhatTheCACanMakeAgainIsMadeAgain(t *testing.T) {
	k, good := newKeeper(t)
	_, other := newKeeper(t)
	for _, file := range files[1:] {
		for name, text := range map[string][]byte{
			"missing": nil, "damaged": []byte("-----BEGIN"), "of another cluster": read(t, filepath.Join(other, file)),
		} {
			t.Run(file+" "+name, func(t *testing.T) {
				dir := t.TempDir()
				copyFiles(t, good, dir, files...)
				if text == nil {
					if err := os.Remove(filepath.Join(dir, file)); err != nil {
						t.Fatal(err)
					}
				} else {
					write(t, filepath.Join(dir, file), text)
				}
				address := echo(t, open(t, dir, options(clockAt(0))).ServerConfig())
				if _, err := shake(address, pinned(t, k.Fingerprint())); err != nil {
					t.Error(err)
				}
				if _, err := shake(address, rooted(t, filepath.Join(dir, "ca.pem"))); err != nil {
					t.Error(err)
				}
			})
		}
	}
}
