package exec_test

import (
	"context"
	"testing"
	"time"

	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// A cancel that comes late must not stop the read that has got the connection
// since then.
func TestInterruptAfterCloseStopsNobodyElse(t *testing.T) {
	h := newHistory(t)
	n := newMaster(t, h)
	h.command(n, "CREATE DATABASE d")
	old := n.read("d")
	old.Close()
	next := n.read("d") // on the same connection
	defer next.Close()
	old.Interrupt()
	var out subjects.Results
	long := "SELECT count(*) FROM (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 100000) SELECT i FROM n)"
	if _, err := next.ReadAll([]subjects.Stmt{{SQL: long}}, &out, exec.PageBytes); err != nil {
		t.Error(err)
	}
	next.Interrupt()
	if _, err := next.ReadAll([]subjects.Stmt{{SQL: long}}, &out, exec.PageBytes); err == nil {
		t.Error("its own cancel did not stop it")
	}
}

// A node that stops gives errors to those who come late, not a crash.
func TestClosedStoreRefuses(t *testing.T) {
	h := newHistory(t)
	n := newMaster(t, h)
	h.command(n, "CREATE DATABASE d")
	d, c := n.database("d"), n.Catalog()
	n.close()
	d.Interrupt()
	_, err := d.Begin()
	wantCode(t, "begin", err, subjects.CodeUnavailable)
	_, err = d.Read(context.Background(), time.Time{}, subjects.Counters{})
	wantCode(t, "read", err, subjects.CodeUnavailable)
	_, err = c.Enrolled()
	wantCode(t, "enrolled", err, subjects.CodeUnavailable)
	wantCode(t, "enrol", c.Enrol("snap1", 1), subjects.CodeUnavailable)
}

// A database is dropped at once although clients have left results unfinished, and
// they hear about it.
func TestParkedSnapshotsDoNotHoldUpClose(t *testing.T) {
	h := newHistory(t)
	n := newMaster(t, h)
	h.command(n, "CREATE DATABASE d")
	h.mustWrite(n, "d", "CREATE TABLE t AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 1000) SELECT i FROM n")
	idle, busy, back := n.read("d"), n.read("d"), n.read("d")
	var out subjects.Results
	rows, err := idle.ReadAll([]subjects.Stmt{{SQL: "SELECT * FROM t"}}, &out, 10)
	if err != nil || rows == nil {
		t.Fatal(rows, err)
	}
	idle.Park()
	back.Park()
	if err := back.Resume(); err != nil {
		t.Fatal(err)
	}
	if _, err := back.ReadNext("SELECT 1", nil, &out, 10); err != nil {
		t.Fatal(err)
	}
	back.Close()
	dropped := make(chan struct{})
	go func() {
		defer close(dropped)
		h.command(n, "DROP DATABASE d")
	}()
	for idle.Resume() == nil {
		idle.Park() // until the drop has begun
	}
	wantCode(t, "resume", idle.Resume(), subjects.CodeUnavailable)
	rows.Close()
	idle.Close()
	busy.Park() // when its request is done
	<-dropped
	wantCode(t, "resume", busy.Resume(), subjects.CodeUnavailable)
	busy.Close()
	idle.Interrupt()
}
