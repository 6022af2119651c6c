//go:build linux

package browser_test

import (
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
)

// gnome is the environment of a desktop of the test's own: settings in a file of a
// folder, which no session looks at.
func gnome(t *testing.T) []string {
	t.Helper()
	return []string{"GSETTINGS_BACKEND=keyfile", "XDG_CONFIG_HOME=" + t.TempDir(), "XDG_CURRENT_DESKTOP=GNOME", "DISPLAY=:0", "WAYLAND_DISPLAY="}
}

// shown is the file that a desktop has as its wallpaper.
func shown(t *testing.T, env []string) string {
	t.Helper()
	cmd := osexec.Command("gsettings", "get", "org.gnome.desktop.background", "picture-uri")
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("ask for the wallpaper: %v", err)
	}
	return strings.TrimPrefix(strings.Trim(strings.TrimSpace(string(out)), "'"), "file://")
}

func TestImageDroppedOnThePageIsTheWallpaperOfTwoNodes(t *testing.T) {
	t.Parallel()
	if _, err := osexec.LookPath("gsettings"); err != nil {
		if os.Getenv("SNAPDB_REQUIRE_DESKTOP") == "1" {
			t.Fatal("gsettings is not installed")
		}
		t.Skip("gsettings is not installed, so no wallpaper is set")
	}
	c := startCluster(t, 0)
	desktops := map[string][]string{"snap1": gnome(t), "snap2": gnome(t)}
	for id, env := range desktops {
		p := c.newSlave(id)
		p.Env = env
		p.Start()
	}
	file := filepath.Join(t.TempDir(), "lake.png")
	writeImage(t, file)
	b := newTab(t, false)
	awaitPanel(c, b)
	b.row("snap1", "online")
	b.row("snap2", "online")
	b.open(c.url + "/files?nodes=snap1,snap2")
	b.live()
	b.dropFile("#drop", file)
	b.sees("#words", "64 × 48")
	b.press("Set wallpaper of 2 nodes")
	await(t, func() string {
		if now := eval[int](b, `document.querySelectorAll("#outcome-table .state-done").length`); now != 2 {
			return fmt.Sprintf("%d of 2 nodes say done: %s %s", now, b.text("#outcome"), b.text("#trouble"))
		}
		return ""
	})
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for id, env := range desktops {
		got, err := os.ReadFile(shown(t, env))
		if err != nil {
			t.Errorf("%s shows no file: %v", id, err)
		} else if string(got) != string(want) {
			t.Errorf("%s shows another image", id)
		}
	}
}

func writeImage(t *testing.T, path string) {
	t.Helper()
	m := image.NewRGBA(image.Rect(0, 0, 64, 48))
	for i := range 64 * 48 {
		m.SetRGBA(i%64, i/64, color.RGBA{uint8(4 * (i % 64)), 90, 160, 255})
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := png.Encode(f, m); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// dropFile drags a file over what a selector finds and drops it there, as a hand does.
func (b *tab) dropFile(selector, path string) {
	b.t.Helper()
	b.do(chromedp.WaitVisible(chromedp.CSS(selector)), chromedp.ScrollIntoView(chromedp.CSS(selector)))
	at := eval[[]float64](b, fmt.Sprintf(`(() => { const r = document.querySelector(%q).getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()`, selector))
	for _, step := range []input.DispatchDragEventType{input.DispatchDragEventTypeDragEnter, input.DispatchDragEventTypeDragOver, input.DispatchDragEventTypeDrop} {
		_, err := chromedp.Call(b.ctx, input.DispatchDragEvent, input.DispatchDragEventParams{Type: step, X: at[0], Y: at[1], Data: &input.DragData{Items: []*input.DragDataItem{}, Files: []string{path}, DragOperationsMask: 1}})
		if err != nil {
			b.t.Fatalf("drag: %v", err)
		}
	}
}
