package dashboard

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/snapdb/snapdb/subjects"
)

// Bounds of the log lines that are kept.
const (
	keptLines = 5000
	keptBytes = 16 << 20
	maxLine   = 16 << 10 // bytes; a longer one is cut and shown as text
	// framed is how many lines one message to a browser has, framedBytes about how
	// large it may become.
	framed      = 500
	framedBytes = 256 << 10
)

// logLine is a line that a node has logged.
type logLine struct {
	Seq   uint64                     `json:"seq"`
	Node  string                     `json:"node"`
	Time  time.Time                  `json:"time"`
	Level string                     `json:"level"`
	Msg   string                     `json:"msg"`
	Attrs map[string]json.RawMessage `json:"attrs,omitempty"`

	size int
}

// readLine reads what a node published. Anybody may publish there: what is no line
// of a log is shown as it is, and one without a time as of when it came.
func readLine(node string, data []byte, at time.Time) logLine {
	l := logLine{Node: node, Time: at.UTC(), Level: "INFO", size: len(data)}
	var fields map[string]json.RawMessage
	if len(data) > maxLine || json.Unmarshal(data, &fields) != nil || fields == nil {
		l.Msg = strings.ToValidUTF8(string(data[:min(len(data), maxLine)]), "�")
		l.size = len(l.Msg)
		return l
	}
	take := func(name string, into any) {
		if raw, ok := fields[name]; ok && json.Unmarshal(raw, into) == nil {
			delete(fields, name)
		}
	}
	take("time", &l.Time)
	take("level", &l.Level)
	take("msg", &l.Msg)
	l.Attrs = fields
	return l
}

// severity is a level as slog counts them.
func severity(level string) slog.Level {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return slog.LevelInfo
	}
	return l
}

// logRing keeps the newest lines. They are numbered from the microsecond at which
// it was made, so that the numbers of one process are all above those of the one
// before: who goes on after a line gets none twice, whichever process he asks.
type logRing struct {
	mu     sync.Mutex // guards all below
	lines  []logLine
	bytes  int
	origin uint64 // number before the first line ever
	last   uint64 // number of the newest line
}

func newLogRing() *logRing {
	origin := uint64(time.Now().UnixMicro())
	return &logRing{origin: origin, last: origin}
}

func (r *logRing) add(l logLine) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last++
	l.Seq = r.last
	r.lines = append(r.lines, l)
	r.bytes += l.size
	for len(r.lines) > keptLines || r.bytes > keptBytes {
		r.bytes -= r.lines[0].size
		r.lines[0] = logLine{}
		r.lines = r.lines[1:]
	}
}

// logFilter says which lines are wanted.
type logFilter struct {
	node  string
	level slog.Level
	all   bool // levels
}

func (f logFilter) wants(l *logLine) bool {
	return (f.node == "" || f.node == l.Node) && (f.all || severity(l.Level) >= f.level)
}

// after gets the first most lines after a number that are wanted; next is the
// number to go on after, skipped how many there were that are not kept any more.
func (r *logRing) after(seq uint64, f logFilter, most int) (lines []logLine, next, skipped uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	known := seq >= r.origin && seq <= r.last // of this process: else it begins at the oldest
	if !known {
		seq = r.last - uint64(len(r.lines))
	}
	i := 0
	if len(r.lines) > 0 {
		oldest := r.lines[0].Seq
		if seq+1 < oldest {
			skipped = oldest - seq - 1
		} else {
			i = int(seq + 1 - oldest)
		}
	}
	next = max(seq, r.last-uint64(len(r.lines)))
	size := 0
	for ; i < len(r.lines) && len(lines) < most && size < framedBytes; i++ {
		next = r.lines[i].Seq
		if f.wants(&r.lines[i]) {
			lines = append(lines, r.lines[i])
			size += r.lines[i].size
		}
	}
	return lines, next, skipped
}

