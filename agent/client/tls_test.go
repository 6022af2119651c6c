package client_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snapdb/snapdb/agent/client"
	"github.com/snapdb/snapdb/broker"
	"github.com/snapdb/snapdb/broker/pki"
)

func TestConnectOverTLSKnowsTheMasterAndSaysWhyNot(t *testing.T) {
	keep := func() *pki.Keeper {
		k, err := pki.Open(filepath.Join(t.TempDir(), "tls"), pki.Options{Logger: quiet()})
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	keeper, other := keep(), keep()
	serve := func(c broker.Config) string {
		c.Dir, c.Listen, c.Logger = t.TempDir(), "127.0.0.1:0", quiet()
		b, err := broker.Start(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(b.Close)
		return b.URL()
	}
	secured, open := serve(broker.Config{TLS: keeper.ServerConfig()}), serve(broker.Config{})

	for name, test := range map[string]struct {
		url, fingerprint string
		want             error
	}{
		"right fingerprint":    {secured, keeper.Fingerprint(), nil},
		"right, with nats://":  {strings.Replace(secured, "tls://", "nats://", 1), keeper.Fingerprint(), nil},
		"wrong fingerprint":    {secured, other.Fingerprint(), pki.ErrPin},
		"system's roots":       {secured, "", pki.ErrUntrusted},
		"a server without TLS": {open, keeper.Fingerprint(), pki.ErrPlain},
		"nobody there":         {"tls://127.0.0.1:1", keeper.Fingerprint(), client.ErrUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			config, err := pki.ClientConfig(test.fingerprint)
			if err != nil {
				t.Fatal(err)
			}
			c, err := client.Connect(t.Context(), test.url, client.Options{TLS: config})
			if err == nil {
				c.Close()
			}
			if !errors.Is(err, test.want) || err != nil && !errors.Is(err, client.ErrUnreachable) {
				t.Errorf("error %v, want %v", err, test.want)
			}
		})
	}
	// Without anything said the broker asks for TLS and the system's roots decide.
	if _, err := client.Connect(t.Context(), secured, client.Options{}); !errors.Is(err, pki.ErrUntrusted) {
		t.Errorf("without TLS: %v", err)
	}
}
