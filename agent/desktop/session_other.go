//go:build !windows && !darwin

package desktop

import (
	"context"
	"iter"
	"os"
	osexec "os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// environment is one of a session.
type environment []string

func (e environment) get(key string) string {
	for _, kv := range slices.Backward(e) {
		if v, ok := strings.CutPrefix(kv, key+"="); ok {
			return v
		}
	}
	return ""
}

// graphical says whether programs of this environment reach a screen.
func (e environment) graphical() bool {
	return e.get("DISPLAY") != "" || e.get("WAYLAND_DISPLAY") != ""
}

// find finds the kind of desktop.
func find(_ context.Context, dir string) (backend, error) {
	env := environment(os.Environ())
	if !env.graphical() {
		env = session("/proc")
	}
	return choose(env, dir)
}

// process is one of this user's that runs now.
type process struct {
	pid int
	// dir is its working folder, words its name and arguments.
	dir   string
	words []string
	env   environment
}

// processes are those of this user, as proc (like /proc) tells. What a process keeps
// to itself is empty, and so is everything of one that ends meanwhile.
func processes(proc string) iter.Seq[process] {
	return func(yield func(process) bool) {
		dirs, _ := filepath.Glob(filepath.Join(proc, "[0-9]*"))
		for _, dir := range dirs {
			info, err := os.Stat(dir)
			if err != nil {
				continue // ended meanwhile
			}
			pid, err := strconv.Atoi(filepath.Base(dir))
			if st, ok := info.Sys().(*syscall.Stat_t); !ok || int(st.Uid) != os.Getuid() || err != nil {
				continue
			}
			cwd, _ := os.Readlink(filepath.Join(dir, "cwd"))
			if !yield(process{pid, cwd, words(filepath.Join(dir, "cmdline")), words(filepath.Join(dir, "environ"))}) {
				return
			}
		}
	}
}

// words reads a file of texts that each end with a zero byte.
func words(file string) []string {
	data, err := os.ReadFile(file)
	if err != nil || len(data) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(data), "\x00"), "\x00")
}

// session is the environment of a process of this user that has a screen; a node
// that runs as a service was not given one. One that names its desktop is best.
func session(proc string) (best environment) {
	for p := range processes(proc) {
		switch {
		case !p.env.graphical():
		case p.env.get("XDG_CURRENT_DESKTOP") != "":
			return p.env
		case best == nil:
			best = p.env
		}
	}
	return best
}

// choose picks the backend for a session.
func choose(env environment, dir string) (backend, error) {
	if !env.graphical() {
		return nil, ErrNoDesktop
	}
	for _, name := range strings.Split(strings.ToLower(env.get("XDG_CURRENT_DESKTOP")), ":") {
		switch name {
		case "gnome", "ubuntu", "unity", "budgie", "pantheon":
			return gnome(env), nil
		case "x-cinnamon", "cinnamon":
			return cinnamon(env), nil
		case "mate":
			return mate(env), nil
		case "xfce":
			return xfce{env}, nil
		case "kde":
			return plasma{env}, nil
		}
	}
	if env.get("WAYLAND_DISPLAY") != "" && installed("swaybg") {
		return swaybg{env, dir}, nil
	}
	if env.get("DISPLAY") != "" && env.get("WAYLAND_DISPLAY") == "" && installed("feh") {
		return feh{env, dir}, nil
	}
	return nil, ErrNoDesktop
}

func installed(program string) bool {
	_, err := osexec.LookPath(program)
	return err == nil
}
