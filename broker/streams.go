package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
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
// and keeps the old.
func (b *Broker) logConfig() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: subjects.LogStream, Subjects: []string{subjects.Replicate, subjects.Epoch},
		Storage: jetstream.FileStorage, Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardNew,
		MaxBytes: b.c.MaxLogBytes, MaxAge: 0, MaxMsgs: -1, MaxMsgSize: -1, Replicas: 1,
		DenyDelete: true, Duplicates: 100 * time.Millisecond,
	}
}

func (b *Broker) ensureStreams(ctx context.Context) error {
	nc, err := b.Connect("snapdb broker")
	if err != nil {
		return err
	}
	b.mu.Lock()
	b.own = nc
	b.mu.Unlock()
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("open JetStream: %w", err)
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
		_, err = js.CreateStream(ctx, want)
		if err != nil {
			return fmt.Errorf("make stream %s: %w", subjects.LogStream, err)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("find stream %s: %w", subjects.LogStream, err)
	}
	has := stream.CachedInfo().Config
	if !slices.Equal(has.Subjects, want.Subjects) || has.Storage != want.Storage || has.MaxAge != 0 || has.MaxMsgs > 0 || has.Retention != want.Retention {
		return fmt.Errorf("%w: %s", ErrStream, subjects.LogStream)
	}
	b.mu.Lock()
	b.cluster = has.Metadata[clusterKey]
	b.mu.Unlock()
	if has.MaxBytes == want.MaxBytes && has.Discard == want.Discard {
		return nil
	}
	has.MaxBytes, has.Discard = want.MaxBytes, want.Discard
	if _, err := js.UpdateStream(ctx, has); err != nil {
		return fmt.Errorf("update stream %s: %w", subjects.LogStream, err)
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
		return fmt.Errorf("%w: the log belongs to cluster %s", ErrStream, has)
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
	if nc == nil {
		return nil, ErrUnanswered
	}
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

// watchPresence listens to the server's own events, which tell of a killed client
// within milliseconds.
func (b *Broker) watchPresence() error {
	nc, err := b.connect("snapdb presence", sysUser)
	if err != nil {
		return err
	}
	b.mu.Lock()
	b.sys = nc
	b.mu.Unlock()
	for _, kind := range []string{"CONNECT", "DISCONNECT"} {
		if _, err := nc.Subscribe("$SYS.ACCOUNT.*."+kind, b.presence(kind == "CONNECT")); err != nil {
			return fmt.Errorf("watch connections: %w", err)
		}
	}
	return nil
}

func (b *Broker) presence(connected bool) nats.MsgHandler {
	return func(msg *nats.Msg) {
		var event struct {
			Client struct {
				Name string `json:"name"`
			} `json:"client"`
			Reason string `json:"reason"`
		}
		if err := json.Unmarshal(msg.Data, &event); err != nil {
			b.c.Logger.Warn("cannot read a presence event", "error", err)
			return
		}
		b.mu.RLock()
		watch := b.watch
		b.mu.RUnlock()
		for _, fn := range watch {
			fn(Presence{Name: event.Client.Name, Connected: connected, Reason: event.Reason})
		}
	}
}

// logger hands the server's lines to slog. Its notices are chatter to us.
type logger struct{ log *slog.Logger }

func (l *logger) Noticef(f string, v ...any) { l.log.Debug(fmt.Sprintf(f, v...)) }
func (l *logger) Debugf(f string, v ...any)  { l.log.Debug(fmt.Sprintf(f, v...)) }
func (l *logger) Tracef(f string, v ...any)  { l.log.Debug(fmt.Sprintf(f, v...)) }
func (l *logger) Warnf(f string, v ...any)   { l.log.Warn(fmt.Sprintf(f, v...)) }
func (l *logger) Errorf(f string, v ...any)  { l.log.Error(fmt.Sprintf(f, v...)) }

// Fatalf must not end the process: Start sees that the server is not ready.
func (l *logger) Fatalf(f string, v ...any) { l.log.Error(fmt.Sprintf(f, v...)) }
