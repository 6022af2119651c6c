package agent_test

import (
	"bytes"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/snapdb/snapdb/agent"
	"github.com/snapdb/snapdb/broker/pki"
)

// notes is what a node has logged.
type notes struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (n *notes) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.text.Write(p)
}

func (n *notes) has(what string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Contains(n.text.String(), what)
}

func TestASlaveJoinsOnlyTheMasterWhoseFingerprintItHas(t *testing.T) {
	t.Parallel()
	keep := func() *pki.Keeper {
		k, err := pki.Open(filepath.Join(t.TempDir(), "tls"), pki.Options{Logger: quiet()})
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	keeper, other := keep(), keep()
	o := newOrigin(t)
	o.catalog("CREATE DATABASE a")
	n := o.write("a", "CREATE TABLE t (x)")
	listen := strings.TrimPrefix(o.b.URL(), "nats://")
	start := func(id, fingerprint string) (*agent.Slave, *notes) {
		config, err := pki.ClientConfig(fingerprint)
		if err != nil {
			t.Fatal(err)
		}
		log := new(notes)
		s, err := agent.StartSlave(t.Context(), agent.SlaveOptions{
			URL: "nats://" + listen, TLS: config, ID: id, Dir: t.TempDir(), Version: "test", Logger: slog.New(slog.NewTextHandler(log, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { stop(t, s) })
		return s, log
	}

	knows, log := start("snap1", keeper.Fingerprint())
	until(t, "told that the master does not speak TLS", func() bool { return log.has(pki.ErrPlain.Error()) })
	if o.joinCount() > 0 {
		t.Error("it has joined without TLS")
	}

	o.down()
	o.tls = keeper.ServerConfig()
	o.serve(listen)
	untilAt(t, knows, "a", n)
	joined := o.joinCount()
	_, log = start("snap2", other.Fingerprint())
	until(t, "told that it is another master", func() bool { return log.has(pki.ErrPin.Error()) })
	if o.joinCount() != joined {
		t.Error("it has joined a master that it does not know")
	}
}
