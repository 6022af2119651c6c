package agent_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"hash/crc32"
	"image"
	"image/png"
	"os"
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

func picture(t *testing.T) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := png.Encode(&buf, image.NewRGBA(image.Rect(0, 0, 300, 200))); err != nil {
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
	for what, broken := range map[string][]byte{"text": []byte("not a picture"), "half a head": data[:20], "a bomb": bomb(t)} {
		q := send(subjects.WallpaperArgs{Digest: c.put(broken), Size: int64(len(broken))})
		if refused := c.control(subjects.CommandSend, q, new(subjects.CommandResponse)); refused == nil || refused.Code != subjects.CodeBadRequest {
			t.Errorf("%s: %v", what, refused)
		}
	}
	r = c.command(subjects.CommandSend, send(subjects.WallpaperArgs{Restore: true}))[0]
	c.untilStands(r.ID, "s1 failed, s2 done")
	if w.shows() != nil {
		t.Error("the image is still shown")
	}
}
