package blob

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// put gives a store all of a blob from offset on, in chunks.
func put(s *Store, data []byte, offset int64) error {
	for {
		end := min(offset+1000, int64(len(data)))
		next, done, err := s.Put(digestOf(data), int64(len(data)), offset, data[offset:end])
		if err != nil || done {
			return err
		}
		if next < end {
			return fmt.Errorf("after byte %d it wants byte %d", end, next)
		}
		offset = next
	}
}

// While one blob is being read or flushed the others arrive.
func TestBlobsArriveBesideOneThatTakesLong(t *testing.T) {
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	long := digestOf([]byte("long"))
	a := s.enter(long)
	var all sync.WaitGroup
	for i := range mostArriving + 6 {
		all.Go(func() {
			if err := put(s, bytes.Repeat(fmt.Appendf(nil, "%d,", i), 2000), 0); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	s.leave(long, a, true)
	if len(s.arriving) != 0 {
		t.Errorf("%d blobs are remembered that have arrived", len(s.arriving))
	}
}

// A blob arrives across a new start, and after what came of it was swept; and what a
// crash has spoiled is found out.
func TestWhatArrivedBeforeIsReadForTheDigest(t *testing.T) {
	dir := t.TempDir()
	open := func() *Store {
		s, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	data := bytes.Repeat([]byte("snap"), 1000)
	first := func(s *Store) {
		t.Helper()
		if next, done, err := s.Put(digestOf(data), int64(len(data)), 0, data[:1000]); next != 1000 || done || err != nil {
			t.Fatal(next, done, err)
		}
	}
	part := filepath.Join(dir, digestOf(data)+partSuffix)
	s := open()
	first(s)
	if err := os.Remove(part); err != nil { // swept
		t.Fatal(err)
	}
	first(s)
	s = open()
	if err := os.WriteFile(part, make([]byte, 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := put(s, data, 1000); !errors.Is(err, ErrDigest) {
		t.Errorf("spoiled: %v", err)
	}
	first(s)
	if err := put(open(), data, 1000); err != nil {
		t.Error(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, digestOf(data))); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes of %d, %v", len(got), len(data), err)
	}
}
