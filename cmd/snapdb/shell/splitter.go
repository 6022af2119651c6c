package shell

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Statement is one piece of a script.
type Statement struct {
	// SQL is the statement from its first word on, without the ';' that ends
	// it. For a dot command it is the line.
	SQL string
	// Dot says that this is a command to the shell.
	Dot bool
	// Line is where it begins, from 1. Number counts statements, from 1; a dot
	// command has none of its own.
	Line   int
	Number int
	// Ended is false for a last statement without ';'.
	Ended bool
}

// chunkSize is how much of a script is read at a time, in bytes.
const chunkSize = 256 << 10

// maxStatement is the longest statement that is read, in bytes. Longer ones could
// not be sent anyway.
const maxStatement = 8 << 20

// Splitter cuts a stream into statements where SQLite's own shell does: at a ';'
// outside of quotes ('…' "…" `…` […]) and comments, and for CREATE TRIGGER at
// the ';' that follows END. It holds one statement and one chunk.
type Splitter struct {
	r    io.Reader
	eof  bool
	err  error
	buf  []byte // from the beginning of the current statement
	at   int    // how far buf is scanned
	read int64

	scan   scanner
	line   int // of buf[0]
	number int
}

// byteOrderMark is what some editors begin a file with.
const byteOrderMark = "\ufeff"

// NewSplitter reads SQL from r.
func NewSplitter(r io.Reader) *Splitter { return &Splitter{r: r, line: 1} }

// BytesRead is how much of the stream was read so far.
func (s *Splitter) BytesRead() int64 { return s.read }

// TooLongError is a statement longer than one request can be.
type TooLongError struct{ Line int }

// Error says where it begins and what to do.
func (e *TooLongError) Error() string {
	return fmt.Sprintf("line %d: the statement that begins here is longer than %d MB, more than one request can carry: split it, for example into several INSERTs between BEGIN and COMMIT",
		e.Line, maxStatement>>20)
}

// UnclosedError is an end of input inside a quote, comment or trigger.
type UnclosedError struct {
	Line int
	What string
}

// Error says where the statement begins and what is open.
func (e *UnclosedError) Error() string {
	return fmt.Sprintf("line %d: the statement that begins here does not end: %s", e.Line, e.What)
}

// Next returns the next statement, io.EOF after the last. It reads from the
// stream only if no whole statement is buffered.
func (s *Splitter) Next() (Statement, error) {
	for {
		st, ok := s.Buffered()
		if ok {
			return st, nil
		}
		if s.err != nil {
			return Statement{}, s.err
		}
		if s.eof {
			return s.last()
		}
		s.fill()
	}
}

// Buffered returns the next statement if no reading is needed for it.
func (s *Splitter) Buffered() (Statement, bool) {
	if s.err != nil {
		return Statement{}, false
	}
	n, end := s.scan.next(s.buf[s.at:], s.eof)
	s.at += n
	switch {
	case s.at-s.scan.skipped > maxStatement:
		s.err = &TooLongError{Line: s.startLine()}
	case end != notYet:
		return s.cut(end), true
	}
	s.drop()
	return Statement{}, false
}

func (s *Splitter) fill() {
	start := len(s.buf)
	if cap(s.buf)-start < chunkSize {
		grown := make([]byte, start, 2*start+2*chunkSize)
		copy(grown, s.buf)
		s.buf = grown
	}
	least := 1
	if s.read == 0 {
		least = len(byteOrderMark)
	}
	n, err := io.ReadAtLeast(s.r, s.buf[start:start+chunkSize], least)
	if s.buf = s.buf[:start+n]; s.read == 0 {
		s.buf = bytes.TrimPrefix(s.buf, []byte(byteOrderMark))
	}
	s.read += int64(n)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		s.eof = true
	case err != nil:
		s.err = fmt.Errorf("read script: %w", err)
	}
}

// cut takes the statement that ends at s.at out of the buffer.
func (s *Splitter) cut(end ending) Statement {
	st := Statement{Line: s.startLine(), Number: s.number, Dot: end == dotEnd, Ended: true}
	text := s.buf[s.scan.skipped:s.at]
	if st.Dot {
		st.SQL = strings.TrimSpace(string(text))
	} else {
		s.number++
		st.Number = s.number
		st.SQL = strings.TrimSpace(string(text[:len(text)-1]))
	}
	s.line += bytes.Count(s.buf[:s.at], newline)
	s.buf = s.buf[s.at:]
	s.at, s.scan = 0, scanner{}
	return st
}

// last makes a statement of what follows the last ';'.
func (s *Splitter) last() (Statement, error) {
	if !s.scan.started() && s.scan.mode != inBlock {
		return Statement{}, io.EOF
	}
	line := s.startLine()
	if open := s.scan.open(); open != "" {
		if !s.scan.started() {
			line -= s.scan.inside // it is a comment, and the place is its end
		}
		s.buf, s.at, s.scan = nil, 0, scanner{}
		return Statement{}, &UnclosedError{Line: line, What: open}
	}
	s.number++
	st := Statement{SQL: strings.TrimSpace(string(s.buf[s.scan.skipped:])), Line: line, Number: s.number}
	s.buf, s.at, s.scan = nil, 0, scanner{}
	return st, nil
}

// drop forgets blanks and comments before a statement, so that they need no
// memory however long they are.
func (s *Splitter) drop() {
	if n := s.scan.skipped; n > 0 {
		s.line += bytes.Count(s.buf[:n], newline)
		s.buf = s.buf[:copy(s.buf, s.buf[n:])]
		s.at -= n
		s.scan.skipped = 0
	}
}

func (s *Splitter) startLine() int {
	return s.line + bytes.Count(s.buf[:s.scan.skipped], newline)
}

var newline = []byte("\n")

// Complete says whether text, typed line by line, is ready to be executed: it ends
// a statement, or holds nothing but blanks and comments.
func Complete(text string) bool {
	var sc scanner
	rest := []byte(text)
	for {
		n, end := sc.next(rest, true)
		rest = rest[n:]
		if end == notYet {
			return !sc.started() && sc.mode != inBlock
		}
		sc = scanner{}
	}
}
