package engine

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"unsafe"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// spillState is what a reader needs to watch its temporary files. It is part of state
// and lives in C memory.
type spillState struct {
	open    uintptr // SQLite's own way to open a file
	tail    uintptr // where in a file's memory the spill is
	methods lib.Tsqlite3_io_methods
}

// spill is what a temporary file has in memory behind what SQLite keeps of it.
type spill struct {
	methods uintptr // SQLite's own
	size    int64
	name    [maxSpillName]byte
}

const (
	maxSpillName = 1024
	spillSize    = int32(unsafe.Sizeof(spill{}))
	spillMethods = unsafe.Offsetof(state{}.spills) + unsafe.Offsetof(spillState{}.methods)
)

// watchFiles makes a file system of the connection's own, which differs from SQLite's
// default in where temporary files are and how large they may get.
func (c *Conn) watchFiles(a *Allowance) error {
	if len(a.Dir)+32 > maxSpillName {
		return fmt.Errorf("the path %s is too long for temporary files", a.Dir)
	}
	s := c.st
	s.spills.open = s.vfs.FxOpen
	s.spills.tail = uintptr(s.vfs.FszOsFile+7) &^ 7
	s.vfs.FszOsFile = int32(s.spills.tail) + spillSize
	s.vfs.FxOpen = callback(openFile)
	return c.registerFiles()
}

func openFile(tls *libc.TLS, vfs, name, file uintptr, flags int32, out uintptr) int32 {
	s := &at[state](vfs).spills
	open := function[func(*libc.TLS, uintptr, uintptr, uintptr, int32, uintptr) int32](s.open)
	b := budgetOf(tls)
	if name != 0 || b == nil {
		return open(tls, vfs, name, file, flags, out)
	}
	f := at[spill](file + s.tail)
	*f = spill{}
	copy(f.name[:], filepath.Join(b.Dir, fmt.Sprintf("sort-%016x", rand.Uint64())))
	rc := open(tls, vfs, address(&f.name), file, flags, out)
	if rc != lib.SQLITE_OK {
		return rc
	}
	f.methods = *at[uintptr](file)
	s.methods = *at[lib.Tsqlite3_io_methods](f.methods)
	// Version 1 has neither shared memory nor mapped files: all that is written comes by
	// the calls that are counted.
	s.methods.FiVersion = 1
	s.methods.FxWrite, s.methods.FxTruncate, s.methods.FxClose = callback(writeSpill), callback(truncateSpill), callback(closeSpill)
	*at[uintptr](file) = address(&s.methods)
	return lib.SQLITE_OK
}

// spilled finds what belongs to a temporary file.
func spilled(file uintptr) (*spill, *lib.Tsqlite3_io_methods) {
	s := at[state](*at[uintptr](file) - spillMethods)
	f := at[spill](file + s.spills.tail)
	return f, at[lib.Tsqlite3_io_methods](f.methods)
}

func writeSpill(tls *libc.TLS, file, data uintptr, n int32, off int64) int32 {
	f, own := spilled(file)
	if end := off + int64(n); end > f.size {
		if b := budgetOf(tls); b != nil && !b.grow(end-f.size) {
			return lib.SQLITE_FULL
		}
		f.size = end
	}
	return function[func(*libc.TLS, uintptr, uintptr, int32, int64) int32](own.FxWrite)(tls, file, data, n, off)
}

func truncateSpill(tls *libc.TLS, file uintptr, size int64) int32 {
	f, own := spilled(file)
	shrink(tls, f, size)
	return function[func(*libc.TLS, uintptr, int64) int32](own.FxTruncate)(tls, file, size)
}

func closeSpill(tls *libc.TLS, file uintptr) int32 {
	f, own := spilled(file)
	shrink(tls, f, 0)
	return function[func(*libc.TLS, uintptr) int32](own.FxClose)(tls, file)
}

func shrink(tls *libc.TLS, f *spill, size int64) {
	if b := budgetOf(tls); b != nil && size < f.size {
		b.files -= f.size - size
		f.size = size
	}
}
