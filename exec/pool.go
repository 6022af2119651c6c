package exec

import (
	"context"
	"errors"
	"sync"

	"github.com/snapdb/snapdb/exec/engine"
)

// maxReaders bounds the read connections of one database. Further reads wait.
const maxReaders = 16

// pool lends out read connections, the one used last first, so that a quiet
// database keeps one warm and no more.
type pool struct {
	open func() (*engine.Conn, error)

	mu     sync.Mutex
	idle   []*engine.Conn
	lent   map[*engine.Conn]struct{}
	wake   chan struct{} // closed and replaced when one comes back
	closed bool
}

// get lends a connection; give it back with put.
func (p *pool) get(ctx context.Context) (*engine.Conn, error) {
	for {
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			return nil, ErrClosed
		}
		if p.lent == nil {
			p.lent, p.wake = map[*engine.Conn]struct{}{}, make(chan struct{})
		}
		if n := len(p.idle); n > 0 {
			c := p.idle[n-1]
			p.idle = p.idle[:n-1]
			p.lent[c] = struct{}{}
			p.mu.Unlock()
			c.BeginRequest()
			return c, nil
		}
		if len(p.lent) < maxReaders {
			c, err := p.open()
			if err == nil {
				p.lent[c] = struct{}{}
			}
			p.mu.Unlock()
			return c, err
		}
		wake := p.wake
		p.mu.Unlock()
		select {
		case <-wake:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (p *pool) put(c *engine.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.lent, c)
	if p.closed {
		c.Close() // a read-only connection has nothing to lose
	} else {
		p.idle = append(p.idle, c)
	}
	close(p.wake)
	p.wake = make(chan struct{})
}

// close refuses new reads, waits for those in flight and, when ctx ends,
// interrupts them.
func (p *pool) close(ctx context.Context) error {
	p.mu.Lock()
	p.closed = true
	var errs []error
	for _, c := range p.idle {
		errs = append(errs, c.Close())
	}
	p.idle = nil
	for len(p.lent) > 0 {
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
