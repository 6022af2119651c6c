package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/snapdb/snapdb/exec"
)

// retainEvery is how often it is looked for entries that are too old. For size it is
// looked whenever a segment has ended.
const retainEvery = time.Hour

// retain removes the segments that are too many or too old, but never the one being
// written.
func (l *Log) retain(now time.Time) {
	if now.Before(l.check) {
		return
	}
	l.check = now.Add(retainEvery)
	list, why, err := l.superfluous(now)
	if err == nil && len(list) > 0 {
		err = l.remove(list, why, now)
	}
	if err != nil {
		l.o.Logger.Warn("old audit entries were not removed", "error", err)
	}
}

// superfluous are the segments that have to go, the oldest first, and why.
func (l *Log) superfluous(now time.Time) (list []segment, why string, err error) {
	all, err := segments(l.dir)
	if err != nil {
		return nil, "", err
	}
	total := int64(0)
	for _, s := range all {
		total += s.size
	}
	n := 0
	for ; n < len(all)-1; n++ {
		_, last, err := all[n].last()
		switch {
		case err != nil:
			return nil, "", err
		case total > l.o.MaxBytes:
			why = fmt.Sprintf("there were more than %d bytes", l.o.MaxBytes)
		case !last.IsZero() && now.Sub(last) > l.o.MaxAge:
			why = fmt.Sprintf("they were older than %v", l.o.MaxAge)
		default:
			return all[:n], why, nil
		}
		total -= all[n].size
	}
	return all[:n], why, nil
}

// remove removes segments. The entry that says so comes first: whoever finds them missing
// without it finds that somebody else took them.
func (l *Log) remove(list []segment, why string, now time.Time) error {
	end, _, err := list[len(list)-1].last()
	if err != nil {
		return err
	}
	entry := Entry{Time: now, Who: own, Action: ActionRemove, Outcome: OK, Target: fmt.Sprintf("entries up to %d", end.n),
		Detail: why, Removed: &Mark{N: end.n, Hash: end.hash}}
	if err := l.put([]Entry{entry}, true); err != nil {
		return err
	}
	for _, s := range list {
		if err := os.Remove(s.path); err != nil {
			return err
		}
		if err := os.Remove(s.path + tornSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return exec.SyncDir(l.dir)
}

// last is where a segment ends, and when its last entry was written. An end that is no
// entry has no hash, so that what follows does not count as proven.
func (s segment) last() (end link, at time.Time, err error) {
	first := true
	end.n = s.first
	err = s.linesBack(context.Background(), func(_ int64, line []byte, _ bool) bool {
		e, err := decode(line)
		if err == nil {
			at = e.Time
			if first {
				end = link{e.N, e.Prev, e.Hash}
			}
		}
		first = false
		return err != nil
	})
	return end, at, err
}

// begun is when the first entry of a segment was written.
func (s segment) begun(ctx context.Context) (at time.Time, err error) {
	err = s.lines(ctx, func(line []byte, _ bool) bool {
		if e, err := decode(line); err == nil {
			at = e.Time
		}
		return false
	})
	return at, err
}
