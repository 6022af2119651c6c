// Package files is the folder of a node that commands send files to and fetch
// files from. It never touches anything outside that folder, whatever the name
// and whatever links lie in it.
package files

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"github.com/snapdb/snapdb/subjects"
)

// ChunkSize is the most that is asked for, and held, at a time.
const ChunkSize = 512 << 10

var (
	// ErrDigest says that what arrived is not what was announced.
	ErrDigest = errors.New("the content does not match its SHA-256; send it again")
	// ErrBusy says that the same file is arriving already.
	ErrBusy = errors.New("this file is arriving already; wait for it")
)

// SpaceError refuses a file the disk has no room for.
type SpaceError struct {
	Need, Free, Reserve int64
}

// Error says how much is missing.
func (e *SpaceError) Error() string {
	return fmt.Sprintf("%d bytes are needed, but the disk has %d free and keeps %d in reserve; free some space",
		e.Need, e.Free, e.Reserve)
}

// Option changes how a folder is kept.
type Option func(*Folder)

// KeepFree refuses files that would leave less than reserve bytes of what free
// reports.
func KeepFree(reserve int64, free func() (int64, error)) Option {
	return func(f *Folder) { f.reserve, f.free = reserve, free }
}

// Folder is a node's folder of files.
type Folder struct {
	root    *os.Root
	reserve int64
	free    func() (int64, error)

	mu       sync.Mutex
	arriving map[string]bool
}

// Open opens the folder dir, and makes it when it is not there.
func Open(dir string, options ...Option) (*Folder, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the file folder: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open the file folder: %w", err)
	}
	f := &Folder{root: root, arriving: map[string]bool{}}
	for _, o := range options {
		o(f)
	}
	return f, nil
}

// Close lets go of the folder.
func (f *Folder) Close() error { return f.root.Close() }

// Next fills buf from offset on, and says how much it filled.
type Next func(ctx context.Context, offset int64, buf []byte) (int, error)

// Receive stores a file of that size and SHA-256 (hexadecimal). What an earlier
// call left behind is hashed again and kept, unless it is part of another file; the
// file has its name only once it is whole and on disk. Where the disk has no room
// for it nothing is left. progress may be nil.
func (f *Folder) Receive(ctx context.Context, name string, size int64, digest string, next Next, progress func(done int64)) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if size < 0 {
		return fmt.Errorf("receive %s: a size of %d bytes", name, size)
	}
	if !f.claim(name) {
		return fmt.Errorf("receive %s: %w", name, ErrBusy)
	}
	defer f.release(name)
	if err := f.receive(ctx, name, size, digest, next, progress); err != nil {
		return fmt.Errorf("receive %s: %w", name, err)
	}
	return nil
}

func (f *Folder) receive(ctx context.Context, name string, size int64, digest string, next Next, progress func(int64)) error {
	folder := path.Dir(name)
	if err := f.root.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	part := name + partial
	file, err := f.root.OpenFile(part, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	err = f.whole(ctx, file, size, digest, next, progress)
	if err == nil {
		err = file.Sync()
	}
	err = errors.Join(err, file.Close())
	var space *SpaceError
	if errors.As(err, &space) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, ErrDigest) {
		return errors.Join(err, f.root.Remove(part))
	}
	if err != nil {
		return err // the part stays, for the next try to go on from
	}
	if err := f.root.Rename(part, name); err != nil {
		return err
	}
	return f.syncFolders(folder)
}

// whole makes a file that of the digest. What was there may be part of another file
// of the name: then it is taken anew.
func (f *Folder) whole(ctx context.Context, file *os.File, size int64, digest string, next Next, progress func(int64)) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	for has := info.Size(); ; has = 0 {
		if has == 0 || has > size {
			if err := file.Truncate(0); err != nil {
				return err
			}
			has = 0
		}
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			return err
		}
		sum := sha256.New()
		if err := f.fill(ctx, file, sum, size, next, progress); err != nil {
			return err
		}
		if strings.EqualFold(hex.EncodeToString(sum.Sum(nil)), digest) {
			return nil
		}
		if has == 0 {
			return ErrDigest
		}
	}
}

