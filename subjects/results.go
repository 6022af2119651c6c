package subjects

import (
	"math"
	"strconv"
	"strings"
)

// Results builds the results of a request as JSON while the rows are stepped, so
// that they are never in memory twice. Begin, then Row and Value as often as
// needed, then End or EndMore; for every statement. The zero Results is ready to
// use; a nil one takes everything and keeps nothing.
type Results struct {
	buf  []byte
	rows int // of all results

	// Of the result that is being built:
	kinds     []Kind // of its first row
	columns   int
	count     int // rows
	column    int // values in the current row
	ms        float64
	truncated bool
}

// Mark is a place in Results to which Rewind goes back.
type Mark struct{ length, rows int }

// Mark is the place where the next result begins.
func (r *Results) Mark() Mark {
	if r == nil {
		return Mark{}
	}
	return Mark{len(r.buf), r.rows}
}

// Begin starts the result of a statement. The mark is of the place before it.
func (r *Results) Begin(columns []string) Mark {
	mark := r.Mark()
	if r == nil {
		return mark
	}
	r.kinds, r.columns, r.count, r.column, r.ms, r.truncated = r.kinds[:0], len(columns), 0, 0, 0, false
	if len(r.buf) > 0 {
		r.buf = append(r.buf, ',')
	}
	r.buf = append(r.buf, `{"columns":`...)
	r.buf = appendShownList(r.buf, columns)
	r.buf = append(r.buf, `,"rows":[`...)
	return mark
}

// Row starts a row.
func (r *Results) Row() {
	if r == nil {
		return
	}
	if r.count > 0 {
		r.buf = append(r.buf, "],"...)
	}
	r.buf = append(r.buf, '[')
	r.count++
	r.rows++
	r.column = 0
}

// Value adds a value to the row. Its bytes are copied.
func (r *Results) Value(v Value) {
	if r == nil {
		return
	}
	if r.column > 0 {
		r.buf = append(r.buf, ',')
	}
	r.column++
	if r.count == 1 {
		r.kinds = append(r.kinds, v.kind)
	}
	r.buf = AppendValue(r.buf, v)
}

// SetMS says how long the statement took, in milliseconds; before End.
func (r *Results) SetMS(ms float64) {
	if r != nil && ms >= 0 && !math.IsInf(ms, 1) {
		r.ms = ms
	}
}

// SetTruncated says that there were more rows than are kept; before End.
func (r *Results) SetTruncated() {
	if r != nil {
		r.truncated = true
	}
}

// End finishes the result. types are the declared types of the columns; a column
// without one gets the typeof() of its first value.
func (r *Results) End(types []string, changes, lastInsertID int64) {
	r.end(types, changes, lastInsertID, "")
}

// EndMore finishes a result that was cut. more is the token with which it goes
// on, "" if it cannot.
func (r *Results) EndMore(types []string, more string) {
	r.SetTruncated()
	r.end(types, 0, 0, more)
}

func (r *Results) end(types []string, changes, lastInsertID int64, more string) {
	if r == nil {
		return
	}
	b := r.buf
	if r.count > 0 {
		b = append(b, ']')
	}
	b = append(b, `],"types":[`...)
	for i := range r.columns {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendShown(b, r.typeOf(i, types))
	}
	b = append(b, `],"changes":`...)
	b = strconv.AppendInt(b, changes, 10)
	b = append(b, `,"last_insert_id":`...)
	b = strconv.AppendInt(b, lastInsertID, 10)
	b = append(b, `,"ms":`...)
	b = appendFloat(b, r.ms)
	if r.truncated {
		b = append(b, `,"truncated":true`...)
	}
	if more != "" {
		b = append(b, `,"more":`...)
		b = appendString(b, more)
	}
	r.buf = append(b, '}')
}

func (r *Results) typeOf(column int, declared []string) string {
	if column < len(declared) && declared[column] != "" {
		return strings.ToLower(declared[column])
	}
	if column < len(r.kinds) {
		return r.kinds[column].String()
	}
	return ""
}

// Rewind drops everything since the mark: the half-built result of a statement
// that failed.
func (r *Results) Rewind(m Mark) {
	if r != nil {
		r.buf, r.rows = r.buf[:m.length], m.rows
	}
}

// Append adds results that were built before, as Bytes gave them.
func (r *Results) Append(results []byte) {
	if r == nil || len(results) == 0 {
		return
	}
	if len(r.buf) > 0 {
		r.buf = append(r.buf, ',')
	}
	r.buf = append(r.buf, results...)
}

// Len is the size of what was built, in bytes.
func (r *Results) Len() int {
	if r == nil {
		return 0
	}
	return len(r.buf)
}

// Rows is the number of rows added since Reset, in all results.
func (r *Results) Rows() int {
	if r == nil {
		return 0
	}
	return r.rows
}

// Bytes are the finished results, joined by commas: what AppendResponse takes.
// They are valid until the next call.
func (r *Results) Bytes() []byte {
	if r == nil {
		return nil
	}
	return r.buf
}

// Reset drops everything and keeps the memory.
func (r *Results) Reset() {
	if r != nil {
		r.buf, r.rows = r.buf[:0], 0
	}
}
