package audit_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/snapdb/snapdb/agent/audit"
)

// tb is what *testing.T and *rapid.T have in common.
type tb interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

func open(t tb, dir string, o audit.Options) *audit.Log {
	t.Helper()
	l, err := audit.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func closeLog(t tb, l *audit.Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// record appends an event that is complete.
func record(t tb, l *audit.Log, ev audit.Event) {
	t.Helper()
	if ev.Action == "" {
		ev.Action = "user.add"
	}
	if ev.Outcome == "" {
		ev.Outcome = audit.OK
	}
	if err := l.Append(ev); err != nil {
		t.Fatal(err)
	}
}

// fill appends n events by alice, whose targets are their numbers.
func fill(t tb, l *audit.Log, n int) {
	t.Helper()
	for i := range n {
		record(t, l, audit.Event{Who: "alice", Target: fmt.Sprint(i)})
	}
}

func all(t tb, seq iter.Seq2[audit.Entry, error]) (list []audit.Entry) {
	t.Helper()
	for e, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, e)
	}
	return list
}

// good verifies a log twice, as its writer and as a stranger.
func good(t tb, dir string, l *audit.Log) audit.Report {
	t.Helper()
	r, err := l.Verify(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if r.Bad != nil {
		t.Fatal(r.Bad)
	}
	if other := verifyDir(t, dir); fmt.Sprint(other) != fmt.Sprint(r) {
		t.Fatalf("a stranger finds %+v, the writer %+v", other, r)
	}
	return r
}

func verifyDir(t tb, dir string) audit.Report {
	t.Helper()
	r, err := audit.VerifyDir(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// files are the segments, the oldest first.
func files(t tb, dir string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "audit-*.jsonl"))
	if err != nil || len(list) == 0 {
		t.Fatal("no segments", err)
	}
	return list
}

func TestALogIsAChainOfLinesThatAnyProgramReads(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "audit")
	now := time.Date(2026, 11, 25, 1, 2, 3, 456789000, time.FixedZone("", 3600))
	l := open(t, dir, audit.Options{Cluster: "c1", Now: func() time.Time { return now }})
	record(t, l, audit.Event{Who: "alice#t1", From: "10.0.0.7", Action: "login", Target: "panel", Outcome: audit.Denied, Code: "denied", Detail: "wrong password"})
	closeLog(t, l)

	data, err := os.ReadFile(files(t, dir)[0])
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d lines", len(lines))
	}
	var first, second map[string]any
	if err := errors.Join(json.Unmarshal([]byte(lines[0]), &first), json.Unmarshal([]byte(lines[1]), &second)); err != nil {
		t.Fatal(err)
	}
	if first["action"] != audit.ActionBegin || first["target"] != "c1" {
		t.Errorf("the first entry is %v", first)
	}
	want := map[string]any{"n": 2.0, "time": "2026-11-25T00:02:03.456Z", "who": "alice#t1", "from": "10.0.0.7", "action": "login", "target": "panel",
		"outcome": "denied", "code": "denied", "detail": "wrong password", "prev": first["hash"], "hash": second["hash"]}
	if fmt.Sprint(second) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", second, want)
	}
	for path, mode := range map[string]os.FileMode{dir: 0o700 | os.ModeDir, files(t, dir)[0]: 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	e := all(t, l.Read(t.Context(), audit.Filter{Action: "login"}))[0]
	if text, err := json.Marshal(e); err != nil || string(text) != lines[1] {
		t.Errorf("as JSON the entry is %s, %v", text, err)
	}
}

