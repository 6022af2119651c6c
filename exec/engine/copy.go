package engine

import (
	"errors"
	"fmt"

	lib "modernc.org/sqlite/lib"
)

// copyPages is how many pages are copied at a time.
const copyPages = 1024

// CopyTo replaces the whole content of dst's database by that of c's, in one
// transaction: readers of dst see the old content, then the new. With a read
// transaction open on c, that is what is copied, whatever others commit meanwhile.
// Neither may have another transaction open. progress is called between pages; its
// error ends the copying, and dst then has what it had.
//
// See https://sqlite.org/c3ref/backup_finish.html.
func (c *Conn) CopyTo(dst *Conn, progress func(done, total int) error) (err error) {
	// Each page is written once: to keep many of them in memory would help nobody.
	if err := dst.LimitCache(); err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	defer func() { err = errors.Join(err, dst.setCache(writerCacheKiB)) }()
	name := cString(c.tls, "main")
	defer free(c.tls, name)
	backup := lib.Xsqlite3_backup_init(c.tls, dst.db, name, c.db, name)
	if backup == 0 {
		return fmt.Errorf("copy: %w", dst.failure(lib.Xsqlite3_errcode(c.tls, dst.db)))
	}
	var stopped error
	step := int32(lib.SQLITE_OK)
	for step == lib.SQLITE_OK && stopped == nil {
		step = lib.Xsqlite3_backup_step(c.tls, backup, copyPages)
		total := int(lib.Xsqlite3_backup_pagecount(c.tls, backup))
		stopped = progress(total-int(lib.Xsqlite3_backup_remaining(c.tls, backup)), total)
	}
	end := lib.Xsqlite3_backup_finish(c.tls, backup)
	switch {
	case step == lib.SQLITE_DONE && end == lib.SQLITE_OK:
		return nil
	case step == lib.SQLITE_OK:
		return fmt.Errorf("copy: %w", stopped)
	case end == lib.SQLITE_OK: // another holds the file
		return fmt.Errorf("copy: %w", dst.failure(step))
	}
	return fmt.Errorf("copy: %w", dst.failure(end))
}

// LimitCache makes the page cache of a connection that shall not execute SQL of clients
// that of a reader: SQLite's memory is about twice what its cache may have.
func (c *Conn) LimitCache() error { return c.setCache(readerCacheKiB) }

func (c *Conn) setCache(kib int) error { return c.Exec(fmt.Sprintf("PRAGMA cache_size=-%d", kib)) }

// QuickCheck reads the whole file and returns what is wrong with it, "" if nothing
// is. It does not compare indexes with their tables.
func (c *Conn) QuickCheck() (string, error) { return c.check("PRAGMA quick_check(1)") }

// IntegrityCheck is QuickCheck that also compares indexes with their tables.
func (c *Conn) IntegrityCheck() (string, error) { return c.check("PRAGMA integrity_check(1)") }

func (c *Conn) check(pragma string) (string, error) {
	st, _, err := c.Prepare(pragma, 0, GuardNone)
	if err != nil {
		return "", err
	}
	defer st.Close()
	if _, err := st.Step(); err != nil {
		return "", err
	}
	if found := string(st.Column(0).Bytes()); found != "ok" {
		return found, nil
	}
	return "", nil
}
