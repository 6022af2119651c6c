package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"
)

// Report is what Verify found.
type Report struct {
	First   Place    `json:"first"` // where what remains begins: 1, unless older entries were removed
	Last    Place    `json:"last"`
	Entries uint64   `json:"entries"` // lines, whether they are as they were written or not
	Bad     *Problem `json:"bad"`     // the first, nil if everything is as it was written
	// Torn are bytes behind the last whole entry, as a crash leaves them; the next start
	// sets them aside. Of a log that is being written it is the line that is on its way.
	Torn int64 `json:"torn"`
}

// Place is an entry in a report.
type Place struct {
	N    uint64    `json:"n"`
	Time time.Time `json:"time"`
	Hash string    `json:"hash"`
}

// Problem is where a chain is broken.
type Problem struct {
	N       uint64 `json:"n"` // of the entry that should be there
	Segment string `json:"segment"`
	Line    int    `json:"line"`
	Reason  string `json:"reason"`
}

// Error says where the chain is broken and how.
func (p *Problem) Error() string {
	return fmt.Sprintf("the chain is broken at entry %d (%s, line %d): %s", p.N, p.Segment, p.Line, p.Reason)
}

// Verify proves that what remains of the log is as it was written, and ends where this
// process has ended it.
func (l *Log) Verify(ctx context.Context) (Report, error) {
	return untilStill(func() (Report, error) {
		list, head, err := l.snapshot()
		if err != nil {
			return Report{}, err
		}
		c, err := follow(ctx, list)
		if err != nil {
			return Report{}, err
		}
		r := c.result()
		if r.Bad == nil && c.at != head {
			r.Bad = &Problem{N: min(c.at.n, head.n) + 1, Segment: c.segment, Line: c.lineNo,
				Reason: fmt.Sprintf("the last entry is %d, which is not the %d that was written last", c.at.n, head.n)}
		}
		return r, nil
	})
}

// snapshot is the log as it is now.
func (l *Log) snapshot() ([]segment, link, error) {
	l.writing.Lock()
	defer l.writing.Unlock()
	if l.file != nil && !l.closed {
		if err := l.cutBack(); err != nil {
			return nil, link{}, err
		}
	}
	list, err := segments(l.dir)
	return list, l.head, err
}

// VerifyDir is Verify for the folder of a log that this process does not write. Nobody
// tells it where the log must end.
func VerifyDir(ctx context.Context, dir string) (Report, error) {
	return untilStill(func() (Report, error) {
		list, err := segments(dir)
		if err != nil {
			return Report{}, err
		}
		torn := int64(0)
		if n := len(list); n > 0 {
			last := &list[n-1]
			end, err := last.end(ctx)
			if err != nil {
				return Report{}, err
			}
			torn, last.size = last.size-end, end
		}
		c, err := follow(ctx, list)
		if err != nil {
			return Report{}, err
		}
		r := c.result()
		r.Torn = torn
		return r, nil
	})
}

// untilStill verifies again when a segment was removed by its age meanwhile, but not for
// ever.
func untilStill(verify func() (Report, error)) (r Report, err error) {
	for range 20 {
		if r, err = verify(); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return r, err
}

// chain follows entries from the oldest on.
type chain struct {
	at      link // the last entry
	segment string
	lineNo  int

	start  link // the first entry
	proven bool // nothing is missing before it but what was removed
	lines  uint64
	bad    *Problem
	one    Place  // the start
	last   []byte // the last line that is an entry
}

// follow follows the chain of the segments.
func follow(ctx context.Context, list []segment) (*chain, error) {
	c := &chain{at: link{hash: origin}}
	for _, s := range list {
		c.segment, c.lineNo = s.name(), 0
		if s.first != c.at.n+1 && c.at.n > 0 {
			c.fail(fmt.Sprintf("the file that follows entry %d begins with %d", c.at.n, s.first))
		}
		c.at.n = max(c.at.n, s.first-1)
		if err := s.lines(ctx, c.line); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// line takes the next line.
func (c *chain) line(line []byte, whole bool) bool {
	c.lineNo++
	c.lines++
	l, err := parseLink(line)
	switch {
	case err != nil:
		c.fail(err.Error())
		l = link{c.at.n + 1, "", c.at.hash} // what follows cannot fit, or belongs to the one before
	case c.start.n == 0 && l.n == c.at.n+1:
		c.start, c.proven = l, l.n == 1 && l.prev == origin
	case l.n != c.at.n+1:
		c.fail(fmt.Sprintf("entry %d is in its place", l.n))
	case l.prev != c.at.hash:
		c.fail("it does not follow the entry before: one or the other is not what was written there")
	}
	if !whole && err == nil {
		c.fail("the end of the line is missing")
	}
	if err == nil {
		c.note(line)
	}
	c.at = link{max(c.at.n+1, l.n), l.prev, l.hash}
	return true
}

// note keeps what an entry says of the chain itself.
func (c *chain) note(line []byte) {
	c.last = append(c.last[:0], line...)
	if c.one.N > 0 && !bytes.Contains(line, []byte(`,"removed":{`)) {
		return // most need not be decoded
	}
	e, err := decode(line)
	if err != nil {
		c.fail(err.Error())
		return
	}
	if c.one.N == 0 {
		c.one = Place{e.N, e.Time, e.Hash}
	}
	switch r := e.Removed; {
	case r == nil:
	case r.N+1 == c.start.n:
		c.proven = r.Hash == c.start.prev
	case r.N >= c.start.n:
		c.proven = true // the removal was interrupted
	}
}

func (c *chain) fail(reason string) {
	if c.bad == nil {
		c.bad = &Problem{N: c.at.n + 1, Segment: c.segment, Line: c.lineNo, Reason: reason}
	}
}

// result is what was found.
func (c *chain) result() Report {
	r := Report{First: c.one, Entries: c.lines, Bad: c.bad}
	if e, err := decode(c.last); err == nil {
		r.Last = Place{e.N, e.Time, e.Hash}
	}
	if c.bad == nil && c.lines > 0 && !c.proven {
		r.Bad = &Problem{N: c.start.n, Segment: filepath.Base(segmentPath("", c.start.n)), Line: 1,
			Reason: "what was before it is missing, and no entry says that it was removed"}
	}
	return r
}
