package desktop

import (
	"errors"
	"fmt"
	"image"
	_ "image/jpeg" // formats of wallpapers
	_ "image/png"
	"io"

	_ "golang.org/x/image/webp"
)

// Limits of an image.
const (
	// MaxImageBytes is the largest file.
	MaxImageBytes = 64 << 20
	// MaxPixels keeps small files that unpack to something huge off the desktops.
	MaxPixels = 100_000_000
)

// CheckImage says what an image is by its content, not its name. It reads no more
// than the head: pixels are never unpacked.
func CheckImage(r io.Reader) (format string, width, height int, err error) {
	c, format, err := image.DecodeConfig(io.LimitReader(r, MaxImageBytes))
	switch {
	case errors.Is(err, image.ErrFormat):
		return "", 0, 0, errors.New("not an image that can be a wallpaper: PNG, JPEG or WebP")
	case err != nil:
		return "", 0, 0, fmt.Errorf("broken image: %w", err)
	case c.Width <= 0 || c.Height <= 0:
		return "", 0, 0, errors.New("broken image: it has no pixels")
	case int64(c.Width) > MaxPixels/int64(c.Height):
		return "", 0, 0, fmt.Errorf("the image is too large: %d × %d pixels, at most %d million", c.Width, c.Height, MaxPixels/1_000_000)
	}
	return format, c.Width, c.Height, nil
}