// fill hashes what is there and takes the rest chunk by chunk.
func (f *Folder) fill(ctx context.Context, file *os.File, sum hash.Hash, size int64, next Next, progress func(int64)) error {
	buf := make([]byte, ChunkSize)
	done, err := io.CopyBuffer(sum, struct{ io.Reader }{file}, buf)
	if err != nil {
		return err
	}
	for done < size {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := f.room(size - done); err != nil { // others write meanwhile
			return err
		}
		n, err := next(ctx, done, buf[:min(ChunkSize, size-done)])
		if err != nil {
			return fmt.Errorf("read from byte %d: %w", done, err)
		}
		if n <= 0 {
			return fmt.Errorf("read from byte %d of %d: %w", done, size, io.ErrUnexpectedEOF)
		}
		if _, err := file.Write(buf[:n]); err != nil {
			return err
		}
		sum.Write(buf[:n])
		done += int64(n)
		if progress != nil {
			progress(done)
		}
	}
	return nil
}

func (f *Folder) room(need int64) error {
	if f.free == nil || need <= 0 {
		return nil
	}
	free, err := f.free()
	if err != nil {
		return fmt.Errorf("ask for the free space: %w", err)
	}
	if need > free-f.reserve {
		return &SpaceError{Need: need, Free: free, Reserve: f.reserve}
	}
	return nil
}

// syncFolders makes the new name, and the folders it lies in, outlive a power cut.
func (f *Folder) syncFolders(folder string) error {
	if runtime.GOOS == "windows" {
		return nil // folders cannot be flushed there
	}
	for {
		d, err := f.root.Open(folder)
		if err != nil {
			return err
		}
		if err := errors.Join(d.Sync(), d.Close()); err != nil {
			return err
		}
		if folder == "." {
			return nil
		}
		folder = path.Dir(folder)
	}
}

func (f *Folder) claim(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.arriving[name] {
		return false
	}
	f.arriving[name] = true
	return true
}

func (f *Folder) release(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.arriving, name)
}

// Content is a file being read, from its start or anywhere.
type Content interface {
	io.ReadCloser
	io.ReaderAt
}

// Read opens a file. The caller closes it.
func (f *Folder) Read(name string) (Content, subjects.FileInfo, error) {
	if err := CheckName(name); err != nil {
		return nil, subjects.FileInfo{}, err
	}
	// Looked at first: opening a named pipe would wait for a writer.
	info, err := f.root.Stat(name)
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("not a file")
	}
	var file *os.File
	if err == nil {
		file, err = f.root.Open(name)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, subjects.FileInfo{}, &missingError{name}
	case err != nil:
		return nil, subjects.FileInfo{}, fmt.Errorf("read %s: %w", name, err)
	}
	return file, describe(name, info), nil
}

// missingError says that a file is not there, in the words of whoever asked for it. It
// wraps [fs.ErrNotExist].
type missingError struct{ name string }

func (e *missingError) Error() string {
	return fmt.Sprintf("there is no file %s in the node's folder", e.name)
}

func (e *missingError) Unwrap() error { return fs.ErrNotExist }

// Digest is the SHA-256 of a file in hexadecimal.
func (f *Folder) Digest(ctx context.Context, name string) (string, error) {
	file, _, err := f.Read(name)
	if err != nil {
		return "", err
	}
	defer file.Close()
	sum, buf := sha256.New(), make([]byte, ChunkSize)
	for {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		n, err := file.Read(buf)
		sum.Write(buf[:n])
		if err == io.EOF {
			return hex.EncodeToString(sum.Sum(nil)), nil
		}
		if err != nil {
			return "", fmt.Errorf("hash %s: %w", name, err)
		}
	}
}

// List names every whole file of the folder in order, without digests.
func (f *Folder) List(ctx context.Context) ([]subjects.FileInfo, error) {
	list := []subjects.FileInfo{}
	err := fs.WalkDir(f.root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err = errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		if !d.Type().IsRegular() || CheckName(name) != nil {
			return nil
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed meanwhile
		}
		if err != nil {
			return err
		}
		list = append(list, describe(name, info))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the file folder: %w", err)
	}
	return list, nil
}

// Remove takes a file out of the folder.
func (f *Folder) Remove(name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if err := f.root.Remove(name); err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return f.syncFolders(path.Dir(name))
}

func describe(name string, info fs.FileInfo) subjects.FileInfo {
	return subjects.FileInfo{Name: name, Size: info.Size(), Modified: info.ModTime().UTC()}
}
