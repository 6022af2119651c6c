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

// handler is one request being executed.
type handler struct {
	m       *Master
	ctx     context.Context
	who     *caller
	req     *subjects.Request
	session *session
	writes  bool // at a door for them
	limit   time.Time
	db      string
	out     subjects.Results
	outcome outcome
}

// run executes the request: commands one by one, everything else as one
// transaction, or inside the session's.
func (h *handler) run() error {
	if h.req.More != "" {
		if err := h.who.uses(h.m.reader.of(h.req.More)); err != nil {
			return err
		}
		at, err := h.m.reader.more(h.ctx, h.who.name(), h.req.More, h.limit, &h.out)
		h.outcome.position = at
		return err
	}
	if err := h.allowed(); err != nil {
		return err
	}
	if err := h.fresh(h.db); err != nil {
		return err
	}
	if h.req.Tx && h.session.tx == nil {
		// A master that has restarted knows nothing of the transaction. Executed
		// now, the rest of it would be writes of their own.
		return subjects.Errorf(subjects.CodeTransaction, "the session has no open transaction any more, it was rolled back with all that it had done; nothing of this request was executed")
	}
	if h.req.ID != "" && h.session != nil && h.session.tx != nil {
		return subjects.Errorf(subjects.CodeBadRequest, `an "id" makes a request repeat-safe; the requests of a transaction are not, and take none`)
	}
	return h.execute(statements(h.req))
}

// allowed looks at the rights to what the session has brought along. A transaction whose
// user has lost his is rolled back.
func (h *handler) allowed() error {
	if err := h.who.uses(h.db); err != nil {
		return err
	}
	if h.session == nil || h.session.tx == nil {
		return nil
	}
	t := h.session.tx
	err := h.who.uses(t.w.db.Name())
	if err == nil && t.holding {
		err = h.who.may(access.Write)
	}
	if err == nil {
		return nil
	}
	t.rollback()
	h.endTransaction()
	return err
}

// fresh waits until min_position is reached. The master has everything that was
// ever answered, but while a publish of another database is under way it cannot
// know that the log has nothing before it for this one.
func (h *handler) fresh(db string) error {
	want := h.req.MinPosition
	for want > 0 {
		heard := h.m.fleet.advance.heard()
		position, moving := h.m.fleet.cursor()
		d, err := h.m.store.Database(db)
		if position >= want || err == nil && d.Applied().Number >= want {
			return nil
		}
		stale := subjects.Errorf(subjects.CodeStale, "the log is at position %d, not yet at %d", position, want)
		if !moving {
			return stale
		}
		ctx, cancel := context.WithDeadlineCause(h.ctx, h.limit, stale)
		select {
		case <-heard:
		case <-ctx.Done():
			want, err = 0, ending(ctx)
		}
		cancel()
		if want == 0 {
			return err
		}
	}
	return nil
}

// execute executes statements. snapdb's own may come first: each is carried out by
// itself. All others are one transaction, or part of the session's. The arguments of
// a text are dealt out over all its statements, in order, either way.
func (h *handler) execute(stmts []subjects.Stmt) error {
	first, others := stmts[0], stmts[1:]
	for number := 0; ; number++ {
		cmd, n, err := exec.ParseCommand(first.SQL)
		used := exec.Used{SQL: n}
		switch {
		case err != nil:
		case h.out.Len() > subjects.MaxRequest:
			err = subjects.Errorf(subjects.CodeTooBig, "the results so far exceed %d MB: send fewer statements at a time", subjects.MaxRequest>>20)
		case cmd.Verb != exec.NoCommand && len(first.Args) > 0 && exec.Blank(first.SQL[n:]):
			err = subjects.Errorf(subjects.CodeBadRequest, "%d arguments more than the SQL has parameters", len(first.Args))
		case cmd.Verb != exec.NoCommand:
			err = h.command(cmd)
		case h.session != nil && h.session.tx != nil:
			used, err = h.inTransaction(first.SQL, first.Args)
		case number == 0:
			return h.atomic(stmts)
		default:
			return after(number, h.atomic(append([]subjects.Stmt{first}, others...)))
		}
		if err != nil {
			we := *exec.WireError(err)
			we.Statement = number + 1
			return &we
		}
		first.SQL, first.Args = first.SQL[used.SQL:], first.Args[used.Args:]
		if exec.Blank(first.SQL) {
			if len(others) == 0 {
				return nil
			}
			first, others = others[0], others[1:]
		}
	}
}

