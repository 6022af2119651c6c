package agent

import (
	"context"
	"strings"
	"time"

	"github.com/snapdb/snapdb/agent/access"
	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// changeCatalog makes or drops a database on every node.
func (h *handler) changeCatalog(cmd exec.Command) error {
	if err := h.mayWrite(); err != nil {
		return err
	}
	if err := h.who.uses(cmd.Name); err != nil {
		return err
	}
	if cmd.Verb == exec.DropDatabase {
		if err := h.who.may(access.Administer); err != nil {
			return err
		}
	}
	if h.session != nil && h.session.tx != nil {
		return subjects.Errorf(subjects.CodeTransaction, "CREATE and DROP DATABASE are not allowed inside a transaction")
	}
	if h.req.ID != "" {
		return subjects.Errorf(subjects.CodeBadRequest, `CREATE and DROP DATABASE take no "id": IF [NOT] EXISTS makes them repeat-safe`)
	}
	done := make(chan struct{})
	c := &call{begun: time.Now(), ctx: h.ctx, req: h.req, rule: h.req.Ack, deadline: deadline(h.req, writePatience), wrote: true, answer: func(_ *call, o outcome) {
		h.outcome = o
		close(done)
	}}
	if c.rule.Kind == subjects.AckDefault {
		c.rule = h.m.opts.Ack
	}
	if err := h.m.fleet.enough(c.rule, "nothing was executed"); err != nil {
		return err
	}
	if effect, err := h.m.changeCatalog(cmd, c); err != nil || !effect {
		return err
	}
	if cmd.Verb == exec.DropDatabase && h.session != nil && strings.EqualFold(h.session.db, cmd.Name) {
		h.session.db = ""
	}
	h.await(c, done)
	return unmet(c, h.outcome)
}

// changeCatalog logs and applies a CREATE or DROP DATABASE and hands the call to
// the ledger, in the order of the log. effect is false if there was nothing to do.
func (m *Master) changeCatalog(cmd exec.Command, c *call) (effect bool, err error) {
	select {
	case m.catalog <- struct{}{}:
		defer func() { <-m.catalog }()
	case <-c.ctx.Done():
		return false, nothingChanged(ending(c.ctx))
	}
	if m.catalogBehind {
		return false, subjects.Errorf(subjects.CodeUnavailable, "nothing was done: an earlier CREATE or DROP DATABASE is, or may be, in the log, and this node has not carried it out yet; it tries again by itself")
	}
	noEffect, err := m.store.Check(cmd)
	if err != nil || noEffect {
		return false, err
	}
	if err := m.checkDisk(); err != nil {
		return false, err
	}
	logged := false // or may be
	undo := func() {}
	if cmd.Verb == exec.DropDatabase {
		w, err := m.writer(cmd.Name)
		if err != nil {
			return false, err
		}
		cmd.Name = w.db.Name() // as its writer, its book and its file are called
		ill := w.reason()
		w.retire()
		undo = func() { m.reinstate(w.db, ill) }
	}
	defer func() {
		if !logged {
			undo()
		}
	}()
	cat := m.store.Catalog()
	body := cat.Body(cmd, time.Now().UnixMilli())
	at := cat.Applied()
	head := subjects.Header{DB: subjects.Catalog, Prev: at.Number, Chain: subjects.NextChain(at.Chain, 0, body)}
	m.fleet.publishing(subjects.Catalog)
	position, err := m.journal.append(c.ctx, head, body)
	logged = err == nil
	if err != nil {
		failed := notLogged(err)
		if failed.Code == subjects.CodeOutcomeUnknown {
			logged = true
			m.catalogBehind = true
			m.goes(func(ctx context.Context) {
				if m.reviveLog(ctx) {
					m.followCatalog(ctx, cmd, at.Number, m.journal.current(), undo)
				}
			})
		} else {
			m.fleet.decided(subjects.Catalog, at.Number)
		}
		return false, failed
	}
	err = m.store.ApplyCatalog(&subjects.Message{Position: position, Header: head, Data: body})
	if err == nil {
		err = m.catalogChanged(cmd, position)
	}
	if err != nil {
		m.log.Error("the log has a change of databases that this node could not carry out; trying again", "position", position, "error", err)
		m.catalogBehind = true
		m.goes(func(ctx context.Context) { m.followCatalog(ctx, cmd, at.Number, position, undo) })
	}
	m.fleet.await(position, c, m.catalogBehind)
	return true, nil
}

// reinstate gives a database that is not dropped after all its writer back. One
// that took no writes before, for a reason, takes none until it has what the log
// has.
func (m *Master) reinstate(d *exec.Database, ill error) {
	if ill == nil {
		m.startWriter(d, nil)
		return
	}
	w := m.startWriter(d, ill)
	m.goes(func(ctx context.Context) {
		for sleep(ctx, recoverPause) {
			info, err := m.broker.LogInfo(ctx)
			if err == nil {
				m.recover(w, info.Last)
				return
			}
			w.log.Error("cannot ask for the end of the log, trying again", "error", err)
		}
	})
}

// catalogChanged brings writers and ledger in line with a change of the catalog.
func (m *Master) catalogChanged(cmd exec.Command, position uint64) error {
	if cmd.Verb == exec.CreateDatabase {
		d, err := m.store.Database(cmd.Name)
		if err != nil {
			return err
		}
		m.fleet.changed(cmd, position) // its book is open before the first write
		m.startWriter(d, m.importer.holds(d.Name()))
		return nil
	}
	m.fleet.changed(cmd, position)
	return nil
}

// followCatalog carries out what the log has up to a position, until it is done.
// If that is nothing after the position that the catalog had before, the change is
// undone. Nothing else may change the catalog meanwhile: it would be logged as if
// the change had never been, and no other node could follow.
func (m *Master) followCatalog(ctx context.Context, cmd exec.Command, before, to uint64, undo func()) {
	cat := m.store.Catalog()
	for sleep(ctx, recoverPause) {
		m.catalog <- struct{}{}
		err := m.replayRange(ctx, cat.Applied().Number+1, to, func(db string) bool { return db == subjects.Catalog })
		at := cat.Applied().Number
		switch {
		case err != nil:
		case at == before:
			undo()
		default:
			err = m.catalogChanged(cmd, at)
		}
		m.catalogBehind = err != nil
		<-m.catalog
		if err == nil {
			m.fleet.decided(subjects.Catalog, at)
			m.log.Info("the list of databases has caught up with the log", "position", at)
			return
		}
		m.log.Error("a change of databases cannot be carried out, trying again", "position", to, "error", err)
	}
}

// retire ends a writer for a drop: whoever waits is refused, what runs may finish
// in a while and is interrupted then.
func (w *writer) retire() {
	w.end(errDropping)
	w.stop(errDropping)
	timer := time.AfterFunc(w.m.opts.patience.drop, w.interrupt)
	<-w.done
	timer.Stop()
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	delete(w.m.writers, strings.ToLower(w.db.Name()))
}
