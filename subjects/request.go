package subjects

import (
	"bytes"
	"fmt"
	"strconv"
)

// maxToken bounds session names and repeat-safe ids, in bytes: the server keeps
// them.
const maxToken = 256

const exampleRequest = `{"db":"SnapDB","sql":"SELECT * FROM Users WHERE id = ?","args":[1]}`

// AppendRequest writes a request; fields that are zero are left out, and Args
// without SQL.
func AppendRequest(dst []byte, r *Request) []byte {
	dst = append(dst, '{')
	start := len(dst)
	text := func(name, s string) {
		if s != "" {
			dst = appendString(appendName(dst, start, name), s)
		}
	}
	number := func(name string, n uint64) {
		if n != 0 {
			dst = strconv.AppendUint(appendName(dst, start, name), n, 10)
		}
	}
	text("db", r.DB)
	text("sql", r.SQL)
	if r.SQL != "" {
		dst = appendArgs(dst, r.Args)
	}
	if len(r.Stmts) > 0 {
		dst = appendName(dst, start, "stmts")
		dst = append(dst, '[')
		for i := range r.Stmts {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(dst, `{"sql":`...)
			dst = appendString(dst, r.Stmts[i].SQL)
			dst = appendArgs(dst, r.Stmts[i].Args)
			dst = append(dst, '}')
		}
		dst = append(dst, ']')
	}
	if r.Ack.Kind == AckCount {
		number("ack", uint64(max(r.Ack.Count, 1)))
	} else {
		text("ack", r.Ack.String())
	}
	number("timeout_ms", uint64(max(r.TimeoutMS, 0)))
	text("session", r.Session)
	if r.Tx {
		dst = append(appendName(dst, start, "tx"), "true"...)
	}
	number("min_position", r.MinPosition)
	number("max_lag_ms", uint64(max(r.MaxLagMS, 0)))
	text("id", r.ID)
	text("more", r.More)
	return append(dst, '}')
}

// appendName writes the name of a field of an object whose content begins at start.
func appendName(dst []byte, start int, name string) []byte {
	if len(dst) > start {
		dst = append(dst, ',')
	}
	dst = append(dst, '"')
	dst = append(dst, name...)
	return append(dst, `":`...)
}

// DecodeRequest reads a request into r, overwriting all of it. Texts and blobs
// alias data. The error wraps ErrMalformed and is meant for whoever wrote the
// request; for an acknowledgement rule it also wraps ErrAck.
func DecodeRequest(data []byte, r *Request) error {
	*r = Request{}
	if t := bytes.TrimLeft(data, " \t\r\n"); len(t) == 0 || t[0] != '{' {
		what := "not a JSON object"
		if len(t) == 0 {
			what = "empty"
		}
		return fmt.Errorf("%w at byte %d: the request is %s; it looks like %s", ErrMalformed, len(data)-len(t), what, exampleRequest)
	}
	s := newScanner(data)
	var seen fields
	for key := s.firstKey(); key != nil; key = s.nextKey() {
		s.requestField(r, key, &seen)
	}
	s.checkRequest(r)
	return s.end()
}

// checkRequest makes sure that the fields make sense together.
func (s *scanner) checkRequest(r *Request) {
	ways := 0
	for _, given := range []bool{r.SQL != "", len(r.Stmts) > 0, r.More != ""} {
		if given {
			ways++
		}
	}
	switch {
	case s.err != nil:
	case ways == 0:
		s.fail(`the request needs "sql", "stmts" or "more"; it looks like %s`, exampleRequest)
	case ways > 1:
		s.fail(`only one of "sql", "stmts" and "more" can be given`)
	case r.Args != nil && r.SQL == "":
		s.fail(`"args" belongs to "sql"; a statement in "stmts" has its own`)
	case r.Tx && r.Session == "":
		s.fail(`"tx" says something of a "session", which is missing`)
	case len(r.Session) > maxToken || len(r.ID) > maxToken:
		s.fail(`"session" and "id" have at most %d bytes`, maxToken)
	}
}

// requestField reads one field of a request.
func (s *scanner) requestField(r *Request, key []byte, seen *fields) {
	const (
		db fields = 1 << iota
		sql
		args
		stmts
		ack
		timeout
		session
		tx
		position
		lag
		id
		more
	)
	switch string(key) {
	case "db":
		s.once(seen, db, key)
		r.DB = s.str()
	case "sql":
		s.once(seen, sql, key)
		r.SQL = s.str()
	case "args":
		s.once(seen, args, key)
		r.Args = s.args(nil)
	case "stmts":
		s.once(seen, stmts, key)
		for ok := s.firstElem(); ok; ok = s.nextElem() {
			r.Stmts = append(r.Stmts, s.stmt())
		}
	case "ack":
		s.once(seen, ack, key)
		r.Ack = s.ack()
	case "timeout_ms":
		s.once(seen, timeout, key)
		r.TimeoutMS = s.count()
	case "session":
		s.once(seen, session, key)
		r.Session = s.str()
	case "tx":
		s.once(seen, tx, key)
		r.Tx = s.bool()
	case "min_position":
		s.once(seen, position, key)
		r.MinPosition = s.uint()
	case "max_lag_ms":
		s.once(seen, lag, key)
		r.MaxLagMS = s.count()
	case "id":
		s.once(seen, id, key)
		r.ID = s.str()
	case "more":
		s.once(seen, more, key)
		r.More = s.str()
	default:
		s.unknown(key)
	}
}

// stmt reads a statement of a request.
func (s *scanner) stmt() Stmt {
	var st Stmt
	var seen fields
	for key := s.firstKey(); key != nil; key = s.nextKey() {
		switch string(key) {
		case "sql":
			s.once(&seen, stmtSQL, key)
			st.SQL = s.text("")
		case "args":
			s.once(&seen, stmtArgs, key)
			st.Args = s.args(nil)
		default:
			s.unknown(key)
		}
	}
	s.need(seen, stmtSQL, "sql")
	return st
}

// ack reads an acknowledgement rule: a word, or a number of slaves.
func (s *scanner) ack() Ack {
	var rule string
	at := s.pos
	if s.token() == '"' {
		rule = s.str()
	} else {
		lit, _ := s.literal()
		rule = string(lit)
	}
	if s.err != nil {
		return Ack{}
	}
	a, err := ParseAck(rule)
	if err != nil {
		s.pos = at
		s.failWith(err)
	}
	return a
}
