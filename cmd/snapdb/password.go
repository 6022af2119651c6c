package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/snapdb/snapdb/agent/access"
	"github.com/snapdb/snapdb/agent/client"
	"github.com/snapdb/snapdb/subjects"
)

// minPassword is the length of the shortest password that is taken.
const minPassword = access.MinPassword

// secrets are passwords that somebody types, or that were there before.
type secrets struct {
	cmd    *cobra.Command
	tty    *os.File // where they are typed; nil: they are lines
	screen *term.Terminal
	lines  []string
}

// passwords finds out where passwords come from: a file, the environment, the terminal, or
// standard input.
func passwords(cmd *cobra.Command, file string) (*secrets, error) {
	s := &secrets{cmd: cmd}
	if file == "" {
		if password := os.Getenv(envPrefix + "PASSWORD"); password != "" {
			s.lines = []string{password}
			if next := os.Getenv(envPrefix + "NEW_PASSWORD"); next != "" {
				s.lines = append(s.lines, next)
			}
			return s, nil
		}
		if tty, ok := cmd.InOrStdin().(*os.File); ok && isTerminal(tty) && isTerminal(cmd.ErrOrStderr()) {
			s.tty = tty
			s.screen = term.NewTerminal(struct {
				io.Reader
				io.Writer
			}{tty, cmd.ErrOrStderr()}, "")
			return s, nil
		}
		file = "-"
	}
	text, err := readSecret(cmd.InOrStdin(), file)
	if err != nil {
		return nil, flagError(cmd, "password-file", err)
	}
	for line := range strings.Lines(text) {
		s.lines = append(s.lines, strings.TrimRight(line, "\r\n"))
	}
	return s, nil
}

// ask gets one password, which is not seen.
func (s *secrets) ask(what string) (string, error) {
	if s.tty == nil {
		if len(s.lines) == 0 {
			return "", usageError(fmt.Errorf("there is no %s: give it in the next line of the file or of standard input, or in SNAPDB_NEW_PASSWORD", what))
		}
		line := s.lines[0]
		s.lines = s.lines[1:]
		return line, nil
	}
	return s.typed(what)
}

// typed asks at the terminal. Nothing is seen of what is typed from before the question is.
func (s *secrets) typed(what string) (string, error) {
	fd := int(s.tty.Fd())
	before, err := term.MakeRaw(fd)
	if err != nil {
		return "", fmt.Errorf("ask for the %s: %w", what, err)
	}
	type answer struct {
		text string
		err  error
	}
	done := make(chan answer, 1)
	go func() { // ends with the process if nobody answers
		text, err := s.screen.ReadPassword(what + ": ")
		done <- answer{text, err}
	}()
	var got answer
	select {
	case got = <-done:
	case <-s.cmd.Context().Done():
		got.err = io.EOF
	}
	err = term.Restore(fd, before)
	if errors.Is(got.err, io.EOF) { // Ctrl-C and Ctrl-D are an end too
		fmt.Fprintln(s.cmd.ErrOrStderr())
		return "", errors.Join(errors.New("nothing was done"), err)
	}
	return got.text, errors.Join(got.err, err)
}

// askNew gets a new password: who types it does so twice.
func (s *secrets) askNew() (string, error) {
	for {
		password, err := s.ask("new password")
		if err != nil || s.tty == nil {
			return password, err
		}
		again, err := s.ask("the same again")
		if err != nil || again == password {
			return password, err
		}
		fmt.Fprintln(s.cmd.ErrOrStderr(), "these are two: once more")
	}
}

// change replaces a client's own password by a new one, which it returns. Who types may try
// until it is a good one.
func (s *secrets) change(cmd *cobra.Command, c *client.Client, old string) (string, error) {
	for {
		password, err := s.askNew()
		if err != nil {
			return "", err
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), answerPatience)
		err = c.ChangePassword(ctx, old, password)
		cancel()
		if s.tty == nil || wireCode(err) != subjects.CodeBadRequest {
			return password, err
		}
		fmt.Fprintln(cmd.ErrOrStderr(), err)
	}
}
