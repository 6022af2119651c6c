package pki

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"sync"
	"time"
)

// lookEvery is how often files of others are looked at.
const lookEvery = time.Second

// Files are certificates that somebody else makes and renews. They are safe for
// concurrent use.
type Files struct {
	cert, key, ca string // paths; ca may be ""
	o             Options

	mu      sync.Mutex
	now     *content
	looked  time.Time
	failing bool // what was last found cannot be used
}

// content is what the files have.
type content struct {
	cert, key, ca []byte
	shown         tls.Certificate
	fingerprint   string
}

// Own uses a certificate and its key from PEM files, which are read again when they
// change; what cannot be used then is logged, and what was there before goes on. The
// certificate's file also has the intermediate CAs, if any. caFile, which may be "",
// has the root that it hangs on: then the fingerprint of that is one for clients.
func Own(certFile, keyFile, caFile string, o Options) (*Files, error) {
	f := &Files{cert: certFile, key: keyFile, ca: caFile, o: o.withDefaults()}
	now := f.o.Now()
	c, err := f.read()
	if err == nil {
		err = f.parse(c, now)
	}
	if err != nil {
		return nil, err
	}
	f.now, f.looked = c, now
	return f, nil
}

func (f *Files) read() (*content, error) {
	c := new(content)
	var err error
	if c.cert, err = readFile(f.cert, 0); err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	// Groups that may read the keys of servers are usual.
	if c.key, err = readFile(f.key, everybody); err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	if f.ca == "" {
		return c, nil
	}
	if c.ca, err = readFile(f.ca, 0); err != nil {
		return nil, fmt.Errorf("read CA: %w", err)
	}
	return c, nil
}

func (c *content) equal(to *content) bool {
	return bytes.Equal(c.cert, to.cert) && bytes.Equal(c.key, to.key) && bytes.Equal(c.ca, to.ca)
}

// parse makes out what the files mean.
func (f *Files) parse(c *content, now time.Time) (err error) {
	c.shown, err = tls.X509KeyPair(c.cert, c.key)
	if err != nil {
		return fmt.Errorf("certificate %s with key %s: %w (%w): give both in PEM, the key without a password", f.cert, f.key, ErrPair, err)
	}
	if err := checkTime(c.shown.Leaf, now); err != nil {
		return fmt.Errorf("certificate %s: %w", f.cert, err)
	}
	if f.ca == "" {
		return nil
	}
	return f.parseCA(c, now)
}

// parseCA finds the way from the certificate up to a root. All of it is shown.
func (f *Files) parseCA(c *content, now time.Time) error {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	certs, err := decodeCerts(c.ca)
	if err != nil {
		return fmt.Errorf("CA %s: %w", f.ca, err)
	}
	for _, cert := range certs {
		if signedByItself(cert) {
			roots.AddCert(cert)
		} else {
			between.AddCert(cert)
		}
	}
	for _, der := range c.shown.Certificate[1:] {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("certificate %s: %w: %w", f.cert, ErrDamaged, err)
		}
		between.AddCert(cert)
	}
	chains, err := c.shown.Leaf.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		return fmt.Errorf("certificate %s with CA %s: %w (%w): give a certificate for servers, with what is between it and the root, and the root as CA", f.cert, f.ca, ErrPair, err)
	}
	c.shown.Certificate = nil
	for _, cert := range chains[0] {
		c.shown.Certificate = append(c.shown.Certificate, cert.Raw)
	}
	c.fingerprint = pinOf(chains[0][len(chains[0])-1]).String()
	return nil
}

// certificate is what a handshake shows.
func (f *Files) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.o.Now()
	if age := now.Sub(f.looked); age < 0 || age >= lookEvery {
		f.looked = now
		f.look(now)
	}
	return &f.now.shown, nil
}

// look takes what the files have now, if it can be used.
func (f *Files) look(now time.Time) {
	c, err := f.read()
	if err == nil && c.equal(f.now) {
		f.failing = false
		return
	}
	if err == nil {
		err = f.parse(c, now)
	}
	if err == nil {
		f.now, f.failing = c, false
		f.o.Logger.Info("took the new certificate of the server", "until", c.shown.Leaf.NotAfter, "fingerprint", c.fingerprint)
		return
	}
	if !f.failing {
		f.failing = true
		f.o.Logger.Error("the new certificate of the server cannot be used; the one before goes on", "error", err)
	}
}

// ServerConfig is for servers that show the certificate, as it is at each handshake.
func (f *Files) ServerConfig() *tls.Config { return serverConfig(f.certificate) }

// Fingerprint is that of the root in the CA's file, for [ClientConfig]; "" if no such
// file was given.
func (f *Files) Fingerprint() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now.fingerprint
}
