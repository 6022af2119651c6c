package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"strings"
	"testing"
	"time"
)

func FuzzPin(f *testing.F) {
	f.Add("sha256:" + strings.Repeat("0123456789abcdef", 4))
	f.Add("sha256:" + strings.Repeat("F", 64))
	f.Add("sha256:")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parsePin(text)
		if err != nil {
			return
		}
		if p.String() != strings.ToLower(text) {
			t.Errorf("%q became %q", text, p)
		}
	})
}

// fuzzTime is when all certificates of the fuzz targets are valid.
var fuzzTime = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// fixedAuthority is a CA with the same key in every process of a fuzz campaign.
func fixedAuthority(t testing.TB, name string) *authority {
	t.Helper()
	scalar := sha256.Sum256([]byte(name))
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar[:])
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key}
	a.cert, err = sign(caTemplate(pkix.Name{CommonName: name}, fuzzTime.Add(-slack), fuzzTime.AddDate(caYears, 0, 0), 1), nil, a, key)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// FuzzAuthority: what is accepted is a CA, and stays the same when it is kept again.
func FuzzAuthority(f *testing.F) {
	a := fixedAuthority(f, "new")
	short, err := a.encode()
	if err != nil {
		f.Fatal(err)
	}
	if err := a.follow(fixedAuthority(f, "old"), fuzzTime, fuzzTime.Add(time.Hour)); err != nil {
		f.Fatal(err)
	}
	long, err := a.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(long)
	f.Add(short)
	f.Add(long[:len(long)-1])
	f.Fuzz(func(t *testing.T, text []byte) {
		a, err := decodeAuthority(text)
		if err != nil {
			return
		}
		first, err := a.encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := decodeAuthority(first)
		if err != nil {
			t.Fatalf("what was accepted is not accepted again: %v", err)
		}
		if second, err := again.encode(); err != nil || !bytes.Equal(first, second) {
			t.Fatalf("it changes when it is kept again: %v", err)
		}
	})
}

// FuzzShown: a server cannot break a client with what it shows, nor be taken for one
// that the CA has certified.
func FuzzShown(f *testing.F) {
	a, b := fixedAuthority(f, "new"), fixedAuthority(f, "old")
	if err := a.follow(b, fuzzTime, fuzzTime.Add(time.Hour)); err != nil {
		f.Fatal(err)
	}
	server, err := fixedAuthority(f, "another").certify(names{dns: []string{"localhost"}}, fuzzTime)
	if err != nil {
		f.Fatal(err)
	}
	p := pinOf(b.cert)
	f.Add(server.Leaf.Raw, a.bridge.Raw, b.cert.Raw)
	f.Add(server.Leaf.Raw, a.cert.Raw, b.cert.Raw)
	f.Add(a.bridge.Raw, a.cert.Raw, b.cert.Raw)
	f.Fuzz(func(t *testing.T, one, two, three []byte) {
		var shown []*x509.Certificate
		for _, der := range [][]byte{one, two, three} {
			if c, err := x509.ParseCertificate(der); err == nil {
				shown = append(shown, c)
			}
		}
		if p.verify(shown, fuzzTime) != nil {
			return
		}
		// What the CAs have signed are their own certificates.
		if k := pinOf(shown[0]); k != p && k != pinOf(a.cert) {
			t.Errorf("a server was taken that the CA has not certified")
		}
	})
}
