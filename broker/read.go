package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
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
	// aheadMessages bounds the same in number, for a log of tiny messages.
	aheadMessages = 16 << 10
	// batchMost is how many messages are handed over at once.
	batchMost = 256
	// pullLife is how long the server keeps a request for messages.
	pullLife = 30 * time.Second
	// heartbeat is how often the server says that a consumer still exists, and
	// silence after how long without a word it does not.
	heartbeat = 2 * time.Second
	silence   = 2 * heartbeat
)

// Next is the subject at which a consumer of the log is asked for messages.
func Next(consumer string) string {
	return fmt.Sprintf(server.JSApiRequestNextT, subjects.LogStream, consumer)
}

// NextOfGuest is the same for a node of a gated broker.
func NextOfGuest(consumer string) string { return nextDoor + consumer }

// ReadLog reads with a consumer that the master made and that is asked at a subject
// ([Next], [NextOfGuest]), from its beginning, and hands over whatever arrived together, in order. The slice is valid until fn
// returns. ReadLog returns when ctx ends, with its cause, when fn fails, with
// fn's error, and when messages can no longer arrive, with one of the errors
// above.
func ReadLog(ctx context.Context, nc *nats.Conn, subject string, fn func([]Entry) error) error {
	p := &puller{nc: nc, subject: subject,
		inbox: nc.NewInbox(), arrived: make(chan *nats.Msg, aheadMessages+statusesMost), quiet: time.NewTimer(silence)}
	defer p.quiet.Stop()
	// Before anything is asked for: a connection that is lost in between has lost
	// the question.
	p.lost = nc.StatusChanged(nats.RECONNECTING, nats.CLOSED)
	defer nc.RemoveStatusListener(p.lost)
	sub, err := nc.ChanSubscribe(p.inbox, p.arrived)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDisconnected, err)
	}
	// Fails if the connection is closed, and then there is nothing to end.
	defer func() { _ = sub.Unsubscribe() }()
	for {
		batch, err := p.next(ctx)
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
// that look like the server's words about a pull; the library believes them. Only
// where they come from tells them apart: what the stream delivers has a reply
// subject, a word about the pull has none.
type puller struct {
	nc      *nats.Conn
	subject string // where to ask for messages
	inbox   string // where they arrive
	arrived chan *nats.Msg
	lost    chan nats.Status
	quiet   *time.Timer // fires after silence

	batch []Entry
	asked amount // asked for and neither arrived nor refused
	drain bool   // ask for nothing until everything asked for is settled
	last  uint64 // number of the last message that the consumer sent
}

// amount of messages.
type amount struct{ messages, bytes int }

// statusesMost is more than the server's words about pulls that can be on their
// way with the messages.
const statusesMost = 64

// next waits for messages and takes all that are there. It may return both
// messages and an error.
func (p *puller) next(ctx context.Context) ([]Entry, error) {
	p.batch = p.batch[:0]
	for len(p.batch) == 0 || len(p.arrived) > 0 && len(p.batch) < batchMost {
		if err := p.ask(); err != nil {
			return p.batch, err
		}
		p.quiet.Reset(silence)
		select {
		case msg := <-p.arrived:
			if err := p.take(msg); err != nil {
				return p.batch, err
			}
		case <-ctx.Done():
			return p.batch, context.Cause(ctx)
		case <-p.lost:
			return p.batch, ErrDisconnected
		case <-p.quiet.C:
			if !p.nc.IsConnected() { // nor was it when reading began
				return p.batch, ErrDisconnected
			}
			return p.batch, fmt.Errorf("%w: silent for %v", ErrConsumerGone, silence)
		}
	}
	return p.batch, nil
}

// ask keeps as much on its way as may be.
//
// A message that fits into none of the pulls ends them all. Asking for the room of
// the first while the others are not known to be over would be asking for less than
// everything again, and so on for ever, each pull too small in turn. Messages and
// bytes are both counted because a pull that has delivered its messages is over
// without a word about the bytes left, and the other way round.
func (p *puller) ask() error {
	if p.drain {
		if p.asked.messages > 0 && p.asked.bytes > 0 {
			return nil
		}
		p.asked, p.drain = amount{}, false
	}
	if p.asked.bytes > aheadBytes/2 && p.asked.messages > aheadMessages/2 {
		return nil
	}
	req, err := json.Marshal(map[string]any{
		"batch": aheadMessages - p.asked.messages, "max_bytes": aheadBytes - p.asked.bytes,
		"expires": pullLife, "idle_heartbeat": heartbeat,
	})
	if err != nil {
		return fmt.Errorf("encode pull: %w", err)
	}
	if err := p.nc.PublishRequest(p.subject, p.inbox, req); err != nil {
		return fmt.Errorf("%w: %w", ErrDisconnected, err)
	}
	p.asked = amount{aheadMessages, aheadBytes}
	return nil
}

// Headers of the server's words about a pull.
const (
	headerStatus       = "Status"
	headerDescription  = "Description"
	headerMessagesLeft = "Nats-Pending-Messages"
	headerBytesLeft    = "Nats-Pending-Bytes"
)

// take adds a message to the batch, or heeds a word about a pull.
func (p *puller) take(msg *nats.Msg) error {
	if msg.Reply != "" {
		p.asked.messages--
		p.asked.bytes -= msg.Size()
		return p.add(msg)
	}
	switch status := msg.Header.Get(headerStatus); status {
	case "100": // still there
		return nil
	case "408", "409": // this pull is over
		messages, merr := strconv.Atoi(msg.Header.Get(headerMessagesLeft))
		bytes, berr := strconv.Atoi(msg.Header.Get(headerBytesLeft))
		if merr == nil && berr == nil {
			p.drain = p.drain || status == "409" // too small for the next message
			p.asked.messages -= messages
			p.asked.bytes -= bytes
			return nil
		} // otherwise everything is over
	}
	return fmt.Errorf("%w: status %q %s", ErrConsumerGone, msg.Header.Get(headerStatus), msg.Header.Get(headerDescription))
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
	p.batch = append(p.batch, newEntry(meta.Sequence.Stream, msg.Subject, msg.Header, msg.Data))
	return nil
}
