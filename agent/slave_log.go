package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/snapdb/snapdb/subjects"
)

// keptLines is how many log lines a node keeps for who asks.
const keptLines = subjects.MaxLogLines

// logWire carries log lines to the broker, and keeps the newest. It never blocks
// and never fails: what does not fit, or finds no connection, is dropped, since
// every line is in the node's own log too.
type logWire struct {
	lines chan []byte

	mu   sync.Mutex
	kept [][]byte // the oldest first
}

func newLogWire() *logWire { return &logWire{lines: make(chan []byte, 256)} }

// handler writes records as JSON lines to the wire.
func (w *logWire) handler() slog.Handler {
	return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: slog.LevelInfo, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Value.Kind() == slog.KindDuration {
			d := a.Value.Duration() // for people, not in nanoseconds
			if d.Abs() >= time.Millisecond {
				return slog.String(a.Key, d.Round(100*time.Microsecond).String())
			}
			return slog.String(a.Key, d.Round(100*time.Nanosecond).String())
		}
		return a
	}})
}

// Write takes one line.
func (w *logWire) Write(line []byte) (int, error) {
	own := bytes.Clone(bytes.TrimSuffix(line, []byte("\n")))
	w.mu.Lock()
	if w.kept = append(w.kept, own); len(w.kept) >= 2*keptLines {
		w.kept = slices.Clone(w.kept[keptLines:])
	}
	w.mu.Unlock()
	select {
	case w.lines <- own:
	default:
	}
	return len(line), nil
}

// linesAsked is how many lines are shown to who says no number.
const linesAsked = 100

// newest are the newest n lines of a level and above, the oldest first.
func (w *logWire) newest(n int, level string) []json.RawMessage {
	if n == 0 {
		n = linesAsked
	}
	var least slog.Level
	if err := least.UnmarshalText([]byte(level)); err != nil {
		least = slog.LevelDebug // none was named
	}
	w.mu.Lock()
	kept := w.kept
	w.mu.Unlock()
	lines := []json.RawMessage{}
	for _, line := range slices.Backward(kept) {
		var is struct{ Level slog.Level }
		if len(lines) == n {
			break
		}
		if json.Unmarshal(line, &is) == nil && is.Level >= least {
			lines = append(lines, line)
		}
	}
	slices.Reverse(lines)
	return lines
}

// run publishes lines until ctx ends, and then what is left.
func (w *logWire) run(ctx context.Context, nc *nats.Conn, subject string) {
	publish := func(line []byte) {
		if nc.IsConnected() {
			nc.Publish(subject, line) // a line that is lost here is in the node's own log
		}
	}
	for {
		select {
		case line := <-w.lines:
			publish(line)
			continue
		case <-ctx.Done():
		}
		for {
			select {
			case line := <-w.lines:
				publish(line)
			default:
				return
			}
		}
	}
}

// teeHandler gives every record to two handlers.
type teeHandler struct{ own, wire slog.Handler }

// Enabled is true if one of the two wants the level.
func (t teeHandler) Enabled(ctx context.Context, l slog.Level) bool {
	return t.own.Enabled(ctx, l) || t.wire.Enabled(ctx, l)
}

// Handle gives the record to whoever wants it.
func (t teeHandler) Handle(ctx context.Context, r slog.Record) error {
	var errs []error
	for _, h := range []slog.Handler{t.own, t.wire} {
		if h.Enabled(ctx, r.Level) {
			errs = append(errs, h.Handle(ctx, r.Clone()))
		}
	}
	return errors.Join(errs...)
}

// WithAttrs adds attributes to both.
func (t teeHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return teeHandler{t.own.WithAttrs(attrs), t.wire.WithAttrs(attrs)}
}

// WithGroup opens a group in both.
func (t teeHandler) WithGroup(name string) slog.Handler {
	return teeHandler{t.own.WithGroup(name), t.wire.WithGroup(name)}
}
