package desktop

import (
	"bytes"
	"encoding/base64"
	"image"
	"image/jpeg"
	"image/png"
	"io"
	"strings"
	"testing"
)

// smallWebP is a WebP image of one pixel.
const smallWebP = "UklGRhoAAABXRUJQVlA4TA0AAAAvAAAAEAcQERGIiP4HAA=="

// images are whole ones, by format. All but the WebP are 30 × 20 pixels.
func images(t testing.TB) map[string][]byte {
	t.Helper()
	webp, err := base64.StdEncoding.DecodeString(smallWebP)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{"webp": webp}
	for format, encode := range map[string]func(io.Writer, image.Image) error{
		"png":  png.Encode,
		"jpeg": func(w io.Writer, m image.Image) error { return jpeg.Encode(w, m, nil) },
	} {
		var buf bytes.Buffer
		if err := encode(&buf, image.NewGray(image.Rect(0, 0, 30, 20))); err != nil {
			t.Fatal(err)
		}
		all[format] = buf.Bytes()
	}
	return all
}

// bombs are images of a few bytes whose heads say that they are enormous.
func bombs(t testing.TB) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	for format, data := range images(t) {
		data = bytes.Clone(data)
		switch format {
		case "jpeg": // the frame's head: FF C0, length, precision, height, width
			at := bytes.Index(data, []byte{0xff, 0xc0}) + 5
			copy(data[at:], []byte{0xff, 0xff, 0xff, 0xff})
		case "webp": // a canvas of 20000 pixels each way, as extended WebP has it
			data = []byte("RIFF\x16\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x00\x00\x00\x00\x1f\x4e\x00\x1f\x4e\x00")
		case "png":
			continue // where commands are tested
		}
		all[format] = data
	}
	return all
}

func TestImagesAreKnownByTheirContent(t *testing.T) {
	for format, data := range images(t) {
		got, width, height, err := CheckImage(bytes.NewReader(data))
		if err != nil || got != format || width != height && (width != 30 || height != 20) {
			t.Errorf("%s: %s, %d × %d, %v", format, got, width, height, err)
		}
		for what, broken := range map[string]struct {
			data []byte
			says string
		}{
			"cut":            {data[:16], "broken image"},
			"without a head": {data[4:], "not an image"},
		} {
			if _, _, _, err := CheckImage(bytes.NewReader(broken.data)); err == nil || !strings.Contains(err.Error(), broken.says) {
				t.Errorf("%s, %s: %v", format, what, err)
			}
		}
	}
	for format, data := range bombs(t) {
		if _, _, _, err := CheckImage(bytes.NewReader(data)); err == nil || !strings.Contains(err.Error(), "too large") {
			t.Errorf("a bomb of %s: %v", format, err)
		}
	}
	for _, other := range []string{"", "GIF89a", "<svg/>", strings.Repeat("x", 1000)} {
		if _, _, _, err := CheckImage(strings.NewReader(other)); err == nil || !strings.Contains(err.Error(), "PNG, JPEG or WebP") {
			t.Errorf("%.10q: %v", other, err)
		}
	}
}

// Whatever the bytes are, an image that is taken is one of the formats and of
// bounded size, and nothing panics.
func FuzzCheckImage(f *testing.F) {
	for _, of := range []map[string][]byte{images(f), bombs(f)} {
		for _, data := range of {
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		format, width, height, err := CheckImage(bytes.NewReader(data))
		if err != nil {
			return
		}
		if format != "png" && format != "jpeg" && format != "webp" || width <= 0 || height <= 0 || width > MaxPixels/height {
			t.Errorf("%s of %d × %d pixels is taken", format, width, height)
		}
	})
}