// A crash leaves the newest file anywhere between what was acknowledged and what was
// written; a test cannot do less than cut it at any byte.
func TestEntriesSurviveCrashesAndReopening(t *testing.T) {
	t.Parallel()
	root, n := t.TempDir(), 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		dir := filepath.Join(root, fmt.Sprint(n))
		o := audit.Options{Cluster: "c", SegmentBytes: 2000}
		l := open(t, dir, o)
		var want []string // what the entries say, the log's own among them
		want = append(want, audit.ActionBegin)
		for range rapid.IntRange(1, 8).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"append", "append", "append", "reopen", "crash"}).Draw(t, "step") {
			case "append":
				text := string(rapid.SliceOfN(rapid.Byte(), 0, 60).Draw(t, "text"))
				record(t, l, audit.Event{Action: "do", Detail: text, Lazy: rapid.Bool().Draw(t, "lazy")})
				want = append(want, strings.ToValidUTF8(escaped(text), "?"))
			case "reopen":
				closeLog(t, l)
				l = open(t, dir, o)
			case "crash":
				closeLog(t, l)
				want = crash(t, dir, want)
				l = open(t, dir, o)
			}
		}
		r := good(t, dir, l)
		got := []string{}
		for _, e := range all(t, l.Read(context.Background(), audit.Filter{})) {
			switch e.Action {
			case "do":
				got = append(got, e.Detail)
			default:
				got = append(got, e.Action)
			}
		}
		if !slices.Equal(got, want) || r.Entries != uint64(len(want)) {
			t.Fatalf("got %q, want %q, report %+v", got, want, r)
		}
		closeLog(t, l)
	})
}

