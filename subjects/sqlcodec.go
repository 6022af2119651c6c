package subjects

import (
	"fmt"
	"strconv"
	"unicode/utf8"
)

// requestExample is shown to whoever sends something else.
const requestExample = `{"db":"SnapDB","sql":"INSERT INTO Users VALUES (?,?)","args":[1,"Alice"]}`

var requestFields = []string{"db", "sql", "args", "stmts", "ack", "timeout_ms", "session", "min_position", "max_lag_ms", "id", "more"}

// maxToken bounds session names and repeat-safe ids, in bytes.
const maxToken = 256

// DecodeRequest reads a request. Values are parts of data. The error wraps
// ErrMalformed.
func DecodeRequest(data []byte, r *Request) error {
	s := scanner{data: data}
	if !utf8.Valid(data) {
		s.fail(`invalid UTF-8; send such bytes as arguments: {"blob":"<base64>"} or {"text":"<base64>"}`)
		return s.err
	}
	if s.peek() != '{' {
		s.fail("not a request; one looks like this: %s", requestExample)
		return s.err
	}
	*r = Request{}
	s.object(requestFields, func(key int) { s.requestField(r, key) })
	if err := s.end(); err != nil {
		return err
	}
	given := 0
	for _, is := range []bool{r.SQL != "", r.Stmts != nil, r.More != ""} {
		if is {
			given++
		}
	}
	switch {
	case given != 1:
		return fmt.Errorf(`%w: a request has one of "sql", "stmts" and "more", like this: %s`, ErrMalformed, requestExample)
	case r.Args != nil && r.SQL == "":
		return fmt.Errorf(`%w: "args" go with "sql"; in "stmts" each statement has its own`, ErrMalformed)
	case len(r.Session) > maxToken || len(r.ID) > maxToken:
		return fmt.Errorf(`%w: "session" and "id" have at most %d bytes`, ErrMalformed, maxToken)
	}
	return nil
}

func (s *scanner) requestField(r *Request, key int) {
	switch key {
	case 0:
		r.DB = s.string()
	case 1:
		r.SQL = s.sql()
	case 2:
		r.Args = s.args()
	case 3:
		r.Stmts = []Stmt{}
		s.array(func() {
			r.Stmts = append(r.Stmts, Stmt{})
			st := &r.Stmts[len(r.Stmts)-1]
			s.object(stmtFields[:2], func(key int) {
				if key == 0 {
					st.SQL = s.sql()
				} else {
					st.Args = s.args()
				}
			})
		})
	case 4:
		r.Ack = s.ack()
	case 5:
		r.TimeoutMS = s.natural("timeout_ms")
	case 6:
		r.Session = s.string()
	case 7:
		r.MinPosition = s.uint64()
	case 8:
		r.MaxLagMS = s.natural("max_lag_ms")
	case 9:
		r.ID = s.string()
	case 10:
		r.More = s.string()
	}
}

func (s *scanner) sql() string {
	text := s.string()
	if s.err == nil && text == "" {
		s.fail("empty SQL")
	}
	return text
}

func (s *scanner) natural(name string) int64 {
	n := s.int64()
	if s.err == nil && n < 0 {
		s.fail("%s must not be negative", name)
	}
	return n
}

func (s *scanner) ack() Ack {
	var text string
	if s.peek() == '"' {
		text = s.string()
	} else {
		text = strconv.FormatInt(s.int64(), 10)
	}
	if s.err != nil {
		return Ack{}
	}
	ack, err := ParseAck(text)
	if err != nil {
		s.fail("%v", err)
	}
	return ack
}

// AppendRequest appends a request.
func AppendRequest(dst []byte, r *Request) []byte {
	dst = append(dst, '{')
	field := func(name string) {
		if dst[len(dst)-1] != '{' {
			dst = append(dst, ',')
		}
		dst = append(append(append(dst, '"'), name...), '"', ':')
	}
	text := func(name, value string) {
		if value != "" {
			field(name)
			dst = appendString(dst, value)
		}
	}
	number := func(name string, value uint64) {
		if value != 0 {
			field(name)
			dst = strconv.AppendUint(dst, value, 10)
		}
	}
	text("db", r.DB)
	if r.SQL != "" {
		text("sql", r.SQL)
		dst = appendArgs(dst, r.Args)
	}
	if r.Stmts != nil {
		field("stmts")
		dst = append(dst, '[')
		for i := range r.Stmts {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendStmt(dst, &r.Stmts[i])
		}
		dst = append(dst, ']')
	}
	text("ack", r.Ack.String())
	number("timeout_ms", uint64(r.TimeoutMS))
	text("session", r.Session)
	number("min_position", r.MinPosition)
	number("max_lag_ms", uint64(r.MaxLagMS))
	text("id", r.ID)
	text("more", r.More)
	return append(dst, '}')
}