// after makes an error that names a statement count those executed before.
func after(number int, err error) error {
	if err == nil {
		return nil
	}
	we := *exec.WireError(err)
	if we.Statement > 0 {
		we.Statement += number
	}
	return &we
}

// atomic executes statements as one transaction, or as a read if they only read.
func (h *handler) atomic(stmts []subjects.Stmt) error {
	d, err := h.m.store.Database(h.db)
	if err != nil {
		return err
	}
	var counters subjects.Counters
	if h.session != nil {
		counters = h.session.counters
	}
	at, err := h.m.reader.query(h.ctx, h.who.name(), d, stmts, counters, h.limit, &h.out)
	if err == nil {
		h.outcome.position = at
		return nil
	}
	// What cannot be prepared on a reader may need what the request itself makes.
	we := exec.WireError(err)
	if we.Code != subjects.CodeReadOnly && we.Code != subjects.CodeSyntax && we.Code != subjects.CodeDenied || !h.writes {
		return err
	}
	if err := h.who.may(access.Write); err != nil {
		return err
	}
	h.out.Reset()
	done := make(chan struct{})
	c := h.m.write(h.ctx, h.session, h.req, h.db, stmts, func(_ *call, o outcome) {
		h.outcome = o
		close(done)
	})
	h.await(c, done)
	h.out.Append(c.results.Bytes())
	if c.failed != nil {
		return c.failed
	}
	if h.session != nil && c.wrote {
		h.session.counters = c.counters
	}
	return unmet(c, h.outcome)
}

