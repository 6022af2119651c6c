package engine

import (
	"math/rand/v2"
	"unsafe"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// state is what the callbacks of one connection share with it. It lives in C
// memory, because the callbacks get nothing but its address: it must not contain
// a pointer to Go memory.
type state struct {
	vfs     lib.Tsqlite3_vfs // must be first: the clock callbacks get its address
	vfsName [32]byte

	clock    int64    // Unix milliseconds, 0 for real time
	rng      rand.PCG // behind random() and randomblob()
	maxRowID bool     // the update hook saw the largest rowid

	stop     uint32 // atomic: 1 after Interrupt, until BeginRequest
	expired  bool   // the deadline, not Interrupt, stopped the last statement
	deadline int64  // nanoseconds since started, 0 for none

	spills spillState // of a reader

	auth  authState
	out   [4]uintptr // results of C calls, by address
	empty byte       // what an empty text or blob points to
}

const (
	stateSize      = int(unsafe.Sizeof(state{}))
	memMethodsSize = int(unsafe.Sizeof(lib.Tsqlite3_mem_methods{}))
)

// at gives a Go view of C memory.
func at[T any](p uintptr) *T { return *(**T)(unsafe.Pointer(&p)) }

// address is the address of something in C memory.
func address[T any](p *T) uintptr { return uintptr(unsafe.Pointer(p)) }

// callback gives C code a way to call f, which must be declared at package level
// (a closure has state that C would not keep alive).
func callback[F any](f F) uintptr { return *(*uintptr)(unsafe.Pointer(&struct{ f F }{f})) }

// function is the other way round: it gives Go a way to call what callback, or the
// translation of SQLite to Go, has made of a function.
func function[F any](p uintptr) F { return *(*F)(unsafe.Pointer(&struct{ p uintptr }{p})) }

// view is the text of a C string without copying it: valid as long as the C
// memory is.
func view(p uintptr) string {
	if p == 0 {
		return ""
	}
	n := 0
	for *at[byte](p + uintptr(n)) != 0 {
		n++
	}
	return unsafe.String(at[byte](p), n)
}

// bytesAt is n bytes of C memory without copying them.
func bytesAt(p uintptr, n int) []byte { return unsafe.Slice(at[byte](p), n) }

// cString copies s to C memory and ends it with a NUL byte. The caller frees it.
func cString(tls *libc.TLS, s string) uintptr {
	p := allocate(tls, len(s)+1)
	b := bytesAt(p, len(s)+1)
	copy(b, s)
	b[len(s)] = 0
	return p
}

// allocate never fails: like Go's own allocator it ends the process when the
// machine has no memory.
func allocate(tls *libc.TLS, n int) uintptr {
	p := libc.Xmalloc(tls, libc.Tsize_t(n))
	if p == 0 {
		panic("engine: out of memory")
	}
	return p
}

func free(tls *libc.TLS, p uintptr) { libc.Xfree(tls, p) }
