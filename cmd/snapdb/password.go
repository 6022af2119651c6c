package main

import (
	"context"
	"errors"
	"fmt"
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
	cmd   *cobra.Command
	tty   *os.File // where they are typed; nil: they are lines
	lines []string
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
	before, err := term.GetState(int(s.tty.Fd()))
	if err != nil {
		return "", fmt.Errorf("ask for the %s: %w", what, err)
	}
	fmt.Fprintf(s.cmd.ErrOrStderr(), "%s: ", what)
	type typed struct {
		text []byte
		err  error
	}
	done := make(chan typed, 1)
	go func() { // ends with the process if nobody answers
		text, err := term.ReadPassword(int(s.tty.Fd()))
		done <- typed{text, err}
	}()
	select {
	case got := <-done:
		fmt.Fprintln(s.cmd.ErrOrStderr())
		if got.err != nil {
			return "", fmt.Errorf("ask for the %s: %w", what, got.err)
		}
		return string(got.text), nil
	case <-s.cmd.Context().Done():
		fmt.Fprintln(s.cmd.ErrOrStderr())
		return "", errors.Join(errors.New("nothing was done"), term.Restore(int(s.tty.Fd()), before))
	}
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
