package subjects

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"
)

// Errors of the decoders.
var (
	// ErrMalformed is wrapped by every error about bytes that are not what
	// they should be. The text says what is wrong and at which byte.
	ErrMalformed = errors.New("malformed")
	// ErrVersion is returned for a log body of a newer format than this program's.
	ErrVersion = errors.New("message was written by a newer version of snapdb")
)

// scanner reads one JSON document strictly, front to back, without building a
// tree: the decoders ask for exactly what may come next. Nesting is bounded by
// what they ask for, as nothing unknown is ever skipped. The first error stays,
// and moves to the end of the document so that every loop stops.
type scanner struct {
	data []byte
	pos  int
	err  error

	recent [8]string // texts returned by text, to return again
	oldest int       // of recent
}

// fields is the set of fields of one object that were seen.
type fields uint32

// newScanner checks the encoding of the whole document at once; after that a
// string is known to be valid UTF-8 unless an escape in it says otherwise.
func newScanner(data []byte) scanner {
	s := scanner{data: data}
	if !utf8.Valid(data) {
		for r, n := utf8.DecodeRune(data); r != utf8.RuneError || n > 1; r, n = utf8.DecodeRune(data[s.pos:]) {
			s.pos += n
		}
		s.fail("not valid UTF-8; such bytes travel as an argument {\"text\":\"<base64>\"} or {\"blob\":\"<base64>\"}")
	}
	return s
}

func (s *scanner) fail(format string, args ...any) {
	s.failWith(fmt.Errorf(format, args...))
}

// failWith keeps the cause findable with errors.Is.
func (s *scanner) failWith(cause error) {
	if s.err == nil {
		s.err = fmt.Errorf("%w at byte %d: %w", ErrMalformed, s.pos, cause)
	}
	s.pos = len(s.data)
}

// expected complains about the byte that comes next.
func (s *scanner) expected(what string) {
	if s.pos >= len(s.data) {
		s.fail("%s expected, but the message ends", what)
		return
	}
	r, _ := utf8.DecodeRune(s.data[s.pos:])
	s.fail("%s expected, not %q", what, r)
}

// token skips white space and returns the next byte without taking it, 0 at the
// end. (A NUL byte is no token either.)
func (s *scanner) token() byte {
	for s.pos < len(s.data) {
		switch c := s.data[s.pos]; c {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return c
		}
	}
	return 0
}

// take takes the token c, which must come next.
func (s *scanner) take(c byte) bool {
	if s.token() != c {
		s.expected(string(rune(c)))
		return false
	}
	s.pos++
	return true
}

// end makes sure that nothing follows, and gives the error if there was one.
func (s *scanner) end() error {
	s.token()
	if s.err == nil && s.pos < len(s.data) {
		s.expected("the end")
	}
	return s.err
}

// firstKey enters an object and returns its first key; nil if there is none or
// after an error. The key is valid until the next call of any method.
func (s *scanner) firstKey() []byte {
	if !s.take('{') {
		return nil
	}
	if s.token() == '}' {
		s.pos++
		return nil
	}
	return s.key()
}

// nextKey is the key after the value just read, nil after the last.
func (s *scanner) nextKey() []byte {
	switch s.token() {
	case ',':
		s.pos++
		return s.key()
	case '}':
		s.pos++
	default:
		s.expected("',' or '}'")
	}
	return nil
}

func (s *scanner) key() []byte {
	key := s.bytes()
	if !s.take(':') {
		return nil
	}
	return key
}

// firstElem enters an array and says whether it has an element.
func (s *scanner) firstElem() bool {
	if !s.take('[') {
		return false
	}
	if s.token() == ']' {
		s.pos++
		return false
	}
	return s.err == nil
}

// nextElem says whether there is another element after the one just read.
func (s *scanner) nextElem() bool {
	switch s.token() {
	case ',':
		s.pos++
		return true
	case ']':
		s.pos++
	default:
		s.expected("',' or ']'")
	}
	return false
}

// once notes that the field was seen; twice is an error.
func (s *scanner) once(seen *fields, field fields, key []byte) {
	if *seen&field != 0 {
		s.fail("field %q given twice", key)
	}
	*seen |= field
}

// need complains if the field was not seen.
func (s *scanner) need(seen, field fields, name string) {
	if s.err == nil && seen&field == 0 {
		s.fail("field %q is missing", name)
	}
}

func (s *scanner) unknown(key []byte) {
	s.fail("unknown field %q", clip(string(key)))
}

// bytes reads a string. The result aliases the document unless it has escapes.
// It is nil only after an error.
func (s *scanner) bytes() []byte {
	if !s.take('"') {
		return nil
	}
	start := s.pos
	for i, c := range s.data[start:] {
		if plain[c] {
			continue
		}
		i += start
		switch {
		case c == '"':
			s.pos = i + 1
			return s.data[start:i:i]
		case c == '\\':
			s.pos = i
			return s.unescape(start)
		default:
			s.pos = i
			s.fail("control character %#02x in a string must be escaped", c)
			return nil
		}
	}
	s.fail("string does not end")
	return nil
}

