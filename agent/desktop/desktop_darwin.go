package desktop

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// finder is the desktops of macOS, one for each screen, by number.
type finder struct{}

func find(context.Context, string) (backend, error) {
	info, err := os.Stat("/dev/console") // which belongs to who is logged in
	if err != nil || !owned(info) {
		return nil, ErrNoDesktop
	}
	return finder{}, nil
}

func (finder) name() string { return "osascript" }

func (finder) read(ctx context.Context) (map[string]string, error) {
	const script = `set text item delimiters to linefeed
tell application "System Events" to set all to picture of every desktop
return all as text`
	text, err := run(ctx, os.Environ(), "osascript", "-e", script)
	if err != nil {
		return nil, err
	}
	values := map[string]string{}
	for i, picture := range strings.Split(text, "\n") {
		values[fmt.Sprintf("desktop %d", i+1)] = picture
	}
	return values, nil
}

func (finder) show(now map[string]string, image string) map[string]string {
	want := map[string]string{}
	for which := range now {
		want[which] = image
	}
	return want
}

func (finder) write(ctx context.Context, values map[string]string) error {
	for which, image := range values {
		script := "on run argv\nset thePath to item 1 of argv\ntell application \"System Events\" to set picture of " + which + " to thePath\nend run"
		if _, err := run(ctx, os.Environ(), "osascript", "-e", script, image); err != nil {
			return err
		}
	}
	return nil
}

// owned says whether a file is this user's.
func owned(info os.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Getuid()
}
