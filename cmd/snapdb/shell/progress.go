package shell

import (
	"fmt"
	"io"
	"strings"
	"time"
)

const (
	progressAfter = time.Second            // shorter scripts show none
	progressEvery = 200 * time.Millisecond //
)

// progress is one line of a terminal that is written over again and again.
type progress struct {
	w     io.Writer // nil: show nothing
	size  int64     // bytes of the script, 0 if unknown
	start time.Time
	last  time.Time
	width int // of what is on the line now
}

func (p *progress) show(read int64, statements int) {
	now := time.Now()
	if p.w == nil || now.Sub(p.start) < progressAfter || now.Sub(p.last) < progressEvery {
		return
	}
	p.last = now
	text := megabytes(read)
	if p.size > 0 {
		text += fmt.Sprintf(" of %s · %d %%", megabytes(p.size), 100*read/p.size)
	}
	text += fmt.Sprintf(" · %d statements · %.0f/s", statements, float64(statements)/now.Sub(p.start).Seconds())
	pad := max(0, p.width-len(text))
	p.width = len(text)
	fmt.Fprint(p.w, "\r"+text+strings.Repeat(" ", pad))
}

// clear empties the line, so that something else can be written there.
func (p *progress) clear() {
	if p.w != nil && p.width > 0 {
		fmt.Fprint(p.w, "\r"+strings.Repeat(" ", p.width)+"\r")
		p.width = 0
	}
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }
