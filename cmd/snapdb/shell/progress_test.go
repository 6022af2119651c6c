package shell

import (
	"strings"
	"testing"
	"time"
)

func TestProgressTellsHowFarALongScriptHasCome(t *testing.T) {
	var out strings.Builder
	p := progress{w: &out, size: 200_000_000, start: time.Now()}
	p.show(1_000_000, 10)
	if out.Len() > 0 {
		t.Errorf("a script that has just begun shows %q", out.String())
	}
	p.start = p.start.Add(-10 * time.Second)
	p.show(50_000_000, 1000)
	if got := out.String(); !strings.HasPrefix(got, "\r50.0 MB of 200.0 MB · 25 % · 1000 statements · 100/s") {
		t.Errorf("shows %q", got)
	}
	shown := out.Len()
	p.show(51_000_000, 1001)
	if out.Len() != shown {
		t.Errorf("shows more at once: %q", out.String()[shown:])
	}
	p.clear()
	if rest := out.String()[shown:]; len(rest) < 50 || strings.Trim(rest, "\r ") != "" || !strings.HasSuffix(rest, " \r") {
		t.Errorf("clears with %q", rest)
	}
	p = progress{start: time.Now().Add(-time.Hour)}
	p.show(1, 1) // nowhere
	p.clear()
}
