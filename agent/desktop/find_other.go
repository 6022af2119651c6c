//go:build !windows && !darwin

package desktop

import (
	"bytes"
	"context"
	"os"
	osexec "os/exec"
	"path/filepath"
	"slices"
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

// session is the environment of a process of this user that has a screen; a node
// that runs as a service was not given one. One that names its desktop is best.
func session(proc string) (best environment) {
	files, _ := filepath.Glob(filepath.Join(proc, "[0-9]*", "environ"))
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			continue // ended meanwhile
		}
		if st, ok := info.Sys().(*syscall.Stat_t); !ok || int(st.Uid) != os.Getuid() {
			continue
		}
		data, err := os.ReadFile(file)
		if err != nil {
			continue // ended meanwhile, or not ours to read
		}
		env := environment(strings.Split(string(bytes.TrimRight(data, "\x00")), "\x00"))
		switch {
		case !env.graphical():
		case env.get("XDG_CURRENT_DESKTOP") != "":
			return env
		case best == nil:
			best = env
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
			return gsettings{env, "org.gnome.desktop.background", []string{"picture-uri", "picture-uri-dark"}}, nil
		case "x-cinnamon", "cinnamon":
			return gsettings{env, "org.cinnamon.desktop.background", []string{"picture-uri"}}, nil
		case "mate":
			return gsettings{env, "org.mate.background", []string{"picture-filename"}}, nil
		case "xfce":
			return xfce{env}, nil
		case "kde":
			return plasma{env}, nil
		}
	}
	if env.get("WAYLAND_DISPLAY") != "" && installed("swaybg") {
		return swaybg{env}, nil
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
