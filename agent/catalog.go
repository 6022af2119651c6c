package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// changeCatalog makes or drops a database on every node.
func (h *handler) changeCatalog(cmd exec.Command) error {
	if !h.writes {
		return exec.ErrWrites
	}
	if h.session != nil && h.session.tx != nil {
		return subjects.Errorf(subjects.CodeTransaction, "CREATE and DROP DATABASE are not allowed inside a transaction")
	}
	rule := h.req.Ack
	if rule.Kind == subjects.AckDefault {
		rule = h.m.opts.Ack
	}
	if err := h.m.fleet.enough(rule); err != nil {
		return err
	}
	position, behind, err := h.m.changeCatalog(h.ctx, cmd)
	if err != nil || position == 0 {
		return err
	}
	if cmd.Verb == exec.DropDatabase && h.session != nil && strings.EqualFold(h.session.db, cmd.Name) {
		h.session.db = ""
	}
	c := &call{req: h.req, rule: rule, wrote: true}
	done := make(chan outcome, 1)
	h.m.fleet.await(subjects.Catalog, position, &waiter{rule: rule, deadline: deadline(h.req, writePatience), done: func(o outcome) { done <- o }})
	h.outcome = <-done
	if behind {
		h.outcome.pending = append([]string{"master"}, h.outcome.pending...)
	}
	return unmet(c, h.outcome)
}

// changeCatalog logs and applies a CREATE or DROP DATABASE. A position of 0 means
// that nothing was to be done, behind that the log has the change and this node
// does not, yet.
func (m *Master) changeCatalog(ctx context.Context, cmd exec.Command) (position uint64, behind bool, err error) {
	m.catalog.Lock()
	defer m.catalog.Unlock()
	if m.catalogBehind {
		return 0, false, subjects.Errorf(subjects.CodeUnavailable, "nothing was done: an earlier CREATE or DROP DATABASE is in the log, and this node could not carry it out yet; it tries again by itself")
	}
	noEffect, err := m.store.Check(cmd)
	if err != nil || noEffect {
		return 0, false, err
	}
	if err := m.checkDisk(); err != nil {
		return 0, false, err
	}
	logged := false // or may be
	if cmd.Verb == exec.DropDatabase {
		w, err := m.writer(cmd.Name)
		if err != nil {
			return 0, false, err
		}
		w.retire()
		defer func() {
			if !logged {
				m.startWriter(w.db) // it is not dropped after all
			}
		}()
	}
	cat := m.store.Catalog()
	body := cat.Body(cmd, time.Now().UnixMilli())
	at := cat.Applied()
	head := subjects.Header{DB: subjects.Catalog, Prev: at.Number, Chain: subjects.NextChain(at.Chain, 0, body)}
	position, err = m.journal.append(ctx, head, body)
	logged = err == nil
	if err != nil {
		failed := notLogged(err)
		if failed.Code == subjects.CodeOutcomeUnknown {
			logged = true
			// Which databases there are must never be in doubt: a new start of the
			// master lets the log decide.
			m.stepDown(fmt.Errorf("%s: %w; start the master again", cmd.Name, err))
		}
		return 0, false, failed
	}
	err = m.store.ApplyCatalog(&subjects.Message{Position: position, Header: head, Data: body})
	if err == nil {
		err = m.catalogChanged(cmd, position)
	}
	if err != nil {
		m.log.Error("the log has a change of databases that this node could not carry out; trying again", "position", position, "error", err)
		m.catalogBehind = true
		m.goes(func(ctx context.Context) { m.followCatalog(ctx, cmd, position) })
	}
	return position, m.catalogBehind, nil
}

// catalogChanged brings writers and ledger in line with a change of the catalog.
func (m *Master) catalogChanged(cmd exec.Command, position uint64) error {
	if cmd.Verb == exec.CreateDatabase {
		d, err := m.store.Database(cmd.Name)
		if err != nil {
			return err
		}
		m.startWriter(d)
	}
	m.fleet.changed(cmd, position)
	return nil
}

// followCatalog carries out a change that the log has, until it is done. Nothing
// else may change the catalog before: it would be logged as if the change had
// never been, and no other node could follow.
func (m *Master) followCatalog(ctx context.Context, cmd exec.Command, position uint64) {
	for sleep(ctx, recoverPause) {
		m.catalog.Lock()
		err := m.replayRange(ctx, m.store.Catalog().Applied().Number+1, position, func(db string) bool { return db == subjects.Catalog })
		if err == nil {
			err = m.catalogChanged(cmd, position)
		}
		m.catalogBehind = err != nil
		m.catalog.Unlock()
		if err == nil {
			m.log.Info("the change of databases is carried out", "position", position)
			return
		}
		m.log.Error("a change of databases cannot be carried out, trying again", "position", position, "error", err)
	}
}

// dropWait is how long running writes of a database may go on when it is dropped.
const dropWait = 5 * time.Second

// retire ends a writer for a drop: whoever waits is refused, what runs may finish
// within dropWait and is interrupted then.
func (w *writer) retire() {
	w.stop(errors.New("it is being dropped"))
	w.end()
	timer := time.AfterFunc(dropWait, w.db.Interrupt)
	<-w.done
	timer.Stop()
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	delete(w.m.writers, strings.ToLower(w.db.Name()))
}
