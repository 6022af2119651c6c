package pki

import (
	"io"
	"log/slog"
	"testing"
	"time"
)

func TestAMachineThatGetsAnotherAddressGetsAnotherCertificate(t *testing.T) {
	now := time.Now()
	k, err := Open(t.TempDir(), Options{Now: func() time.Time { return now }, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	k.o.Hosts = []string{"10.9.8.7"} // as if the machine had it now
	knows := func() bool {
		c, err := k.certificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		return c.Leaf.VerifyHostname("10.9.8.7") == nil
	}
	if knows() {
		t.Error("it was asked for at once")
	}
	now = now.Add(namesEvery)
	if !knows() {
		t.Error("the certificate lacks the address")
	}
}
