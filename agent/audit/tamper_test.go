package audit_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/snapdb/snapdb/agent/audit"
)

// victim is a log of n entries with four in a segment, and the lines of its segments.
func victim(t *testing.T, n int) (dir string, l *audit.Log, lines [][]string) {
	t.Helper()
	dir = t.TempDir()
	l = open(t, dir, audit.Options{Cluster: "c", SegmentBytes: 900})
	t.Cleanup(func() { closeLog(t, l) })
	fill(t, l, n-1)
	for _, path := range files(t, dir) {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, strings.SplitAfter(strings.TrimSuffix(string(data), "\n"), "\n"))
	}
	if len(lines) != (n+3)/4 {
		t.Fatalf("%d segments", len(lines))
	}
	return dir, l, lines
}

// found asserts that a log's writer and a stranger find that entry n is not as it was.
func found(t *testing.T, dir string, l *audit.Log, n uint64) {
	t.Helper()
	r, err := l.Verify(context.Background())
	if err != nil || r.Bad == nil || r.Bad.N != n {
		t.Fatalf("the writer finds %v in %+v, %v, want entry %d", r.Bad, r, err, n)
	}
	if r := verifyDir(t, dir); (r.Bad == nil || r.Bad.N != n) && (r.Torn == 0 || r.Last.N != n-1) {
		t.Fatalf("a stranger finds %v in %+v, want entry %d", r.Bad, r, n)
	}
}

