package engine_test

import (
	"bytes"
	"errors"
	"math"
	"runtime"
	"testing"

	"github.com/snapdb/snapdb/exec/engine"
	"github.com/snapdb/snapdb/subjects"
	"pgregory.net/rapid"
)

func TestValuesRoundTrip(t *testing.T) {
	c := open(t)
	// Without a declared type nothing is converted; with these nothing must be.
	mustExec(t, c, "CREATE TABLE v (x); CREATE TABLE d (x TIMESTAMP); CREATE TABLE b (x BLOB)")
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	values := []subjects.Value{
		{},
		integer(0), integer(-1), integer(math.MaxInt64), integer(math.MinInt64), integer(1<<53 + 1),
		subjects.RealValue(0), subjects.RealValue(math.Copysign(0, -1)), subjects.RealValue(0.1),
		subjects.RealValue(math.Inf(1)), subjects.RealValue(math.Inf(-1)), subjects.RealValue(math.MaxFloat64),
		subjects.RealValue(math.SmallestNonzeroFloat64), subjects.RealValue(1), subjects.RealValue(1e300),
		subjects.TextValue(""), subjects.TextValue("x"), subjects.TextValue("a\x00b"), subjects.TextValue("\x00"),
		subjects.TextBytes([]byte{0xff, 0xfe, 'a', 0xc0}), subjects.TextValue("2026-01-02 03:04:05"), subjects.TextBytes(big),
		subjects.BlobValue(nil), subjects.BlobValue([]byte{}), subjects.BlobValue([]byte{0}), subjects.BlobValue([]byte("text")), subjects.BlobValue(big),
	}
	for _, v := range values {
		if got := mustRun(t, c, engine.GuardRead, "SELECT ?", v)[0][0]; !got.Equal(v) {
			t.Errorf("SELECT ?: got %v, want %v", got, v)
		}
		for _, table := range []string{"v", "b"} {
			mustRun(t, c, engine.GuardWrite, "DELETE FROM "+table)
			mustRun(t, c, engine.GuardWrite, "INSERT INTO "+table+" VALUES (?)", v)
			got := mustRun(t, c, engine.GuardRead, "SELECT x FROM "+table)[0][0]
			if !got.Equal(v) {
				t.Errorf("table %s: got %v, want %v", table, got, v)
			}
		}
	}
	stamp := subjects.TextValue("2026-01-02 03:04:05")
	mustRun(t, c, engine.GuardWrite, "INSERT INTO d VALUES (?)", stamp)
	if got := mustRun(t, c, engine.GuardRead, "SELECT x FROM d")[0][0]; !got.Equal(stamp) {
		t.Errorf("text in a column declared TIMESTAMP came back as %v", got)
	}
}

func anyValue() *rapid.Generator[subjects.Value] {
	return rapid.OneOf(
		rapid.Just(subjects.Value{}),
		rapid.Map(rapid.Int64(), subjects.IntegerValue),
		rapid.Map(rapid.Uint64(), func(n uint64) subjects.Value { return subjects.RealValue(math.Float64frombits(n)) }),
		rapid.Map(rapid.SliceOf(rapid.Byte()), subjects.TextBytes),
		rapid.Map(rapid.SliceOf(rapid.Byte()), subjects.BlobValue),
	)
}

func TestValuesRoundTripProperty(t *testing.T) {
	c := open(t)
	mustExec(t, c, "CREATE TABLE v (a, b, c); BEGIN")
	rapid.Check(t, func(r *rapid.T) {
		want := rapid.SliceOfN(anyValue(), 3, 3).Draw(r, "values")
		if _, err := run(c, engine.GuardWrite, "INSERT OR REPLACE INTO v (rowid, a, b, c) VALUES (1, ?, ?, ?)", want...); err != nil {
			r.Fatal(err)
		}
		rows, err := run(c, engine.GuardRead, "SELECT a, b, c, typeof(a), typeof(b), typeof(c) FROM v")
		if err != nil {
			r.Fatal(err)
		}
		for i, v := range want {
			got := rows[0][i]
			if !got.Equal(v) || string(rows[0][i+3].Bytes()) != v.Kind().String() {
				r.Errorf("got %v (%s), want %v", got, rows[0][i+3].Bytes(), v)
			}
		}
	})
}

