package desktop

import (
	"bytes"
	"context"
	"fmt"
	"image/color"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// startSway starts a Wayland session with two screens that nobody sees.
func startSway(t *testing.T) {
	t.Helper()
	dir, err := os.MkdirTemp("", "sway") // short, as the names of sockets must be
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	config := filepath.Join(dir, "config")
	if err := os.WriteFile(config, []byte("exec echo $WAYLAND_DISPLAY >"+dir+"/ready\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	sway := osexec.Command("sway", "-c", config)
	if os.Getuid() == 0 { // sway does not run as root
		const nobody = 65534
		if err := os.Chown(dir, nobody, nobody); err != nil {
			t.Fatal(err)
		}
		sway.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	t.Setenv("XDG_RUNTIME_DIR", dir)
	t.Setenv("XDG_CURRENT_DESKTOP", "sway")
	t.Setenv("DISPLAY", "")
	t.Setenv("WAYLAND_DISPLAY", "")
	sway.Env = append(os.Environ(), "HOME="+dir, "WLR_BACKENDS=headless", "WLR_HEADLESS_OUTPUTS=2", "WLR_RENDERER=pixman", "WLR_LIBINPUT_NO_DEVICES=1")
	var said bytes.Buffer
	sway.Stdout, sway.Stderr = &said, &said
	if err := sway.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = sway.Process.Signal(syscall.SIGTERM)
		_ = sway.Wait()
		if t.Failed() {
			t.Logf("sway: %s", &said)
		}
	})
	until(t, "sway runs", func() bool {
		name, _ := os.ReadFile(filepath.Join(dir, "ready"))
		t.Setenv("WAYLAND_DISPLAY", strings.TrimSpace(string(name)))
		return len(name) > 0
	})
}

// screens are the colours in the middle of both screens.
func screens(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "both.ppm")
	tool(t, "grim", "-t", "ppm", file)
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var w, h, depth int
	if n, err := fmt.Sscanf(string(data), "P6\n%d %d\n%d\n", &w, &h, &depth); n != 3 {
		t.Fatalf("grim: %v", err)
	}
	row := data[len(data)-3*w*(h-h/2):]
	return fmt.Sprint(row[3*(w/4):][:3], row[3*(w-w/4):][:3])
}

func TestSwayShowsTheImageAndTheOldOnesAgain(t *testing.T) {
	need(t, "sway", "swaybg", "grim")
	startSway(t)
	dir, kept := t.TempDir(), t.TempDir()
	s := Session{kept}
	painters := func() (all []process) { return swaybg{env: os.Environ()}.running() }
	t.Cleanup(func() {
		for _, p := range painters() {
			_ = syscall.Kill(p.pid, syscall.SIGTERM)
		}
	})

	// What was there: a screen each, by an image whose path is not absolute, and a colour.
	picture(t, dir, "green.png", color.RGBA{10, 200, 20, 255})
	for _, args := range [][]string{{"-o", "HEADLESS-1", "-m", "fill", "-i", "green.png"}, {"-o", "HEADLESS-2", "-c", "#0a1420"}} {
		old := osexec.Command("swaybg", args...)
		old.Dir = dir
		if err := old.Start(); err != nil {
			t.Fatal(err)
		}
		go func() { _ = old.Wait() }() // it ends with the next image
	}
	const before = "[10 200 20] [10 20 32]"
	until(t, "the old ones are shown", func() bool { return screens(t) == before })

	for _, c := range []color.RGBA{{200, 10, 20, 255}, {10, 20, 200, 255}} {
		r, err := s.Set(context.Background(), picture(t, dir, fmt.Sprintf("it's %d.png", c.R), c))
		if err != nil || r.Backend != "swaybg" {
			t.Fatalf("set by %s: %v", r.Backend, err)
		}
		both := fmt.Sprintf("[%d %d %d] [%[1]d %[2]d %[3]d]", c.R, c.G, c.B)
		until(t, "both screens show "+both, func() bool { return screens(t) == both })
	}
	session, err := unix.Getsid(0)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range painters() {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid))
		_, after, _ := strings.Cut(string(stat), ") ")
		if f := strings.Fields(after); err != nil || f[1] == fmt.Sprint(os.Getpid()) || f[3] == fmt.Sprint(session) {
			t.Errorf("swaybg is of this process or its terminal, so it would end with it: %s, %v", stat, err)
		}
	}
	last := screens(t)
	broken := filepath.Join(dir, "broken.png")
	if err := os.WriteFile(broken, []byte("no image"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Set(context.Background(), broken); err == nil || !strings.Contains(err.Error(), "Failed to load") {
		t.Errorf("a broken image: %v", err)
	}
	if got := screens(t); got != last || len(painters()) != 1 {
		t.Errorf("after a broken image there is %s by %d processes, want still %s", got, len(painters()), last)
	}
	if _, err := s.Restore(context.Background()); err != nil {
		t.Fatal(err)
	}
	until(t, "the old ones are shown again", func() bool { return screens(t) == before })

	// Nothing at all comes back too.
	for _, p := range painters() {
		_ = syscall.Kill(p.pid, syscall.SIGTERM)
	}
	until(t, "nothing is shown", func() bool { return len(painters()) == 0 })
	if _, err := s.Set(context.Background(), filepath.Join(dir, "green.png")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Restore(context.Background()); err != nil || len(painters()) != 0 {
		t.Errorf("%d processes show something where there was nothing: %v", len(painters()), err)
	}
}