func TestVerifyFindsEveryChangedByte(t *testing.T) {
	t.Parallel()
	dir, l, _ := victim(t, 5)
	n := uint64(1)
	for _, path := range files(t, dir) {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		for i, b := range data {
			if _, err := f.WriteAt([]byte{[]byte{b ^ 1, 0}[i%2]}, int64(i)); err != nil {
				t.Fatal(err)
			}
			found(t, dir, l, n)
			if _, err := f.WriteAt([]byte{b}, int64(i)); err != nil {
				t.Fatal(err)
			}
			if b == '\n' {
				n++
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	good(t, dir, l)
}

func TestVerifyFindsMovedMissingAndForgedEntries(t *testing.T) {
	t.Parallel()
	forged := func(n uint64, prev string) string {
		return string(audit.Seal(&audit.Entry{N: n, Who: "mallory", Action: "user.add", Outcome: audit.OK, Prev: prev})) + "\n"
	}
	join := func(lines []string) string { return strings.Join(lines, "") }
	for name, c := range map[string]struct {
		do func(t *testing.T, files []string, lines [][]string)
		n  uint64
	}{
		"two entries changed places": {func(t *testing.T, files []string, lines [][]string) {
			lines[0][0], lines[0][1] = lines[0][1], lines[0][0]
			write(t, files[0], join(lines[0]))
		}, 1},
		"the first is missing": {func(t *testing.T, files []string, lines [][]string) {
			write(t, files[0], join(lines[0][1:]))
		}, 1},
		"one in the middle is missing": {func(t *testing.T, files []string, lines [][]string) {
			write(t, files[1], join(lines[1][1:]))
		}, 5},
		"the end of a file is missing": {func(t *testing.T, files []string, lines [][]string) {
			write(t, files[0], join(lines[0][:2]))
		}, 3},
		"one is there twice": {func(t *testing.T, files []string, lines [][]string) {
			write(t, files[0], join(lines[0][:2])+join(lines[0][1:]))
		}, 3},
		"one was put in between": {func(t *testing.T, files []string, lines [][]string) {
			write(t, files[0], join(lines[0][:2])+forged(3, hash(lines[0][1]))+join(lines[0][2:]))
		}, 4},
		"one was replaced": {func(t *testing.T, files []string, lines [][]string) {
			write(t, files[0], forged(1, strings.Repeat("0", 64))+join(lines[0][1:]))
		}, 2},
		"one that is not in the chain was added": {func(t *testing.T, files []string, lines [][]string) {
			appendTo(t, files[2], forged(10, strings.Repeat("0", 64)))
		}, 10},
		"something was added": {func(t *testing.T, files []string, lines [][]string) {
			appendTo(t, files[2], "hello\n")
		}, 10},
		"a long line was added": {func(t *testing.T, files []string, lines [][]string) {
			appendTo(t, files[1], strings.Repeat("x", 3*audit.MaxLine)+"\n")
		}, 9},
		"a file in the middle is missing": {func(t *testing.T, files []string, lines [][]string) {
			remove(t, files[1])
		}, 5},
		"the first file is missing": {func(t *testing.T, files []string, lines [][]string) {
			remove(t, files[0])
		}, 5},
		"a file has another's name": {func(t *testing.T, files []string, lines [][]string) {
			rename(t, files[0], filepath.Join(filepath.Dir(files[0]), "audit-0000000000000002.jsonl"))
		}, 2},
		"two files have changed their names": {func(t *testing.T, files []string, lines [][]string) {
			rename(t, files[0], files[0]+".x")
			rename(t, files[1], files[0])
			rename(t, files[0]+".x", files[1])
		}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			dir, l, lines := victim(t, 9)
			for i := range lines { // each line with its newline
				lines[i][len(lines[i])-1] += "\n"
			}
			c.do(t, files(t, dir), lines)
			found(t, dir, l, c.n)
		})
	}
}

// Nothing in the files says that these are not right: only who has written them knows.
func TestTheWriterFindsALostEndAndAWellForgedOne(t *testing.T) {
	t.Parallel()
	dir, l, lines := victim(t, 9)
	path := files(t, dir)[len(lines)-1]
	last := lines[len(lines)-1]
	data := strings.Join(last, "") + "\n"
	forged := audit.Entry{N: 10, Who: "mallory", Action: "user.add", Outcome: audit.OK, Prev: hash(last[len(last)-1])}
	for _, text := range []string{strings.Join(last[:len(last)-1], ""), data + string(audit.Seal(&forged)) + "\n"} {
		write(t, path, text)
		if r, err := l.Verify(t.Context()); err != nil || r.Bad == nil {
			t.Errorf("%d bytes: %+v, %v", len(text), r, err)
		}
	}
	fill(t, l, 1) // behind the forged one
	if r := verifyDir(t, dir); r.Bad == nil || r.Bad.N != 11 {
		t.Errorf("after the next entry: %+v", r)
	}
}

func hash(line string) string {
	e, err := audit.Decode([]byte(strings.TrimSuffix(line, "\n")))
	if err != nil {
		panic(err)
	}
	return e.Hash
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// A line is read as an entry only if its hash is right, and is then the line of exactly
// that entry.
func FuzzDecode(f *testing.F) {
	e := audit.Entry{N: 7, Who: "a\"\\\x00\xff\u202e", Action: "x", Outcome: audit.OK, Removed: &audit.Mark{N: 3, Hash: "abc"}, Prev: strings.Repeat("0", 64)}
	f.Add(audit.Seal(&e))
	f.Add([]byte(`{"n":1,"time":"2026-11-25T00:00:00.000Z"`))
	f.Add([]byte(`{"n":1,"n":2`))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, line := range [][]byte{text, audit.SealBody(text, strings.Repeat("0", 64))} {
			e, err := audit.Decode(line)
			if err != nil {
				continue
			}
			again := e
			sealed := audit.Seal(&again)
			twice, err := audit.Decode(sealed)
			if err != nil {
				t.Fatalf("%q is sealed as %q, which is not read: %v", line, sealed, err)
			}
			if third := audit.Seal(&twice); !bytes.Equal(third, sealed) {
				t.Fatalf("%q became %q", sealed, third)
			}
			if slices.ContainsFunc(sealed, func(b byte) bool { return b < ' ' || b == 0x7f }) {
				t.Fatalf("control characters in %q", sealed)
			}
		}
	})
}
