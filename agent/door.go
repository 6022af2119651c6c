package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/snapdb/snapdb/agent/access"
	"github.com/snapdb/snapdb/agent/audit"
	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// writePatience is the time limit of a write, acknowledgement included, that
// names none.
const writePatience = 10 * time.Second

// reply sends the encoded answer of a request.
type reply func(data []byte, failed *subjects.Error)

// openDoors registers the master's services: where SQL comes in.
func (m *Master) openDoors() error {
	nc := m.journal.doors()
	svc, err := micro.AddService(nc, micro.Config{
		Name: subjects.MasterService, Version: serviceVersion,
		Description: "takes SQL, and says how the cluster is", QueueGroupDisabled: true,
	})
	if err != nil {
		return fmt.Errorf("open doors: %w", err)
	}
	m.services = append(m.services, svc)
	if _, err := nc.Subscribe(subjects.Cancel, m.onCancel); err != nil {
		return fmt.Errorf("open door %s: %w", subjects.Cancel, err)
	}
	doors := m.doors()
	maps.Copy(doors, newAdmin(m).doors())
	for name, door := range doors {
		handle := micro.HandlerFunc(func(r micro.Request) { m.enter(door, r, answerTo(nc, r)) })
		if err := svc.AddEndpoint(name, handle, micro.WithEndpointSubject(door.subject)); err != nil {
			return fmt.Errorf("open door %s: %w", door.subject, err)
		}
	}
	return nc.Flush()
}

// door is where requests come in.
type door struct {
	subject string
	right   access.Right // that a user needs; 0: no user may
	nodes   bool         // nodes may ask here
	record  bool         // into the audit record
	handle  func(r *demand, answer reply)
}

// doors are all of the master's. Rights to a database or a node are looked at where it
// is known which one is meant.
func (m *Master) doors() map[string]door {
	return map[string]door{
		"exec":     {subjects.Exec, access.Read, false, false, func(r *demand, answer reply) { m.request(r, true, answer) }},
		"query":    {subjects.Query, access.Read, false, false, func(r *demand, answer reply) { m.request(r, false, answer) }},
		"info":     {subjects.ClusterInfo, access.Read, false, false, m.behind(m.answerInfo)},
		"metrics":  {subjects.ClusterMetrics, access.Read, false, false, m.behind(func(_ *demand, answer reply) { m.answerMetrics(answer) })},
		"forget":   {subjects.Forget, access.Administer, false, true, m.behind(func(r *demand, answer reply) { m.answerForget(r.data, answer) })},
		"snapshot": {subjects.SnapshotTake, access.Command, false, true, m.behind(answerJSON(m.ctx, m.keeper.snapshot))},
		"verify":   {subjects.Verify, access.Command, false, false, m.behind(answerJSON(m.ctx, m.verifier.verify))},
		"verified": {subjects.Verified, 0, true, false, m.behind(answerJSON(m.ctx, m.verifier.onReport))},
		"copy":     {subjects.Copy, access.Read, false, false, m.behind(m.answerCopy)},
		"import":   {subjects.Import, access.Write, false, false, m.behind(answerJSON(m.ctx, m.importer.answer))},
		"blob":     {subjects.BlobGet, access.Command, true, false, m.behind(func(r *demand, answer reply) { m.answerBlob(r.data, answer) })},
		"put":      {subjects.BlobPut, access.Write, true, false, m.behind(m.answerPut)},
		"send":     {subjects.CommandSend, access.Command, false, true, m.behind(answerJSON(m.ctx, m.orders.send))},
		"preview":  {subjects.CommandPreview, access.Command, false, false, m.behind(answerJSON(m.ctx, m.orders.preview))},
		"list":     {subjects.CommandList, access.Read, false, false, m.behind(answerJSON(m.ctx, m.orders.list))},
		"cancel":   {subjects.CommandCancel, access.Command, false, true, m.behind(answerJSON(m.ctx, m.orders.cancel))},
		"retry":    {subjects.CommandRetry, access.Command, false, true, m.behind(answerJSON(m.ctx, m.orders.retry))},
		"report":   {subjects.NodeReport("*"), 0, true, false, m.behind(m.orders.onReport)},
	}
}

