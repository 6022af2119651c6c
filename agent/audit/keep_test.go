package audit_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/snapdb/snapdb/agent/audit"
)

func TestOldSegmentsAreRemovedBySizeAndThatIsAnEntry(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := audit.Options{MaxBytes: 8000, SegmentBytes: 2000}
	l := open(t, dir, o)
	fill(t, l, 60)
	r := good(t, dir, l)
	if r.First.N == 1 || r.Last.N < 61 {
		t.Errorf("report: %+v", r)
	}
	total := int64(0)
	for _, path := range files(t, dir) {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		total += info.Size()
	}
	if total > o.MaxBytes+o.SegmentBytes {
		t.Errorf("%d bytes are kept", total)
	}
	removal := all(t, l.Read(t.Context(), audit.Filter{Action: audit.ActionRemove, Newest: true}))[0]
	if removal.Removed == nil || removal.Removed.N != r.First.N-1 {
		t.Errorf("the removal: %+v, first %d", removal, r.First.N)
	}
	closeLog(t, l)

	l = open(t, dir, o)
	defer closeLog(t, l)
	good(t, dir, l)
	remove(t, files(t, dir)[0])
	if r := verifyDir(t, dir); r.Bad == nil || r.Bad.N != r.First.N {
		t.Errorf("a segment that somebody else took: %+v", r)
	}
}