// newest gets the last most lines that are wanted.
func (r *logRing) newest(f logFilter, most int) (lines []logLine) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := len(r.lines) - 1; i >= 0 && len(lines) < most; i-- {
		if f.wants(&r.lines[i]) {
			lines = append(lines, r.lines[i])
		}
	}
	slices.Reverse(lines)
	return lines
}

// onLog takes what a node published at its log, once what was before is there.
func (s *Server) onLog(subject string, data []byte) {
	select {
	case <-s.early.read:
	case <-s.ctx.Done():
		return
	}
	if now := time.Now(); !s.early.had(subject, data, now) {
		s.takeLog(subject, data, now)
	}
}

func (s *Server) takeLog(subject string, data []byte, at time.Time) {
	if id, _, ok := subjects.SplitNode(subject); ok {
		s.logs.add(readLine(id, data, at))
		s.hub.mu.Lock()
		defer s.hub.mu.Unlock()
		s.hub.tell(topicLogs)
	}
}

// earlyLines are what nodes said since the broker runs and before the panel listened,
// as all of them do when a master has come back. The broker keeps those lines.
type earlyLines struct {
	since time.Time      // the panel listens, or is about to
	read  chan struct{}  // closed when they were read
	again map[string]int // those which came since: they come by the subscription too
	until time.Time      // and have by then
}

// earlyAgain is how long after they were read such lines may come a second time. They
// wait in the client by then.
const earlyAgain = 5 * time.Second

func newEarlyLines() *earlyLines {
	return &earlyLines{since: time.Now(), read: make(chan struct{}), again: map[string]int{}}
}

// had says whether a line was read already. Each that was is had once, and not for ever:
// a later one may have the same words.
func (e *earlyLines) had(subject string, data []byte, now time.Time) bool {
	if now.After(e.until) {
		e.again = nil
		return false
	}
	key := subject + " " + string(data)
	if e.again[key] == 0 {
		return false
	}
	if e.again[key]--; e.again[key] == 0 {
		delete(e.again, key)
	}
	return true
}

// readEarly reads what was said before the panel listened. What comes meanwhile waits.
func (s *Server) readEarly(ctx context.Context) {
	defer func() {
		s.early.until = time.Now().Add(earlyAgain)
		close(s.early.read)
	}()
	limited, cancel := context.WithTimeout(ctx, controlPatience)
	defer cancel()
	err := s.bus.LogsKept(limited, keptLines, func(subject string, data []byte, at time.Time) {
		s.takeLog(subject, data, at)
		if !at.Before(s.early.since) {
			s.early.again[subject+" "+string(data)]++
		}
	})
	if err != nil && ctx.Err() == nil {
		s.log.Warn("cannot read the log lines of before", "error", err)
	}
}

// getLogs shows lines of all nodes or of one: the newest, or those after a number.
func (s *Server) getLogs(w http.ResponseWriter, r *http.Request) error {
	p := readParameters(r, "node", "level", "after", "limit")
	f := logFilter{node: p.node("node"), all: p.text("level") == "", level: severity(p.text("level"))}
	after, limit := p.number("after", 0, 1<<53, 0), int(p.number("limit", 1, keptLines, 200))
	if err := subjects.CheckLogLevel(p.text("level")); err != nil {
		p.fail("%v", err)
	}
	if p.err != nil {
		return p.err
	}
	var answer struct {
		Lines   []logLine `json:"lines"`
		Next    uint64    `json:"next"` // to go on after
		Skipped uint64    `json:"skipped"`
	}
	if after == 0 {
		answer.Lines = s.logs.newest(f, limit)
		if n := len(answer.Lines); n > 0 {
			answer.Next = answer.Lines[n-1].Seq
		}
	} else {
		answer.Lines, answer.Next, answer.Skipped = s.logs.after(after, f, limit)
	}
	if answer.Lines == nil {
		answer.Lines = []logLine{}
	}
	return replyJSON(w, http.StatusOK, answer)
}
