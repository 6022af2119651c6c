package engine

import (
	"errors"
	"fmt"
	"sync"

	"modernc.org/libc"
	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"
)

// Options of a connection. The zero value is a writer with all defaults.
type Options struct {
	// ReadOnly opens a reader: it cannot write, its clock is real time and its
	// random() is seeded by chance. The file must exist.
	ReadOnly bool
	// Scratch opens a writer without WAL, journal and fsync: for a file that is
	// thrown away unless it gets finished.
	Scratch bool
	// Trusted turns the guards off and allows VACUUM and one attached database.
	// For files that are not replicated.
	Trusted bool
	// Allowance bounds what a reader takes of the machine; nil: nothing does.
	Allowance *Allowance
	// Statements is how many prepared statements are kept, StatementBytes how much
	// memory they may take. 0: 512 and 16 MiB.
	Statements     int
	StatementBytes int
}

// Conn is a connection to one database file. It is used by one goroutine at a
// time, except [Conn.Interrupt].
type Conn struct {
	tls     *libc.TLS
	db      uintptr
	trusted bool

	budget *budget // nil without an allowance

	st   *state
	life sync.Mutex // held to free st, and by Interrupt to use it

	faulted bool // an error of the disk or of memory has come since it was reset

	stmts cache
	own   [len(ownSQL)]uintptr // statements of the connection itself
	// Two, so that the short statements executed between those of a long script
	// do not drive it out of memory.
	short, long script
}

// Settings of every connection, and of writers. WAL lets readers go on while a
// group is written; a lost last commit is replayed from the log, so NORMAL is
// enough; checkpoints every 8000 pages keep the slowest commits rare.
const (
	settings       = "PRAGMA foreign_keys=ON; PRAGMA cache_size=-%d"
	writerSettings = "PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=8000; PRAGMA journal_size_limit=67108864"

	busyTimeout = 5000 // milliseconds

	// Sizes of the page cache. A writer's decides when sorting spills to disk, which
	// must be the same on every node.
	writerCacheKiB = 65536
	readerCacheKiB = 8192
)

// Open opens the database file at path. A writer creates it if it does not exist.
func Open(path string, o Options) (*Conn, error) {
	files, err := setup()
	if err != nil {
		return nil, err
	}
	c := &Conn{tls: libc.NewTLS(), trusted: o.Trusted}
	p := allocate(c.tls, stateSize)
	clear(bytesAt(p, stateSize))
	c.st = at[state](p)
	c.st.vfs = files
	c.stmts.init(o)
	if o.ReadOnly && o.Allowance != nil {
		c.budget = &budget{Allowance: o.Allowance}
		budgets.Store(c.tls, c.budget)
	}
	if err := c.open(path, o); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), c.Close())
	}
	return c, nil
}

func (c *Conn) open(path string, o Options) error {
	flags, vfs := int32(lib.SQLITE_OPEN_NOMUTEX|lib.SQLITE_OPEN_EXRESCODE), uintptr(0)
	cacheKiB := writerCacheKiB
	if o.ReadOnly {
		flags |= lib.SQLITE_OPEN_READONLY
		cacheKiB = readerCacheKiB
		if c.budget != nil {
			if err := c.watchFiles(o.Allowance); err != nil {
				return err
			}
			vfs = c.st.vfs.FzName
		}
	} else {
		flags |= lib.SQLITE_OPEN_READWRITE | lib.SQLITE_OPEN_CREATE
		if err := c.registerClock(); err != nil {
			return err
		}
		vfs = c.st.vfs.FzName
	}
	name := cString(c.tls, path)
	rc := lib.Xsqlite3_open_v2(c.tls, name, address(&c.st.out[0]), flags, vfs)
	free(c.tls, name)
	if c.db = c.st.out[0]; c.db == 0 {
		return fmt.Errorf("result code %d", rc)
	}
	if rc != lib.SQLITE_OK {
		return c.failure(rc)
	}
	if err := c.configure(); err != nil {
		return err
	}
	attached := int32(0)
	if o.Trusted {
		attached = 1
	}
	c.setLimits(attached)
	lib.Xsqlite3_busy_timeout(c.tls, c.db, busyTimeout)
	if err := c.registerRandom(); err != nil {
		return err
	}
	if err := c.Exec(fmt.Sprintf(settings, cacheKiB)); err != nil {
		return err
	}
	switch {
	case o.ReadOnly:
		return nil
	case o.Scratch:
		return c.Exec("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF")
	}
	if err := c.enterWAL(); err != nil {
		return err
	}
	return c.Exec(writerSettings)
}

// configure sets what no statement can set.
func (c *Conn) configure() error {
	for _, cfg := range []struct{ option, value int32 }{
		{lib.SQLITE_DBCONFIG_DEFENSIVE, 1},
		{lib.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0},
	} {
		va := libc.NewVaList(cfg.value, uintptr(0))
		rc := lib.Xsqlite3_db_config(c.tls, c.db, cfg.option, va)
		libc.Xfree(c.tls, va)
		if rc != lib.SQLITE_OK {
			return fmt.Errorf("configure: %w", c.failure(rc))
		}
	}
	return nil
}

