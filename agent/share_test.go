package agent_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/snapdb/snapdb/agent"
	"github.com/snapdb/snapdb/subjects"
)

// A viewer who asks more than a node can do keeps nobody else waiting for their turn.
func TestEndlessReadsOfOneUserLeaveRoomForOthers(t *testing.T) {
	t.Parallel()
	reads := agent.Reads{Connections: 4, Longest: time.Minute}
	c := newCluster(t, agent.MasterOptions{Secure: true, Reads: reads})
	c.reads = reads
	c.startSlave("s1")
	c.untilInSync("s1")
	c.do("", "CREATE DATABASE a")
	c.do("a", "CREATE TABLE t (x)")
	hostile := c.addUser(subjects.UserRequest{User: "hostile", Role: "viewer"})
	viewer := c.addUser(subjects.UserRequest{User: "viewer", Role: "viewer"})
	writer := c.addUser(subjects.UserRequest{User: "writer", Role: "writer"})

	const endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n) SELECT max(i) FROM n"
	hopeless, enough := context.WithCancel(testContext(t))
	var clients sync.WaitGroup
	for i := range 128 {
		door := []string{subjects.Query, subjects.NodeQuery("s1")}[i%2]
		clients.Go(func() {
			_, err := hostile.Do(hopeless, door, &subjects.Request{DB: "a", SQL: endless, TimeoutMS: 3_600_000})
			if hopeless.Err() == nil {
				t.Errorf("an endless read ended: %v", err)
			}
		})
	}
	// Two read, the others wait for them.
	late := &subjects.Request{DB: "a", SQL: "SELECT 1", TimeoutMS: 100}
	for _, door := range []string{subjects.Query, subjects.NodeQuery("s1")} {
		until(t, "the viewer has his share at "+door, func() bool {
			_, err := hostile.Do(testContext(t), door, late)
			var refused *subjects.Error
			return errors.As(err, &refused) && refused.Code == subjects.CodeBusy
		})
	}
	for range 3 {
		if resp, err := writer.Exec(testContext(t), &subjects.Request{DB: "a", SQL: "INSERT INTO t VALUES (1)"}); err != nil || resp.Error != nil {
			t.Fatalf("a write: %v, %v", resp, err)
		}
		if resp, err := viewer.Query(testContext(t), &subjects.Request{DB: "a", SQL: "SELECT count(*) FROM t"}); err != nil || resp.Error != nil {
			t.Fatalf("a read: %v, %v", resp, err)
		}
		if _, err := viewer.QueryNode(testContext(t), "s1", &subjects.Request{DB: "a", SQL: "SELECT count(*) FROM t"}); err != nil {
			t.Fatalf("a read at a node: %v", err)
		}
		if _, err := viewer.Info(testContext(t)); err != nil {
			t.Fatalf("how the cluster is: %v", err)
		}
	}
	enough()
	c.stopSlave("s1")
	c.stopMaster() // ends the reads
	clients.Wait()
}
