// Package snapshot keeps copies of whole databases on the master, for nodes that the
// log alone cannot help: the newest one of each database, as a blob that is its file
// compressed with zstd, and beside it a small JSON file that says of which cluster,
// database and position it is.
//
// A snapshot counts from the moment its JSON file is there, which is after the blob
// is on stable storage; an older one is removed only then. One that is damaged or of
// another cluster is never used. One of a newer format is left to a newer program: the
// folder cannot be opened.
//
// The copy is made by SQLite's backup from a read transaction and is checked for
// damage before it is compressed, so that neither readers nor writers wait and a
// damaged database does not spread. That takes the room of the whole file on disk
// for a while, and no more memory than a page cache.
//
// It knows nothing of the log and of who needs a snapshot when.
package snapshot

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/snapdb/snapdb/agent/blob"
	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// formatVersion is written into every manifest.
const formatVersion = 1

// CopySuffix ends the names of unpacked files in the folder; they are removed at
// the next Open.
const CopySuffix = ".copy"

// manifestSuffix ends the names of manifests, after the incarnation.
const manifestSuffix = ".json"

// manifest is what the JSON file says.
type manifest struct {
	Format   int    `json:"format"`
	Cluster  string `json:"cluster"`
	Database string `json:"database"`
	subjects.Snapshot
}

// Store is the folder of snapshots.
type Store struct {
	dir     string
	cluster string
	blobs   *blob.Store
	room    func(bytes int64) error // whether so much may be written
	log     *slog.Logger

	taking sync.Mutex // one at a time: each takes a disk and a core

	mu     sync.Mutex
	newest map[uint64]subjects.Snapshot // by incarnation
}

// Open opens the folder of a cluster, making it if needed, and removes what is not
// usable. room says whether so many bytes may be written now. The error wraps
// [exec.ErrNewer] if a newer program has made a snapshot.
func Open(dir, cluster string, room func(bytes int64) error, log *slog.Logger) (*Store, error) {
	blobs, err := blob.Open(dir)
	if err != nil {
		return nil, err
	}
	s := &Store{dir: dir, cluster: cluster, blobs: blobs, room: room, log: log, newest: map[uint64]subjects.Snapshot{}}
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	for _, f := range files {
		switch name := f.Name(); {
		case strings.Contains(name, CopySuffix):
			err = os.Remove(filepath.Join(dir, name))
		case strings.HasSuffix(name, manifestSuffix):
			err = s.load(name)
		}
		if err != nil {
			return nil, fmt.Errorf("open snapshots: %w", err)
		}
	}
	return s, s.sweep()
}

// load reads a manifest; one that is of no use is removed.
func (s *Store) load(name string) error {
	path := filepath.Join(s.dir, name)
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	// First the format: the rest of a newer one may be anything.
	var is struct {
		Format int `json:"format"`
	}
	if json.Unmarshal(data, &is) == nil && is.Format > formatVersion {
		return fmt.Errorf("%s: %w", path, exec.Newer(is.Format, formatVersion))
	}
	var m manifest
	err = json.Unmarshal(data, &m)
	switch size, serr := s.sizeOf(m.Digest); {
	case err != nil:
	case m.Cluster != s.cluster:
		err = fmt.Errorf("it is of cluster %s", m.Cluster)
	case name != manifestName(m.Incarnation):
		err = errors.New("it is of another database than its name says")
	case serr != nil:
		err = serr
	case size != m.Size:
		err = fmt.Errorf("its content has %d bytes instead of %d", size, m.Size)
	}
	if err != nil {
		s.log.Warn("removing a snapshot that cannot be used", "file", path, "error", err)
		return os.Remove(path)
	}
	s.newest[m.Incarnation] = m.Snapshot
	return nil
}

