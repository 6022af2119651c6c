//go:build !windows && !darwin

package desktop

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// plasma is KDE. Its shell runs scripts, which read and write what every screen
// shows: by which plugin, and what image if that is the one for images.
type plasma struct{ env environment }

// plasmaImages is the plugin that shows one image.
const plasmaImages = "org.kde.image"

// plasmaImage ends the names of settings that are images; the others are plugins.
const plasmaImage = " image"

const plasmaRead = `var said = {}, all = desktops();
for (var i = 0; i < all.length; i++) {
	var d = all[i];
	if (d.screen < 0) continue;
	said["desktop " + d.id + " plugin"] = d.wallpaperPlugin;
	d.currentConfigGroup = ["Wallpaper", "org.kde.image", "General"];
	said["desktop " + d.id + " image"] = String(d.readConfig("Image", ""));
}
print(JSON.stringify(said));`

// plasmaWrite comes after a definition of want. Plasma shows a new image when its
// plugin is set, so that comes last.
const plasmaWrite = `var all = desktops();
for (var i = 0; i < all.length; i++) {
	var d = all[i], image = want["desktop " + d.id + " image"], plugin = want["desktop " + d.id + " plugin"];
	if (image === undefined || plugin === undefined) continue;
	d.currentConfigGroup = ["Wallpaper", "org.kde.image", "General"];
	d.writeConfig("Image", image);
	d.wallpaperPlugin = plugin;
}`

func (p plasma) name() string { return "plasmashell" }

// script has the shell run a script, and gives what that prints.
func (p plasma) script(ctx context.Context, text string) (string, error) {
	return run(ctx, p.env, "dbus-send", "--session", "--print-reply=literal", "--dest=org.kde.plasmashell",
		"/PlasmaShell", "org.kde.PlasmaShell.evaluateScript", "string:"+text)
}

func (p plasma) read(ctx context.Context) (map[string]string, error) {
	said, err := p.script(ctx, plasmaRead)
	if err != nil {
		return nil, err
	}
	values := map[string]string{}
	if err := json.Unmarshal([]byte(said), &values); err != nil {
		return nil, fmt.Errorf("what plasmashell says (%q): %w", said, err)
	}
	if len(values) == 0 {
		return nil, errors.New("plasmashell has no desktop on any screen")
	}
	return values, nil
}

func (p plasma) show(now map[string]string, image string) map[string]string {
	want := map[string]string{}
	for k := range now {
		if want[k] = plasmaImages; strings.HasSuffix(k, plasmaImage) {
			want[k] = (&url.URL{Scheme: "file", Path: image}).String()
		}
	}
	return want
}

func (p plasma) write(ctx context.Context, values map[string]string) error {
	want, err := json.Marshal(values)
	if err != nil {
		return err
	}
	_, err = p.script(ctx, "var want = "+string(want)+";\n"+plasmaWrite)
	return err
}
