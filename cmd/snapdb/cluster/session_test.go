//go:build linux

package cluster_test

import (
	"errors"
	"testing"

	"github.com/snapdb/snapdb/subjects"
)

func TestTransactionOpenWhenItsMasterDiesIsWhollyGone(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	cl := c.client()
	c.exec(cl, "", "CREATE DATABASE A")
	c.exec(cl, "A", "CREATE TABLE t (a)")
	s := cl.NewSession("A")
	for _, sql := range []string{"BEGIN", "INSERT INTO t VALUES (1)"} {
		if _, err := s.Do(t.Context(), &subjects.Request{SQL: sql}); err != nil {
			t.Fatal(err)
		}
	}
	c.master.Kill()
	c.start()
	c.info(cl) // the client is connected again
	// The rest of the transaction must not be taken for writes of their own.
	_, err := s.Do(t.Context(), &subjects.Request{SQL: "INSERT INTO t VALUES (2)"})
	if we := new(subjects.Error); !errors.As(err, &we) || we.Code != subjects.CodeTransaction {
		t.Errorf("a statement of the lost transaction: got %v, want an error of code %s", err, subjects.CodeTransaction)
	}
	if s.InTx() {
		t.Error("the session still believes to be in the transaction")
	}
	if n := c.query(cl, "", "A", "SELECT count(*) FROM t").Int(); n != 0 {
		t.Errorf("%d rows of the lost transaction are there", n)
	}
	if _, err := s.Do(t.Context(), &subjects.Request{SQL: "INSERT INTO t VALUES (3)"}); err != nil {
		t.Errorf("the session cannot go on: %v", err)
	}
	c.finish(cl)
}