func (s *Store) sizeOf(digest string) (int64, error) {
	f, err := s.blobs.Open(digest)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func manifestName(incarnation uint64) string {
	return strconv.FormatUint(incarnation, 10) + manifestSuffix
}

// sweep removes contents that no manifest names.
func (s *Store) sweep() error {
	s.mu.Lock()
	named := map[string]bool{}
	for _, snap := range s.newest {
		named[snap.Digest] = true
	}
	s.mu.Unlock()
	drafts, err := s.blobs.Drafts()
	if err != nil {
		return err
	}
	for _, d := range drafts {
		settle := s.blobs.Drop
		if named[d.Digest] {
			settle = s.blobs.Keep
		}
		if err := settle(d); err != nil {
			return err
		}
	}
	return s.blobs.Sweep(0, func(digest string) bool { return named[digest] })
}

// Newest is the snapshot of a database; ok is false if there is none.
func (s *Store) Newest(incarnation uint64) (snap subjects.Snapshot, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	snap, ok = s.newest[incarnation]
	return snap, ok
}

// Take makes a snapshot of a database as it is now, unless the newest one is that. It
// waits for another that is being made.
func (s *Store) Take(ctx context.Context, d *exec.Database) (subjects.Snapshot, error) {
	s.taking.Lock()
	defer s.taking.Unlock()
	if snap, ok := s.Newest(d.Incarnation()); ok && snap.Head == d.Head() {
		return snap, nil
	}
	begun := time.Now()
	snap, err := s.take(ctx, d)
	if err != nil {
		return snap, fmt.Errorf("snapshot of %s: %w", d.Name(), err)
	}
	s.log.Info("snapshot taken", "database", d.Name(), "position", snap.Position, "bytes", snap.Size, "file_bytes", snap.File, "duration", time.Since(begun))
	return snap, nil
}

func (s *Store) take(ctx context.Context, d *exec.Database) (snap subjects.Snapshot, err error) {
	size, err := d.Size()
	if err == nil {
		err = s.room(2 * size) // the copy, and at worst as much compressed
	}
	if err != nil {
		return snap, err
	}
	path := filepath.Join(s.dir, strconv.FormatUint(d.Incarnation(), 10)+CopySuffix)
	at, err := d.Copy(ctx, path)
	if err != nil {
		return snap, err
	}
	defer func() { err = errors.Join(err, os.Remove(path)) }()
	w, err := s.blobs.Create(at.Number)
	if err != nil {
		return snap, err
	}
	snap = subjects.Snapshot{Head: subjects.Head{Incarnation: d.Incarnation(), Position: at.Number, Chain: at.Chain.String()}, Taken: time.Now().UnixMilli()}
	if snap.File, err = Pack(ctx, w, path); err != nil {
		w.Abort()
		return snap, err
	}
	ref, err := w.Commit()
	if err != nil {
		return snap, err
	}
	snap.Digest, snap.Size = ref.Digest, ref.Size
	if err := s.record(d.Name(), snap); err != nil {
		w.Abort()
		return snap, err
	}
	w.Keep()
	return snap, s.sweep()
}

// record makes a snapshot the newest.
func (s *Store) record(database string, snap subjects.Snapshot) error {
	data, err := json.MarshalIndent(manifest{formatVersion, s.cluster, database, snap}, "", "  ")
	if err != nil {
		return fmt.Errorf("encode manifest: %w", err)
	}
	if err := exec.WriteFile(filepath.Join(s.dir, manifestName(snap.Incarnation)), append(data, '\n')); err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.newest[snap.Incarnation] = snap
	return nil
}

// Pack compresses a file into w and returns the file's size.
func Pack(ctx context.Context, w io.Writer, path string) (size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return 0, fmt.Errorf("compress: %w", err)
	}
	size, err = io.Copy(z, Reader(ctx, f))
	if err = errors.Join(err, z.Close()); err != nil {
		return 0, fmt.Errorf("compress: %w", err)
	}
	return size, nil
}

// Unpack makes a new file at path of what Pack wrote, which must give size bytes.
// Nothing is left of it after an error.
func Unpack(r io.Reader, path string, size int64) (err error) {
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return fmt.Errorf("decompress: %w", err)
	}
	defer z.Close()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	n, err := io.Copy(f, io.LimitReader(z, size+1))
	if err == nil && n != size {
		err = fmt.Errorf("it is no file of %d bytes", size)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(fmt.Errorf("decompress: %w", err), os.Remove(path))
	}
	return nil
}

// Reader is r until ctx ends.
func Reader(ctx context.Context, r io.Reader) io.Reader { return contextReader{ctx, r} }

type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}

// Check reads the content of a database's snapshot and removes the snapshot if it is
// damaged. It is for when somebody who got it says so.
func (s *Store) Check(ctx context.Context, incarnation uint64) (damaged bool, err error) {
	s.taking.Lock()
	defer s.taking.Unlock()
	snap, ok := s.Newest(incarnation)
	if !ok {
		return false, nil
	}
	f, err := s.blobs.Open(snap.Digest)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if err == nil {
		hash := sha256.New()
		_, err = io.Copy(hash, Reader(ctx, f))
		if err = errors.Join(err, f.Close()); err != nil && ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		if err == nil && hex.EncodeToString(hash.Sum(nil)) == snap.Digest {
			return false, nil
		}
	}
	s.log.Error("a snapshot is damaged and is removed", "digest", snap.Digest, "position", snap.Position, "error", err)
	return true, s.remove(incarnation)
}

// remove removes the snapshot of a database.
func (s *Store) remove(incarnations ...uint64) error {
	for _, inc := range incarnations {
		s.mu.Lock()
		delete(s.newest, inc)
		s.mu.Unlock()
		if err := os.Remove(filepath.Join(s.dir, manifestName(inc))); err != nil {
			return fmt.Errorf("remove snapshot: %w", err)
		}
	}
	return s.sweep()
}

// Prune removes the snapshots of databases that are no more.
func (s *Store) Prune(live func(incarnation uint64) bool) error {
	s.taking.Lock()
	defer s.taking.Unlock()
	var dead []uint64
	s.mu.Lock()
	for inc := range s.newest {
		if !live(inc) {
			dead = append(dead, inc)
		}
	}
	s.mu.Unlock()
	if len(dead) == 0 {
		return nil
	}
	return s.remove(dead...)
}

// ReadAt reads a part of a snapshot's content, as [blob.Store.ReadAt].
func (s *Store) ReadAt(digest string, p []byte, offset int64) (int, error) {
	return s.blobs.ReadAt(digest, p, offset)
}

// File opens a snapshot's content unpacked, as a new file at path.
func (s *Store) File(snap subjects.Snapshot, path string) error {
	f, err := s.blobs.Open(snap.Digest)
	if err != nil {
		return fmt.Errorf("open snapshot: %w", err)
	}
	defer f.Close()
	return Unpack(f, path, snap.File)
}

// Size is that of all snapshots, in bytes.
func (s *Store) Size() (int64, error) { return s.blobs.Size() }
