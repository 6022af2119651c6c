package blob

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/snapdb/snapdb/exec"
)

// partSuffix is the end of the names of blobs that arrive in chunks.
const partSuffix = ".part"

// partLife is how long a blob that does not go on arriving is kept.
const partLife = 24 * time.Hour

// mostArriving is of how many blobs that arrive the digest so far is remembered.
// Those beyond are read again when all is there.
const mostArriving = 64

// arrival is a blob that arrives in chunks. Each is put on its own: others go on
// while a large one is read or flushed.
type arrival struct {
	mu     sync.Mutex // held while a chunk is put
	users  int        // guarded by the store's mutex
	hash   hash.Hash  // of the first bytes,
	hashed int64      // so many
}

func (s *Store) enter(digest string) *arrival {
	s.mu.Lock()
	a := s.arriving[digest]
	if a == nil {
		a = &arrival{hash: sha256.New()}
		s.arriving[digest] = a
	}
	a.users++
	s.mu.Unlock()
	a.mu.Lock()
	return a
}

// leave ends a put. What is no longer on its way is forgotten.
func (s *Store) leave(digest string, a *arrival, ended bool) {
	a.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.users--; a.users == 0 && (ended || len(s.arriving) > mostArriving) {
		delete(s.arriving, digest)
	}
}

// Put takes a chunk of the blob of a digest and size that arrives in order. It
// returns where to go on, which is not after the chunk if that does not belong
// there; and whether all is there. After ErrDigest nothing is kept.
func (s *Store) Put(digest string, size, offset int64, chunk []byte) (next int64, done bool, err error) {
	if !isDigest(digest) {
		return 0, false, fmt.Errorf("%w: %.80q is no SHA-256", ErrDigest, digest)
	}
	a := s.enter(digest)
	defer func() { s.leave(digest, a, done || err != nil) }()
	if info, err := os.Stat(s.path(digest)); err == nil {
		return info.Size(), true, nil
	}
	flags := os.O_RDWR
	if offset == 0 { // a later chunk must not bring back what was discarded
		flags |= os.O_CREATE
	}
	f, err := os.OpenFile(s.path(digest+partSuffix), flags, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("put blob: %w", err)
	}
	defer f.Close()
	has, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, false, fmt.Errorf("put blob: %w", err)
	}
	if has < a.hashed {
		a.restart() // the file was swept meanwhile
	}
	switch {
	case has+int64(len(chunk)) > size:
		a.restart()
		return 0, false, errors.Join(fmt.Errorf("%w: more than the %d bytes that it should have", ErrDigest, size), os.Remove(f.Name()))
	case offset != has:
		return has, false, nil
	}
	if _, err := f.Write(chunk); err != nil {
		return has, false, errors.Join(fmt.Errorf("put blob: %w", err), f.Truncate(has))
	}
	if a.hashed == has {
		a.hash.Write(chunk)
		a.hashed += int64(len(chunk))
	}
	if next = has + int64(len(chunk)); next < size {
		return next, false, nil
	}
	if err := s.finish(f, a, digest, size); err != nil {
		return 0, false, err
	}
	return next, true, nil
}

func (a *arrival) restart() { a.hash, a.hashed = sha256.New(), 0 }

// finish makes a blob of which all has arrived one that stays. Only what arrived
// before this process or is not remembered has to be read for its digest.
func (s *Store) finish(f *os.File, a *arrival, digest string, size int64) error {
	if _, err := io.Copy(a.hash, io.NewSectionReader(f, a.hashed, size-a.hashed)); err != nil {
		a.restart()
		return fmt.Errorf("put blob: %w", err)
	}
	is := hex.EncodeToString(a.hash.Sum(nil))
	a.restart()
	if is != digest {
		return errors.Join(fmt.Errorf("%w: what arrived has %s", ErrDigest, is), os.Remove(f.Name()))
	}
	err := f.Sync()
	if err == nil {
		err = os.Rename(f.Name(), s.path(digest))
	}
	if err == nil {
		err = exec.SyncDir(s.dir)
	}
	if err != nil {
		return fmt.Errorf("put blob: %w", err)
	}
	return nil
}

// Discard removes what has arrived of a blob, or all of it.
func (s *Store) Discard(digest string) error {
	if err := s.Remove(digest); err != nil {
		return err
	}
	a := s.enter(digest)
	defer s.leave(digest, a, true)
	a.restart()
	if err := os.Remove(s.path(digest + partSuffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("discard blob: %w", err)
	}
	return nil
}

// Sweep removes the blobs that are not needed and older than age, and what has
// stopped arriving.
func (s *Store) Sweep(age time.Duration, needed func(digest string) bool) error {
	files, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("sweep blobs: %w", err)
	}
	var errs []error
	for _, file := range files {
		info, err := file.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("sweep blobs: %w", err)
		}
		old := time.Since(info.ModTime())
		part := strings.HasSuffix(file.Name(), partSuffix)
		if part && old > partLife || !part && old > age && isDigest(file.Name()) && !needed(file.Name()) {
			errs = append(errs, os.Remove(filepath.Join(s.dir, file.Name())))
		}
	}
	return errors.Join(errs...)
}
