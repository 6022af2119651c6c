// Package desktop sets the wallpaper of the desktop on which this user is logged in,
// reads back whether that is what is shown now, and brings the old one back.
package desktop

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/snapdb/snapdb/exec"
)

// ErrNoDesktop says that nobody is logged in on a desktop here, or on none that is known.
var ErrNoDesktop = errors.New("this node has no desktop session")

// errNothingKept: there is nothing to bring back.
var errNothingKept = errors.New("no wallpaper was set on this desktop, so there is none to bring back")

const (
	// settles is how long a desktop may take until it tells what it was told.
	settles = 3 * time.Second
	// toolPatience is how long a program of the desktop may take.
	toolPatience = 20 * time.Second
)

// Result is what a desktop says of itself after a change.
type Result struct {
	// Backend is what the wallpaper was set with.
	Backend string `json:"backend"`
	// Values are the settings as they were read back.
	Values map[string]string `json:"values"`
}

// backend is a kind of desktop. Its wallpaper is a few settings by name.
type backend interface {
	name() string
	read(ctx context.Context) (map[string]string, error)
	// show gives the settings that show an image, when these are the present ones.
	show(now map[string]string, image string) map[string]string
	write(ctx context.Context, values map[string]string) error
}

// Desktop is the desktop of this user's session.
type Desktop struct {
	dir  string
	with backend
}

// Find finds the desktop of this user's session. What it had as wallpaper before the
// first Set is kept in dir.
func Find(ctx context.Context, dir string) (*Desktop, error) {
	b, err := find(ctx, dir)
	if err != nil {
		return nil, err
	}
	return &Desktop{dir, b}, nil
}

// Set shows an image on all monitors.
func (d *Desktop) Set(ctx context.Context, image string) (Result, error) {
	image, err := filepath.Abs(image)
	if err != nil {
		return Result{}, fmt.Errorf("wallpaper: %w", err)
	}
	now, err := d.with.read(ctx)
	if err != nil {
		return Result{}, fmt.Errorf("read the wallpaper: %w", err)
	}
	if err := d.keep(now); err != nil {
		return Result{}, fmt.Errorf("keep the old wallpaper: %w", err)
	}
	return d.change(ctx, d.with.show(now, image))
}

// Restore brings back what was there before the first Set.
func (d *Desktop) Restore(ctx context.Context) (Result, error) {
	old, err := d.kept()
	if err != nil {
		return Result{}, err
	}
	r, err := d.change(ctx, old)
	if err != nil {
		return r, err
	}
	if err := os.Remove(d.file()); err != nil {
		return r, fmt.Errorf("forget the old wallpaper: %w", err)
	}
	return r, nil
}

// file is where the settings from before the first Set are, for each kind of desktop
// its own: a user may log in on one today and on another tomorrow.
func (d *Desktop) file() string {
	return filepath.Join(d.dir, "before "+d.with.name()+".json")
}

func (d *Desktop) kept() (old map[string]string, err error) {
	data, err := os.ReadFile(d.file())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNothingKept
	}
	if err == nil {
		err = json.Unmarshal(data, &old)
	}
	if err != nil {
		return nil, fmt.Errorf("read the old wallpaper from %s: %w", d.file(), err)
	}
	return old, nil
}

// keep remembers what is there now, unless what was there before is known already. A
// monitor that has come since is new.
func (d *Desktop) keep(now map[string]string) error {
	old, err := d.kept()
	if err != nil && !errors.Is(err, errNothingKept) {
		return err
	}
	all := maps.Clone(now)
	maps.Copy(all, old)
	if maps.Equal(all, old) {
		return nil
	}
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return err
	}
	data, err := json.Marshal(all)
	if err != nil {
		return err
	}
	return exec.WriteFile(d.file(), data)
}

// change writes settings and reads them back. Some desktops take a moment to say
// what they were told.
func (d *Desktop) change(ctx context.Context, want map[string]string) (Result, error) {
	r := Result{Backend: d.with.name()}
	if err := d.with.write(ctx, want); err != nil {
		return r, fmt.Errorf("set the wallpaper: %w", err)
	}
	for end := time.Now().Add(settles); ; {
		got, err := d.with.read(ctx)
		if err != nil {
			return r, fmt.Errorf("read the wallpaper back: %w", err)
		}
		r.Values = got
		wrong := differs(got, want)
		if wrong == "" {
			return r, nil
		}
		if time.Now().After(end) {
			return r, fmt.Errorf("the desktop did not take the wallpaper: %s", wrong)
		}
		select {
		case <-ctx.Done():
			return r, context.Cause(ctx)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// differs names a setting that is not as it should be.
func differs(got, want map[string]string) string {
	for k := range maps.Keys(want) {
		if got[k] != want[k] {
			return fmt.Sprintf("%s is %q, not %q", k, got[k], want[k])
		}
	}
	return ""
}

// run runs a program of the desktop and gives what it prints.
func run(ctx context.Context, env []string, program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, toolPatience)
	defer cancel()
	cmd := osexec.CommandContext(ctx, program, args...)
	var out, complaint bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = env, &out, &complaint, time.Second
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", program, err, strings.TrimSpace(complaint.String()))
	}
	return strings.TrimSpace(out.String()), nil
}

// Session is whatever desktop there is when something is to be changed, as users log
// in and out while a node runs.
type Session struct {
	// Dir is where the old wallpaper is remembered.
	Dir string
}

// Set shows an image on the desktop that there is now.
func (s Session) Set(ctx context.Context, image string) (Result, error) {
	d, err := Find(ctx, s.Dir)
	if err != nil {
		return Result{}, err
	}
	return d.Set(ctx, image)
}

// Restore brings back the old wallpaper of the desktop that there is now.
func (s Session) Restore(ctx context.Context) (Result, error) {
	d, err := Find(ctx, s.Dir)
	if err != nil {
		return Result{}, err
	}
	return d.Restore(ctx)
}
