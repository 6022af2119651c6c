//go:build linux

package processtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	osexec "os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Patience of the tests. It is far more than anything takes; a test that needs
// it all has failed.
const Patience = 30 * time.Second

// StopWithin is how long a process may take to end when it is asked to.
const StopWithin = 10 * time.Second

// Process is one process of the program, and what it has said so far.
type Process struct {
	Name string
	Args []string
	Env  []string // beside the test's own
	By   []string // a command that runs the program; none: it is run itself

	t       testing.TB
	program *Program
	output  string // file with everything it has written, over all its lives
	cmd     *osexec.Cmd
	ended   chan struct{} // closed when the process has ended
	err     error         // how it ended; read after ended
}

// New prepares a process. It is killed at the end of the test, whatever
// happens, and if the test has failed, its last words are shown.
func (p *Program) New(t testing.TB, name string, args ...string) *Process {
	t.Helper()
	n := &Process{t: t, program: p, Name: name, Args: args, output: filepath.Join(t.TempDir(), name+".log")}
	t.Cleanup(func() {
		if n.Running() {
			n.Kill()
		}
		for _, word := range []string{"DATA RACE", "panic: ", "fatal error: "} {
			if strings.Contains(n.Said(), word) {
				t.Errorf("%s said %q", name, word)
			}
		}
		if t.Failed() {
			t.Logf("%s said last:\n%s", name, n.Last(40))
		}
	})
	return n
}

// Start runs the process.
func (p *Process) Start() {
	p.t.Helper()
	if p.Running() {
		p.t.Fatalf("%s runs already", p.Name)
	}
	out, err := os.OpenFile(p.output, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	defer out.Close() // the process has its own
	command := append(append(slices.Clone(p.By), p.program.Path(p.t)), p.Args...)
	p.cmd = osexec.Command(command[0], command[1:]...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.Env = append(os.Environ(), p.Env...)
	// It must not outlive a test run that is itself killed.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatalf("start %s: %v", p.Name, err)
	}
	cmd, ended := p.cmd, make(chan struct{})
	p.ended = ended
	go func() {
		p.err = cmd.Wait()
		close(ended)
	}()
}

// Running says whether the process has not ended.
func (p *Process) Running() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// PID is the process as the system numbers it.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Signal sends a signal to the running process.
func (p *Process) Signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Errorf("signal %v to %s: %v", s, p.Name, err)
	}
}

// Kill ends the process as a power cut would, as far as the process can tell.
func (p *Process) Kill() {
	p.t.Helper()
	p.Signal(syscall.SIGKILL)
	<-p.ended
}

// Freeze stops the process from doing anything until [Process.Thaw].
//
// A signal that stops a process reaches its threads one after another; until the
// last has stopped, the process may still answer.
func (p *Process) Freeze() {
	p.t.Helper()
	p.Signal(syscall.SIGSTOP)
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_PID, p.cmd.Process.Pid, &info, unix.WSTOPPED|unix.WNOWAIT, nil); err != nil {
		p.t.Errorf("wait for %s to stop: %v", p.Name, err)
	}
}

// Thaw has it go on.
func (p *Process) Thaw() { p.t.Helper(); p.Signal(syscall.SIGCONT) }

// Stop asks the process to end, as Ctrl-C or a service manager does, and expects
// it to do so in order and soon.
func (p *Process) Stop(s syscall.Signal) {
	p.t.Helper()
	p.Signal(s)
	if code := p.Wait(StopWithin); code != 0 {
		p.t.Errorf("%s ended with exit code %d after %v", p.Name, code, s)
	}
}

// Wait waits for the process to end by itself and returns its exit code.
func (p *Process) Wait(limit time.Duration) int {
	p.t.Helper()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-p.ended:
	case <-timer.C:
		p.Signal(syscall.SIGQUIT) // it says where it hangs
		<-p.ended
		p.t.Fatalf("%s had not ended after %v", p.Name, limit)
	}
	var exit *osexec.ExitError
	if errors.As(p.err, &exit) {
		return exit.ExitCode()
	}
	if p.err != nil {
		p.t.Fatalf("wait for %s: %v", p.Name, p.err)
	}
	return 0
}

// Said is everything the process has written so far.
func (p *Process) Said() string {
	data, err := os.ReadFile(p.output)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		p.t.Error(err)
	}
	return string(data)
}

// Last is the last lines of that.
func (p *Process) Last(n int) string {
	lines := strings.Split(strings.TrimRight(p.Said(), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// AwaitSaid waits until the process has written a text.
func (p *Process) AwaitSaid(text string) {
	p.t.Helper()
	Await(p.t, func() string {
		if strings.Contains(p.Said(), text) {
			return ""
		}
		if !p.Running() {
			p.t.Fatalf("%s ended without saying %q: %v", p.Name, text, p.err)
		}
		return fmt.Sprintf("%s has not said %q", p.Name, text)
	})
}

// Await waits until missing returns "", and fails the test with what it returned
// last when that takes too long.
func Await(t testing.TB, missing func() string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var told time.Time
	for begun := time.Now(); ; {
		what := missing()
		if what == "" {
			return
		}
		if now := time.Now(); now.Sub(begun) > Patience/10 && now.Sub(told) > Patience/3 {
			t.Logf("%v: %s", now.Sub(begun).Round(time.Second), what)
			told = now
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("still after %v: %s", Patience, what)
		}
	}
}
