package shell

import (
	"bytes"
	"context"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/snapdb/snapdb/agent"
	"github.com/snapdb/snapdb/cmd/snapdb/format"
	"github.com/snapdb/snapdb/subjects"
)

// pressed interrupts at the first row it is given.
type pressed struct {
	bytes.Buffer
	interrupt func()
}

func (p *pressed) Write(b []byte) (int, error) {
	n, err := p.Buffer.Write(b)
	if strings.Count(p.String(), "\n") > 1 { // one is the head
		p.interrupt()
	}
	return n, err
}

// Who presses Ctrl-C is told what has become of the statement: neither more rows
// than were shown, nor that a time was up.
func TestInterruptTellsWhatHappened(t *testing.T) {
	t.Parallel()
	cl := newCluster(t)
	if _, err := cl.c.Exec(t.Context(), &subjects.Request{DB: "d", SQL: "CREATE TABLE t (a)"}); err != nil {
		t.Fatal(err)
	}
	t.Run("while rows come", func(t *testing.T) {
		sh, out := cl.open(cl.c, false)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		rows := &pressed{interrupt: cancel}
		sh.Stdout, sh.Timing = rows, true
		err := sh.execute(ctx, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n LIMIT 400000) SELECT i, hex(zeroblob(50)) FROM n")
		if err == nil {
			t.Fatal("it was not interrupted")
		}
		shown := strings.Count(rows.String(), "\n") - 1
		if want := "cancelled after " + strconv.Itoa(shown) + " rows"; err.Error() != want {
			t.Errorf("error %q, want %q", err, want)
		}
		if out.Len() > 0 {
			t.Errorf("it also says %q", out)
		}
	})
	t.Run("while a write waits for slaves", func(t *testing.T) {
		s, err := agent.StartSlave(t.Context(), agent.SlaveOptions{URL: cl.url, ID: "away", Dir: filepath.Join(t.TempDir(), "s"), Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		cl.await("the other slave has joined", func() bool {
			info, err := cl.c.Info(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return info.Online() == 2
		})
		if err := s.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		sh, _ := cl.open(cl.c, false)
		sh.Ack = subjects.Ack{Kind: subjects.AckAll}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ended := make(chan error, 1)
		go func() { ended <- sh.execute(ctx, "INSERT INTO t VALUES (1)") }()
		cl.await("the row is there", func() bool {
			resp, err := cl.c.QueryNode(t.Context(), "snap1", &subjects.Request{DB: "d", SQL: "SELECT count(*) FROM t"})
			if err != nil {
				t.Fatal(err)
			}
			return resp.Results[0].Rows[0][0].Int() == 1
		})
		cancel()
		err = <-ended
		if code(err) != subjects.CodeNotAcknowledged || !strings.Contains(err.Error(), "interrupted, but too late to undo the write: it is committed at position ") ||
			!strings.Contains(err.Error(), "applied by snap1, pending away") {
			t.Errorf("error %v", err)
		}
	})
	cl.assertEqual()
}

// The list of slaves fits a terminal of 80 columns as long as all are well.
func TestNodesFitATerminal(t *testing.T) {
	t.Parallel()
	cl := newCluster(t)
	sh, out := cl.open(cl.c, false)
	sh.Format = format.Table
	if err := sh.Dot(t.Context(), ".nodes"); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 5 || !strings.Contains(lines[1], "lag_ms") || !strings.Contains(lines[3], "online") {
		t.Errorf(".nodes shows\n%s", out)
	}
	for _, line := range lines {
		if format.Width(line) > 80 {
			t.Errorf("%d columns: %s", format.Width(line), line)
		}
	}
	cl.assertEqual()
}
