package power_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

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
	for _, c := range []struct {
		system string
		action power.Action
		want   []string
	}{
		{"linux", power.Off, []string{"wall bye", "systemctl poweroff"}},
		{"linux", power.Reboot, []string{"wall bye", "systemctl reboot"}},
		{"windows", power.Off, []string{"shutdown /s /t 0"}},
		{"windows", power.Reboot, []string{"shutdown /r /t 0"}},
		{"darwin", power.Off, []string{"wall bye", "shutdown -h now"}},
		{"darwin", power.Reboot, []string{"wall bye", "shutdown -r now"}},
	} {
		h, ran := recorder(c.system)
		if err := h.Do(t.Context(), c.action, 0, "bye"); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(*ran, c.want) {
			t.Errorf("%s %s ran %q, want %q", c.system, c.action, *ran, c.want)
		}
	}
}

func TestARefusalFallsBackAndThenSaysWhichRightsAreMissing(t *testing.T) {
	h, ran := recorder("linux", "wall", "systemctl", "shutdown")
	err := h.Do(t.Context(), power.Off, 0, "bye")
	if err == nil || !strings.Contains(err.Error(), "polkit") {
		t.Fatalf("got %v", err)
	}
	if want := []string{"wall bye", "systemctl poweroff", "shutdown -h now"}; !slices.Equal(*ran, want) {
		t.Fatalf("ran %q, want %q", *ran, want)
	}
}

func TestOnePendingActionAtATimeAndAbortEndsIt(t *testing.T) {
	h, ran := recorder("linux")
	waiting := make(chan struct{})
	inner := h.Run
	h.Run = func(ctx context.Context, name string, args ...string) error {
		defer close(waiting)
		return inner(ctx, name, args...)
	}
	if h.Abort() {
		t.Fatal("aborted nothing")
	}
	done := make(chan error, 1)
	go func() { done <- h.Do(t.Context(), power.Reboot, time.Hour, "soon") }()
	<-waiting
	var pending *power.PendingError
	if err := h.Do(t.Context(), power.Off, 0, ""); !errors.As(err, &pending) || pending.Action != power.Reboot {
		t.Fatalf("got %v, want the pending reboot", err)
	}
	if !h.Abort() {
		t.Fatal("there was a pending action")
	}
	if err := <-done; !errors.Is(err, power.ErrAborted) {
		t.Fatalf("got %v", err)
	}
	if want := []string{"wall soon"}; !slices.Equal(*ran, want) {
		t.Fatalf("ran %q, want %q", *ran, want)
	}
}

func TestTheContextEndsTheGrace(t *testing.T) {
	h, ran := recorder("linux")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.Do(ctx, power.Off, time.Hour, ""); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if len(*ran) != 0 {
		t.Fatalf("ran %q", *ran)
	}
}

func TestTheRealMachineIsOutOfReachOfTests(t *testing.T) {
	h := power.System()
	if err := h.Run(t.Context(), "true"); !errors.Is(err, power.ErrTesting) {
		t.Fatalf("got %v", err)
	}
}
