// Package blob keeps large immutable contents as plain files named by their
// SHA-256: bodies of large transactions today, whatever else nodes must fetch
// tomorrow. It stores and serves bytes; it knows neither what they mean nor who
// asks for them.
//
// A blob is durable before anything refers to it, so a crash in between leaves a
// blob that nobody needs. Until its writer says that something refers to it, it is
// a draft: an empty file beside it says so and from where on in the log to look
// for the reference. Whoever starts after a crash looks there, for the few drafts
// that are left, and keeps or drops them.
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
	"strconv"
	"strings"
	"sync"

	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// ErrDigest: a content does not have the digest it should have, or a digest is
// not one.
var ErrDigest = errors.New("digest does not match")

// Store is a folder of blobs.
type Store struct {
	dir string

	mu       sync.Mutex          // guards arriving
	arriving map[string]*arrival // by digest
}

// Ends of the names of files that are not blobs.
const (
	tempSuffix  = ".tmp"
	draftSuffix = ".draft"
)

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
	return &Store{dir: dir, arriving: map[string]*arrival{}}, nil
}

// Writer writes one blob: Write, then Commit, then Keep; or Abort, before or after
// Commit.
type Writer struct {
	s      *Store
	after  uint64
	f      *os.File
	hash   hash.Hash
	size   int64
	synced int64 // how much of it is on stable storage
	draft  Draft // once committed
}

// syncEvery is how many bytes are written before they are brought to stable storage. All
// of a large blob at its end would keep the disk from the log for too long: writes wait.
const syncEvery = 2 << 20

// Create begins a blob to which something after a position of the log may refer.
func (s *Store) Create(after uint64) (*Writer, error) {
	f, err := os.CreateTemp(s.dir, "*"+tempSuffix)
	if err != nil {
		return nil, fmt.Errorf("create blob: %w", err)
	}
	return &Writer{s: s, after: after, f: f, hash: sha256.New()}, nil
}

// Write appends to the blob.
func (w *Writer) Write(p []byte) (int, error) {
	n, err := w.f.Write(p)
	w.hash.Write(p[:n])
	w.size += int64(n)
	if err != nil {
		return n, fmt.Errorf("write blob: %w", err)
	}
	if w.size-w.synced >= syncEvery {
		if err := w.f.Sync(); err != nil {
			return n, fmt.Errorf("write blob: %w", err)
		}
		w.synced = w.size
	}
	return n, nil
}

// Commit makes the blob durable under its digest, as a draft. If the same content
// is there already, that stays as it is.
func (w *Writer) Commit() (subjects.BlobRef, error) {
	ref := subjects.BlobRef{Digest: hex.EncodeToString(w.hash.Sum(nil)), Size: w.size}
	if err := w.commit(ref.Digest); err != nil {
		os.Remove(w.f.Name()) // swept at the next Open if this fails too
		return subjects.BlobRef{}, fmt.Errorf("commit blob: %w", err)
	}
	return ref, nil
}

func (w *Writer) commit(digest string) error {
	if err := errors.Join(w.f.Sync(), w.f.Close()); err != nil {
		return err
	}
	_, err := os.Stat(w.s.path(digest))
	if err == nil {
		return os.Remove(w.f.Name())
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	w.draft = Draft{digest, w.after}
	// First the mark: a blob without it is never looked at again.
	mark, err := os.OpenFile(w.s.mark(w.draft), os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		err = mark.Close()
	}
	if err == nil {
		err = os.Rename(w.f.Name(), w.s.path(digest))
	}
	if err != nil {
		return err
	}
	return exec.SyncDir(w.s.dir)
}

// Keep makes a committed blob one that stays, because something refers to it now.
// If that fails, the next start finds it out again.
func (w *Writer) Keep() {
	if w.draft.Digest != "" {
		_ = w.s.Keep(w.draft)
	}
}

// Abort removes what was written, a committed blob too if it is a draft. Errors do
// not matter: the next start sweeps.
func (w *Writer) Abort() {
	w.f.Close()
	os.Remove(w.f.Name())
	if w.draft.Digest != "" {
		_ = w.s.Drop(w.draft)
	}
}

// Open opens a blob for reading. The error wraps fs.ErrNotExist if it is not
// here.
func (s *Store) Open(digest string) (*os.File, error) {
	if !isDigest(digest) {
		return nil, fmt.Errorf("%w: %.80q is no SHA-256", ErrDigest, digest)
	}
	f, err := os.Open(s.path(digest))
	if err != nil {
		return nil, fmt.Errorf("open blob: %w", err)
	}
	return f, nil
}

// Size is how many bytes all blobs have together, unfinished ones included.
func (s *Store) Size() (int64, error) {
	files, err := os.ReadDir(s.dir)
	if err != nil {
		return 0, fmt.Errorf("measure blobs: %w", err)
	}
	total := int64(0)
	for _, f := range files {
		info, err := f.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // dropped meanwhile
		}
		if err != nil {
			return 0, fmt.Errorf("measure blobs: %w", err)
		}
		total += info.Size()
	}
	return total, nil
}

// isDigest says whether a name is a SHA-256 as this package writes it, and so
// nothing that leads out of the folder.
func isDigest(name string) bool {
	raw, err := hex.DecodeString(name)
	return err == nil && len(raw) == sha256.Size && hex.EncodeToString(raw) == name
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

// Draft is a blob to which nothing may refer.
type Draft struct {
	Digest string
	After  uint64 // what refers to it is after this position of the log
}

// Drafts are those that were neither kept nor dropped.
func (s *Store) Drafts() ([]Draft, error) {
	marks, err := filepath.Glob(filepath.Join(s.dir, "*"+draftSuffix))
	if err != nil {
		return nil, fmt.Errorf("list drafts: %w", err)
	}
	var drafts []Draft
	for _, mark := range marks {
		digest, position, _ := strings.Cut(strings.TrimSuffix(filepath.Base(mark), draftSuffix), ".")
		after, err := strconv.ParseUint(position, 10, 64)
		if err != nil || !isDigest(digest) {
			return nil, fmt.Errorf("list drafts: %s is not the mark of one", mark)
		}
		drafts = append(drafts, Draft{digest, after})
	}
	return drafts, nil
}

// Keep makes a draft a blob that stays.
func (s *Store) Keep(d Draft) error {
	if err := os.Remove(s.mark(d)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("keep blob: %w", err)
	}
	return nil
}

// Drop removes a draft.
func (s *Store) Drop(d Draft) error {
	if err := os.Remove(s.path(d.Digest)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("drop blob: %w", err)
	}
	return s.Keep(d) // the mark last: a crash in between leaves a mark of nothing
}

// Remove removes a blob to which nothing refers any more. One that is not here is no
// error.
func (s *Store) Remove(digest string) error {
	if !isDigest(digest) {
		return fmt.Errorf("%w: %.80q is no SHA-256", ErrDigest, digest)
	}
	if err := os.Remove(s.path(digest)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove blob: %w", err)
	}
	return nil
}

func (s *Store) mark(d Draft) string {
	return s.path(d.Digest + "." + strconv.FormatUint(d.After, 10) + draftSuffix)
}

func (s *Store) path(digest string) string { return filepath.Join(s.dir, digest) }
