package exec

import (
	"errors"
	"fmt"
	"hash/crc64"
	"math/rand/v2"

	"github.com/snapdb/snapdb/exec/engine"
	"github.com/snapdb/snapdb/subjects"
)

// execution is one transaction being executed on a writer connection, inside
// that connection's open SQLite transaction. It is the ritual that gives the
// same effect on every node:
//
//   - everything runs in a savepoint of its own, because virtual tables (FTS5)
//     flush at savepoints: without one, shadow tables depend on how transactions
//     were batched;
//   - clock, counters and PRAGMA defer_foreign_keys are set after the savepoint,
//     because opening it may itself change them;
//   - random() is seeded anew for each logged statement, so that a statement
//     which is not logged cannot shift the values of the next;
//   - what would make SQLite choose something at random (rowids after 2^63-1,
//     column names of CREATE TABLE AS) fails the statement, and foreign keys that
//     a transaction would leave violated fail the transaction.
//
// The digest of all results is the sum that nodes compare.
type execution struct {
	conn        *engine.Conn
	seed        uint64
	interactive bool
	logged      int  // logged statements so far: the index that seeds the next
	wrote       bool // one of them was more than a read or a savepoint command
	sum         uint64
	analyzed    bool // planner statistics were touched and survive a rollback
	counters    subjects.Counters
}

// flags of a writer connection that outlive one transaction of a group.
type connState struct {
	deferred bool // PRAGMA defer_foreign_keys may be on since BEGIN
}

// maxReturned bounds the bytes of rows that RETURNING, or a SELECT among writes,
// may put into an answer. The statement runs to its end all the same.
const maxReturned = 4 << 20

var sumTable = crc64.MakeTable(crc64.ECMA)

// start opens the transaction's savepoint and sets everything it may see.
func (x *execution) start(conn *engine.Conn, state *connState, t *subjects.Txn) error {
	*x = execution{conn: conn, seed: t.Seed, interactive: t.Interactive, counters: t.Counters}
	conn.BeginRequest()
	if err := conn.Savepoint(); err != nil {
		return fmt.Errorf("open savepoint: %w", err)
	}
	if state.deferred {
		if err := conn.Exec("PRAGMA defer_foreign_keys=OFF"); err != nil {
			return fmt.Errorf("reset foreign keys: %w", err)
		}
		state.deferred = false
	}
	conn.SetCounters(t.Counters.RowID, t.Counters.Changes, t.Counters.Total)
	conn.SetClock(t.Now)
	return nil
}

// failure is a statement that failed the same way it would on every node.
type failure struct{ err error }

func (f failure) Error() string { return f.err.Error() }
func (f failure) Unwrap() error { return f.err }

// write executes a statement that is logged, and appends its result to out. In an
// interactive transaction a [failure] has left nothing behind and belongs to the
// log; any other error ends the transaction.
func (x *execution) write(st *engine.Stmt, state *connState, args []subjects.Value, out *subjects.Results) error {
	mark, total := out.Mark(), x.counters.Total
	if err := x.writeStmt(st, state, args, out); err != nil {
		out.Rewind(mark)
		return err
	}
	if out == nil {
		return nil
	}
	changes := x.counters.Changes
	if x.counters.Total == total {
		changes = 0 // it is what an earlier statement changed
	}
	out.End(st.DeclTypes(), changes, x.counters.RowID)
	return nil
}

func (x *execution) writeStmt(st *engine.Stmt, state *connState, args []subjects.Value, out *subjects.Results) error {
	if err := st.Bind(args); err != nil {
		return err
	}
	defer st.Reset()
	if st.Analyzes() {
		x.analyzed = true
	}
	if st.DefersForeignKeys() {
		state.deferred = true
	}
	if st.Op() == engine.OpWrite {
		x.wrote = true
	}
	wrap := x.interactive && st.Op() == engine.OpWrite
	if wrap {
		if err := x.conn.Savepoint(); err != nil {
			return fmt.Errorf("open savepoint: %w", err)
		}
		x.restoreCounters()
	}
	x.conn.Seed(x.seed, x.logged)
	err := produce(st, out, x.addValue)
	if err != nil && st.Op() != engine.OpWrite {
		return err // a savepoint command that failed did nothing, and is not logged
	}
	if cerr := x.check(st); err == nil {
		err = cerr
	}
	x.logged++
	x.readCounters()
	x.add(uint64(x.counters.Changes), uint64(x.counters.RowID), uint64(errorCode(err)))
	if wrap {
		if werr := x.endStatement(err); werr != nil {
			return werr
		}
	}
	if err != nil && !wrap {
		return err // the transaction is aborted
	}
	if rerr := x.reload(st, err != nil); rerr != nil {
		return rerr
	}
	if err != nil && sameEverywhere(err) {
		return failure{err}
	}
	return err
}

// reload makes the planner use the statistics that are in the file, after a
// statement that may have left it with others: those that were rolled back, or
// none for a new table whose name a renamed one has left its statistics under.
// Otherwise plans, and with them the order of rows, would depend on when a node
// was last restarted.
func (x *execution) reload(st *engine.Stmt, failed bool) error {
	switch {
	case x.analyzed && (failed || st.Op() == engine.OpRollbackTo):
	case !failed && st.ChangesSchema():
		row, err := queryRow(x.conn, "SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_stat1'")
		if err != nil || row == nil {
			return err
		}
	default:
		return nil
	}
	if err := x.conn.ReloadStatistics(); err != nil {
		return fmt.Errorf("reload statistics: %w", err)
	}
	return nil
}

