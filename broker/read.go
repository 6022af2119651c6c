package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/snapdb/snapdb/subjects"
)

// Errors of reading.
var (
	// ErrConsumerGone: the consumer no longer exists; join again.
	ErrConsumerGone = errors.New("the consumer is gone")
	// ErrDisconnected: the connection is lost.
	ErrDisconnected = errors.New("the connection to the broker is lost")
)

// Reading ahead.
const (
	// aheadBytes is how much is asked for ahead of what was handed over. Messages
	// are asked for by size: asking for 5,000 messages of 43 KB left a gap.
	aheadBytes = 8 << 20
	// batchMost is how many messages are handed over at once.
	batchMost = 256
	// heartbeat is how often the server says that a consumer still exists.
	heartbeat = 2 * time.Second
)

// ReadLog reads with a consumer that the master made and hands over whatever
// arrived together, in order. It returns when ctx ends, fn fails, the consumer
// is gone or the connection lost.
func ReadLog(ctx context.Context, nc *nats.Conn, consumer string, fn func([]Entry) error) error {
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("open JetStream: %w", err)
	}
	cons, err := js.Consumer(ctx, subjects.LogStream, consumer)
	if err != nil {
		return readError(ctx, nc, err)
	}
	err = readConsumer(ctx, cons, fn)
	return readError(ctx, nc, err)
}

func readError(ctx context.Context, nc *nats.Conn, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case !nc.IsConnected(), errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrDisconnected):
		return fmt.Errorf("%w: %w", ErrDisconnected, err)
	case errors.Is(err, jetstream.ErrConsumerNotFound), errors.Is(err, jetstream.ErrConsumerDeleted), errors.Is(err, jetstream.ErrNoHeartbeat), errors.Is(err, nats.ErrNoResponders):
		return fmt.Errorf("%w: %w", ErrConsumerGone, err)
	}
	return err
}

func readConsumer(ctx context.Context, cons jetstream.Consumer, fn func([]Entry) error) error {
	it, err := cons.Messages(jetstream.PullMaxBytes(aheadBytes), jetstream.PullHeartbeat(heartbeat), jetstream.PullExpiry(30*time.Second), jetstream.WithMessagesErrOnMissingHeartbeat(true))
	if err != nil {
		return fmt.Errorf("pull: %w", err)
	}
	defer it.Stop()
	msgs := make(chan jetstream.Msg, batchMost)
	failed := make(chan error, 1)
	rctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	defer func() { cancel(); it.Stop(); <-done }()
	go func() {
		defer close(done)
		for {
			m, err := it.Next(jetstream.NextContext(rctx))
			if err != nil {
				failed <- err
				return
			}
			select {
			case msgs <- m:
			case <-rctx.Done():
				return
			}
		}
	}()
	var batch []Entry
	for {
		batch = batch[:0]
		select {
		case m := <-msgs:
			batch, err = appendEntry(batch, m)
		case err = <-failed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		for more := true; more && err == nil && len(batch) < batchMost; {
			select {
			case m := <-msgs:
				batch, err = appendEntry(batch, m)
			default:
				more = false
			}
		}
		if len(batch) > 0 {
			if ferr := fn(batch); ferr != nil {
				if errors.Is(ferr, errEnough) {
					return nil
				}
				return ferr
			}
		}
		if err != nil {
			return err
		}
	}
}

func appendEntry(batch []Entry, m jetstream.Msg) ([]Entry, error) {
	meta, err := m.Metadata()
	if err != nil {
		return batch, fmt.Errorf("message without position: %w", err)
	}
	return append(batch, entry(meta.Sequence.Stream, m.Subject(), m.Headers(), m.Data())), nil
}
