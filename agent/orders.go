package agent

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/snapdb/snapdb/agent/blob"
	"github.com/snapdb/snapdb/agent/command"
	"github.com/snapdb/snapdb/agent/desktop"
	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// Times of commands.
const (
	// queueLife is how long a command waits for its nodes if nothing else is said.
	queueLife = 24 * time.Hour
	// spareFile is how long a file that no command refers to is kept.
	spareFile = time.Hour
	// sweepFiles is how often such are looked for.
	sweepFiles = 5 * time.Minute
	// listed is how many commands a list has if nothing else is said, listedMost how
	// many it may have.
	listed, listedMost = 100, 1000
)

// orders are the commands that people give to nodes: the master's doors for them,
// and its way to the nodes.
type orders struct {
	m        *Master
	book     *command.Book
	dispatch *command.Dispatcher
	files    *blob.Store // what commands carry, and what nodes bring
}

func openOrders(m *Master) (*orders, error) {
	o := &orders{m: m}
	var err error
	if o.files, err = blob.Open(filepath.Join(m.opts.Dir, "files")); err != nil {
		return nil, err
	}
	if o.book, err = command.OpenBook(filepath.Join(m.opts.Dir, "_snapdb_commands.jsonl"), o.tell); err != nil {
		return nil, err
	}
	o.dispatch = command.NewDispatcher(o.book, o, m.log)
	return o, nil
}

// run sends what is due until ctx ends.
func (o *orders) run(ctx context.Context) {
	o.m.goes(func(ctx context.Context) {
		for o.sweep(); sleep(ctx, sweepFiles); {
			o.sweep()
		}
	})
	o.dispatch.Run(ctx)
}

// sweep removes files that no command refers to any more.
func (o *orders) sweep() {
	needed := o.book.Digests()
	if err := o.files.Sweep(spareFile, func(digest string) bool { return needed[digest] }); err != nil {
		o.m.log.Warn("cannot remove files that no command needs", "error", err)
	}
}

// tell publishes a record that has changed.
func (o *orders) tell(r subjects.CommandRecord) {
	data, err := json.Marshal(r)
	if err == nil {
		err = o.m.journal.conn().Publish(subjects.CommandChanged, data)
	}
	if err != nil {
		o.m.log.Warn("cannot publish how a command stands", "command", r.ID, "error", err)
	}
}

// Present says in which session a node is there.
func (o *orders) Present(id string) (session uint64, reason string) { return o.m.fleet.present(id) }

// Send gives a command to a node.
func (o *orders) Send(ctx context.Context, id string, req *subjects.CtlRequest) (*subjects.CtlResponse, error) {
	order, err := o.seal(id, req)
	if err != nil {
		return nil, fmt.Errorf("encode command: %w", err)
	}
	msg, err := o.m.journal.doors().RequestMsgWithContext(ctx, order)
	if errors.Is(err, nats.ErrNoResponders) {
		return nil, command.ErrAway
	}
	if err != nil {
		return nil, fmt.Errorf("send command: %w", err)
	}
	resp := new(subjects.CtlResponse)
	if err := json.Unmarshal(msg.Data, resp); err != nil {
		return nil, fmt.Errorf("read the node's answer: %w", err)
	}
	return resp, nil
}

// seal makes a message of a command, signed if the master has a key.
func (o *orders) seal(id string, req *subjects.CtlRequest) (*nats.Msg, error) {
	key := o.m.opts.Sign
	if key != nil && req.ID == "" {
		named := *req
		named.ID, req = randomID(), &named // it cannot be given twice
	}
	data, err := json.Marshal(req)
	if err != nil {
		return nil, err
	}
	msg := &nats.Msg{Subject: subjects.NodeCtl(id), Data: data}
	if key == nil {
		return msg, nil
	}
	c := subjects.SignedCommand{Cluster: o.m.journal.cluster, Key: key.ID(), Node: id, ID: req.ID, Op: req.Op,
		Expires: time.Now().Add(subjects.CommandLife).UnixMilli(), Body: data}
	msg.Header = subjects.EncodeSeal(subjects.Seal{Signature: key.Sign(c.Bytes()), Node: id, Expires: c.Expires})
	return msg, nil
}

