//go:build plasma

// Plasma and what it needs are 700 MB, so this is for machines that have it:
//
//	go test -tags plasma -run Plasma ./agent/desktop

package desktop

import (
	"context"
	"os"
	"testing"
)

// plasmaBlue is what Plasma's plugin for colours shows by itself.
var plasmaBlue = [3]byte{0x1d, 0x99, 0xf3}

func TestPlasmaShowsTheImageAndTheOldOneAgain(t *testing.T) {
	need(t, "plasmashell", "dbus-send", "dbus-daemon", "Xvfb", "xwd")
	startShell(t, "KDE", "plasmashell", "--no-respawn")
	p := plasma{os.Environ()}
	until(t, "plasmashell has a desktop", func() bool {
		values, err := p.read(context.Background())
		return err == nil && len(values) > 0
	})
	untilPixel(t, "plasmashell shows something", func(p [3]byte) bool { return p != [3]byte{} })
	state := func() string {
		said, err := p.script(context.Background(), plasmaRead)
		if err != nil {
			t.Fatal(err)
		}
		return said
	}
	showAndRestore(t, "plasmashell", state) // from the one that it came with, which has no name
	if _, err := p.script(context.Background(), `desktops()[0].wallpaperPlugin = "org.kde.color"`); err != nil {
		t.Fatal(err)
	}
	untilPixel(t, "a colour is shown", func(p [3]byte) bool { return p == plasmaBlue })
	showAndRestore(t, "plasmashell", state)
}