func (c *Conn) enterWAL() error {
	st, _, err := c.Prepare("PRAGMA journal_mode=WAL", 0, GuardNone)
	if err != nil {
		return err
	}
	defer st.Close()
	if _, err := st.Step(); err != nil {
		return err
	}
	if mode := string(st.Column(0).Bytes()); mode != "wal" && mode != "memory" {
		return fmt.Errorf("journal mode is %s: the file system does not support WAL", mode)
	}
	return nil
}

// Close ends the connection, with all its statements. An open transaction is
// rolled back.
func (c *Conn) Close() error {
	if c.st == nil {
		return nil
	}
	var err error
	if c.db != 0 {
		c.stmts.closeAll()
		for _, h := range c.own {
			lib.Xsqlite3_finalize(c.tls, h)
		}
		if rc := lib.Xsqlite3_close_v2(c.tls, c.db); rc != lib.SQLITE_OK {
			err = fmt.Errorf("close: result code %d", rc)
		}
	}
	if c.st.vfs.FzName != 0 {
		lib.Xsqlite3_vfs_unregister(c.tls, address(&c.st.vfs))
	}
	c.short.free(c.tls)
	c.long.free(c.tls)
	c.life.Lock()
	free(c.tls, address(c.st))
	c.st = nil
	c.life.Unlock()
	if c.budget != nil {
		budgets.Delete(c.tls)
		c.budget.memory.Add(-c.budget.mine) // what it has left, if anything
	}
	c.tls.Close()
	return err
}

// setup prepares the process, once, before its first connection. Both settings
// are SQLite's own global state: local time is UTC, because nodes stand in
// different time zones; and, where the system has them, locks belong to the open
// file rather than to the process: otherwise any close of a database file
// anywhere in the process gives up the locks of all its connections, and the next
// program to open the file deletes the WAL under them.
//
// It returns SQLite's default file system, read before any other is registered: they
// are linked into a list that changes with every writer.
var setup = sync.OnceValues(func() (files lib.Tsqlite3_vfs, err error) {
	if _, err := sqlite.OFDLocking(true); err != nil && !errors.Is(err, sqlite.ErrOFDLockingUnavailable) {
		return files, fmt.Errorf("set up file locks: %w", err)
	}
	tls := libc.NewTLS()
	defer tls.Close()
	if err := countMemory(tls); err != nil {
		return files, err
	}
	if rc := lib.Xsqlite3_initialize(tls); rc != lib.SQLITE_OK {
		return files, fmt.Errorf("initialize SQLite: result code %d", rc)
	}
	va := libc.NewVaList(int32(2), callback(utcLocaltime))
	defer libc.Xfree(tls, va)
	if rc := lib.Xsqlite3_test_control(tls, lib.SQLITE_TESTCTRL_LOCALTIME_FAULT, va); rc != lib.SQLITE_OK {
		return files, fmt.Errorf("set local time: result code %d", rc)
	}
	def := lib.Xsqlite3_vfs_find(tls, 0)
	if def == 0 {
		return files, errors.New("SQLite has no default file system")
	}
	files = *at[lib.Tsqlite3_vfs](def)
	files.FzName, files.FpNext = 0, 0 // not registered
	return files, nil
})

// The connection's own statements, prepared at their first use.
const (
	ownBegin = iota
	ownBeginRead
	ownFirstRead
	ownCommit
	ownRollback
	ownSavepoint
	ownRelease
	ownRollbackTo
	ownDataVersion
)

var ownSQL = [...]string{
	ownBegin:       "BEGIN IMMEDIATE",
	ownBeginRead:   "BEGIN",
	ownFirstRead:   "SELECT 1 FROM sqlite_schema LIMIT 1",
	ownCommit:      "COMMIT",
	ownRollback:    "ROLLBACK",
	ownSavepoint:   "SAVEPOINT _snapdb",
	ownRelease:     "RELEASE _snapdb",
	ownRollbackTo:  "ROLLBACK TO _snapdb",
	ownDataVersion: "PRAGMA data_version",
}

// do runs one of the connection's own statements. Its first integer is returned.
func (c *Conn) do(which int) (int64, error) {
	h := c.own[which]
	c.st.auth.enter(GuardNone, false, 0)
	if h == 0 {
		sql := cString(c.tls, ownSQL[which])
		rc := lib.Xsqlite3_prepare_v3(c.tls, c.db, sql, -1, lib.SQLITE_PREPARE_PERSISTENT, address(&c.st.out[0]), 0)
		free(c.tls, sql)
		if rc != lib.SQLITE_OK {
			return 0, c.failure(rc)
		}
		h = c.st.out[0]
		c.own[which] = h
	}
	rc := lib.Xsqlite3_step(c.tls, h)
	var n int64
	if rc == lib.SQLITE_ROW {
		n = lib.Xsqlite3_column_int64(c.tls, h, 0)
		rc = lib.SQLITE_DONE
	}
	var err error
	if rc != lib.SQLITE_DONE {
		err = c.failure(rc)
	}
	lib.Xsqlite3_reset(c.tls, h)
	return n, err
}