// AppendResponse appends a response whose results are encoded already (see
// Results); tail.Results is not used. Applied and Pending are written when
// Applied is not nil.
func AppendResponse(dst []byte, results []byte, tail *Response) []byte {
	dst = append(append(append(dst, `{"results":[`...), results...), ']')
	dst = append(dst, `,"position":`...)
	if tail.Position == 0 {
		dst = append(dst, "null"...)
	} else {
		dst = strconv.AppendUint(dst, tail.Position, 10)
	}
	if tail.Applied != nil {
		dst = appendStrings(append(dst, `,"applied":`...), tail.Applied)
		dst = appendStrings(append(dst, `,"pending":`...), tail.Pending)
	}
	if st := tail.Session; st != nil {
		dst = appendString(append(dst, `,"session":{"db":`...), st.DB)
		dst = strconv.AppendBool(append(dst, `,"tx":`...), st.Tx)
		dst = append(dst, '}')
	}
	if e := tail.Error; e != nil {
		dst = appendString(append(dst, `,"error":{"code":`...), string(e.Code))
		dst = append(dst, `,"message":`...)
		if utf8.ValidString(e.Message) {
			dst = appendString(dst, e.Message)
		} else {
			dst = appendString(dst, fmt.Sprintf("%+q", e.Message))
		}
		if e.Statement > 0 {
			dst = strconv.AppendInt(append(dst, `,"statement":`...), int64(e.Statement), 10)
		}
		if e.Offset >= 0 {
			dst = strconv.AppendInt(append(dst, `,"offset":`...), int64(e.Offset), 10)
		}
		dst = append(dst, '}')
	}
	return append(dst, '}')
}

func appendStrings(dst []byte, list []string) []byte {
	dst = append(dst, '[')
	for i, t := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(dst, t)
	}
	return append(dst, ']')
}

var (
	responseFields = []string{"results", "position", "applied", "pending", "session", "error"}
	sessionFields  = []string{"db", "tx"}
	errorFields    = []string{"code", "message", "statement", "offset"}
	resultFields   = []string{"columns", "rows", "types", "changes", "last_insert_id", "ms", "truncated", "more"}
)

// DecodeResponse reads a response. Values are parts of data.
func DecodeResponse(data []byte, r *Response) error {
	s := newScanner(data)
	*r = Response{}
	s.object(responseFields, func(key int) {
		switch key {
		case 0:
			s.array(func() { r.Results = append(r.Results, s.result()) })
		case 1:
			if !s.literal("null") {
				r.Position = s.uint64()
			}
		case 2:
			r.Applied = s.strings()
		case 3:
			r.Pending = s.strings()
		case 4:
			r.Session = new(SessionState)
			s.object(sessionFields, func(key int) {
				if key == 0 {
					r.Session.DB = s.string()
				} else {
					r.Session.Tx = s.bool()
				}
			})
		case 5:
			r.Error = s.wireError()
		}
	})
	return s.end()
}

func (s *scanner) wireError() *Error {
	e := &Error{Offset: -1}
	s.object(errorFields, func(key int) {
		switch key {
		case 0:
			e.Code = Code(s.string())
		case 1:
			e.Message = s.string()
		case 2:
			e.Statement = int(s.int64())
		case 3:
			e.Offset = int(s.int64())
		}
	})
	return e
}

func (s *scanner) strings() []string {
	list := []string{}
	s.array(func() { list = append(list, s.string()) })
	return list
}

func (s *scanner) result() (r Result) {
	s.object(resultFields, func(key int) {
		switch key {
		case 0:
			r.Columns = s.strings()
		case 1:
			s.array(func() {
				row := make([]Value, 0, len(r.Columns))
				s.array(func() { row = append(row, s.value()) })
				r.Rows = append(r.Rows, row)
			})
		case 2:
			r.Types = s.strings()
		case 3:
			r.Changes = s.int64()
		case 4:
			r.LastInsertID = s.int64()
		case 5:
			r.MS = s.float()
		case 6:
			r.Truncated = s.bool()
		case 7:
			r.More = s.string()
		}
	})
	return r
}
