package engine

import (
	"fmt"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"

	"github.com/snapdb/snapdb/subjects"
)

// Op is what a statement does, as SQLite tells when it compiles it.
type Op uint8

// The kinds of statements. EXPLAIN of anything is a read.
const (
	OpRead  Op = iota
	OpWrite    // it may change the database
	OpBegin
	OpCommit
	OpRollback
	OpSavepoint
	OpRelease
	OpRollbackTo
)

// Stmt is a prepared statement. It belongs to its connection and is used by the
// goroutine that uses the connection. Close it when done. Once its connection is
// closed, it can only be closed.
type Stmt struct {
	c     *Conn
	h     uintptr
	sql   string
	guard Guard
	op    Op
	seen  seen // what SQLite has said of it

	params    int
	fits      schemaID // what schema it was compiled for
	described schemaID // what schema the next two belong to
	names     []string // of the columns, nil until asked for
	types     []string // declared ones

	args     uintptr // C memory of the bound texts and blobs
	argBytes int     // its size

	link // place in the cache
}

// schemaID changes whenever the connection learns of a change of the schema.
type schemaID struct{ cookie, generation int32 }

func (c *Conn) schema() schemaID {
	main := at[lib.TDb](at[lib.Tsqlite3](c.db).FaDb)
	s := at[lib.TSchema](main.FpSchema)
	return schemaID{s.Fschema_cookie, s.FiGeneration}
}

// classify takes over what the authorizer has recorded.
func (s *Stmt) classify(a *authState, analyze bool) {
	tls := s.c.tls
	s.params = int(lib.Xsqlite3_bind_parameter_count(tls, s.h))
	s.fits = s.c.schema()
	if lib.Xsqlite3_stmt_isexplain(tls, s.h) != 0 {
		s.seen = a.seen & seenSetting
		return
	}
	s.seen = a.seen
	if analyze {
		s.seen |= seenAnalyze
	}
	readonly := lib.Xsqlite3_stmt_readonly(tls, s.h) != 0
	switch {
	case a.op != OpRead:
		s.op = a.op
	case !readonly || s.seen&seenDefer != 0:
		s.op = OpWrite
	}
}

// Op says what the statement does.
func (s *Stmt) Op() Op { return s.op }

// SQL is the statement's own text, without what stood before it and without the
// ';' at its end.
func (s *Stmt) SQL() string { return s.sql }

// Analyzes says whether it changes planner statistics, see
// [Conn.ReloadStatistics].
func (s *Stmt) Analyzes() bool { return s.seen&seenAnalyze != 0 }

// ChangesSchema says whether it creates, drops or alters something.
func (s *Stmt) ChangesSchema() bool { return s.seen&seenSchema != 0 }

// CreatesTable says whether it is a CREATE TABLE … AS: after it has run,
// [Conn.CheckColumns] must be asked.
func (s *Stmt) CreatesTable() bool {
	return s.seen&(seenCreateTable|seenSelect) == seenCreateTable|seenSelect
}

// DefersForeignKeys says whether it is a PRAGMA defer_foreign_keys with a value.
// The setting lasts until the transaction ends.
func (s *Stmt) DefersForeignKeys() bool { return s.seen&seenDefer != 0 }

// Params is the number of parameters.
func (s *Stmt) Params() int { return s.params }

// Bind sets all parameters. The values are copied. The error wraps
// [ErrArguments] if their number is wrong.
func (s *Stmt) Bind(args []subjects.Value) error {
	if len(args) != s.params {
		return fmt.Errorf("%w: %d, the statement has %d parameters", ErrArguments, len(args), s.params)
	}
	size := 0
	for i := range args {
		size += len(args[i].Bytes())
	}
	if size > s.argBytes {
		// Twice, so that growing arguments do not allocate each time.
		s.freeArgs()
		s.argBytes = max(64, 2*size)
		if size > keepArgs {
			s.argBytes = size
		}
		s.args = allocate(s.c.tls, s.argBytes)
	}
	p := s.args
	for i := range args {
		if rc := s.bind(int32(i+1), &args[i], p); rc != lib.SQLITE_OK {
			return fmt.Errorf("bind argument %d: %w", i+1, s.c.failure(rc))
		}
		p += uintptr(len(args[i].Bytes()))
	}
	return nil
}

