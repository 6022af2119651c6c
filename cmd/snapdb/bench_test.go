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
	ended := make(chan int)
	go func() {
		code, _, _ := bench(ctx, "--duration", "10m")
		ended <- code
	}()
	for deadline := time.Now().Add(20 * time.Second); databases() == "" && time.Now().Before(deadline); {
	}
	if got := databases(); got != "snapdbench" {
		t.Fatalf("while it runs: %q", got)
	}
	cancel()
	if code := <-ended; code == exitDone {
		t.Error("an interrupted measurement counts as done")
	}
	if got := databases(); got != "" {
		t.Errorf("after Ctrl-C: %s", got)
	}

	if code, _, stderr := bench(t.Context(), "--connections", "3"); code != exitUsage || !strings.Contains(stderr, "snapdb: --connections: must be") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
}
