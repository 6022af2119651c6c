package subjects

import "strconv"

// AppendResponse writes a response around results, which are the content of its
// array of results as Results.Bytes gives it. Of tail everything but Results is
// written: applied and pending if they are not nil, the position null if 0, the
// results not at all if there are none but an error.
func AppendResponse(dst []byte, results []byte, tail *Response) []byte {
	dst = append(dst, '{')
	if tail.Error != nil {
		dst = append(dst, `"error":`...)
		dst = appendError(dst, tail.Error)
		dst = append(dst, ',')
	}
	if len(results) > 0 || tail.Error == nil {
		dst = append(dst, `"results":[`...)
		dst = append(dst, results...)
		dst = append(dst, "],"...)
	}
	dst = append(dst, `"position":`...)
	if tail.Position == 0 {
		dst = append(dst, "null"...)
	} else {
		dst = strconv.AppendUint(dst, tail.Position, 10)
	}
	if tail.Applied != nil {
		dst = appendShownList(append(dst, `,"applied":`...), tail.Applied)
	}
	if tail.Pending != nil {
		dst = appendShownList(append(dst, `,"pending":`...), tail.Pending)
	}
	if tail.Session != nil {
		dst = append(dst, `,"session":{"db":`...)
		dst = appendString(dst, tail.Session.DB)
		dst = append(dst, `,"tx":`...)
		dst = strconv.AppendBool(dst, tail.Session.Tx)
		dst = append(dst, '}')
	}
	return append(dst, '}')
}

func appendError(dst []byte, e *Error) []byte {
	dst = append(dst, `{"code":`...)
	dst = appendShown(dst, string(e.Code))
	dst = append(dst, `,"message":`...)
	dst = appendShown(dst, e.Message)
	if e.Statement != 0 {
		dst = strconv.AppendInt(append(dst, `,"statement":`...), int64(e.Statement), 10)
	}
	if e.Offset >= 0 {
		dst = strconv.AppendInt(append(dst, `,"offset":`...), int64(e.Offset), 10)
	}
	return append(dst, '}')
}

// DecodeResponse reads a response into r, overwriting all of it. Texts and blobs
// alias data. The error wraps ErrMalformed.
func DecodeResponse(data []byte, r *Response) error {
	*r = Response{}
	s := newScanner(data)
	const (
		results fields = 1 << iota
		position
		applied
		pending
		session
		failed
	)
	var seen fields
	for key := s.firstKey(); key != nil; key = s.nextKey() {
		switch string(key) {
		case "results":
			s.once(&seen, results, key)
			for ok := s.firstElem(); ok; ok = s.nextElem() {
				r.Results = append(r.Results, s.result())
			}
		case "position":
			s.once(&seen, position, key)
			if s.token() == 'n' {
				s.word("null")
			} else {
				r.Position = s.uint()
			}
		case "applied":
			s.once(&seen, applied, key)
			r.Applied = s.strs()
		case "pending":
			s.once(&seen, pending, key)
			r.Pending = s.strs()
		case "session":
			s.once(&seen, session, key)
			r.Session = s.session()
		case "error":
			s.once(&seen, failed, key)
			r.Error = s.error()
		default:
			s.unknown(key)
		}
	}
	if s.err == nil && seen&(results|failed) == 0 {
		s.fail("neither results nor an error")
	}
	return s.end()
}

// result reads the result of one statement.
func (s *scanner) result() Result {
	const (
		columns fields = 1 << iota
		types
		rows
		changes
		rowid
		ms
		truncated
		more
	)
	var r Result
	var seen fields
	for key := s.firstKey(); key != nil; key = s.nextKey() {
		switch string(key) {
		case "columns":
			s.once(&seen, columns, key)
			r.Columns = s.strs()
		case "types":
			s.once(&seen, types, key)
			r.Types = s.strs()
		case "rows":
			s.once(&seen, rows, key)
			r.Rows = s.rows(len(r.Columns))
		case "changes":
			s.once(&seen, changes, key)
			r.Changes = s.int()
		case "last_insert_id":
			s.once(&seen, rowid, key)
			r.LastInsertID = s.int()
		case "ms":
			s.once(&seen, ms, key)
			r.MS = s.float()
		case "truncated":
			s.once(&seen, truncated, key)
			r.Truncated = s.bool()
		case "more":
			s.once(&seen, more, key)
			r.More = s.str()
		default:
			s.unknown(key)
		}
	}
	for i := range r.Rows {
		if s.err == nil && len(r.Rows[i]) != len(r.Columns) {
			s.fail("row %d has %d values, there are %d columns", i+1, len(r.Rows[i]), len(r.Columns))
		}
	}
	return r
}

// rows reads an array of rows of about width values. Rows share memory in
// blocks that grow, so that many small ones do not cost an allocation each.
func (s *scanner) rows(width int) [][]Value {
	const largest = 4096 // values in a block
	list := [][]Value{}
	var block []Value
	size := width
	for ok := s.firstElem(); ok; ok = s.nextElem() {
		if cap(block)-len(block) < width {
			block = make([]Value, 0, size)
			size = max(width, min(2*size, largest))
		}
		row := s.args(block[len(block):])
		block = row[len(row):]
		list = append(list, row[:len(row):len(row)])
	}
	return list
}

func (s *scanner) session() *SessionState {
	const db, tx fields = 1, 2
	var seen fields
	st := new(SessionState)
	for key := s.firstKey(); key != nil; key = s.nextKey() {
		switch string(key) {
		case "db":
			s.once(&seen, db, key)
			st.DB = s.str()
		case "tx":
			s.once(&seen, tx, key)
			st.Tx = s.bool()
		default:
			s.unknown(key)
		}
	}
	return st
}

func (s *scanner) error() *Error {
	const code, message, statement, offset fields = 1, 2, 4, 8
	var seen fields
	e := &Error{Offset: -1}
	for key := s.firstKey(); key != nil; key = s.nextKey() {
		switch string(key) {
		case "code":
			s.once(&seen, code, key)
			e.Code = Code(s.str())
		case "message":
			s.once(&seen, message, key)
			e.Message = s.str()
		case "statement":
			s.once(&seen, statement, key)
			e.Statement = int(s.count())
		case "offset":
			s.once(&seen, offset, key)
			e.Offset = int(s.count())
		default:
			s.unknown(key)
		}
	}
	s.need(seen, code, "code")
	s.need(seen, message, "message")
	return e
}
