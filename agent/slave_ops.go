package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/nats-io/nats.go/micro"

	"github.com/snapdb/snapdb/subjects"
)

// Power is how a node powers its machine off. There is one that does; tests have
// others.
type Power interface {
	// Announce tells who is logged in, as well as that can be done.
	Announce(ctx context.Context, message string)
	// Off and Reboot return when the machine is about to go down.
	Off(ctx context.Context) error
	Reboot(ctx context.Context) error
}

// operation is something that a node can be told to do.
type operation struct {
	// do carries it out. What it returns besides an error is the output.
	do func(ctx context.Context, t *doing) (any, error)
	// task: it changes something, so it is remembered and done once. long: it is
	// accepted first, and reported when done.
	task, long bool
}

// doing is an operation being carried out.
type doing struct {
	s    *Slave
	id   string
	args json.RawMessage // checked
}

// args reads the arguments of an operation.
func args[A any](t *doing) (a A) {
	if len(t.args) > 0 {
		_ = json.Unmarshal(t.args, &a) // they are checked
	}
	return a
}

// operations are what a node can be told to do.
func (s *Slave) operations() map[subjects.Op]operation {
	return map[subjects.Op]operation{
		subjects.OpPing:      {do: func(context.Context, *doing) (any, error) { return nil, nil }},
		subjects.OpInfo:      {do: func(context.Context, *doing) (any, error) { return s.Status(), nil }},
		subjects.OpLogs:      {do: s.doLogs},
		subjects.OpAbort:     {do: s.doAbort},
		subjects.OpFiles:     {do: s.doFiles},
		subjects.OpLabel:     {do: s.doLabel, task: true},
		subjects.OpPush:      {do: s.doPush, task: true, long: true},
		subjects.OpFetch:     {do: s.doFetch, task: true, long: true},
		subjects.OpWallpaper: {do: s.doWallpaper, task: true, long: true},
		subjects.OpShutdown:  {do: s.doShutdown, task: true, long: true},
		subjects.OpReboot:    {do: s.doReboot, task: true, long: true},
		subjects.OpResync:    {do: s.doResync, task: true, long: true},
	}
}

// obey carries out one command and answers with its outcome.
func (s *Slave) obey(r micro.Request) {
	answer := answerTo(s.nc, r)
	req := new(subjects.CtlRequest)
	resp := subjects.CtlResponse{Node: s.id, Boot: s.boot, State: subjects.CommandFailed}
	op, err := s.readCommand(r.Data(), req)
	if err == nil {
		err = s.commanded(r.Headers(), r.Data(), req)
	}
	if err != nil {
		resp.ID, resp.Op, resp.Reason = req.ID, req.Op, err.Error()
		respondJSON(answer, resp)
		return
	}
	if !s.crew.do(func() { respondJSON(answer, s.perform(op, req)) }) {
		resp.ID, resp.Op, resp.Reason = req.ID, req.Op, fmt.Sprintf("node %s is stopping, or answers %d requests already: try again", s.id, maxQueries)
		respondJSON(answer, resp)
	}
}

// maxCommandID is the longest id of a command.
const maxCommandID = 63

// readCommand reads a command and says what is wrong with it.
func (s *Slave) readCommand(data []byte, req *subjects.CtlRequest) (op operation, err error) {
	if err := subjects.DecodeStrict(data, req); err != nil {
		return op, fmt.Errorf(`%w; expected for example {"op":"ping"}`, err)
	}
	if err := subjects.CheckArgs(req.Op, req.Args); err != nil {
		return op, err
	}
	op, ok := s.operations()[req.Op]
	switch {
	case !ok:
		return op, fmt.Errorf("this node cannot %s", req.Op)
	case len(req.ID) > maxCommandID:
		return op, fmt.Errorf("the id of a command has at most %d characters", maxCommandID)
	}
	return op, nil
}

// inTime says whether a command may still begin.
func inTime(req *subjects.CtlRequest) error {
	if req.Expires.IsZero() || time.Now().Before(req.Expires) {
		return nil
	}
	return fmt.Errorf("it expired at %s, before the node got it", req.Expires.UTC().Format(time.RFC3339))
}

