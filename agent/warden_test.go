package agent

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go/micro"

	"github.com/snapdb/snapdb/agent/access"
	"github.com/snapdb/snapdb/agent/audit"
	"github.com/snapdb/snapdb/broker"
)

// What came through another account before is an answer, whatever it says of its caller.
func TestAnswersAreNobodysRequests(t *testing.T) {
	store, err := access.Open(t.TempDir(), access.Options{Costs: access.Costs{Time: 1, MemoryKiB: 8, Threads: 1}})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Add(context.Background(), access.User{Name: "root", Role: access.Admin}, "a long password"); err != nil {
		t.Fatal(err)
	}
	w := newWarden(store, func(audit.Event) {}, slog.New(slog.DiscardHandler))
	w.broker = &broker.Broker{}
	for text, ok := range map[string]bool{
		`{"acc":"USERS","user":"root"}`:                true,
		`{"acc":"USERS","user":"root","svc":"NODE_a"}`: false,
		`{"acc":"$G","user":"root"}`:                   false,
		`{"acc":"NODE_a"}`:                             false, // is not enrolled
		`{"acc":"USERS","user":"nobody"}`:              false,
		`{"user":"root"}`:                              false,
		`root`:                                         false,
		``:                                             false,
	} {
		if who, refused := w.caller(micro.Headers{broker.CallerHeader: {text}}); (refused == nil) != ok {
			t.Errorf("%s: %+v, %v", text, who, refused)
		}
	}
}

func TestRefusalsOfOneAddressAreWrittenDownForAWhile(t *testing.T) {
	var l loudness
	now := time.Now()
	for i := range 3 * refusalsOfOne {
		if got := l.heard("a", now); got != (i < refusalsOfOne) {
			t.Errorf("refusal %d: %v", i, got)
		}
	}
	if !l.heard("b", now) || !l.heard("a", now.Add(time.Minute)) {
		t.Error("another address, or a later minute, is not heard")
	}
}
