package pki

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// maxFile is far more than a file with a key or certificates has, in bytes.
const maxFile = 1 << 20

// Rights that others must not have. Systems with modes of another kind have none.
const (
	anyOther  fs.FileMode = 0o077 // group included
	everybody fs.FileMode = 0o007
	changing  fs.FileMode = 0o022
)

// readFile reads a file that those of closed must have no rights on.
func readFile(path string, closed fs.FileMode) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: %w: not a file", path, ErrDamaged)
	}
	if err := checkMode(path, info, closed); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("%s: %w: more than %d bytes", path, ErrDamaged, maxFile)
	}
	return text, err
}

func checkMode(path string, info fs.FileInfo, closed fs.FileMode) error {
	if runtime.GOOS == "windows" || info.Mode()&closed == 0 {
		return nil
	}
	who := "go-rwx"
	switch closed {
	case everybody:
		who = "o-rwx"
	case changing:
		who = "go-w"
	}
	return fmt.Errorf("%s is %w (mode %04o): close it with chmod %s, and if somebody else may have read the key, take a new one",
		path, ErrExposed, info.Mode().Perm(), who)
}

// makeFolder makes the folder, or makes sure that nobody else can exchange its files.
func makeFolder(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make folder of certificates: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("look at folder of certificates: %w", err)
	}
	return checkMode(dir, info, changing)
}

// writeFile makes or replaces a file in one step that outlives a power cut.
func writeFile(path string, text []byte) error {
	part := path + ".tmp"
	if err := os.Remove(part); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(part, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(part))
	}
	return syncFolder(filepath.Dir(path))
}

func syncFolder(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // folders cannot be flushed there
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
