//go:build linux

package cluster_test

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	osexec "os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// tracedDisk is a node's data directory as a power cut would leave it: what the node has
// written, and what of it it has made durable, as seen in a trace of its system calls.
//
// Contents are durable as they were when an fsync of their file began. Names are when
// their folder was synced; and that of a new file with the file, as ext4, XFS and btrfs
// have it.
type tracedDisk struct {
	root    string
	ignored *regexp.Regexp // files whose fsync counts for nothing; nil: none

	names, durable map[string]*tracedFile // by path; what is there, what is there for certain
	open           map[string]*tracedFD   // by number
	begun          map[string]string      // by thread: the first part of a call under way
	syncing        map[string][]byte      // by thread: the content when its fsync began
}

type tracedFile struct {
	dir          bool
	born         string // its first name
	now, synced  []byte
	neverRenamed bool
}

type tracedFD struct {
	at           int64
	append, sync bool
}

// traced are the system calls by which a directory changes, and those that move in files.
const traced = "open,openat,openat2,creat,close,read,write,writev,pwrite64,pwritev,pwritev2,lseek,ftruncate,truncate,fallocate," +
	"rename,renameat,renameat2,unlink,unlinkat,link,linkat,symlink,symlinkat,mkdir,mkdirat,rmdir,fsync,fdatasync,sync_file_range,copy_file_range,sendfile,splice"

// tracer is the command that watches a node; none where a process cannot be watched.
func tracer(trace string) []string {
	strace, err := osexec.LookPath("strace")
	if err == nil {
		err = osexec.Command(strace, "-o", os.DevNull, "true").Run()
	}
	if err != nil {
		return nil
	}
	// -D: the node stays the child of the test, which kills it.
	return []string{strace, "-D", "-f", "-y", "-ttt", "-T", "-xx", "-s", "16777216", "-e", "signal=none", "-e", "trace=" + traced, "-o", trace}
}

// readDisk is a directory as a trace shows it at a moment.
func readDisk(t testing.TB, trace, root string, until time.Time, ignored *regexp.Regexp) *tracedDisk {
	t.Helper()
	f, err := os.Open(trace)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d := &tracedDisk{root: root, ignored: ignored, names: map[string]*tracedFile{root: {dir: true}}, durable: map[string]*tracedFile{},
		open: map[string]*tracedFD{}, begun: map[string]string{}, syncing: map[string][]byte{}}
	r := bufio.NewReaderSize(f, 1<<20)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return d // the last line may have been cut
		}
		more, err := d.line(strings.TrimSuffix(line, "\n"), until)
		if err != nil {
			t.Fatalf("%v in %.300s", err, line)
		}
		if !more {
			return d
		}
	}
}

var (
	callLine = regexp.MustCompile(`^(\d+) +(\d+\.\d+) `)
	callEnd  = regexp.MustCompile(`^(-?\d+)\b.*<(\d+\.\d+)>$`)
	resumed  = regexp.MustCompile(`^<\.\.\. \w+ resumed>`)
)

// line takes one line of the trace; more is false when what it tells of ended later.
func (d *tracedDisk) line(line string, until time.Time) (more bool, err error) {
	m := callLine.FindStringSubmatch(line)
	if m == nil {
		return true, fmt.Errorf("no line of a trace")
	}
	thread, text := m[1], line[len(m[0]):]
	at, err := strconv.ParseFloat(m[2], 64)
	if err != nil {
		return true, err
	}
	if first, ok := strings.CutSuffix(text, " <unfinished ...>"); ok {
		d.begun[thread] = first
		switch name, args, _ := strings.Cut(first, "("); name {
		case "fsync", "fdatasync":
			d.beginSync(thread, fdPath(args))
		case "close":
			// Before it is seen to have ended another thread may get the number again.
			fd, _, _ := strings.Cut(args, "<")
			delete(d.open, strings.TrimRight(fd, ")"))
		}
		return true, nil
	}
	whole := true
	if prefix := resumed.FindString(text); prefix != "" {
		text, whole = d.begun[thread]+text[len(prefix):], false
	}
	end := strings.LastIndex(text, " = ")
	if end < 0 {
		return true, nil // it ended with its process
	}
	c := callEnd.FindStringSubmatch(text[end+len(" = "):])
	name, args, _ := strings.Cut(strings.TrimRight(text[:end], " )"), "(")
	if c == nil {
		return true, nil // likewise
	}
	result, err := strconv.ParseInt(c[1], 10, 64)
	if err != nil {
		return true, err
	}
	took, err := strconv.ParseFloat(c[2], 64)
	if err != nil {
		return true, err
	}
	if whole {
		at += took
	}
	if time.UnixMicro(int64(at * 1e6)).After(until) {
		return false, nil
	}
	if result < 0 {
		return true, nil // it failed
	}
	return true, d.call(thread, name, strings.Split(args, ", "), result, whole)
}

