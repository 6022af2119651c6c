package main

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/snapdb/snapdb/agent/client"
	"github.com/snapdb/snapdb/subjects"
)

// A measurement leaves no database behind, whether it ends by itself, by Ctrl-C, or
// by an error.
func TestBenchCleansUp(t *testing.T) {
	t.Parallel()
	url, stop, err := startNodes(t.TempDir(), 1)
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.Connect(t.Context(), url, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	databases := func() string {
		resp, err := c.Query(context.Background(), &subjects.Request{SQL: "SHOW DATABASES"})
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, row := range resp.Results[0].Rows {
			names = append(names, string(row[0].Bytes()))
		}
		return strings.Join(names, " ")
	}
	bench := func(ctx context.Context, args ...string) (code int, stdout, stderr string) {
		var out, errs bytes.Buffer
		code = run(ctx, append([]string{"bench", "--server", url, "--clients", "2"}, args...), strings.NewReader(""), &out, &errs)
		return code, out.String(), errs.String()
	}

	code, stdout, stderr := bench(t.Context(), "--duration", "50ms", "--json")
	var report map[string]any
	if err := json.Unmarshal([]byte(stdout), &report); err != nil || code != exitDone || report["ops_per_s"] == 0.0 || !strings.HasPrefix(stdout, "{\n  \"") {
		t.Errorf("exit code %d, %s%s", code, stdout, stderr)
	}
	if got := databases(); got != "" {
		t.Errorf("after its end: %s", got)
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan string)
	go func() {
		code, stdout, stderr := bench(ctx, "--duration", "10m")
		if code != exitFailed {
			t.Errorf("exit code %d", code)
		}
		ended <- stdout + stderr
	}()
	rows := func() int64 { // 10,000 are there from the start
		resp, err := c.Query(context.Background(), &subjects.Request{DB: "snapdbench", SQL: "SELECT count(*) FROM t"})
		if err != nil {
			return 0
		}
		return resp.Results[0].Rows[0][0].Int()
	}
	for deadline := time.Now().Add(20 * time.Second); rows() <= 10_000; {
		if time.Now().After(deadline) {
			t.Fatal("no row is written")
		}
	}
	cancel()
	if said := <-ended; !strings.HasPrefix(said, "PARTIAL: interrupted after ") || !strings.Contains(said, " operations/s") || strings.Contains(said, "0 operations/s · 0 rows") ||
		!strings.HasSuffix(said, "snapdb: interrupted: the result is a partial one\n") {
		t.Errorf("interrupted it says:\n%s", said)
	}
	if got := databases(); got != "" {
		t.Errorf("after Ctrl-C: %s", got)
	}

	if code, _, stderr := bench(t.Context(), "--node", "snap1"); code != exitUsage || !strings.Contains(stderr, "snapdb: --node: is where the workloads get and mixed read; insert only writes") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
	if code, _, stderr := bench(t.Context(), "--connections", "3"); code != exitUsage || !strings.Contains(stderr, "snapdb: --connections: must be") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
}
