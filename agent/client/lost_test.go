package client_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"

	"github.com/snapdb/snapdb/agent/client"
	"github.com/snapdb/snapdb/subjects"
)

// wire is a way to a server that can be cut.
type wire struct {
	l      net.Listener
	server string
	wg     sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
	open  bool
}

func newWire(t *testing.T, server string) *wire {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{l: l, server: u.Host, open: true}
	w.wg.Go(w.accept)
	t.Cleanup(func() {
		l.Close()
		w.cut()
		w.wg.Wait()
	})
	return w
}

func (w *wire) url() string { return "nats://" + w.l.Addr().String() }

func (w *wire) accept() {
	for {
		in, err := w.l.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", w.server)
		if err != nil {
			in.Close()
			continue
		}
		w.mu.Lock()
		w.conns = append(w.conns, in, out)
		if !w.open {
			in.Close()
			out.Close()
		}
		w.mu.Unlock()
		for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
			w.wg.Go(func() {
				_, _ = io.Copy(way[0], way[1]) // ends with either side
				way[0].Close()
			})
		}
	}
}

// cut ends what goes over the wire, and lets nothing new through.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open = false
	for _, c := range w.conns {
		c.Close()
	}
	w.conns = nil
}

func (w *wire) mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open = true
}

// execute sends sql in a session and returns when the master is executing it;
// what comes of it comes over the channel.
func execute(t *testing.T, direct *client.Client, s *client.Session, sql string) <-chan error {
	t.Helper()
	outcome := make(chan error, 1)
	go func() {
		for {
			_, err := s.Do(context.WithoutCancel(t.Context()), &subjects.Request{SQL: sql})
			if code(err) != subjects.CodeBusy { // by the question below
				outcome <- err
				return
			}
		}
	}()
	await(t, "the session is executing", func() bool {
		_, err := direct.Exec(t.Context(), &subjects.Request{Session: s.ID(), DB: "d", SQL: "SELECT 1"})
		return code(err) == subjects.CodeBusy
	})
	return outcome
}

func TestLostConnectionIsSaidAndMended(t *testing.T) {
	t.Parallel()
	server := start(t, 0)
	direct := connect(t, server)
	must(t, direct, "d", "CREATE TABLE t (a)")
	w := newWire(t, server)
	c := connect(t, w.url())
	must(t, c, "d", "INSERT INTO t VALUES (1)")

	waiting := execute(t, direct, c.NewSession("d"), endless)
	w.cut()
	if err := <-waiting; !errors.Is(err, client.ErrLost) || errors.Is(err, client.ErrUnreachable) {
		t.Errorf("a request whose connection broke: %v, want ErrLost", err)
	}

	// While there is no connection requests fail at once; none of them is sent
	// later.
	if _, err := c.Exec(t.Context(), &subjects.Request{DB: "d", SQL: "INSERT INTO t VALUES (2)"}); !errors.Is(err, client.ErrUnreachable) {
		t.Errorf("a request without a connection: %v, want ErrUnreachable", err)
	}
	w.mend()
	await(t, "the connection is mended", func() bool {
		_, err := c.Query(t.Context(), &subjects.Request{DB: "d", SQL: "SELECT 1"})
		return err == nil
	})
	if n := must(t, c, "d", "SELECT count(*) FROM t").Results[0].Rows[0][0].Int(); n != 1 {
		t.Errorf("%d rows, want the one that was written with a connection", n)
	}
}

func TestCloseEndsWhoWaits(t *testing.T) {
	t.Parallel()
	server := start(t, 0)
	direct := connect(t, server)
	c := connect(t, server)
	waiting := execute(t, direct, c.NewSession("d"), endless)
	c.Close()
	if err := <-waiting; !errors.Is(err, client.ErrClosed) {
		t.Errorf("who waited got %v, want ErrClosed", err)
	}
	if _, err := c.Query(t.Context(), &subjects.Request{DB: "d", SQL: "SELECT 1"}); !errors.Is(err, client.ErrClosed) {
		t.Errorf("a request behind Close: %v, want ErrClosed", err)
	}
}

func TestCancelEndsWhatTheSessionExecutes(t *testing.T) {
	t.Parallel()
	server := start(t, 1)
	direct, c := connect(t, server), connect(t, server)
	s, other := c.NewSession("d"), c.NewSession("d")
	waiting, undisturbed := execute(t, direct, s, endless), execute(t, direct, other, endless)
	if err := s.Cancel(); err != nil {
		t.Fatal(err)
	}
	if err := <-waiting; code(err) != subjects.CodeCancelled {
		t.Errorf("the cancelled request got %v", err)
	}
	if _, err := s.Do(t.Context(), &subjects.Request{SQL: "SELECT 1"}); err != nil {
		t.Errorf("the session's next request: %v", err)
	}
	select {
	case err := <-undisturbed:
		t.Errorf("another session of the same client got %v", err)
	default:
	}
	if err := other.Cancel(); err != nil {
		t.Fatal(err)
	}
	if err := <-undisturbed; code(err) != subjects.CodeCancelled {
		t.Errorf("the other cancelled request got %v", err)
	}
}
