//go:build linux

package cluster_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/snapdb/snapdb/broker/brokertest"
)

// weather is how a link treats what it carries.
type weather struct {
	delay   time.Duration // before each piece
	piece   int           // bytes, at most; 0: as they come
	calm    bool          // nothing goes through, and nobody is told
	breaks  int           // a connection breaks after about so many bytes; 0: never
	refuses bool          // nobody gets a connection
}

// link is a network between a slave and its master, which may be bad.
type link struct {
	t        testing.TB
	listener net.Listener
	to       string
	url      string
	ctx      context.Context
	wg       sync.WaitGroup

	mu      sync.Mutex
	weather weather
	changed chan struct{} // closed when the weather changes
	open    map[net.Conn]bool
}

// newLink makes a link to an address. It lasts until the end of the test.
func newLink(t testing.TB, to string) *link {
	t.Helper()
	listener, err := net.Listen("tcp", brokertest.Address(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &link{t: t, listener: listener, to: to, url: "nats://" + listener.Addr().String(), ctx: ctx, changed: make(chan struct{}), open: map[net.Conn]bool{}}
	l.wg.Go(l.serve)
	t.Cleanup(func() {
		cancel()
		if err := listener.Close(); err != nil {
			t.Error(err)
		}
		l.cut()
		l.wg.Wait()
	})
	return l
}

// set changes the weather, of open connections too.
func (l *link) set(w weather) {
	l.mu.Lock()
	l.weather = w
	close(l.changed)
	l.changed = make(chan struct{})
	l.mu.Unlock()
}

// cut breaks all open connections. What was under way is lost.
func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.open {
		c.Close()
	}
}

func (l *link) serve() {
	for {
		c, err := l.listener.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				l.t.Error(err)
			}
			return
		}
		l.wg.Go(func() { l.carry(c) })
	}
}

// carry is one connection.
func (l *link) carry(near net.Conn) {
	defer near.Close()
	if w, _ := l.now(); w.refuses {
		return
	}
	far, err := net.Dial("tcp", l.to)
	if err != nil {
		return // the master is away
	}
	defer far.Close()
	if !l.note(near, far) {
		return
	}
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
		both.Go(func() {
			l.copy(way[1], way[0])
			near.Close()
			far.Close()
		})
	}
	both.Wait()
	l.mu.Lock()
	delete(l.open, near)
	delete(l.open, far)
	l.mu.Unlock()
}

// note remembers open connections, for cut. It is false at the end of the test.
func (l *link) note(conns ...net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range conns {
		l.open[c] = true
	}
	return l.ctx.Err() == nil
}

func (l *link) now() (weather, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.weather, l.changed
}

// copy carries bytes one way until either side ends, or the weather ends it: in the
// middle of what it carries.
func (l *link) copy(to io.Writer, from io.Reader) {
	buf := make([]byte, 32<<10)
	for carried := 0; ; {
		w, _ := l.now()
		piece := buf
		if w.piece > 0 {
			piece = buf[:min(w.piece, len(buf))]
		}
		n, err := from.Read(piece)
		if err != nil || !l.wait() {
			return
		}
		if w, _ = l.now(); w.breaks > 0 {
			if carried += n; carried > rand.IntN(2*w.breaks) {
				n = rand.IntN(n + 1)
				err = io.ErrClosedPipe
			}
		}
		if _, werr := to.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}

// wait lets the time pass that a piece needs. It is false at the end of the test.
func (l *link) wait() bool {
	for {
		w, changed := l.now()
		if !w.calm && w.delay == 0 {
			return l.ctx.Err() == nil
		}
		var over <-chan time.Time
		if !w.calm {
			timer := time.NewTimer(w.delay)
			defer timer.Stop()
			over = timer.C
		}
		select {
		case <-over:
			return true
		case <-changed: // it may be better now
		case <-l.ctx.Done():
			return false
		}
	}
}
