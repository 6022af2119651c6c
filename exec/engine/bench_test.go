package engine_test

import (
	"testing"

	"github.com/snapdb/snapdb/exec/engine"
	"github.com/snapdb/snapdb/subjects"
)

// BenchmarkEntry is one replicated transaction with one insert, in groups of 1000.
func BenchmarkEntry(b *testing.B) {
	c := open(b)
	mustExec(b, c, "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, n INTEGER); CREATE TABLE applied (one INTEGER PRIMARY KEY, position INTEGER); INSERT INTO applied VALUES (1, 0)")
	pos, _, err := c.Prepare("UPDATE applied SET position=?", 0, engine.GuardNone)
	if err != nil {
		b.Fatal(err)
	}
	defer pos.Close()
	name := subjects.TextValue("some name of a row")
	args := make([]subjects.Value, 3)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i%1000 == 0 {
			if i > 0 {
				endGroup(b, c, pos, i)
			}
			if err := c.Begin(); err != nil {
				b.Fatal(err)
			}
		}
		args[0], args[1], args[2] = integer(int64(i)), name, integer(int64(i)*7)
		if err := entry(c, i, args); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	if err := c.Rollback(); err != nil {
		b.Fatal(err)
	}
}

func entry(c *engine.Conn, i int, args []subjects.Value) error {
	c.BeginRequest()
	if err := c.Savepoint(); err != nil {
		return err
	}
	c.SetCounters(0, 0, 0)
	c.SetClock(int64(i))
	c.Seed(uint64(i), 0)
	st, _, err := c.Prepare("INSERT INTO t VALUES (?,?,?)", 0, engine.GuardWrite)
	if err != nil {
		return err
	}
	defer st.Close()
	if err := st.Bind(args); err != nil {
		return err
	}
	if _, err := st.Step(); err != nil {
		return err
	}
	if c.DeferredViolations() || c.MaxRowID() {
		panic("cannot be")
	}
	return c.Release()
}

func endGroup(b *testing.B, c *engine.Conn, pos *engine.Stmt, n int) {
	if err := pos.Bind([]subjects.Value{integer(int64(n))}); err != nil {
		b.Fatal(err)
	}
	if _, err := pos.Step(); err != nil {
		b.Fatal(err)
	}
	pos.Reset()
	if err := c.Commit(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkPointRead is a SELECT by key within an open read transaction.
func BenchmarkPointRead(b *testing.B) {
	c := open(b)
	mustExec(b, c, "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, n INTEGER); WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM s WHERE i<100000) INSERT INTO t SELECT i, 'name '||i, i FROM s")
	if err := c.BeginRead(); err != nil {
		b.Fatal(err)
	}
	args := make([]subjects.Value, 1)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		args[0] = integer(int64(i*7919%100000 + 1))
		st, _, err := c.Prepare("SELECT id, name, n FROM t WHERE id=?", 0, engine.GuardRead)
		if err != nil {
			b.Fatal(err)
		}
		if err := st.Bind(args); err != nil {
			b.Fatal(err)
		}
		if row, err := st.Step(); !row || err != nil {
			b.Fatal(row, err)
		}
		for j := range st.ColumnCount() {
			_ = st.Column(j)
		}
		st.Close()
	}
	if err := c.Rollback(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkLiteral is an insert that no cache helps.
func BenchmarkLiteral(b *testing.B) {
	c := open(b)
	mustExec(b, c, "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, n INTEGER); BEGIN")
	buf := []byte("INSERT INTO t (name, n) VALUES ('some name of a row', 00000000)")
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		for j, n := len(buf)-2, i; j >= len(buf)-9; j-- {
			buf[j] = byte('0' + n%10)
			n /= 10
		}
		st, _, err := c.Prepare(string(buf), 0, engine.GuardWrite)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := st.Step(); err != nil {
			b.Fatal(err)
		}
		st.Close()
	}
}
