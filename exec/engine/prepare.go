package engine

import (
	"fmt"
	"strings"
	"unicode/utf8"
	"unsafe"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// Prepare compiles the first statement of sql[off:]; n is how many bytes of sql it
// takes, with the ';' and all whitespace, comments and empty statements before and
// after it. Without a statement there is no Stmt and n covers the rest.
//
// A statement that is alone in sql comes from the cache when the same text was
// prepared before with the same guard. Preparing a script statement by statement
// is linear in its length, provided that the same string is passed each time.
//
// The error wraps [ErrText] or is an [*Error]; then n is 0.
func (c *Conn) Prepare(sql string, off int, g Guard) (st *Stmt, n int, err error) {
	if off == 0 {
		if st := c.stmts.take(c, cacheKey{g, sql}); st != nil {
			return st, len(sql), nil
		}
	}
	text := &c.short
	if len(sql) > shortScript {
		text = &c.long
	}
	start := SkipBlank(sql, off)
	if start == len(sql) {
		text.drop(c.tls)
		return nil, len(sql) - off, nil
	}
	p, err := text.load(c.tls, sql)
	if err != nil {
		return nil, 0, err
	}
	st, tail, err := c.compile(sql, p, start, off == 0, g)
	if err != nil {
		return nil, 0, err
	}
	end := SkipBlank(sql, tail)
	if end == len(sql) {
		text.drop(c.tls)
		if off == 0 && st.cacheable() {
			c.stmts.add(st, cacheKey{g, sql})
		}
	}
	return st, end - off, nil
}

// compile prepares the statement at sql[start:], of which p is the copy in C
// memory. tail is where the next one begins.
func (c *Conn) compile(sql string, p uintptr, start int, persistent bool, g Guard) (st *Stmt, tail int, err error) {
	if c.trusted {
		g = GuardNone
	}
	word := firstWord(sql[start:])
	if g != GuardNone && strings.EqualFold(word, "VACUUM") {
		// The authorizer is not asked about VACUUM. It could not run: it needs to
		// attach a database, which the limits forbid. This only says so clearly.
		return nil, 0, deny(ruleVacuum, "")
	}
	flags := uint32(0)
	if persistent {
		flags = lib.SQLITE_PREPARE_PERSISTENT
	}
	a := &c.st.auth
	a.prepare(g)
	out := address(&c.st.out)
	rc := lib.Xsqlite3_prepare_v3(c.tls, c.db, p+uintptr(start), -1, flags, out, out+8)
	if rc != lib.SQLITE_OK {
		return nil, 0, c.failure(rc)
	}
	h := c.st.out[0]
	tail = int(c.st.out[1] - p)
	if h == 0 {
		return nil, 0, fmt.Errorf("prepare: no statement in %q", sql[start:tail])
	}
	st = &Stmt{c: c, h: h, guard: g, sql: statementText(sql[start:tail])}
	st.pushFront(&c.stmts.loose)
	st.classify(a, strings.EqualFold(word, "ANALYZE"))
	if d := st.forbidden(a); d != nil {
		st.finalize()
		return nil, 0, d
	}
	return st, tail, nil
}

// statementText takes the ';' and the whitespace around it off the end.
func statementText(s string) string {
	s = strings.TrimRight(s, space)
	return strings.TrimRight(strings.TrimSuffix(s, ";"), space)
}

const (
	space         = " \t\n\f\r"
	byteOrderMark = "\xef\xbb\xbf" // SQLite takes it for a space
)

// SkipBlank is where in sql, from off on, something else than whitespace, comments
// and empty statements begins. An unterminated comment extends to the end, as in
// SQLite.
func SkipBlank(sql string, off int) int {
	s := sql[off:]
	for s != "" {
		switch {
		case strings.IndexByte(space+";", s[0]) >= 0:
			s = s[1:]
		case strings.HasPrefix(s, byteOrderMark):
			s = s[len(byteOrderMark):]
		case strings.HasPrefix(s, "--"):
			s = after(s, "\n")
		case strings.HasPrefix(s, "/*"):
			s = after(s[2:], "*/")
		default:
			return len(sql) - len(s)
		}
	}
	return len(sql)
}

func after(s, sep string) string {
	_, rest, _ := strings.Cut(s, sep)
	return rest
}

// firstWord is the keyword that s begins with.
func firstWord(s string) string {
	n := 0
	for n < len(s) && 'a' <= s[n]|0x20 && s[n]|0x20 <= 'z' {
		n++
	}
	return s[:n]
}

// script is the copy in C memory of the text that was last prepared from. It is
// kept while the same string is prepared statement by statement: copying the rest
// each time would make long scripts quadratic.
type script struct {
	text   string
	p      uintptr
	memory int
}

// shortScript is the size in bytes up to which a script's memory is kept for the
// next one.
const shortScript = 64 << 10

// load copies sql to C memory, unless it is there, and returns its address.
func (s *script) load(tls *libc.TLS, sql string) (uintptr, error) {
	if len(s.text) == len(sql) && unsafe.StringData(s.text) == unsafe.StringData(sql) {
		return s.p, nil
	}
	if strings.IndexByte(sql, 0) >= 0 {
		return 0, ErrNUL
	}
	if !utf8.ValidString(sql) {
		return 0, ErrUTF8
	}
	if s.memory < len(sql)+1 {
		s.free(tls)
		s.memory = max(1024, len(sql)+1)
		s.p = allocate(tls, s.memory)
	}
	b := bytesAt(s.p, len(sql)+1)
	copy(b, sql)
	b[len(sql)] = 0
	s.text = sql
	return s.p, nil
}

// drop forgets a script that was prepared to its end.
func (s *script) drop(tls *libc.TLS) {
	s.text = ""
	if s.memory > shortScript+1 {
		s.free(tls)
	}
}

func (s *script) free(tls *libc.TLS) {
	if s.p != 0 {
		free(tls, s.p)
	}
	*s = script{}
}