func TestArguments(t *testing.T) {
	c := open(t)
	for _, n := range []int{0, 1, 3} {
		_, err := run(c, engine.GuardRead, "SELECT ?, ?2", make([]subjects.Value, n)...)
		if !errors.Is(err, engine.ErrArguments) {
			t.Errorf("%d arguments for 2 parameters: %v", n, err)
		}
	}
	// What one execution was given must not be there for the next.
	st, _, err := c.Prepare("SELECT ?", 0, engine.GuardRead)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	if err := st.Bind([]subjects.Value{integer(5)}); err != nil {
		t.Fatal(err)
	}
	st.Reset()
	if row, err := st.Step(); !row || err != nil || st.Column(0).Kind() != subjects.Null {
		t.Errorf("after Reset the argument is %v (%v)", st.Column(0), err)
	}
}

// The bytes of an argument are copied: the caller may reuse its buffer at once.
func TestArgumentsAreCopied(t *testing.T) {
	c := open(t)
	st, _, err := c.Prepare("SELECT ?, ?", 0, engine.GuardRead)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	buf := []byte("first")
	if err := st.Bind([]subjects.Value{subjects.TextBytes(buf), subjects.BlobValue(buf)}); err != nil {
		t.Fatal(err)
	}
	copy(buf, "XXXXX")
	runtime.GC()
	if _, err := st.Step(); err != nil {
		t.Fatal(err)
	}
	if a, b := string(st.Column(0).Bytes()), string(st.Column(1).Bytes()); a != "first" || b != "first" {
		t.Errorf("got %q, %q", a, b)
	}
}

// Column does not copy: a value is the same memory each time it is asked for, and
// a clone of it survives the next row.
func TestColumnAliases(t *testing.T) {
	c := open(t)
	st, _, err := c.Prepare("SELECT x FROM (SELECT 'one' AS x UNION ALL SELECT 'two')", 0, engine.GuardRead)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	if _, err := st.Step(); err != nil {
		t.Fatal(err)
	}
	a, b := st.Column(0), st.Column(0)
	if &a.Bytes()[0] != &b.Bytes()[0] {
		t.Error("Column copies the bytes of a text")
	}
	kept := a.Clone()
	if _, err := st.Step(); err != nil {
		t.Fatal(err)
	}
	if string(kept.Bytes()) != "one" || string(st.Column(0).Bytes()) != "two" {
		t.Errorf("clone is %q, column is %q", kept.Bytes(), st.Column(0).Bytes())
	}
}

func TestSizeLimits(t *testing.T) {
	c := openAt(t, ":memory:", engine.Options{})
	mustExec(t, c, "CREATE TABLE t (x)")
	largest := subjects.BlobValue(make([]byte, subjects.MaxValue))
	mustRun(t, c, engine.GuardWrite, "INSERT INTO t VALUES (?)", largest)
	for _, sql := range []string{
		"SELECT hex(zeroblob(60000000))",
		"SELECT replace(hex(zeroblob(1000000)), '0', hex(zeroblob(1000)))",
		"SELECT printf('%900000000d', 1)",
		"SELECT length(randomblob(100000000))",
		"SELECT length(zeroblob(100000000))",
	} {
		_, err := run(c, engine.GuardRead, sql)
		var e *engine.Error
		if !errors.As(err, &e) || !e.TooBig() || e.Environmental() {
			t.Errorf("%s: %v", sql, err)
		}
	}
	for _, n := range []string{"0", "-5", "NULL", "'x'"} {
		if got := text(t, c, "length(randomblob("+n+"))"); got != "1" {
			t.Errorf("randomblob(%s) has %s bytes", n, got)
		}
	}
}
