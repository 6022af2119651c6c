// Package engine is SQLite as snapdb needs it: one connection type that runs SQL
// so that the same statements give the same content on every node, and that
// lets through only the SQL which can keep this promise.
//
// It is built on the C interface of modernc.org/sqlite rather than on
// database/sql, which has no way to set the clock, to replace random(), to ask
// whether a statement writes, or to bind and read values without changing them,
// and costs two to three times as much per statement.
//
// # Determinism
//
// What SQL can see besides the content of the database is set by the caller: the
// clock ([Conn.SetClock]), the generator behind random() and randomblob()
// ([Conn.Seed]) and the counters behind last_insert_rowid(), changes() and
// total_changes() ([Conn.SetCounters]). Local time is UTC in the whole process.
// What SQLite would take from the machine instead is refused by the guards (page
// numbers, connection settings, TEMP objects), or can be asked for after the
// statement has run ([Conn.MaxRowID], [Conn.CheckColumns]).
//
// # Settings
//
// Limits and settings that change what a statement does are constants, equal on
// every node: foreign keys are on, the schema is not trusted, the database is
// defensive (https://sqlite.org/c3ref/c_dbconfig_defensive.html), nothing can be
// attached, a value has at most 64 MiB. Double-quoted strings are accepted, as
// SQLite does by default, because existing programs and dumps contain them.
//
// # What it is not
//
// It knows no database names, transactions of the log, sums or nodes. It does not
// parse SQL: statements are split, classified and policed by preparing them. It
// does not decide when a transaction begins or ends.
//
// # Memory
//
// What C code points to lives in C memory: one block per connection (type state)
// that the callbacks get as their argument. No registry of connections is needed.
package engine
