package agent

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/snapdb/snapdb/agent/desktop"
	"github.com/snapdb/snapdb/subjects"
)

// Wallpaper is the desktop of a node's user.
type Wallpaper interface {
	// Set shows an image, and says what the desktop says of itself then.
	Set(ctx context.Context, image string) (desktop.Result, error)
	// Restore brings back what was there before the first Set.
	Restore(ctx context.Context) (desktop.Result, error)
}

// doWallpaper shows an image on the desktop of this node.
func (s *Slave) doWallpaper(ctx context.Context, t *doing) (any, error) {
	a := args[subjects.WallpaperArgs](t)
	if s.o.Wallpaper == nil {
		return nil, desktop.ErrNoDesktop
	}
	if a.Restore {
		return s.o.Wallpaper.Restore(ctx)
	}
	if a.Size > desktop.MaxImageBytes {
		return nil, fmt.Errorf("the image has %d bytes, at most %d are taken", a.Size, desktop.MaxImageBytes)
	}
	image, err := s.pullImage(ctx, t, subjects.BlobRef{Digest: a.Digest, Size: a.Size})
	if err != nil {
		return nil, err
	}
	return s.o.Wallpaper.Set(ctx, image)
}

// pullImage gets an image from the master and gives its path. It stays where it is:
// the desktop reads it again at the next login.
func (s *Slave) pullImage(ctx context.Context, t *doing, ref subjects.BlobRef) (path string, err error) {
	dir := filepath.Join(s.o.Dir, "wallpaper")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("keep the image: %w", err)
	}
	f, err := os.CreateTemp(dir, "*.part")
	if err != nil {
		return "", fmt.Errorf("keep the image: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	blob := &blobReader{ctx: ctx, get: s.getChunk, early: &s.online, ref: ref, hash: sha256.New(), seen: func() {}}
	blob.seen = func() { s.tasks.progress(t.id, "getting the image", blob.at, ref.Size) }
	_, err = io.Copy(f, blob)
	format := ""
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err == nil {
		format, _, _, err = desktop.CheckImage(f)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", fmt.Errorf("get the image: %w", err)
	}
	path = filepath.Join(dir, ref.Digest+"."+format)
	if err := os.Rename(f.Name(), path); err != nil {
		return "", fmt.Errorf("keep the image: %w", err)
	}
	return path, nil
}
