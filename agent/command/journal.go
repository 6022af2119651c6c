package command

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/snapdb/snapdb/exec"
)

// maxLine is the longest line of a journal, in bytes.
const maxLine = 16 << 20

// Journal is a file of JSON lines, each on stable storage when Append returns. A
// line that a crash has cut is passed over: nobody was told that it was there.
// Its methods are called by one goroutine at a time.
type Journal struct {
	path  string
	f     *os.File
	lines int
}

// OpenJournal opens the file, making it if needed, and hands every line to fn, the
// oldest first.
func OpenJournal(path string, fn func(line []byte) error) (*Journal, error) {
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	j := &Journal{path: path}
	whole := bytes.LastIndexByte(data, '\n') + 1
	scan := bufio.NewScanner(bytes.NewReader(data[:whole]))
	scan.Buffer(nil, maxLine)
	for scan.Scan() {
		j.lines++
		if err := fn(scan.Bytes()); err != nil {
			return nil, fmt.Errorf("journal %s, line %d: %w", path, j.lines, err)
		}
	}
	if err := scan.Err(); err != nil {
		return nil, fmt.Errorf("journal %s, line %d: %w", path, j.lines+1, err)
	}
	if j.f, err = os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600); err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	if err = j.f.Truncate(int64(whole)); err == nil {
		_, err = j.f.Seek(int64(whole), io.SeekStart)
	}
	if err == nil {
		err = exec.SyncDir(filepath.Dir(path))
	}
	if err != nil {
		j.f.Close()
		return nil, fmt.Errorf("open journal: %w", err)
	}
	return j, nil
}

// Lines is how many lines there are.
func (j *Journal) Lines() int { return j.lines }

// Append adds lines, together. After an error none of them counts.
func (j *Journal) Append(lines ...any) error {
	data, err := encodeLines(lines)
	if err != nil {
		return err
	}
	end, err := j.f.Seek(0, io.SeekCurrent)
	if err == nil {
		_, err = j.f.Write(data)
	}
	if err == nil {
		err = j.f.Sync()
	}
	if err != nil {
		// What is there of them would be read as if it counted.
		_, seek := j.f.Seek(end, io.SeekStart)
		return errors.Join(fmt.Errorf("write journal: %w", err), j.f.Truncate(end), seek)
	}
	j.lines += len(lines)
	return nil
}

// Rewrite replaces all lines.
func (j *Journal) Rewrite(lines []any) error {
	data, err := encodeLines(lines)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(j.path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("rewrite journal: %w", err)
	}
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(f.Name(), j.path)
	}
	if err == nil {
		err = exec.SyncDir(filepath.Dir(j.path))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("rewrite journal: %w", err), f.Close(), os.Remove(f.Name()))
	}
	j.f.Close() // the old file, which has no name any more
	j.f, j.lines = f, len(lines)
	return nil
}

func encodeLines(lines []any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf) // ends each with a newline, and writes none inside
	for _, line := range lines {
		if err := enc.Encode(line); err != nil {
			return nil, fmt.Errorf("encode journal line: %w", err)
		}
	}
	return buf.Bytes(), nil
}

// Close closes the file.
func (j *Journal) Close() error { return j.f.Close() }
