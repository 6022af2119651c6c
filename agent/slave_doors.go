package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/nats-io/nkeys"

	"github.com/snapdb/snapdb/broker"
	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// maxQueries is how many queries a slave answers at a time; more are told that
// it is busy.
const maxQueries = 1024

// open makes the node's doors, which stay until the slave stops: a copy can be
// read while its master is away.
func (s *Slave) open() error {
	service, err := micro.AddService(s.nc, micro.Config{
		Name: subjects.NodeService, Version: serviceVersion, Description: "read-only SQL on the copies of one node, and commands to it",
		Metadata: map[string]string{"node": s.id, "boot": s.boot, "version": s.o.Version}, QueueGroupDisabled: true,
	})
	if err != nil {
		return fmt.Errorf("open doors: %w", err)
	}
	s.service = service
	for name, door := range map[string]struct {
		subject string
		handle  micro.HandlerFunc
	}{
		"query": {subjects.NodeQuery(s.id), s.answer},
		"ctl":   {subjects.NodeCtl(s.id), s.obey},
		"copy":  {subjects.NodeCopy(s.id), func(r micro.Request) { s.answerCopy(r.Data(), answerTo(s.nc, r)) }},
	} {
		if err := service.AddEndpoint(name, door.handle, micro.WithEndpointSubject(door.subject)); err != nil {
			return fmt.Errorf("open door %s: %w", door.subject, err)
		}
	}
	if _, err := s.nc.Subscribe(subjects.Cancel, s.onCancel); err != nil {
		return fmt.Errorf("open door %s: %w", subjects.Cancel, err)
	}
	// Whoever hears that the node is there must find its doors. If the connection
	// is lost right now, they open when it is back.
	ctx, cancel := context.WithTimeout(s.life, time.Second)
	defer cancel()
	if err := s.nc.FlushWithContext(ctx); err != nil {
		s.log.Debug("doors not confirmed", "error", err)
	}
	return nil
}

// answer handles a query. It returns at once, another goroutine answers.
func (s *Slave) answer(r micro.Request) {
	reply := answerTo(s.nc, r)
	req := new(subjects.Request)
	if err := subjects.DecodeRequest(r.Data(), req); err != nil {
		respondError(reply, subjects.Errorf(subjects.CodeBadRequest, "%v", err))
		return
	}
	limit, who := s.reader.deadline(req), s.asker(r.Headers())
	taken := s.crew.do(func() {
		ctx, end := context.WithDeadlineCause(s.life, limit, errTooLong)
		defer end()
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		q := nodeQuery{s: s, who: who, ctx: ctx, cancel: cancel, req: req, db: req.DB, limit: limit}
		if req.Session != "" {
			s.asking.Store(&q, nil)
			defer s.asking.Delete(&q)
		}
		resp := subjects.Response{Error: exec.WireError(q.run())}
		switch {
		case resp.Error == nil:
			resp.Position = q.position
		case resp.Error.Code == subjects.CodeCancelled && s.life.Err() != nil:
			resp.Error = subjects.Errorf(subjects.CodeUnavailable, "node %s is stopping", s.id)
		}
		if req.Session != "" {
			resp.Session = &subjects.SessionState{DB: q.db} // a node keeps no sessions; the client remembers its database
		}
		data := encode(q.out.Bytes(), &resp)
		reply(data, resp.Error)
	})
	if !taken {
		respondError(reply, subjects.Errorf(subjects.CodeBusy, "node %s is stopping, or answers %d queries already: try again", s.id, maxQueries))
	}
}

// asker is the user who asks, as the broker of a secured cluster writes it. The panel
// has a name there that no user can have, and says for whom it asks.
func (s *Slave) asker(h micro.Headers) string {
	if s.known.pair == nil {
		return ""
	}
	var c broker.Caller
	if err := json.Unmarshal([]byte(h.Get(broker.CallerHeader)), &c); err != nil || !c.User() {
		return ""
	}
	name := c.Name
	if nkeys.IsValidPublicUserKey(name) {
		name = cmp.Or(h.Get(subjects.HeaderAs), panelUser)
	}
	user, _, _ := strings.Cut(name, "#")
	return user
}

// onCancel stops what a session is asking this node.
func (s *Slave) onCancel(msg *nats.Msg) {
	s.asking.Range(func(key, _ any) bool {
		if q := key.(*nodeQuery); q.req.Session == string(msg.Data) {
			q.cancel(errCancelled)
		}
		return true
	})
}

// nodeQuery is one query on a slave's copies.
type nodeQuery struct {
	s        *Slave
	who      string // asks, "" if nobody knows
	ctx      context.Context
	cancel   context.CancelCauseFunc // ends ctx
	req      *subjects.Request
	db       string
	limit    time.Time
	out      subjects.Results
	position uint64
}

