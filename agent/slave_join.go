package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/snapdb/snapdb/broker"
	"github.com/snapdb/snapdb/broker/pki"
	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// RefusedError says that the master did not let the node in, and will not.
type RefusedError struct {
	ID string // of this node
	subjects.Refusal
}

// Error tells who was refused and why.
func (e *RefusedError) Error() string {
	text := fmt.Sprintf("the master does not let node %s in: %s", e.ID, e.Reason)
	if e.Code != subjects.RefusedUnknown { // which would say no more
		text += " (" + string(e.Code) + ")"
	}
	return text
}

// forGood says whether trying again is of no use to an operator who waits in
// front of the terminal.
func (e *RefusedError) forGood() bool {
	switch e.Code {
	case subjects.RefusedIDInUse, subjects.RefusedCluster, subjects.RefusedVersion, subjects.RefusedInvalid:
		return true
	}
	return false
}

// Reasons for joining again.
var (
	errDisconnected = errors.New("connection lost")
	errSilence      = errors.New("behind the master and nothing arrives")
	errGap          = errors.New("a message of the log is missing")
	errRebuild      = errors.New("copies are to be rebuilt from the log")
	errAskAgain     = errors.New("the master may know a position now that it did not know")
	errRecovered    = errors.New("a stopped database goes on")
	errHeal         = errors.New("a copy has diverged and needs to be replaced")
	errSeeded       = errors.New("a copy was replaced by a snapshot")
)

// joinPatience is how long one join may take.
const joinPatience = 10 * time.Second

// stay is one session with a master, from a join to whatever ends it.
type stay struct {
	number   uint64
	term     atomic.Uint64
	next     string // where to ask for messages
	began    time.Time
	ctx      context.Context
	leave    context.CancelCauseFunc
	read     atomic.Uint64     // position up to which the log was read
	arrived  atomic.Int64      // when something last arrived, after began
	caught   bool              // it has had all heads of the join; guarded by Slave.mu
	seeding  sync.WaitGroup    // of the goroutine that replaces copies
	repeated map[string]uint64 // acknowledged with the last heads; of the heads' goroutine
	heard    uint64            // number of the last heads; likewise
}

// join asks to be let in until it is. It returns nil without error when the
// slave is stopped, and an error when there is no use in asking again.
func (s *Slave) join(pause *backOff) (*stay, error) {
	told := s.service != nil // that the connection was lost is said already
	warned := false          // of somebody there who may not be the master
	for first := s.service == nil; ; {
		resp, err := s.ask()
		if s.life.Err() != nil {
			return nil, nil
		}
		var refused *RefusedError
		switch {
		case err == nil:
			if first {
				if err := s.open(); err != nil {
					return nil, err
				}
			}
			return s.enter(resp), nil
		case errors.As(err, &refused) && first && refused.forGood():
			return nil, err
		case errors.As(err, &refused), errors.Is(err, errNotBelieved):
			s.setRefused(err.Error())
		default:
			if last := s.nc.LastError(); !s.nc.IsConnected() && last != nil {
				err = last
			}
			unknown := false
			unknown, err = explain(err)
			if s.uninvited(err) {
				unknown = true
				joined := s.store.Identity().Cluster != ""
				out := &RefusedError{s.id, s.known.refusal(joined)}
				if !joined {
					return nil, out
				}
				err = fmt.Errorf("%w: %w", out, err)
			}
			if !told || unknown && !warned {
				s.log.Warn("waiting for the master", "url", s.o.URL, "error", err)
			}
			told, warned = true, warned || unknown
		}
		pause.wait(s.life, &s.online)
		if s.life.Err() != nil {
			return nil, nil
		}
	}
}

// uninvited says whether an error is that of a node which a secured cluster does not know:
// it is not let in, or it knows the master by nothing.
func (s *Slave) uninvited(err error) bool {
	return errors.Is(err, nats.ErrAuthorization) ||
		s.known.pair == nil && s.o.TLS == nil && errors.Is(err, pki.ErrUntrusted)
}

// explain says what the person at the slave can do when somebody is there who is not
// known to be the master.
func explain(err error) (unknown bool, explained error) {
	if errors.Is(err, nats.ErrSecureConnWanted) {
		return true, fmt.Errorf("%w (%w)", pki.ErrPlain, err)
	}
	return errors.Is(err, nats.ErrTLS), pki.Explain(err)
}

