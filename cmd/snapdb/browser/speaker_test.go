//go:build linux

package browser_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/snapdb/snapdb/subjects"
)

// probe is the text of a line that a test has a node say.
func probe(i int) string { return fmt.Sprintf("probe-%06d", i) }

// speaker says log lines for nodes.
type speaker struct {
	t     testing.TB
	nc    *nats.Conn
	nodes []string
}

// speaker connects to the broker, and again after each loss.
func (c *cluster) speaker(nodes ...string) *speaker {
	c.t.Helper()
	nc, err := nats.Connect("nats://"+c.nats, nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond), nats.ReconnectJitter(0, 0))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(nc.Close)
	return &speaker{c.t, nc, nodes}
}

// await waits until the broker takes log lines.
func (s *speaker) await() {
	s.t.Helper()
	js, err := jetstream.New(s.nc)
	if err != nil {
		s.t.Fatal(err)
	}
	await(s.t, func() string {
		ctx, cancel := context.WithTimeout(s.t.Context(), time.Second)
		defer cancel()
		if _, err := js.Stream(ctx, subjects.NodeLogStream); err != nil {
			return err.Error()
		}
		return ""
	})
}

// say has the nodes say that many lines more than were said before, one after the
// other, and counts them all.
func (s *speaker) say(before, lines int) int {
	s.t.Helper()
	for i := range lines {
		line := fmt.Sprintf(`{"time":%q,"level":"INFO","msg":%q}`, time.Now().UTC().Format(time.RFC3339Nano), probe(before+i))
		if err := s.nc.Publish(subjects.NodeLog(s.nodes[(before+i)%len(s.nodes)]), []byte(line)); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := s.nc.Flush(); err != nil {
		s.t.Fatal(err)
	}
	return before + lines
}
