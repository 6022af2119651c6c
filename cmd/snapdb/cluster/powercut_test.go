//go:build linux

package cluster_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/snapdb/snapdb/subjects"
)

// A power cut may take the last commits of a database file from it: only the log
// is synced at every write. Losing the write-ahead log of a file is as much as
// can be lost, everything since its last checkpoint.
func TestFilesThatLostTheirLastCommitsCatchUp(t *testing.T) {
	t.Parallel()
	for name, lost := range map[string][]string{
		"the master":                 {"master/_snapdb.db-wal", "master/A.db-wal"},
		"one file of each":           {"master/A.db-wal", "snap1/_snapdb.db-wal"},
		"everybody":                  {"master/_snapdb.db-wal", "master/A.db-wal", "snap1/_snapdb.db-wal", "snap1/A.db-wal"},
		"everybody, and whole files": {"master/A.db-wal", "master/A.db", "snap1/_snapdb.db-wal", "snap1/A.db-wal", "snap1/A.db"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := startCluster(t, 1)
			cl := c.client()
			c.exec(cl, "", "CREATE DATABASE Gone")
			c.exec(cl, "Gone", "CREATE TABLE g (a)")
			c.exec(cl, "", "DROP DATABASE Gone")
			c.exec(cl, "", "CREATE DATABASE A")
			c.exec(cl, "A", "CREATE TABLE t (a, r DEFAULT (random()))")
			c.exec(cl, "", "CREATE DATABASE B")
			for i := range 10 {
				c.exec(cl, "A", "INSERT INTO t (a) VALUES (?)", subjects.IntegerValue(int64(i)))
			}
			c.settle(cl)
			for _, n := range c.nodes() {
				n.Kill()
			}
			for _, f := range lost {
				path := filepath.Join(c.dir, f)
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
				if filepath.Ext(path) != ".db" {
					if err := os.Remove(path[:len(path)-len("wal")] + "shm"); err != nil && !errors.Is(err, os.ErrNotExist) {
						t.Fatal(err)
					}
				}
			}
			c.start()
			for _, id := range []string{"", "snap1"} {
				c.settle(cl)
				if n := c.query(cl, id, "A", "SELECT count(*) FROM t").Int(); n != 10 {
					t.Errorf("%q has %d rows, 10 were acknowledged", id, n)
				}
			}
			c.exec(cl, "A", "INSERT INTO t (a) VALUES (11)")
			c.exec(cl, "B", "CREATE TABLE b (a)")
			c.exec(cl, "", "CREATE DATABASE C")
			c.finish(cl)
		})
	}
}
