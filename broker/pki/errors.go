package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// Why a client refuses a server.
var (
	// ErrPin: what the server shows has nothing of the CA with the fingerprint.
	ErrPin = errors.New("the server does not belong to the cluster with this fingerprint: check the address, compare the fingerprint with the one the master says it has, and if both are right, somebody may be in between")
	// ErrForged: the server shows the right CA, which has not certified it.
	ErrForged = errors.New("the server shows the right CA but is not certified by it: somebody may pretend to be the master; do not connect from this network")
	// ErrExpired: a certificate is not valid yet, or no longer.
	ErrExpired = errors.New("the certificate is not valid at this time: check the clocks of both machines, then renew it")
	// ErrUntrusted: the certificate is from a CA that is not trusted here.
	ErrUntrusted = errors.New("the server's certificate is from a CA that this machine does not trust: give the fingerprint of the cluster or the file of its CA")
	// ErrHost: the certificate is valid, for another name.
	ErrHost = errors.New("the server's certificate is for another name or address: connect by one that it has, or give the fingerprint of the cluster")
	// ErrVersion: the server speaks only an old TLS.
	ErrVersion = errors.New("the server does not speak TLS 1.3: bring what is in between, or the server, up to date")
	// ErrPlain: the server speaks something else than TLS.
	ErrPlain = errors.New("the server does not speak TLS on this port: check the address, and whether the master is secured")
)

// Why the certificates of a server cannot be used.
var (
	// ErrFingerprint: a text is not the fingerprint of a CA.
	ErrFingerprint = errors.New("not a fingerprint")
	// ErrExposed: others may read or change what must be secret.
	ErrExposed = errors.New("open to other users of this machine")
	// ErrDamaged: a file is missing beside others, or is not what it should be.
	ErrDamaged = errors.New("missing or damaged")
	// ErrPair: certificate, key and CA do not belong together.
	ErrPair = errors.New("certificate, key and CA do not belong together")
	// ErrRotating: the grace of the last rotation has not ended.
	ErrRotating = errors.New("the last rotation goes on")
)

// Explain gives an error of a TLS handshake one of the reasons above, when it has one
// of them. Errors of [ClientConfig] with a fingerprint have theirs already.
func Explain(err error) error {
	why := reason(err)
	if why == nil || errors.Is(err, why) {
		return err
	}
	return fmt.Errorf("%w (%w)", why, err)
}

func reason(err error) error {
	var (
		plain     tls.RecordHeaderError
		invalid   x509.CertificateInvalidError
		untrusted x509.UnknownAuthorityError
		none      x509.SystemRootsError
		host      x509.HostnameError
	)
	switch {
	case errors.As(err, &plain):
		return ErrPlain
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return ErrExpired
	case errors.As(err, &invalid), errors.As(err, &untrusted), errors.As(err, &none):
		return ErrUntrusted
	case errors.As(err, &host):
		return ErrHost
	}
	return nil
}

// checkTime says whether, and when, a certificate is valid.
func checkTime(c *x509.Certificate, now time.Time) error {
	if !now.Before(c.NotBefore) && !now.After(c.NotAfter) {
		return nil
	}
	const form = "2006-01-02 15:04 MST"
	return fmt.Errorf("%w (%s is valid from %s to %s, and here it is %s)", ErrExpired, c.Subject.CommonName,
		c.NotBefore.UTC().Format(form), c.NotAfter.UTC().Format(form), now.UTC().Format(form))
}
