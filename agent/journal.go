package agent

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

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
	log    *slog.Logger
	broker *broker.Broker
	claim  []byte // body of this master's db.epoch messages

	mu   sync.RWMutex // guards what follows; held for writing while a term is claimed
	nc   *nats.Conn
	wire *broker.Log
	term uint64
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
	return j.connect(ctx)
}

// connect makes a new connection and claims a term. j.mu is held.
func (j *journal) connect(ctx context.Context) error {
	if j.nc != nil {
		j.nc.Close()
	}
	nc, err := j.broker.Connect("snapdb master")
	if err != nil {
		return fmt.Errorf("connect to the broker: %w", err)
	}
	j.nc = nc
	if j.wire, err = j.broker.OpenLog(nc); err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	return j.reclaim(ctx)
}

// reclaim publishes a new db.epoch. Once it is stored, no message of an earlier
// term can be any more. j.mu is held.
func (j *journal) reclaim(ctx context.Context) error {
	term, err := j.wire.Claim(ctx, j.claim)
	if err != nil {
		return fmt.Errorf("claim the log: %w", err)
	}
	j.term = term
	return nil
}

func (j *journal) close() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.nc != nil {
		j.nc.Close()
	}
}

// current is the term this master writes in.
func (j *journal) current() uint64 {
	j.mu.RLock()
	defer j.mu.RUnlock()
	return j.term
}

// reader is the log for reading; it changes when the broker is restarted.
func (j *journal) reader() *broker.Log {
	j.mu.RLock()
	defer j.mu.RUnlock()
	return j.wire
}

// append logs a message and returns its position. Errors: one that wraps
// errNotStored or a broker error when it is certainly not in the log,
// *unknownError when nobody knows, errFenced when this is no longer the master.
func (j *journal) append(ctx context.Context, h subjects.Header, body []byte) (uint64, error) {
	h.ID = randomID()
	for {
		j.mu.RLock()
		wire, term := j.wire, j.term
		h.Term = term
		pctx, cancel := context.WithTimeout(ctx, publishPatience)
		position, err := wire.Append(pctx, h, body)
		cancel()
		j.mu.RUnlock()
		switch {
		case err == nil:
			return position, nil
		case errors.Is(err, broker.ErrFenced):
			if j.current() != term {
				continue // our own new term, claimed meanwhile: it was not stored
			}
			return 0, errFenced
		case errors.Is(err, broker.ErrUnanswered):
			return j.resolve(h, term)
		default:
			return 0, err
		}
	}
}

// resolve finds out whether the message h, published in a term and not answered,
// is in the log.
func (j *journal) resolve(h subjects.Header, term uint64) (uint64, error) {
	// Its own time: the client's, or the master's stopping, must not leave it open.
	ctx, cancel := context.WithTimeout(context.Background(), publishPatience)
	defer cancel()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.log.Warn("the log did not answer a publish; finding out whether it was stored", "log_id", h.ID)
	if j.term == term {
		if err := j.reclaim(ctx); err != nil {
			return 0, &unknownError{h.ID, err}
		}
	}
	position, found, err := j.wire.Resolve(ctx, h.ID, h.Prev+1)
	switch {
	case err != nil:
		return 0, &unknownError{h.ID, err}
	case !found:
		return 0, errNotStored
	}
	return position, nil
}

// restart restarts the broker, which a full disk may have frozen, and claims a
// new term.
func (j *journal) restart(ctx context.Context) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.broker.Restart(ctx); err != nil {
		return fmt.Errorf("restart broker: %w", err)
	}
	return j.connect(ctx)
}

func randomID() string {
	var b [12]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// conn is the master's own connection; it changes when the broker is restarted.
func (j *journal) conn() *nats.Conn {
	j.mu.RLock()
	defer j.mu.RUnlock()
	return j.nc
}
