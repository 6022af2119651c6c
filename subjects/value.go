package subjects

import (
	"bytes"
	"math"
)

// Kind is the storage class of a Value, as SQLite has them.
type Kind uint8

// The five storage classes of SQLite (https://sqlite.org/datatype3.html).
const (
	Null Kind = iota
	Integer
	Real
	Text
	Blob
)

// String gives the name that SQLite's typeof() gives.
func (k Kind) String() string {
	switch k {
	case Integer:
		return "integer"
	case Real:
		return "real"
	case Text:
		return "text"
	case Blob:
		return "blob"
	}
	return "null"
}

// Value is one SQLite value, exact: an integer never passes through a float, a
// text may hold NUL bytes and invalid UTF-8, an empty blob is not NULL. The zero
// Value is NULL.
//
// The bytes of a Text or Blob are not copied: they belong to whoever made them
// (a message buffer, SQLite's page) and must not be changed.
type Value struct {
	kind Kind
	num  uint64
	data []byte
}

// IntegerValue makes an INTEGER.
func IntegerValue(n int64) Value { return Value{kind: Integer, num: uint64(n)} }

// RealValue makes a REAL. NaN becomes NULL and -0.0 stays: the same as SQLite
// does with a bound double.
func RealValue(f float64) Value {
	if math.IsNaN(f) {
		return Value{}
	}
	return Value{kind: Real, num: math.Float64bits(f)}
}

// TextValue makes a TEXT of the bytes of s.
func TextValue(s string) Value { return Value{kind: Text, data: []byte(s)} }

// TextBytes makes a TEXT without copying b.
func TextBytes(b []byte) Value { return Value{kind: Text, data: b} }

// BlobValue makes a BLOB without copying b; nil makes an empty one.
func BlobValue(b []byte) Value { return Value{kind: Blob, data: b} }

// Kind tells the storage class.
func (v Value) Kind() Kind { return v.kind }

// Int is the number of an INTEGER, 0 of anything else.
func (v Value) Int() int64 {
	if v.kind != Integer {
		return 0
	}
	return int64(v.num)
}

// Float is the number of a REAL, 0 of anything else.
func (v Value) Float() float64 {
	if v.kind != Real {
		return 0
	}
	return math.Float64frombits(v.num)
}

// Bytes are the bytes of a TEXT or BLOB, nil of anything else. They must not be
// changed.
func (v Value) Bytes() []byte { return v.data }

// Equal says whether both are the same value of the same storage class; reals
// are compared bit by bit.
func (v Value) Equal(w Value) bool {
	return v.kind == w.kind && v.num == w.num && bytes.Equal(v.data, w.data)
}

// Clone copies the bytes, so that the value outlives the buffer it came from.
func (v Value) Clone() Value {
	v.data = bytes.Clone(v.data)
	return v
}