// perform carries out a command, or accepts it.
func (s *Slave) perform(op operation, req *subjects.CtlRequest) subjects.CtlResponse {
	resp := subjects.CtlResponse{Node: s.id, Boot: s.boot, ID: req.ID, Op: req.Op, State: subjects.CommandDone}
	if !op.task {
		var out any
		err := inTime(req)
		if err == nil {
			out, err = op.do(s.life, &doing{s, req.ID, req.Args})
		}
		if err == nil && out != nil {
			resp.Output, err = json.Marshal(out)
		}
		if err != nil {
			resp.State, resp.Reason = subjects.CommandFailed, err.Error()
		}
		return resp
	}
	if req.ID == "" {
		req.ID = randomID()
	}
	ctx, cancel := context.WithCancelCause(s.life)
	accepted, news, err := s.tasks.begin(req, cancel)
	switch {
	case err != nil:
		cancel(nil)
		resp.State, resp.Reason = subjects.CommandFailed, err.Error()
		return resp
	case !news:
		cancel(nil)
		return accepted
	}
	s.log.Info("command accepted", "command", req.ID, "op", req.Op)
	ended := make(chan subjects.CtlResponse, 1)
	go func() {
		defer s.tasks.running.Done() // which begin has counted
		defer cancel(nil)
		out, err := op.do(ctx, &doing{s, req.ID, req.Args})
		if err != nil && ctx.Err() != nil {
			err = errNodeStops
			if cause := context.Cause(ctx); errors.Is(cause, errAborted) {
				err = cause
			}
		}
		end := s.tasks.finish(req.ID, out, err)
		s.log.Info("command ended", "command", req.ID, "op", req.Op, "state", end.State, "reason", end.Reason)
		ended <- end
		if s.leaving.Load() {
			last, cancel := context.WithTimeout(s.life, lastReports)
			defer cancel()
			s.tasks.report(last)
			s.end()
		}
	}()
	if op.long {
		return accepted
	}
	return <-ended
}

func (s *Slave) doAbort(_ context.Context, t *doing) (any, error) {
	return nil, s.tasks.abort(args[subjects.AbortArgs](t).ID)
}

func (s *Slave) doLogs(_ context.Context, t *doing) (any, error) {
	a := args[subjects.LogsArgs](t)
	return s.wire.newest(a.Lines, a.Level), nil
}

func (s *Slave) doLabel(_ context.Context, t *doing) (any, error) {
	a := args[subjects.LabelArgs](t)
	labels, err := s.labels.change(a.Set, a.Remove)
	if err == nil {
		s.tell()
	}
	return labels, err
}

// doShutdown ends this process in order, or powers the machine off.
func (s *Slave) doShutdown(ctx context.Context, t *doing) (any, error) {
	a := args[subjects.ShutdownArgs](t)
	if a.Mode == subjects.ShutdownHost {
		return s.powerDown(ctx, t, a, "powered off", Power.Off)
	}
	release, err := s.claimEnd(t.id)
	if err != nil {
		return nil, err
	}
	defer release()
	if err := t.grace(ctx, a, "the node stops"); err != nil {
		return nil, err
	}
	s.leaving.Store(true) // which is reported first
	return nil, nil
}

func (s *Slave) doReboot(ctx context.Context, t *doing) (any, error) {
	return s.powerDown(ctx, t, args[subjects.ShutdownArgs](t), "restarted", Power.Reboot)
}

// powerDown does something to the machine after the grace.
func (s *Slave) powerDown(ctx context.Context, t *doing, a subjects.ShutdownArgs, what string, do func(Power, context.Context) error) (any, error) {
	if s.o.Power == nil {
		return nil, errors.New("refused: this node does not let its machine be powered off or restarted; start it with --allow-power to allow it")
	}
	release, err := s.claimEnd(t.id)
	if err != nil {
		return nil, err
	}
	defer release()
	message := strings.TrimSpace(a.Message)
	if message == "" {
		message = "This machine is about to be " + what + "."
	}
	s.o.Power.Announce(ctx, message)
	if err := t.grace(ctx, a, "the machine is "+what); err != nil {
		return nil, err
	}
	return nil, do(s.o.Power, ctx)
}

// claimEnd makes a command the one that is about to end this node, until release. Of
// two whose graces run side by side nobody could say which one it was, or whom the
// users are to believe.
func (s *Slave) claimEnd(id string) (release func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending != "" {
		return nil, fmt.Errorf("refused: command %s is about to end this node already; cancel that one first", s.ending)
	}
	s.ending = id
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.ending = ""
	}, nil
}

