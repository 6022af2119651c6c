package desktop

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	osexec "os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// need ends a test whose programs are not installed, as a failure where they must be.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if !installed(p) {
			lacks(t, p)
		}
	}
}

func lacks(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("SNAPDB_REQUIRE_DESKTOP") == "1" {
		t.Fatalf("%s is not installed", what)
	}
	t.Skipf("%s is not installed, so this desktop is not tried", what)
}

func picture(t *testing.T, dir, name string, c color.RGBA) string {
	t.Helper()
	m := image.NewRGBA(image.Rect(0, 0, 64, 48))
	for i := range 64 * 48 {
		m.SetRGBA(i%64, i/64, c)
	}
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestGnomeAndRelativesShowTheImageAndTheOldOneAgain(t *testing.T) {
	need(t, "gsettings")
	const uri, path = "'file://%s/red%%20it%%27s.png'", `"%s/red it's.png"`
	for name, c := range map[string]struct {
		schema string
		before map[string]string // what is set before, of which no image would be seen
		shown  map[string]string // %s is the folder of the image
	}{
		"ubuntu:GNOME": {"org.gnome.desktop.background",
			map[string]string{"picture-options": "'none'", "picture-uri": "'file:///old%20one.jpg'"},
			map[string]string{"picture-options": "'zoom'", "picture-uri": uri, "picture-uri-dark": uri}},
		"X-Cinnamon": {"org.cinnamon.desktop.background",
			map[string]string{"picture-options": "'centered'", "slideshow slideshow-enabled": "true"},
			map[string]string{"picture-options": "'zoom'", "picture-uri": uri, "slideshow slideshow-enabled": "false"}},
		"MATE": {"org.mate.background",
			map[string]string{"draw-background": "false", "picture-filename": `"/it's \\ \"old\".png"`},
			map[string]string{"draw-background": "true", "picture-filename": path, "picture-options": "'zoom'"}},
	} {
		t.Run(name, func(t *testing.T) {
			if !slices.Contains(strings.Fields(tool(t, "gsettings", "list-schemas")), c.schema) {
				lacks(t, "the schema "+c.schema)
			}
			t.Setenv("GSETTINGS_BACKEND", "keyfile")
			t.Setenv("XDG_CONFIG_HOME", t.TempDir())
			t.Setenv("XDG_CURRENT_DESKTOP", name)
			t.Setenv("DISPLAY", ":0")
			key := func(k string) []string { // the schema may have a second part
				return strings.Fields(strings.Replace(c.schema+" "+k, " slideshow ", ".slideshow ", 1))
			}
			get := func(k string) string { return tool(t, "gsettings", append([]string{"get"}, key(k)...)...) }
			for k, v := range c.before {
				tool(t, "gsettings", append(append([]string{"set"}, key(k)...), v)...)
			}
			before := map[string]string{}
			for k := range c.shown {
				before[k] = get(k)
			}
			dir, kept := t.TempDir(), filepath.Join(t.TempDir(), "kept")
			if _, err := (Session{kept}).Restore(context.Background()); !errors.Is(err, errNothingKept) {
				t.Errorf("restored before anything was set: %v", err)
			}
			for _, name := range []string{"blue.png", "red it's.png"} { // each from what a new node finds
				if _, err := (Session{kept}).Set(context.Background(), picture(t, dir, name, color.RGBA{255, 0, 0, 255})); err != nil {
					t.Fatal(err)
				}
			}
			for k, v := range c.shown {
				if want := strings.Replace(v, "%s", dir, 1); get(k) != strings.ReplaceAll(want, "%%", "%") {
					t.Errorf("%s is %s, want %s", k, get(k), want)
				}
			}
			if _, err := (Session{kept}).Restore(context.Background()); err != nil {
				t.Fatal(err)
			}
			for k := range before {
				if get(k) != before[k] {
					t.Errorf("%s is %s after restore, was %s", k, get(k), before[k])
				}
			}
		})
	}
}

func TestASettingThatDoesNotStayIsAnError(t *testing.T) {
	need(t, "gsettings")
	t.Setenv("GSETTINGS_BACKEND", "memory") // which forgets when the program ends
	t.Setenv("XDG_CURRENT_DESKTOP", "GNOME")
	t.Setenv("DISPLAY", ":0")
	dir := t.TempDir()
	if _, err := (Session{dir}).Set(context.Background(), picture(t, dir, "a.png", color.RGBA{1, 2, 3, 255})); err == nil || !strings.Contains(err.Error(), "did not take") {
		t.Errorf("set: %v", err)
	}
}

// pixel is the middle of the screen.
func pixel(t *testing.T) [3]byte {
	t.Helper()
	c, err := readPixel()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// readPixel reads it out of what xwd prints. It fails when a window comes or goes
// just then, as while a desktop starts.
func readPixel() (c [3]byte, err error) {
	d, err := osexec.Command("xwd", "-root", "-silent").Output()
	if err != nil {
		return c, err
	}
	field := func(i int) int { return int(binary.BigEndian.Uint32(d[4*i:])) }
	if field(11) != 32 || field(7) != 0 {
		return c, fmt.Errorf("%d bits a pixel, byte order %d", field(11), field(7))
	}
	at := field(0) + 12*field(19) + field(5)/2*field(12) + field(4)/2*4
	return [3]byte{d[at+2], d[at+1], d[at]}, nil
}

// untilPixel waits until the middle of the screen is as it should be.
func untilPixel(t *testing.T, what string, right func([3]byte) bool) {
	t.Helper()
	until(t, what, func() bool {
		c, err := readPixel()
		return err == nil && right(c)
	})
}

// startX starts an X server without a screen, for this test alone.
func startX(t *testing.T) {
	t.Helper()
	number := start(t, osexec.Command("Xvfb", "-displayfd", "1", "-screen", "0", "320x240x24", "-nolisten", "tcp", "-noreset"))
	t.Setenv("DISPLAY", ":"+number)
	t.Setenv("WAYLAND_DISPLAY", "")
}

// start starts a program for the time of the test, and gives the first line that it says.
func start(t *testing.T, cmd *osexec.Cmd) string {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Signal(syscall.SIGTERM); _ = cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("%s: %v", cmd.Path, err)
	}
	return strings.TrimSpace(line)
}

// until waits until something holds.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for late := time.After(20 * time.Second); !holds(); {
		select {
		case <-late:
			t.Fatalf("not within 20 s: %s", what)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// tool runs a program and gives what it prints.
func tool(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := osexec.Command(program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", program, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestPlainXShowsTheImageAndTheOldOneAgain(t *testing.T) {
	need(t, "Xvfb", "feh", "xwd", "xprop")
	startX(t)
	t.Setenv("XDG_CURRENT_DESKTOP", "")
	t.Setenv("HOME", t.TempDir())
	dir := t.TempDir()
	s := Session{dir}
	for name, c := range map[string]color.RGBA{"it's red.png": {200, 10, 20, 255}, "blue.png": {10, 20, 200, 255}} {
		r, err := s.Set(context.Background(), picture(t, dir, name, c))
		if err != nil {
			t.Fatal(err)
		}
		if got := pixel(t); r.Backend != "feh" || got != [3]byte{c.R, c.G, c.B} {
			t.Errorf("%s by %s: the screen shows %v", name, r.Backend, got)
		}
	}
	idle, path := t.TempDir(), os.Getenv("PATH")
	if err := os.WriteFile(filepath.Join(idle, "feh"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", idle+":"+path)
	if _, err := s.Set(context.Background(), filepath.Join(dir, "blue.png")); err == nil || !strings.Contains(err.Error(), "old background") {
		t.Errorf("by a program that shows nothing: %v", err)
	}
	t.Setenv("PATH", path)
	s = Session{s.Dir} // as a node that has just started
	if _, err := s.Restore(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := pixel(t); got != [3]byte{} {
		t.Errorf("the screen shows %v after restore, was black", got)
	}

	// What the user has shown with feh comes back as it was.
	green := picture(t, dir, "green.png", color.RGBA{10, 200, 20, 255})
	tool(t, "feh", "--bg-center", "--image-bg", "#102030", green)
	script, screen := tool(t, "cat", os.Getenv("HOME")+"/.fehbg"), pixel(t)
	for _, name := range []string{"blue.png", "it's red.png"} {
		if _, err := (Session{s.Dir}).Set(context.Background(), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := (Session{s.Dir}).Restore(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := tool(t, "cat", os.Getenv("HOME")+"/.fehbg"); got != script || pixel(t) != screen {
		t.Errorf("after restore there is %v by %q, there was %v by %q", pixel(t), got, screen, script)
	}
}

func TestWithoutASessionThereIsNoDesktop(t *testing.T) {
	if _, err := choose(session(t.TempDir()), ""); !errors.Is(err, ErrNoDesktop) || err.Error() != "this node has no desktop session" {
		t.Errorf("found: %v", err)
	}
}

func TestAServiceFindsTheSessionOfItsUser(t *testing.T) {
	proc := t.TempDir()
	for pid, env := range map[string]string{"1": "HOME=/\x00", "20": "DISPLAY=:7\x00", "30": "DISPLAY=:7\x00XDG_CURRENT_DESKTOP=XFCE\x00"} {
		if err := os.Mkdir(filepath.Join(proc, pid), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(proc, pid, "environ"), []byte(env), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := choose(session(proc), ""); err != nil || b.name() != "xfconf-query" {
		t.Errorf("found %v, %v", b, err)
	}
}

func TestImagesAreToldByTheirContent(t *testing.T) {
	file, err := os.ReadFile(picture(t, t.TempDir(), "x.txt", color.RGBA{}))
	if err != nil {
		t.Fatal(err)
	}
	if f, w, h, err := CheckImage(bytes.NewReader(file)); f != "png" || w != 64 || h != 48 || err != nil {
		t.Errorf("%s %d×%d, %v", f, w, h, err)
	}
	for what, data := range map[string][]byte{"text": []byte("no image"), "nothing": nil, "half a head": file[:20]} {
		if _, _, _, err := CheckImage(bytes.NewReader(data)); err == nil {
			t.Errorf("%s was taken as an image", what)
		}
	}
}
