package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/snapdb/snapdb/subjects"
)

// A log that gives no answer has not said that a copy is foreign to it.
func TestJoinWaitsForTheLogsWord(t *testing.T) {
	t.Parallel()
	m := startMaster(t, MasterOptions{Dir: t.TempDir()})
	m.mustExec("", "CREATE DATABASE a")
	m.mustExec("a", "CREATE TABLE t (x)")
	theirs := m.store.Heads()
	mute, cancel := context.WithCancel(t.Context())
	cancel()
	req := &subjects.JoinRequest{ID: "s", Databases: theirs}
	if c, err := m.fleet.compare(mute, req, m.fleet.heads()); err == nil {
		t.Errorf("a log that could not be asked rejects %v", c.reseed)
	}

	other := theirs["a"]
	other.Chain = theirs[subjects.Catalog].Chain
	beyond := theirs[subjects.Catalog]
	beyond.Position += 1000
	theirs["a"], theirs[subjects.Catalog] = other, beyond
	c, err := m.fleet.compare(limited(t), req, m.fleet.heads())
	if err != nil || c.reseed["a"] == "" || c.reseed[subjects.Catalog] == "" || len(c.applied) > 0 {
		t.Errorf("%+v, %v", c, err)
	}
}

// More slaves than a cluster may have are refused with what to do about it; those
// that are enrolled already are let in.
func TestEnrolledSlavesAreBounded(t *testing.T) {
	t.Parallel()
	m := startMaster(t, MasterOptions{Dir: t.TempDir()})
	m.fleet.mu.Lock()
	for i := range maxEnrolled {
		m.fleet.ledger.account(fmt.Sprint("s", i))
	}
	m.fleet.mu.Unlock()
	ask := func(id string) *subjects.Refusal {
		req, err := json.Marshal(subjects.JoinRequest{V: subjects.Version, ID: id, Boot: "b", Engine: m.store.Engine()})
		if err != nil {
			t.Fatal(err)
		}
		return m.fleet.join(limited(t), &caller{open: true}, req).Refused
	}
	if r := ask("another"); r == nil || r.Code != subjects.RefusedTooMany || !strings.Contains(r.Reason, "node forget") {
		t.Errorf("%+v", r)
	}
	if r := ask("s7"); r != nil {
		t.Errorf("%+v", r)
	}
}

// Whoever cannot be let in now hears that, and need not wait for its time-out.
func TestJoinOfTooManyIsAnswered(t *testing.T) {
	t.Parallel()
	m := startMaster(t, MasterOptions{Dir: t.TempDir()})
	over := make(chan struct{})
	for range maxJoins {
		if !m.admitter.do(func() { <-over }) {
			t.Fatal("the admitter is busy before its time")
		}
	}
	defer close(over)
	req, err := json.Marshal(subjects.JoinRequest{V: subjects.Version, ID: "s1", Boot: "b", Engine: m.store.Engine()})
	if err != nil {
		t.Fatal(err)
	}
	var msg *nats.Msg
	if msg, err = m.client.RequestWithContext(limited(t), subjects.Join, req); err != nil {
		t.Fatal(err)
	}
	var resp subjects.JoinResponse
	if err := json.Unmarshal(msg.Data, &resp); err != nil || resp.Refused == nil || resp.Refused.Code != subjects.RefusedNotReady {
		t.Errorf("%s, %v", msg.Data, err)
	}
}