// grace waits until it is time, unless it is given up.
func (t *doing) grace(ctx context.Context, a subjects.ShutdownArgs, what string) error {
	grace := time.Duration(a.GraceMS) * time.Millisecond
	if grace > 0 {
		t.s.tasks.progress(t.id, fmt.Sprintf("%s at %s", what, time.Now().Add(grace).UTC().Format("15:04:05 UTC")), 0, 0)
	}
	if !sleep(ctx, grace) {
		return context.Cause(ctx)
	}
	return nil
}

// interrupted says what has become of a task in which the node ended. For a power
// off or restart that end was the aim, if the machine has been started since.
func interrupted(k *task) {
	r := &k.Resp
	r.State, r.Reason = subjects.CommandFailed, "the node ended before it was done"
	if r.Op == subjects.OpReboot || r.Op == subjects.OpShutdown {
		if booted, err := bootTime(); err == nil && booted.After(k.Accepted) {
			r.State, r.Reason = subjects.CommandDone, "the machine was started again at "+booted.UTC().Format(time.RFC3339)
		}
	}
}

// doResync rebuilds copies from the log.
func (s *Slave) doResync(ctx context.Context, t *doing) (any, error) {
	names := args[subjects.ResyncArgs](t).Databases
	if len(names) == 0 {
		for _, d := range s.store.Databases() {
			names = append(names, d.Name())
		}
	}
	goals := map[string]subjects.Head{}
	for _, name := range names {
		d, err := s.store.Database(name)
		if err != nil {
			return nil, fmt.Errorf("database %s: %w", name, err)
		}
		goals[d.Name()] = d.Head()
	}
	if len(goals) == 0 {
		return nil, nil // there is nothing that could be wrong
	}
	s.mu.Lock()
	for name, h := range goals {
		if known := s.way.heads[name]; known.Incarnation == h.Incarnation && known.Position > h.Position {
			goals[name] = known
		}
		s.rebuild = append(s.rebuild, name)
		delete(s.unbuilt, name)
	}
	s.mu.Unlock()
	s.leave(errRebuild)
	return s.rebuilt(ctx, t, goals)
}

// rebuilt waits until rebuilt copies are as far as they have to come.
func (s *Slave) rebuilt(ctx context.Context, t *doing, goals map[string]subjects.Head) (any, error) {
	for {
		heard := s.advance.heard()
		left := []string{}
		s.mu.Lock()
		waiting := len(s.rebuild) > 0
		failed := maps.Clone(s.unbuilt)
		s.mu.Unlock()
		for name, goal := range goals {
			if err := failed[name]; err != nil {
				return nil, fmt.Errorf("database %s: %w", name, err)
			}
			d, err := s.store.Database(name)
			if err != nil {
				continue // dropped, or just being made again
			}
			if h := d.Head(); waiting || h.Incarnation == goal.Incarnation && h.Position < goal.Position {
				left = append(left, fmt.Sprintf("%s at position %d of %d", name, h.Position, goal.Position))
			}
		}
		if len(left) == 0 && !waiting {
			out := map[string]uint64{}
			for name := range goals {
				if d, err := s.store.Database(name); err == nil {
					out[name] = d.Applied().Number
				}
			}
			return map[string]any{"positions": out}, nil
		}
		s.tasks.progress(t.id, strings.Join(left, ", "), 0, 0)
		select {
		case <-heard:
		case <-time.After(statusEvery):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// rebuildAsked throws away the copies that are to be rebuilt. Nothing is read from
// the log meanwhile.
func (s *Slave) rebuildAsked() {
	s.mu.Lock()
	names := s.rebuild
	s.mu.Unlock()
	for _, name := range names {
		d, err := s.store.Database(name)
		if err != nil {
			continue // dropped meanwhile
		}
		s.dropLane(d)
		if err := s.store.Rebuild(d); err != nil {
			s.log.Error("a copy cannot be rebuilt", "database", name, "error", err)
			s.mu.Lock()
			s.unbuilt[name] = err
			s.mu.Unlock()
			continue
		}
		s.log.Info("copy set aside, to be rebuilt from the log", "database", name)
	}
	s.mu.Lock()
	s.rebuild = s.rebuild[len(names):]
	s.mu.Unlock()
	s.advance.ring()
}
