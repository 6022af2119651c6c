//go:build linux

package cluster_test

import (
	"bytes"
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
const patience = 30 * time.Second

// stopWithin is how long a process may take to end when it is asked to.
const stopWithin = 10 * time.Second

// node is one process of the program, and what it has said so far.
type node struct {
	t    testing.TB
	name string
	args []string
	env  []string // beside the test's own
	by   []string // a command that runs the program; none: it is run itself
	dir  string   // data directory, "" for none

	output string // file with everything it has written, over all its lives
	cmd    *osexec.Cmd
	ended  chan struct{} // closed when the process has ended
	err    error         // how it ended; read after ended
}

// newNode prepares a process. It is killed at the end of the test, whatever
// happens, and if the test has failed, its last words are shown.
func newNode(t testing.TB, name, dir string, args ...string) *node {
	t.Helper()
	n := &node{t: t, name: name, dir: dir, args: args, output: filepath.Join(t.TempDir(), name+".log")}
	t.Cleanup(func() {
		if n.running() {
			n.kill()
		}
		for _, word := range []string{"DATA RACE", "panic: ", "fatal error: "} {
			if strings.Contains(n.said(), word) {
				t.Errorf("%s said %q", n.name, word)
			}
		}
		if t.Failed() {
			t.Logf("%s said last:\n%s", name, lastLines(n.said(), 40))
		}
	})
	return n
}

// start runs the process.
func (n *node) start() {
	n.t.Helper()
	if n.running() {
		n.t.Fatalf("%s runs already", n.name)
	}
	out, err := os.OpenFile(n.output, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		n.t.Fatal(err)
	}
	defer out.Close() // the process has its own
	command := append(append(slices.Clone(n.by), program(n.t)), n.args...)
	n.cmd = osexec.Command(command[0], command[1:]...)
	n.cmd.Stdout, n.cmd.Stderr = out, out
	n.cmd.Env = append(os.Environ(), n.env...)
	// It must not outlive a test run that is itself killed.
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := n.cmd.Start(); err != nil {
		n.t.Fatalf("start %s: %v", n.name, err)
	}
	cmd, ended := n.cmd, make(chan struct{})
	n.ended = ended
	go func() {
		n.err = cmd.Wait()
		close(ended)
	}()
}

func (n *node) running() bool {
	if n.cmd == nil {
		return false
	}
	select {
	case <-n.ended:
		return false
	default:
		return true
	}
}

// signal sends a signal to the running process.
func (n *node) signal(s syscall.Signal) {
	n.t.Helper()
	if err := n.cmd.Process.Signal(s); err != nil {
		n.t.Errorf("signal %v to %s: %v", s, n.name, err)
	}
}

// kill ends the process as a power cut would, as far as the process can tell.
func (n *node) kill() {
	n.t.Helper()
	n.signal(syscall.SIGKILL)
	<-n.ended
}

// wipe removes the data of a node that does not run.
func (n *node) wipe() {
	n.t.Helper()
	entries, err := os.ReadDir(n.dir)
	if err != nil {
		n.t.Fatal(err)
	}
	for _, e := range entries { // the directory may be a disk of its own
		if err := os.RemoveAll(filepath.Join(n.dir, e.Name())); err != nil {
			n.t.Fatal(err)
		}
	}
}

// freeze stops the process from doing anything until thaw.
//
// A signal that stops a process reaches its threads one after another; until the
// last has stopped, the process may still answer.
func (n *node) freeze() {
	n.t.Helper()
	n.signal(syscall.SIGSTOP)
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_PID, n.cmd.Process.Pid, &info, unix.WSTOPPED|unix.WNOWAIT, nil); err != nil {
		n.t.Errorf("wait for %s to stop: %v", n.name, err)
	}
}
func (n *node) thaw() { n.t.Helper(); n.signal(syscall.SIGCONT) }

// stop asks the process to end, as Ctrl-C or a service manager does, and expects
// it to do so in order and soon.
func (n *node) stop(s syscall.Signal) {
	n.t.Helper()
	n.signal(s)
	if code := n.wait(stopWithin); code != 0 {
		n.t.Errorf("%s ended with exit code %d after %v", n.name, code, s)
	}
}

// wait waits for the process to end by itself and returns its exit code.
func (n *node) wait(limit time.Duration) int {
	n.t.Helper()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-n.ended:
	case <-timer.C:
		n.signal(syscall.SIGQUIT) // it says where it hangs
		<-n.ended
		n.t.Fatalf("%s had not ended after %v", n.name, limit)
	}
	var exit *osexec.ExitError
	if errors.As(n.err, &exit) {
		return exit.ExitCode()
	}
	if n.err != nil {
		n.t.Fatalf("wait for %s: %v", n.name, n.err)
	}
	return 0
}

// said is everything the process has written so far.
func (n *node) said() string {
	data, err := os.ReadFile(n.output)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		n.t.Error(err)
	}
	return string(data)
}

// awaitSaid waits until the process has written a text.
func (n *node) awaitSaid(text string) {
	n.t.Helper()
	await(n.t, func() string {
		if strings.Contains(n.said(), text) {
			return ""
		}
		if !n.running() {
			n.t.Fatalf("%s ended without saying %q: %v", n.name, text, n.err)
		}
		return fmt.Sprintf("%s has not said %q", n.name, text)
	})
}

// await waits until missing returns "", and fails the test with what it returned
// last when that takes too long.
func await(t testing.TB, missing func() string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	var told time.Time
	for begun := time.Now(); ; {
		what := missing()
		if what == "" {
			return
		}
		if now := time.Now(); now.Sub(begun) > patience/10 && now.Sub(told) > patience/3 {
			t.Logf("%v: %s", now.Sub(begun).Round(time.Second), what)
			told = now
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("still after %v: %s", patience, what)
		}
	}
}

// runOnce runs the program to its end and returns exit code and output.
func runOnce(t testing.TB, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := osexec.CommandContext(ctx, program(t), args...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	var exit *osexec.ExitError
	switch {
	case ctx.Err() != nil:
		t.Fatalf("snapdb %s did not end within %v\n%s%s", strings.Join(args, " "), patience, out.String(), errOut.String())
	case errors.As(err, &exit):
		code = exit.ExitCode()
	case err != nil:
		t.Fatalf("run snapdb %s: %v", strings.Join(args, " "), err)
	}
	return code, out.String(), errOut.String()
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