// unescape reads the rest of a string that began at start and has its first
// escape at pos.
func (s *scanner) unescape(start int) []byte {
	out := append(make([]byte, 0, s.pos-start+64), s.data[start:s.pos]...)
	for s.pos < len(s.data) {
		c := s.data[s.pos]
		switch {
		case plain[c]:
			run := s.pos
			for s.pos < len(s.data) && plain[s.data[s.pos]] {
				s.pos++
			}
			out = append(out, s.data[run:s.pos]...)
		case c == '"':
			s.pos++
			return out
		case c == '\\':
			out = s.escape(out)
		default:
			s.fail("control character %#02x in a string must be escaped", c)
		}
	}
	s.fail("string does not end")
	return nil
}

// escape reads one escape sequence and appends what it means.
func (s *scanner) escape(out []byte) []byte {
	if s.pos+1 >= len(s.data) {
		s.fail("string does not end")
		return out
	}
	c := s.data[s.pos+1]
	switch c {
	case '"', '\\', '/':
	case 'b':
		c = '\b'
	case 'f':
		c = '\f'
	case 'n':
		c = '\n'
	case 'r':
		c = '\r'
	case 't':
		c = '\t'
	case 'u':
		return s.unicode(out)
	default:
		s.fail("unknown escape \\%c", c)
		return out
	}
	s.pos += 2
	return append(out, c)
}

// unicode reads \uXXXX, or two of them that are a surrogate pair.
func (s *scanner) unicode(out []byte) []byte {
	r, ok := hex16(s.data[s.pos:])
	if !ok {
		s.fail("\\u must be followed by four hexadecimal digits")
		return out
	}
	const high, low, end = 0xd800, 0xdc00, 0xe000
	if r < high || r >= end {
		s.pos += 6
		return utf8.AppendRune(out, r)
	}
	second, ok := hex16(s.data[s.pos+6:])
	if !ok || r >= low || second < low || second >= end {
		s.fail("lone surrogate \\u%04x", r)
		return out
	}
	s.pos += 12
	return utf8.AppendRune(out, (r-high)<<10|(second-low)+0x10000)
}