// escaped is a text as it is kept: bytes that are no UTF-8 are written out.
func escaped(s string) string {
	var b strings.Builder
	for i, r := range s {
		if r == '\uFFFD' && !strings.HasPrefix(s[i:], "\uFFFD") {
			fmt.Fprintf(&b, `\x%02x`, s[i])
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// crash cuts the newest file, and says which entries there are after the next start.
func crash(t *rapid.T, dir string, want []string) []string {
	list := files(t, dir)
	newest := list[len(list)-1]
	data, err := os.ReadFile(newest)
	if err != nil {
		t.Fatal(err)
	}
	at := rapid.IntRange(0, len(data)).Draw(t, "cut")
	rest := data[:at]
	if rapid.Bool().Draw(t, "zeros") { // a block that never reached the disk, within a file that has grown
		rest = append(slices.Clone(rest), make([]byte, len(data)-at)...)
	}
	if err := os.WriteFile(newest, rest, 0o600); err != nil {
		t.Fatal(err)
	}
	whole := bytes.Count(data[:at], []byte{'\n'})
	want = slices.Clone(want[:len(want)-bytes.Count(data, []byte{'\n'})+whole])
	if len(want) == 0 {
		want = append(want, audit.ActionBegin)
	}
	if len(rest) > 0 && !bytes.HasSuffix(rest, []byte{'\n'}) {
		want = append(want, audit.ActionTorn)
	}
	return want
}

func TestWhatACrashLeftOfALineIsKeptAside(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := open(t, dir, audit.Options{})
	fill(t, l, 3)
	closeLog(t, l)
	path := files(t, dir)[0]
	appendTo(t, path, `{"n":5,"time":"2026-`)
	if r := verifyDir(t, dir); r.Bad != nil || r.Torn != 20 || r.Last.N != 4 {
		t.Errorf("before the start: %+v", r)
	}
	if n := len(all(t, audit.ReadDir(t.Context(), dir, audit.Filter{}))); n != 4 {
		t.Errorf("%d entries", n)
	}
	l = open(t, dir, audit.Options{})
	defer closeLog(t, l)
	if kept, err := os.ReadFile(path + ".torn"); err != nil || string(kept) != `{"n":5,"time":"2026-` {
		t.Errorf("kept %q, %v", kept, err)
	}
	good(t, dir, l)
	last := all(t, l.Read(t.Context(), audit.Filter{Newest: true, Limit: 1}))[0]
	if last.N != 5 || last.Action != audit.ActionTorn || last.Target != filepath.Base(path)+".torn" {
		t.Errorf("the entry after it: %+v", last)
	}
}

func appendTo(t tb, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestABrokenChainIsSaidAndGoesOn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := open(t, dir, audit.Options{SegmentBytes: 1000})
	fill(t, l, 8)
	closeLog(t, l)
	path := files(t, dir)[1]
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.Replace(data, []byte("alice"), []byte("bobby"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	l = open(t, dir, audit.Options{SegmentBytes: 1000, Logger: slog.New(slog.NewTextHandler(&out, nil))})
	if !strings.Contains(out.String(), filepath.Base(path)) {
		t.Errorf("the log says %q", out.String())
	}
	before := verifyDir(t, dir)
	fill(t, l, 8)
	closeLog(t, l)
	l = open(t, dir, audit.Options{SegmentBytes: 1000})
	defer closeLog(t, l)
	r, err := l.Verify(t.Context())
	if err != nil || r.Bad == nil || r.Bad.Segment != filepath.Base(path) || r.Bad.Line != 1 || *r.Bad != *before.Bad || r.Last.N != 17 || r.Entries != 17 {
		t.Errorf("verify: %+v, %v, %v", r, r.Bad, err)
	}
	damaged := 0
	for _, err := range l.Read(t.Context(), audit.Filter{}) {
		var d *audit.DamagedError
		if errors.As(err, &d) && d.Segment == filepath.Base(path) {
			damaged++
		} else if err != nil {
			t.Error(err)
		}
	}
	if damaged != 1 {
		t.Errorf("%d damaged lines were read", damaged)
	}
}

func TestManyAppendReadAndVerifyAtTheSameTime(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := open(t, dir, audit.Options{SegmentBytes: 4000, MaxBytes: 20000})
	defer closeLog(t, l)
	const writers, each = 16, 15
	var writing, reading sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for i := range each {
				if err := l.Append(audit.Event{Who: fmt.Sprint(w), Action: "do", Target: fmt.Sprint(i), Outcome: audit.OK, Lazy: i%3 == 0}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	for _, look := range []func() error{
		func() error {
			r, err := l.Verify(t.Context())
			if r.Bad != nil {
				return r.Bad
			}
			return err
		},
		func() error {
			last := uint64(0)
			for e, err := range l.Read(t.Context(), audit.Filter{Limit: 1 << 20}) {
				if err != nil || e.N <= last {
					return fmt.Errorf("read %d after %d: %w", e.N, last, err)
				}
				last = e.N
			}
			return nil
		},
	} {
		reading.Go(func() {
			for looked := false; ; looked = true {
				select {
				case <-done:
					if looked {
						return
					}
				default:
				}
				if err := look(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	writing.Wait()
	close(done)
	reading.Wait()
	r := good(t, dir, l)
	if r.First.N == 1 || r.Last.N < writers*each {
		t.Errorf("report: %+v", r)
	}
	// Each writer's entries are in its order, and the newest of each is there or removed.
	at := map[string]int{}
	for _, e := range all(t, l.Read(t.Context(), audit.Filter{Action: "do", Limit: 1 << 20})) {
		var i int
		if _, err := fmt.Sscan(e.Target, &i); err != nil || i < at[e.Who] {
			t.Errorf("writer %s: %d after %d, %v", e.Who, i, at[e.Who], err)
		}
		at[e.Who] = i
	}
}

func TestAnEventIsRefusedThatIsIncompleteOrComesAfterTheEnd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := open(t, dir, audit.Options{})
	for _, ev := range []audit.Event{{Action: "login"}, {Outcome: audit.OK}, {Action: "login", Outcome: "great"}} {
		if err := l.Append(ev); !errors.Is(err, audit.ErrNotRecorded) {
			t.Errorf("%+v: %v", ev, err)
		}
	}
	closeLog(t, l)
	closeLog(t, l)
	if err := l.Append(audit.Event{Action: "login", Outcome: audit.OK}); !errors.Is(err, audit.ErrNotRecorded) || errors.Is(err, audit.ErrFull) {
		t.Errorf("after the end: %v", err)
	}
	if r := good(t, dir, l); r.Entries != 1 {
		t.Errorf("%d entries", r.Entries)
	}
}
