package pki

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Files of the folder.
const (
	caKeyFile      = "ca.key"
	caCertFile     = "ca.pem"
	serverKeyFile  = "server.key"
	serverCertFile = "server.pem"
)

const (
	// namesEvery is how often it is asked what the server is called: a machine gets
	// other addresses while it runs.
	namesEvery = time.Minute
	// warnBefore is how long before its end a CA is complained about.
	warnBefore = 365 * 24 * time.Hour
)

// Options of [Open] and [Own]. The zero value is good.
type Options struct {
	// Hosts are names and addresses, without ports, under which clients that check them
	// reach the server, beside those of the machine itself. "", 0.0.0.0 and :: stand for
	// all addresses of the machine.
	Hosts []string
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	// Logger is told of renewals and of what goes wrong in them; nil: slog.Default().
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

// Keeper keeps the CA of a cluster and the certificate of its server. It is safe for
// concurrent use.
type Keeper struct {
	dir string
	o   Options

	mu     sync.Mutex
	ca     *authority
	server *tls.Certificate // its own certificate only
	names  names            // those it should have
	asked  time.Time        // when names were found
}

// Open opens the folder of a cluster's CA, and makes all that is not there.
func Open(dir string, o Options) (*Keeper, error) {
	k := &Keeper{dir: dir, o: o.withDefaults()}
	now := k.o.Now()
	var err error
	if k.names, err = namesOf(o.Hosts); err != nil {
		return nil, err
	}
	k.asked = now
	if err := makeFolder(dir); err != nil {
		return nil, err
	}
	if err := k.openCA(now); err != nil {
		return nil, err
	}
	if err := k.checkCopy(); err != nil {
		return nil, err
	}
	if k.server, err = k.openServer(); err != nil {
		return nil, err
	}
	if why := k.due(now); why != "" {
		if err := k.renew(now, why); err != nil {
			return nil, err
		}
	}
	return k, nil
}

func (k *Keeper) path(file string) string { return filepath.Join(k.dir, file) }

// openCA reads the CA, or makes it when there is nothing yet.
func (k *Keeper) openCA(now time.Time) error {
	path := k.path(caKeyFile)
	text, err := readFile(path, anyOther)
	if errors.Is(err, fs.ErrNotExist) {
		return k.makeCA(now)
	}
	if err == nil {
		k.ca, err = decodeAuthority(text)
	}
	if errors.Is(err, ErrDamaged) {
		return fmt.Errorf("CA %s: %w; %s", path, err, k.anew())
	}
	if err != nil {
		return fmt.Errorf("read CA: %w", err)
	}
	if err := checkTime(k.ca.cert, now); err != nil {
		return fmt.Errorf("CA %s: %w; if the clock is right, %s", path, err, k.anew())
	}
	if end := k.ca.cert.NotAfter; end.Sub(now) < warnBefore {
		k.o.Logger.Warn("the CA ends soon; rotate it", "until", end)
	}
	return nil
}

// anew is what remains when a CA is lost.
func (k *Keeper) anew() string {
	return fmt.Sprintf("bring ca.key back from a backup, or move %s away and start again: that makes a new CA, whose fingerprint every client and node must be given", k.dir)
}

// makeCA makes the first CA. Where there are other files, there was one.
func (k *Keeper) makeCA(now time.Time) error {
	for _, file := range []string{caCertFile, serverKeyFile, serverCertFile} {
		if _, err := os.Lstat(k.path(file)); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("CA %s: %w, but %s is there; %s", k.path(caKeyFile), ErrDamaged, file, k.anew())
		}
	}
	ca, err := newAuthority(newCluster(), now)
	if err != nil {
		return err
	}
	if err := k.keepCA(ca); err != nil {
		return err
	}
	k.o.Logger.Info("made a CA for the cluster", "fingerprint", pinOf(ca.cert).String(), "until", ca.cert.NotAfter)
	return nil
}

// keepCA makes a CA the one of the cluster.
func (k *Keeper) keepCA(ca *authority) error {
	text, err := ca.encode()
	if err != nil {
		return err
	}
	if err := writeFile(k.path(caKeyFile), text); err != nil {
		return fmt.Errorf("write CA: %w", err)
	}
	k.ca = ca
	return nil
}

// checkCopy makes sure that the copy of the CA's certificate is one.
func (k *Keeper) checkCopy() error {
	is, err := readFile(k.path(caCertFile), 0)
	if err == nil && bytes.Equal(is, encodeCerts(k.ca.cert.Raw)) {
		return nil
	}
	if err == nil {
		k.o.Logger.Warn("this was not the certificate of the CA in ca.key; it is now", "file", k.path(caCertFile))
	}
	return k.copyCA()
}

func (k *Keeper) copyCA() error {
	if err := writeFile(k.path(caCertFile), encodeCerts(k.ca.cert.Raw)); err != nil {
		return fmt.Errorf("write copy of the CA's certificate: %w", err)
	}
	return nil
}

