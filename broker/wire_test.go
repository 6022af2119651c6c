package broker_test

import (
	"bytes"
	"net"
	"sync/atomic"

	"github.com/snapdb/snapdb/broker"
	"github.com/snapdb/snapdb/subjects"
)

// wire is the way of a master's connection to the broker, on which a publish can
// be lost. The connection breaks with it and is made again.
type wire struct {
	b       *broker.Broker
	losing  atomic.Bool
	loseAck bool // lose the answer, not the publish
}

// InProcessConn makes a connection for a NATS client.
func (w *wire) InProcessConn() (net.Conn, error) {
	c, err := w.b.InProcessConn()
	return &lossyConn{Conn: c, w: w}, err
}

type lossyConn struct {
	net.Conn
	w    *wire
	deaf atomic.Bool // nothing of what comes is passed on
}

// Write loses a publish, or passes it on and loses everything after it.
func (c *lossyConn) Write(p []byte) (int, error) {
	if c.w.losing.Load() && bytes.Contains(p, []byte("HPUB "+subjects.Replicate)) {
		if !c.w.loseAck {
			return len(p), c.Close()
		}
		c.deaf.Store(true)
	}
	return c.Conn.Write(p)
}

// Read loses what comes until the first thing lost was the ack.
func (c *lossyConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err == nil && c.deaf.Load() {
		// The server says nothing else meanwhile: the ack is here, so the message is
		// stored.
		return 0, c.Close()
	}
	return n, err
}
