package engine

import (
	"sync/atomic"
	"time"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// Limits that every node must share, because a statement that exceeds one fails.
const (
	// maxLength is the size of a value or row in bytes: 64 MiB for the largest
	// value, and room for the rest of its row.
	maxLength = 64<<20 + 1<<20
	// maxSQL is the size of one statement's text in bytes.
	maxSQL = 64 << 20
	// maxProgram is the number of instructions one statement may compile to. A
	// single INSERT with a million rows of ten columns takes half of it.
	maxProgram = 25_000_000

	// maxPattern is the size of a LIKE or GLOB pattern of a reader in bytes: no time limit
	// ends one comparison, which takes pattern times value. Writers have SQLite's limit.
	maxPattern = 1000
)

// progressOps is after how many instructions a running statement looks whether
// it shall stop: some ten microseconds.
const progressOps = 1000

// started is what deadlines are measured from, on the monotonic clock.
var started = time.Now()

// Interrupt stops the running statement with an interrupted [Error], and every
// later one until BeginRequest. An interrupted write rolls back the whole
// transaction. Interrupt may be called from any goroutine, also after Close.
func (c *Conn) Interrupt() {
	c.life.Lock()
	defer c.life.Unlock()
	if c.st != nil {
		atomic.StoreUint32(&c.st.stop, 1)
	}
}

// SetDeadline makes statements that still run at t fail like after Interrupt.
// The zero time is none.
func (c *Conn) SetDeadline(t time.Time) {
	c.st.deadline = 0
	if !t.IsZero() {
		c.st.deadline = max(1, int64(t.Sub(started)))
	}
}

// BeginRequest forgets what an earlier request has left on the connection: its
// deadline, an Interrupt, and MaxRowID.
func (c *Conn) BeginRequest() {
	c.EndRequest()
	c.st.maxRowID = false
	if c.budget != nil {
		c.budget.spent = nil
	}
}

// EndRequest lets the statements by which a request is closed or undone run to
// their end: its deadline, which may have passed, and an Interrupt are forgotten.
func (c *Conn) EndRequest() {
	atomic.StoreUint32(&c.st.stop, 0)
	c.st.deadline, c.st.expired = 0, false
}

// MaxRowID says whether a row with the largest possible rowid was changed since it
// was asked last in this request. SQLite gives the rows inserted after it random rowids.
func (c *Conn) MaxRowID() bool {
	seen := c.st.maxRowID
	c.st.maxRowID = false
	return seen
}

// DeferredViolations says whether foreign keys are violated that would make the
// next COMMIT fail.
func (c *Conn) DeferredViolations() bool {
	db := at[lib.Tsqlite3](c.db)
	return db.FnDeferredCons > 0 || db.FnDeferredImmCons > 0
}

func progress(_ *libc.TLS, p uintptr) int32 {
	s := at[state](p)
	if atomic.LoadUint32(&s.stop) != 0 {
		return 1
	}
	if s.deadline != 0 && int64(time.Since(started)) >= s.deadline {
		s.expired = true
		return 1
	}
	return 0
}

func updated(_ *libc.TLS, p uintptr, _ int32, _, _ uintptr, rowID int64) {
	if rowID == 1<<63-1 {
		at[state](p).maxRowID = true
	}
}

// setLimits sets all limits and callbacks of a connection just opened.
func (c *Conn) setLimits(attached int32) {
	for _, l := range [][2]int32{
		{lib.SQLITE_LIMIT_LENGTH, maxLength},
		{lib.SQLITE_LIMIT_SQL_LENGTH, maxSQL},
		{lib.SQLITE_LIMIT_VDBE_OP, maxProgram},
		{lib.SQLITE_LIMIT_ATTACHED, attached},
		{lib.SQLITE_LIMIT_WORKER_THREADS, 0},
	} {
		lib.Xsqlite3_limit(c.tls, c.db, l[0], l[1])
	}
	if c.budget != nil {
		lib.Xsqlite3_limit(c.tls, c.db, lib.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, maxPattern)
	}
	lib.Xsqlite3_progress_handler(c.tls, c.db, progressOps, callback(progress), address(c.st))
	lib.Xsqlite3_update_hook(c.tls, c.db, callback(updated), address(c.st))
	lib.Xsqlite3_set_authorizer(c.tls, c.db, callback(authorize), address(c.st))
}
