package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"

	lib "modernc.org/sqlite/lib"
)

// Errors that are not SQLite's.
var (
	// ErrArguments: the number of arguments is not the number of parameters.
	ErrArguments = errors.New("wrong number of arguments")
	// ErrText: SQL text that cannot be read the same everywhere. Bytes of any kind
	// can be given as arguments.
	ErrText = errors.New("SQL must be valid UTF-8 without NUL bytes; give other bytes as arguments")
	// ErrNUL is the ErrText for a NUL byte, after which SQLite would ignore the rest.
	ErrNUL = fmt.Errorf("NUL byte in SQL: %w", ErrText)
	// ErrUTF8 is the ErrText for invalid UTF-8.
	ErrUTF8 = fmt.Errorf("invalid UTF-8 in SQL: %w", ErrText)
	// ErrDenied: a guard does not allow this SQL. It is wrapped by an Error whose
	// message says what and why.
	ErrDenied = errors.New("not allowed")
	// ErrRandomName: SQLite has given columns of a new table random names.
	ErrRandomName = errors.New("columns of the new table need names of their own: SQLite would choose them at random")
)

// Error is what SQLite says, or a guard in its place.
type Error struct {
	Code    int    // extended result code (https://sqlite.org/rescode.html)
	Message string // for people
	Offset  int    // byte offset in the statement's SQL, -1 if unknown
	// Forbidden names what a guard does not allow ("ATTACH", "PRAGMA
	// foreign_keys"); "" unless Denied.
	Forbidden string

	cause error
}

// Error is the message alone.
func (e *Error) Error() string { return e.Message }

// Unwrap is context.DeadlineExceeded when the connection's deadline stopped the
// statement, context.Canceled when [Conn.Interrupt] did, ErrDenied when a guard
// forbids it, else nil.
func (e *Error) Unwrap() error { return e.cause }

// Primary is the result code without its extension.
func (e *Error) Primary() int { return e.Code & 0xff }

// Constraint says that the data violates the schema, or that a trigger objected.
func (e *Error) Constraint() bool { return e.Primary() == lib.SQLITE_CONSTRAINT }

// TooBig says that a value, row or statement is beyond the limits.
func (e *Error) TooBig() bool { return e.Primary() == lib.SQLITE_TOOBIG }

// Busy says that another connection or program is in the way.
func (e *Error) Busy() bool {
	return e.Primary() == lib.SQLITE_BUSY || e.Primary() == lib.SQLITE_LOCKED
}

// Denied says that a guard forbids the SQL.
func (e *Error) Denied() bool { return e.Primary() == lib.SQLITE_AUTH }

// ReadOnly says that a reader was asked to write.
func (e *Error) ReadOnly() bool { return e.Primary() == lib.SQLITE_READONLY }

// SQL says that the statement itself is wrong: its syntax, names or types.
func (e *Error) SQL() bool {
	switch e.Primary() {
	case lib.SQLITE_ERROR, lib.SQLITE_MISMATCH, lib.SQLITE_RANGE, lib.SQLITE_SCHEMA:
		return true
	}
	return false
}

// Corrupt says that the file is not a sound SQLite database. A virtual table whose
// parts disagree, which SQL can bring about, is no sign of that.
func (e *Error) Corrupt() bool {
	return e.Primary() == lib.SQLITE_CORRUPT && e.Code != lib.SQLITE_CORRUPT_VTAB || e.Primary() == lib.SQLITE_NOTADB
}

// NoDatabase says that the file is none of SQLite's, or is encrypted.
func (e *Error) NoDatabase() bool { return e.Primary() == lib.SQLITE_NOTADB }

// HotJournal says that the file cannot be read before the transaction of a program
// that crashed is rolled back, which a reader may not do.
func (e *Error) HotJournal() bool { return e.Code == lib.SQLITE_READONLY_ROLLBACK }

// Full says that the disk is full.
func (e *Error) Full() bool { return e.Primary() == lib.SQLITE_FULL }

// Disk says that the disk has failed; a quota that is used up looks like this too.
func (e *Error) Disk() bool { return e.Primary() == lib.SQLITE_IOERR }

// Environmental says that the error comes from the machine (disk, memory, locks,
// interrupts) rather than from the SQL and the content it met, and may therefore
// be absent on another node or at another time.
func (e *Error) Environmental() bool {
	switch e.Primary() {
	case lib.SQLITE_ERROR, lib.SQLITE_CONSTRAINT, lib.SQLITE_MISMATCH, lib.SQLITE_RANGE, lib.SQLITE_TOOBIG, lib.SQLITE_AUTH:
		return false
	}
	return true
}

// failure makes the error for result code rc of the last call on the connection.
func (c *Conn) failure(rc int32) error {
	if d := c.st.auth.broken.take(); d != nil {
		return d
	}
	if e := c.budget.refused(rc); e != nil {
		return e
	}
	e := &Error{Code: int(rc), Offset: -1}
	message := lib.Xsqlite3_errstr(c.tls, rc)
	if code := lib.Xsqlite3_extended_errcode(c.tls, c.db); code&0xff == rc&0xff {
		e.Code = int(code)
		message = lib.Xsqlite3_errmsg(c.tls, c.db)
		e.Offset = int(lib.Xsqlite3_error_offset(c.tls, c.db))
	}
	e.Message = strings.Clone(view(message))
	switch e.Primary() {
	case lib.SQLITE_FULL, lib.SQLITE_IOERR, lib.SQLITE_NOMEM, lib.SQLITE_CORRUPT:
		c.faulted = true
	case lib.SQLITE_INTERRUPT:
		e.cause = context.Canceled
		if c.st.expired {
			e.Message, e.cause = "time limit reached", context.DeadlineExceeded
		}
	}
	return e
}