// await waits for a call to be answered. Every call is: by its writer, which
// answers when it stops too, or by the ledger at its deadline. When the request is
// cancelled, the call is taken back or, if it is too late for that, answered with
// what is known.
func (h *handler) await(c *call, done <-chan struct{}) {
	release := whenDone(h.ctx, func() {
		if c.w != nil {
			c.w.withdraw(c, ending(h.ctx))
		}
		h.m.fleet.hurry(c)
	})
	<-done
	release()
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

// inTransaction executes the first statement of sql in the session's transaction
// and returns how much of sql and args it was.
func (h *handler) inTransaction(sql string, args []subjects.Value) (exec.Used, error) {
	t := h.session.tx
	if t.lost() {
		h.endTransaction()
		return exec.Used{}, t.rolledBack()
	}
	if h.req.Ack.Kind != subjects.AckDefault {
		t.rule = h.req.Ack
	}
	if t.holding && !h.writes {
		return exec.Used{}, exec.ErrWrites // it holds the writer, and may have written
	}
	if !t.holding {
		used, err := t.read(h.ctx, sql, args, h.limit, &h.out)
		if t.lost() {
			h.endTransaction()
		}
		if !h.writes || err == nil || t.lost() {
			return used, err
		}
		// What a reader does not allow, the writer may: it will say.
		if code := exec.WireError(err).Code; code != subjects.CodeReadOnly && code != subjects.CodeDenied {
			return used, err
		}
		if err := h.who.may(access.Write); err != nil {
			return used, err
		}
		if err := t.acquire(h.ctx, h.limit); err != nil {
			h.endTransaction()
			return exec.Used{}, err
		}
	}
	s := &step{ctx: h.ctx, sql: sql, args: args, limit: h.limit, out: &h.out}
	err := t.do(s)
	if s.over { // not if it ended right after: the client hears of that with its next request
		h.endTransaction()
	}
	return s.used, err
}

func (h *handler) endTransaction() {
	t := h.session.tx
	h.session.tx = nil
	t.dropSnapshot()
	h.session.counters = t.counters
}

// command executes one of snapdb's own statements.
func (h *handler) command(cmd exec.Command) error {
	switch cmd.Verb {
	case exec.Begin, exec.BeginImmediate, exec.Commit, exec.Rollback:
		return h.transactional(cmd.Verb)
	case exec.CreateDatabase, exec.DropDatabase:
		return h.changeCatalog(cmd)
	case exec.Use:
		if err := h.who.uses(cmd.Name); err != nil {
			return err
		}
		d, err := h.m.store.Database(cmd.Name)
		if err != nil {
			return err
		}
		if h.session != nil {
			if h.session.tx != nil {
				return subjects.Errorf(subjects.CodeTransaction, "USE is not allowed inside a transaction: COMMIT or ROLLBACK first")
			}
			h.session.db = d.Name()
		}
		h.db = d.Name()
		return nil
	case exec.ShowDatabases, exec.ShowSlaves, exec.ShowMasterStatus:
		h.m.show(cmd.Verb, h.who, &h.out)
		return nil
	}
	d, err := h.m.store.Database(h.db)
	if err != nil {
		return err
	}
	h.outcome.position, err = h.m.reader.show(h.ctx, h.who.name(), d, cmd, h.limit, &h.out)
	return err
}

// mayWrite says why the request may not write, be it for the door or for who asks.
func (h *handler) mayWrite() error {
	if !h.writes {
		return exec.ErrWrites
	}
	if err := h.who.may(access.Write); err != nil {
		return err
	}
	return nil
}

// transactional executes BEGIN, COMMIT and ROLLBACK.
func (h *handler) transactional(verb exec.Verb) error {
	s := h.session
	if s == nil {
		return subjects.Errorf(subjects.CodeTransaction, `transactions over several requests need a "session"; a request without one is a transaction by itself`)
	}
	begin := verb == exec.Begin || verb == exec.BeginImmediate
	switch {
	case begin && s.tx != nil:
		return subjects.Errorf(subjects.CodeTransaction, "cannot start a transaction within a transaction")
	case !begin && s.tx == nil:
		return subjects.Errorf(subjects.CodeTransaction, "cannot %s: no transaction is active", map[exec.Verb]string{exec.Commit: "commit", exec.Rollback: "roll back"}[verb])
	}
	switch verb {
	case exec.Begin, exec.BeginImmediate:
		if verb == exec.BeginImmediate {
			if err := h.mayWrite(); err != nil {
				return err
			}
		}
		w, err := h.m.writer(h.db)
		if err != nil {
			return err
		}
		s.tx = newTransaction(w, h.who.name(), s.counters)
		s.tx.rule = h.req.Ack
		if verb == exec.BeginImmediate {
			if err := s.tx.acquire(h.ctx, h.limit); err != nil {
				h.endTransaction()
				return err
			}
		}
		return nil
	case exec.Commit:
		if s.tx.holding && !h.writes {
			return exec.ErrWrites
		}
	case exec.Rollback:
		t := s.tx
		lost := t.lost()
		t.rollback()
		h.endTransaction()
		if lost {
			return t.rolledBack()
		}
		return nil
	}
	return h.commit()
}

// commit ends the session's transaction.
func (h *handler) commit() error {
	t := h.session.tx
	defer h.endTransaction()
	if t.lost() {
		return t.rolledBack()
	}
	if !t.holding {
		return nil // it only read
	}
	done := make(chan struct{})
	c := &call{begun: time.Now(), ctx: h.ctx, req: h.req, rule: h.req.Ack, deadline: deadline(h.req, writePatience), answer: func(_ *call, o outcome) {
		h.outcome = o
		close(done)
	}}
	if c.rule.Kind == subjects.AckDefault {
		c.rule = t.rule
	}
	if c.rule.Kind == subjects.AckDefault {
		c.rule = h.m.opts.Ack
	}
	if err := h.m.fleet.enough(c.rule, "the transaction was rolled back"); err != nil {
		t.rollback()
		return err
	}
	if err := t.do(&step{ctx: h.ctx, commit: c}); err != nil {
		return err
	}
	h.await(c, done)
	t.counters = c.counters
	if c.failed != nil {
		return c.failed
	}
	return unmet(c, h.outcome)
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
