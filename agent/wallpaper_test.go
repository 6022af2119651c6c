package agent_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"image"
	"image/png"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/snapdb/snapdb/agent"
	"github.com/snapdb/snapdb/agent/desktop"
	"github.com/snapdb/snapdb/subjects"
)

// wall is a desktop that keeps the image that it shows.
type wall struct {
	mu    sync.Mutex
	shown []byte
}

func (w *wall) Set(_ context.Context, path string) (desktop.Result, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	data, err := os.ReadFile(path)
	w.shown = data
	return desktop.Result{}, err
}

func (w *wall) Restore(context.Context) (desktop.Result, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.shown = nil
	return desktop.Result{}, nil
}

func (w *wall) shows() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.shown
}

func picture(t *testing.T) []byte { return pictureOf(t, 300) }

func pictureOf(t *testing.T, width int) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := png.Encode(&buf, image.NewRGBA(image.Rect(0, 0, width, 200))); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// bomb is a picture whose head says that it is 60000 pixels wide and high.
func bomb(t *testing.T) []byte {
	t.Helper()
	data := picture(t)
	binary.BigEndian.PutUint32(data[16:], 60000)
	binary.BigEndian.PutUint32(data[20:], 60000)
	binary.BigEndian.PutUint32(data[29:], crc32.ChecksumIEEE(data[12:29]))
	return data
}

func TestWallpaperReachesTheDesktopsThatThereAre(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{}, "s1")
	w := new(wall)
	c.desktop = w
	c.startSlave("s2")
	c.untilInSync("s1", "s2")
	send := func(a subjects.WallpaperArgs) subjects.CommandRequest {
		data, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		return subjects.CommandRequest{Op: subjects.OpWallpaper, Args: data, All: true}
	}
	data := picture(t)
	r := c.command(subjects.CommandSend, send(subjects.WallpaperArgs{Digest: c.put(data), Size: int64(len(data)), Name: "p.png"}))[0]
	c.untilStands(r.ID, "s1 failed, s2 done")
	if why := c.command(subjects.CommandList, subjects.CommandQuery{ID: r.ID})[0].Nodes[0].Reason; why != "this node has no desktop session" {
		t.Errorf("without a desktop: %q", why)
	}
	if !bytes.Equal(w.shows(), data) {
		t.Errorf("%d bytes are shown, want %d", len(w.shows()), len(data))
	}
	// Of the images only those are kept that something shows, or will.
	kept := func() (digests []string) {
		t.Helper()
		files, err := filepath.Glob(filepath.Join(c.dir, "s2", "wallpaper", "*.png"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			digests = append(digests, strings.TrimSuffix(filepath.Base(f), ".png"))
		}
		return digests
	}
	before := kept()[0]
	if err := os.WriteFile(filepath.Join(c.dir, "s2", "wallpaper", "before.json"), fmt.Appendf(nil, `{"values":{"x":"file:///w/%s.png"}}`, before), 0o600); err != nil {
		t.Fatal(err)
	}
	last := ""
	for width := range 2 {
		data = pictureOf(t, 100+width)
		last = c.put(data)
		r = c.command(subjects.CommandSend, send(subjects.WallpaperArgs{Digest: last, Size: int64(len(data)), Name: "p.png"}))[0]
		c.untilStands(r.ID, "s1 failed, s2 done")
	}
	if got := kept(); len(got) != 2 || !slices.Contains(got, before) || !slices.Contains(got, last) {
		t.Errorf("the images kept are %v", got)
	}
	const hugeSize = 200 << 20
	huge := filepath.Join(c.opts.Dir, "files", strings.Repeat("ab", 32)) // what it holds does not matter
	if err := errors.Join(os.WriteFile(huge, nil, 0o600), os.Truncate(huge, hugeSize)); err != nil {
		t.Fatal(err)
	}
	text := []byte("not a picture")
	for says, a := range map[string]subjects.WallpaperArgs{
		"not an image that can be a wallpaper":      {Digest: c.put(text), Size: int64(len(text))},
		"broken image":                              {Digest: c.put(data[:20]), Size: 20},
		"too large: 60000 × 60000 pixels":           {Digest: c.put(bomb(t)), Size: int64(len(bomb(t)))},
		"209715200 bytes, at most 67108864":         {Digest: filepath.Base(huge), Size: hugeSize},
		fmt.Sprintf("bytes, not %d", len(data)+1):   {Digest: last, Size: int64(len(data)) + 1},
		"the master does not have the file cdcdcdc": {Digest: strings.Repeat("cd", 32), Size: 20},
	} {
		refused := c.control(subjects.CommandSend, send(a), new(subjects.CommandResponse))
		if refused == nil || refused.Code != subjects.CodeBadRequest || !strings.Contains(refused.Message, says) {
			t.Errorf("%+v: %v, want %q", a, refused, says)
		}
	}
	// What is on the master's disk is not what it was.
	spoiled := pictureOf(t, 50)
	file := filepath.Join(c.opts.Dir, "files", c.put(spoiled))
	spoiled[len(spoiled)-1]++
	if err := os.WriteFile(file, spoiled, 0o600); err != nil {
		t.Fatal(err)
	}
	r = c.command(subjects.CommandSend, send(subjects.WallpaperArgs{Digest: filepath.Base(file), Size: int64(len(spoiled))}))[0]
	c.untilStands(r.ID, "s1 failed, s2 failed")
	if why := c.command(subjects.CommandList, subjects.CommandQuery{ID: r.ID})[0].Nodes[1].Reason; !strings.Contains(why, "SHA-256") && !strings.Contains(why, "digest") {
		t.Errorf("with a spoiled image: %q", why)
	}
	if !bytes.Equal(w.shows(), data) {
		t.Error("a spoiled image is shown")
	}
	r = c.command(subjects.CommandSend, send(subjects.WallpaperArgs{Restore: true}))[0]
	c.untilStands(r.ID, "s1 failed, s2 done")
	if w.shows() != nil {
		t.Error("the image is still shown")
	}
	if got := kept(); len(got) != 1 || got[0] != before {
		t.Errorf("after the old one is back the images kept are %v", got)
	}
	part := filepath.Join(c.dir, "s2", "wallpaper", "1.part")
	if err := os.WriteFile(part, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c.stopSlave("s2")
	c.startSlave("s2")
	c.untilInSync("s2")
	if _, err := os.Stat(part); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an image that was on its way is still there: %v", err)
	}
}
