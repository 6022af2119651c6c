package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"strings"
	"time"
)

// DefaultLimit is how many entries are read when a Filter does not say.
const DefaultLimit = 1000

// Filter says which entries are read. What is zero does not matter.
type Filter struct {
	Who     string // a user's name is also that of its tokens: alice is alice#1 as well
	Action  string // user. is all that begins so: user.add, user.remove
	Target  string
	Outcome Outcome
	Since   time.Time // not before
	Until   time.Time // before
	After   uint64    // entries with a higher number
	Before  uint64    // entries with a lower number
	Limit   int       // at most so many; DefaultLimit if it is not positive
	Newest  bool      // the newest first
}

func (f *Filter) matches(e *Entry) bool {
	user, _, _ := strings.Cut(e.Who, "#")
	return (f.Who == "" || f.Who == e.Who || f.Who == user) &&
		(f.Action == "" || f.Action == e.Action || strings.HasSuffix(f.Action, ".") && strings.HasPrefix(e.Action, f.Action)) &&
		(f.Target == "" || f.Target == e.Target) &&
		(f.Outcome == "" || f.Outcome == e.Outcome) &&
		(f.Since.IsZero() || !e.Time.Before(f.Since)) &&
		(f.Until.IsZero() || e.Time.Before(f.Until)) &&
		e.N > f.After && (f.Before == 0 || e.N < f.Before)
}

// sieve tells most of the lines that a filter does not want by their bytes alone: decoding
// them takes longer than all the rest. Quotes within a value are escaped, so that a key
// with its quotes is a key.
type sieve struct {
	has          [][]byte // all of these
	since, until string   // as lines have it, "" if it does not matter
}

func (f *Filter) sieve() sieve {
	var s sieve
	add := func(key, value string, whole bool) {
		if value == "" {
			return
		}
		text := appendString([]byte(`,"`+key+`":`), value)
		if !whole {
			text = text[:len(text)-1]
		}
		s.has = append(s.has, text)
	}
	add("who", f.Who, false)
	add("action", f.Action, !strings.HasSuffix(f.Action, "."))
	add("target", f.Target, true)
	add("outcome", string(f.Outcome), true)
	if !f.Since.IsZero() {
		s.since = f.Since.UTC().Format(timeFormat)
	}
	if !f.Until.IsZero() && f.Until.UTC().Year() < 10000 { // which sorts as its text does
		s.until = f.Until.UTC().Format(timeFormat)
	}
	return s
}

// passes says whether the line of an entry is worth decoding.
func (s *sieve) passes(line []byte) bool {
	for _, text := range s.has {
		if !bytes.Contains(line, text) {
			return false
		}
	}
	_, at, _ := bytes.Cut(line, []byte(`,"time":"`))
	at = at[:min(len(at), len("2006-01-02T15:04:05.000Z"))]
	return (s.since == "" || string(at) >= s.since) && (s.until == "" || string(at) <= s.until)
}

// DamagedError is a line that is no entry of the log. Verify tells more.
type DamagedError struct {
	Segment string
	Err     error
}

// Error says in which file the line is.
func (e *DamagedError) Error() string {
	return fmt.Sprintf("a damaged line in %s: %v", e.Segment, e.Err)
}

// Unwrap is what is wrong with the line.
func (e *DamagedError) Unwrap() error { return e.Err }

// Read reads the entries that a filter wants, one line of a file at a time. An error that
// is a *DamagedError stands for one line, and counts as an entry; any other is the last.
func (l *Log) Read(ctx context.Context, f Filter) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		list, _, err := l.snapshot()
		if err != nil {
			yield(Entry{}, err)
			return
		}
		read(ctx, list, f, yield)
	}
}

// ReadDir is Read for the folder of a log that this process does not write.
func ReadDir(ctx context.Context, dir string, f Filter) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		list, err := segments(dir)
		if err != nil {
			yield(Entry{}, err)
			return
		}
		read(ctx, list, f, yield)
	}
}

func read(ctx context.Context, list []segment, f Filter, yield func(Entry, error) bool) {
	list = between(list, f.After, f.Before)
	if f.Limit <= 0 {
		f.Limit = DefaultLimit
	}
	sieve, more := f.sieve(), true
	for i := range list {
		s := list[i]
		if f.Newest {
			s = list[len(list)-1-i]
		}
		take := func(line []byte, whole bool) bool {
			if !whole {
				return true // it is on its way, or a crash came before it was
			}
			var e Entry
			_, err := parseLink(line)
			if err == nil {
				if !sieve.passes(line) {
					return true
				}
				e, err = decode(line)
			}
			if err != nil {
				err = &DamagedError{s.name(), err}
			}
			if err != nil || f.matches(&e) {
				f.Limit--
				more = yield(e, err) && f.Limit > 0
			}
			return more
		}
		err := error(nil)
		if f.Newest {
			err = s.linesBack(ctx, func(_ int64, line []byte, whole bool) bool { return take(line, whole) })
		} else {
			err = s.lines(ctx, take)
		}
		switch {
		case !more, errors.Is(err, fs.ErrNotExist): // removed by its age meanwhile
		case err != nil:
			yield(Entry{}, err)
			return
		}
		if !more {
			return
		}
	}
}

// between are the segments that may have entries between two numbers.
func between(list []segment, after, before uint64) []segment {
	for len(list) > 1 && list[1].first <= after+1 {
		list = list[1:]
	}
	if before > 0 {
		list = slices.DeleteFunc(list, func(s segment) bool { return s.first >= before })
	}
	return list
}
