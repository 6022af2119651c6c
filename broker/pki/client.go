package pki

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// pin is the SHA-256 of a CA's public key as it stands in its certificates.
type pin [sha256.Size]byte

const pinPrefix = "sha256:"

func pinOf(c *x509.Certificate) pin { return sha256.Sum256(c.RawSubjectPublicKeyInfo) }

func (p pin) String() string { return pinPrefix + hex.EncodeToString(p[:]) }

func parsePin(text string) (p pin, err error) {
	digits, ok := strings.CutPrefix(text, pinPrefix)
	if ok && len(digits) == hex.EncodedLen(len(p)) {
		if _, err = hex.Decode(p[:], []byte(digits)); err == nil {
			return p, nil
		}
	}
	return pin{}, fmt.Errorf("%.80q is %w: one is %q and %d hexadecimal digits, as the master shows it",
		text, ErrFingerprint, pinPrefix, hex.EncodedLen(len(p)))
}

// ClientConfig is for clients of the server whose CA has a fingerprint, wherever it
// is and whatever it is called. Without a fingerprint it is for those of a server
// that the system's roots vouch for, under the name by which it is reached.
func ClientConfig(fingerprint string) (*tls.Config, error) {
	if fingerprint == "" {
		return clientConfig(), nil
	}
	p, err := parsePin(fingerprint)
	if err != nil {
		return nil, err
	}
	c := clientConfig()
	// The name does not matter and the roots are not the system's: all that is
	// skipped here is done, with what matters, in verify.
	c.InsecureSkipVerify = true
	c.VerifyConnection = func(s tls.ConnectionState) error {
		if err := checkVersion(s); err != nil {
			return err
		}
		return p.verify(s.PeerCertificates, time.Now())
	}
	return c, nil
}

// ClientCA is for clients of a server that a CA of a PEM file vouches for, under the
// name by which it is reached.
func ClientCA(file string) (*tls.Config, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read CA: %w", err)
	}
	c := clientConfig()
	c.RootCAs = x509.NewCertPool()
	if !c.RootCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("CA %s: %w: there is no certificate in it; give the master's ca.pem", file, ErrDamaged)
	}
	return c, nil
}

// clientConfig offers TLS 1.2 only to be able to say that it is too old. It refuses
// it before anything of this side but a greeting has left.
func clientConfig() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, VerifyConnection: checkVersion}
}

func checkVersion(s tls.ConnectionState) error {
	if s.Version < tls.VersionTLS13 {
		return ErrVersion
	}
	return nil
}

// verify finds the pinned CA among what a server shows, first its own certificate,
// and makes sure that it has certified the server.
func (p pin) verify(shown []*x509.Certificate, now time.Time) error {
	roots, others := x509.NewCertPool(), x509.NewCertPool()
	found := false
	for _, c := range shown {
		if pinOf(c) == p && signedByItself(c) {
			roots.AddCert(c)
			found = true
		} else {
			others.AddCert(c)
		}
	}
	if !found {
		return fmt.Errorf("%w (wanted: %s)", ErrPin, p)
	}
	_, err := shown[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: others, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
		return checkTime(invalid.Cert, now)
	}
	if err != nil {
		return fmt.Errorf("%w (%w)", ErrForged, err)
	}
	return nil
}

// signedByItself says whether the owner of the key stands for all else that the
// certificate says. Anybody can put a CA's public key into a certificate.
func signedByItself(c *x509.Certificate) bool {
	return bytes.Equal(c.RawSubject, c.RawIssuer) && c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}

// Issuer is the fingerprint of the CA that certified the server of a connection which
// was made with [ClientConfig] and a fingerprint. It is another one than that when
// the CA was rotated: the one to use from then on. "" if the server does not show it.
func Issuer(s tls.ConnectionState) string {
	if len(s.PeerCertificates) == 0 {
		return ""
	}
	for _, c := range s.PeerCertificates[1:] {
		if signedByItself(c) && s.PeerCertificates[0].CheckSignatureFrom(c) == nil {
			return pinOf(c).String()
		}
	}
	return ""
}

// Authority is the certificate of the CA with a fingerprint, if the server of a connection
// that was made with [ClientConfig] and that fingerprint shows it; else nil. It is for
// programs that take the file of a CA, and no fingerprint.
func Authority(s tls.ConnectionState, fingerprint string) *x509.Certificate {
	for _, c := range s.PeerCertificates {
		if signedByItself(c) && pinOf(c).String() == fingerprint {
			return c
		}
	}
	return nil
}
