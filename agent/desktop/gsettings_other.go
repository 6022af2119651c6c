//go:build !windows && !darwin

package desktop

import (
	"context"
	"net/url"
	"strings"
)

// gsettings is GNOME and its family.
type gsettings struct {
	env      environment
	schema   string
	settings []setting // which of them there are depends on the version
}

// setting is a key, with the value that it has while an image is shown.
type setting struct{ schema, key, shown string }

// These stand for the image.
const (
	asURI  = "uri"
	asPath = "path"
)

func gnome(env environment) gsettings {
	const schema = "org.gnome.desktop.background"
	return gsettings{env, schema, []setting{
		{schema, "picture-uri", asURI}, {schema, "picture-uri-dark", asURI}, {schema, "picture-options", "zoom"},
	}}
}

func cinnamon(env environment) gsettings {
	const schema = "org.cinnamon.desktop.background"
	return gsettings{env, schema, []setting{
		{schema, "picture-uri", asURI}, {schema, "picture-options", "zoom"},
		{schema + ".slideshow", "slideshow-enabled", "false"},
	}}
}

func mate(env environment) gsettings {
	const schema = "org.mate.background"
	return gsettings{env, schema, []setting{
		{schema, "picture-filename", asPath}, {schema, "picture-options", "zoom"}, {schema, "draw-background", "true"},
	}}
}

func (g gsettings) name() string { return "gsettings " + g.schema }

func (g gsettings) read(ctx context.Context) (map[string]string, error) {
	all, values := map[string]string{}, map[string]string{}
	for _, s := range g.settings {
		if _, known := all[s.schema]; !known {
			text, err := run(ctx, g.env, "gsettings", "list-recursively", s.schema)
			if err != nil {
				return nil, err
			}
			all[s.schema] = "\n" + text + "\n"
		}
		if _, after, known := strings.Cut(all[s.schema], "\n"+s.schema+" "+s.key+" "); known {
			text, _, _ := strings.Cut(after, "\n")
			values[s.key] = unquote(text)
		}
	}
	return values, nil
}

func (g gsettings) show(now map[string]string, image string) map[string]string {
	want := map[string]string{}
	for _, s := range g.settings {
		if _, known := now[s.key]; !known {
			continue
		}
		switch s.shown {
		case asURI:
			want[s.key] = (&url.URL{Scheme: "file", Path: image}).String()
		case asPath:
			want[s.key] = image
		default:
			want[s.key] = s.shown
		}
	}
	return want
}

func (g gsettings) write(ctx context.Context, values map[string]string) error {
	for _, s := range g.settings {
		v, known := values[s.key]
		if !known {
			continue
		}
		if _, err := run(ctx, g.env, "gsettings", "set", s.schema, s.key, quote(v)); err != nil {
			return err
		}
	}
	return nil
}

// quote and unquote are for the notation in which gsettings takes and prints values:
// text stands in quotes, true and false do not, and no setting has these as text.
func quote(s string) string {
	if s == "true" || s == "false" {
		return s
	}
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

func unquote(s string) string {
	if len(s) < 2 || s[0] != '\'' && s[0] != '"' {
		return s
	}
	return strings.NewReplacer(`\\`, `\`, `\'`, `'`, `\"`, `"`).Replace(s[1 : len(s)-1])
}
