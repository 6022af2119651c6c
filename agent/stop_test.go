package agent_test

import (
	"runtime"
	"strings"
	"testing"

	"github.com/snapdb/snapdb/agent"
	"github.com/snapdb/snapdb/subjects"
)

// After Stop nothing of a master runs any more. Not parallel: it looks at all
// goroutines of the process.
func TestMasterEndsItsGoroutines(t *testing.T) {
	c := newCluster(t, agent.MasterOptions{}, "s1")
	c.do("", "CREATE DATABASE a")
	c.do("a", "CREATE TABLE t (x)")
	s := c.session("a")
	s.do("BEGIN IMMEDIATE")
	waiting := c.start(subjects.Request{DB: "a", SQL: "INSERT INTO t VALUES (1)"})
	until(t, "one waits", func() bool { return c.m.Waiting("a") == 1 })
	running := c.start(subjects.Request{DB: "a", SQL: endless, TimeoutMS: 300_000})
	c.stopMaster()
	c.stopSlave("s1")
	waiting.wait()
	running.wait()
	until(t, "no goroutine of the master left", func() bool {
		buf := make([]byte, 1<<20)
		stacks := string(buf[:runtime.Stack(buf, true)])
		for _, part := range []string{"agent.(*Master)", "agent.(*writer)", "agent.(*fleet)", "agent.(*crew)", "agent.(*reader)", "agent.(*Slave)", "agent.(*lane)"} {
			if strings.Contains(stacks, part) {
				return false
			}
		}
		return true
	})
}
