//go:build unix

package exec_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/exec/engine"
	"github.com/snapdb/snapdb/subjects"
)

const benchTable = "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, n INTEGER)"

// benchInsert is the work of all benchmarks here: one row in one transaction.
func benchInsert(i int64) subjects.Stmt {
	return subjects.Stmt{SQL: "INSERT INTO t VALUES (?,?,?)", Args: []subjects.Value{subjects.IntegerValue(i), subjects.TextValue("some name of a row"), subjects.IntegerValue(i * 7)}}
}

// cpuTime is what this process has used of all processors: on a machine with other
// work it says more than the time that has passed.
func cpuTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// meter adds up the processor time of the measured parts.
type meter struct {
	b     *testing.B
	start time.Duration
	used  time.Duration
}

func (m *meter) on()  { m.b.StartTimer(); m.start = cpuTime(m.b) }
func (m *meter) off() { m.used += cpuTime(m.b) - m.start; m.b.StopTimer() }
func (m *meter) report(transactions int) {
	m.b.ReportMetric(float64(m.used.Nanoseconds())/float64(transactions), "cpu-ns/txn")
}

// BenchmarkApply applies groups of single-row transactions as a slave does. Compare
// with BenchmarkRaw, which is SQLite alone.
func BenchmarkApply(b *testing.B) {
	for _, size := range []int{1, 64, 256} {
		b.Run(fmt.Sprintf("group=%d", size), func(b *testing.B) {
			h, master, _ := cluster(b, benchTable)
			const messages = 400
			i := int64(0)
			for range messages {
				var reqs []request
				for range size {
					i++
					reqs = append(reqs, request{stmts: []subjects.Stmt{benchInsert(i)}})
				}
				h.group(master, "d", reqs...)
			}
			b.ReportAllocs()
			m := meter{b: b}
			b.ResetTimer()
			b.StopTimer()
			for done := 0; done < b.N; {
				slave := newSlave(b)
				h.step(slave, 1)
				h.step(slave, 1)
				d := slave.database("d")
				m.on()
				for _, msg := range h.msgs[2:min(len(h.msgs), 2+b.N-done)] {
					if _, err := d.Apply(context.Background(), []*subjects.Message{msg}, exec.Source{}); err != nil {
						b.Fatal(err)
					}
					done++
				}
				m.off()
				slave.close()
			}
			m.report(b.N * size)
		})
	}
}

// BenchmarkRaw inserts the same rows by one prepared statement, group by group:
// plain, without anything that makes them replicated transactions, and ritual,
// with what every node must do around each so that it has the same effect.
func BenchmarkRaw(b *testing.B) {
	for _, size := range []int{1, 64, 256} {
		b.Run(fmt.Sprintf("plain/group=%d", size), func(b *testing.B) { raw(b, size, insertPlain) })
		b.Run(fmt.Sprintf("ritual/group=%d", size), func(b *testing.B) { raw(b, size, insertRitual) })
	}
}

func raw(b *testing.B, size int, insert func(*engine.Conn, *engine.Stmt, []subjects.Value) error) {
	c, err := engine.Open(filepath.Join(b.TempDir(), "raw.db"), engine.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	if err := c.Exec(benchTable); err != nil {
		b.Fatal(err)
	}
	st, _, err := c.Prepare(benchInsert(0).SQL, 0, engine.GuardWrite)
	if err != nil {
		b.Fatal(err)
	}
	defer st.Close()
	args := benchInsert(0).Args
	m, i := meter{b: b}, int64(0)
	b.ResetTimer()
	m.on()
	for range b.N {
		if err := c.Begin(); err != nil {
			b.Fatal(err)
		}
		for range size {
			i++
			args[0], args[2] = subjects.IntegerValue(i), subjects.IntegerValue(i*7)
			if err := insert(c, st, args); err != nil {
				b.Fatal(err)
			}
		}
		if err := c.Commit(); err != nil {
			b.Fatal(err)
		}
	}
	m.off()
	m.report(b.N * size)
}

func insertPlain(_ *engine.Conn, st *engine.Stmt, args []subjects.Value) error {
	defer st.Reset()
	if err := st.Bind(args); err != nil {
		return err
	}
	_, err := st.Step()
	return err
}

func insertRitual(c *engine.Conn, st *engine.Stmt, args []subjects.Value) error {
	c.BeginRequest()
	if err := c.Savepoint(); err != nil {
		return err
	}
	c.SetCounters(0, 0, 0)
	c.SetClock(1)
	c.Seed(1, 0)
	if err := insertPlain(c, st, args); err != nil {
		return err
	}
	if c.DeferredViolations() || c.MaxRowID() {
		return errors.New("cannot be")
	}
	return c.Release()
}
