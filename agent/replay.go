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
// without a word.
type replay struct {
	m    *Master
	torn map[string]tear // by database
}

// tear is a place where the log does not go on: a message refers to a lost one.
type tear struct{ lost, at uint64 }

// replay applies the log to all databases up to a position.
func (m *Master) replay(ctx context.Context, to uint64) error {
	from := to
	for _, head := range m.store.Heads() {
		from = min(from, head.Position+1)
	}
	return m.replayRange(ctx, from, to, func(string) bool { return true })
}

// replayRange applies messages of the log to the databases that are wanted.
func (m *Master) replayRange(ctx context.Context, from, to uint64, wanted func(db string) bool) error {
	r := replay{m: m, torn: map[string]tear{}}
	err := m.journal.reader().Read(ctx, from, to, func(e broker.Entry) error {
		if e.Message == nil || !wanted(e.Message.Header.DB) {
			return nil
		}
		return r.apply(ctx, e.Message)
	})
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

func (r *replay) apply(ctx context.Context, msg *subjects.Message) error {
	catalog := r.m.store.Catalog().Database
	if msg.Header.DB == subjects.Catalog {
		if !r.next(msg, catalog) {
			return nil
		}
		return r.m.store.ApplyCatalog(msg)
	}
	d, err := r.m.store.Database(msg.Header.DB)
	if err != nil {
		r.refers(catalog, msg.Header.Inc, msg.Position) // dropped since, or never made
		return nil
	}
	if !r.next(msg, d) {
		return nil
	}
	_, err = d.Apply(ctx, []*subjects.Message{msg}, exec.Source{OpenBlob: r.m.openBlob})
	return err
}

// next says whether msg is what a database must apply next.
func (r *replay) next(msg *subjects.Message, d *exec.Database) bool {
	inc := d.Incarnation()
	switch d.Applied().Continues(inc, msg) {
	case exec.Next:
		delete(r.torn, d.Name())
		return true
	case exec.Broken:
		if msg.Header.Inc == inc {
			r.refers(d, msg.Header.Prev, msg.Position)
		}
	}
	return false
}

// refers notes that the message at a position follows another of a database. If
// the database has not come so far, that one is lost, or the message is nobody's:
// the rest of the log tells.
func (r *replay) refers(d *exec.Database, to, at uint64) {
	if _, torn := r.torn[d.Name()]; !torn && d.Applied().Number < to && to < at {
		r.torn[d.Name()] = tear{lost: to, at: at}
	}
}