// enter lets a request in, or says why not.
func (m *Master) enter(d door, r micro.Request, answer reply) {
	who, refused := m.warden.caller(r.Headers())
	if refused == nil && !(d.nodes && who.node != "") {
		refused = who.may(d.right)
	}
	if who != nil && m.audit != nil && (d.record || refused != nil) {
		answer = m.recorded(who, audit.Event{Action: d.subject, Target: about(r.Data())}, answer)
	}
	if refused != nil {
		m.serve(who, answer, func() { respondError(answer, refused) })
		return
	}
	d.handle(&demand{who, r.Subject(), r.Headers(), r.Data()}, answer)
}

// demand is a request that came in at a door.
type demand struct {
	who     *caller
	subject string
	header  micro.Headers
	data    []byte
}

// behind makes a door whose requests are answered in goroutines of their own.
func (m *Master) behind(handle func(r *demand, answer reply)) func(r *demand, answer reply) {
	return func(r *demand, answer reply) { m.serve(r.who, answer, func() { handle(r, answer) }) }
}

// serviceVersion is what `nats micro ls` shows; it follows the wire format.
const serviceVersion = "1.0.0"

// answerTo replies to a micro request; a failure also shows in the headers that
// NATS tools know. The request's own methods to answer may only be used until its
// handler returns.
func answerTo(nc *nats.Conn, r micro.Request) reply {
	to := r.Reply()
	return func(data []byte, failed *subjects.Error) {
		if to == "" {
			return
		}
		msg := nats.Msg{Subject: to, Data: data}
		if failed != nil {
			msg.Header = nats.Header{micro.ErrorCodeHeader: {string(failed.Code)}, micro.ErrorHeader: {failed.Message}}
		}
		_ = nc.PublishMsg(&msg) // the client is gone if this fails
	}
}

// request handles SQL from any door. writes says whether the door allows them.
// It never waits: unless the request is refused, another goroutine answers it.
func (m *Master) request(r *demand, writes bool, answer reply) {
	req := new(subjects.Request)
	if err := subjects.DecodeRequest(r.data, req); err != nil {
		respondError(answer, subjects.Errorf(subjects.CodeBadRequest, "%v", err))
		return
	}
	answer = m.auditSQL(r.who, req, answer)
	if err := r.who.uses(req.DB); err != nil {
		m.serve(r.who, answer, func() { respondError(answer, err) })
		return
	}
	if stmts := statements(req); writes && r.who.may(access.Write) == nil && req.Session == "" && req.More == "" && exec.LooksLikeWrite(stmts[0].SQL) {
		if cmd, _, err := exec.ParseCommand(stmts[0].SQL); err == nil && cmd.Verb == exec.NoCommand {
			m.write(m.ctx, nil, req, req.DB, stmts, respondWrite(answer))
			return
		}
	}
	limit := m.reader.deadline(req)
	m.serve(r.who, answer, func() { m.handle(m.ctx, r.who, req, writes, limit, answer) })
}

// maxRequests is how many requests are in service at a time, those that only
// wait for the writer of their database not counted. More are told that the
// master is busy.
const maxRequests = 4096

// serve answers a request in another goroutine. Of those that can be answered at a time
// a user has half.
func (m *Master) serve(who *caller, answer reply, job func()) {
	user := who.name()
	if !m.served.try(user) {
		respondError(answer, subjects.Errorf(subjects.CodeBusy, "%d requests of %s are being answered already: wait for answers before asking more", m.served.most, user))
		return
	}
	if !m.crew.do(func() { defer m.served.give(user); job() }) {
		m.served.give(user)
		respondError(answer, subjects.Errorf(subjects.CodeBusy, "the master is stopping, or answers %d requests already: try again", maxRequests))
	}
}

// handle executes a request that may have to wait, in its own goroutine.
func (m *Master) handle(ctx context.Context, who *caller, req *subjects.Request, writes bool, limit time.Time, answer reply) {
	h := &handler{m: m, ctx: ctx, who: who, req: req, writes: writes, limit: limit, db: req.DB}
	if req.Session != "" {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		h.ctx = ctx
		s, err := m.sessions.get(who.scope(req.Session), cancel)
		if err != nil {
			respondError(answer, err)
			return
		}
		h.session = s
		switch {
		case h.db == "":
			h.db = s.db
		case s.tx == nil:
			s.db = h.db // as after USE: the answer tells the client what to name next
		}
	}
	err := h.run()
	resp := subjects.Response{Position: h.outcome.position, Applied: h.outcome.applied, Pending: h.outcome.pending}
	if h.session != nil {
		resp.Session = &subjects.SessionState{DB: h.session.db, Tx: h.session.tx != nil}
		m.sessions.put(h.session) // the client's next request may come right after the answer
	}
	if err != nil {
		resp.Error = exec.WireError(err)
	}
	data := encode(h.out.Bytes(), &resp)
	answer(data, resp.Error)
}

