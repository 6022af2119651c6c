package exec_test

import (
	"fmt"
	"testing"
)

// skewed is a table for which planner statistics choose the index, and the index
// chooses the order of rows: what probe inserts shows which statistics were used.
const (
	skewed = `CREATE TABLE s (a, b, c); CREATE INDEX sa ON s (a, c); CREATE INDEX sb ON s (b, c DESC);
	 WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 2000) INSERT INTO s SELECT i % 500, i % 2, i FROM n`
	swap  = `UPDATE s SET a = b, b = a`
	probe = `INSERT INTO probed SELECT c FROM s WHERE a = 1 AND b = 1`
)

// Planner statistics that were rolled back, or that a renamed table has left
// behind, must not choose plans: another node, or this one after a restart, has
// not loaded them and gets another order of rows.
func TestStatisticsAreThoseOfTheFile(t *testing.T) {
	h := newHistory(t)
	master, running, restarted := newMaster(t, h), newSlave(t), newSlave(t)
	follow := func() {
		h.replay(running, 10)
		h.replay(restarted, 1)
		restarted.close()
		restarted.reopen()
	}
	cases := [][]request{
		{text(swap + "; ANALYZE; INSERT INTO nowhere VALUES (1)")},
		{text("INSERT INTO probed VALUES (1)"), text("CREATE UNIQUE INDEX u ON s (c); " + swap + "; ANALYZE; INSERT OR ROLLBACK INTO s (c) VALUES (1)")},
		{{interactive: true, rollback: true, stmts: interactive(swap, "ANALYZE").stmts}},
		{text("SAVEPOINT x; " + swap + "; ANALYZE; ROLLBACK TO x")},
		{interactive("SAVEPOINT x", swap, "ANALYZE", "ROLLBACK TO x", "INSERT INTO probed VALUES (2)")},
		{text("ALTER TABLE s RENAME TO old; DROP TABLE old; " + skewed)},
		{text(swap + "; ANALYZE; ALTER TABLE s RENAME TO old; DROP TABLE old; " + skewed)},
		{text(swap + "; ANALYZE; ALTER TABLE s RENAME TO old; DROP INDEX sa; DROP INDEX sb; " + skewed)},
	}
	for i := range cases {
		db := fmt.Sprintf("d%d", i)
		h.command(master, "CREATE DATABASE "+db)
		h.mustWrite(master, db, "CREATE TABLE probed (c)", skewed, swap+"; ANALYZE")
	}
	follow()
	for i, reqs := range cases {
		fails := 0
		for _, o := range h.group(master, fmt.Sprintf("d%d", i), append(reqs, text(probe))...) {
			if o.err != nil {
				fails++
			}
		}
		if want := i < 2; (fails == 1) != want {
			t.Errorf("case %d: %d failed", i, fails)
		}
	}
	follow()
	for i := range cases {
		h.mustWrite(master, fmt.Sprintf("d%d", i), probe)
	}
	follow()
	same(t, master, running, restarted)
}
