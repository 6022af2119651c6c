package shell

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// ErrInterrupt is what an [Editor] returns when the line was given up by Ctrl-C.
var ErrInterrupt = errors.New("interrupted")

// Editor reads lines from a person. ReadLine returns io.EOF at the end of the
// input and ErrInterrupt for Ctrl-C.
type Editor interface {
	ReadLine(prompt string) (string, error)
	// History is what was typed before, oldest first.
	History() []string
}

// Interactive executes what a person types until the end of the input, .quit or
// the end of ctx. A value of interrupts cancels the statement that is running. A
// failed statement is shown and does not end the shell.
func (s *Shell) Interactive(ctx context.Context, ed Editor, interrupts <-chan os.Signal) error {
	s.history = ed.History
	var text string
	for ctx.Err() == nil {
		line, err := ed.ReadLine(s.prompt(text != ""))
		switch {
		case errors.Is(err, ErrInterrupt):
			text = ""
			continue
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read line: %w", err)
		}
		if text == "" {
			if line = strings.TrimSpace(line); line == "" {
				continue
			}
			line = bareWord(line)
		}
		if text == "" && line[0] == '.' {
			if s.guarded(ctx, interrupts, func(ctx context.Context) error { return s.Dot(ctx, line) }) {
				return nil
			}
			continue
		}
		if text += line + "\n"; !Complete(text) {
			continue
		}
		quit := s.guarded(ctx, interrupts, func(ctx context.Context) error { return s.typed(ctx, text) })
		if text = ""; quit {
			return nil
		}
	}
	return nil
}

// bareWord lets people leave and ask for help the way they know from elsewhere.
func bareWord(line string) string {
	switch word := strings.ToLower(strings.TrimRight(line, "; ")); word {
	case "quit", "exit", "help":
		return "." + word
	}
	return line
}

// typed executes the statements of a complete input, to the first that fails.
func (s *Shell) typed(ctx context.Context, text string) error {
	in := NewSplitter(strings.NewReader(text))
	for {
		st, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if st.Dot {
			err = s.Dot(ctx, st.SQL)
		} else {
			err = s.execute(ctx, st.SQL)
		}
		if errors.Is(err, ErrQuit) {
			return err
		}
		if err != nil {
			return errors.New(describe(err, st.SQL))
		}
	}
}

// guarded runs fn with a context that an interrupt cancels, and shows its error.
// quit is true for ErrQuit.
func (s *Shell) guarded(ctx context.Context, interrupts <-chan os.Signal, fn func(context.Context) error) (quit bool) {
	select {
	case <-interrupts: // of a time when nothing was running
	default:
	}
	ctx, cancel := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-interrupts:
			cancel()
		case <-ctx.Done():
		}
	}()
	err := fn(ctx)
	cancel()
	<-watched
	if errors.Is(err, ErrQuit) {
		return true
	}
	if err != nil {
		fmt.Fprintln(s.Stderr, "error: "+err.Error())
	}
	return false
}

// prompt is the database, whether a transaction is open, and where from it reads;
// or the sign that a statement goes on.
func (s *Shell) prompt(more bool) string {
	name := s.Session.DB()
	if name == "" {
		name = "(no database)"
	}
	if s.Node != "" {
		name += "@" + s.Node
	}
	if s.Session.InTx() {
		name += "*"
	}
	if more {
		return fmt.Sprintf("%*s> ", max(len(name), 3), "...")
	}
	return name + "> "
}
