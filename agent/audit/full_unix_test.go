//go:build linux || darwin

package audit_test

import (
	"errors"
	"os"
	osexec "os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"github.com/snapdb/snapdb/agent/audit"
)

// limitFiles keeps this process from writing files beyond a size until undo.
func limitFiles(t *testing.T, bytes uint64) (undo func()) {
	t.Helper()
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: bytes, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
			t.Error(err)
		}
	}
}

// The limit that stands for a full disk is of a whole process, so this test runs itself
// in another one.
func TestFullDisk(t *testing.T) {
	const inChild = "SNAPDB_AUDIT_TEST_FULL_DISK"
	if os.Getenv(inChild) == "" {
		cmd := osexec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFullDisk$", "-test.v")
		cmd.Env = append(os.Environ(), inChild+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	signal.Ignore(syscall.SIGXFSZ)
	t.Run("nothing half is left", fullLeavesNothingHalf)
	t.Run("a log opens, and begins when there is space", fullWhenItOpens)
}

func fullLeavesNothingHalf(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, audit.Options{})
	defer closeLog(t, l)
	fill(t, l, 3)
	before, err := os.ReadFile(files(t, dir)[0])
	if err != nil {
		t.Fatal(err)
	}

	undo := limitFiles(t, uint64(len(before)+100)) // room for a part of a line
	for range 2 {
		err := l.Append(audit.Event{Action: "user.add", Outcome: audit.OK, Detail: strings.Repeat("x", 500)})
		if !errors.Is(err, audit.ErrFull) || !errors.Is(err, audit.ErrNotRecorded) {
			t.Errorf("append: %v", err)
		}
	}
	if after, err := os.ReadFile(files(t, dir)[0]); err != nil || string(after) != string(before) {
		t.Errorf("%d bytes became %d, %v", len(before), len(after), err)
	}
	good(t, dir, l)

	undo()
	fill(t, l, 1)
	if r := good(t, dir, l); r.Last.N != 5 {
		t.Errorf("after there is space again: %+v", r)
	}
}

func fullWhenItOpens(t *testing.T) {
	undo := limitFiles(t, 10)
	dir := t.TempDir()
	l := open(t, dir, audit.Options{Cluster: "c1"})
	defer closeLog(t, l)
	if err := l.Append(audit.Event{Action: "login", Outcome: audit.OK}); !errors.Is(err, audit.ErrFull) {
		t.Errorf("append: %v", err)
	}
	if r := good(t, dir, l); r.Entries != 0 {
		t.Errorf("verify: %+v", r)
	}
	undo()
	fill(t, l, 1)
	good(t, dir, l)
	if list := all(t, l.Read(t.Context(), audit.Filter{})); len(list) != 2 || list[0].Target != "c1" {
		t.Errorf("entries: %+v", list)
	}
}
