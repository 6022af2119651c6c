package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Outcome is what became of what somebody wanted.
type Outcome string

// Outcomes.
const (
	OK     Outcome = "ok"
	Denied Outcome = "denied" // not allowed
	Failed Outcome = "failed" // allowed, but it did not work
)

// Entry is one line of the record.
type Entry struct {
	N       uint64    `json:"n"` // counts from 1
	Time    time.Time `json:"time"`
	Who     string    `json:"who"`
	From    string    `json:"from"` // where who was: an address, a door
	Action  string    `json:"action"`
	Target  string    `json:"target"`
	Outcome Outcome   `json:"outcome"`
	Code    string    `json:"code"` // of the error, if there was one
	Detail  string    `json:"detail"`
	// Removed is the last of the entries that were removed when this one was written.
	Removed *Mark  `json:"removed,omitempty"`
	Prev    string `json:"prev"` // hash of the entry before
	Hash    string `json:"hash"` // SHA-256 of the line without this field
}

// Mark names an entry of a chain, and with it all that are before.
type Mark struct {
	N    uint64 `json:"n"`
	Hash string `json:"hash"`
}

// Limits, in bytes.
const (
	maxName = 256       // who, from, action, code
	maxAim  = 1 << 10   // target
	maxText = 4 << 10   // detail, SQL text, arguments, each
	maxLine = 128 << 10 // of a line: more than all of them together with every byte escaped
)

// maxN is the highest number of an entry, which any program can read.
const maxN = 1 << 53

// timeFormat is RFC 3339 with milliseconds.
const timeFormat = "2006-01-02T15:04:05.000Z07:00"

// The end of a line is the same in all of them, so that its place in the chain is read,
// and what the hash is of, without knowing JSON.
const (
	prevKey  = `,"prev":"`
	hashKey  = `,"hash":"`
	hashHex  = 2 * sha256.Size
	hashTail = len(hashKey) + hashHex + len(`"}`)
	prevTail = len(prevKey) + hashHex + len(`"`)
)

// origin is the hash before the first entry.
var origin = strings.Repeat("0", hashHex)

// MarshalJSON writes an entry as its line has it.
func (e Entry) MarshalJSON() ([]byte, error) {
	b := appendBody(nil, &e)
	b = append(b, `,"hash":`...)
	return append(appendString(b, e.Hash), '}'), nil
}

// seal gives an entry its hash and appends its line.
func seal(b []byte, e *Entry) []byte {
	begin := len(b)
	b = appendBody(b, e)
	e.Hash = sum(b[begin:])
	b = append(b, hashKey...)
	b = append(b, e.Hash...)
	return append(b, "\"}\n"...)
}

// sum is the hash of a line whose body, without the brace that closes it, this is.
func sum(body []byte) string {
	h := sha256.New()
	h.Write(body)
	h.Write([]byte{'}'})
	return hex.EncodeToString(h.Sum(nil))
}

// appendBody writes an entry up to its hash.
func appendBody(b []byte, e *Entry) []byte {
	b = append(b, `{"n":`...)
	b = strconv.AppendUint(b, e.N, 10)
	b = append(b, `,"time":"`...)
	b = e.Time.UTC().AppendFormat(b, timeFormat)
	b = append(b, '"')
	for _, f := range [...]struct{ key, value string }{
		{"who", e.Who}, {"from", e.From}, {"action", e.Action}, {"target", e.Target},
		{"outcome", string(e.Outcome)}, {"code", e.Code}, {"detail", e.Detail},
	} {
		b = append(b, `,"`+f.key+`":`...)
		b = appendString(b, f.value)
	}
	if e.Removed != nil {
		b = append(b, `,"removed":{"n":`...)
		b = strconv.AppendUint(b, e.Removed.N, 10)
		b = append(b, `,"hash":`...)
		b = append(appendString(b, e.Removed.Hash), '}')
	}
	b = append(b, `,"prev":`...)
	return appendString(b, e.Prev)
}

// appendString writes a JSON string that does no harm to who looks at the file: only
// what can be printed appears as it is, and a byte that is no UTF-8 as the text \xff.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for i, n := 0, 0; i < len(s); i += n {
		var r rune
		r, n = utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			b = fmt.Appendf(b, `\\x%02x`, s[i])
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case unicode.IsPrint(r):
			b = append(b, s[i:i+n]...)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			b = fmt.Appendf(b, `\u%04x\u%04x`, high, low)
		default:
			b = fmt.Appendf(b, `\u%04x`, r)
		}
	}
	return append(b, '"')
}

// clip shortens a text to about so many bytes, and says how long it was.
func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	end := most
	for end > most-utf8.UTFMax && !utf8.RuneStart(s[end]) {
		end--
	}
	return fmt.Sprintf("%s… (%d bytes)", s[:end], len(s))
}

// link is an entry's place in the chain.
type link struct {
	n    uint64
	prev string
	hash string
}

// Why a line is no entry.
var (
	errFrame = errors.New("not a line of an audit log")
	errHash  = errors.New("the line is not what its hash says")
)

// parseLink reads where a line belongs, and whether it is what its hash says.
func parseLink(line []byte) (link, error) {
	at := len(line) - hashTail
	if at < prevTail {
		return link{}, errFrame
	}
	body, tail := line[:at], line[at:]
	prev := body[at-prevTail:]
	digits, _, _ := bytes.Cut(bytes.TrimPrefix(body, []byte(`{"n":`)), []byte{','})
	n, err := strconv.ParseUint(string(digits), 10, 64)
	if err != nil || n == 0 || n > maxN || !bytes.HasPrefix(body, []byte(`{"n":`)) ||
		!bytes.HasPrefix(prev, []byte(prevKey)) || !bytes.HasPrefix(tail, []byte(hashKey)) {
		return link{}, errFrame
	}
	l := link{n: n, prev: string(prev[len(prevKey) : prevTail-1]), hash: sum(body)}
	if string(tail) != hashKey+l.hash+`"}` {
		return link{}, errHash
	}
	return l, nil
}

// decode reads the line of an entry, without its newline.
func decode(line []byte) (Entry, error) {
	l, err := parseLink(line)
	if err != nil {
		return Entry{}, err
	}
	var e Entry
	if err := json.Unmarshal(line, &e); err != nil {
		return Entry{}, fmt.Errorf("%w: %w", errFrame, err)
	}
	if (link{e.N, e.Prev, e.Hash}) != l {
		return Entry{}, errFrame
	}
	return e, nil
}
