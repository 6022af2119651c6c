package dashboard

import (
	"encoding/json"
	"errors"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/snapdb/snapdb/subjects"
)

// Whatever a browser sends, what is taken is a wish that makes sense, and the reason
// for what is not fits the frame that closes the connection.
func FuzzWatchMessage(f *testing.F) {
	for _, s := range []string{
		"", "x", "null", "{}", `{"type":"watch"}`, `{"type":"watch","topics":["cluster","logs"],"node":"snap1","after":12}`,
		`{"type":"watch","topics":["secrets"]}`, `{"type":"watch","node":"../x"}`, `{"type":"watch","after":-1}`, `{"type":"watch","node":"master"}{}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := decodeWatch(data)
		if err != nil {
			if words := reason(err); words == "" || len(words) > 120 || !utf8.ValidString(words) {
				t.Errorf("the reason cannot be sent: %q", words)
			}
			return
		}
		for _, topic := range m.Topics {
			if topic != topicCluster && topic != topicCommands && topic != topicLogs && topic != topicSamples {
				t.Errorf("topic %q was taken", topic)
			}
		}
		if m.Node != "" && m.Node != subjects.MasterID && subjects.CheckNodeID(m.Node) != nil {
			t.Errorf("node %q was taken", m.Node)
		}
	})
}

// Whatever is published as a log line becomes a line that can be sent, of a bounded
// size.
func FuzzLogLine(f *testing.F) {
	for _, s := range []string{"", "plain words", "\xff\x00", "null", "[]", `{"time":"x","level":3,"msg":null}`, `{"time":"2026-01-02T03:04:05Z","level":"WARN","msg":"m","a":{"b":[1]}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		l := readLine("snap1", data, time.Now())
		out, err := json.Marshal(l)
		if err != nil {
			t.Fatalf("%q cannot be sent: %v", data, err)
		}
		if most := 6*maxLine + 1024; len(out) > most {
			t.Errorf("%d bytes became %d, more than %d", len(data), len(out), most)
		}
	})
}

// A browser that was away for long goes on with what is kept, and is told how much it
// has missed.
func TestABrowserThatWasSlowIsToldWhatItMissed(t *testing.T) {
	s := &Server{logs: newLogRing()}
	s.hub = &hub{s: s}
	v := &viewer{who: &visitor{open: true}, hub: s.hub, asks: &watchMessage{Topics: []topic{topicLogs}}}
	say := func(lines int) {
		for range lines {
			s.logs.add(readLine("snap1", []byte(`{"msg":"m"}`), time.Now()))
		}
	}
	take := func() (lines, skipped int) {
		for data, err := range v.frames(t.Context()) {
			var m struct {
				Lines   []logLine
				Skipped int
			}
			if err := errors.Join(err, json.Unmarshal(data, &m)); err != nil {
				t.Fatal(err)
			}
			lines, skipped = lines+len(m.Lines), skipped+m.Skipped
		}
		return lines, skipped
	}
	for _, c := range []struct{ said, lines, skipped int }{{10, 10, 0}, {keptLines + 700, keptLines, 700}, {0, 0, 0}, {1, 1, 0}} {
		say(c.said)
		if lines, skipped := take(); lines != c.lines || skipped != c.skipped {
			t.Errorf("after %d lines: got %d and missed %d, want %d and %d", c.said, lines, skipped, c.lines, c.skipped)
		}
	}
}

// What was read before and comes again is one line; what has the same words later is
// another.
func TestEarlyLineIsHadOnce(t *testing.T) {
	t.Parallel()
	e, now := newEarlyLines(), time.Now()
	e.again["node.snap1.log x"], e.until = 1, now.Add(earlyAgain)
	for i, want := range []bool{true, false} {
		if got := e.had("node.snap1.log", []byte("x"), now); got != want {
			t.Errorf("time %d: %v, want %v", i+1, got, want)
		}
	}
	e.again["node.snap1.log y"] = 1
	if e.had("node.snap1.log", []byte("y"), now.Add(2*earlyAgain)) {
		t.Error("a later line with the same words is lost")
	}
}
