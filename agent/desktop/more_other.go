//go:build !windows && !darwin

package desktop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// xfce has a property for every monitor and workspace.
type xfce struct{ env environment }

func (x xfce) name() string { return "xfconf-query" }

func (x xfce) query(ctx context.Context, args ...string) (string, error) {
	return run(ctx, x.env, "xfconf-query", append([]string{"-c", "xfce4-desktop"}, args...)...)
}

func (x xfce) read(ctx context.Context) (map[string]string, error) {
	list, err := x.query(ctx, "-l")
	if err != nil {
		return nil, err
	}
	values := map[string]string{}
	for _, property := range strings.Fields(list) {
		if !strings.HasSuffix(property, "/last-image") {
			continue
		}
		if values[property], err = x.query(ctx, "-p", property); err != nil {
			return nil, err
		}
	}
	if len(values) == 0 {
		return nil, errors.New("XFCE names no monitor that has a wallpaper")
	}
	return values, nil
}

func (x xfce) show(now map[string]string, image string) map[string]string { return all(now, image) }

func (x xfce) write(ctx context.Context, values map[string]string) error {
	for property, v := range values {
		if _, err := x.query(ctx, "-p", property, "-s", v); err != nil {
			return err
		}
	}
	return nil
}

// all gives every setting the same value.
func all(now map[string]string, image string) map[string]string {
	want := map[string]string{}
	for k := range now {
		want[k] = image
	}
	return want
}

// plasma is KDE. Its tool sets one image on all screens; what is set stands in a
// file, with a section for each screen.
type plasma struct{ env environment }

func (p plasma) name() string { return "plasma-apply-wallpaperimage" }

func (p plasma) read(context.Context) (map[string]string, error) {
	dir := p.env.get("XDG_CONFIG_HOME")
	if dir == "" {
		dir = filepath.Join(p.env.get("HOME"), ".config")
	}
	data, err := os.ReadFile(filepath.Join(dir, "plasma-org.kde.plasma.desktop-appletsrc"))
	if err != nil {
		return nil, err
	}
	values, section := map[string]string{}, ""
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			section = line
		}
		if v, ok := strings.CutPrefix(line, "Image="); ok && strings.Contains(section, "[Wallpaper][org.kde.image]") {
			values[section] = strings.TrimPrefix(v, "file://")
		}
	}
	if len(values) == 0 {
		values["image"] = "" // the one it came with, which is not written down
	}
	return values, nil
}

func (p plasma) show(now map[string]string, image string) map[string]string {
	if _, unset := now["image"]; unset {
		return map[string]string{}
	}
	return all(now, image)
}

func (p plasma) write(ctx context.Context, values map[string]string) error {
	different := map[string]bool{}
	for _, v := range values {
		different[v] = true
	}
	if len(different) != 1 || different[""] {
		return fmt.Errorf("KDE's tool sets one image on all screens, and here it would be %d", len(different))
	}
	for image := range different {
		if _, err := run(ctx, p.env, "plasma-apply-wallpaperimage", image); err != nil {
			return err
		}
	}
	return nil
}

// swaybg is a process that shows an image for as long as it runs.
type swaybg struct{ env environment }

// swayArguments is the one setting, arguments by line; "" when it does not run.
const swayArguments = "arguments"

func (s swaybg) name() string { return "swaybg" }

// running is the processes of this user that are swaybg, and the arguments of one.
func (s swaybg) running() (pids []int, arguments string) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			continue // ended meanwhile
		}
		if st, ok := info.Sys().(*syscall.Stat_t); !ok || int(st.Uid) != os.Getuid() {
			continue
		}
		data, _ := os.ReadFile(file)
		words := strings.Split(string(bytes.TrimRight(data, "\x00")), "\x00")
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err == nil && filepath.Base(words[0]) == "swaybg" {
			pids, arguments = append(pids, pid), strings.Join(words[1:], "\n")
		}
	}
	return pids, arguments
}

func (s swaybg) read(context.Context) (map[string]string, error) {
	_, arguments := s.running()
	return map[string]string{swayArguments: arguments}, nil
}

func (s swaybg) show(_ map[string]string, image string) map[string]string {
	return map[string]string{swayArguments: "-m\nfill\n-i\n" + image}
}

// write starts the new one before the old one ends, so that nothing flickers.
func (s swaybg) write(_ context.Context, values map[string]string) error {
	old, _ := s.running()
	if arguments := values[swayArguments]; arguments != "" {
		cmd := osexec.Command("swaybg", strings.Split(arguments, "\n")...)
		cmd.Env = s.env
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // it outlives this node
		if err := cmd.Start(); err != nil {
			return err
		}
		go func() { _ = cmd.Wait() }() // it ends when the next one is shown, or the session
	}
	for _, pid := range old {
		_ = syscall.Kill(pid, syscall.SIGTERM) // it may have ended
	}
	return nil
}
