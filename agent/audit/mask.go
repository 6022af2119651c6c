package audit

import "strings"

// maskSQL is SQL text without its values: literals are question marks, comments are
// gone. What is in double quotes counts as a value, because SQLite takes it for one when
// no column has that name. It need not be SQL, and may be cut anywhere.
func maskSQL(sql string) string {
	var b strings.Builder
	for i := 0; i < len(sql); {
		rest := sql[i:]
		n := 1
		switch c := sql[i]; {
		case c == '\'' || c == '"':
			n = quoted(rest, c)
			b.WriteByte('?')
		case c == '`':
			n = quoted(rest, c)
			b.WriteString(rest[:n])
		case c == '[':
			n = through(rest, "]")
			b.WriteString(rest[:n])
		case strings.HasPrefix(rest, "--"):
			n = through(rest, "\n")
			b.WriteByte(' ')
		case strings.HasPrefix(rest, "/*"):
			n = 2 + through(rest[2:], "*/")
			b.WriteByte(' ')
		case isDigit(c) || c == '.' && len(rest) > 1 && isDigit(rest[1]):
			n = number(rest)
			b.WriteByte('?')
		case isWord(c) || c == '?' || c == ':' || c == '@': // a name, or a parameter
			n = 1 + word(rest[1:])
			if (c == 'x' || c == 'X') && n == 1 && strings.HasPrefix(rest[1:], "'") {
				break // a blob, whose digits come next
			}
			b.WriteString(rest[:n])
		default:
			b.WriteByte(c)
		}
		i += n
	}
	return b.String()
}

// quoted is the length of what begins with a quote, which stands for itself when doubled.
func quoted(s string, quote byte) int {
	for i := 1; i < len(s); i++ {
		if s[i] != quote {
			continue
		}
		if i+1 == len(s) || s[i+1] != quote {
			return i + 1
		}
		i++
	}
	return len(s)
}

// through is the length of s up to and with an end, all of it if that is missing.
func through(s, end string) int {
	if i := strings.Index(s, end); i >= 0 {
		return i + len(end)
	}
	return len(s)
}

// word is how many bytes of a name or a number s begins with.
func word(s string) int {
	n := 0
	for n < len(s) && isWord(s[n]) {
		n++
	}
	return n
}

// number is how many bytes of a number s begins with. The sign of an exponent ends it.
func number(s string) int {
	n := word(s)
	if n < len(s) && s[n] == '.' {
		n += 1 + word(s[n+1:])
	}
	return n
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isWord(c byte) bool {
	return isDigit(c) || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' || c == '$' || c >= 0x80
}