// answerJSON makes a door of a function of who asks and of one JSON object to another.
func answerJSON[Q, A any](ctx context.Context, f func(ctx context.Context, who *caller, q *Q) (*A, error)) func(*demand, reply) {
	return func(r *demand, answer reply) {
		q := new(Q)
		err := subjects.DecodeStrict(r.data, q)
		if err != nil {
			respondError(answer, subjects.Errorf(subjects.CodeBadRequest, "%v", err))
			return
		}
		a, err := f(ctx, r.who, q)
		if err != nil {
			respondError(answer, orderError(err))
			return
		}
		respondJSON(answer, a)
	}
}

// orderError is what a client hears of a command that was not taken.
func orderError(err error) *subjects.Error {
	switch {
	case errors.Is(err, command.ErrUnknown):
		return subjects.Errorf(subjects.CodeNotFound, "%v", err)
	case errors.Is(err, command.ErrTooMany):
		return subjects.Errorf(subjects.CodeBusy, "%v", err)
	}
	return exec.WireError(err)
}

// send records a command and lets it be sent.
func (o *orders) send(_ context.Context, who *caller, q *subjects.CommandRequest) (*subjects.CommandResponse, error) {
	if q.ID != "" {
		if r, err := o.book.Get(q.ID); err == nil {
			return &subjects.CommandResponse{Commands: []subjects.CommandRecord{r}}, nil
		}
	}
	r, err := o.record(who, q)
	if err != nil {
		return nil, err
	}
	return o.add(r)
}

func (o *orders) add(r subjects.CommandRecord) (*subjects.CommandResponse, error) {
	r, err := o.book.Add(r)
	if err != nil {
		return nil, err
	}
	o.dispatch.Kick()
	return &subjects.CommandResponse{Commands: []subjects.CommandRecord{r}}, nil
}

// record is the record that a request would make.
func (o *orders) record(who *caller, q *subjects.CommandRequest) (r subjects.CommandRecord, err error) {
	if err := o.check(q); err != nil {
		return r, err
	}
	nodes, unknown, to, err := o.targets(q)
	switch {
	case err != nil:
		return r, err
	case len(unknown) > 0:
		return r, subjects.Errorf(subjects.CodeBadRequest, "no such node: %s: see snapdb node ls", strings.Join(unknown, ", "))
	case len(nodes) == 0:
		return r, subjects.Errorf(subjects.CodeBadRequest, "no node is meant by %s: see snapdb node ls for the nodes and their labels", to)
	}
	if err := who.commands(nodes); err != nil {
		return r, err
	}
	now := time.Now().Truncate(time.Millisecond)
	r = subjects.CommandRecord{ID: q.ID, Op: q.Op, Args: q.Args, By: who.by(q.By), To: to, Created: now, At: q.At, Expires: q.Expires,
		Away: q.Away, Batch: q.Batch, PauseMS: q.PauseMS, TimeoutMS: q.TimeoutMS}
	if r.ID == "" {
		r.ID = commandID()
	}
	if r.Away == "" {
		r.Away = subjects.AwaySkip
	}
	if r.Expires.IsZero() {
		start := now
		if r.At.After(now) {
			start = r.At
		}
		r.Expires = start.Add(queueLife)
	}
	if r.TimeoutMS == 0 {
		r.TimeoutMS = command.DefaultTimeout(q.Op, q.Args).Milliseconds()
	}
	for _, n := range nodes {
		r.Nodes = append(r.Nodes, subjects.NodeOutcome{Node: n.ID, State: subjects.CommandQueued})
	}
	return r, nil
}

// check says what is wrong with a request, whomever it is for.
func (o *orders) check(q *subjects.CommandRequest) error {
	bad := func(format string, args ...any) error {
		return subjects.Errorf(subjects.CodeBadRequest, format, args...)
	}
	if err := subjects.CheckArgs(q.Op, q.Args); err != nil {
		return bad("%v", err)
	}
	switch {
	case q.Op == subjects.OpAbort:
		return bad("a command is given up by cancelling it")
	case q.ID != "" && subjects.CheckNodeID(q.ID) != nil:
		return bad("the id of a command has 1 to 63 letters, digits, '-' and '_'")
	case q.Away != "" && q.Away != subjects.AwaySkip && q.Away != subjects.AwayWait && q.Away != subjects.AwayQueue:
		return bad("away: must be %s, %s or %s, not %.40q", subjects.AwaySkip, subjects.AwayWait, subjects.AwayQueue, q.Away)
	case q.Batch < 0 || q.PauseMS < 0 || q.TimeoutMS < 0:
		return bad("batch, pause_ms and timeout_ms: must not be negative")
	case q.PauseMS > 0 && q.Batch == 0:
		return bad("pause_ms: is the pause between batches, and needs batch")
	case !q.Expires.IsZero() && !q.Expires.After(time.Now()):
		return bad("expires: %s is over already", q.Expires.Format(time.RFC3339))
	case !q.Expires.IsZero() && q.Expires.Before(q.At):
		return bad("expires: it would expire before its time, %s", q.At.Format(time.RFC3339))
	}
	return o.checkFile(q)
}

