package power_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/snapdb/snapdb/agent/power"
)

// recorder keeps the commands asked for, and refuses those that begin so.
func recorder(system string, refuse ...string) (*power.Host, *[]string) {
	var ran []string
	return &power.Host{OS: system, Run: func(_ context.Context, name string, args ...string) error {
		ran = append(ran, strings.Join(append([]string{name}, args...), " "))
		if slices.Contains(refuse, name) {
			return errors.New(name + ": refused")
		}
		return nil
	}}, &ran
}

func TestEverySystemIsAskedInItsOwnWords(t *testing.T) {
	for system, want := range map[string][]string{
		"linux":   {"wall bye", "systemctl poweroff", "systemctl reboot"},
		"darwin":  {"wall bye", "shutdown -h now", "shutdown -r now"},
		"windows": {"shutdown /s /t 0", "shutdown /r /t 0"},
	} {
		h, ran := recorder(system)
		h.Announce(t.Context(), "bye")
		if err := errors.Join(h.Off(t.Context()), h.Reboot(t.Context())); err != nil {
			t.Errorf("%s: %v", system, err)
		}
		if !slices.Equal(*ran, want) {
			t.Errorf("%s ran %q, want %q", system, *ran, want)
		}
	}
	h, ran := recorder("plan9")
	if h.Off(t.Context()) == nil || h.Reboot(t.Context()) == nil || len(*ran) > 0 {
		t.Errorf("on a system of which nothing is known: %q", *ran)
	}
}

func TestARefusalFallsBackAndThenSaysWhichRightsAreMissing(t *testing.T) {
	h, ran := recorder("linux", "systemctl", "shutdown")
	if err := h.Off(t.Context()); err == nil || !strings.Contains(err.Error(), "polkit") {
		t.Errorf("got %v", err)
	}
	if want := []string{"systemctl poweroff", "shutdown -h now"}; !slices.Equal(*ran, want) {
		t.Errorf("ran %q, want %q", *ran, want)
	}
}

func TestNothingHappensWhenItWasGivenUp(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	h, ran := recorder("linux")
	if h.Off(ctx) == nil || len(*ran) > 0 {
		t.Errorf("ran %q", *ran)
	}
}

func TestTheRealMachineRefusesInsideATest(t *testing.T) {
	if err := power.System().Reboot(t.Context()); !errors.Is(err, power.ErrTesting) {
		t.Errorf("got %v", err)
	}
}