func TestOldSegmentsAreRemovedByAge(t *testing.T) {
	t.Parallel()
	dir, now := t.TempDir(), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	l := open(t, dir, audit.Options{MaxAge: 1200 * time.Hour, Now: func() time.Time { return now }})
	defer closeLog(t, l)
	first := files(t, dir)[0]
	write(t, first+".torn", "half")
	for range 30 {
		fill(t, l, 2)
		now = now.Add(50 * time.Hour)
	}
	r := good(t, dir, l)
	// Nothing is removed before its time, and a segment covers a twelfth of it.
	if age := now.Sub(r.First.Time); age < 1200*time.Hour || age > 1450*time.Hour {
		t.Errorf("the first is %v old: %+v", age, r)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*.torn")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// The entry comes before the removal, and a crash may come between.
func TestARemovalThatWasInterruptedIsNoProblem(t *testing.T) {
	t.Parallel()
	dir, saved := t.TempDir(), t.TempDir()
	o := audit.Options{MaxBytes: 8000, SegmentBytes: 2000}
	l := open(t, dir, o)
	fill(t, l, 20)
	for _, path := range files(t, dir) {
		if err := os.Link(path, filepath.Join(saved, filepath.Base(path))); err != nil {
			t.Fatal(err)
		}
	}
	for first := files(t, dir)[0]; first == files(t, dir)[0]; {
		fill(t, l, 1)
	}
	closeLog(t, l)
	back := filepath.Join(dir, filepath.Base(files(t, saved)[0]))
	if err := os.Link(files(t, saved)[0], back); err != nil {
		t.Fatal(err)
	}
	if r := verifyDir(t, dir); r.Bad != nil || r.First.N != 1 {
		t.Errorf("with it: %+v", r)
	}
	l = open(t, dir, o)
	defer closeLog(t, l)
	fill(t, l, 20)
	if r := good(t, dir, l); r.First.N == 1 {
		t.Errorf("it is never removed: %+v", r)
	}
}

func TestReadWantsWhatTheFilterWants(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	start := now
	dir := t.TempDir()
	l := open(t, dir, audit.Options{SegmentBytes: 700, Now: func() time.Time { return now }})
	defer closeLog(t, l)
	for i, ev := range []audit.Event{
		{Who: "alice", Action: "login", Target: "panel"},
		{Who: "alice#1", Action: "user.add", Target: "bob"},
		{Who: "bob", Action: "login", Outcome: audit.Denied},
		{Who: "bob", Action: "user.remove", Target: "alice", Outcome: audit.Failed},
		{Who: "alicea", Action: "usermod"},
	} {
		now = start.Add(time.Duration(i) * time.Hour)
		record(t, l, ev)
	}
	for _, c := range []struct {
		f    audit.Filter
		want []uint64
	}{
		{audit.Filter{}, []uint64{1, 2, 3, 4, 5, 6}},
		{audit.Filter{Who: "alice"}, []uint64{2, 3}},
		{audit.Filter{Who: "alice#1"}, []uint64{3}},
		{audit.Filter{Action: "login"}, []uint64{2, 4}},
		{audit.Filter{Action: "user."}, []uint64{3, 5}},
		{audit.Filter{Target: "alice"}, []uint64{5}},
		{audit.Filter{Outcome: audit.Denied}, []uint64{4}},
		{audit.Filter{Since: start.Add(2 * time.Hour)}, []uint64{4, 5, 6}},
		{audit.Filter{Since: start.Add(time.Hour), Until: start.Add(3 * time.Hour)}, []uint64{3, 4}},
		{audit.Filter{Who: "bob", Until: start.AddDate(20000, 0, 0)}, []uint64{4, 5}},
		{audit.Filter{Since: start.Add(3*time.Hour + 1)}, []uint64{6}},
		{audit.Filter{After: 4}, []uint64{5, 6}},
		{audit.Filter{Before: 3}, []uint64{1, 2}},
		{audit.Filter{After: 2, Before: 5}, []uint64{3, 4}},
		{audit.Filter{After: 6}, nil},
		{audit.Filter{Who: "nobody"}, nil},
	} {
		for _, newest := range []bool{false, true} {
			f, want := c.f, slices.Clone(c.want)
			if f.Newest = newest; newest {
				slices.Reverse(want)
			}
			if got := numbers(all(t, l.Read(t.Context(), f))); !slices.Equal(got, want) {
				t.Errorf("%+v: %v, want %v", f, got, want)
			}
			if got := numbers(all(t, audit.ReadDir(t.Context(), dir, f))); !slices.Equal(got, want) {
				t.Errorf("%+v of the folder: %v, want %v", f, got, want)
			}
			f.Limit = 2
			if got := numbers(all(t, l.Read(t.Context(), f))); !slices.Equal(got, want[:min(2, len(want))]) {
				t.Errorf("%+v: %v, want the first of %v", f, got, want)
			}
		}
	}
	for range l.Read(t.Context(), audit.Filter{}) {
		break // nobody has to read all
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, newest := range []bool{false, true} {
		for _, err := range l.Read(ctx, audit.Filter{Newest: newest}) {
			if !errors.Is(err, context.Canceled) {
				t.Errorf("after the end of the context: %v", err)
			}
		}
	}
	if _, err := l.Verify(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("verify after the end of the context: %v", err)
	}
}

func numbers(list []audit.Entry) (n []uint64) {
	for _, e := range list {
		n = append(n, e.N)
	}
	return n
}

// The longest entries there can be are lines that are read, from either end.
func TestFieldsAreClippedAndHarmless(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := open(t, dir, audit.Options{Arguments: true})
	defer closeLog(t, l)
	long := strings.Repeat("\U000e0001\x1b", 1<<20)
	for range 3 {
		record(t, l, audit.Event{Who: long, From: long, Action: long, Target: long, Code: long, Detail: long, SQL: long, Args: long})
	}
	record(t, l, audit.Event{Who: "al\x1b[31mice\u009b\u202e\xff", Detail: "ä€😀\n\"\\"})
	good(t, dir, l)
	forth := all(t, l.Read(t.Context(), audit.Filter{}))
	back := all(t, l.Read(t.Context(), audit.Filter{Newest: true}))
	slices.Reverse(back)
	if len(forth) != 5 || !reflect.DeepEqual(forth, back) {
		t.Fatalf("%d entries, backwards %d", len(forth), len(back))
	}
	if e := forth[1]; len(e.Who) > 300 || !strings.HasSuffix(e.Who, "… (5242880 bytes)") || len(e.Detail) > 13000 || strings.Count(e.Detail, "(5242880 bytes)") != 3 {
		t.Errorf("clipped to %q and %d bytes", e.Who, len(e.Detail))
	}
	if e := forth[4]; e.Who != "al\x1b[31mice\u009b\u202e\\xff" || e.Detail != "ä€😀\n\"\\" {
		t.Errorf("kept as %q %q", e.Who, e.Detail)
	}
	data, err := os.ReadFile(files(t, dir)[0])
	if err != nil {
		t.Fatal(err)
	}
	if !utf8.Valid(data) || strings.ContainsAny(string(data), "\x1b\u009b\u202e\U000e0001") || !strings.Contains(string(data), `"al\u001b[31mice\u009b\u202e\\xff"`) || !strings.Contains(string(data), `"ä€😀\u000a\"\\"`) {
		t.Errorf("the last line is %q", data[len(data)-500:])
	}
}

func TestSQLIsKeptWithoutWhatIsNotWanted(t *testing.T) {
	t.Parallel()
	ev := audit.Event{Action: "sql.ddl", Detail: "Shop", SQL: "INSERT INTO t VALUES (?, 'secret')", Args: `[1,"Alice"]`}
	for want, o := range map[string]audit.Options{
		"Shop · INSERT INTO t VALUES (?, 'secret')":                 {},
		"Shop · INSERT INTO t VALUES (?, ?)":                        {Mask: true},
		"Shop · INSERT INTO t VALUES (?, 'secret') · [1,\"Alice\"]": {Arguments: true},
	} {
		l := open(t, t.TempDir(), o)
		record(t, l, ev)
		if e := all(t, l.Read(t.Context(), audit.Filter{After: 1}))[0]; e.Detail != want {
			t.Errorf("%+v: %q, want %q", o, e.Detail, want)
		}
		closeLog(t, l)
	}
	l := open(t, t.TempDir(), audit.Options{Mask: true})
	defer closeLog(t, l)
	record(t, l, audit.Event{Action: "sql.ddl", SQL: "SELECT '" + strings.Repeat("secret ", 1<<20)})
	if e := all(t, l.Read(t.Context(), audit.Filter{After: 1}))[0]; e.Detail != "SELECT ?… (7340040 bytes)" {
		t.Errorf("a long literal: %q", e.Detail)
	}
}

func TestMaskedSQLHasNoValues(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string]string{
		"SELECT * FROM t1 WHERE a2 = 3 AND b='x''y'": "SELECT * FROM t1 WHERE a2 = ? AND b=?",
		"VALUES (x'00ff', X'', 0x1F, 1.5e3, .5)":     "VALUES (?, ?, ?, ?, ?)",
		"a -- 'secret\nb /* secret ' */ c /* secret": "a  b   c  ",
		"`it's` [it's] \"secret\"":                   "`it's` [it's] ?",
		"?1 :name @x $y ? ?":                         "?1 :name @x $y ? ?",
		"'unterminated secret":                       "?",
		"x 'secret'":                                 "x ?",
		"CREATE TABLE ä1 (x, x2)":                    "CREATE TABLE ä1 (x, x2)",
		"":                                           "",
	} {
		if got := audit.MaskSQL(sql); got != want {
			t.Errorf("%q became %q, want %q", sql, got, want)
		}
	}
}

// Whatever surrounds a literal, if it is one, its text is not kept.
func FuzzMaskSQL(f *testing.F) {
	f.Add("INSERT INTO t VALUES (", ")")
	f.Add("`[\"'--/*", "x'")
	f.Fuzz(func(t *testing.T, before, after string) {
		masked := audit.MaskSQL(before)
		if strings.ContainsAny(before, "'\"`[-/") { // it may end inside of something
			return
		}
		if got := audit.MaskSQL(before + " 'hidden words' " + after); !strings.HasPrefix(got, masked) || strings.Contains(strings.TrimPrefix(got, masked), "hidden words") && !strings.Contains(after, "hidden words") {
			t.Errorf("%q became %q", before, got)
		}
	})
}
