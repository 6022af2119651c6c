// Package blob keeps large immutable contents as plain files named by their
// SHA-256: bodies of large transactions today, whatever else nodes must fetch
// tomorrow. It stores and serves bytes; it knows neither what they mean nor who
// asks for them.
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

	"github.com/snapdb/snapdb/subjects"
)

// ErrDigest: a content does not have the digest it should have, or a digest is
// not one.
var ErrDigest = errors.New("digest does not match")

// Store is a folder of blobs.
type Store struct {
	dir string
}

const tempSuffix = ".tmp"

// Open opens the folder, making it if needed, and removes what interrupted
// writers left.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make blob folder: %w", err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"+tempSuffix))
	if err != nil {
		return nil, fmt.Errorf("list blobs: %w", err)
	}
	for _, f := range left {
		if err := os.Remove(f); err != nil {
			return nil, fmt.Errorf("remove unfinished blob: %w", err)
		}
	}
	return &Store{dir}, nil
}

// Writer writes one blob: Write, then Commit or Abort.
type Writer struct {
	s    *Store
	f    *os.File
	hash hash.Hash
	size int64
}

// Create begins a blob.
func (s *Store) Create() (*Writer, error) {
	f, err := os.CreateTemp(s.dir, "*"+tempSuffix)
	if err != nil {
		return nil, fmt.Errorf("create blob: %w", err)
	}
	return &Writer{s: s, f: f, hash: sha256.New()}, nil
}

// Write appends to the blob.
func (w *Writer) Write(p []byte) (int, error) {
	n, err := w.f.Write(p)
	w.hash.Write(p[:n])
	w.size += int64(n)
	if err != nil {
		return n, fmt.Errorf("write blob: %w", err)
	}
	return n, nil
}

// Commit makes the blob durable under its digest.
func (w *Writer) Commit() (subjects.BlobRef, error) {
	ref := subjects.BlobRef{Digest: hex.EncodeToString(w.hash.Sum(nil)), Size: w.size}
	err := w.f.Sync()
	if err = errors.Join(err, w.f.Close()); err == nil {
		err = os.Rename(w.f.Name(), w.s.path(ref.Digest))
	}
	if err == nil {
		err = syncDir(w.s.dir)
	}
	if err != nil {
		os.Remove(w.f.Name()) // swept at the next Open if this fails too
		return subjects.BlobRef{}, fmt.Errorf("commit blob: %w", err)
	}
	return ref, nil
}

// Abort removes what was written. Errors do not matter: Open sweeps.
func (w *Writer) Abort() {
	w.f.Close()
	os.Remove(w.f.Name())
}

// Open opens a blob for reading. The error wraps fs.ErrNotExist if it is not
// here.
func (s *Store) Open(digest string) (*os.File, error) {
	if raw, err := hex.DecodeString(digest); err != nil || len(raw) != sha256.Size || hex.EncodeToString(raw) != digest {
		return nil, fmt.Errorf("%w: %.80q is no SHA-256", ErrDigest, digest)
	}
	f, err := os.Open(s.path(digest))
	if err != nil {
		return nil, fmt.Errorf("open blob: %w", err)
	}
	return f, nil
}

// ReadAt reads up to len(p) bytes of a blob from offset on; fewer, or none, only
// at its end.
func (s *Store) ReadAt(digest string, p []byte, offset int64) (int, error) {
	if offset < 0 {
		return 0, fmt.Errorf("read blob: negative offset %d", offset)
	}
	f, err := s.Open(digest)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	n, err := f.ReadAt(p, offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return n, fmt.Errorf("read blob: %w", err)
	}
	return n, nil
}

// Sweep removes all blobs that keep does not name, for a master that starts: the
// blob of a publish that failed has no message.
func (s *Store) Sweep(keep map[string]bool) error {
	files, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("list blobs: %w", err)
	}
	for _, f := range files {
		if keep[f.Name()] {
			continue
		}
		if err := os.Remove(filepath.Join(s.dir, f.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove unused blob: %w", err)
		}
	}
	return nil
}

func (s *Store) path(digest string) string { return filepath.Join(s.dir, digest) }

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	// Some systems cannot sync a folder and make renames durable by themselves.
	if err := f.Sync(); err != nil && !errors.Is(err, fs.ErrInvalid) && !errors.Is(err, errors.ErrUnsupported) {
		return errors.Join(fmt.Errorf("sync folder: %w", err), f.Close())
	}
	return f.Close()
}
