//go:build linux

package cluster_test

import "testing"

func TestEveryStepReachesEveryNode(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 2)
	cl := c.client()
	c.exec(cl, "", "CREATE DATABASE A")
	c.exec(cl, "A", "CREATE TABLE t (a, b); INSERT INTO t VALUES (1, 'x'), (2, NULL), (3.5, x'00ff'), (random(), datetime('now'))")
	c.exec(cl, "", "CREATE DATABASE Gone")
	c.exec(cl, "", "DROP DATABASE Gone")
	c.finish(cl)
}
