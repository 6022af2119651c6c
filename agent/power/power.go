// Package power turns the machine a node runs on off, or restarts it.
//
// Everything that can touch the machine goes through one field, Host.Run, so
// that a program which was not given a real runner cannot power anything off.
// The commands themselves were never run by a test: what is tested is which
// commands are asked for, and when.
package power

import (
	"context"
	"errors"
	"fmt"
	osexec "os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// Action is what happens to the machine.
type Action string

// The two things that can be done to a machine.
const (
	Off    Action = "off"
	Reboot Action = "reboot"
)

var (
	// ErrAborted is the end of an action that Abort called off.
	ErrAborted = errors.New("called off before it happened")
	// ErrTesting is what the real runner answers inside a test binary.
	ErrTesting = errors.New("a test never powers a machine off")
)

// PendingError refuses an action because another one is waiting already.
type PendingError struct {
	Action Action
	At     time.Time // when its grace ends
}

// Error says what is pending and how to go on.
func (e *PendingError) Error() string {
	return fmt.Sprintf("%s is already pending for %s: abort it first, or wait",
		e.Action, e.At.UTC().Format(time.RFC3339))
}

// Host is the machine of this node. OS names its operating system as
// runtime.GOOS does; Run runs one command to its end.
type Host struct {
	OS  string
	Run func(ctx context.Context, name string, args ...string) error

	mu      sync.Mutex
	pending *order
}

// order is the one action under way; abort ends its grace, and is nil once the
// commands have begun.
type order struct {
	action Action
	at     time.Time
	abort  chan struct{}
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

// Announce shows a message to whoever is logged in, as well as that can be done:
// a message nobody could be shown does not keep the machine on.
func (h *Host) Announce(ctx context.Context, message string) {
	if h.OS != "windows" && message != "" {
		_ = h.Run(ctx, "wall", message)
	}
}

// Off powers the machine off at once.
func (h *Host) Off(ctx context.Context) error { return h.Do(ctx, Off, 0, "") }

// Reboot restarts the machine at once.
func (h *Host) Reboot(ctx context.Context) error { return h.Do(ctx, Reboot, 0, "") }

// Do waits for the grace, tells whoever is logged in, and powers the machine
// off or reboots it. The context or Abort end the wait.
func (h *Host) Do(ctx context.Context, action Action, grace time.Duration, message string) error {
	commands, err := commandsFor(h.OS, action)
	if err != nil {
		return err
	}
	o := &order{action: action, at: time.Now().Add(grace), abort: make(chan struct{})}
	if err := h.begin(o); err != nil {
		return err
	}
	defer h.end()
	h.Announce(ctx, message)
	timer := time.NewTimer(time.Until(o.at))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return fmt.Errorf("wait to %s: %w", action, ctx.Err())
	case <-o.abort:
		return fmt.Errorf("%s: %w", action, ErrAborted)
	case <-timer.C:
	}
	if !h.commit() {
		return fmt.Errorf("%s: %w", action, ErrAborted)
	}
	return h.first(ctx, action, commands)
}

// first runs the commands in order until one of them works.
func (h *Host) first(ctx context.Context, action Action, commands [][]string) error {
	var failed []error
	for _, c := range commands {
		err := h.Run(ctx, c[0], c[1:]...)
		if err == nil {
			return nil
		}
		failed = append(failed, err)
	}
	return fmt.Errorf("%s: the machine refused; %s: %w", action, rights(h.OS), errors.Join(failed...))
}

// Abort calls the pending action off, and says whether there was one.
func (h *Host) Abort() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.pending == nil || h.pending.abort == nil {
		return false
	}
	close(h.pending.abort)
	h.pending.abort = nil
	return true
}

func (h *Host) begin(o *order) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.pending != nil {
		return &PendingError{Action: h.pending.action, At: h.pending.at}
	}
	// The waiter keeps its own channel: Abort clears the field of this copy.
	mine := *o
	h.pending = &mine
	return nil
}

func (h *Host) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pending = nil
}

// commit is the point of no return; false when Abort came first.
func (h *Host) commit() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.pending.abort == nil {
		return false
	}
	h.pending.abort = nil
	return true
}

func commandsFor(system string, action Action) ([][]string, error) {
	verb, flag := "poweroff", "-h"
	switch action {
	case Off:
	case Reboot:
		verb, flag = "reboot", "-r"
	default:
		return nil, fmt.Errorf("unknown action %q: use %s or %s", action, Off, Reboot)
	}
	switch system {
	case "linux":
		return [][]string{{"systemctl", verb}, {"shutdown", flag, "now"}}, nil
	case "darwin":
		return [][]string{{"shutdown", flag, "now"}}, nil
	case "windows":
		if action == Off {
			return [][]string{{"shutdown", "/s", "/t", "0"}}, nil
		}
		return [][]string{{"shutdown", "/r", "/t", "0"}}, nil
	}
	return nil, fmt.Errorf("%s: no way is known on %s: do it on the machine itself", action, system)
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
