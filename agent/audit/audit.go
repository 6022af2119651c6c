// Package audit keeps the record of who did what: logins, changes of users, commands to
// nodes, DDL, what was denied. It knows none of these: it is given events, and keeps them
// as an append-only chain of entries in plain files of JSON lines.
//
// Each entry carries the hash of the one before, so that none can be changed, removed,
// moved or put in between without Verify naming the place. Two things a chain alone cannot
// show: that its last entries are missing, and that somebody who may write to the folder
// has made the whole of it anew. A running Log remembers its last entry and finds both;
// beyond that, keep the last hash of a Report where that somebody cannot write.
//
// An event is on stable storage when Append returns, unless it is Lazy; callers that
// append at the same time share one fsync. Old entries are removed by size and age, whole
// files at a time, and the removal is an entry that says what was the last of them: what
// remains is proven to be all that should remain.
package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/snapdb/snapdb/exec"
)

// Defaults of Options.
const (
	DefaultMaxBytes     = 256 << 20
	DefaultMaxAge       = 365 * 24 * time.Hour
	DefaultSegmentBytes = 8 << 20
)

// Actions of the log's own entries.
const (
	ActionBegin  = "audit.begin"  // the first entry: its target is the cluster
	ActionRemove = "audit.remove" // entries were removed, up to Entry.Removed
	ActionTorn   = "audit.torn"   // a crash had left something that is no entry
)

// own is who writes the log's own entries.
const own = "snapdb"

// Errors of Append. Every one of them is ErrNotRecorded: no part of the event is there.
var (
	ErrNotRecorded = errors.New("not recorded in the audit log")
	ErrFull        = errors.New("no space left for the audit log")
)

// Options of a log. What is zero has a default.
type Options struct {
	Cluster      string        // named by the first entry
	MaxBytes     int64         // of all segments together, before the oldest is removed
	MaxAge       time.Duration // of entries, before they are removed with their segment
	SegmentBytes int64         // at which a segment ends and the next begins
	Sync         bool          // Lazy events are on stable storage as well
	Mask         bool          // SQL text is kept without the values in it
	Arguments    bool          // arguments of SQL are kept
	Now          func() time.Time
	Logger       *slog.Logger
}

// Event is what somebody did, or wanted to do. Secrets have no place in it.
type Event struct {
	Who, From, Action, Target string
	Outcome                   Outcome
	Code, Detail              string
	SQL                       string // goes into the entry's detail, its first 4 KiB
	Args                      string // arguments of SQL, kept only with Options.Arguments
	Lazy                      bool   // may be lost in a power cut
}

// Log is a record being written.
type Log struct {
	dir string
	o   Options

	mu   sync.Mutex // guards next
	next *batch     // waits to be written

	writing sync.Mutex // guards what follows, and the files
	closed  bool
	owed    []Entry  // entries of its own that come before the next
	head    link     // the last entry
	file    *os.File // the segment being written, nil if the next entry begins one
	cut     int64    // where the file has to be cut before anything is written, -1 if nowhere
	begun   time.Time
	lazy    bool // not all of the file is on stable storage
	check   time.Time
}

// batch are entries that are written together.
type batch struct {
	entries []Entry
	sync    bool
	done    chan struct{} // closed when err is known
	err     error
}

// Open opens the log of a folder, making it if needed. What a crash left of a line is set
// aside. A chain that is broken is said in the log, and goes on from its last entry.
func Open(dir string, o Options) (*Log, error) {
	l := &Log{dir: dir, o: o.withDefaults(), cut: -1}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make audit folder: %w", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return nil, fmt.Errorf("close audit folder to others: %w", err)
	}
	if err := l.resume(); err != nil {
		return nil, fmt.Errorf("open audit log: %w", err)
	}
	if err := l.put(nil, true); err != nil {
		// They are written with the first event for which there is space.
		l.o.Logger.Warn("the audit log takes no entries", "error", err)
	}
	l.retain(l.now())
	return l, nil
}

