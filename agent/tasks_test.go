package agent

import (
	"fmt"
	"testing"
	"time"

	"github.com/snapdb/snapdb/subjects"
)

// A node forgets old commands, but none that somebody could give it again.
func TestCommandIsRememberedForAsLongAsItIsGood(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		least, age time.Duration
		left       int
	}{{0, 0, keptTasks}, {replayable, replayable + time.Second, keptTasks}, {replayable, replayable - time.Minute, keptTasks + 1}} {
		tasks, err := openTasks(t.TempDir(), interrupted)
		if err != nil {
			t.Fatal(err)
		}
		tasks.least = x.least
		for i := range keptTasks + 1 {
			tasks.enter(&task{Resp: subjects.CtlResponse{ID: fmt.Sprint(i), State: subjects.CommandDone}, Accepted: time.Now().Add(-x.age), Reported: true})
		}
		tasks.mu.Lock()
		err = tasks.write(tasks.byID["1"])
		left := len(tasks.byID)
		tasks.mu.Unlock()
		if err != nil || left != x.left {
			t.Errorf("of commands %v old that must be known for %v, %d are left, want %d: %v", x.age, x.least, left, x.left, err)
		}
		if err := tasks.journal.Close(); err != nil {
			t.Error(err)
		}
	}
}