// hex16 reads the \uXXXX that b begins with.
func hex16(b []byte) (rune, bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	var r rune
	for _, c := range b[2:6] {
		switch {
		case isDigit(c):
			r = r<<4 | rune(c-'0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	return r, true
}

// str reads a string into memory of its own.
func (s *scanner) str() string { return string(s.bytes()) }

// text reads a string that is likely to be one of those read before, or old: SQL
// text repeats, and need not be copied each time.
func (s *scanner) text(old string) string {
	b := s.bytes()
	if string(b) == old {
		return old
	}
	for i := range s.recent {
		if string(b) == s.recent[i] {
			return s.recent[i]
		}
	}
	t := string(b)
	s.recent[s.oldest] = t
	s.oldest = (s.oldest + 1) % len(s.recent)
	return t
}

// strs reads an array of strings, not nil.
func (s *scanner) strs() []string {
	list := []string{}
	for ok := s.firstElem(); ok; ok = s.nextElem() {
		list = append(list, s.str())
	}
	return list
}

// hex64 reads a string of exactly 16 lower-case hexadecimal digits.
func (s *scanner) hex64() uint64 {
	b := s.bytes()
	n := uint64(0)
	for _, c := range b {
		switch {
		case isDigit(c):
			n = n<<4 | uint64(c-'0')
		case 'a' <= c && c <= 'f':
			n = n<<4 | uint64(c-'a'+10)
		default:
			b = nil
		}
	}
	if len(b) != 16 {
		s.fail("16 lower-case hexadecimal digits expected")
	}
	return n
}

func (s *scanner) bool() bool {
	if s.token() == 't' {
		s.word("true")
		return true
	}
	s.word("false")
	return false
}

// word takes a literal name, which must come next.
func (s *scanner) word(w string) {
	if !bytes.HasPrefix(s.data[s.pos:], []byte(w)) {
		s.expected(w)
		return
	}
	s.pos += len(w)
}

// literal reads a number as it is written and says whether it is whole: without
// point and exponent.
func (s *scanner) literal() (lit []byte, whole bool) {
	s.token()
	d, start, i := s.data, s.pos, s.pos
	digits := func() bool {
		first := i
		for i < len(d) && isDigit(d[i]) {
			i++
		}
		return i > first
	}
	if i < len(d) && d[i] == '-' {
		i++
	}
	zero := i < len(d) && d[i] == '0'
	first := i
	ok := digits() && !(zero && i > first+1)
	whole = true
	if ok && i < len(d) && d[i] == '.' {
		i++
		ok, whole = digits(), false
	}
	if ok && i < len(d) && d[i]|0x20 == 'e' {
		i++
		if i < len(d) && (d[i] == '+' || d[i] == '-') {
			i++
		}
		ok, whole = digits(), false
	}
	if !ok {
		s.expected("a number")
		return nil, false
	}
	s.pos = i
	return d[start:i], whole
}

// wholeNumber parses a literal without point and exponent into its sign and size.
func wholeNumber(lit []byte) (neg bool, n uint64, ok bool) {
	if len(lit) > 0 && lit[0] == '-' {
		neg, lit = true, lit[1:]
	}
	if len(lit) == 0 || len(lit) > 20 {
		return neg, 0, false
	}
	for _, c := range lit {
		d := uint64(c - '0')
		if n > math.MaxUint64/10 || n*10 > math.MaxUint64-d {
			return neg, 0, false
		}
		n = n*10 + d
	}
	return neg, n, true
}

// signed turns sign and size into an int64 if it is one.
func signed(neg bool, n uint64) (int64, bool) {
	if neg {
		return -int64(n), n <= 1<<63
	}
	return int64(n), n <= math.MaxInt64
}

// uint reads a whole number that is not negative.
func (s *scanner) uint() uint64 {
	at := s.pos
	lit, whole := s.literal()
	neg, n, ok := wholeNumber(lit)
	if s.err == nil && (!whole || neg || !ok) {
		s.pos = at
		s.fail("whole number from 0 expected, not %s", clip(string(lit)))
	}
	return n
}

// int reads a whole number.
func (s *scanner) int() int64 {
	at := s.pos
	lit, whole := s.literal()
	neg, n, ok := wholeNumber(lit)
	i, fits := signed(neg, n)
	if s.err == nil && (!whole || !ok || !fits) {
		s.pos = at
		s.fail("whole number of 64 bits expected, not %s", clip(string(lit)))
	}
	return i
}

// count is an int that is not negative.
func (s *scanner) count() int64 {
	at := s.pos
	n := s.int()
	if n < 0 {
		s.pos = at
		s.fail("must not be negative")
	}
	return n
}

// float reads any number.
func (s *scanner) float() float64 {
	at := s.pos
	lit, _ := s.literal()
	if s.err != nil {
		return 0
	}
	f, err := strconv.ParseFloat(string(lit), 64)
	if err != nil { // the grammar is checked, so it is the range
		s.pos = at
		s.fail("%s is too large for a real; infinity is written {\"real\":\"+Inf\"} or {\"real\":\"-Inf\"}", clip(string(lit)))
	}
	return f
}

// value reads an SQL value.
func (s *scanner) value() Value {
	switch c := s.token(); {
	case c == '"':
		return TextBytes(s.bytes())
	case c == '-' || isDigit(c):
		return s.number()
	case c == 'n':
		s.word("null")
	case c == '{':
		return s.tagged()
	case c == '[':
		s.fail("an array is not an SQL value; pass it as a string")
	case c == 't' || c == 'f':
		s.fail("true and false are not SQL values; pass 1 or 0")
	default:
		s.expected("a value")
	}
	return Value{}
}

// number reads an integer or, with point or exponent, a real. An integer that
// needs more than 64 bits is an error: a float would be another number.
func (s *scanner) number() Value {
	at := s.pos
	lit, whole := s.literal()
	if s.err != nil {
		return Value{}
	}
	if !whole {
		s.pos = at
		return RealValue(s.float())
	}
	neg, n, ok := wholeNumber(lit)
	i, fits := signed(neg, n)
	if !ok || !fits {
		s.pos = at
		s.fail("%s does not fit into 64 bits; as a real it is written with a point", clip(string(lit)))
	}
	return IntegerValue(i)
}

// tagged reads one of the objects for what JSON cannot say by itself.
func (s *scanner) tagged() Value {
	var v Value
	key := s.firstKey()
	switch string(key) {
	case "blob":
		v = BlobValue(s.base64())
	case "text":
		v = TextBytes(s.base64())
	case "real":
		switch word := s.bytes(); string(word) {
		case "+Inf":
			v = RealValue(math.Inf(1))
		case "-Inf":
			v = RealValue(math.Inf(-1))
		default:
			s.fail(`{"real":…} must be "+Inf" or "-Inf"`)
		}
	default:
		s.fail(`a value that is an object must be {"blob":…}, {"text":…} or {"real":…}`)
	}
	if s.err == nil && s.nextKey() != nil {
		s.fail("one field only in a value that is an object")
	}
	return v
}

func (s *scanner) base64() []byte {
	at := s.pos
	src := s.bytes()
	out := make([]byte, base64.StdEncoding.DecodedLen(len(src)))
	n, err := base64.StdEncoding.Strict().Decode(out, src)
	if s.err == nil && (err != nil || bytes.ContainsAny(src, "\r\n")) {
		s.pos = at
		s.fail("not base64")
	}
	return out[:n]
}

// args reads an array of values into list, whose memory is used again.
func (s *scanner) args(list []Value) []Value {
	if list == nil {
		list = make([]Value, 0, 4)
	}
	list = list[:0]
	for ok := s.firstElem(); ok; ok = s.nextElem() {
		list = append(list, s.value())
	}
	return list
}

// extend lengthens a slice by one element, which is an old one where there is
// memory of an earlier use behind the end.
func extend[T any](list []T) []T {
	if len(list) < cap(list) {
		return list[:len(list)+1]
	}
	var zero T
	return append(list, zero)
}
