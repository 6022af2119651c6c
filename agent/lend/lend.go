// Package lend hands out copies of databases: a consistent one is made on the disk of
// the node, the borrower fetches it piece by piece, in whatever order and as often as
// it must, and gives it back. What nobody asks for any more is taken back, so that a
// borrower that died costs its room for a short while only.
//
// It knows databases and bytes, nothing of how requests come.
package lend

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/snapdb/snapdb/agent/snapshot"
	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

const (
	// most is how many copies may be lent at a time.
	most = 2
	// Patience is how long a borrower may ask for nothing before its copy is removed.
	Patience = 30 * time.Second
)

// Shelf is a folder of copies that are lent. It is gone when the node stops.
type Shelf struct {
	dir      string
	room     func(bytes int64) error // whether so much may be written
	patience time.Duration

	life   context.Context
	end    context.CancelFunc
	making sync.WaitGroup

	mu    sync.Mutex // guards all below
	lent  map[string]*loan
	count int // of loans so far, for the names of files
}

// loan is one copy. Its fields are guarded by the shelf's lock, but those that are set
// once before it is known.
type loan struct {
	path   string
	away   *time.Timer
	cancel context.CancelFunc

	state subjects.CopyResponse
	err   error // why there is none
	ended bool  // given back
}

// Open makes an empty shelf. room says whether so many bytes may be written now. A copy
// is removed once nobody has asked for it for the patience given.
func Open(dir string, room func(bytes int64) error, patience time.Duration) (*Shelf, error) {
	if err := os.RemoveAll(dir); err != nil { // of an earlier life
		return nil, fmt.Errorf("remove copies that were lent: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make folder of copies: %w", err)
	}
	s := &Shelf{dir: dir, room: room, patience: patience, lent: map[string]*loan{}}
	s.life, s.end = context.WithCancel(context.Background())
	return s, nil
}

// Close takes all copies back.
func (s *Shelf) Close() error {
	s.end()
	s.making.Wait()
	return os.RemoveAll(s.dir)
}

// Known says whether a loan has begun and not ended.
func (s *Shelf) Known(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lent[id] != nil
}

// Lend begins to make a copy of a database.
func (s *Shelf) Lend(id string, d *exec.Database, doubt string) error {
	size, err := d.Size()
	if err == nil {
		err = s.room(size)
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case id == "":
		return subjects.Errorf(subjects.CodeBadRequest, `a copy needs an "id"`)
	case s.lent[id] != nil:
		return nil
	case s.life.Err() != nil:
		return subjects.Errorf(subjects.CodeUnavailable, "the node is stopping")
	case len(s.lent) >= most:
		return subjects.Errorf(subjects.CodeBusy, "the node lends %d copies already: try again when one is given back", most)
	}
	s.count++
	ctx, cancel := context.WithCancel(s.life)
	l := &loan{path: filepath.Join(s.dir, strconv.Itoa(s.count)), cancel: cancel,
		state: subjects.CopyResponse{DB: d.Name(), Doubt: doubt}, away: time.AfterFunc(s.patience, func() { s.Return(id) })}
	s.lent[id] = l
	s.making.Go(func() {
		head, size, digest, err := makeCopy(ctx, d, l.path)
		s.mu.Lock()
		defer s.mu.Unlock()
		l.state.Ready, l.state.Head, l.state.Size, l.state.Digest, l.err = err == nil, head, size, digest, err
		if l.ended || err != nil {
			os.Remove(l.path) // with the folder at the latest
		}
	})
	return nil
}

// makeCopy copies a database and reads the copy for its digest.
func makeCopy(ctx context.Context, d *exec.Database, path string) (head subjects.Head, size int64, digest string, err error) {
	at, err := d.Copy(ctx, path)
	if err != nil {
		return head, 0, "", err
	}
	f, err := os.Open(path)
	if err != nil {
		return head, 0, "", err
	}
	defer f.Close()
	hash := sha256.New()
	if size, err = io.Copy(hash, snapshot.Reader(ctx, f)); err != nil {
		return head, 0, "", fmt.Errorf("read the copy: %w", err)
	}
	head = subjects.Head{Incarnation: d.Incarnation(), Position: at.Number, Chain: at.Chain.String()}
	return head, size, hex.EncodeToString(hash.Sum(nil)), nil
}

// State says how far a copy is, and that somebody wants it still.
func (s *Shelf) State(id string) (*subjects.CopyResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := s.find(id)
	if err != nil {
		return nil, err
	}
	state := l.state
	return &state, l.err
}

// ReadAt reads a part of a copy; nothing at its end.
func (s *Shelf) ReadAt(id string, offset int64) ([]byte, error) {
	s.mu.Lock()
	l, err := s.find(id)
	if err == nil && !l.state.Ready {
		err = errors.Join(l.err, subjects.Errorf(subjects.CodeBadRequest, "the copy is not ready"))
	}
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if offset < 0 {
		return nil, subjects.Errorf(subjects.CodeBadRequest, "offset %d is negative", offset)
	}
	f, err := os.Open(l.path)
	if err != nil {
		return nil, fmt.Errorf("open the copy: %w", err)
	}
	defer f.Close()
	buf := make([]byte, subjects.BlobChunk)
	n, err := f.ReadAt(buf, offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read the copy: %w", err)
	}
	return buf[:n], nil
}

// find is the loan of an id, asked for just now. s.mu is held.
func (s *Shelf) find(id string) (*loan, error) {
	l := s.lent[id]
	if l == nil {
		return nil, subjects.Errorf(subjects.CodeNotFound, "the node lends no copy %.80q: it was given back, not asked for in %v, or the node was started again", id, s.patience)
	}
	l.away.Reset(s.patience)
	return l, nil
}

// Return takes a copy back. One that is not lent is no error.
func (s *Shelf) Return(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lent[id]
	if l == nil {
		return
	}
	delete(s.lent, id)
	l.away.Stop()
	l.cancel()
	l.ended = true
	os.Remove(l.path) // one that is being made is removed when it is done
}
