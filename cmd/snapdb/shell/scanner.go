package shell

import (
	"bytes"
	"strings"
)

// scanner finds the end of one statement. It can be stopped and resumed between
// any two bytes.
type scanner struct {
	mode    mode
	phase   phase
	skipped int // bytes of blanks and comments before the first word
	inside  int // lines ended in the last block comment
}

// mode is what the scanner is inside of.
type mode uint8

const (
	inCode    mode = iota
	inSingle       // '…'
	inDouble       // "…"
	inBack         // `…`
	inBracket      // […]
	inLine         // -- …
	inBlock        // /* … */
	inDot          // a dot command, to the end of its line; no SQL begins with a dot
)

// phase is how far a statement is towards being a trigger, whose body has ';' of
// its own.
type phase uint8

const (
	atStart   phase = iota
	inNormal        // any statement that ends at its first ';'
	inExplain       // EXPLAIN seen
	inCreate        // CREATE or CREATE TEMP seen
	inTrigger       // the head or body of a trigger
	afterSemi       // a ';' of a trigger
	afterEnd        // END behind a ';' of a trigger
)

// ending is how a statement ended.
type ending uint8

const (
	notYet ending = iota
	semiEnd
	dotEnd
)

func (s *scanner) started() bool { return s.phase != atStart || s.mode == inDot }

// next scans b and returns how much of it was used: up to the end of a statement,
// or all of it but a word or sign that may go on in the next chunk. eof says that
// there is none.
func (s *scanner) next(b []byte, eof bool) (n int, end ending) {
	for n < len(b) {
		used := 1
		switch s.mode {
		case inCode:
			used, end = s.code(b[n:], eof)
		case inSingle, inDouble, inBack, inBracket:
			if i := bytes.IndexByte(b[n:], closers[s.mode]); i >= 0 {
				used, s.mode = i+1, inCode
			} else {
				used = len(b) - n
			}
		case inLine:
			if b[n] == '\n' {
				s.mode = inCode
			}
		case inDot:
			if b[n] == '\n' {
				end = dotEnd
			}
		case inBlock:
			switch b[n] {
			case '\n':
				s.inside++
			case '*':
				if n+1 == len(b) && !eof {
					return n, notYet
				}
				if n+1 < len(b) && b[n+1] == '/' {
					s.mode, used = inCode, 2
				}
			}
		}
		if used == 0 {
			return n, notYet
		}
		n += used
		if !s.started() {
			s.skipped += used
		}
		if end != notYet {
			return n, end
		}
	}
	if s.mode == inDot && eof {
		return n, dotEnd
	}
	return n, notYet
}

var closers = [...]byte{inSingle: '\'', inDouble: '"', inBack: '`', inBracket: ']'}

// code scans one token. It returns 0 if the token may go on beyond b.
func (s *scanner) code(b []byte, eof bool) (used int, end ending) {
	c := b[0]
	switch {
	case c == ' ' || c == '\n' || c == '\t' || c == '\r' || c == '\f':
		return 1, notYet
	case c == '-' || c == '/':
		return s.comment(b, eof)
	case c == '.' && s.phase == atStart:
		s.mode = inDot
		return 1, notYet
	case c == ';':
		return 1, s.semicolon()
	case isWord(c):
		for used = 1; used < len(b) && isWord(b[used]); used++ {
		}
		if used == len(b) && !eof && used <= maxKeyword {
			return 0, notYet
		}
		s.word(b[:used])
		return used, notYet
	}
	switch c {
	case '\'':
		s.mode = inSingle
	case '"':
		s.mode = inDouble
	case '`':
		s.mode = inBack
	case '[':
		s.mode = inBracket
	}
	s.other()
	return 1, notYet
}

func (s *scanner) comment(b []byte, eof bool) (used int, end ending) {
	if len(b) == 1 && !eof {
		return 0, notYet
	}
	switch {
	case len(b) > 1 && b[0] == '-' && b[1] == '-':
		s.mode = inLine
		return 2, notYet
	case len(b) > 1 && b[0] == '/' && b[1] == '*':
		s.mode, s.inside = inBlock, 0
		return 2, notYet
	}
	s.other()
	return 1, notYet
}

func (s *scanner) semicolon() ending {
	switch s.phase {
	case inTrigger, afterSemi:
		s.phase = afterSemi
		return notYet
	case atStart:
		return notYet // an empty statement: to be skipped like a blank
	}
	return semiEnd
}

// maxKeyword is the longest word that matters here. A longer one may be scanned
// in pieces: none of its pieces is taken for a keyword unless it is the first,
// and that one is longer than any.
const maxKeyword = len("temporary")

func (s *scanner) word(w []byte) {
	if len(w) > maxKeyword {
		s.other()
		return
	}
	word := strings.ToLower(string(w))
	switch s.phase {
	case atStart, inExplain:
		switch {
		case word == "create":
			s.phase = inCreate
		case word == "explain" && s.phase == atStart:
			s.phase = inExplain
		case s.phase == inExplain && (word == "query" || word == "plan"):
		default:
			s.phase = inNormal
		}
	case inCreate:
		switch word {
		case "temp", "temporary":
		case "trigger":
			s.phase = inTrigger
		default:
			s.phase = inNormal
		}
	case afterSemi:
		if word == "end" {
			s.phase = afterEnd
		} else {
			s.phase = inTrigger
		}
	case afterEnd:
		s.phase = inTrigger
	}
}

// other is any token that is no keyword.
func (s *scanner) other() {
	switch s.phase {
	case afterSemi, afterEnd:
		s.phase = inTrigger
	case inTrigger:
	default:
		s.phase = inNormal
	}
}

// open says what is not closed at the end of the input, "" if nothing.
func (s *scanner) open() string {
	switch s.mode {
	case inSingle, inDouble, inBack:
		return "the quote " + string(closers[s.mode]) + " is not closed"
	case inBracket:
		return "the bracket [ is not closed"
	case inBlock:
		return "the comment /* is not closed"
	}
	switch s.phase {
	case inTrigger, afterSemi:
		return "the trigger has no END;"
	}
	return ""
}

func isWord(c byte) bool {
	return c == '_' || c == '$' || c >= 0x80 || '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z'
}
