package engine

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"time"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// julianEpoch is 1970-01-01 in milliseconds of the Julian day, SQLite's clock.
const julianEpoch = 210866760000000

// SetClock sets what every date and time function takes for now, in Unix
// milliseconds; 0 is real time. It has no effect on readers, which always have
// real time.
func (c *Conn) SetClock(unixMilli int64) { c.st.clock = unixMilli }

// Seed sets the generator behind random() and randomblob() to the start of the
// sequence that belongs to (seed, index).
func (c *Conn) Seed(seed uint64, index int) { c.st.rng.Seed(seed, uint64(index)) }

// SetCounters sets what last_insert_rowid(), changes() and total_changes()
// return. Set them after opening a savepoint: virtual tables flush their changes
// then, which changes the counters.
func (c *Conn) SetCounters(rowID, changes, total int64) {
	db := at[lib.Tsqlite3](c.db)
	db.FlastRowid, db.FnChange, db.FnTotalChange = rowID, changes, total
}

// Counters are what last_insert_rowid(), changes() and total_changes() return.
func (c *Conn) Counters() (rowID, changes, total int64) {
	db := at[lib.Tsqlite3](c.db)
	return db.FlastRowid, db.FnChange, db.FnTotalChange
}

// registerClock makes a file system of the connection's own, which differs from
// SQLite's default in nothing but what time it is. Overriding the date functions
// instead would forbid them where SQLite allows them, or the other way round.
func (c *Conn) registerClock() error {
	c.st.vfs.FxCurrentTime = callback(currentTime)
	c.st.vfs.FxCurrentTimeInt64 = callback(currentTimeInt64)
	return c.registerFiles()
}

// registerFiles gives the connection's own file system to SQLite.
func (c *Conn) registerFiles() error {
	s := c.st
	copy(s.vfsName[:], fmt.Sprintf("snapdb-%x\x00", address(s)))
	s.vfs.FzName = address(&s.vfsName)
	if rc := lib.Xsqlite3_vfs_register(c.tls, address(&s.vfs), 0); rc != lib.SQLITE_OK {
		return fmt.Errorf("register file system: result code %d", rc)
	}
	return nil
}

func now(vfs uintptr) int64 {
	if t := at[state](vfs).clock; t != 0 {
		return t + julianEpoch
	}
	return time.Now().UnixMilli() + julianEpoch
}

func currentTimeInt64(_ *libc.TLS, vfs, out uintptr) int32 {
	*at[int64](out) = now(vfs)
	return lib.SQLITE_OK
}

func currentTime(_ *libc.TLS, vfs, out uintptr) int32 {
	*at[float64](out) = float64(now(vfs)) / 86400000
	return lib.SQLITE_OK
}

// utcLocaltime stands in for the C library's localtime: "local time" must be the
// same on every node. Of struct tm SQLite reads only the first six fields, which
// are the same on every platform.
func utcLocaltime(_ *libc.TLS, seconds, tm uintptr) int32 {
	t := time.Unix(*at[int64](seconds), 0).UTC()
	*at[[6]int32](tm) = [6]int32{
		int32(t.Second()), int32(t.Minute()), int32(t.Hour()),
		int32(t.Day()), int32(t.Month()) - 1, int32(t.Year()) - 1900,
	}
	return 0
}

// registerRandom replaces random() and randomblob(). They are marked innocuous so
// that triggers and views may use them although the schema is not trusted, and
// not deterministic, so that they stay forbidden where SQLite forbids its own.
func (c *Conn) registerRandom() error {
	const flags = lib.SQLITE_UTF8 | lib.SQLITE_INNOCUOUS
	c.st.rng = *rand.NewPCG(rand.Uint64(), rand.Uint64())
	for _, f := range []struct {
		name string
		args int32
		call uintptr
	}{{"random", 0, callback(randomInt)}, {"randomblob", 1, callback(randomBlob)}} {
		name := cString(c.tls, f.name)
		rc := lib.Xsqlite3_create_function_v2(c.tls, c.db, name, f.args, flags, address(c.st), f.call, 0, 0, 0)
		free(c.tls, name)
		if rc != lib.SQLITE_OK {
			return fmt.Errorf("replace %s: %w", f.name, c.failure(rc))
		}
	}
	return nil
}

func randomInt(tls *libc.TLS, ctx uintptr, _ int32, _ uintptr) {
	n := int64(at[state](lib.Xsqlite3_user_data(tls, ctx)).rng.Uint64())
	if n < 0 {
		n = -(n & (1<<63 - 1)) // never -2^63, of which abs() fails
	}
	lib.Xsqlite3_result_int64(tls, ctx, n)
}

func randomBlob(tls *libc.TLS, ctx uintptr, _ int32, args uintptr) {
	n := max(1, int64(lib.Xsqlite3_value_int64(tls, *at[uintptr](args))))
	if n > maxLength {
		lib.Xsqlite3_result_error_toobig(tls, ctx)
		return
	}
	p := lib.Xsqlite3_malloc64(tls, lib.Tsqlite3_uint64(n))
	if p == 0 {
		lib.Xsqlite3_result_error_nomem(tls, ctx)
		return
	}
	rng := &at[state](lib.Xsqlite3_user_data(tls, ctx)).rng
	b := bytesAt(p, int(n))
	for len(b) >= 8 {
		binary.LittleEndian.PutUint64(b, rng.Uint64())
		b = b[8:]
	}
	if len(b) > 0 {
		var last [8]byte
		binary.LittleEndian.PutUint64(last[:], rng.Uint64())
		copy(b, last[:])
	}
	lib.Xsqlite3_result_blob64(tls, ctx, p, lib.Tsqlite3_uint64(n), callback(lib.Xsqlite3_free))
}
