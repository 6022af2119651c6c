package desktop

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"image"
	"image/color"
	"image/png"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// need ends a test whose programs are not installed, as a failure where they must be.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if !installed(p) {
			if os.Getenv("SNAPDB_REQUIRE_DESKTOP") == "1" {
				t.Fatalf("%s is not installed", p)
			}
			t.Skipf("%s is not installed, so no desktop is tried", p)
		}
	}
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

func TestGnomeShowsTheImageAndTheOldOneAgain(t *testing.T) {
	need(t, "gsettings")
	t.Setenv("GSETTINGS_BACKEND", "keyfile")
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	t.Setenv("XDG_CURRENT_DESKTOP", "ubuntu:GNOME")
	t.Setenv("DISPLAY", ":0")
	const schema = "org.gnome.desktop.background"
	get := func(key string) string {
		out, err := osexec.Command("gsettings", "get", schema, key).Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	if out, err := osexec.Command("gsettings", "set", schema, "picture-options", "none").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	keys := []string{"picture-uri", "picture-uri-dark", "picture-options"}
	before := map[string]string{}
	for _, k := range keys {
		before[k] = get(k)
	}
	dir := t.TempDir()
	s := Session{dir}
	if _, err := s.Restore(context.Background()); !errors.Is(err, errNothingKept) {
		t.Errorf("restored before anything was set: %v", err)
	}
	for _, name := range []string{"red it's.png", "blue.png"} {
		if _, err := s.Set(context.Background(), picture(t, dir, name, color.RGBA{255, 0, 0, 255})); err != nil {
			t.Fatal(err)
		}
		uri := "'file://" + dir + "/" + strings.NewReplacer(" ", "%20", "'", "%27").Replace(name) + "'"
		if get("picture-uri") != uri || get("picture-uri-dark") != uri || get("picture-options") != "'zoom'" {
			t.Errorf("gsettings has %s, %s, %s, want %s", get("picture-uri"), get("picture-uri-dark"), get("picture-options"), uri)
		}
	}
	if _, err := s.Restore(context.Background()); err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		if get(k) != before[k] {
			t.Errorf("%s is %s after restore, was %s", k, get(k), before[k])
		}
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

// pixel reads the middle of the root window out of what xwd prints.
func pixel(t *testing.T) [3]byte {
	t.Helper()
	d, err := osexec.Command("xwd", "-root", "-silent").Output()
	if err != nil || len(d) < 100 {
		t.Fatalf("xwd: %v, %d bytes", err, len(d))
	}
	field := func(i int) int { return int(binary.BigEndian.Uint32(d[4*i:])) }
	if field(11) != 32 || field(7) != 0 {
		t.Fatalf("%d bits a pixel, byte order %d", field(11), field(7))
	}
	at := field(0) + 12*field(19) + field(5)/2*field(12) + field(4)/2*4
	return [3]byte{d[at+2], d[at+1], d[at]}
}

func TestPlainXShowsTheImageAndTheOldOneAgain(t *testing.T) {
	need(t, "Xvfb", "feh", "xwd")
	x := osexec.Command("Xvfb", "-displayfd", "1", "-screen", "0", "320x240x24", "-nolisten", "tcp", "-noreset")
	out, err := x.StdoutPipe()
	if err == nil {
		err = x.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = x.Process.Signal(os.Interrupt); _ = x.Wait() })
	number, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("DISPLAY", ":"+strings.TrimSpace(number))
	t.Setenv("WAYLAND_DISPLAY", "")
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
	if _, err := s.Restore(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := pixel(t); got != [3]byte{} {
		t.Errorf("the screen shows %v after restore, was black", got)
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