// unescape reads a text in which every byte is escaped, such as \x2f\x74, or none.
func unescape(text string) string {
	b, err := hex.DecodeString(strings.ReplaceAll(text, `\x`, ""))
	if err != nil || !strings.HasPrefix(text, `\x`) {
		return text
	}
	return string(b)
}

// fdPath is the path in an argument such as 7</tmp/file>.
func fdPath(arg string) string {
	_, path, _ := strings.Cut(arg, "<")
	path, _, _ = strings.Cut(path, ">")
	return unescape(path)
}

// text is a string argument.
func text(arg string) string { return unescape(strings.TrimSuffix(strings.TrimPrefix(arg, `"`), `"`)) }

// pathAt is the path of a directory's descriptor and a name in it.
func pathAt(dir, name string) string {
	if path := text(name); filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(fdPath(dir), text(name))
}

func (d *tracedDisk) inside(path string) bool {
	return path == d.root || strings.HasPrefix(path, d.root+"/")
}

func (d *tracedDisk) call(thread, name string, args []string, result int64, whole bool) error {
	fd, _, _ := strings.Cut(args[0], "<")
	switch name {
	case "open":
		args = append([]string{""}, args...)
		fallthrough
	case "openat":
		d.open[strconv.FormatInt(result, 10)] = &tracedFD{append: strings.Contains(args[2], "O_APPEND"), sync: strings.Contains(args[2], "SYNC")}
		d.opened(pathAt(args[0], args[1]), args[2])
		return nil
	case "close":
		if whole {
			delete(d.open, fd)
		}
		return nil
	case "read":
		if at := d.open[fd]; at != nil {
			at.at += result
		}
		return nil
	case "lseek":
		if at := d.open[fd]; at != nil {
			at.at = result
		}
		return nil
	case "mkdir", "mkdirat":
		path := pathAt(args[0], args[len(args)-2])
		if d.inside(path) {
			d.names[path] = &tracedFile{dir: true, born: path, neverRenamed: true}
		}
		return nil
	case "rename":
		return d.rename(text(args[0]), text(args[1]))
	case "renameat", "renameat2":
		return d.rename(pathAt(args[0], args[1]), pathAt(args[2], args[3]))
	case "unlink", "rmdir":
		delete(d.names, text(args[0]))
		return nil
	case "unlinkat":
		delete(d.names, pathAt(args[0], args[1]))
		return nil
	}
	path := fdPath(args[0])
	if !d.inside(path) {
		return nil
	}
	f := d.names[path]
	if f == nil {
		return nil // of a file that has been removed
	}
	switch name {
	case "write":
		at := d.open[fd]
		if at == nil {
			return fmt.Errorf("no file %s is open", fd)
		}
		if at.append {
			at.at = int64(len(f.now))
		}
		f.write(text(args[1])[:result], at.at)
		at.at += result
	case "pwrite64":
		at, err := strconv.ParseInt(args[3], 10, 64)
		if err != nil {
			return err
		}
		f.write(text(args[1])[:result], at)
	case "ftruncate":
		size, err := strconv.ParseInt(args[1], 10, 64)
		if err != nil {
			return err
		}
		f.resize(size)
	case "fsync", "fdatasync":
		if whole {
			d.beginSync(thread, path)
		}
		d.endSync(thread, path, f)
	default:
		return fmt.Errorf("%s changes %s in a way that this test cannot follow", name, path)
	}
	if at := d.open[fd]; at != nil && at.sync {
		d.beginSync(thread, path)
		d.endSync(thread, path, f)
	}
	return nil
}