func (o Options) withDefaults() Options {
	if o.MaxBytes <= 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.MaxAge <= 0 {
		o.MaxAge = DefaultMaxAge
	}
	if o.SegmentBytes <= 0 {
		o.SegmentBytes = DefaultSegmentBytes
	}
	o.SegmentBytes = min(o.SegmentBytes, max(1, o.MaxBytes/4)) // or removing one would leave little
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

func (l *Log) now() time.Time { return l.o.Now().UTC().Truncate(time.Millisecond) }

// resume finds where the chain ends, and sets aside what is behind that.
func (l *Log) resume() error {
	ctx := context.Background()
	list, err := segments(l.dir)
	if err != nil {
		return err
	}
	if n := len(list); n > 0 {
		last := &list[n-1]
		end, err := last.end(ctx)
		if err != nil {
			return err
		}
		if err := l.setAside(last, end); err != nil {
			return err
		}
		if last.size == 0 {
			list = list[:n-1]
		}
	}
	c, err := follow(ctx, list)
	if err != nil {
		return err
	}
	if bad := c.result().Bad; bad != nil {
		l.o.Logger.Warn("the audit log is not as it was written", "entry", bad.N, "file", bad.Segment, "line", bad.Line, "reason", bad.Reason)
	}
	l.head = c.at
	if l.head.n == 0 {
		begin := Entry{Time: l.now(), Who: own, Action: ActionBegin, Target: l.o.Cluster, Outcome: OK}
		l.owed = append([]Entry{begin}, l.owed...)
	}
	if len(list) == 0 {
		return nil
	}
	last := list[len(list)-1]
	if l.begun, err = last.begun(ctx); err != nil {
		return err
	}
	l.file, err = os.OpenFile(last.path, os.O_WRONLY, 0)
	return err
}

// setAside cuts a segment at end, keeps what was behind in a file beside it, and owes an
// entry that says so. A segment of which nothing is left has never begun.
func (l *Log) setAside(s *segment, end int64) error {
	if torn := s.size - end; torn > 0 {
		if err := keepTail(*s, end); err != nil {
			return full(fmt.Errorf("set aside what a crash left of an entry: %w", err))
		}
		if err := exec.SyncDir(l.dir); err != nil {
			return err
		}
		f, err := os.OpenFile(s.path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Truncate(end), f.Sync(), f.Close()); err != nil {
			return fmt.Errorf("cut off what a crash left of an entry: %w", err)
		}
		s.size = end
		l.o.Logger.Warn("set aside what a crash left of an audit entry", "file", s.path+tornSuffix, "bytes", torn)
		l.owed = append(l.owed, Entry{Time: l.now(), Who: own, Action: ActionTorn, Target: s.name() + tornSuffix, Outcome: OK,
			Detail: fmt.Sprintf("%d bytes behind the last whole entry, as a crash leaves them, were set aside", torn)})
	}
	if s.size == 0 {
		return os.Remove(s.path)
	}
	return nil
}

// keepTail copies what is behind end to the file beside a segment.
func keepTail(s segment, end int64) error {
	from, err := os.Open(s.path)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(s.path+tornSuffix, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err = to.Seek(0, io.SeekEnd); err == nil {
		_, err = io.Copy(to, io.NewSectionReader(from, end, s.size-end))
	}
	return errors.Join(err, to.Sync(), to.Close())
}

// Append records an event. It returns when the event is on stable storage, or, if it is
// lazy, written. After an error, which is ErrNotRecorded and ErrFull if that is why,
// nothing of it is there.
func (l *Log) Append(ev Event) error {
	if ev.Action == "" || ev.Outcome != OK && ev.Outcome != Denied && ev.Outcome != Failed {
		return fmt.Errorf("%w: an event needs an action, and an outcome that is ok, denied or failed", ErrNotRecorded)
	}
	b, first := l.enqueue(ev)
	if !first {
		<-b.done
		return b.err
	}
	l.writing.Lock() // while one batch is written, the next one gathers
	defer l.writing.Unlock()
	l.mu.Lock()
	l.next = nil
	l.mu.Unlock()
	if err := l.put(b.entries, b.sync); err != nil {
		b.err = fmt.Errorf("%w: %w", ErrNotRecorded, full(err))
	}
	close(b.done)
	if b.err == nil {
		l.retain(b.entries[0].Time)
	}
	return b.err
}

// enqueue adds an event to the batch that is written next. Whoever is the first of a batch
// writes it.
func (l *Log) enqueue(ev Event) (b *batch, first bool) {
	e := l.entry(ev)
	l.mu.Lock()
	defer l.mu.Unlock()
	if first = l.next == nil; first {
		l.next = &batch{sync: l.o.Sync, done: make(chan struct{})}
	}
	e.Time = l.now()
	l.next.entries = append(l.next.entries, e)
	l.next.sync = l.next.sync || !ev.Lazy
	return l.next, first
}

// entry is an event as it is kept.
func (l *Log) entry(ev Event) Entry {
	e := Entry{Who: clip(ev.Who, maxName), From: clip(ev.From, maxName), Action: clip(ev.Action, maxName), Target: clip(ev.Target, maxAim),
		Outcome: ev.Outcome, Code: clip(ev.Code, maxName), Detail: clip(ev.Detail, maxText)}
	add := func(text string) {
		if e.Detail != "" {
			e.Detail += " · "
		}
		e.Detail += text
	}
	if ev.SQL != "" {
		add(l.sql(ev.SQL))
	}
	if ev.Args != "" && l.o.Arguments {
		add(clip(ev.Args, maxText))
	}
	return e
}

// sql is SQL text as it is kept.
func (l *Log) sql(text string) string {
	if !l.o.Mask {
		return clip(text, maxText)
	}
	masked := maskSQL(text[:min(len(text), 4*maxText)])
	if len(text) <= 4*maxText {
		return clip(masked, maxText)
	}
	return fmt.Sprintf("%s… (%d bytes)", clip(masked, maxText), len(text))
}

// put writes entries behind those that are owed. After an error none of them is there.
func (l *Log) put(entries []Entry, sync bool) error {
	entries = append(l.owed[:len(l.owed):len(l.owed)], entries...)
	switch {
	case len(entries) == 0:
		return nil
	case l.closed:
		return errors.New("the log is closed")
	}
	end, err := l.makeReady(entries[0].Time)
	if err != nil {
		return err
	}
	head, lines := l.head, []byte(nil)
	for _, e := range entries {
		e.N, e.Prev = head.n+1, head.hash
		lines = seal(lines, &e)
		head = link{e.N, e.Prev, e.Hash}
	}
	if _, err = l.file.Write(lines); err == nil && sync {
		err = l.file.Sync()
	}
	if err != nil {
		l.cut = end // what is there of them would be read as if it counted
		return errors.Join(err, l.cutBack())
	}
	if end == 0 {
		l.begun = entries[0].Time
	}
	l.head, l.owed, l.lazy = head, nil, !sync
	return nil
}

// cutBack takes away what a write that failed has left.
func (l *Log) cutBack() error {
	if l.cut < 0 {
		return nil
	}
	if err := l.file.Truncate(l.cut); err != nil {
		return fmt.Errorf("take back what was written: %w", err)
	}
	l.cut = -1
	return nil
}

// makeReady has a file that takes the next entry, at end. A segment ends by size, and by
// age too, or what is removed with it would become far too old.
func (l *Log) makeReady(now time.Time) (end int64, err error) {
	if l.file != nil {
		if err := l.cutBack(); err != nil {
			return 0, err
		}
		end, err := l.file.Seek(0, io.SeekEnd)
		if err != nil || end == 0 || end < l.o.SegmentBytes && now.Sub(l.begun) < l.o.MaxAge/12 {
			return end, err
		}
		if l.lazy {
			if err := l.file.Sync(); err != nil {
				return 0, err
			}
			l.lazy = false
		}
	}
	path := segmentPath(l.dir, l.head.n+1)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	if err := exec.SyncDir(l.dir); err != nil {
		return 0, errors.Join(err, f.Close(), os.Remove(path))
	}
	if l.file != nil {
		l.file.Close() // all of it is on stable storage
	}
	l.file, l.check = f, time.Time{}
	return 0, nil
}

// full marks an error that means that there is no space.
func full(err error) error {
	const windowsDiskFull = syscall.Errno(112)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG) ||
		runtime.GOOS == "windows" && errors.Is(err, windowsDiskFull) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

// Close ends the log: events that come later are not recorded.
func (l *Log) Close() error {
	l.writing.Lock()
	defer l.writing.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	if l.file == nil {
		return nil
	}
	var err error
	if l.lazy {
		err = l.file.Sync()
	}
	if err := errors.Join(l.cutBack(), err, l.file.Close()); err != nil {
		return fmt.Errorf("close audit log: %w", err)
	}
	return nil
}
