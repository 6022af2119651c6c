package shell

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/chzyer/readline"
)

// maxHistory is how many lines of history are kept.
const maxHistory = 2000

// Terminal is the [Editor] for a real terminal: editing, history kept in a file,
// Ctrl-R to search it.
type Terminal struct {
	rl    *readline.Instance
	stdin io.Closer
	file  *os.File // nil: the history is not kept
	lines []string
}

// OpenTerminal edits lines on the terminal of this process. history is the file to
// keep what was typed in, readable by its owner only; "" keeps nothing. A history
// that cannot be kept is no reason not to work: it is reported in the error, next
// to a Terminal that works without.
func OpenTerminal(history string) (*Terminal, error) {
	stdin := readline.NewCancelableStdin(os.Stdin)
	rl, err := readline.NewEx(&readline.Config{
		Stdin:                  stdin,
		HistoryLimit:           maxHistory,
		DisableAutoSaveHistory: true,
		HistorySearchFold:      true,
		InterruptPrompt:        "^C",
		EOFPrompt:              " ",
	})
	if err != nil {
		return nil, fmt.Errorf("open terminal: %w", err)
	}
	t := &Terminal{rl: rl, stdin: stdin}
	if history == "" {
		return t, nil
	}
	return t, t.load(history)
}

// ReadLine lets the user edit one line.
func (t *Terminal) ReadLine(prompt string) (string, error) {
	t.rl.SetPrompt(prompt)
	line, err := t.rl.Readline()
	switch {
	case errors.Is(err, readline.ErrInterrupt):
		return "", ErrInterrupt
	case errors.Is(err, io.EOF):
		return "", io.EOF
	case err != nil:
		return "", err
	}
	t.remember(line)
	return line, nil
}

// History is what was typed before, oldest first.
func (t *Terminal) History() []string { return slices.Clone(t.lines) }

// Close gives the terminal back as it was. A ReadLine that is waiting returns
// io.EOF.
func (t *Terminal) Close() error {
	// The library closes only its own wrapping of this one, and would then wait
	// for the next key.
	err := errors.Join(t.stdin.Close(), t.rl.Close())
	if t.file != nil {
		err = errors.Join(err, t.file.Close())
	}
	return err
}

func (t *Terminal) remember(line string) {
	if strings.TrimSpace(line) == "" || len(t.lines) > 0 && t.lines[len(t.lines)-1] == line {
		return
	}
	t.lines = append(t.lines, line)
	_ = t.rl.SaveHistory(line) // kept in memory only: it has no way to fail
	if t.file != nil {
		if _, err := t.file.WriteString(line + "\n"); err != nil {
			t.file.Close()
			t.file = nil // no history is better than no shell
		}
	}
}

// load reads the history and opens its file to be added to.
func (t *Terminal) load(name string) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return fmt.Errorf("keep history: %w", err)
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("keep history: %w", err)
	}
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 1<<20)
	all := 0
	for ; sc.Scan(); all++ {
		t.lines = append(t.lines, sc.Text())
	}
	t.lines = t.lines[max(0, len(t.lines)-maxHistory):]
	if err := errors.Join(sc.Err(), f.Chmod(0o600)); err != nil {
		f.Close()
		return fmt.Errorf("keep history: %w", err)
	}
	if all > 2*maxHistory {
		if err := shorten(f, t.lines); err != nil {
			f.Close()
			return fmt.Errorf("shorten history: %w", err)
		}
	}
	for _, line := range t.lines {
		_ = t.rl.SaveHistory(line) // kept in memory only: it has no way to fail
	}
	t.file = f
	return nil
}

func shorten(f *os.File, lines []string) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteString(strings.Join(lines, "\n") + "\n")
	return err
}