// checkFile says whether what a command carries is here.
func (o *orders) checkFile(q *subjects.CommandRequest) error {
	var file struct {
		Digest string `json:"digest"`
		Size   int64  `json:"size"`
	}
	if err := json.Unmarshal(q.Args, &file); len(q.Args) == 0 || err != nil || file.Digest == "" {
		return nil // it carries nothing
	}
	f, err := o.files.Open(file.Digest)
	if errors.Is(err, fs.ErrNotExist) {
		return subjects.Errorf(subjects.CodeBadRequest, "the master does not have the file %s: put it on %s first", file.Digest, subjects.BlobPut)
	}
	if err != nil {
		return subjects.Errorf(subjects.CodeBadRequest, "%v", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && info.Size() != file.Size {
		err = subjects.Errorf(subjects.CodeBadRequest, "the file %s has %d bytes, not %d", file.Digest, info.Size(), file.Size)
	}
	if err == nil && q.Op == subjects.OpWallpaper {
		if file.Size > desktop.MaxImageBytes {
			return subjects.Errorf(subjects.CodeBadRequest, "the image has %d bytes, at most %d are taken", file.Size, desktop.MaxImageBytes)
		}
		if _, _, _, err := desktop.CheckImage(f); err != nil {
			return subjects.Errorf(subjects.CodeBadRequest, "%v", err)
		}
	}
	return err
}

// targets are the nodes that a request is for, and as text.
func (o *orders) targets(q *subjects.CommandRequest) (nodes []subjects.NodeInfo, unknown []string, to string, err error) {
	ways := 0
	for _, given := range []bool{len(q.Nodes) > 0, q.Select != "", q.All} {
		if given {
			ways++
		}
	}
	if ways != 1 {
		return nil, nil, "", subjects.Errorf(subjects.CodeBadRequest, `say for which nodes: "nodes", "select" or "all", one of them`)
	}
	all := o.m.fleet.nodes()
	switch {
	case q.All:
		return all, nil, "all", nil
	case q.Select != "":
		sel, err := subjects.ParseSelector(q.Select)
		if err != nil {
			return nil, nil, "", subjects.Errorf(subjects.CodeBadRequest, "%v", err)
		}
		nodes = slices.DeleteFunc(all, func(n subjects.NodeInfo) bool { return !sel.Matches(&n) })
		return nodes, nil, sel.String(), nil
	}
	wanted := slices.Compact(slices.Sorted(slices.Values(q.Nodes)))
	for _, id := range wanted {
		i := slices.IndexFunc(all, func(n subjects.NodeInfo) bool { return n.ID == id })
		if i < 0 {
			unknown = append(unknown, fmt.Sprintf("%.64q", id))
			continue
		}
		nodes = append(nodes, all[i])
	}
	return nodes, unknown, strings.Join(wanted, " "), nil
}

// preview says whom a request would reach.
func (o *orders) preview(_ context.Context, who *caller, q *subjects.CommandRequest) (*subjects.CommandPreviewResponse, error) {
	nodes, unknown, _, err := o.targets(q)
	if err != nil {
		return nil, err
	}
	if err := who.commands(nodes); err != nil {
		return nil, err
	}
	p := &subjects.CommandPreviewResponse{Reached: []string{}, Unknown: unknown}
	for _, n := range nodes {
		if session, _ := o.Present(n.ID); session != 0 {
			p.Reached = append(p.Reached, n.ID)
		} else {
			p.Away = append(p.Away, n)
		}
	}
	return p, nil
}

// list shows one record, or the newest.
func (o *orders) list(_ context.Context, who *caller, q *subjects.CommandQuery) (*subjects.CommandResponse, error) {
	if q.ID != "" {
		r, err := o.book.Get(q.ID)
		if err != nil {
			return nil, err
		}
		return &subjects.CommandResponse{Commands: who.shown(r)}, nil
	}
	limit := q.Limit
	if limit <= 0 {
		limit = listed
	}
	return &subjects.CommandResponse{Commands: who.shown(o.book.List(q.Node, min(limit, listedMost))...)}, nil
}

// cancel withdraws a command. The answer shows how it stands then.
func (o *orders) cancel(ctx context.Context, who *caller, q *subjects.CommandQuery) (*subjects.CommandResponse, error) {
	if err := o.mayTouch(who, q.ID); err != nil {
		return nil, err
	}
	only := map[string]bool{}
	for _, id := range q.Nodes {
		only[id] = true
	}
	err := o.dispatch.Cancel(ctx, q.ID, only)
	if errors.Is(err, command.ErrUnknown) {
		return nil, err
	}
	if err != nil {
		return nil, subjects.Errorf(subjects.CodeUnavailable, "not given up everywhere: %v", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return o.list(ctx, who, &subjects.CommandQuery{ID: q.ID})
}

// mayTouch refuses a command to nodes that the caller may not command.
func (o *orders) mayTouch(who *caller, id string) error {
	r, err := o.book.Get(id)
	if err != nil {
		return err
	}
	its := map[string]bool{}
	for _, n := range r.Nodes {
		its[n.Node] = true
	}
	nodes := slices.DeleteFunc(o.m.fleet.nodes(), func(n subjects.NodeInfo) bool { return !its[n.ID] })
	if err := who.commands(nodes); err != nil {
		return err
	}
	return nil
}

// retry gives a command again to those of its nodes that have not done it.
func (o *orders) retry(_ context.Context, who *caller, q *subjects.CommandQuery) (*subjects.CommandResponse, error) {
	old, err := o.book.Get(q.ID)
	if err != nil {
		return nil, err
	}
	again := subjects.CommandRequest{Op: old.Op, Args: old.Args, Away: old.Away, Batch: old.Batch, PauseMS: old.PauseMS, TimeoutMS: old.TimeoutMS, By: q.By}
	for _, n := range old.Nodes {
		if n.State.Ended() && n.State != subjects.CommandDone && (len(q.Nodes) == 0 || slices.Contains(q.Nodes, n.Node)) {
			again.Nodes = append(again.Nodes, n.Node)
		}
	}
	if len(again.Nodes) == 0 {
		return nil, subjects.Errorf(subjects.CodeBadRequest, "command %s has not failed on any of its nodes", old.ID)
	}
	r, err := o.record(who, &again)
	if err != nil {
		return nil, err
	}
	r.RetryOf = old.ID
	return o.add(r)
}

// onReport takes a node's word on what has become of a command.
func (o *orders) onReport(r *demand, answer reply) {
	id, _, ok := subjects.SplitNode(r.subject)
	resp := new(subjects.CtlResponse)
	err := subjects.DecodeStrict(r.data, resp)
	switch {
	case !ok:
		err = subjects.Errorf(subjects.CodeBadRequest, "%.80q names no node", r.subject)
	case err != nil:
		err = subjects.Errorf(subjects.CodeBadRequest, "%v", err)
	case !r.who.is(id):
		err = subjects.Errorf(subjects.CodeForbidden, "only node %s may report for itself", id)
	case !o.m.fleet.joined(id):
		err = subjects.Errorf(subjects.CodeBadRequest, "node %s has not joined", id)
	default:
		err = o.dispatch.Report(id, resp)
	}
	if errors.Is(err, command.ErrReport) {
		o.m.log.Warn("ignoring a report", "node", id, "error", err)
		err = subjects.Errorf(subjects.CodeBadRequest, "%v", err)
	}
	if err != nil {
		respondError(answer, exec.WireError(err))
		return
	}
	answer(nil, nil)
}

func respondJSON(answer reply, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		respondError(answer, exec.WireError(fmt.Errorf("encode answer: %w", err)))
		return
	}
	answer(data, nil)
}

// commandID is short, because people type it, and without letters that look alike.
func commandID() string {
	const letters = "abcdefghjkmnpqrstuvwxyz23456789"
	var b [8]byte
	rand.Read(b[:])
	for i := range b {
		b[i] = letters[int(b[i])%len(letters)]
	}
	return string(b[:])
}
