package engine

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// Allowance bounds what the readers that share it take of their machine, whatever they
// are asked. Writers have none: what fails on one node would have to fail on all.
type Allowance struct {
	// Memory is how many bytes one connection may take, with its cache and its prepared
	// statements.
	Memory int64
	// AllMemory is how many all may take together. A connection that has less than
	// smallMemory gets it all the same, so that large reads do not keep small ones out.
	AllMemory int64
	// Files is how many bytes one connection may have in temporary files.
	Files int64
	// Dir is the folder of the temporary files.
	Dir string
	// Room fails when the disk of Dir has no room for more of them.
	Room func() error

	memory atomic.Int64 // taken by all
}

const (
	smallMemory = 16 << 20
	// roomEvery is how much temporary files grow between two questions for room.
	roomEvery = 4 << 20
	// counted is the size from which allocations are counted, which costs them a tenth of
	// a microsecond. Nothing that grows with what is read is made of smaller ones.
	counted = 1000
)

// Errors of readers that have used up their allowance.
var (
	// ErrMemory: the read would take more memory than it may.
	ErrMemory = errors.New("too much memory")
	// ErrFiles: the read would write more into temporary files than it may.
	ErrFiles = errors.New("too large temporary files")
	// ErrRoom: the disk has no room for temporary files.
	ErrRoom = errors.New("no room for temporary files")
)

// budget is what one connection has taken of its allowance.
type budget struct {
	*Allowance
	mine  int64 // memory
	files int64
	since int64 // growth of files since it was asked for room
	spent error // why something was refused since the request began
}

// take says whether the connection may have n more bytes of memory.
func (b *budget) take(n int64) bool {
	mine, all := b.mine+n, b.memory.Add(n)
	switch {
	case n <= 0:
	case mine > b.Memory:
		b.spent = fmt.Errorf("%w: this read takes more than %d MB: ask for fewer, or for parts of large values (substr) at a time", ErrMemory, b.Memory>>20)
	case mine > smallMemory && all > b.AllMemory:
		b.spent = fmt.Errorf("%w: all reads together take more than %d MB: try again, or ask for less at a time", ErrMemory, b.AllMemory>>20)
	default:
		b.mine = mine
		return true
	}
	if n > 0 {
		b.memory.Add(-n)
		return false
	}
	b.mine = mine
	return true
}

// grow says whether temporary files may have n more bytes.
func (b *budget) grow(n int64) bool {
	if b.files+n > b.Files {
		b.spent = fmt.Errorf("%w: this read takes more than %d MB to sort or group in: select fewer rows or columns, or make an index that has the order", ErrFiles, b.Files>>20)
		return false
	}
	b.since += n
	if b.files == 0 || b.since >= roomEvery {
		b.since = 0
		if err := b.Room(); err != nil {
			b.spent = fmt.Errorf("%w: %w", ErrRoom, err)
			return false
		}
	}
	b.files += n
	return true
}

// budgets are those of all readers of the process, by the thread that SQLite takes their
// calls for: its allocator is one for the process, and is told nothing else.
var budgets sync.Map // *libc.TLS → *budget

func budgetOf(tls *libc.TLS) *budget {
	if b, ok := budgets.Load(tls); ok {
		return b.(*budget)
	}
	return nil
}

// refused makes an error of what SQLite says when something was refused to it, nil if
// nothing was.
func (b *budget) refused(rc int32) *Error {
	if b == nil || b.spent == nil {
		return nil
	}
	switch rc & 0xff {
	case lib.SQLITE_NOMEM, lib.SQLITE_FULL, lib.SQLITE_IOERR, lib.SQLITE_CANTOPEN:
		return &Error{Code: int(rc), Message: b.spent.Error(), Offset: -1, cause: b.spent}
	}
	return nil
}

// allocator is SQLite's own.
var allocator lib.Tsqlite3_mem_methods

// countMemory puts the count of readers' memory before SQLite's allocator. It must be
// called before SQLite is initialized.
func countMemory(tls *libc.TLS) error {
	p := allocate(tls, memMethodsSize)
	defer free(tls, p)
	va := libc.NewVaList(p)
	defer libc.Xfree(tls, va)
	if rc := lib.Xsqlite3_config(tls, lib.SQLITE_CONFIG_GETMALLOC, va); rc != lib.SQLITE_OK {
		return fmt.Errorf("find SQLite's allocator: result code %d", rc)
	}
	m := at[lib.Tsqlite3_mem_methods](p)
	allocator = *m
	m.FxMalloc, m.FxRealloc, m.FxFree = callback(countedMalloc), callback(countedRealloc), callback(countedFree)
	va2 := libc.NewVaList(p)
	defer libc.Xfree(tls, va2)
	if rc := lib.Xsqlite3_config(tls, lib.SQLITE_CONFIG_MALLOC, va2); rc != lib.SQLITE_OK {
		return fmt.Errorf("count SQLite's memory: result code %d", rc)
	}
	return nil
}

func countedMalloc(tls *libc.TLS, n int32) uintptr {
	malloc := function[func(*libc.TLS, int32) uintptr](allocator.FxMalloc)
	if n < counted {
		return malloc(tls, n)
	}
	b := budgetOf(tls)
	if b == nil {
		return malloc(tls, n)
	}
	if !b.take(int64(n)) {
		return 0
	}
	p := malloc(tls, n)
	if p == 0 {
		b.take(-int64(n))
	}
	return p
}

func countedFree(tls *libc.TLS, p uintptr) {
	if n := sizeOf(tls, p); n > 0 {
		if b := budgetOf(tls); b != nil {
			b.take(-n)
		}
	}
	function[func(*libc.TLS, uintptr)](allocator.FxFree)(tls, p)
}

func countedRealloc(tls *libc.TLS, p uintptr, n int32) uintptr {
	realloc := function[func(*libc.TLS, uintptr, int32) uintptr](allocator.FxRealloc)
	before, after := sizeOf(tls, p), int64(n)
	if after < counted {
		after = 0
	}
	if before == 0 && after == 0 {
		return realloc(tls, p, n)
	}
	b := budgetOf(tls)
	if b == nil {
		return realloc(tls, p, n)
	}
	if !b.take(after - before) {
		return 0
	}
	q := realloc(tls, p, n)
	if q == 0 {
		b.take(before - after)
	}
	return q
}

// sizeOf is what of an allocation was counted.
func sizeOf(tls *libc.TLS, p uintptr) int64 {
	if n := function[func(*libc.TLS, uintptr) int32](allocator.FxSize)(tls, p); n >= counted {
		return int64(n)
	}
	return 0
}
