package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/snapdb/snapdb/agent/audit"
)

// runAudit is `snapdb audit args...`.
func runAudit(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), append([]string{"audit"}, args...), strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

func TestAuditShowsAndProvesWhatTheMasterHasRecorded(t *testing.T) {
	data := t.TempDir()
	dir := filepath.Join(data, "audit")
	now := time.Now().Add(-48 * time.Hour)
	l, err := audit.Open(dir, audit.Options{Cluster: "c1", Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	for _, ev := range []audit.Event{
		{Who: "alice", From: "10.0.0.7", Action: "login", Target: "panel", Outcome: audit.OK},
		{Who: "bob\x1b[31m", Action: "user.add", Target: "mallory", Outcome: audit.Denied, Code: "not_allowed", Detail: strings.Repeat("long ", 60)},
		{Who: "alice#t1", Action: "user.remove", Target: "bob", Outcome: audit.OK},
	} {
		if err := l.Append(ev); err != nil {
			t.Fatal(err)
		}
		now = time.Now()
	}
	defer l.Close() // a master may be running

	code, stdout, stderr := runAudit(t, "--data", data)
	lines := strings.Split(strings.TrimSuffix(stdout, "\n"), "\n")
	if code != exitDone || stderr != "" || len(lines) != 5 || !strings.HasPrefix(lines[0], "N  TIME ") || !strings.HasPrefix(lines[1], "4 ") || !strings.Contains(lines[4], "audit.begin  c1") {
		t.Errorf("code %d, %s\n%s", code, stderr, stdout)
	}
	if !strings.Contains(lines[2], `bob\x1b[31m`) || !strings.Contains(lines[2], "denied (not_allowed)") || !strings.HasSuffix(lines[2], "… (--json shows all)") {
		t.Errorf("the denied one: %q", lines[2])
	}
	for _, c := range []struct {
		args string
		want []uint64
	}{
		{"--who alice", []uint64{4, 2}}, {"--action user.", []uint64{4, 3}}, {"--target panel", []uint64{2}}, {"--outcome denied", []uint64{3}},
		{"--since 24h", []uint64{4, 3}}, {"--since 2020-01-01 --limit 1", []uint64{4}}, {"--who nobody", nil},
	} {
		code, stdout, stderr := runAudit(t, append(strings.Fields(c.args), "--dir", dir, "--json")...)
		var got struct {
			Entries []audit.Entry
			Damaged *int
		}
		if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != exitDone || got.Entries == nil || got.Damaged == nil {
			t.Errorf("%s: code %d, %v, %s\n%s", c.args, code, err, stderr, stdout)
		}
		var n []uint64
		for _, e := range got.Entries {
			n = append(n, e.N)
		}
		if fmt.Sprint(n) != fmt.Sprint(c.want) {
			t.Errorf("%s: %v, want %v", c.args, n, c.want)
		}
	}

	r, err := l.Verify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr = runAudit(t, "--data", data, "--verify")
	if code != exitDone || !strings.Contains(stdout, "entries: 4, all as they were written\n") || !strings.Contains(stdout, "hash "+r.Last.Hash+"\n") {
		t.Errorf("verify: code %d, %s\n%s", code, stderr, stdout)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(files[0], bytes.Replace(text, []byte("mallory"), []byte("grandma"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr = runAudit(t, "--data", data, "--verify", "--json")
	var report audit.Report
	if err := json.Unmarshal([]byte(stdout), &report); err != nil || code != exitFailed || report.Bad == nil || report.Bad.N != 3 || !strings.Contains(stderr, "broken at entry 3 ("+filepath.Base(files[0])+", line 3)") {
		t.Errorf("verify of a changed log: code %d, %v, %s\n%s", code, err, stderr, stdout)
	}
	if code, stdout, stderr = runAudit(t, "--data", data); code != exitFailed || strings.Count(stdout, "\n") != 4 || !strings.Contains(stderr, "1 line of the audit log cannot be read: snapdb audit --verify") {
		t.Errorf("what is left of it: code %d, %s\n%s", code, stderr, stdout)
	}
}

func TestAuditSaysWhatIsWrongWithTheQuestion(t *testing.T) {
	empty := t.TempDir()
	for args, want := range map[string]struct {
		code int
		text string
	}{
		"--data " + empty:              {exitFailed, "there is no audit log in " + filepath.Join(empty, "audit") + ": --data names"},
		"--verify --data " + empty:     {exitFailed, "there is no audit log in "},
		"--outcome great":              {exitUsage, "--outcome: must be ok, denied or failed"},
		"--since yesterday":            {exitUsage, `--since: "yesterday" is no time`},
		"--limit 0":                    {exitUsage, "--limit: must be positive"},
		"--dir " + empty + " nonsense": {exitUsage, "takes no argument"},
	} {
		code, stdout, stderr := runAudit(t, strings.Fields(args)...)
		if code != want.code || stdout != "" || !strings.Contains(stderr, want.text) {
			t.Errorf("%s: code %d, %s\n%s", args, code, stderr, stdout)
		}
	}
}

func TestAMomentOfThePastIsReadAsPeopleWriteIt(t *testing.T) {
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"":                     {},
		"2h":                   now.Add(-2 * time.Hour),
		"-2h":                  now.Add(-2 * time.Hour),
		"11:00":                now.Add(-time.Hour),
		"13:00":                now.Add(-23 * time.Hour),
		"2026-11-01":           time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC),
		"2026-11-01T10:00":     time.Date(2026, 11, 1, 10, 0, 0, 0, time.UTC),
		"2026-11-01T10:00:00Z": time.Date(2026, 11, 1, 10, 0, 0, 0, time.UTC),
	} {
		if got, err := pastMoment(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%q is %v, %v, want %v", text, got, err, want)
		}
	}
}