// Begin opens a write transaction.
func (c *Conn) Begin() error { _, err := c.do(ownBegin); return err }

// BeginRead opens a read transaction and its snapshot: what is read until Commit
// or Rollback is the content at this moment, and the statements that
// [Conn.Prepare] returns fit its schema.
func (c *Conn) BeginRead() error {
	if _, err := c.do(ownBeginRead); err != nil {
		return err
	}
	if _, err := c.do(ownFirstRead); err != nil {
		_, rerr := c.do(ownRollback)
		return errors.Join(err, rerr)
	}
	return nil
}

// Commit ends the transaction. If it fails the transaction may still be open.
func (c *Conn) Commit() error { _, err := c.do(ownCommit); return err }

// Rollback undoes the transaction.
func (c *Conn) Rollback() error { _, err := c.do(ownRollback); return err }

// Savepoint opens a savepoint of snapdb's own; they may nest. Outside of a
// transaction it opens one.
func (c *Conn) Savepoint() error { _, err := c.do(ownSavepoint); return err }

// Release closes the innermost savepoint opened by Savepoint, and those that
// clients have opened inside it, and keeps the changes.
func (c *Conn) Release() error { _, err := c.do(ownRelease); return err }

// RollbackTo undoes what was changed since the innermost Savepoint, and closes it.
func (c *Conn) RollbackTo() error {
	if _, err := c.do(ownRollbackTo); err != nil {
		return err
	}
	_, err := c.do(ownRelease)
	return err
}

// Autocommit says whether no transaction is open. Errors of some kinds
// (OR ROLLBACK, RAISE(ROLLBACK), an interrupted write, a full disk) end the
// transaction by themselves.
func (c *Conn) Autocommit() bool { return at[lib.Tsqlite3](c.db).FautoCommit != 0 }

// DataVersion is a number that changes when another connection has committed to
// the file, and not when this one has.
func (c *Conn) DataVersion() (uint32, error) {
	n, err := c.do(ownDataVersion)
	return uint32(n), err
}

// Faulted says whether disk or memory have failed since [Conn.ResetFaulted].
// SQLite then forgets the pages that it has in memory, and DataVersion counts
// that as a change too.
func (c *Conn) Faulted() bool { return c.faulted }

// ResetFaulted makes Faulted false.
func (c *Conn) ResetFaulted() { c.faulted = false }

// Exec runs all statements of sql without guard and drops their rows.
func (c *Conn) Exec(sql string) error {
	for off := 0; off < len(sql); {
		st, n, err := c.Prepare(sql, off, GuardNone)
		if err != nil {
			return err
		}
		off += n
		if st == nil {
			continue
		}
		for row := true; row && err == nil; {
			row, err = st.Step()
		}
		st.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// ReloadStatistics makes the planner use the statistics that are in the file.
// ANALYZE loads what it has gathered, and a rollback does not unload it: without
// this, later plans, and with them the order of rows, depend on what was rolled
// back. Nothing is written.
func (c *Conn) ReloadStatistics() error {
	// Dropping the parsed schema also drops its statistics; both are read again
	// when next needed. ANALYZE sqlite_schema would do too, but creates the
	// tables of statistics in a file that has none.
	//
	// It also makes SQLite forget that this transaction has changed the schema, and
	// with it to drop the parsed schema once more when that is rolled back.
	flags := &at[lib.Tsqlite3](c.db).FmDbFlags
	changed := *flags & lib.DBFLAG_SchemaChange
	err := c.Exec("PRAGMA writable_schema=RESET")
	*flags |= changed
	return err
}

// CacheFlush writes the pages changed so far to the file, so that a full disk
// shows before COMMIT.
func (c *Conn) CacheFlush() error {
	if rc := lib.Xsqlite3_db_cacheflush(c.tls, c.db); rc != lib.SQLITE_OK {
		return c.failure(rc)
	}
	return nil
}

// Checkpoint copies the WAL into the database file without waiting for anybody.
// With truncate it also empties the WAL, which needs that no reader uses it. busy
// says that readers or writers were in the way; logPages is the size of the WAL in
// pages, done how many of them are copied.
func (c *Conn) Checkpoint(truncate bool) (busy bool, logPages, done int, err error) {
	mode := int32(lib.SQLITE_CHECKPOINT_PASSIVE)
	if truncate {
		mode = lib.SQLITE_CHECKPOINT_TRUNCATE
	}
	lib.Xsqlite3_busy_timeout(c.tls, c.db, 0)
	defer lib.Xsqlite3_busy_timeout(c.tls, c.db, busyTimeout)
	out := address(&c.st.out)
	rc := lib.Xsqlite3_wal_checkpoint_v2(c.tls, c.db, 0, mode, out, out+8)
	logPages, done = int(*at[int32](out)), int(*at[int32](out + 8))
	if rc&0xff == lib.SQLITE_BUSY {
		return true, logPages, done, nil
	}
	if rc != lib.SQLITE_OK {
		return false, 0, 0, c.failure(rc)
	}
	return done < logPages, logPages, done, nil
}
