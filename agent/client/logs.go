package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/snapdb/snapdb/subjects"
)

// LogsKept calls fn for the newest log lines that the broker keeps, the oldest first:
// for who has begun to listen and wants those of before as well. They are read from the
// newest on, one by one because a reader may make no consumer; what ctx leaves no time
// for are the oldest, and fn is called for the others even so.
func (c *Client) LogsKept(ctx context.Context, most uint64, fn func(subject string, data []byte, at time.Time)) error {
	js, err := jetstream.NewWithAPIPrefix(c.nc, c.api)
	if err != nil {
		return fmt.Errorf("open JetStream: %w", err)
	}
	stream, err := js.Stream(ctx, subjects.NodeLogStream)
	if err != nil {
		return fmt.Errorf("find stream %s: %w", subjects.NodeLogStream, err)
	}
	has := stream.CachedInfo().State
	var lines []*jetstream.RawStreamMsg
	for seq := has.LastSeq; seq >= max(1, has.FirstSeq) && uint64(len(lines)) < most; seq-- {
		m, gerr := stream.GetMsg(ctx, seq)
		if errors.Is(gerr, jetstream.ErrMsgNotFound) {
			continue // by now it is too old
		}
		if gerr != nil {
			err = fmt.Errorf("read stream %s: %w", subjects.NodeLogStream, gerr)
			break
		}
		lines = append(lines, m)
	}
	for _, m := range slices.Backward(lines) {
		fn(m.Subject, m.Data, m.Time)
	}
	return err
}
