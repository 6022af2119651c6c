package agent

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/snapdb/snapdb/agent/signing"
	"github.com/snapdb/snapdb/broker"
	"github.com/snapdb/snapdb/subjects"
)

// publishPatience is how long the log may take to answer a publish, and then
// again to say whether it was stored.
const publishPatience = 5 * time.Second

// journal is the log as this master writes it: every message is fenced by the
// master's term, and a publish whose answer was lost is cleared up before
// anything else is said about it.
type journal struct {
	log      *slog.Logger
	broker   *broker.Broker
	master   string        // who this master is among all that ever claimed the log
	claim    []byte        // body of its claims
	patience time.Duration // publishPatience
	dial     []nats.Option // of the connection to the log
	deposed  func(error)   // called when another master has taken over
	sign     *signing.Key  // nil: nothing is signed
	cluster  string

	known atomic.Uint64 // position up to which everything is stored
	term  atomic.Uint64 // changes under mu
	last  atomic.Uint64 // the claim before; likewise

	mu     sync.RWMutex // guards what follows; held for writing while a term is claimed
	nc     *nats.Conn   // with the master's rights
	public *nats.Conn   // with everybody's, to answer whoever asks
	wire   *broker.Log
	silent bool // a publish could not be cleared up
}

// errFenced: another master has taken over.
var errFenced = errors.New("another master has taken over this log")

// errNotStored: the publish was cleared up, and it is not in the log.
var errNotStored = errors.New("the log did not store it")

// unknownError: the log does not say whether a publish was stored.
type unknownError struct {
	id  string
	err error
}

func (e *unknownError) Error() string { return "outcome unknown: " + e.err.Error() }
func (e *unknownError) Unwrap() error { return e.err }

// open connects to the broker and claims the first term.
func (j *journal) open(ctx context.Context) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	var err error
	if j.nc, err = j.broker.Connect("snapdb master", j.dial...); err != nil {
		return err
	}
	if j.public, err = j.broker.ConnectPublic("snapdb master's doors"); err != nil {
		return err
	}
	if j.wire, err = j.broker.OpenLog(j.nc); err != nil {
		return err
	}
	return j.reclaim(ctx)
}

// reclaim publishes a new db.epoch. Once it is stored, no message of an earlier
// term can be any more. If another master has claimed the log since this one did,
// this one is deposed instead. j.mu is held.
func (j *journal) reclaim(ctx context.Context) error {
	last, err := j.wire.LastEpoch(ctx)
	if err != nil {
		return fmt.Errorf("claim the log: %w", err)
	}
	// A message without a name is no claim, and one of this master's own is a
	// claim whose answer was lost.
	if j.term.Load() != 0 && last.Position > j.term.Load() && last.Master != "" && last.Master != j.master && j.claimed(&last) {
		err := fmt.Errorf("%w at position %d (%s): stop one of the two", errFenced, last.Position, last.Body)
		j.deposed(err)
		return err
	}
	var sig subjects.Signature
	if j.sign != nil {
		claim := subjects.SignedClaim{Cluster: j.cluster, Last: last.Position, Master: j.master, Body: j.claim}
		sig = j.sign.Sign(claim.Bytes())
	}
	term, err := j.wire.Claim(ctx, last.Position, j.master, j.claim, sig)
	if err != nil {
		return fmt.Errorf("claim the log: %w", err)
	}
	j.last.Store(last.Position)
	j.term.Store(term)
	j.silent = false
	j.learn(term)
	return nil
}

// claimed says whether a message on db.epoch is of a master: of one that has the same
// key, if claims are signed.
func (j *journal) claimed(e *broker.Epoch) bool {
	if j.sign == nil {
		return true
	}
	claim := subjects.SignedClaim{Cluster: j.cluster, Last: e.Follows, Master: e.Master, Body: e.Body}
	err := j.sign.Verify(e.Signature, claim.Bytes())
	if err != nil {
		j.log.Error("somebody else has published on db.epoch; passing over it", "position", e.Position, "error", err)
	}
	return err == nil
}

// genuine says whether a message of the log is of a master that has the same key, or of
// the time before anything was signed.
func (j *journal) genuine(m *subjects.Message) error {
	if j.sign == nil || m.Position <= j.sign.Since() {
		return nil
	}
	term := j.current()
	if m.Position < term {
		term = j.last.Load()
	}
	return genuine(m, term, j.cluster, j.sign.Verify)
}

