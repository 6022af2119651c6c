package lend_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/snapdb/snapdb/agent/lend"
	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// shelf makes a shelf and a database to lend.
func shelf(t *testing.T, room func(int64) error, patience time.Duration) (s *lend.Shelf, d *exec.Database, files func() int) {
	t.Helper()
	store, err := exec.Open(t.TempDir(), exec.Options{Role: exec.RoleSlave})
	if err == nil {
		err = store.ReplaceCatalog([]subjects.CatalogEntry{{Name: "d", Incarnation: 1}}, exec.Position{Number: 1})
	}
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "lent")
	if s, err = lend.Open(dir, room, patience); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(s.Close(), store.Close()); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("after the end: %v", err)
		}
	})
	if d, err = store.Database("d"); err != nil {
		t.Fatal(err)
	}
	return s, d, func() int {
		left, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		return len(left)
	}
}

func anyRoom(int64) error { return nil }

// until waits for a condition, which asks for nothing that is lent.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for late := time.After(10 * time.Second); !ok(); {
		select {
		case <-tick.C:
		case <-late:
			t.Fatal(what)
		}
	}
}

func ready(t *testing.T, s *lend.Shelf, id string) (state *subjects.CopyResponse) {
	t.Helper()
	until(t, "the copy is not ready", func() bool {
		var err error
		if state, err = s.State(id); err != nil {
			t.Fatal(err)
		}
		return state.Ready
	})
	return state
}

func wantCode(t *testing.T, what string, err error, code subjects.Code) {
	t.Helper()
	if we := exec.WireError(err); we == nil || we.Code != code {
		t.Errorf("%s: %v, want code %s", what, err, code)
	}
}

func TestCopyIsLentWholeAndTakenBack(t *testing.T) {
	s, d, files := shelf(t, anyRoom, time.Minute)
	if err := s.Lend("a", d, "why not"); err != nil {
		t.Fatal(err)
	}
	state := ready(t, s, "a")
	if state.DB != "d" || state.Head != d.Head() || state.Doubt != "why not" {
		t.Errorf("%+v", state)
	}
	var all bytes.Buffer
	for int64(all.Len()) < state.Size {
		chunk, err := s.ReadAt("a", int64(all.Len()))
		if err != nil || len(chunk) == 0 {
			t.Fatalf("at %d: %d bytes, %v", all.Len(), len(chunk), err)
		}
		all.Write(chunk)
	}
	if sum := sha256.Sum256(all.Bytes()); hex.EncodeToString(sum[:]) != state.Digest {
		t.Errorf("digest %x, want %s", sum, state.Digest)
	}
	if rest, err := s.ReadAt("a", state.Size); len(rest) > 0 || err != nil {
		t.Errorf("at the end: %d bytes, %v", len(rest), err)
	}
	_, err := s.ReadAt("a", -1)
	wantCode(t, "before the beginning", err, subjects.CodeBadRequest)
	s.Return("a")
	s.Return("a")
	if files() > 0 {
		t.Error("the copy is still there")
	}
	_, err = s.ReadAt("a", 0)
	wantCode(t, "given back", err, subjects.CodeNotFound)
}

func TestCopiesAreBounded(t *testing.T) {
	full := subjects.Errorf(subjects.CodeUnavailable, "full")
	var room error
	s, d, files := shelf(t, func(int64) error { return room }, time.Minute)
	for _, id := range []string{"a", "b", "a"} {
		if err := s.Lend(id, d, ""); err != nil {
			t.Fatal(err)
		}
	}
	wantCode(t, "one too many", s.Lend("c", d, ""), subjects.CodeBusy)
	s.Return("a") // also one that is being made
	room = full
	wantCode(t, "a full disk", s.Lend("c", d, ""), subjects.CodeUnavailable)
	room = nil
	if err := s.Lend("c", d, ""); err != nil {
		t.Fatal(err)
	}
	ready(t, s, "b")
	ready(t, s, "c")
	until(t, "a copy that was given back is still there", func() bool { return files() == 2 })
}

// A borrower that died costs its room for a short while only.
func TestCopyThatNobodyAsksForIsTakenBack(t *testing.T) {
	s, d, files := shelf(t, anyRoom, 50*time.Millisecond)
	if err := s.Lend("a", d, ""); err != nil {
		t.Fatal(err)
	}
	until(t, "the copy is not taken back", func() bool { return !s.Known("a") && files() == 0 })
}