// check looks whether a statement that was executed has left what would make
// SQLite choose something at random.
func (x *execution) check(st *engine.Stmt) error {
	if x.conn.MaxRowID() {
		return subjects.Errorf(subjects.CodeConstraint, "rowid 9223372036854775807 is not allowed: SQLite would choose the next one at random")
	}
	if st.CreatesTable() {
		return x.conn.CheckColumns()
	}
	return nil
}

// endStatement closes the savepoint around one statement of an interactive
// transaction. It fails when SQLite has given up the whole transaction.
func (x *execution) endStatement(err error) error {
	if x.conn.Autocommit() {
		return err
	}
	x.conn.EndRequest()
	if err != nil {
		err = x.conn.RollbackTo()
	} else {
		err = x.conn.Release()
	}
	if err != nil {
		return fmt.Errorf("close savepoint: %w", err)
	}
	x.restoreCounters()
	return nil
}

// read executes a statement that changes nothing and is not logged, and appends its
// result to out.
func (x *execution) read(st *engine.Stmt, args []subjects.Value, out *subjects.Results) error {
	if err := st.Bind(args); err != nil {
		return err
	}
	defer st.Reset()
	x.conn.Seed(rand.Uint64(), 0)
	mark := out.Mark()
	if err := produce(st, out, nil); err != nil {
		out.Rewind(mark)
		return err
	}
	out.End(st.DeclTypes(), 0, x.counters.RowID)
	return nil
}

// finish checks what the transaction would leave behind and closes its
// savepoint. After an error the caller must abort.
func (x *execution) finish() error {
	x.conn.EndRequest()
	if x.conn.DeferredViolations() {
		return subjects.Errorf(subjects.CodeConstraint, "FOREIGN KEY constraint failed (deferred)")
	}
	if err := x.conn.Release(); err != nil {
		return fmt.Errorf("close savepoint: %w", err)
	}
	return nil
}

// abort undoes the transaction. lost says that SQLite has rolled back the whole
// group, not just this transaction.
func (x *execution) abort() (lost bool, err error) {
	x.conn.EndRequest() // or the time limit that ended it would stop its rollback too
	lost = x.conn.Autocommit()
	if !lost {
		if err := x.conn.RollbackTo(); err != nil {
			return false, fmt.Errorf("roll back savepoint: %w", err)
		}
	}
	if x.analyzed {
		if err := x.conn.ReloadStatistics(); err != nil {
			return lost, fmt.Errorf("reload statistics: %w", err)
		}
	}
	return lost, nil
}

func (x *execution) readCounters() {
	c := &x.counters
	c.RowID, c.Changes, c.Total = x.conn.Counters()
}

func (x *execution) restoreCounters() {
	c := &x.counters
	x.conn.SetCounters(c.RowID, c.Changes, c.Total)
}

func (x *execution) add(nums ...uint64) {
	var b [24]byte
	for i, n := range nums {
		for j := range 8 {
			b[i*8+j] = byte(n >> (8 * j))
		}
	}
	x.sum = crc64.Update(x.sum, sumTable, b[:8*len(nums)])
}

func (x *execution) addValue(v subjects.Value) {
	switch v.Kind() {
	case subjects.Null:
		x.add(0)
	case subjects.Integer:
		x.add(1, uint64(v.Int()))
	case subjects.Real:
		x.add(2, realBits(v.Float()))
	default:
		x.add(uint64(v.Kind()), uint64(len(v.Bytes())))
		x.sum = crc64.Update(x.sum, sumTable, v.Bytes())
	}
}

// produce steps a statement to its end. What it returns goes into out as a result
// that the caller ends, or rewinds after an error. Each value also goes to visit,
// if given.
func produce(st *engine.Stmt, out *subjects.Results, visit func(subjects.Value)) error {
	// The columns are certain only after the first step, which may find that
	// the schema has changed.
	row, err := st.Step()
	if err != nil {
		return err
	}
	n := st.ColumnCount()
	if out != nil {
		out.Begin(st.Columns())
	}
	limit := out.Len() + maxReturned
	for row {
		keep := out.Len() < limit
		if keep {
			out.Row()
		} else {
			out.SetTruncated()
		}
		for i := range n {
			v := st.Column(i)
			if keep {
				out.Value(v)
			}
			if visit != nil {
				visit(v)
			}
		}
		if row, err = st.Step(); err != nil {
			return err
		}
	}
	return nil
}

// sameEverywhere says whether an error depends on nothing but SQL and content.
func sameEverywhere(err error) bool {
	var we *subjects.Error
	if errors.As(err, &we) || errors.Is(err, engine.ErrRandomName) || errors.Is(err, engine.ErrArguments) || errors.Is(err, engine.ErrText) {
		return true
	}
	var ee *engine.Error
	return errors.As(err, &ee) && !ee.Environmental()
}

// errorCode is what of an error goes into the sum.
func errorCode(err error) int {
	if err == nil {
		return 0
	}
	var ee *engine.Error
	if errors.As(err, &ee) {
		return ee.Code
	}
	return 1
}
