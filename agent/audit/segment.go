package audit

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const (
	segmentPrefix = "audit-"
	segmentSuffix = ".jsonl"
	tornSuffix    = ".torn" // after a segment's name: what a crash left of a line there
)

// segment is a file of consecutive entries.
type segment struct {
	path  string
	first uint64 // its name says so
	size  int64  // so much of it counts
}

func (s segment) name() string { return filepath.Base(s.path) }

// segmentPath is where the segment lies that begins with entry n. The names sort as the
// numbers do.
func segmentPath(dir string, n uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%s%016d%s", segmentPrefix, n, segmentSuffix))
}

// segments lists the segments of a folder, the oldest first.
func segments(dir string) ([]segment, error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list audit log: %w", err)
	}
	var list []segment
	for _, f := range files {
		digits, isOne := strings.CutPrefix(f.Name(), segmentPrefix)
		digits, ends := strings.CutSuffix(digits, segmentSuffix)
		n, err := strconv.ParseUint(digits, 10, 64)
		path := filepath.Join(dir, f.Name())
		if !isOne || !ends || err != nil || n == 0 || n > maxN || path != segmentPath(dir, n) {
			continue
		}
		info, err := f.Info()
		if errors.Is(err, os.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("list audit log: %w", err)
		}
		list = append(list, segment{path, n, info.Size()})
	}
	return list, nil // ReadDir sorts
}

// lines hands the lines of a segment to fn, from the first on, until fn says no. whole
// is false for what follows the last newline. What is too long for an entry is cut.
func (s segment) lines(ctx context.Context, fn func(line []byte, whole bool) bool) error {
	f, err := os.Open(s.path)
	if err != nil {
		return fmt.Errorf("read audit log: %w", err)
	}
	defer f.Close()
	in := bufio.NewReaderSize(io.NewSectionReader(f, 0, s.size), int(min(s.size+1, maxLine)))
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		line, err := in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			line = bytes.Clone(line)
			for errors.Is(err, bufio.ErrBufferFull) {
				_, err = in.ReadSlice('\n')
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			if len(line) > 0 {
				fn(line, false)
			}
			return nil
		case err != nil:
			return fmt.Errorf("read audit log: %w", err)
		case !fn(bytes.TrimSuffix(line, []byte{'\n'}), true):
			return nil
		}
	}
}

// linesBack is lines from the last on. at is where a line begins.
func (s segment) linesBack(ctx context.Context, fn func(at int64, line []byte, whole bool) bool) error {
	f, err := os.Open(s.path)
	if err != nil {
		return fmt.Errorf("read audit log: %w", err)
	}
	defer f.Close()
	var part []byte // what was read and not handed on: it begins at pos, and ends before a newline
	whole := false
	for pos := s.size; ; {
		i := bytes.LastIndexByte(part, '\n')
		if i < 0 && pos > 0 {
			n := min(pos, maxLine/2)
			more := make([]byte, n, int(n)+len(part))
			if _, err := f.ReadAt(more, pos-n); err != nil {
				return fmt.Errorf("read audit log: %w", err)
			}
			pos, part = pos-n, append(more, part[:min(len(part), maxLine)]...)
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if (whole || i+1 < len(part)) && !fn(pos+int64(i+1), part[i+1:], whole) || i < 0 {
			return nil
		}
		part, whole = part[:i], true
	}
}

// end is where the lines end that were written wholly. What follows a crash may have
// left: a line without its end, or with zeros where a block never reached the disk.
func (s segment) end(ctx context.Context) (int64, error) {
	end := s.size
	err := s.linesBack(ctx, func(at int64, line []byte, whole bool) bool {
		if whole && bytes.IndexByte(line, 0) < 0 {
			return false
		}
		end = at
		return true
	})
	return end, err
}