// bind sets one parameter; p is where its bytes go.
func (s *Stmt) bind(i int32, v *subjects.Value, p uintptr) int32 {
	tls := s.c.tls
	switch v.Kind() {
	case subjects.Integer:
		return lib.Xsqlite3_bind_int64(tls, s.h, i, v.Int())
	case subjects.Real:
		return lib.Xsqlite3_bind_double(tls, s.h, i, v.Float())
	case subjects.Text, subjects.Blob:
		b := v.Bytes()
		n := lib.Tsqlite3_uint64(len(b))
		if n == 0 {
			p = address(&s.c.st.empty)
		} else {
			copy(bytesAt(p, len(b)), b)
		}
		if v.Kind() == subjects.Text {
			return lib.Xsqlite3_bind_text64(tls, s.h, i, p, n, lib.SQLITE_STATIC, lib.SQLITE_UTF8)
		}
		return lib.Xsqlite3_bind_blob64(tls, s.h, i, p, n, lib.SQLITE_STATIC)
	}
	return lib.Xsqlite3_bind_null(tls, s.h, i)
}

// Step runs the statement to its next row, or to its end.
func (s *Stmt) Step() (row bool, err error) {
	c := s.c
	if s.seen&seenDefer != 0 && s.guard != GuardNone {
		return false, c.Exec(s.sql)
	}
	c.st.auth.enter(s.guard, s.op == OpWrite, s.seen)
	switch rc := lib.Xsqlite3_step(c.tls, s.h); rc {
	case lib.SQLITE_ROW:
		return true, nil
	case lib.SQLITE_DONE:
		return false, nil
	default:
		return false, c.failure(rc)
	}
}

// ColumnCount is the number of columns of each row, 0 if it returns none.
func (s *Stmt) ColumnCount() int { return int(lib.Xsqlite3_column_count(s.c.tls, s.h)) }

// Columns are the names of the columns. They must not be changed.
func (s *Stmt) Columns() []string { s.describe(); return s.names }

// DeclTypes are the declared types of the columns, "" for expressions. They must
// not be changed.
func (s *Stmt) DeclTypes() []string { s.describe(); return s.types }

// describe reads names and types of the columns, again if SQLite may have compiled
// the statement anew for another schema.
func (s *Stmt) describe() {
	id := s.c.schema()
	if s.described == id && s.names != nil {
		return
	}
	tls := s.c.tls
	n := s.ColumnCount()
	s.described, s.names, s.types = id, make([]string, n), make([]string, n)
	for i := range n {
		s.names[i] = libc.GoString(lib.Xsqlite3_column_name(tls, s.h, int32(i)))
		s.types[i] = libc.GoString(lib.Xsqlite3_column_decltype(tls, s.h, int32(i)))
	}
}

// Column is the value of column i of the current row. The bytes of a text or blob
// are SQLite's own: valid until the next Step, Reset or Close. Without the memory for
// them it is empty, and the next Step says so.
func (s *Stmt) Column(i int) subjects.Value {
	tls, col := s.c.tls, int32(i)
	switch lib.Xsqlite3_column_type(tls, s.h, col) {
	case lib.SQLITE_INTEGER:
		return subjects.IntegerValue(lib.Xsqlite3_column_int64(tls, s.h, col))
	case lib.SQLITE_FLOAT:
		return subjects.RealValue(lib.Xsqlite3_column_double(tls, s.h, col))
	case lib.SQLITE_TEXT:
		p := lib.Xsqlite3_column_text(tls, s.h, col)
		if p == 0 {
			return subjects.TextBytes(nil)
		}
		return subjects.TextBytes(bytesAt(p, int(lib.Xsqlite3_column_bytes(tls, s.h, col))))
	case lib.SQLITE_BLOB:
		p := lib.Xsqlite3_column_blob(tls, s.h, col)
		n := int(lib.Xsqlite3_column_bytes(tls, s.h, col))
		if p == 0 || n == 0 {
			return subjects.BlobValue(nil)
		}
		return subjects.BlobValue(bytesAt(p, n))
	}
	return subjects.Value{}
}

// keepArgs is how much memory for arguments a statement keeps, in bytes.
const keepArgs = 64 << 10

// Reset makes the statement ready to be bound and stepped again. Its arguments
// are NULL.
func (s *Stmt) Reset() {
	lib.Xsqlite3_reset(s.c.tls, s.h)
	if s.params > 0 {
		lib.Xsqlite3_clear_bindings(s.c.tls, s.h)
	}
	if s.argBytes > keepArgs {
		s.freeArgs()
	}
}

// Close gives the statement back. It must not be used afterwards.
func (s *Stmt) Close() {
	if s.h == 0 {
		return
	}
	if s.cached {
		s.Reset()
		s.busy = false
		return
	}
	s.finalize()
}

func (s *Stmt) finalize() {
	s.unlink()
	lib.Xsqlite3_finalize(s.c.tls, s.h)
	s.h = 0
	s.freeArgs()
}

func (s *Stmt) freeArgs() {
	if s.args != 0 {
		free(s.c.tls, s.args)
	}
	s.args, s.argBytes = 0, 0
}
