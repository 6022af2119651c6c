package blob

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/snapdb/snapdb/exec"
)

// partSuffix is the end of the names of blobs that arrive in chunks.
const partSuffix = ".part"

// partLife is how long a blob that does not go on arriving is kept.
const partLife = 24 * time.Hour

// Put takes a chunk of the blob of a digest and size that arrives in order. It
// returns where to go on, which is not after the chunk if that does not belong
// there; and whether all is there. After ErrDigest nothing is kept.
func (s *Store) Put(digest string, size, offset int64, chunk []byte) (next int64, done bool, err error) {
	if !isDigest(digest) {
		return 0, false, fmt.Errorf("%w: %.80q is no SHA-256", ErrDigest, digest)
	}
	s.putting.Lock()
	defer s.putting.Unlock()
	if info, err := os.Stat(s.path(digest)); err == nil {
		return info.Size(), true, nil
	}
	f, err := os.OpenFile(s.path(digest+partSuffix), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return 0, false, fmt.Errorf("put blob: %w", err)
	}
	defer f.Close()
	has, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, false, fmt.Errorf("put blob: %w", err)
	}
	switch {
	case has+int64(len(chunk)) > size:
		return 0, false, errors.Join(fmt.Errorf("%w: more than the %d bytes that it should have", ErrDigest, size), os.Remove(f.Name()))
	case offset != has:
		return has, false, nil
	}
	if _, err := f.Write(chunk); err != nil {
		return has, false, errors.Join(fmt.Errorf("put blob: %w", err), f.Truncate(has))
	}
	if next = has + int64(len(chunk)); next < size {
		return next, false, nil
	}
	if err := s.finish(f, digest); err != nil {
		return 0, false, err
	}
	return next, true, nil
}

// finish makes a blob of which all has arrived one that stays.
func (s *Store) finish(f *os.File, digest string) error {
	hash := sha256.New()
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("put blob: %w", err)
	}
	if _, err := io.Copy(hash, f); err != nil {
		return fmt.Errorf("put blob: %w", err)
	}
	if is := hex.EncodeToString(hash.Sum(nil)); is != digest {
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
