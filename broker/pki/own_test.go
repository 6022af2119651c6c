package pki_test

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/snapdb/snapdb/broker/pki"
)

// own uses the files of a folder as if somebody else had made them.
func own(dir string, o pki.Options) (*pki.Files, error) {
	return pki.Own(filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key"), filepath.Join(dir, "ca.pem"), o)
}

func TestOwnCertificatesAreShownWithTheirCA(t *testing.T) {
	k, dir := newKeeper(t)
	f, err := own(dir, options(clockAt(0)))
	if err != nil {
		t.Fatal(err)
	}
	if f.Fingerprint() != k.Fingerprint() {
		t.Errorf("fingerprint %s, want %s", f.Fingerprint(), k.Fingerprint())
	}
	address := echo(t, f.ServerConfig())
	refuses(t, "pinned", address, pinned(t, f.Fingerprint()), nil)
	refuses(t, "rooted", address, rooted(t, filepath.Join(dir, "ca.pem")), nil)

	f, err = pki.Own(filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key"), "", options(clockAt(0)))
	if err != nil || f.Fingerprint() != "" {
		t.Fatalf("without a CA: %v, fingerprint %q", err, f.Fingerprint())
	}
	refuses(t, "rooted", echo(t, f.ServerConfig()), rooted(t, filepath.Join(dir, "ca.pem")), nil)
}

// The files of a cluster after a rotation are such ones: the root is the old CA.
func TestOwnCertificatesMayHangOnIntermediateCAs(t *testing.T) {
	k, dir := newKeeper(t)
	root, old := read(t, filepath.Join(dir, "ca.pem")), k.Fingerprint()
	if err := k.Rotate(time.Hour); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "ca.pem"), root)
	f, err := own(dir, options(clockAt(0)))
	if err != nil || f.Fingerprint() != old {
		t.Fatalf("%v, fingerprint %s, want %s", err, f.Fingerprint(), old)
	}
	address := echo(t, f.ServerConfig())
	refuses(t, "rooted", address, rooted(t, filepath.Join(dir, "ca.pem")), nil)
	// An intermediate CA is none whose fingerprint a client could use.
	if s, err := shake(address, pinned(t, old)); err != nil || pki.Issuer(s) != "" {
		t.Errorf("pinned: %v, issuer %q", err, pki.Issuer(s))
	}
}

func TestAnOwnCertificateMaySignItself(t *testing.T) {
	dir, key := t.TempDir(), newKey(t)
	c := serverTemplate(x509.ExtKeyUsageServerAuth)
	c = sign(t, c, c, &key.PublicKey, key)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "server.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	for _, file := range []string{"server.pem", "ca.pem"} {
		write(t, filepath.Join(dir, file), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	f, err := own(dir, options(clockAt(0)))
	if err != nil {
		t.Fatal(err)
	}
	refuses(t, "pinned", echo(t, f.ServerConfig()), pinned(t, f.Fingerprint()), nil)
}

func TestOwnRefusesWhatCannotBeUsed(t *testing.T) {
	_, good := newKeeper(t)
	_, other := newKeeper(t)
	for name, test := range map[string]struct {
		spoil func(dir string)
		at    time.Duration
		want  error
	}{
		"key of another":      {func(dir string) { copyFiles(t, other, dir, "server.key") }, 0, pki.ErrPair},
		"no key":              {func(dir string) { write(t, filepath.Join(dir, "server.key"), nil) }, 0, pki.ErrPair},
		"CA of another":       {func(dir string) { copyFiles(t, other, dir, "ca.pem") }, 0, pki.ErrPair},
		"CA that is none":     {func(dir string) { copyFiles(t, good, dir, "ca.key"); rename(t, dir, "ca.key", "ca.pem") }, 0, pki.ErrDamaged},
		"expired":             {func(string) {}, 100 * day, pki.ErrExpired},
		"certificate missing": {func(dir string) { rename(t, dir, "server.pem", "x") }, 0, os.ErrNotExist},
		"key open to all": {func(dir string) {
			if err := os.Chmod(filepath.Join(dir, "server.key"), 0o644); err != nil {
				t.Fatal(err)
			}
		}, 0, pki.ErrExposed},
	} {
		t.Run(name, func(t *testing.T) {
			if runtime.GOOS == "windows" && errors.Is(test.want, pki.ErrExposed) {
				return // there are no such modes
			}
			dir := t.TempDir()
			copyFiles(t, good, dir, files...)
			test.spoil(dir)
			if _, err := own(dir, options(clockAt(test.at))); !errors.Is(err, test.want) || !strings.Contains(err.Error(), dir) {
				t.Errorf("error %v, want %v that names the file", err, test.want)
			}
		})
	}
}

func rename(t testing.TB, dir, from, to string) {
	t.Helper()
	if err := os.Rename(filepath.Join(dir, from), filepath.Join(dir, to)); err != nil {
		t.Fatal(err)
	}
}

func TestChangedOwnCertificatesAreTakenAndBrokenOnesAreNot(t *testing.T) {
	first, firstDir := newKeeper(t)
	second, secondDir := newKeeper(t)
	dir, now, log := t.TempDir(), clockAt(0), new(notes)
	copyFiles(t, firstDir, dir, files...)
	f, err := own(dir, pki.Options{Now: now.Now, Logger: log.logger()})
	if err != nil {
		t.Fatal(err)
	}
	address := echo(t, f.ServerConfig())
	still := func(what string, k *pki.Keeper) {
		t.Helper()
		refuses(t, what, address, pinned(t, k.Fingerprint()), nil)
		if f.Fingerprint() != k.Fingerprint() {
			t.Errorf("%s: fingerprint %s, want %s", what, f.Fingerprint(), k.Fingerprint())
		}
	}

	copyFiles(t, secondDir, dir, files...)
	still("within a second", first)
	copyFiles(t, firstDir, dir, "server.key")
	now.pass(time.Second)
	still("with the key of another", first)
	rename(t, dir, "server.pem", "x")
	now.pass(time.Second)
	still("with a file missing", first)
	if n := log.count("cannot be used"); n != 1 {
		t.Errorf("logged %d times", n)
	}
	rename(t, dir, "x", "server.pem")
	copyFiles(t, secondDir, dir, "server.key")
	now.pass(time.Second)
	still("with all of the second", second)
	now.pass(time.Second)
	still("unchanged", second)
	if n := log.count("took"); n != 1 {
		t.Errorf("taken %d times", n)
	}
	write(t, filepath.Join(dir, "server.pem"), []byte("-----BEGIN"))
	now.pass(time.Second)
	still("broken again", second)
	if n := log.count("cannot be used"); n != 2 {
		t.Errorf("logged %d times", n)
	}
}