func (q *nodeQuery) run() (err error) {
	if q.req.More != "" {
		q.position, err = q.s.reader.more(q.ctx, q.who, q.req.More, q.limit, &q.out)
		return err
	}
	stmts := statements(q.req)
	first, others := stmts[0], stmts[1:]
	for number := 0; ; number++ {
		cmd, n, err := exec.ParseCommand(first.SQL)
		switch {
		case err != nil:
			return err
		case cmd.Verb == exec.NoCommand:
			return after(number, q.read(append([]subjects.Stmt{first}, others...)))
		case len(first.Args) > 0 && exec.Blank(first.SQL[n:]):
			return subjects.Errorf(subjects.CodeBadRequest, "%d arguments more than the SQL has parameters", len(first.Args))
		}
		if err := q.command(cmd); err != nil {
			return err
		}
		if first.SQL = first.SQL[n:]; exec.Blank(first.SQL) {
			if len(others) == 0 {
				return nil
			}
			first, others = others[0], others[1:]
		}
	}
}

func (q *nodeQuery) read(stmts []subjects.Stmt) error {
	d, err := q.database()
	if err != nil {
		return err
	}
	q.position, err = q.s.reader.query(q.ctx, q.who, d, stmts, subjects.Counters{}, q.limit, &q.out)
	q.s.lane(d).damage(err)
	return err
}

// database is the one in use, once it is as new as the request demands.
func (q *nodeQuery) database() (*exec.Database, error) {
	if err := q.s.fresh(q.ctx, q.req, q.db); err != nil {
		return nil, err
	}
	d, err := q.s.store.Database(q.db)
	if err != nil {
		return nil, err
	}
	if missing := q.s.lane(d).filling(); missing != "" {
		return nil, subjects.Errorf(subjects.CodeUnavailable, "database %s is not on node %s yet: %s", d.Name(), q.s.id, missing)
	}
	return d, nil
}

// command executes one of snapdb's own statements, as far as a slave can.
func (q *nodeQuery) command(cmd exec.Command) error {
	switch cmd.Verb {
	case exec.CreateDatabase, exec.DropDatabase:
		return exec.ErrWrites
	case exec.Begin, exec.BeginImmediate, exec.Commit, exec.Rollback:
		return subjects.Errorf(subjects.CodeTransaction, "a slave has no transactions: send the statements in one request, which sees one state")
	case exec.ShowSlaves, exec.ShowMasterStatus:
		return subjects.Errorf(subjects.CodeUnavailable, "only the master knows this: ask it at %s", subjects.Query)
	case exec.ShowDatabases:
		if err := q.s.fresh(q.ctx, q.req, subjects.Catalog); err != nil {
			return err
		}
		q.out.Begin([]string{"database"})
		for _, d := range q.s.store.Databases() {
			row(&q.out, d.Name())
		}
		q.out.End([]string{"text"}, 0, 0)
		return nil
	}
	if cmd.Verb == exec.Use {
		q.db = cmd.Name
	}
	d, err := q.database()
	if err != nil {
		return err
	}
	if cmd.Verb == exec.Use {
		q.db = d.Name()
		return nil
	}
	q.position, err = q.s.reader.show(q.ctx, "", d, cmd, q.limit, &q.out)
	q.s.lane(d).damage(err)
	return err
}

// fresh waits until the copy is as new as the request demands.
func (s *Slave) fresh(ctx context.Context, req *subjects.Request, db string) error {
	if req.MinPosition == 0 && req.MaxLagMS == 0 {
		return nil
	}
	for {
		heard := s.advance.heard()
		missing := s.missing(req, db)
		if missing == "" {
			return nil
		}
		select {
		case <-heard:
		case <-ctx.Done():
			if s.life.Err() != nil {
				return subjects.Errorf(subjects.CodeUnavailable, "node %s is stopping", s.id)
			}
			return subjects.Errorf(subjects.CodeStale, "node %s %s", s.id, missing)
		}
	}
}

// missing says what a copy lacks to be as new as the request demands.
func (s *Slave) missing(req *subjects.Request, db string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, position, _ := s.at(db)
	if have := max(position, s.way.cursor); have < req.MinPosition {
		return fmt.Sprintf("is at position %d of database %s, not yet at %d", have, db, req.MinPosition)
	}
	if req.MaxLagMS == 0 {
		return ""
	}
	old, ever := s.way.staleness(time.Now())
	switch {
	case !ever:
		return "has not caught up with the master yet"
	case old > time.Duration(req.MaxLagMS)*time.Millisecond:
		return fmt.Sprintf("is %d ms behind the master, more than %d", old.Milliseconds(), req.MaxLagMS)
	}
	return ""
}
