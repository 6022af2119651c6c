package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/snapdb/snapdb/subjects"
)

// LogsKept calls fn for the newest log lines that the broker keeps, the oldest
// first: for who has begun to listen and wants those of before as well.
func (c *Client) LogsKept(ctx context.Context, most uint64, fn func(subject string, data []byte, at time.Time)) error {
	js, err := jetstream.New(c.nc)
	if err != nil {
		return fmt.Errorf("open JetStream: %w", err)
	}
	stream, err := js.Stream(ctx, subjects.NodeLogStream)
	if err != nil {
		return fmt.Errorf("find stream %s: %w", subjects.NodeLogStream, err)
	}
	has := stream.CachedInfo().State
	for seq := max(has.FirstSeq, has.LastSeq-min(most, has.LastSeq)+1); seq <= has.LastSeq; seq++ {
		m, err := stream.GetMsg(ctx, seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue // by now it is too old
		}
		if err != nil {
			return fmt.Errorf("read stream %s: %w", subjects.NodeLogStream, err)
		}
		fn(m.Subject, m.Data, m.Time)
	}
	return nil
}
