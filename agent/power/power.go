// Package power turns the machine a node runs on off, or restarts it.
//
// Everything that can touch the machine goes through one field, Host.Run, so that a
// program which was not given a real runner cannot power anything off. The commands
// themselves were never run by a test: what is tested is which commands are asked
// for. When it is time, and whether it may be, is for the caller.
package power

import (
	"context"
	"errors"
	"fmt"
	osexec "os/exec"
	"runtime"
	"strings"
	"testing"
	"time"
)

// ErrTesting is what the real runner answers inside a test binary.
var ErrTesting = errors.New("a test never powers a machine off")

// announcePatience is how long telling people may take.
const announcePatience = 2 * time.Second

// Host is the machine of this node. OS names its operating system as runtime.GOOS
// does; Run runs one command to its end.
type Host struct {
	OS  string
	Run func(ctx context.Context, name string, args ...string) error
}

// System is the real machine. Only the program itself makes one.
func System() *Host { return &Host{OS: runtime.GOOS, Run: run} }

func run(ctx context.Context, name string, args ...string) error {
	if testing.Testing() {
		return ErrTesting
	}
	out, err := osexec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// Announce tells whoever is logged in, where the system has a way to. That nobody
// could be told does not keep the machine on.
func (h *Host) Announce(ctx context.Context, message string) {
	ctx, cancel := context.WithTimeout(ctx, announcePatience)
	defer cancel()
	if h.OS != "windows" && message != "" {
		_ = h.Run(ctx, "wall", message)
	}
}

// Off powers the machine off.
func (h *Host) Off(ctx context.Context) error {
	switch h.OS {
	case "linux":
		return h.first(ctx, []string{"systemctl", "poweroff"}, []string{"shutdown", "-h", "now"})
	case "darwin":
		return h.first(ctx, []string{"shutdown", "-h", "now"})
	case "windows":
		return h.first(ctx, []string{"shutdown", "/s", "/t", "0"})
	}
	return h.unknown()
}

// Reboot restarts the machine.
func (h *Host) Reboot(ctx context.Context) error {
	switch h.OS {
	case "linux":
		return h.first(ctx, []string{"systemctl", "reboot"}, []string{"shutdown", "-r", "now"})
	case "darwin":
		return h.first(ctx, []string{"shutdown", "-r", "now"})
	case "windows":
		return h.first(ctx, []string{"shutdown", "/r", "/t", "0"})
	}
	return h.unknown()
}

func (h *Host) unknown() error {
	return fmt.Errorf("no way is known to do this on %s: do it on the machine itself", h.OS)
}

// first runs the commands in order until one of them works.
func (h *Host) first(ctx context.Context, commands ...[]string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var failed []error
	for _, c := range commands {
		err := h.Run(ctx, c[0], c[1:]...)
		if err == nil {
			return nil
		}
		failed = append(failed, err)
	}
	return fmt.Errorf("the machine refused; %s: %w", rights(h.OS), errors.Join(failed...))
}

func rights(system string) string {
	switch system {
	case "windows":
		return "run the node as an account with the right to shut down"
	case "darwin":
		return "run the node as root"
	}
	return "run the node as root, or let polkit allow its user org.freedesktop.login1.power-off and .reboot"
}
