package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

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
		r, err := s.o.Wallpaper.Restore(ctx)
		if err == nil {
			s.sweepImages("", r)
		}
		return r, err
	}
	if a.Size > desktop.MaxImageBytes {
		return nil, fmt.Errorf("the image has %d bytes, at most %d are taken", a.Size, desktop.MaxImageBytes)
	}
	image, err := s.pullImage(ctx, t, subjects.BlobRef{Digest: a.Digest, Size: a.Size})
	if err != nil {
		return nil, err
	}
	r, err := s.o.Wallpaper.Set(ctx, image)
	if err == nil {
		s.sweepImages(image, r)
	}
	return r, err
}

// imageDir is where the images lie that were set.
func (s *Slave) imageDir() string { return filepath.Join(s.o.Dir, "wallpaper") }

// isImage says whether a file of that folder is an image that was set: named by its
// digest and format.
func isImage(name string) bool {
	digest, format, _ := strings.Cut(name, ".")
	raw, err := hex.DecodeString(digest)
	return err == nil && len(raw) == sha256.Size && format != ""
}

// sweepImages removes the images that nothing shows any more: neither the one just
// set, nor one that the desktop names, nor one that is to be brought back, which the
// desktop notes in the same folder.
func (s *Slave) sweepImages(current string, shown desktop.Result) {
	files, err := os.ReadDir(s.imageDir())
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			s.log.Warn("cannot look for old wallpapers", "error", err)
		}
		return
	}
	needed := filepath.Base(current) + fmt.Sprint(shown.Values)
	var images []string
	for _, f := range files {
		path := filepath.Join(s.imageDir(), f.Name())
		switch {
		case isImage(f.Name()):
			images = append(images, path)
		case filepath.Ext(f.Name()) == ".json":
			note, err := os.ReadFile(path)
			if err != nil {
				s.log.Warn("cannot read what wallpaper was there before", "error", err)
				return
			}
			needed += string(note)
		}
	}
	for _, image := range images {
		if strings.Contains(needed, filepath.Base(image)) {
			continue
		}
		if err := os.Remove(image); err != nil {
			s.log.Warn("cannot remove an old wallpaper", "error", err)
		}
	}
}

// dropParts removes the images that were on their way when the node ended.
func (s *Slave) dropParts() error {
	parts, err := filepath.Glob(filepath.Join(s.imageDir(), "*"+partOfImage))
	if err != nil {
		return fmt.Errorf("list unfinished wallpapers: %w", err)
	}
	for _, part := range parts {
		if err := os.Remove(part); err != nil {
			return fmt.Errorf("remove an unfinished wallpaper: %w", err)
		}
	}
	return nil
}

// partOfImage ends the names of images that are on their way.
const partOfImage = ".part"

// pullImage gets an image from the master and gives its path. It stays where it is:
// the desktop reads it again at the next login.
func (s *Slave) pullImage(ctx context.Context, t *doing, ref subjects.BlobRef) (path string, err error) {
	dir := s.imageDir()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("keep the image: %w", err)
	}
	f, err := os.CreateTemp(dir, "*"+partOfImage)
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
