package agent

import (
	"context"
	"errors"
	"fmt"

	"github.com/snapdb/snapdb/broker"
	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// replay brings the master's own databases up to date with the log, and notices
// what it could not read there: the log's server passes over a damaged message
// without a word. Messages of a database are applied many at a time, up to the next
// change of the catalog.
type replay struct {
	m      *Master
	torn   map[string]tear // by database
	queues map[*exec.Database]*replayQueue
	bytes  int // in all queues
	ill    map[*exec.Database]*illness
}

// illness is of a database whose content turned out not to be the log's.
type illness struct {
	why error
	at  exec.Position // what the log has for it
}

// replayQueue is what waits to be applied to one database.
type replayQueue struct {
	msgs []*subjects.Message
	at   exec.Position // after them
}

// tear is a place where the log does not go on: a message refers to a lost one.
type tear struct{ lost, at uint64 }

// replay applies the log, which begins at first, to all databases up to a position. One
// whose content turns out not to be the log's is made anew; if that fails, ill says
// why: that is no fault of the others.
func (m *Master) replay(ctx context.Context, first, to uint64) (ill map[*exec.Database]*illness, err error) {
	from := to
	for _, head := range m.store.Heads() {
		from = min(from, head.Position+1)
	}
	r := newReplay(m)
	if err := r.run(ctx, from, to, func(string) bool { return true }); err != nil {
		return nil, err
	}
	ill = map[*exec.Database]*illness{}
	for _, d := range m.store.Databases() {
		is := r.ill[d]
		if is == nil {
			continue
		}
		m.log.Warn("the database is not what the log says; making it anew from that", "database", d.Name(), "error", is.why)
		made, err := m.remake(ctx, d, first, to)
		if err == nil {
			continue
		}
		is.why = fmt.Errorf("%w; it could not be made anew either: %w; reads show it as it was before: restore %s.db from a backup", is.why, err, d.Name())
		m.log.Error("the database takes no writes", "database", d.Name(), "error", is.why)
		ill[made] = is
	}
	return ill, nil
}

// replayRange applies messages of the log to the databases that are wanted.
func (m *Master) replayRange(ctx context.Context, from, to uint64, wanted func(db string) bool) error {
	r := newReplay(m)
	if err := r.run(ctx, from, to, wanted); err != nil {
		return err
	}
	var errs []error
	for _, is := range r.ill {
		errs = append(errs, is.why)
	}
	return errors.Join(errs...)
}

func newReplay(m *Master) *replay {
	return &replay{m: m, torn: map[string]tear{}, queues: map[*exec.Database]*replayQueue{}, ill: map[*exec.Database]*illness{}}
}

// run applies messages of the log to the databases that are wanted.
func (r *replay) run(ctx context.Context, from, to uint64, wanted func(db string) bool) error {
	err := r.m.journal.reader().Read(ctx, from, to, func(e broker.Entry) error {
		if e.Message == nil || !wanted(e.Message.Header.DB) {
			return nil
		}
		return r.take(ctx, e.Message)
	})
	if err == nil {
		err = r.flush(ctx)
	}
	if errors.Is(err, broker.ErrNoMessage) {
		return fmt.Errorf("%w: %w: %s", ErrLogLost, err, restoreAdvice)
	}
	if err != nil {
		return err
	}
	var errs []error
	for name, t := range r.torn {
		errs = append(errs, fmt.Errorf("%w: database %s should go on with the message at position %d, which is missing or damaged (the next one is at %d): %s",
			ErrLogLost, name, t.lost, t.at, restoreAdvice))
	}
	return errors.Join(errs...)
}

const restoreAdvice = "restore the log from a backup, or the whole data directory"

// take applies a message, sooner or later.
func (r *replay) take(ctx context.Context, msg *subjects.Message) error {
	catalog := r.m.store.Catalog().Database
	if msg.Header.DB == subjects.Catalog {
		if err := r.flush(ctx); err != nil {
			return err
		}
		if !r.next(msg, catalog, catalog.Applied()) {
			return nil
		}
		return r.m.store.ApplyCatalog(msg)
	}
	d, err := r.m.store.Database(msg.Header.DB)
	if err != nil {
		r.lost(catalog, catalog.Applied().Number, msg.Header.Inc, msg.Position) // dropped since, or never made
		return nil
	}
	if is := r.ill[d]; is != nil {
		if r.next(msg, d, is.at) {
			is.at = exec.Position{Number: msg.Position, Chain: msg.Header.Chain}
		}
		return nil
	}
	q := r.queues[d]
	if q == nil {
		q = &replayQueue{at: d.Applied()}
		r.queues[d] = q
	}
	if !r.next(msg, d, q.at) {
		return nil
	}
	q.msgs = append(q.msgs, msg)
	q.at = exec.Position{Number: msg.Position, Chain: msg.Header.Chain}
	r.bytes += len(msg.Data)
	if len(q.msgs) < mergeMessages && r.bytes < mergeBytes {
		return nil
	}
	return r.flush(ctx)
}

// flush applies everything that waits.
func (r *replay) flush(ctx context.Context) error {
	for _, d := range r.m.store.Databases() {
		q := r.queues[d]
		if q == nil || len(q.msgs) == 0 {
			continue
		}
		_, err := d.Apply(ctx, q.msgs, exec.Source{OpenBlob: r.m.openBlob, Image: r.m.unpackImage})
		var diverged *exec.DivergedError
		switch {
		case errors.As(err, &diverged), exec.Damaged(err):
			r.ill[d] = &illness{why: err, at: q.at}
		case err != nil:
			return err
		}
	}
	clear(r.queues)
	r.bytes = 0
	return nil
}

// next says whether msg is what a database that has come to a position must apply
// next.
func (r *replay) next(msg *subjects.Message, d *exec.Database, at exec.Position) bool {
	inc := d.Incarnation()
	switch at.Continues(inc, msg) {
	case exec.Next:
		if err := r.m.journal.genuine(msg); err != nil {
			r.m.log.Error("passing over a message on the log that is not from a master", "database", d.Name(), "position", msg.Position, "reason", err)
			return false
		}
		delete(r.torn, d.Name())
		return true
	case exec.Broken:
		if msg.Header.Inc == inc {
			r.lost(d, at.Number, msg.Header.Prev, msg.Position)
		}
	}
	return false
}

// lost notes that the message at a position follows another, to, of a database that
// has come to has. If that is not so far, the other one is lost, or the message is
// nobody's: the rest of the log tells.
func (r *replay) lost(d *exec.Database, has, to, at uint64) {
	if _, torn := r.torn[d.Name()]; !torn && has < to && to < at {
		r.torn[d.Name()] = tear{lost: to, at: at}
	}
}
