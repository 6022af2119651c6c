//go:build !windows && !darwin

package desktop

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	osexec "os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// swaybg is Wayland without a desktop of its own. An image is shown by a process for
// as long as that runs, or by several, for a screen each. What is read back is that
// these run with this image and nothing else does; swaybg tells nobody what it has
// drawn, so that it complains of the image is all that can be heard.
type swaybg struct {
	env environment
	dir string
}

// shownBy is the one setting: the processes in JSON, as folder and arguments.
const shownBy = "swaybg"

// complains is how long a new process is listened to.
const complains = 500 * time.Millisecond

// painter is one process.
type painter struct {
	Dir  string   `json:"dir"`
	Args []string `json:"args"`
}

func (s swaybg) name() string { return "swaybg" }

// running is the processes that paint on this session's screens.
func (s swaybg) running() (all []process) {
	for p := range processes("/proc") {
		if len(p.words) > 0 && filepath.Base(p.words[0]) == "swaybg" &&
			p.env.get("WAYLAND_DISPLAY") == s.env.get("WAYLAND_DISPLAY") && p.env.get("XDG_RUNTIME_DIR") == s.env.get("XDG_RUNTIME_DIR") {
			all = append(all, p)
		}
	}
	return all
}

func (s swaybg) read(context.Context) (map[string]string, error) {
	painters := []string{}
	for _, p := range s.running() {
		text, err := json.Marshal(painter{p.dir, p.words[1:]})
		if err != nil {
			return nil, err
		}
		painters = append(painters, string(text))
	}
	slices.Sort(painters)
	return map[string]string{shownBy: "[" + strings.Join(painters, ",") + "]"}, nil
}

func (s swaybg) show(_ map[string]string, image string) map[string]string {
	text, _ := json.Marshal([]painter{{"/", []string{"-m", "fill", "-i", image}}}) // texts only
	return map[string]string{shownBy: string(text)}
}

// write starts the new ones before the old ones end, so that nothing flickers, and
// so that the old ones stay when the new ones fail.
func (s swaybg) write(ctx context.Context, values map[string]string) error {
	var painters []painter
	if err := json.Unmarshal([]byte(values[shownBy]), &painters); err != nil {
		return fmt.Errorf("processes to show: %w", err)
	}
	before := s.running()
	err := s.start(ctx, painters)
	for _, p := range s.running() {
		isOld := slices.ContainsFunc(before, func(old process) bool { return old.pid == p.pid })
		if isOld == (err == nil) {
			_ = syscall.Kill(p.pid, syscall.SIGTERM) // it may have ended
		}
	}
	return err
}

// start starts processes that outlive this node, and listens whether they complain.
func (s swaybg) start(ctx context.Context, painters []painter) error {
	if len(painters) == 0 {
		return nil
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	log, err := os.CreateTemp(s.dir, "swaybg-*.log")
	if err != nil {
		return err
	}
	defer log.Close()
	defer os.Remove(log.Name()) // they go on writing to what has no name any more
	for _, p := range painters {
		const inBackground = `"$@" >/dev/null & ` // of a shell that ends: no child of this node
		cmd := osexec.CommandContext(ctx, "sh", append([]string{"-c", inBackground, "sh", "swaybg"}, p.Args...)...)
		cmd.Dir, cmd.Env, cmd.Stderr = p.Dir, s.env, log
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("start swaybg: %w", err)
		}
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(complains):
	}
	said, err := io.ReadAll(io.NewSectionReader(log, 0, 64<<10))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(said)) {
		if strings.Contains(line, "Failed to") || strings.Contains(line, "Unable to") {
			return errors.New(strings.TrimSpace(line))
		}
	}
	return nil
}
