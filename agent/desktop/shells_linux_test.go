package desktop

import (
	"context"
	"image/color"
	osexec "os/exec"
	"strings"
	"testing"
)

// startShell starts an X server, a session bus and the program that draws the desktop.
func startShell(t *testing.T, name string, shell ...string) {
	t.Helper()
	startX(t)
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_CONFIG_HOME", home+"/.config")
	t.Setenv("XDG_CACHE_HOME", home+"/.cache")
	t.Setenv("XDG_DATA_HOME", home+"/.local")
	t.Setenv("XDG_RUNTIME_DIR", home)
	t.Setenv("XDG_CURRENT_DESKTOP", name)
	t.Setenv("QT_QUICK_BACKEND", "software")
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", start(t, osexec.Command("dbus-daemon", "--session", "--nofork", "--print-address=1")))
	cmd := osexec.Command(shell[0], shell[1:]...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
}

// showAndRestore sets two images, each from what a node finds that has just started,
// and brings back what was there; state tells all settings.
func showAndRestore(t *testing.T, backend string, state func() string) {
	t.Helper()
	before, screen, dir, kept := state(), pixel(t), t.TempDir(), t.TempDir()
	for name, c := range map[string]color.RGBA{"it's red.png": {200, 10, 20, 255}, "blue.png": {10, 20, 200, 255}} {
		r, err := (Session{kept}).Set(context.Background(), picture(t, dir, name, c))
		if err != nil || r.Backend != backend {
			t.Fatalf("%s by %s: %v", name, r.Backend, err)
		}
		untilPixel(t, name+" is on the screen", func(p [3]byte) bool { return p == [3]byte{c.R, c.G, c.B} })
	}
	if _, err := (Session{kept}).Restore(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := state(); got != before {
		t.Errorf("after restore there is\n%s\nthere was\n%s", got, before)
	}
	untilPixel(t, "the screen shows again what it did", func(p [3]byte) bool { return p == screen })
}

func TestXfceShowsTheImageAndTheOldOneAgain(t *testing.T) {
	need(t, "Xvfb", "xwd", "dbus-daemon", "xfdesktop", "xfconf-query")
	startShell(t, "XFCE", "xfdesktop", "--disable-wm-check")
	query := func(args ...string) string {
		return tool(t, "xfconf-query", append([]string{"-c", "xfce4-desktop"}, args...)...)
	}
	const first, second = "/backdrop/screen0/monitorscreen/workspace0/", "/backdrop/screen0/monitorHDMI-2/workspace1/"
	until(t, "XFCE names its monitor", func() bool {
		all := query("-l")
		return strings.Contains(all, first+"last-image") && strings.Contains(all, first+"image-style")
	})
	query("-p", first+"color-style", "-s", "0")
	query("-p", first+"image-style", "-s", "0") // none, so that the colour is seen
	query("-p", first+"backdrop-cycle-enable", "-n", "-t", "bool", "-s", "true")
	query("-p", second+"last-image", "-n", "-t", "string", "-s", "/old one.jpg")
	untilPixel(t, "the colour is seen", func(p [3]byte) bool { return p != [3]byte{} })
	showAndRestore(t, "xfconf-query", func() string { return query("-l", "-v") })
}
