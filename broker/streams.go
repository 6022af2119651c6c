package broker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/snapdb/snapdb/subjects"
)

// clusterKey is where a stream's metadata keep the cluster id.
const clusterKey = "snapdb.cluster"

// Bounds of the stream of log lines, which is kept in memory.
const (
	nodeLogBytes = 64 << 20
	nodeLogAge   = 24 * time.Hour
)

// logConfig is the stream of the log. It has no MaxAge and no MaxMsgs: they would
// evict the db.epoch message, the oldest of its term, after which the server
// refuses every publish that expects it. At its limit it refuses new messages
// and keeps the old. No message may be larger than what a reader asks for at
// once, or no reader would ever get past it.
func (b *Broker) logConfig() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: subjects.LogStream, Subjects: []string{subjects.Replicate, subjects.Epoch},
		Storage: jetstream.FileStorage, Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardNew,
		MaxBytes: b.c.MaxLogBytes, MaxMsgs: -1, MaxMsgsPerSubject: -1, MaxMsgSize: aheadBytes - 64<<10, Replicas: 1,
		DenyDelete: true, Duplicates: 100 * time.Millisecond,
	}
}

func (b *Broker) ensureStreams(ctx context.Context) error {
	js, err := b.jetStream()
	if err != nil {
		return err
	}
	if err := b.ensureLog(ctx, js); err != nil {
		return err
	}
	_, err = js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: subjects.NodeLogStream, Subjects: []string{subjects.NodeLog("*")},
		Storage: jetstream.MemoryStorage, MaxBytes: nodeLogBytes, MaxAge: nodeLogAge, Replicas: 1,
	})
	if err != nil {
		return fmt.Errorf("make stream %s: %w", subjects.NodeLogStream, err)
	}
	return nil
}

// ensureLog makes the log's stream, or checks the one that is there.
func (b *Broker) ensureLog(ctx context.Context, js jetstream.JetStream) error {
	want := b.logConfig()
	stream, err := js.Stream(ctx, subjects.LogStream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return b.createLog(ctx, js, want)
	}
	if err != nil {
		return fmt.Errorf("find stream %s: %w", subjects.LogStream, err)
	}
	has := stream.CachedInfo().Config
	if !slices.Equal(has.Subjects, want.Subjects) || has.Retention != want.Retention ||
		has.MaxAge != 0 || has.MaxMsgs > 0 || has.MaxMsgsPerSubject > 0 {
		return fmt.Errorf("%w: stream %s has settings that lose messages", ErrStream, subjects.LogStream)
	}
	b.mu.Lock()
	b.cluster = has.Metadata[clusterKey]
	b.mu.Unlock()
	if has.MaxBytes == want.MaxBytes && has.Discard == want.Discard && has.MaxMsgSize == want.MaxMsgSize {
		return nil
	}
	has.MaxBytes, has.Discard, has.MaxMsgSize = want.MaxBytes, want.Discard, want.MaxMsgSize
	if _, err := js.UpdateStream(ctx, has); err != nil {
		return fmt.Errorf("update stream %s: %w", subjects.LogStream, err)
	}
	return nil
}

// createLog makes a new log, unless there is one that the server could not open:
// it says so in a line of its log and goes on without.
func (b *Broker) createLog(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig) error {
	if _, err := os.Stat(b.storedLog()); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: %s is there, but could not be opened; see the lines before: restore it from a backup", ErrStream, b.storedLog())
	}
	if _, err := js.CreateStream(ctx, want); err != nil {
		return fmt.Errorf("make stream %s: %w", subjects.LogStream, err)
	}
	return nil
}

// SetCluster stores the cluster id with the log, once.
func (b *Broker) SetCluster(ctx context.Context, id string) error {
	js, err := b.jetStream()
	if err != nil {
		return err
	}
	info, err := b.stream(ctx)
	if err != nil {
		return err
	}
	if has := info.Config.Metadata[clusterKey]; has != "" && has != id {
		return fmt.Errorf("%w: it belongs to cluster %s", ErrStream, has)
	}
	if info.Config.Metadata == nil {
		info.Config.Metadata = map[string]string{}
	}
	info.Config.Metadata[clusterKey] = id
	if _, err := js.UpdateStream(ctx, info.Config); err != nil {
		return fmt.Errorf("store cluster id: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cluster = id
	return nil
}

func (b *Broker) jetStream() (jetstream.JetStream, error) {
	b.mu.RLock()
	nc := b.own
	b.mu.RUnlock()
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("open JetStream: %w", err)
	}
	return js, nil
}

// stream is the state of the log's stream.
func (b *Broker) stream(ctx context.Context) (*jetstream.StreamInfo, error) {
	js, err := b.jetStream()
	if err != nil {
		return nil, err
	}
	s, err := js.Stream(ctx, subjects.LogStream)
	if err != nil {
		return nil, fmt.Errorf("find stream %s: %w", subjects.LogStream, err)
	}
	return s.CachedInfo(), nil
}
