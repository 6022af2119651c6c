package exec_test

import (
	"errors"
	"testing"
	"time"

	"github.com/snapdb/snapdb/subjects"
)

// endless is a statement that only a limit ends.
const endless = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c) SELECT count(*) FROM c"

// A time limit that has passed must end the transaction it belongs to, and not
// the rollback of it: then the whole group, and all its clients, would fail.
func TestTimeLimitHurtsOnlyItsTransaction(t *testing.T) {
	h := newHistory(t)
	master := newMaster(t, h)
	slave := newSlave(t)
	h.command(master, "CREATE DATABASE a")
	h.group(master, "a", text("CREATE TABLE t (x)"))
	d := master.database("a")
	g, err := d.Begin()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Rollback() }) // when the test fails before the commit
	for i := range 1000 {              // SQLite looks at its limits once in so many steps
		if o := h.run(d, g, text("INSERT INTO t VALUES (1)")); o.err != nil {
			t.Fatalf("transaction %d: %v", i, o.err)
		}
		tx, err := g.Open(subjects.Txn{Now: 1, Seed: 1})
		if err != nil {
			t.Fatal(err)
		}
		d.Writer().SetDeadline(time.Now())
		err = tx.RunAll([]subjects.Stmt{{SQL: "INSERT INTO t VALUES (2)"}, {SQL: endless}}, nil)
		var we *subjects.Error
		if !errors.As(err, &we) || we.Code != subjects.CodeTimeout {
			t.Fatalf("transaction %d: %v, want a timeout", i, err)
		}
		if err := tx.Abort(); err != nil {
			t.Fatalf("undo transaction %d: %v", i, err)
		}
		if g.Full() {
			break
		}
	}
	h.commit(d, g)
	if got := master.query("a", "SELECT count(*) || ' ' || max(x) FROM t"); got != "1000 1" {
		t.Errorf("rows %s", got)
	}
	h.replay(slave, 64)
	same(t, master, slave)
}