func (d *tracedDisk) opened(path, flags string) {
	if !d.inside(path) {
		return
	}
	f := d.names[path]
	switch {
	case f == nil && strings.Contains(flags, "O_CREAT"):
		d.names[path] = &tracedFile{born: path, neverRenamed: true}
	case f != nil && strings.Contains(flags, "O_TRUNC"):
		f.now = nil
	}
}

func (d *tracedDisk) rename(from, to string) error {
	f := d.names[from]
	if f == nil {
		return nil
	}
	if f.dir {
		return fmt.Errorf("a folder changes its name: this test cannot follow")
	}
	f.neverRenamed = false
	delete(d.names, from)
	d.names[to] = f
	return nil
}

func (d *tracedDisk) beginSync(thread, path string) {
	if f := d.names[path]; f != nil && !f.dir {
		d.syncing[thread] = bytes.Clone(f.now)
	}
}

func (d *tracedDisk) endSync(thread, path string, f *tracedFile) {
	if d.ignored != nil && d.ignored.MatchString(path) {
		return
	}
	if f.neverRenamed {
		d.durable[f.born] = f
	}
	if !f.dir {
		f.synced = d.syncing[thread]
		return
	}
	in := func(p string, _ *tracedFile) bool { return filepath.Dir(p) == path }
	maps.DeleteFunc(d.durable, in)
	for p, f := range d.names {
		if in(p, f) {
			d.durable[p] = f
		}
	}
}

func (f *tracedFile) resize(size int64) {
	f.now = slices.Grow(f.now, max(0, int(size)-len(f.now)))
	if old := int64(len(f.now)); size > old {
		clear(f.now[old:size])
	}
	f.now = f.now[:size]
}

func (f *tracedFile) write(data string, at int64) {
	if end := at + int64(len(data)); end > int64(len(f.now)) {
		f.resize(end)
	}
	copy(f.now[at:], data)
}

// The ways in which a disk may be after a power cut.
const (
	onlySynced      = iota // names and contents are as they were synced
	namesAsTheyWere        // all names have made it, contents as they were synced
	someContents           // likewise, and the last contents of some files
	remains
)

// restore writes the directory as it is after the cut.
func (d *tracedDisk) restore(t testing.TB, way int, rng *rand.Rand) {
	t.Helper()
	names := d.names
	if way == onlySynced {
		names = d.durable
	}
	for _, path := range slices.Sorted(maps.Keys(names)) {
		f := names[path]
		content := f.synced
		if way == someContents && rng.IntN(2) == 0 {
			content = f.now
		}
		err := error(nil)
		switch {
		case f.dir:
			err = os.MkdirAll(path, 0o700)
		case !strings.HasSuffix(path, "-shm"): // is memory, and was mapped
			if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
				err = os.WriteFile(path, content, 0o600)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// matches fails unless a directory holds what the trace says: the trace was understood.
func (d *tracedDisk) matches(t testing.TB) {
	t.Helper()
	there := map[string]bool{}
	err := filepath.WalkDir(d.root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || strings.HasSuffix(path, "-shm") {
			return err
		}
		there[path] = true
		data, err := os.ReadFile(path)
		if f := d.names[path]; err == nil && (f == nil || !bytes.Equal(f.now, data)) {
			t.Errorf("the trace does not explain %s of %d bytes", path, len(data))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for path, f := range d.names {
		if !f.dir && !there[path] && !strings.HasSuffix(path, "-shm") {
			t.Errorf("the trace has a file %s that is not there", path)
		}
	}
}
