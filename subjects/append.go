package subjects

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// plain marks the bytes that stand for themselves in a JSON string.
var plain = func() (t [256]bool) {
	for c := range t {
		t[c] = c >= ' ' && c != '"' && c != '\\'
	}
	return t
}()

const hexDigits = "0123456789abcdef"

// appendString writes a JSON string. Bytes that are not UTF-8 go through as they
// are, for the reader to refuse: replacing them would change what was said.
func appendString[T string | []byte](dst []byte, s T) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if plain[c] {
			continue
		}
		dst = append(dst, s[start:i]...)
		start = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}

// appendShown writes a string that is for people (an error message, the name of
// a column), in which bytes that are not UTF-8 are replaced.
func appendShown(dst []byte, s string) []byte {
	return appendString(dst, strings.ToValidUTF8(s, "\uFFFD"))
}

// appendShownList writes an array of strings for people.
func appendShownList(dst []byte, list []string) []byte {
	dst = append(dst, '[')
	for i, s := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendShown(dst, s)
	}
	return append(dst, ']')
}

// appendHex64 writes a string of 16 hexadecimal digits.
func appendHex64(dst []byte, n uint64) []byte {
	dst = append(dst, '"')
	for shift := 60; shift >= 0; shift -= 4 {
		dst = append(dst, hexDigits[n>>shift&15])
	}
	return append(dst, '"')
}

// appendFloat writes the shortest number that reads back the same.
func appendFloat(dst []byte, f float64) []byte {
	format := byte('f')
	if a := math.Abs(f); a != 0 && (a < 1e-6 || a >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(dst, f, format, -1, 64)
}

// AppendValue writes v as JSON: an integer without point, a real with point or
// exponent or {"real":"+Inf"}, text as a string or, when it is not UTF-8,
// {"text":"<base64>"}, {"blob":"<base64>"}, null.
func AppendValue(dst []byte, v Value) []byte {
	switch v.kind {
	case Integer:
		return strconv.AppendInt(dst, int64(v.num), 10)
	case Real:
		return appendReal(dst, v.Float())
	case Text:
		if utf8.Valid(v.data) {
			return appendString(dst, v.data)
		}
		return appendBase64(append(dst, `{"text":"`...), v.data)
	case Blob:
		return appendBase64(append(dst, `{"blob":"`...), v.data)
	}
	return append(dst, "null"...)
}

func appendReal(dst []byte, f float64) []byte {
	switch {
	case math.IsInf(f, 1):
		return append(dst, `{"real":"+Inf"}`...)
	case math.IsInf(f, -1):
		return append(dst, `{"real":"-Inf"}`...)
	}
	start := len(dst)
	dst = appendFloat(dst, f)
	for _, c := range dst[start:] {
		if c == '.' || c == 'e' {
			return dst
		}
	}
	return append(dst, ".0"...)
}

func appendBase64(dst, data []byte) []byte {
	dst = base64.StdEncoding.AppendEncode(dst, data)
	return append(dst, `"}`...)
}

// DigestStmts tells requests that execute something else apart: by the text of
// their SQL and the exact values of their arguments. It is never 0.
func DigestStmts(stmts []Stmt) uint64 {
	h := sha256.New()
	var buf []byte
	for i := range stmts {
		buf = appendArgs(appendString(buf[:0], stmts[i].SQL), stmts[i].Args)
		h.Write(append(buf, '\n')) // a hash takes everything
	}
	return max(binary.BigEndian.Uint64(h.Sum(nil)), 1)
}

// appendArgs writes ,"args":[…], or nothing if there are none.
func appendArgs(dst []byte, args []Value) []byte {
	if len(args) == 0 {
		return dst
	}
	dst = append(dst, `,"args":[`...)
	for i, v := range args {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = AppendValue(dst, v)
	}
	return append(dst, ']')
}

// MarshalJSON writes v as AppendValue does.
func (v Value) MarshalJSON() ([]byte, error) { return AppendValue(nil, v), nil }

// UnmarshalJSON reads what AppendValue writes, into memory of its own. The error
// wraps ErrMalformed.
func (v *Value) UnmarshalJSON(data []byte) error {
	s := newScanner(data)
	read := s.value()
	if err := s.end(); err != nil {
		return err
	}
	*v = read.Clone()
	return nil
}
