//go:build !windows && !darwin

package desktop

import (
	"context"
	"errors"
	"path"
	"strings"
)

// xfce has properties for every monitor and workspace.
type xfce struct{ env environment }

// xfceShown is the properties that decide whether an image is seen: type, and the
// value with which it is. An image that changes by itself would not stay.
var xfceShown = map[string]struct{ kind, value string }{
	"last-image":            {"string", ""}, // the image
	"image-style":           {"int", "5"},   // zoomed; 0 is none at all
	"backdrop-cycle-enable": {"bool", "false"},
}

func (x xfce) name() string { return "xfconf-query" }

func (x xfce) query(ctx context.Context, args ...string) (string, error) {
	return run(ctx, x.env, "xfconf-query", append([]string{"-c", "xfce4-desktop"}, args...)...)
}

func (x xfce) read(ctx context.Context) (map[string]string, error) {
	list, err := x.query(ctx, "-l")
	if err != nil {
		return nil, err
	}
	values, images := map[string]string{}, 0
	for property := range strings.Lines(list) {
		property = strings.TrimSpace(property)
		if _, ok := xfceShown[path.Base(property)]; !ok {
			continue
		}
		if values[property], err = x.query(ctx, "-p", property); err != nil {
			return nil, err
		}
		if path.Base(property) == "last-image" {
			images++
		}
	}
	if images == 0 {
		return nil, errors.New("XFCE names no monitor that has a wallpaper: its desktop (xfdesktop) has not run yet")
	}
	return values, nil
}

func (x xfce) show(now map[string]string, image string) map[string]string {
	want := map[string]string{}
	for property := range now {
		if want[property] = xfceShown[path.Base(property)].value; path.Base(property) == "last-image" {
			want[property] = image
		}
	}
	return want
}

func (x xfce) write(ctx context.Context, values map[string]string) error {
	for property, v := range values {
		kind := xfceShown[path.Base(property)].kind
		if _, err := x.query(ctx, "-p", property, "-n", "-t", kind, "-s", v); err != nil {
			return err
		}
	}
	return nil
}
