package engine

import (
	"fmt"
	"strings"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// Guard decides what SQL may be prepared.
type Guard uint8

// The guards.
const (
	// GuardNone allows everything: for snapdb's own SQL.
	GuardNone Guard = iota
	// GuardRead is for SQL of clients that shall only read. It refuses what
	// reaches outside the database or into the connection, not what writes: see
	// [Stmt.Op].
	GuardRead
	// GuardWrite is for SQL of clients that may write. It also refuses statements
	// that would write what differs between nodes.
	GuardWrite
)

// Reserved is how the names of snapdb's own tables and savepoints begin. Clients
// can neither read nor write nor make them.
const Reserved = "_snapdb"

// rule says what is forbidden and why.
type rule uint8

const (
	ruleNone rule = iota
	ruleAttach
	ruleDetach
	ruleVacuum
	ruleTemp
	rulePragma
	ruleSetting
	ruleFunction
	ruleModule
	ruleReserved
	ruleSavepoint
	rulePhysical
	rulePages
	ruleStatistics
)

// ruleText is what of each rule, in which % stands for the name, and why.
var ruleText = [...][2]string{
	ruleAttach:     {"ATTACH", "every database is a replicated file of its own; name the database in the request instead"},
	ruleDetach:     {"DETACH", "nothing can be attached"},
	ruleVacuum:     {"VACUUM", "it would rewrite the file of one node beside the replication"},
	ruleTemp:       {"a TEMP object", "connections are shared and the other nodes would not have it"},
	rulePragma:     {"PRAGMA %", "connections are shared between clients and set up alike on every node"},
	ruleSetting:    {"setting PRAGMA % here", "this is a place for reads"},
	ruleFunction:   {"function %()", "its result differs between nodes or it reaches outside the database"},
	ruleModule:     {"virtual table module %", "its content differs between nodes"},
	ruleReserved:   {"%", "names that begin with " + Reserved + " are reserved"},
	ruleSavepoint:  {"savepoint %", "names that begin with " + Reserved + " are reserved"},
	rulePhysical:   {"reading % in a statement that writes", "its content differs between nodes"},
	rulePages:      {"reading %", "pages hold what is deleted or reserved"},
	ruleStatistics: {"writing to %", "planner statistics take effect at different times on different nodes; use ANALYZE"},
}

// deny makes the error for breaking a rule.
func deny(r rule, name string) *Error {
	what := strings.Replace(ruleText[r][0], "%", name, 1)
	return &Error{
		Code:      lib.SQLITE_AUTH,
		Message:   what + " is not allowed: " + ruleText[r][1],
		Offset:    -1,
		Forbidden: what,
		cause:     ErrDenied,
	}
}

// seen is what the authorizer was asked about while a statement was compiled.
type seen uint16

const (
	seenAnalyze seen = 1 << iota
	seenSchema
	seenCreateTable
	seenAlter
	seenDrop
	seenSelect
	seenSetting // PRAGMA with a value
	seenDefer   // PRAGMA defer_foreign_keys with a value, by a client

	// seenExempt: the statement reads physical state for SQLite's own purposes,
	// and has no place where a client could.
	seenExempt = seenAlter | seenDrop
	// seenKeeper: the statement keeps statistics for SQLite's own purposes.
	seenKeeper = seenAnalyze | seenSchema
)

// finding is a rule with the name that breaks it.
type finding struct {
	rule rule
	len  uint8
	name [120]byte
}

// set records a finding, unless there is one already.
func (f *finding) set(r rule, name string) {
	if f.rule == ruleNone {
		f.rule = r
		f.len = uint8(copy(f.name[:], name))
	}
}

// take turns the finding, if there is one, into an error and forgets it.
func (f *finding) take() *Error {
	if f.rule == ruleNone {
		return nil
	}
	r := f.rule
	f.rule = ruleNone
	return deny(r, string(f.name[:f.len]))
}

// authState is what the authorizer knows and records. It is part of state and
// lives in C memory.
type authState struct {
	guard     Guard
	preparing bool // else a statement runs, and SQLite prepares something for it
	writes    bool // the running statement writes
	exempt    bool // the running statement has seenExempt
	keeps     bool // the running statement has seenKeeper
	op        Op
	seen      seen

	broken     finding // what was denied
	physical   finding // denied if the statement turns out to write
	statistics finding // denied unless the statement turns out to be a keeper
}

// prepare readies the authorizer for compiling a client's statement.
func (a *authState) prepare(g Guard) {
	a.guard, a.preparing = g, true
	a.op, a.seen = OpRead, 0
	a.broken.rule, a.physical.rule, a.statistics.rule = 0, 0, 0
}

// enter readies it for what SQLite prepares while a statement runs: virtual tables
// do, and statements that need to be compiled anew.
func (a *authState) enter(g Guard, writes bool, what seen) {
	a.guard, a.preparing, a.writes = g, false, writes
	a.exempt, a.keeps = what&seenExempt != 0, what&seenKeeper != 0
	a.broken.rule = ruleNone
}

// forbidden is what can be said only when the whole statement is known.
func (s *Stmt) forbidden(a *authState) *Error {
	if s.guard == GuardNone || s.op != OpWrite {
		return nil
	}
	if d := a.physical.take(); d != nil && s.seen&seenExempt == 0 {
		return d
	}
	if d := a.statistics.take(); d != nil && s.seen&seenKeeper == 0 {
		return d
	}
	if s.seen&seenAlter != 0 && strings.Contains(strings.ToLower(s.sql), Reserved) {
		// SQLite does not tell the new name of what is renamed.
		return deny(ruleReserved, Reserved)
	}
	return nil
}

// authorize is SQLite's authorizer callback.
// The arguments of each action: https://sqlite.org/c3ref/c_alter_table.html
func authorize(tls *libc.TLS, p uintptr, action int32, arg1, arg2, db, _ uintptr) int32 {
	a := &at[state](p).auth
	if a.preparing {
		a.record(tls, action, arg1, arg2)
	}
	if a.guard == GuardNone {
		return lib.SQLITE_OK
	}
	if action == lib.SQLITE_PRAGMA {
		return a.pragma(view(arg1), arg2 != 0, view(db))
	}
	if action == lib.SQLITE_ANALYZE && isReserved(view(arg1)) {
		// Positions are not written by the transactions themselves, so statistics
		// of them could differ between nodes: skip the table.
		return lib.SQLITE_IGNORE
	}
	r, name := a.judge(action, view(arg1), view(arg2), view(db))
	if r == ruleNone {
		return lib.SQLITE_OK
	}
	a.broken.set(r, name)
	return lib.SQLITE_DENY
}

// record notes what the statement is.
func (a *authState) record(tls *libc.TLS, action int32, arg1, arg2 uintptr) {
	switch action {
	case lib.SQLITE_TRANSACTION:
		switch view(arg1) {
		case "BEGIN":
			a.op = OpBegin
		case "COMMIT":
			a.op = OpCommit
		case "ROLLBACK":
			a.op = OpRollback
		}
	case lib.SQLITE_SAVEPOINT:
		switch view(arg1) {
		case "BEGIN":
			a.op = OpSavepoint
		case "RELEASE":
			a.op = OpRelease
		case "ROLLBACK":
			a.op = OpRollbackTo
		}
	case lib.SQLITE_ANALYZE:
		a.seen |= seenAnalyze
	case lib.SQLITE_SELECT:
		a.seen |= seenSelect
	case lib.SQLITE_PRAGMA:
		if arg2 != 0 {
			a.seen |= seenSetting
		}
	case lib.SQLITE_ALTER_TABLE:
		a.seen |= seenSchema | seenAlter
	case lib.SQLITE_CREATE_TABLE:
		a.seen |= seenSchema | seenCreateTable
	case lib.SQLITE_CREATE_INDEX, lib.SQLITE_CREATE_TRIGGER, lib.SQLITE_CREATE_VIEW, lib.SQLITE_CREATE_VTABLE,
		lib.SQLITE_CREATE_TEMP_TABLE, lib.SQLITE_CREATE_TEMP_INDEX, lib.SQLITE_CREATE_TEMP_TRIGGER, lib.SQLITE_CREATE_TEMP_VIEW:
		a.seen |= seenSchema
	case lib.SQLITE_DROP_TABLE, lib.SQLITE_DROP_INDEX, lib.SQLITE_DROP_TRIGGER, lib.SQLITE_DROP_VIEW, lib.SQLITE_DROP_VTABLE,
		lib.SQLITE_DROP_TEMP_TABLE, lib.SQLITE_DROP_TEMP_INDEX, lib.SQLITE_DROP_TEMP_TRIGGER, lib.SQLITE_DROP_TEMP_VIEW:
		a.seen |= seenSchema | seenDrop
	}
}

// judge says which rule a client breaks.
func (a *authState) judge(action int32, arg1, arg2, db string) (rule, string) {
	switch action {
	case lib.SQLITE_READ:
		return a.read(arg1, arg2)
	case lib.SQLITE_INSERT, lib.SQLITE_UPDATE, lib.SQLITE_DELETE:
		return a.write(arg1)
	case lib.SQLITE_FUNCTION:
		if forbiddenFunction(arg2) {
			return ruleFunction, arg2
		}
	case lib.SQLITE_SAVEPOINT:
		if isReserved(arg2) {
			return ruleSavepoint, arg2
		}
	case lib.SQLITE_ATTACH:
		return ruleAttach, ""
	case lib.SQLITE_DETACH:
		return ruleDetach, ""
	case lib.SQLITE_CREATE_TEMP_TABLE, lib.SQLITE_CREATE_TEMP_INDEX, lib.SQLITE_CREATE_TEMP_TRIGGER, lib.SQLITE_CREATE_TEMP_VIEW,
		lib.SQLITE_DROP_TEMP_TABLE, lib.SQLITE_DROP_TEMP_INDEX, lib.SQLITE_DROP_TEMP_TRIGGER, lib.SQLITE_DROP_TEMP_VIEW:
		return ruleTemp, ""
	case lib.SQLITE_CREATE_VTABLE:
		if !allowedModule(arg2) {
			return ruleModule, arg2
		}
		return object(arg1, "", db)
	case lib.SQLITE_CREATE_TABLE, lib.SQLITE_CREATE_INDEX, lib.SQLITE_CREATE_TRIGGER, lib.SQLITE_CREATE_VIEW,
		lib.SQLITE_DROP_TABLE, lib.SQLITE_DROP_INDEX, lib.SQLITE_DROP_TRIGGER, lib.SQLITE_DROP_VIEW, lib.SQLITE_DROP_VTABLE,
		lib.SQLITE_ALTER_TABLE:
		// The object, and the table it belongs to; for ALTER TABLE database and table.
		return object(arg1, arg2, db)
	}
	return ruleNone, ""
}

func (a *authState) read(table, column string) (rule, string) {
	if isReserved(table) {
		return ruleReserved, table
	}
	name := table
	switch {
	case hasPrefixFold(table, "pragma_"):
		if !readPragmas[strings.ToLower(table[len("pragma_"):])].allowed {
			return rulePragma, table[len("pragma_"):]
		}
	case strings.EqualFold(table, "sqlite_dbpage"):
		return rulePages, table
	case strings.EqualFold(table, "dbstat"):
	case strings.EqualFold(column, "rootpage") && (table == "sqlite_master" || table == "sqlite_schema"):
		name = "sqlite_schema.rootpage"
	default:
		return ruleNone, ""
	}
	if a.preparing {
		a.physical.set(rulePhysical, name)
	} else if a.writes && !a.exempt {
		return rulePhysical, name
	}
	return ruleNone, ""
}

func (a *authState) write(table string) (rule, string) {
	if isReserved(table) {
		return ruleReserved, table
	}
	switch {
	case !hasPrefixFold(table, "sqlite_stat"):
	case a.preparing:
		a.statistics.set(ruleStatistics, table)
	case !a.keeps:
		return ruleStatistics, table
	}
	return ruleNone, ""
}

// pragma judges PRAGMA name, or PRAGMA name=value.
func (a *authState) pragma(name string, value bool, db string) int32 {
	name = strings.ToLower(name)
	p := readPragmas[name]
	switch {
	case p.allowed && (!value || p.value):
		return lib.SQLITE_OK
	case !writePragmas[name] || strings.EqualFold(db, "temp"):
		a.broken.set(rulePragma, name)
	case a.guard != GuardWrite:
		a.broken.set(ruleSetting, name)
	case name == "defer_foreign_keys":
		// SQLite would set it now, while it is only being prepared. Ignored here,
		// it is set by Step.
		a.seen |= seenDefer
		return lib.SQLITE_IGNORE
	default:
		return lib.SQLITE_OK
	}
	return lib.SQLITE_DENY
}

// readPragmas are the PRAGMAs that only show something. Those with value take an
// argument, the others set something when they get one. data_version and page_size
// must be among them: FTS5 and R-Tree read them for themselves.
var readPragmas = map[string]struct{ allowed, value bool }{
	"table_info":        {true, true},
	"table_xinfo":       {true, true},
	"table_list":        {true, true},
	"index_list":        {true, true},
	"index_info":        {true, true},
	"index_xinfo":       {true, true},
	"foreign_key_list":  {true, true},
	"foreign_key_check": {true, true},
	"integrity_check":   {true, true},
	"quick_check":       {true, true},

	"application_id":     {true, false},
	"auto_vacuum":        {true, false},
	"collation_list":     {true, false},
	"compile_options":    {true, false},
	"data_version":       {true, false},
	"database_list":      {true, false},
	"defer_foreign_keys": {true, false},
	"encoding":           {true, false},
	"foreign_keys":       {true, false},
	"freelist_count":     {true, false},
	"function_list":      {true, false},
	"module_list":        {true, false},
	"page_count":         {true, false},
	"page_size":          {true, false},
	"pragma_list":        {true, false},
	"schema_version":     {true, false},
	"user_version":       {true, false},
}

// writePragmas are the PRAGMAs that change content, or what the transaction does.
var writePragmas = map[string]bool{
	"application_id":     true,
	"defer_foreign_keys": true,
	"user_version":       true,
}

func forbiddenFunction(name string) bool {
	switch strings.ToLower(name) {
	case "load_extension", "sqlite_offset", "sqlite_compileoption_get", "sqlite_compileoption_used", "sqlite_log",
		"fts5_locale": // its value carries a random mark of the process
		return true
	}
	return false
}

// allowedModule keeps modules out that show physical state under another name.
func allowedModule(name string) bool {
	switch strings.ToLower(name) {
	case "fts5", "fts5vocab", "rtree", "rtree_i32", "geopoly":
		return true
	}
	return false
}

// object judges the making, changing or dropping of something.
func object(name, table, db string) (rule, string) {
	switch {
	case strings.EqualFold(db, "temp"):
		return ruleTemp, ""
	case isReserved(name):
		return ruleReserved, name
	case isReserved(table):
		return ruleReserved, table
	}
	return ruleNone, ""
}

func isReserved(name string) bool { return hasPrefixFold(name, Reserved) }

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// CheckColumns looks at the table that was created last and fails with
// [ErrRandomName] if SQLite had to make its column names unique: from the fifth
// equal name on it adds a random number.
func (c *Conn) CheckColumns() error {
	const columns = `SELECT name FROM pragma_table_info((SELECT name FROM sqlite_schema WHERE type='table' ORDER BY rowid DESC LIMIT 1))`
	st, _, err := c.Prepare(columns, 0, GuardNone)
	if err != nil {
		return err
	}
	defer st.Close()
	for {
		row, err := st.Step()
		if err != nil || !row {
			return err
		}
		if name := string(st.Column(0).Bytes()); numbered(name) {
			return fmt.Errorf("%w (%q)", ErrRandomName, name)
		}
	}
}

// numbered says whether name ends with ':' and at least two digits.
func numbered(name string) bool {
	head := strings.TrimRight(name, "0123456789")
	return len(name)-len(head) >= 2 && strings.HasSuffix(head, ":")
}
