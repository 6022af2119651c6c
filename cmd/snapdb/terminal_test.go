//go:build unix

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	osexec "os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/snapdb/snapdb/agent"
	"github.com/snapdb/snapdb/subjects"
)

// Keys that a terminal sends.
const (
	ctrlC = "\x03"
	ctrlD = "\x04"
	ctrlR = "\x12"
	enter = "\r"
)

// screen is a snapdb on a terminal, and what is on that.
type screen struct {
	t    *testing.T
	cmd  *osexec.Cmd
	keys *os.File

	mu     sync.Mutex
	output string        // of the program, whole
	seen   int           // how much of it expect has passed
	more   chan struct{} // closed and made anew when output grows, nil at its end
}

// openScreen starts `snapdb sql` with its state in dir.
func openScreen(t *testing.T, dir, url string, args ...string) *screen {
	t.Helper()
	return openProgram(t, dir, url, append([]string{"sql"}, args...)...)
}

// openProgram starts any command with its state in dir.
func openProgram(t *testing.T, dir, url string, args ...string) *screen {
	t.Helper()
	s := &screen{t: t, cmd: osexec.Command("snapdb", args...), more: make(chan struct{})}
	s.cmd.Env = append(os.Environ(), "SNAPDB_SERVER="+url, "XDG_STATE_HOME="+dir, "XDG_CONFIG_HOME="+dir, "TERM=xterm")
	var err error
	if s.keys, err = pty.StartWithSize(s.cmd, &pty.Winsize{Rows: 50, Cols: 200}); err != nil {
		t.Fatal(err)
	}
	var reading sync.WaitGroup
	reading.Go(s.read)
	t.Cleanup(func() {
		if s.cmd.ProcessState == nil {
			_ = s.cmd.Process.Kill()
			_ = s.cmd.Wait()
		}
		reading.Wait()
		s.keys.Close()
	})
	return s
}

// openShell is openScreen, up to the first prompt.
func openShell(t *testing.T, dir, url string, args ...string) *screen {
	t.Helper()
	s := openScreen(t, dir, url, args...)
	s.expect("leaves")
	s.expect("> ")
	return s
}

// read collects the output until the terminal is closed.
func (s *screen) read() {
	buf := make([]byte, 4096)
	for {
		n, err := s.keys.Read(buf)
		s.mu.Lock()
		s.output += string(buf[:n])
		close(s.more)
		if err != nil {
			s.more = nil
			s.mu.Unlock()
			return
		}
		s.more = make(chan struct{})
		s.mu.Unlock()
	}
}

func (s *screen) press(keys string) {
	s.t.Helper()
	if _, err := s.keys.WriteString(keys); err != nil {
		s.t.Fatal(err)
	}
}

// expect waits until text appears behind what was expected last.
func (s *screen) expect(text string) {
	s.t.Helper()
	late := time.After(20 * time.Second)
	for {
		s.mu.Lock()
		at, more := strings.Index(s.output[s.seen:], text), s.more
		if at >= 0 {
			s.seen += at + len(text)
		}
		rest := s.output[s.seen:]
		s.mu.Unlock()
		if at >= 0 {
			return
		}
		if more == nil {
			s.t.Fatalf("the program ended without %q; since the last text expected:\n%s", text, rest)
		}
		select {
		case <-more:
		case <-late:
			s.t.Fatalf("no %q; since the last text expected:\n%s", text, rest)
		}
	}
}

// run types a line and waits for what it answers.
func (s *screen) run(line string, answers ...string) {
	s.t.Helper()
	s.press(line + enter)
	for _, a := range answers {
		s.expect(a)
	}
}

// ended waits for the program to end well.
func (s *screen) ended() {
	s.t.Helper()
	if err := s.cmd.Wait(); err != nil {
		s.t.Errorf("snapdb ended with %v; output:\n%s", err, s.output)
	}
}

