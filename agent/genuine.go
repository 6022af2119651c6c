package agent

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/snapdb/snapdb/agent/signing"
	"github.com/snapdb/snapdb/subjects"
)

// sign puts the master's signature on a message, if it has a key.
func (m *Master) sign(msg *nats.Msg, what interface{ Bytes() []byte }) {
	if m.opts.Sign == nil {
		return
	}
	msg.Header = nats.Header{}
	subjects.EncodeSignature(msg.Header, m.opts.Sign.Sign(what.Bytes()))
}

// errStale: a message was kept back, and stored when its time was over.
var errStale = errors.New("it was written in an earlier term, and stored after the end of that")

// genuine says whether a message of the log is a master's. Nothing that was stored after
// the claim of term is of an earlier one.
func genuine(m *subjects.Message, term uint64, cluster string, verify func(subjects.Signature, []byte) error) error {
	l := subjects.SignedLog{Cluster: cluster, Header: m.Header, Body: m.Data}
	if err := verify(m.Header.Signature, l.Bytes()); err != nil {
		return err
	}
	if m.Position > term && m.Header.Term < term {
		return errStale
	}
	return nil
}

// guard is how a slave knows what its master has said.
type guard struct {
	ring *signing.Ring

	mu    sync.Mutex
	seen  map[[sha256.Size]byte]int64 // commands, until when they could come again
	spoke time.Time                   // when somebody else was last complained of
}

// complainEvery bounds how often somebody who is not the master is complained of.
const complainEvery = time.Second

// errNotBelieved: somebody answers in the name of the master who cannot show to be it.
var errNotBelieved = errors.New("whoever answers as the master has not shown to be it")

// genuine says whether a message of the log is the master's.
func (s *Slave) genuine(m *subjects.Message) error {
	if s.guard == nil {
		return nil
	}
	return genuine(m, s.term.Load(), s.store.Identity().Cluster, s.guard.ring.VerifyPast)
}

// believe says whether heads are the master's.
func (s *Slave) believe(msg *nats.Msg) bool {
	if s.guard == nil {
		return true
	}
	sig, err := subjects.DecodeSignature(msg.Header)
	if err == nil {
		heads := subjects.SignedHeads{Cluster: s.store.Identity().Cluster, Body: msg.Data}
		err = s.guard.ring.Verify(sig, heads.Bytes())
	}
	if err != nil {
		s.forged("heads", err)
	}
	return err == nil
}

// forged notes a message that the master has not sent.
func (s *Slave) forged(what string, why error) {
	s.mu.Lock()
	s.foreign++
	s.mu.Unlock()
	g := s.guard
	g.mu.Lock()
	tell := time.Since(g.spoke) >= complainEvery
	if tell {
		g.spoke = time.Now()
	}
	g.mu.Unlock()
	if tell {
		s.log.Warn("passing over a message that is not from the master", "message", what, "reason", why)
		s.tell()
	}
}

// admit says whether the answer to a join is the master's, and learns its key.
func (s *Slave) admit(request []byte, msg *nats.Msg, resp *subjects.JoinResponse) error {
	if s.guard == nil {
		return nil
	}
	sig, err := subjects.DecodeSignature(msg.Header)
	if err == nil {
		join := subjects.SignedJoin{Cluster: resp.Cluster, Node: s.id, Boot: s.boot, Session: resp.Session, Request: request, Answer: msg.Data}
		err = s.guard.ring.Admit(sig, join.Bytes(), resp.Successions)
	}
	if err != nil {
		return fmt.Errorf("%w: %w: if the master has a new key that its old one has not signed, enrol this node again", errNotBelieved, err)
	}
	return nil
}

// harmless are the operations that anybody may ask for who gets so far.
func harmless(op subjects.Op) bool {
	return op == subjects.OpPing || op == subjects.OpInfo || op == subjects.OpLogs
}

// commanded says whether a command is the master's, for this node, in time, and new.
func (s *Slave) commanded(header map[string][]string, data []byte, req *subjects.CtlRequest) error {
	if s.guard == nil || harmless(req.Op) {
		return nil
	}
	err := s.checkSeal(header, data, req)
	if err == nil {
		return nil
	}
	s.forged("command "+req.ID, err)
	return fmt.Errorf("refused: node %s takes commands from its master alone: %w", s.id, err)
}

func (s *Slave) checkSeal(header map[string][]string, data []byte, req *subjects.CtlRequest) error {
	seal, err := subjects.DecodeSeal(header)
	switch {
	case err != nil:
		return err
	case seal == subjects.Seal{}:
		return signing.ErrUnsigned
	case seal.Node != s.id:
		return fmt.Errorf("it is for node %s", seal.Node)
	}
	c := subjects.SignedCommand{Cluster: s.store.Identity().Cluster, Key: seal.Key, Node: s.id, ID: req.ID, Op: req.Op, Expires: seal.Expires, Body: data}
	signed := c.Bytes()
	if err := s.guard.ring.Verify(seal.Signature, signed); err != nil {
		return err
	}
	now, until := time.Now(), time.UnixMilli(seal.Expires)
	clocks := fmt.Sprintf("it was good until %s, and here it is %s", clock(until), clock(now))
	switch {
	case req.ID == "":
		return errors.New("it has no id")
	case now.Sub(until) > subjects.ClockSkew:
		return fmt.Errorf("it comes too late: %s", clocks)
	case until.Sub(now) > subjects.CommandLife+subjects.ClockSkew:
		return fmt.Errorf("the clocks of master and node differ by more than %v: %s", subjects.ClockSkew, clocks)
	case !s.guard.first(sha256.Sum256(signed), now, until):
		return errors.New("it has come before")
	}
	return nil
}

func clock(t time.Time) string { return t.UTC().Format("15:04:05 UTC") }

// first says whether a command that was signed so has not come before, and remembers it
// for as long as it could come again.
func (g *guard) first(sum [sha256.Size]byte, now, until time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for other, end := range g.seen {
		if end < now.UnixMilli() {
			delete(g.seen, other)
		}
	}
	if _, seen := g.seen[sum]; seen {
		return false
	}
	g.seen[sum] = until.Add(subjects.ClockSkew).UnixMilli()
	return true
}

// replayable is how long a signed command can come again, by the clock of the node.
const replayable = subjects.CommandLife + 2*subjects.ClockSkew
