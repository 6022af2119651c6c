package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net"
	"time"
)

// Lives of certificates.
const (
	caYears    = 10
	serverLife = 90 * 24 * time.Hour
	// slack is how far the clock of a client may be off: certificates are valid that
	// much earlier, and what an old CA signs last, that much longer than it is shown.
	slack = 24 * time.Hour
)

// authority is a CA.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	// After a rotation, else nil: the certificate of the CA before, and the one that it
	// has signed for the key of this one.
	old, bridge *x509.Certificate
}

// newAuthority makes a CA of a name that no other has.
func newAuthority(cluster string, now time.Time) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	a := &authority{key: key}
	name := pkix.Name{CommonName: cluster, SerialNumber: randomID()}
	a.cert, err = sign(caTemplate(name, now.Add(-slack), now.AddDate(caYears, 0, 0), 1), nil, a, a.key)
	return a, err
}

// newCluster is a name for the CAs of a new cluster.
func newCluster() string { return "snapdb cluster " + randomID() }

func randomID() string {
	b := make([]byte, 4)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// caTemplate is a CA that may have so many CAs below it.
func caTemplate(name pkix.Name, from, to time.Time, below int) *x509.Certificate {
	return &x509.Certificate{
		Subject: name, NotBefore: from, NotAfter: to,
		BasicConstraintsValid: true, IsCA: true, MaxPathLen: below, MaxPathLenZero: below == 0,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
}

// sign has the key of a CA sign a certificate for the public part of key. issuer is
// nil for the CA's own.
func sign(c, issuer *x509.Certificate, by *authority, key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	if issuer == nil {
		issuer = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, issuer, &key.PublicKey, by.key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	c, err = x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read own certificate: %w", err)
	}
	return c, nil
}

// follow has the CA before vouch for this one until grace ends.
func (a *authority) follow(before *authority, now, graceEnds time.Time) (err error) {
	a.old = before.cert
	to := graceEnds.Add(slack)
	if to.After(a.old.NotAfter) {
		to = a.old.NotAfter
	}
	a.bridge, err = sign(caTemplate(a.cert.Subject, now.Add(-slack), to, 0), a.old, before, a.key)
	return err
}

// graceEnds is when the CA before is no longer shown; zero if there was none.
func (a *authority) graceEnds() time.Time {
	if a.bridge == nil {
		return time.Time{}
	}
	return a.bridge.NotAfter.Add(-slack)
}

// above is what a server shows beside its certificate, the next above it first.
func (a *authority) above(now time.Time) [][]byte {
	if now.Before(a.graceEnds()) {
		return [][]byte{a.bridge.Raw, a.old.Raw, a.cert.Raw}
	}
	return [][]byte{a.cert.Raw}
}

// serverEnds is until when a server's certificate is valid that is made now.
func (a *authority) serverEnds(now time.Time) time.Time {
	if to := now.Add(serverLife); to.Before(a.cert.NotAfter) {
		return to
	}
	return a.cert.NotAfter
}

// certify makes a certificate of a server, with a new key.
func (a *authority) certify(n names, now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	t := &x509.Certificate{
		Subject:   pkix.Name{Organization: []string{a.cert.Subject.CommonName}, CommonName: "snapdb master"},
		NotBefore: now.Add(-slack), NotAfter: a.serverEnds(now),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:              n.dns,
	}
	for _, ip := range n.ips {
		t.IPAddresses = append(t.IPAddresses, net.IP(ip.AsSlice()))
	}
	leaf, err := sign(t, a.cert, a, key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

// The kinds of PEM blocks.
const (
	keyBlock  = "PRIVATE KEY"
	certBlock = "CERTIFICATE"
)

func encodeKey(key any) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: der}), nil
}

func encodeCerts(ders ...[]byte) (text []byte) {
	for _, der := range ders {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: certBlock, Bytes: der})...)
	}
	return text
}

// encode is the CA as it is kept.
func (a *authority) encode() ([]byte, error) {
	text, err := encodeKey(a.key)
	if err != nil {
		return nil, err
	}
	text = append(text, encodeCerts(a.cert.Raw)...)
	if a.bridge != nil {
		text = append(text, encodeCerts(a.bridge.Raw, a.old.Raw)...)
	}
	return text, nil
}

// decodeAuthority reads what encode has written, and believes nothing of it.
func decodeAuthority(text []byte) (*authority, error) {
	block, rest := pem.Decode(text)
	if block == nil || block.Type != keyBlock {
		return nil, fmt.Errorf("%w: it does not begin with a private key", ErrDamaged)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: read key: %w", ErrDamaged, err)
	}
	a := new(authority)
	var ok bool
	if a.key, ok = key.(*ecdsa.PrivateKey); !ok {
		return nil, fmt.Errorf("%w: the key is a %T", ErrDamaged, key)
	}
	certs, err := decodeCerts(rest)
	if err != nil {
		return nil, err
	}
	switch len(certs) {
	case 1:
		a.cert = certs[0]
	case 3:
		a.cert, a.bridge, a.old = certs[0], certs[1], certs[2]
	default:
		return nil, fmt.Errorf("%w: it has %d certificates", ErrDamaged, len(certs))
	}
	return a, a.check()
}

// decodeCerts reads certificates and takes nothing else.
func decodeCerts(text []byte) (certs []*x509.Certificate, err error) {
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%w: read certificate: %w", ErrDamaged, err)
		}
		certs, text = append(certs, c), rest
	}
	if len(bytes.TrimSpace(text)) > 0 {
		return nil, fmt.Errorf("%w: something follows that is no certificate", ErrDamaged)
	}
	return certs, nil
}

// check makes sure that the parts belong together.
func (a *authority) check() error {
	if !a.cert.IsCA || !signedByItself(a.cert) {
		return fmt.Errorf("%w: the certificate is not that of a CA", ErrDamaged)
	}
	if !a.key.PublicKey.Equal(a.cert.PublicKey) {
		return fmt.Errorf("%w: the certificate is that of another key", ErrDamaged)
	}
	if a.bridge == nil {
		return nil
	}
	if !signedByItself(a.old) || !a.key.PublicKey.Equal(a.bridge.PublicKey) || a.bridge.CheckSignatureFrom(a.old) != nil {
		return fmt.Errorf("%w: the CA before has not signed this one", ErrDamaged)
	}
	return nil
}