// openServer reads the server's certificate; nil if it has to be made.
func (k *Keeper) openServer() (*tls.Certificate, error) {
	key, err := readFile(k.path(serverKeyFile), anyOther)
	if errors.Is(err, ErrExposed) {
		return nil, fmt.Errorf("read the server's key: %w; it is made anew when it is not there", err)
	}
	certs, certErr := readFile(k.path(serverCertFile), 0)
	if err = errors.Join(err, certErr); err != nil {
		return nil, k.unlessMissing(err)
	}
	pair, err := tls.X509KeyPair(certs, key)
	if err == nil {
		err = pair.Leaf.CheckSignatureFrom(k.ca.cert)
	}
	if err != nil { // a power cut between the two files, or after a rotation
		k.o.Logger.Warn("the server's certificate cannot be used and is made anew", "error", err)
		return nil, nil
	}
	pair.Certificate = pair.Certificate[:1]
	return &pair, nil
}

func (k *Keeper) unlessMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrDamaged) {
		return nil
	}
	return fmt.Errorf("read the server's certificate: %w", err)
}

// due is why the server needs another certificate; "" if it needs none.
func (k *Keeper) due(now time.Time) string {
	if k.server == nil {
		return "there is none"
	}
	switch c := k.server.Leaf; {
	case now.Before(c.NotBefore):
		return "the clock was set back"
	// At the end of the CA's life another would not last longer.
	case c.NotAfter.Sub(now) < serverLife/3 && c.NotAfter.Before(k.ca.serverEnds(now)):
		return "it ends soon"
	case !k.names.in(c):
		return "it lacks a name or an address"
	}
	return ""
}

// renew gives the server another certificate. It has that also when it cannot be
// stored: then the next start makes one.
func (k *Keeper) renew(now time.Time, why string) error {
	server, err := k.ca.certify(k.names, now)
	if err != nil {
		return err
	}
	k.server = server
	k.o.Logger.Info("made a certificate for the server", "why", why, "until", server.Leaf.NotAfter)
	key, err := encodeKey(server.PrivateKey)
	if err != nil {
		return err
	}
	if err := writeFile(k.path(serverKeyFile), key); err != nil {
		return fmt.Errorf("write the server's key: %w", err)
	}
	certs := encodeCerts(append([][]byte{server.Leaf.Raw}, k.ca.above(now)...)...)
	if err := writeFile(k.path(serverCertFile), certs); err != nil {
		return fmt.Errorf("write the server's certificate: %w", err)
	}
	return nil
}

// certificate is what a handshake shows.
func (k *Keeper) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.o.Now()
	if age := now.Sub(k.asked); age < 0 || age >= namesEvery {
		k.askNames(now)
	}
	if why := k.due(now); why != "" {
		if err := k.renew(now, why); err != nil {
			k.o.Logger.Error("the server's new certificate is not stored", "error", err)
		}
	}
	c := *k.server
	c.Certificate = append([][]byte{c.Leaf.Raw}, k.ca.above(now)...)
	return &c, nil
}

func (k *Keeper) askNames(now time.Time) {
	k.asked = now
	n, err := namesOf(k.o.Hosts)
	if err != nil {
		k.o.Logger.Error("what the server is called is not known", "error", err)
		return
	}
	k.names = n
}

// ServerConfig is for servers that show the certificate, as it is at each handshake.
func (k *Keeper) ServerConfig() *tls.Config { return serverConfig(k.certificate) }

func serverConfig(certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: certificate}
}

// Fingerprint is that of the CA: "sha256:" and the SHA-256 of its public key (the
// SubjectPublicKeyInfo of its certificate) in lower-case hexadecimal.
func (k *Keeper) Fingerprint() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return pinOf(k.ca.cert).String()
}

// Rotate puts a new CA in the place of the one there is, and a new certificate on the
// server. During grace, clients that have the old fingerprint go on: the time to give
// all of them the new one. Without grace, which is for a CA whose key was stolen, they
// are cut off at their next connection. While the grace of a rotation lasts another
// with grace is refused: it would cut off those who know only the first CA.
func (k *Keeper) Rotate(grace time.Duration) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.o.Now()
	if end := k.ca.graceEnds(); grace > 0 && now.Before(end) {
		return fmt.Errorf("%w until %s: clients that have not been given the new fingerprint since would be cut off; wait, or rotate without grace",
			ErrRotating, end.UTC().Format(time.RFC3339))
	}
	ca, err := newAuthority(k.ca.cert.Subject.CommonName, now)
	if err == nil && grace > 0 {
		err = ca.follow(k.ca, now, now.Add(grace))
	}
	if err != nil {
		return err
	}
	if err := k.keepCA(ca); err != nil {
		return err
	}
	k.o.Logger.Info("rotated the CA of the cluster", "fingerprint", pinOf(ca.cert).String(), "grace", max(grace, 0))
	// What fails from here on is made good at the next start.
	if err := errors.Join(k.copyCA(), k.renew(now, "the CA is new")); err != nil {
		k.o.Logger.Error("not all of the new CA is stored", "error", err)
	}
	return nil
}