// startCluster runs nodes for a test and stops them behind it.
func startCluster(t *testing.T, slaves int) (url string) {
	t.Helper()
	url, stop, err := startNodes(t.TempDir(), slaves)
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return url
}

// assertEqual is what every test of a cluster ends with.
func assertEqual(t *testing.T, url string) {
	t.Helper()
	if out, err := osexec.Command("snapdb", "db", "verify", "--server", url).CombinedOutput(); err != nil {
		t.Errorf("db verify: %v\n%s", err, out)
	}
}

func TestTypedScript(t *testing.T) {
	t.Parallel()
	url := startCluster(t, 3)
	s := openShell(t, t.TempDir(), url)
	who := "applied by snap1 snap2 snap3 · "
	s.run("CREATE DATABASE SnapDB;", who, "(no database)> ")
	s.run("USE SnapDB;", "done · ", "SnapDB> ")
	s.run("CREATE TABLE Users (id INTEGER, name TEXT);", who)
	s.run("INSERT INTO Users VALUES (1, 'Alice');", "1 row · position ", who)
	s.run("SELECT * FROM Users;", "│  1 │ Alice │", "1 row · ")
	s.run("UPDATE Users SET name = 'Bob' WHERE id = 1;", "1 row · position ", who)
	s.run("SELECT name", "...> ")
	s.run("  FROM Users -- not; the end", "...> ")
	s.run("  WHERE name <> 'a;", "...> ")
	s.run("b';", "│ Bob  │", "SnapDB> ")
	s.run(".node snap2", "SnapDB@snap2> ")
	s.run("SELECT name FROM Users;", "│ Bob  │")
	s.run("DELETE FROM Users;", "error: ", "SnapDB@snap2> ")
	s.run(".node master", "SnapDB> ")
	s.run("BEGIN;", "SnapDB*> ")
	s.run("DELETE FROM Users WHERE id = 1;", "1 row · not committed yet")
	s.run("ROLLBACK;", "SnapDB> ")
	s.run("SELEC 1;", "error: near \"SELEC\": syntax error", "  SELEC 1", "  ^")
	s.run("SHOW SLAVES;", "│ snap3 │ online │")
	assertEqual(t, url)
	s.run("DROP DATABASE SnapDB;", who, "(no database)> ")
	s.run("exit")
	s.ended()
	assertEqual(t, url)
}

func TestInterruptHurtsOnlyTheRunningStatement(t *testing.T) {
	t.Parallel()
	url := startCluster(t, 1)
	s := openShell(t, t.TempDir(), url)
	s.run("CREATE DATABASE d; USE d; CREATE TABLE t (a);", "applied by snap1", "d> ")
	s.run("BEGIN;", "d*> ")
	s.run("INSERT INTO t VALUES (1);", "1 row · not committed yet")

	// Once something is executed the terminal is out of the editor's hands, and
	// Ctrl-C is a signal.
	const endless = "SELECT 'ready'; WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n) SELECT count(*) FROM n;"
	s.run(endless, "│ ready")
	s.press(ctrlC)
	s.expect("error: cancelled by the client")
	s.expect("d*> ") // the transaction is still there
	s.run("INSERT INTO t VALUES (2);", "1 row · not committed yet")
	s.run("COMMIT;", "position ", "d> ")

	s.run(".node snap1", "d@snap1> ")
	s.run(endless, "│ ready")
	s.press(ctrlC)
	s.expect("error: cancelled by the client")
	s.run(".node master", "d> ")

	s.press("SELECT 'given up" + ctrlC)
	s.expect("d> ")
	s.run("SELECT count(*) AS n FROM t;", "│ 2 │", "d> ")
	s.press(ctrlD)
	s.ended()
	assertEqual(t, url)
}

