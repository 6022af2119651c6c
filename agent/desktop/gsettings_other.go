//go:build !windows && !darwin

package desktop

import (
	"context"
	"maps"
	"net/url"
	"slices"
	"strings"
)

// gsettings is GNOME and its family.
type gsettings struct {
	env    environment
	schema string
	images []string // keys; which of them there are depends on the version
}

// options says how the image is fitted, and with "none" that it is not shown at all.
const options = "picture-options"

func (g gsettings) name() string { return "gsettings " + g.schema }

func (g gsettings) read(ctx context.Context) (map[string]string, error) {
	keys, err := run(ctx, g.env, "gsettings", "list-keys", g.schema)
	if err != nil {
		return nil, err
	}
	values := map[string]string{}
	for _, key := range strings.Fields(keys) {
		if key != options && !slices.Contains(g.images, key) {
			continue
		}
		text, err := run(ctx, g.env, "gsettings", "get", g.schema, key)
		if err != nil {
			return nil, err
		}
		values[key] = unquote(text)
	}
	return values, nil
}

func (g gsettings) show(now map[string]string, image string) map[string]string {
	want := maps.Clone(now)
	for key := range now {
		switch key {
		case options:
			want[key] = "zoom"
		case "picture-filename":
			want[key] = image
		default:
			want[key] = (&url.URL{Scheme: "file", Path: image}).String()
		}
	}
	return want
}

func (g gsettings) write(ctx context.Context, values map[string]string) error {
	for key, v := range values {
		if _, err := run(ctx, g.env, "gsettings", "set", g.schema, key, quote(v)); err != nil {
			return err
		}
	}
	return nil
}

// quote and unquote are for the notation in which gsettings takes and prints text.
func quote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

func unquote(s string) string {
	if len(s) < 2 {
		return s
	}
	return strings.NewReplacer(`\\`, `\`, `\'`, `'`, `\"`, `"`).Replace(s[1 : len(s)-1])
}
