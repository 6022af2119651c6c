package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/snapdb/snapdb/agent/command"
	"github.com/snapdb/snapdb/subjects"
)

// Bounds and times of tasks.
const (
	// keptTasks is how many commands a node remembers that it has ended.
	keptTasks = 1000
	// reportPatience is how long the master may take to note a report.
	reportPatience = 5 * time.Second
	// reportEvery is the least time between reports of one task's progress.
	reportEvery = 500 * time.Millisecond
	// lastReports is how long the reports may take with which a node ends.
	lastReports = time.Second
	// reportAgain is the pause before a report that was not noted is repeated.
	reportAgain = time.Second
)

// tasks are the commands that change something, as the node that carries them out
// remembers them: each is carried out once, also if the node restarts, and the
// master is told what became of it until it has noted that.
type tasks struct {
	node, boot string
	nc         *nats.Conn
	log        *slog.Logger
	joined     func() bool     // the master knows the node
	life       context.Context // of everything that is under way
	running    sync.WaitGroup
	news       chan struct{} // holds a token when there is something to report
	least      time.Duration // for which each is remembered, however many there are

	mu      sync.Mutex
	journal *command.Journal
	byID    map[string]*task
	order   []string // ids, oldest first
}

// task is one of them. A task without cancel is not under way.
type task struct {
	Resp     subjects.CtlResponse `json:"resp"`
	Accepted time.Time            `json:"accepted,omitzero"`
	Reported bool                 `json:"reported,omitempty"` // the master has noted Resp

	cancel context.CancelCauseFunc
	shown  time.Time // when progress was last told
}

// errAborted ends a task that somebody gave up.
var errAborted = errors.New("given up on demand")

// errNodeStops ends a task because the node does.
var errNodeStops = errors.New("the node was stopped before it was done")