// encode makes an answer around results. One that does not fit a message becomes
// an error: the client would get nothing at all.
func encode(results []byte, resp *subjects.Response) []byte {
	data := subjects.AppendResponse(nil, results, resp)
	if len(data) <= subjects.MaxRequest {
		return data
	}
	size := float64(len(results)) / (1 << 20)
	resp.Error = subjects.Errorf(subjects.CodeTooBig, "the results have %.1f MB, an answer %d MB at most: ask for fewer columns or statements at a time, and for parts of large values (substr)", size, subjects.MaxRequest>>20)
	if resp.Applied != nil {
		resp.Error.Message = fmt.Sprintf("the write is committed at position %d, but its results have %.1f MB, an answer %d MB at most", resp.Position, size, subjects.MaxRequest>>20)
	}
	return subjects.AppendResponse(nil, nil, resp)
}

// write hands statements to the writer of a database.
func (m *Master) write(ctx context.Context, s *session, req *subjects.Request, db string, stmts []subjects.Stmt, answer func(*call, outcome)) *call {
	c := &call{begun: time.Now(), ctx: ctx, req: req, stmts: stmts, session: s, rule: req.Ack, deadline: deadline(req, writePatience), answer: answer, size: requestSize(stmts)}
	if s != nil {
		c.counters = s.counters
	}
	if c.rule.Kind == subjects.AckDefault {
		c.rule = m.opts.Ack
	}
	var failed *subjects.Error
	c.w, failed = m.writer(db)
	if failed == nil {
		failed = m.fleet.enough(c.rule, "nothing was executed")
	}
	if failed == nil {
		failed = c.w.submit(c)
	}
	if failed != nil {
		c.fail(failed)
	}
	return c
}

func requestSize(stmts []subjects.Stmt) int {
	n := 0
	for _, s := range stmts {
		n += len(s.SQL) + 64
		for _, a := range s.Args {
			n += len(a.Bytes()) + 16
		}
	}
	return n
}

// unmet is the error of a write that is committed, but not acknowledged by as
// many as was asked.
func unmet(c *call, o outcome) error {
	if o.met || !c.wrote {
		return nil
	}
	return subjects.Errorf(subjects.CodeNotAcknowledged, "committed at position %d, but ack %s was not met in time: applied by %s, not yet by %s", o.position, c.rule, names(o.applied), names(o.pending))
}

// names lists nodes for people; the answer has all of them.
func names(ids []string) string {
	const most = 8
	switch n := len(ids); {
	case n == 0:
		return "none"
	case n > most:
		return fmt.Sprintf("%s and %d more", strings.Join(ids[:most], ", "), n-most)
	}
	return strings.Join(ids, ", ")
}

// respondWrite answers a write without a session.
func respondWrite(answer reply) func(*call, outcome) {
	return func(c *call, o outcome) {
		resp := subjects.Response{Position: o.position, Applied: o.applied, Pending: o.pending, Error: c.failed}
		if c.failed == nil {
			if err := unmet(c, o); err != nil {
				resp.Error = exec.WireError(err)
			}
		}
		data := encode(c.results.Bytes(), &resp)
		answer(data, resp.Error)
	}
}

func respondError(answer reply, err *subjects.Error) {
	answer(subjects.AppendResponse(nil, nil, &subjects.Response{Error: err}), err)
}

// answerInfo says how the cluster is.
func (m *Master) answerInfo(r *demand, answer reply) {
	info := m.Info(m.ctx)
	info.Only(func(db string) bool { return r.who.uses(db) == nil })
	data, err := encodeInfo(&info, subjects.MaxRequest)
	if err != nil {
		respondError(answer, exec.WireError(err))
		return
	}
	answer(data, nil)
}

// answerForget forgets a slave.
func (m *Master) answerForget(request []byte, answer reply) {
	var req subjects.ForgetRequest
	err := json.Unmarshal(request, &req)
	if err != nil {
		err = subjects.Errorf(subjects.CodeBadRequest, `not a request to forget a slave: %v; expected for example {"id":"snap1"}`, subjects.PlainJSON(request, err))
	} else {
		err = m.fleet.forget(m.ctx, req.ID)
	}
	if err != nil {
		respondError(answer, exec.WireError(err))
		return
	}
	data, err := json.Marshal(req)
	if err != nil {
		respondError(answer, exec.WireError(err))
		return
	}
	answer(data, nil)
}
