package desktop

import (
	"context"
	"fmt"
	"unsafe"

	"golang.org/x/sys/windows"
)

const (
	getWallpaper = 0x73 // SPI_GETDESKWALLPAPER
	setWallpaper = 0x14 // SPI_SETDESKWALLPAPER
	tellAll      = 0x03 // SPIF_UPDATEINIFILE | SPIF_SENDCHANGE
	picture      = "picture"
	longestPath  = 1024
)

// desk is the desktop of Windows.
type desk struct{ parameters *windows.LazyProc }

func find(context.Context, string) (backend, error) {
	var session uint32
	if err := windows.ProcessIdToSessionId(windows.GetCurrentProcessId(), &session); err != nil || session == 0 {
		return nil, ErrNoDesktop // session 0 is that of services, which nobody sees
	}
	return desk{windows.NewLazySystemDLL("user32.dll").NewProc("SystemParametersInfoW")}, nil
}

func (d desk) name() string { return "SystemParametersInfo" }

func (d desk) read(context.Context) (map[string]string, error) {
	path := make([]uint16, longestPath)
	if ok, _, err := d.parameters.Call(getWallpaper, longestPath, uintptr(unsafe.Pointer(&path[0])), 0); ok == 0 {
		return nil, fmt.Errorf("SystemParametersInfo: %w", err)
	}
	return map[string]string{picture: windows.UTF16ToString(path)}, nil
}

func (d desk) show(_ map[string]string, image string) map[string]string {
	return map[string]string{picture: image}
}

func (d desk) write(_ context.Context, values map[string]string) error {
	path, err := windows.UTF16PtrFromString(values[picture])
	if err != nil {
		return err
	}
	if ok, _, err := d.parameters.Call(setWallpaper, 0, uintptr(unsafe.Pointer(path)), tellAll); ok == 0 {
		return fmt.Errorf("SystemParametersInfo: %w", err)
	}
	return nil
}