func TestForgettingAsksFirst(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	url, stop, err := startNodes(dir, 0)
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := agent.StartSlave(t.Context(), agent.SlaveOptions{URL: url, ID: "gone", Dir: filepath.Join(dir, "gone"), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(awaitSlaves(url, 1), s.Stop(t.Context())); err != nil {
		t.Fatal(err)
	}
	no := openProgram(t, t.TempDir(), url, "node", "forget", "gone")
	no.expect("really forget gone? [y/N] ")
	no.press(enter)
	no.expect("nothing was done")
	yes := openProgram(t, t.TempDir(), url, "node", "forget", "gone")
	yes.expect("[y/N] ")
	yes.press("y" + enter)
	yes.expect("gone is forgotten")
	yes.ended()
}

func TestHistoryIsKeptForItsOwnerOnly(t *testing.T) {
	t.Parallel()
	url := startCluster(t, 0)
	dir := t.TempDir()
	s := openShell(t, dir, url)
	s.run("CREATE DATABASE d;", "position ", "no slave has it yet · ", "> ")
	s.run("SELECT 'needle';", "error: no database selected", "> ")
	s.press(ctrlD)
	s.ended()

	s = openShell(t, dir, url, "--db", "d")
	s.press(ctrlR)
	s.expect("search: ")
	s.press("needl")
	s.expect("SELECT 'needle';")
	s.press(enter)
	s.expect("│ needle   │")
	s.run(".history", "CREATE DATABASE d;", "SELECT 'needle';")
	s.press(ctrlD)
	s.ended()

	info, err := os.Stat(filepath.Join(dir, "snapdb", "history"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != fs.FileMode(0o600) {
		t.Errorf("the history has mode %v, want 0600", info.Mode().Perm())
	}
}

func TestShellEndsOnSIGTERMAndRollsBack(t *testing.T) {
	t.Parallel()
	url := startCluster(t, 1)
	s := openShell(t, t.TempDir(), url)
	s.run("CREATE DATABASE d; USE d; CREATE TABLE t (a);", "applied by snap1", "d> ")
	s.run("BEGIN;", "d*> ")
	s.run("INSERT INTO t VALUES (1);", "1 row · not committed yet", "d*> ")
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.expect("note: the open transaction was rolled back")
	s.ended()

	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	out, err := osexec.CommandContext(ctx, "snapdb", "sql", "--server", url, "--db", "d", "--format", "line", "-c", "INSERT INTO t VALUES (2); SELECT count(*) AS n FROM t").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "n = 1") {
		t.Errorf("after the end of the shell: %v\n%s", err, out)
	}
	assertEqual(t, url)
}

func TestInterruptedScriptSaysWhatWasApplied(t *testing.T) {
	t.Parallel()
	url := startCluster(t, 1)
	s := openScreen(t, t.TempDir(), url, "-c", "CREATE DATABASE d; USE d; CREATE TABLE t (a); SELECT 'needle'",
		"-c", "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n) SELECT count(*) FROM n")
	s.expect("needle")
	s.press(ctrlC)
	s.expect("statements 1 to 4 were applied; nothing of statement 5 or after it was")
	var exit *osexec.ExitError
	if err := s.cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != exitFailed {
		t.Errorf("snapdb ended with %v, want exit code %d", err, exitFailed)
	}
	assertEqual(t, url)
}

func TestLongScriptStreamsInConstantMemory(t *testing.T) {
	t.Parallel()
	url := startCluster(t, 0)
	const statements, rows, size = 1000, 100, 50 << 20
	row := "(" + strings.Repeat("9", 18) + ", '" + strings.Repeat("x", size/statements/rows-26) + "')"
	statement := "INSERT INTO t VALUES " + strings.Repeat(row+",\n", rows-1) + row + ";\n"
	pipe := filepath.Join(t.TempDir(), "long.sql")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	s := openScreen(t, t.TempDir(), url, pipe)
	script, err := os.OpenFile(pipe, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer script.Close()
	if _, err := script.WriteString("CREATE DATABASE d; USE d; CREATE TABLE t (a, b);\n"); err != nil {
		t.Fatal(err)
	}
	for range statements {
		if _, err := script.WriteString(statement); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := script.WriteString("SELECT 'so far, so good';\n"); err != nil {
		t.Fatal(err)
	}
	s.expect(" MB · ") // how far it is
	s.expect("so far, so good")
	if used := peakMemory(t, s.cmd.Process.Pid); used > 80<<20 {
		t.Errorf("the program took %d MB for a script of %d MB", used>>20, size>>20)
	}
	if err := script.Close(); err != nil {
		t.Fatal(err)
	}
	s.expect(fmt.Sprintf("%d statements · %d rows · position ", statements+4, statements*rows))
	s.ended()
}

// peakMemory is the most that a process has had in memory, in bytes. What the
// system tells after its end is also that of the parent it was forked from.
func peakMemory(t *testing.T, pid int) int64 {
	t.Helper()
	if runtime.GOOS != "linux" {
		return 0 // not told
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	var kB int64
	if _, err := fmt.Sscan(rest, &kB); err != nil {
		t.Fatalf("VmHWM of %s: %v", status, err)
	}
	return kB << 10
}

func TestLogsAreFollowed(t *testing.T) {
	t.Parallel()
	url := startCluster(t, 2)
	snapdb := func(args ...string) {
		t.Helper()
		if out, err := osexec.Command("snapdb", append(args, "--server", url)...).CombinedOutput(); err != nil {
			t.Fatalf("snapdb %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	snapdb("sql", "-c", "CREATE DATABASE d")
	s := openProgram(t, t.TempDir(), url, "node", "logs", "snap1", "--follow")
	s.expect("INFO   joined")
	s.expect("\n")
	snapdb("node", "resync", "snap2", "--db", "d", "--yes")
	snapdb("node", "resync", "snap1", "--db", "d", "--yes")
	s.expect("snap1  ")
	s.expect("database=d")
	s.press(ctrlC)
	s.ended()
	if strings.Contains(s.output, "snap2  ") {
		t.Errorf("it also tells of another node:\n%s", s.output)
	}
	assertEqual(t, url)
}

// The list of nodes leaves out what a narrow terminal has no room for.
func TestNodesFitTheTerminal(t *testing.T) {
	t.Parallel()
	host := &subjects.HostFacts{Hostname: "kiosk"}
	info := &subjects.ClusterInfoResponse{Version: "0.1.0", OS: "linux", Cursor: 12, Host: host, Nodes: []subjects.NodeInfo{
		{ID: "snap1", State: subjects.StateOnline, Status: &subjects.StatusMessage{Cursor: 11, Version: "0.1.0", OS: "plan9", Host: host}}}}
	for width, want := range map[uint16]string{
		200: "NODE STATE LAG IN SYNC SEEN POSITION VERSION OS HOST LABELS REASON",
		80:  "NODE STATE LAG IN SYNC SEEN POSITION VERSION HOST LABELS REASON",
		72:  "NODE STATE LAG IN SYNC SEEN POSITION VERSION LABELS REASON",
		20:  "NODE STATE LAG IN SYNC SEEN VERSION LABELS REASON",
	} {
		screen, tty, err := pty.Open()
		if err != nil {
			t.Fatal(err)
		}
		defer screen.Close()
		defer tty.Close()
		if err := pty.Setsize(tty, &pty.Winsize{Rows: 50, Cols: width}); err != nil {
			t.Fatal(err)
		}
		if err := printNodes(tty, info); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(screen)
		head, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(strings.Fields(head), " "); got != want {
			t.Errorf("%d columns: %s", width, got)
		}
		if len(head) > int(width)+2 && width > 20 {
			t.Errorf("%d columns: %q is too long", width, head)
		}
	}
	var out strings.Builder
	if err := printNodes(&out, info); err != nil || !strings.Contains(out.String(), "plan9  kiosk") || !strings.Contains(out.String(), "  11 ") {
		t.Errorf("no terminal: %v\n%s", err, &out)
	}
}
