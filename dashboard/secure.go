package dashboard

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// tlsListener speaks TLS with whoever begins like that. What others say stays as it is,
// for an answer that tells them where to go.
type tlsListener struct {
	net.Listener
	config *tls.Config
	come   chan arrival

	ctx    context.Context // ends when it is closed
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// arrival is a connection whose first byte has come, or why there is none.
type arrival struct {
	conn net.Conn
	err  error
}

func listenTLS(inner net.Listener, config *tls.Config) *tlsListener {
	config = config.Clone()
	config.NextProtos = []string{"http/1.1"} // with which WebSockets begin
	l := &tlsListener{Listener: inner, config: config, come: make(chan arrival)}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.wg.Add(1)
	go l.run()
	return l
}

// run takes connections. Each has a goroutine until it has said something, so that none
// holds up another.
func (l *tlsListener) run() {
	defer l.wg.Done()
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			l.hand(arrival{err: err})
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		l.wg.Add(1)
		go l.sort(conn)
	}
}

// hand passes what came on to Accept; false: nobody wants it any more.
func (l *tlsListener) hand(a arrival) bool {
	select {
	case l.come <- a:
		return true
	case <-l.ctx.Done():
		return false
	}
}

// handshakeByte begins every connection of TLS, and none of HTTP.
const handshakeByte = 0x16

// sort looks at the first byte of a connection.
func (l *tlsListener) sort(conn net.Conn) {
	defer l.wg.Done()
	stop := context.AfterFunc(l.ctx, func() { conn.Close() })
	first := make([]byte, 1)
	err := conn.SetReadDeadline(time.Now().Add(headerPatience))
	if err == nil {
		_, err = io.ReadFull(conn, first)
	}
	if err == nil {
		err = conn.SetReadDeadline(time.Time{})
	}
	if !stop() || err != nil {
		conn.Close()
		return
	}
	var begun net.Conn = &begunConn{conn, first}
	if first[0] == handshakeByte {
		begun = tls.Server(begun, l.config)
	}
	if !l.hand(arrival{conn: begun}) {
		conn.Close()
	}
}

// Accept is the next connection: a *tls.Conn, or one that is plain.
func (l *tlsListener) Accept() (net.Conn, error) {
	select {
	case a := <-l.come:
		return a.conn, a.err
	case <-l.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Close ends it, and the connections that have said nothing yet.
func (l *tlsListener) Close() error {
	err := l.Listener.Close()
	l.cancel()
	l.wg.Wait()
	return err
}

// begunConn is a connection of which something was read, which comes again.
type begunConn struct {
	net.Conn
	first []byte
}

// Read gives what was read, and then what comes.
func (c *begunConn) Read(p []byte) (int, error) {
	if len(c.first) > 0 && len(p) > 0 {
		n := copy(p, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}