// learn notes that everything up to a position is stored.
func (j *journal) learn(position uint64) {
	for known := j.known.Load(); position > known; known = j.known.Load() {
		if j.known.CompareAndSwap(known, position) {
			return
		}
	}
}

func (j *journal) close() {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, nc := range []*nats.Conn{j.nc, j.public} {
		if nc != nil {
			nc.Close()
		}
	}
}

// current is the term this master writes in. It does not wait for a claim under
// way.
func (j *journal) current() uint64 { return j.term.Load() }

// reader is the log for reading.
func (j *journal) reader() *broker.Log { return j.wire }

// conn is the connection with the master's rights.
func (j *journal) conn() *nats.Conn { return j.nc }

// doors is the connection on which requests are answered.
func (j *journal) doors() *nats.Conn { return j.public }

// append logs a message and returns its position. Errors: *unknownError when
// nobody knows whether it is in the log; all others say that it is not, errFenced
// because this is no longer the master.
func (j *journal) append(ctx context.Context, h subjects.Header, body []byte) (uint64, error) {
	// Neither the client's end nor the master's may leave a publish open.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), j.patience)
	defer cancel()
	h.ID = randomID()
	for {
		known := j.known.Load()
		position, err := j.publish(ctx, &h, body)
		switch {
		case err == nil:
			j.learn(position)
			return position, nil
		case errors.Is(err, broker.ErrUnanswered):
			return j.resolve(&h, known)
		case !errors.Is(err, broker.ErrFenced):
			return 0, err
		}
		if err := j.renew(ctx, h.Term); err != nil {
			return 0, err
		}
	}
}

// publish publishes in the current term. Nobody claims another meanwhile.
func (j *journal) publish(ctx context.Context, h *subjects.Header, body []byte) (uint64, error) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	h.Term = j.term.Load()
	if j.sign != nil {
		l := subjects.SignedLog{Cluster: j.cluster, Header: *h, Body: body}
		h.Signature = j.sign.Sign(l.Bytes())
	}
	return j.wire.Append(ctx, *h, body)
}

// renew makes the log accept publishes again after it refused one of a term,
// unless another master has taken over.
func (j *journal) renew(ctx context.Context, term uint64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.term.Load() != term {
		return nil // a publish without an answer has made that necessary meanwhile
	}
	err := j.reclaim(ctx)
	if err == nil || errors.Is(err, broker.ErrFenced) {
		return nil // whoever was faster shows at the next publish
	}
	return fmt.Errorf("%w: %w", errNotStored, err)
}

// claimAnew makes the running term begin at the end of the log. Nothing is logged
// meanwhile, so a log that does not answer is not waited for any longer than by a
// publish.
func (j *journal) claimAnew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, j.patience)
	defer cancel()
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.reclaim(ctx)
}

// resolve finds out whether a message that was published after a known position
// and not answered is in the log.
func (j *journal) resolve(h *subjects.Header, known uint64) (uint64, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	// Its time begins when the other publishes under way have ended, which may have
	// no answer either.
	ctx, cancel := context.WithTimeout(context.Background(), j.patience)
	defer cancel()
	j.log.Warn("the log did not answer a publish; finding out whether it was stored", "log_id", h.ID)
	if j.term.Load() == h.Term {
		// Another master's claim ends the term as well as an own one.
		if err := j.reclaim(ctx); err != nil && !errors.Is(err, broker.ErrFenced) && !errors.Is(err, errFenced) {
			return 0, j.unknown(h, err)
		}
	}
	position, found, err := j.wire.Resolve(ctx, h.ID, known+1)
	if err != nil {
		return 0, j.unknown(h, err)
	}
	if !found {
		return 0, errNotStored
	}
	j.learn(position)
	return position, nil
}

// unknown notes that the log is silent. j.mu is held.
func (j *journal) unknown(h *subjects.Header, err error) error {
	j.silent = true
	return &unknownError{h.ID, err}
}

// revive restarts a broker that has fallen silent, which a full disk makes it,
// and claims a new term. If that is already done, it does nothing.
func (j *journal) revive(ctx context.Context) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.silent {
		return nil
	}
	// First the answers that say so; what is still under way is lost.
	if err := j.public.FlushWithContext(ctx); err != nil {
		j.log.Warn("restarting the broker before all answers are sent", "error", err)
	}
	if err := j.broker.Restart(ctx); err != nil {
		return fmt.Errorf("restart broker: %w", err)
	}
	return j.reclaim(ctx)
}

func randomID() string {
	var b [12]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
