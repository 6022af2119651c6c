// Package brokertest makes the way between a master and its broker unreliable, for
// tests of what must hold when a publish or its answer is lost, and finds addresses
// for brokers that come and go. It is used by tests alone.
package brokertest

import (
	"bytes"
	"net"
	"sync/atomic"

	"github.com/nats-io/nats.go"

	"github.com/snapdb/snapdb/broker"
	"github.com/snapdb/snapdb/subjects"
)

// Fault is what happens to the next publish on the log.
type Fault int32

// The faults. The last two go on as long as the connection lives; the others happen
// once, the connection breaks with them and is made again.
const (
	None        Fault = iota
	LosePublish       // it does not reach the broker
	LoseAck           // it does, but its answer does not come back
	LoseAll           // nothing reaches the broker
	LoseAnswers       // nothing comes back
)

// Wire is the way of connections to a broker. Make them with its Option.
type Wire struct {
	fault  atomic.Int32
	sets   atomic.Int64 // how often a fault was set
	broker atomic.Pointer[broker.Broker]
}

// Set makes a fault happen.
func (w *Wire) Set(f Fault) {
	w.fault.Store(int32(f))
	w.sets.Add(1)
}

// Happened says whether the fault that was set last has happened.
func (w *Wire) Happened() bool { return w.fault.Load() == int32(None) }

// Option leads a connection to b over the wire.
func (w *Wire) Option(b *broker.Broker) nats.Option {
	w.broker.Store(b)
	return nats.InProcessServer(w)
}

// InProcessConn makes a connection for a NATS client.
func (w *Wire) InProcessConn() (net.Conn, error) {
	c, err := w.broker.Load().InProcessConn()
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, w: w, made: w.sets.Load()}, nil
}

type conn struct {
	net.Conn
	w    *Wire
	made int64       // the faults set before it was made
	deaf atomic.Bool // the next that comes is lost, and with it the connection
}

// is says whether a lasting fault has hit the connection.
func (c *conn) is(f Fault) bool {
	return c.w.fault.Load() == int32(f) && c.made < c.w.sets.Load()
}

// take says whether a fault is due, and ends it.
func (c *conn) take(f Fault) bool { return c.w.fault.CompareAndSwap(int32(f), int32(None)) }

// Write loses what is to be lost on the way out.
func (c *conn) Write(p []byte) (int, error) {
	if c.is(LoseAll) {
		return len(p), nil
	}
	if bytes.Contains(p, []byte("HPUB "+subjects.Replicate)) {
		if c.take(LosePublish) {
			return len(p), c.Close()
		}
		if c.take(LoseAck) {
			c.deaf.Store(true)
		}
	}
	return c.Conn.Write(p)
}

// Read loses what is to be lost on the way back. The broker has a publish then: it
// has taken all of it before it says anything.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	for err == nil && c.is(LoseAnswers) {
		n, err = c.Conn.Read(p)
	}
	if err == nil && c.deaf.Load() {
		return 0, c.Close()
	}
	return n, err
}