// ask is one attempt to join.
func (s *Slave) ask() (*subjects.JoinResponse, error) {
	nonce := ""
	if s.guard != nil {
		nonce = randomID()
	}
	req, err := json.Marshal(subjects.JoinRequest{
		V: subjects.Version, ID: s.id, Boot: s.boot, Nonce: nonce, Cluster: s.store.Identity().Cluster,
		Engine: s.store.Engine(), Version: s.o.Version, Databases: s.store.Heads(), Diverged: s.diverged(), Damaged: s.damaged(),
	})
	if err != nil {
		return nil, fmt.Errorf("encode join: %w", err)
	}
	ctx, cancel := context.WithTimeout(s.life, joinPatience)
	defer cancel()
	msg, err := s.nc.RequestWithContext(ctx, subjects.Join, req)
	if errors.Is(err, nats.ErrReconnectBufExceeded) {
		err = nats.ErrDisconnected // what it means, of a connection that buffers nothing
	}
	if err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	var resp subjects.JoinResponse
	if err := json.Unmarshal(msg.Data, &resp); err != nil {
		return nil, fmt.Errorf("read answer to join: %w", err)
	}
	if err := s.admit(req, msg, &resp); err != nil {
		return nil, err
	}
	if resp.Refused != nil {
		return nil, &RefusedError{s.id, *resp.Refused}
	}
	if resp.V != subjects.Version {
		return nil, &RefusedError{s.id, subjects.Refusal{Code: subjects.RefusedVersion,
			Reason: fmt.Sprintf("the master speaks version %d of the protocol, this slave %d: use the same snapdb on both", resp.V, subjects.Version)}}
	}
	err = s.store.SetCluster(resp.Cluster)
	if errors.Is(err, exec.ErrCluster) {
		return nil, &RefusedError{s.id, subjects.Refusal{Code: subjects.RefusedCluster, Reason: err.Error()}}
	}
	if err == nil {
		err = s.store.SetID(s.id)
	}
	if err == nil {
		err = s.known.follow(s.nc)
	}
	if err != nil {
		return nil, fmt.Errorf("remember cluster and id: %w", err)
	}
	return &resp, nil
}

func (s *Slave) setRefused(reason string) {
	s.mu.Lock()
	news := s.refused != reason
	s.refused = reason
	s.mu.Unlock()
	if news {
		s.log.Warn("not let in, trying again", "reason", reason)
		s.tell()
	}
}

// enter begins a session.
func (s *Slave) enter(resp *subjects.JoinResponse) *stay {
	ses := &stay{number: resp.Session, next: cmp.Or(resp.Next, broker.Next(resp.Consumer)), began: time.Now(), repeated: map[string]uint64{}, heard: resp.Heads.Number}
	ses.term.Store(resp.Term)
	s.term.Store(resp.Term)
	ses.ctx, ses.leave = context.WithCancelCause(s.life)
	if resp.Start > 0 {
		ses.read.Store(resp.Start - 1)
	}
	if err := s.takeCatalog(resp.Catalog); err != nil {
		s.log.Error("cannot take the master's list of databases", "error", err)
		ses.leave(err)
	}
	s.judged(resp)
	s.mu.Lock()
	s.stay, s.refused = ses, ""
	s.mu.Unlock()
	s.noteHeads(&resp.Heads)
	s.log.Info("joined", "session", ses.number, "term", resp.Term, "cluster", resp.Cluster, "from", resp.Start)

	// What an apply finished between the question and the answer was not told.
	s.ack(subjects.AppendAck(nil, &subjects.AckMessage{Term: resp.Term, Session: ses.number, Applied: s.claims()}))
	s.tell()
	if len(resp.Snapshots) > 0 {
		ses.seeding.Go(func() { s.seed(ses, resp.Snapshots) })
	}
	return ses
}

// leave ends the session, if there is one; the slave then joins again.
func (s *Slave) leave(reason error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stay != nil {
		s.stay.leave(reason)
	}
}

// read follows the log until the session ends, and says why it did.
func (s *Slave) read(ses *stay) error {
	err := broker.ReadLog(ses.ctx, s.nc, ses.next, func(batch []broker.Entry) error {
		return s.take(ses, batch)
	})
	if cause := context.Cause(ses.ctx); cause != nil {
		err = cause
	}
	ses.leave(err)
	ses.seeding.Wait()
	s.mu.Lock()
	s.stay = nil
	lanes := make([]*lane, 0, len(s.copies))
	for _, l := range s.copies {
		lanes = append(lanes, l)
	}
	s.mu.Unlock()
	for _, l := range lanes {
		l.empty() // the next session brings it again
	}
	s.tell()
	return err
}
