//go:build !windows && !darwin

package desktop

import (
	"bytes"
	"context"
	"errors"
	"image"
	"image/png"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/snapdb/snapdb/exec"
)

// feh is plain X. What feh shows it writes down as a script that shows it again. X
// names no file: what is read back is that feh took the image, that the root window
// has another background than before (where xprop is there to tell), and that the
// next login shows this image too. What another program than feh has shown before is
// not known, so black is brought back instead.
type feh struct {
	env environment
	dir string
}

// fehCommand is the one setting: the command in that script, "" without one.
const fehCommand = "command"

func (f feh) name() string { return "feh" }

func (f feh) script() string { return filepath.Join(f.env.get("HOME"), ".fehbg") }

func (f feh) read(context.Context) (map[string]string, error) {
	data, err := os.ReadFile(f.script())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	_, command, _ := strings.Cut(string(data), "\n")
	return map[string]string{fehCommand: strings.TrimSpace(command)}, nil
}

func (f feh) show(_ map[string]string, image string) map[string]string {
	return map[string]string{fehCommand: "feh --no-fehbg --bg-fill '" + strings.ReplaceAll(image, "'", `'\''`) + "'"}
}

func (f feh) write(ctx context.Context, values map[string]string) error {
	command := values[fehCommand]
	if command == "" {
		return f.blank(ctx)
	}
	if err := f.paint(ctx, "sh", "-c", command); err != nil {
		return err
	}
	if err := exec.WriteFile(f.script(), []byte("#!/bin/sh\n"+command+"\n")); err != nil {
		return err
	}
	return os.Chmod(f.script(), 0o755)
}

// paint runs what is to change the background, and sees whether it did.
func (f feh) paint(ctx context.Context, program string, args ...string) error {
	before, err := f.background(ctx)
	if err != nil {
		return err
	}
	if _, err := run(ctx, f.env, program, args...); err != nil {
		return err
	}
	after, err := f.background(ctx)
	if err == nil && after == before && installed("xprop") {
		err = errors.New("feh ended well, but the root window still has the old background")
	}
	return err
}

// background is the root window's pixmap, of which each paint makes a new one.
func (f feh) background(ctx context.Context) (string, error) {
	if !installed("xprop") {
		return "", nil
	}
	return run(ctx, f.env, "xprop", "-root", "_XROOTPMAP_ID")
}

// blank shows black, as a screen that nobody has set is.
func (f feh) blank(ctx context.Context) error {
	var black bytes.Buffer
	if err := png.Encode(&black, image.NewGray(image.Rect(0, 0, 1, 1))); err != nil {
		return err
	}
	file := filepath.Join(f.dir, "black.png")
	if err := exec.WriteFile(file, black.Bytes()); err != nil {
		return err
	}
	if err := f.paint(ctx, "feh", "--no-fehbg", "--bg-fill", file); err != nil {
		return err
	}
	if err := os.Remove(f.script()); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
