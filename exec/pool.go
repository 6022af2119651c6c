package exec

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/snapdb/snapdb/exec/engine"
	"github.com/snapdb/snapdb/subjects"
)

// reader is a read connection. Between requests it keeps its read transaction
// as long as nothing is committed: what it shows is then still the newest state,
// and beginning and ending costs more than a small read.
type reader struct {
	*engine.Conn
	position *engine.Stmt // reads at
	reading  bool         // a read transaction is open
	at       Position     // that it shows
	yields   bool         // whoever has it is not waited for by close; guarded by the pool's lock
}

func openReader(path string, a *engine.Allowance) (*reader, error) {
	c, err := engine.Open(path, engine.Options{ReadOnly: true, Allowance: a})
	if err != nil {
		return nil, err
	}
	st, _, err := c.Prepare("SELECT position, chain FROM _snapdb_applied", 0, engine.GuardNone)
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return &reader{Conn: c, position: st}, nil
}

// renew begins a read transaction, unless the one that is open shows applied.
func (r *reader) renew(applied Position) error {
	if r.reading && r.at == applied && !r.Autocommit() {
		return nil
	}
	if err := r.end(); err != nil {
		return err
	}
	if err := r.BeginRead(); err != nil {
		return fmt.Errorf("begin read: %w", err)
	}
	r.reading = true
	defer r.position.Reset()
	row, err := r.position.Step()
	if err == nil && !row {
		err = errNotOurs
	}
	if err == nil {
		r.at.Number = uint64(r.position.Column(0).Int())
		err = r.at.Chain.UnmarshalText(r.position.Column(1).Bytes())
	}
	if err != nil {
		return fmt.Errorf("read position: %w", errors.Join(err, r.end()))
	}
	return nil
}

// end ends the read transaction, if there is one.
func (r *reader) end() error {
	r.reading = false
	if r.Autocommit() {
		return nil
	}
	if err := r.Rollback(); err != nil {
		return fmt.Errorf("end read: %w", err)
	}
	return nil
}

func (r *reader) close() error {
	r.position.Close()
	return r.Conn.Close()
}

// pool lends out read connections, the one used last first, so that a quiet
// database keeps one warm and no more.
type pool struct {
	open func() (*reader, error)
	most int         // connections; further reads wait
	warn func(error) // an idle connection is in trouble

	mu      sync.Mutex
	idle    []*reader
	lent    map[*reader]struct{}
	opening int                   // about to be lent
	waiting int                   // requests that wait for one
	parked  map[*reader]*Snapshot // lent, but nobody uses them now
	wake    chan struct{}         // closed and replaced when one comes back
	closed  bool
}

// get lends a connection; give it back with put. It waits for one until deadline
// (zero: for ever).
func (p *pool) get(ctx context.Context, deadline time.Time) (*reader, error) {
	for {
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			return nil, ErrClosed
		}
		if p.lent == nil {
			p.lent, p.parked, p.wake = map[*reader]struct{}{}, map[*reader]*Snapshot{}, make(chan struct{})
		}
		if n := len(p.idle); n > 0 {
			c := p.idle[n-1]
			p.idle = p.idle[:n-1]
			p.lent[c] = struct{}{}
			p.mu.Unlock()
			c.BeginRequest()
			return c, nil
		}
		if len(p.lent)+p.opening < p.most {
			p.opening++
			p.mu.Unlock()
			return p.lend(p.open())
		}
		wake := p.wake
		p.waiting++
		p.mu.Unlock()
		err := p.await(ctx, wake, deadline)
		p.mu.Lock()
		p.waiting--
		p.mu.Unlock()
		if err != nil {
			return nil, err
		}
	}
}

// lend ends the opening of a connection, which takes too long to hold the lock.
func (p *pool) lend(c *reader, err error) (*reader, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.opening--
	if err == nil && !p.closed {
		p.lent[c] = struct{}{}
		return c, nil
	}
	if err == nil {
		err = errors.Join(ErrClosed, c.close())
	}
	p.wakeAll()
	return nil, err
}

// wakeAll wakes whoever waits for a connection, or for the last to come back. p.mu
// is held.
func (p *pool) wakeAll() {
	close(p.wake)
	p.wake = make(chan struct{})
}

// wanted says whether somebody waits for a connection.
func (p *pool) wanted() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.waiting > 0
}

func (p *pool) await(ctx context.Context, wake <-chan struct{}, deadline time.Time) error {
	if !deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadlineCause(ctx, deadline, subjects.Errorf(subjects.CodeBusy,
			"all %d read connections of the database were in use for as long as the request may take", p.most))
		defer cancel()
	}
	select {
	case <-wake:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// put takes a connection back. It keeps its read transaction if that shows the
// applied position.
func (p *pool) put(c *reader, applied Position) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.lent, c)
	delete(p.parked, c)
	c.yields = false
	if c.at != applied {
		p.cool(c)
	}
	if p.closed {
		if err := c.close(); err != nil {
			p.warn(err)
		}
	} else {
		p.idle = append(p.idle, c)
	}
	p.wakeAll()
}

// yield notes that close need not wait for a connection.
func (p *pool) yield(c *reader) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.yields = true; p.closed {
		c.Interrupt()
	}
}

// park notes that nobody uses a snapshot for now.
func (p *pool) park(s *Snapshot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.parked[s.c] = s
	if p.closed {
		p.reclaim(s)
	}
}

// resume gives a parked snapshot back; false if it was reclaimed.
func (p *pool) resume(s *Snapshot) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.parked[s.c] != s {
		return false
	}
	delete(p.parked, s.c)
	return true
}

// reclaim takes the connection of a parked snapshot away and closes it. p.mu is
// held.
func (p *pool) reclaim(s *Snapshot) {
	delete(p.parked, s.c)
	if !s.end() {
		return // it is being closed
	}
	delete(p.lent, s.c)
	if err := s.c.close(); err != nil {
		p.warn(err)
	}
	p.wakeAll()
}

// outdate ends the read transactions of idle connections, after a commit: they
// would keep the WAL from being emptied.
func (p *pool) outdate() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.idle {
		if c.reading {
			p.cool(c)
		}
	}
}

// cool ends a read transaction. If that fails the connection says so again to
// whoever gets it next.
func (p *pool) cool(c *reader) {
	c.BeginRequest()
	if err := c.end(); err != nil {
		p.warn(err)
	}
}

// close refuses new reads, takes parked snapshots away, interrupts those that yield,
// waits for the others in flight and, when ctx ends, interrupts them.
func (p *pool) close(ctx context.Context) error {
	p.mu.Lock()
	p.closed = true
	var errs []error
	for _, c := range p.idle {
		errs = append(errs, c.close())
	}
	p.idle = nil
	for _, s := range p.parked {
		p.reclaim(s)
	}
	for c := range p.lent {
		if c.yields {
			c.Interrupt()
		}
	}
	for len(p.lent)+p.opening > 0 {
		wake := p.wake
		p.mu.Unlock()
		select {
		case <-wake:
		case <-ctx.Done():
			p.interrupt()
			<-wake
		}
		p.mu.Lock()
	}
	p.mu.Unlock()
	return errors.Join(errs...)
}

func (p *pool) interrupt() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.lent {
		c.Interrupt()
	}
}