// openTasks reads what the node remembers. interrupted says what has become of a
// task in which the node ended.
func openTasks(dir string, interrupted func(*task)) (*tasks, error) {
	t := &tasks{byID: map[string]*task{}, news: make(chan struct{}, 1)}
	var err error
	t.journal, err = command.OpenJournal(filepath.Join(dir, "_snapdb_commands.jsonl"), func(line []byte) error {
		k := new(task)
		if err := json.Unmarshal(line, k); err != nil {
			return subjects.PlainJSON(line, err)
		}
		t.enter(k)
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, k := range t.byID {
		if !k.Resp.State.Ended() {
			interrupted(k)
			k.Reported = false
			if err := t.journal.Append(k); err != nil {
				return nil, errors.Join(err, t.journal.Close())
			}
		}
	}
	t.tell()
	return t, nil
}

func (t *tasks) enter(k *task) {
	if t.byID[k.Resp.ID] == nil {
		t.order = append(t.order, k.Resp.ID)
	}
	t.byID[k.Resp.ID] = k
}

// write makes the state of a task durable, and forgets the oldest. t.mu is held.
func (t *tasks) write(k *task) error {
	if err := t.journal.Append(k); err != nil {
		return err
	}
	for len(t.order) > keptTasks {
		old := t.byID[t.order[0]]
		if !old.Reported || !old.Resp.State.Ended() || time.Since(old.Accepted) < t.least {
			break
		}
		delete(t.byID, t.order[0])
		t.order = t.order[1:]
	}
	if t.journal.Lines() < 4*keptTasks {
		return nil
	}
	lines := make([]any, len(t.order))
	for i, id := range t.order {
		lines[i] = t.byID[id]
	}
	return t.journal.Rewrite(lines)
}

// begin returns what has become of the command of that id, or makes it a task,
// and then new is true.
func (t *tasks) begin(req *subjects.CtlRequest, cancel context.CancelCauseFunc) (resp subjects.CtlResponse, news bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if k := t.byID[req.ID]; k != nil {
		return k.Resp, false, nil
	}
	if err := inTime(req); err != nil { // which counts only for what has not begun
		return resp, false, err
	}
	k := &task{Accepted: time.Now(), cancel: cancel,
		Resp: subjects.CtlResponse{Node: t.node, Boot: t.boot, ID: req.ID, Op: req.Op, State: subjects.CommandAccepted}}
	t.enter(k) // first, or writing could leave it out of a journal made anew
	if err := t.write(k); err != nil {
		delete(t.byID, req.ID)
		t.order = t.order[:len(t.order)-1]
		return k.Resp, false, fmt.Errorf("remember the command: %w", err)
	}
	t.running.Add(1)
	return k.Resp, true, nil
}

// finish notes how a task has ended. A task whose end cannot be written down is
// told the master all the same.
func (t *tasks) finish(id string, output any, err error) subjects.CtlResponse {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := t.byID[id]
	next := *k
	next.cancel, next.Reported = nil, false
	r := &next.Resp
	r.State, r.Reason = subjects.CommandDone, ""
	if err == nil && output != nil {
		r.Output, err = json.Marshal(output)
	}
	switch {
	case errors.Is(err, errAborted):
		r.State, r.Reason = subjects.CommandCancelled, err.Error()
	case err != nil:
		r.State, r.Reason = subjects.CommandFailed, reasonOf(err)
	}
	*k = next
	if err := t.write(k); err != nil {
		t.log.Error("what became of a command cannot be written down", "command", id, "error", err)
	}
	t.tell()
	return k.Resp
}

// reasonOf is an error for people far from this machine: without the paths of it.
func reasonOf(err error) string {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Op + " " + filepath.Base(path.Path) + ": " + path.Err.Error()
	}
	return err.Error()
}

// progress shows how far a task is.
func (t *tasks) progress(id, reason string, done, total int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := t.byID[id]
	k.Resp.Reason, k.Resp.Progress, k.Resp.Total, k.Reported = reason, done, total, false
	if time.Since(k.shown) > reportEvery {
		k.shown = time.Now()
		t.tell()
	}
}

// abort gives up a task that is under way.
func (t *tasks) abort(id string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := t.byID[id]
	switch {
	case k == nil:
		return fmt.Errorf("this node knows no command %q", id)
	case k.cancel == nil:
		return fmt.Errorf("command %s has ended already: %s", id, k.Resp.State)
	}
	k.cancel(errAborted)
	return nil
}

func (t *tasks) tell() {
	select {
	case t.news <- struct{}{}:
	default:
	}
}

// run reports to the master until life ends, and once more when everything under
// way has ended.
func (t *tasks) run() {
	for t.life.Err() == nil {
		select {
		case <-t.news:
			if !t.report(t.life) && sleep(t.life, reportAgain) {
				t.tell()
			}
		case <-t.life.Done():
		}
	}
	t.running.Wait()
	last, cancel := context.WithTimeout(context.Background(), lastReports)
	defer cancel()
	t.report(last) // what the master does not note now it hears after the next start
	if err := t.journal.Close(); err != nil {
		t.log.Warn("cannot close the journal of commands", "error", err)
	}
}

// report tells the master of every task what it has not noted. It is false if
// something is left.
func (t *tasks) report(ctx context.Context) bool {
	type due struct {
		k    *task
		resp subjects.CtlResponse
	}
	var all []due
	t.mu.Lock()
	for _, id := range t.order {
		if k := t.byID[id]; !k.Reported {
			all = append(all, due{k, k.Resp})
		}
	}
	t.mu.Unlock()
	for _, d := range all {
		if !t.send(ctx, d.resp) {
			return false
		}
		t.mu.Lock()
		if d.k.Resp.State == d.resp.State && d.k.Resp.Progress == d.resp.Progress {
			d.k.Reported = true
			if d.resp.State.Ended() {
				if err := t.write(d.k); err != nil {
					t.log.Warn("cannot write down that the master knows of a command", "command", d.resp.ID, "error", err)
				}
			}
		}
		t.mu.Unlock()
	}
	return true
}

// send tells the master of one task. It is true when that has noted it, or never
// will.
func (t *tasks) send(ctx context.Context, resp subjects.CtlResponse) bool {
	data, err := json.Marshal(resp)
	if err != nil {
		t.log.Error("a report cannot be encoded", "command", resp.ID, "error", err)
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, reportPatience)
	defer cancel()
	msg, err := t.nc.RequestWithContext(ctx, subjects.NodeReport(t.node), data)
	if err != nil {
		return false
	}
	refused := subjects.DecodeRefusal(msg.Data)
	if refused == nil {
		return true
	}
	if refused.Code == subjects.CodeBadRequest && t.joined() {
		t.log.Warn("the master does not take a report", "command", resp.ID, "error", refused)
		return true
	}
	return false
}
