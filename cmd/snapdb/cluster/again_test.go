//go:build linux

package cluster_test

import (
	"fmt"
	"maps"
	"slices"

	"github.com/snapdb/snapdb/agent/client"
	"github.com/snapdb/snapdb/subjects"
)

// again drops and makes databases of the same name, and remembers what may have come
// of it: each time is another database.
type again struct {
	c  *cluster
	l  *load // for its judgement
	cl *client.Client
	n  int
	is map[string]bool // what it may be now
}

// What it may be besides the number of a step.
const (
	isNone  = "none"
	isEmpty = "empty"
)

func newAgain(c *cluster, l *load, cl *client.Client) *again {
	return &again{c: c, l: l, cl: cl, is: map[string]bool{isNone: true}}
}

// step drops, makes and fills the database.
func (a *again) step() {
	a.n++
	a.do("", "DROP DATABASE IF EXISTS Again", func(string) string { return isNone })
	a.do("", "CREATE DATABASE IF NOT EXISTS Again", func(was string) string {
		if was == isNone {
			return isEmpty
		}
		return was
	})
	if !a.is[isNone] {
		a.do("Again", fmt.Sprintf("CREATE TABLE IF NOT EXISTS t (n); DELETE FROM t; INSERT INTO t VALUES (%d)", a.n), func(string) string { return fmt.Sprint(a.n) })
	}
}

// do sends SQL; becomes says what it makes of each thing that the database may be.
func (a *again) do(db, sql string, becomes func(was string) string) {
	f := a.l.send(a.cl, db, sql)
	if f == absent {
		return
	}
	may := map[string]bool{}
	for was := range a.is {
		may[becomes(was)] = true
		if f == maybe {
			may[was] = true
		}
	}
	a.is = may
}

// verify compares what a node has with what it may have.
func (a *again) verify(id string) {
	a.c.t.Helper()
	is := isNone
	if slices.Contains(a.c.names(a.cl, id), "Again") {
		is = isEmpty
		if a.c.query(a.cl, id, "Again", "SELECT count(*) FROM sqlite_schema WHERE name = 't'").Int() > 0 {
			is = fmt.Sprint(a.c.query(a.cl, id, "Again", "SELECT n FROM t").Int())
		}
	}
	if !a.is[is] {
		a.c.t.Errorf("the database made again on %q is %s, and may be %v", id, is, slices.Collect(maps.Keys(a.is)))
	}
}

// names are the databases of a node.
func (c *cluster) names(cl *client.Client, id string) (list []string) {
	c.t.Helper()
	for _, row := range c.do(cl, door(id), &subjects.Request{SQL: "SHOW DATABASES"}).Results[0].Rows {
		list = append(list, string(row[0].Bytes()))
	}
	return list
}
