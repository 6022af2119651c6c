package agent

import (
	"context"
	"time"

	"github.com/snapdb/snapdb/agent/access"
	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

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
