package pki_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/snapdb/snapdb/broker/pki"
)

// refuses makes sure that a client is refused for a reason, or let in for none.
func refuses(t testing.TB, who, address string, client *tls.Config, want error) {
	t.Helper()
	if _, err := shake(address, client); !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", who, err, want)
	}
}

func TestDuringItsGraceARotationServesOldAndNewClients(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tls")
	now := clockAt(0)
	k := open(t, dir, options(now))
	old := k.Fingerprint()
	oldCA := rooted(t, filepath.Join(dir, "ca.pem"))
	address := echo(t, k.ServerConfig())
	there, err := dial(address, pinned(t, old))
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()

	// Clients come and go while it happens.
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for range 2 {
		clients.Go(func() {
			for {
				if _, err := shake(address, pinned(t, old)); err != nil {
					t.Errorf("a client that comes meanwhile: %v", err)
					return
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	err = k.Rotate(time.Hour)
	close(stop)
	clients.Wait()
	if err != nil {
		t.Fatal(err)
	}
	fresh := k.Fingerprint()
	if fresh == old {
		t.Fatal("the CA is the same")
	}
	newCA := rooted(t, filepath.Join(dir, "ca.pem"))
	if err := say(there); err != nil {
		t.Errorf("the connection made before: %v", err)
	}

	for _, address := range []string{address, echo(t, open(t, dir, options(now)).ServerConfig())} {
		refuses(t, "old fingerprint", address, pinned(t, old), nil)
		refuses(t, "new fingerprint", address, pinned(t, fresh), nil)
		refuses(t, "old ca.pem", address, oldCA, nil)
		refuses(t, "new ca.pem", address, newCA, nil)
		other, _ := newKeeper(t)
		refuses(t, "another cluster's", address, pinned(t, other.Fingerprint()), pki.ErrPin)
		for _, pin := range []string{old, fresh} {
			if s, err := shake(address, pinned(t, pin)); err != nil || pki.Issuer(s) != fresh {
				t.Errorf("issuer %s, %v, want %s", pki.Issuer(s), err, fresh)
			}
		}
	}
	if err := k.Rotate(time.Hour); !errors.Is(err, pki.ErrRotating) || k.Fingerprint() != fresh {
		t.Errorf("another rotation: %v", err)
	}

	now.pass(time.Hour)
	for _, address := range []string{address, echo(t, open(t, dir, options(now)).ServerConfig())} {
		refuses(t, "old fingerprint after the grace", address, pinned(t, old), pki.ErrPin)
		refuses(t, "new fingerprint after the grace", address, pinned(t, fresh), nil)
		refuses(t, "new ca.pem after the grace", address, newCA, nil)
	}
	if err := k.Rotate(time.Hour); err != nil {
		t.Fatalf("the next rotation: %v", err)
	}
	refuses(t, "fingerprint before last", address, pinned(t, old), pki.ErrPin)
	refuses(t, "last fingerprint", address, pinned(t, fresh), nil)
	refuses(t, "newest fingerprint", address, pinned(t, k.Fingerprint()), nil)
}

func TestARotationWithoutGraceCutsOffTheOldFingerprint(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tls")
	k := open(t, dir, options(clockAt(0)))
	address := echo(t, k.ServerConfig())
	if err := k.Rotate(time.Hour); err != nil {
		t.Fatal(err)
	}
	stolen := k.Fingerprint()
	if err := k.Rotate(0); err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{address, echo(t, open(t, dir, options(clockAt(0))).ServerConfig())} {
		refuses(t, "old fingerprint", address, pinned(t, stolen), pki.ErrPin)
		refuses(t, "new fingerprint", address, pinned(t, k.Fingerprint()), nil)
	}
}

// A power cut can leave any of the other files as it was before.
func TestARotationThatStoppedHalfwayIsFinishedAtTheNextStart(t *testing.T) {
	before := filepath.Join(t.TempDir(), "tls")
	k := open(t, before, options(clockAt(0)))
	old := k.Fingerprint()
	after := t.TempDir()
	copyFiles(t, before, after, files...)
	k = open(t, after, options(clockAt(0)))
	if err := k.Rotate(time.Hour); err != nil {
		t.Fatal(err)
	}
	for bits := range 8 {
		t.Run(fmt.Sprintf("%03b", bits), func(t *testing.T) {
			dir := t.TempDir()
			copyFiles(t, after, dir, "ca.key")
			for i, file := range files[1:] {
				from := before
				if bits>>i&1 == 1 {
					from = after
				}
				copyFiles(t, from, dir, file)
			}
			address := echo(t, open(t, dir, options(clockAt(0))).ServerConfig())
			refuses(t, "old fingerprint", address, pinned(t, old), nil)
			refuses(t, "new fingerprint", address, pinned(t, k.Fingerprint()), nil)
			refuses(t, "new ca.pem", address, rooted(t, filepath.Join(dir, "ca.pem")), nil)
		})
	}
}
