// Package format writes SQL results, and the lists that commands show, for people
// (table, line) and for programs (json, csv).
//
// It writes what it is given, page by page, and holds no more than one page. The
// formats for people never let content reach a terminal as control characters;
// those for programs keep every byte.
package format

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/snapdb/snapdb/subjects"
)

// Kind is one of the formats.
type Kind string

// The formats.
const (
	Table Kind = "table" // a box, numbers to the right, NULL as NULL
	JSON  Kind = "json"  // an array of objects per result, values as on the wire
	CSV   Kind = "csv"   // RFC 4180 with a header; NULL is empty, an empty text is ""
	Line  Kind = "line"  // one "name = value" a line, rows apart by an empty line
)

// Kinds are all formats, for help texts and completion.
func Kinds() []string { return []string{string(Table), string(JSON), string(CSV), string(Line)} }

// ErrKind is returned for the name of a format nobody knows.
var ErrKind = errors.New("unknown format")

// ParseKind reads the name of a format. The error wraps [ErrKind] and names them
// all.
func ParseKind(s string) (Kind, error) {
	switch k := Kind(strings.ToLower(s)); k {
	case Table, JSON, CSV, Line:
		return k, nil
	}
	return "", fmt.Errorf("%w %q: must be one of %s", ErrKind, s, strings.Join(Kinds(), ", "))
}

// Writer writes one result after another: Begin, Rows for each page, End.
type Writer interface {
	Begin(columns []string) error
	Rows(rows [][]subjects.Value) error
	End() error
}

// New makes a writer of that kind on w. Each call of it writes once.
func New(k Kind, w io.Writer) Writer {
	p := printer{w: w}
	switch k {
	case JSON:
		return &jsonWriter{printer: p}
	case CSV:
		return &csvWriter{printer: p}
	case Line:
		return &lineWriter{printer: p}
	}
	return &tableWriter{printer: p}
}

// printer collects what one call writes.
type printer struct {
	w   io.Writer
	buf []byte
}

func (p *printer) text(s string) { p.buf = append(p.buf, s...) }

func (p *printer) flush() error {
	_, err := p.w.Write(p.buf)
	if p.buf = p.buf[:0]; cap(p.buf) > 1<<20 {
		p.buf = nil
	}
	if err != nil {
		return fmt.Errorf("write result: %w", err)
	}
	return nil
}

// plain is a value as people read it: text as it is, a blob as its SQL literal.
func plain(v subjects.Value) string {
	switch v.Kind() {
	case subjects.Null:
		return "NULL"
	case subjects.Text:
		return string(v.Bytes())
	case subjects.Blob:
		return "x'" + hex.EncodeToString(v.Bytes()) + "'"
	case subjects.Real:
		if s := fmt.Sprint(v.Float()); strings.HasSuffix(s, "Inf") {
			return s[:1] + "Inf"
		}
	}
	return string(subjects.AppendValue(nil, v))
}

// Count is a number of things: "1 row", "2 rows".
func Count(n int64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
