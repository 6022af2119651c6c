package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/snapdb/snapdb/subjects"
)

// Errors of reading. After each of them, join again.
var (
	// ErrConsumerGone: the consumer does not exist or says nothing any more.
	ErrConsumerGone = errors.New("the consumer is gone")
	// ErrDisconnected: the connection is or was lost.
	ErrDisconnected = errors.New("the connection to the broker is lost")
	// ErrGap: a message did not arrive, because the connection was too slow or
	// because somebody else reads with the same consumer.
	ErrGap = errors.New("a message of the log did not arrive")
)

// Reading ahead.
const (
	// aheadBytes is how much is asked for ahead of what was handed over. Messages
	// are asked for by size: asking for 5,000 messages of 43 KB left a gap.
	aheadBytes = 8 << 20
	// aheadMessages bounds the same in number. It is more than fit in aheadBytes.
	aheadMessages = 1 << 20
	// batchMost is how many messages are handed over at once.
	batchMost = 256
	// pullLife is how long the server keeps a request for messages.
	pullLife = 30 * time.Second
	// heartbeat is how often the server says that a consumer still exists, and
	// silence after how long without a word it does not.
	heartbeat = 2 * time.Second
	silence   = 2 * heartbeat
)

// ReadLog reads with a consumer that the master made, from its beginning, and
// hands over whatever arrived together, in order. The slice is valid until fn
// returns. ReadLog returns when ctx ends, with its cause, when fn fails, with
// fn's error, and when messages can no longer arrive, with one of the errors
// above.
func ReadLog(ctx context.Context, nc *nats.Conn, consumer string, fn func([]Entry) error) error {
	sub, err := nc.SubscribeSync(nc.NewInbox())
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDisconnected, err)
	}
	p := &puller{ctx: ctx, nc: nc, sub: sub, subject: fmt.Sprintf(server.JSApiRequestNextT, subjects.LogStream, consumer)}
	defer p.guard()()
	for {
		batch, err := p.next()
		if len(batch) > 0 {
			if err := fn(batch); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
	}
}

// puller reads with one consumer. It speaks the pull protocol itself because the
// log may hold, by way of the hole described at the top of the package, messages
// that look like the server's words about a pull. Only where they come from
// tells them apart: what the stream delivers has a reply subject, a word about
// the pull has none.
type puller struct {
	ctx     context.Context
	nc      *nats.Conn
	sub     *nats.Subscription
	subject string // where to ask for messages

	batch []Entry
	asked int    // bytes asked for that have neither arrived nor been refused
	last  uint64 // number of the last message that the consumer sent
}

// guard ends the subscription, and with it a next that waits, when ctx ends or
// the connection is lost. The returned function ends the guard.
func (p *puller) guard() (end func()) {
	lost := p.nc.StatusChanged(nats.RECONNECTING, nats.CLOSED)
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-p.ctx.Done():
		case <-lost:
		case <-done:
		}
		// Fails if the connection is closed, and then there is nothing to end.
		_ = p.sub.Unsubscribe()
	})
	return func() {
		close(done)
		wg.Wait()
		p.nc.RemoveStatusListener(lost)
	}
}

// next waits for messages and takes all that are there. It may return both
// messages and an error.
func (p *puller) next() ([]Entry, error) {
	p.batch = p.batch[:0]
	for ready := 1; len(p.batch) == 0 || ready > 0 && len(p.batch) < batchMost; {
		if err := p.ask(); err != nil {
			return p.batch, err
		}
		msg, err := p.sub.NextMsg(silence)
		if err != nil {
			return p.batch, p.fault(err)
		}
		if err := p.take(msg); err != nil {
			return p.batch, err
		}
		if ready, _, err = p.sub.Pending(); err != nil {
			return p.batch, p.fault(err)
		}
	}
	return p.batch, nil
}

// ask keeps as much on its way as may be.
func (p *puller) ask() error {
	if p.asked > aheadBytes/2 {
		return nil
	}
	req, err := json.Marshal(map[string]any{
		"batch": aheadMessages, "max_bytes": aheadBytes - p.asked, "expires": pullLife, "idle_heartbeat": heartbeat,
	})
	if err != nil {
		return fmt.Errorf("encode pull: %w", err)
	}
	if err := p.nc.PublishRequest(p.subject, p.sub.Subject, req); err != nil {
		return p.fault(err)
	}
	p.asked = aheadBytes
	return nil
}

// fault says why nothing can arrive any more.
func (p *puller) fault(err error) error {
	switch {
	case p.ctx.Err() != nil:
		return context.Cause(p.ctx)
	case errors.Is(err, nats.ErrTimeout) && p.nc.IsConnected():
		return fmt.Errorf("%w: silent for %v", ErrConsumerGone, silence)
	case errors.Is(err, nats.ErrSlowConsumer):
		return fmt.Errorf("%w: %w", ErrGap, err)
	}
	return fmt.Errorf("%w: %w", ErrDisconnected, err)
}

// Headers of the server's words about a pull.
const (
	headerStatus      = "Status"
	headerDescription = "Description"
	headerBytesLeft   = "Nats-Pending-Bytes"
)

// take adds a message to the batch, or heeds a word about a pull.
func (p *puller) take(msg *nats.Msg) error {
	if msg.Reply != "" {
		p.asked -= msg.Size()
		return p.add(msg)
	}
	switch status := msg.Header.Get(headerStatus); status {
	case "100": // still there
		return nil
	case "408", "409": // this pull is over
		left, err := strconv.Atoi(msg.Header.Get(headerBytesLeft))
		if err != nil { // and so is everything else
			return fmt.Errorf("%w: %s", ErrConsumerGone, msg.Header.Get(headerDescription))
		}
		p.asked -= left
		return nil
	default:
		return fmt.Errorf("%w: status %q %s", ErrConsumerGone, status, msg.Header.Get(headerDescription))
	}
}

func (p *puller) add(msg *nats.Msg) error {
	meta, err := msg.Metadata()
	if err != nil {
		return fmt.Errorf("message without position: %w", err)
	}
	if meta.Sequence.Consumer != p.last+1 {
		return fmt.Errorf("%w: the consumer sent number %d after %d", ErrGap, meta.Sequence.Consumer, p.last)
	}
	p.last++
	e := newEntry(meta.Sequence.Stream, msg.Subject, msg.Header, msg.Data)
	e.following = meta.NumPending
	p.batch = append(p.batch, e)
	return nil
}
