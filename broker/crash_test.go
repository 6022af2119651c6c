package broker_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	osexec "os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/snapdb/snapdb/broker"
	"github.com/snapdb/snapdb/subjects"
)

// Environment of this test binary when it runs as the process that is killed.
const (
	envDir   = "SNAPDB_TEST_BROKER_DIR"
	envCount = "SNAPDB_TEST_BROKER_COUNT"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(envDir); dir != "" {
		if err := appendForever(dir, os.Getenv(envCount)); err != nil {
			slog.Error("writer failed", "error", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// appendForever appends messages, or a number of them, and writes a line for each
// that the log has acknowledged: its position and id.
func appendForever(dir, count string) error {
	ctx := context.Background()
	b, err := broker.Start(ctx, config(dir))
	if err != nil {
		return err
	}
	defer b.Close()
	nc, err := b.Connect("writer")
	if err != nil {
		return err
	}
	defer nc.Close()
	log, err := b.OpenLog(nc)
	if err != nil {
		return err
	}
	last, err := log.LastEpoch(ctx)
	if err != nil {
		return err
	}
	term, err := log.Claim(ctx, last.Position, "writer", nil, subjects.Signature{})
	if err != nil {
		return err
	}
	most, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	for i := 0; i < most; i++ {
		id := fmt.Sprintf("%d-%d", term, i)
		position, err := log.Append(ctx, subjects.Header{DB: "d", Term: term, ID: id}, []byte(id))
		if err != nil {
			return err
		}
		fmt.Println(position, id)
	}
	return nil
}

// writer is the command that runs this binary as a process of its own that
// appends to the log in a directory.
func writer(t *testing.T, dir string, count int, before ...string) *osexec.Cmd {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args := append(before, self)
	cmd := osexec.CommandContext(testContext(t), args[0], args[1:]...)
	cmd.Env = append(os.Environ(), envDir+"="+dir, envCount+"="+strconv.Itoa(count))
	cmd.Stderr = os.Stderr
	return cmd
}

func TestAcknowledgedMessagesSurviveKill(t *testing.T) {
	dir := t.TempDir()
	acked := map[uint64]string{}
	for round := range 5 {
		cmd := writer(t, dir, 1<<30)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		killed := false
		for n := 0; lines.Scan(); n++ { // to the last line it wrote
			var position uint64
			var id string
			if _, err := fmt.Sscan(lines.Text(), &position, &id); err != nil {
				t.Fatalf("%q: %v", lines.Text(), err)
			}
			if other, ok := acked[position]; ok {
				t.Fatalf("position %d was given to %s and to %s", position, other, id)
			}
			acked[position] = id
			if n == 37*(round+1) {
				killed = true
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := cmd.Wait(); !killed || err == nil {
			t.Fatalf("the writer ended by itself: %v", err)
		}
	}

	m := startWith(t, config(dir))
	stored := map[uint64]string{}
	if err := m.log.Read(testContext(t), 1, 1<<60, func(e broker.Entry) error {
		stored[e.Position] = e.Message.Header.ID
		if string(e.Message.Data) != e.Message.Header.ID {
			t.Errorf("position %d, id %s: body %q", e.Position, e.Message.Header.ID, e.Message.Data)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for position, id := range acked {
		if stored[position] != id {
			t.Errorf("position %d: %q is stored, %q was acknowledged", position, stored[position], id)
		}
	}
	// At most one message per round was under way when it ended.
	if more := len(stored) - len(acked); more > 5 {
		t.Errorf("%d messages are stored that were not acknowledged", more)
	}
	if len(acked) < 37*15 {
		t.Errorf("only %d messages were acknowledged", len(acked))
	}
}

// A message is on stable storage when it is acknowledged: what the server is told,
// and, where it can be watched, what it does.
func TestEveryMessageIsSynced(t *testing.T) {
	m := start(t)
	if !m.SyncsAlways() {
		t.Error("the server does not sync always")
	}
	info, err := plain(t, m.Broker).Request("$JS.API.STREAM.INFO."+subjects.LogStream, nil, testPatience)
	if err != nil || strings.Contains(string(info.Data), `"persist_mode"`) && !strings.Contains(string(info.Data), `"persist_mode":"default"`) {
		t.Errorf("the stream may answer before it syncs: %s, %v", answer(info), err)
	}

	strace, err := osexec.LookPath("strace")
	if err == nil {
		err = osexec.Command(strace, "-o", os.DevNull, "true").Run()
	}
	if err != nil {
		t.Logf("nothing here to watch a process with: %v", err)
		return
	}
	const messages = 100
	dir := t.TempDir()
	trace := filepath.Join(dir, "trace")
	if out, err := writer(t, filepath.Join(dir, "log"), messages, strace, "-f", "-y", "-e", "trace=fsync,fdatasync", "-o", trace).Output(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	calls, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	// -y shows the file: a block of the stream, not its description.
	if n := len(regexp.MustCompile(`(?m)sync\(\d+<[^>]*\.blk>`).FindAll(calls, -1)); n < messages {
		t.Errorf("%d messages, %d syncs of the log's blocks", messages, n)
	}
}
