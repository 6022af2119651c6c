package broker_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/snapdb/snapdb/broker"
	"github.com/snapdb/snapdb/subjects"
)

// master is a broker with its log in the hands of one master.
type master struct {
	*broker.Broker
	t    testing.TB
	nc   *nats.Conn
	log  *broker.Log
	term uint64
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func config(dir string) broker.Config {
	return broker.Config{Dir: dir, Listen: "127.0.0.1:0", Logger: quiet()}
}

func start(t testing.TB) *master {
	t.Helper()
	return startWith(t, config(t.TempDir()))
}

func startWith(t testing.TB, c broker.Config) *master {
	t.Helper()
	b, err := broker.Start(testContext(t), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	m := &master{Broker: b, t: t, nc: ownConn(t, b)}
	m.log = openLog(t, b, m.nc)
	m.claim()
	return m
}

// testPatience is how long a test waits for what should come at once.
const testPatience = 20 * time.Second

// testContext bounds what a test waits for.
func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), testPatience)
	t.Cleanup(cancel)
	return ctx
}

func ownConn(t testing.TB, b *broker.Broker, opts ...nats.Option) *nats.Conn {
	t.Helper()
	nc, err := b.Connect("test master", opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func openLog(t testing.TB, b *broker.Broker, nc *nats.Conn) *broker.Log {
	t.Helper()
	log, err := b.OpenLog(nc)
	if err != nil {
		t.Fatal(err)
	}
	return log
}

// plain connects over TCP as everybody may.
func plain(t testing.TB, b *broker.Broker, opts ...nats.Option) *nats.Conn {
	t.Helper()
	// The library writes to stderr what the server refuses; tests look for it.
	quietly := nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})
	nc, err := nats.Connect(b.URL(), append([]nats.Option{quietly}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func (m *master) claim() {
	m.t.Helper()
	ctx := testContext(m.t)
	last, err := m.log.LastEpoch(ctx)
	if err == nil {
		m.term, err = m.log.Claim(ctx, last.Position, "test", []byte("{}"), subjects.Signature{})
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

// header is that of a message with an id, in the master's term.
func (m *master) header(id string) subjects.Header {
	return subjects.Header{DB: "d", Inc: 1, Term: m.term, ID: id}
}

// append stores a message whose id is its body.
func (m *master) append(text string) uint64 {
	m.t.Helper()
	position, err := m.log.Append(testContext(m.t), m.header(text), []byte(text))
	if err != nil {
		m.t.Fatal(err)
	}
	return position
}

// ids are those of the stored messages from a position on, and what is foreign.
func (m *master) ids(from uint64) (ids []string) {
	m.t.Helper()
	err := m.log.Read(testContext(m.t), from, 1<<60, func(e broker.Entry) error {
		switch {
		case e.Message != nil:
			ids = append(ids, e.Message.Header.ID)
		case e.Foreign != nil:
			ids = append(ids, "foreign")
		}
		return nil
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return ids
}

func wantIDs(t testing.TB, has []string, want ...string) {
	t.Helper()
	if !slices.Equal(has, want) {
		t.Fatalf("the log holds %q, want %q", has, want)
	}
}

// eventually waits until ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(testPatience); !ok(); {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// recorder keeps the lines of a log from a level on.
type recorder struct {
	slog.Handler
	mu    sync.Mutex
	lines []string
}

func (r *recorder) Handle(_ context.Context, line slog.Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, line.Message)
	return nil
}

func (r *recorder) WithAttrs([]slog.Attr) slog.Handler { return r }

func TestStartAndRestartWarnOfNothing(t *testing.T) {
	r := &recorder{Handler: slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelWarn})}
	c := config(t.TempDir())
	c.Logger = slog.New(r)
	m := startWith(t, c)
	m.append("a")
	if err := m.Restart(testContext(t)); err != nil {
		t.Fatal(err)
	}
	m.Close()
	if len(r.lines) > 0 {
		t.Fatalf("logged: %q", r.lines)
	}
}

func TestStartReportsATakenPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := config(t.TempDir())
	c.Listen = l.Addr().String()
	_, err = broker.Start(testContext(t), c)
	if !errors.Is(err, broker.ErrPortTaken) || !strings.Contains(err.Error(), c.Listen) {
		t.Fatalf("error %v, want ErrPortTaken naming %s", err, c.Listen)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if m := startWith(t, c); m.URL() != "nats://"+c.Listen {
		t.Fatalf("URL %s, want the port that has become free", m.URL())
	}
}

func TestStartRefusesAddresses(t *testing.T) {
	for _, address := range []string{"", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:-1", "127.0.0.1:70000", "256.0.0.1:0", "[::1:4222"} {
		c := config(t.TempDir())
		c.Listen = address
		if b, err := broker.Start(testContext(t), c); err == nil {
			b.Close()
			t.Errorf("%q was accepted", address)
		} else if errors.Is(err, broker.ErrPortTaken) {
			t.Errorf("%q: %v", address, err)
		}
	}
}

func TestURLOfAllInterfacesIsOneThatCanBeReached(t *testing.T) {
	for _, listen := range []string{":0", "0.0.0.0:0"} {
		c := config(t.TempDir())
		c.Listen = listen
		m := startWith(t, c)
		if !strings.HasPrefix(m.URL(), "nats://127.0.0.1:") {
			t.Errorf("%s: URL %s", listen, m.URL())
		}
		plain(t, m.Broker)
	}
}

func TestStartThatFailsLeavesNothingRunning(t *testing.T) {
	before := runtime.NumGoroutine()
	c := config(t.TempDir())
	c.Listen = freeAddress(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := broker.Start(ctx, c); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v, want that of the context", err)
	}
	eventually(t, "all goroutines have ended", func() bool { return runtime.NumGoroutine() <= before })
	l, err := net.Listen("tcp", c.Listen)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestCloseStopsEverything(t *testing.T) {
	before := runtime.NumGoroutine()
	b, err := broker.Start(testContext(t), config(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	client, err := nats.Connect(b.URL(), nats.NoReconnect())
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
	b.Close()
	eventually(t, "the client is cut off and all goroutines have ended", func() bool {
		return client.IsClosed() && runtime.NumGoroutine() <= before
	})

	ctx := testContext(t)
	if err := b.Restart(ctx); !errors.Is(err, broker.ErrStopped) {
		t.Errorf("Restart: %v, want ErrStopped", err)
	}
	if _, err := b.Connect("late"); !errors.Is(err, broker.ErrStopped) {
		t.Errorf("Connect: %v, want ErrStopped", err)
	}
	if _, err := b.LogInfo(ctx); err == nil {
		t.Error("LogInfo succeeds")
	}
	if b.Client("late") != 0 {
		t.Error("somebody is connected")
	}
}

func TestRestartKeepsPortLogAndConnections(t *testing.T) {
	m := start(t)
	url, first := m.URL(), m.append("a")
	heard := make(chan string, 10)
	if _, err := m.nc.Subscribe("node.x.status", func(msg *nats.Msg) { heard <- string(msg.Data) }); err != nil {
		t.Fatal(err)
	}
	client := plain(t, m.Broker, nats.ReconnectWait(10*time.Millisecond), nats.ReconnectJitter(0, 0))
	for range 2 {
		if err := m.Restart(testContext(t)); err != nil {
			t.Fatal(err)
		}
	}
	if m.URL() != url {
		t.Errorf("URL %s, was %s", m.URL(), url)
	}
	if e, err := m.log.Get(testContext(t), first); err != nil || e.Message == nil || e.Message.Header.ID != "a" {
		t.Fatalf("position %d: %+v, %v", first, e, err)
	}
	m.append("b") // still in its term
	m.claim()
	m.append("c")
	wantIDs(t, m.ids(1), "a", "b", "c")

	// Which of the two has come back first is not known.
	eventually(t, "old subscriptions hear old clients", func() bool {
		if err := client.Publish("node.x.status", []byte("hello")); err != nil {
			return false
		}
		select {
		case text := <-heard:
			return text == "hello"
		case <-time.After(20 * time.Millisecond):
			return false
		}
	})
}

func TestRestartsAndCloseFromAllSides(t *testing.T) {
	before := runtime.NumGoroutine()
	b, err := broker.Start(testContext(t), config(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	nc := ownConn(t, b)
	log := openLog(t, b, nc)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := b.Restart(testContext(t)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if _, err := log.Claim(testContext(t), 0, "test", nil, subjects.Signature{}); err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		wg.Go(func() {
			if i == 2 {
				b.Close()
			} else if err := b.Restart(testContext(t)); err != nil && !errors.Is(err, broker.ErrStopped) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	nc.Close()
	eventually(t, "all goroutines have ended", func() bool { return runtime.NumGoroutine() <= before })
}

func TestClusterIsKeptWithTheLog(t *testing.T) {
	c := config(t.TempDir())
	m := startWith(t, c)
	ctx := testContext(t)
	if m.Cluster() != "" {
		t.Fatalf("a new log has cluster %q", m.Cluster())
	}
	if err := m.SetCluster(ctx, "one"); err != nil {
		t.Fatal(err)
	}
	m.Close()
	m = startWith(t, c)
	if m.Cluster() != "one" {
		t.Fatalf("cluster %q, want one", m.Cluster())
	}
	if err := m.SetCluster(ctx, "one"); err != nil {
		t.Errorf("the same again: %v", err)
	}
	if err := m.SetCluster(ctx, "two"); !errors.Is(err, broker.ErrStream) {
		t.Errorf("another: %v, want ErrStream", err)
	}
}

func TestLogThatCannotBeOpenedIsNotBegunAnew(t *testing.T) {
	c := config(t.TempDir())
	m := startWith(t, c)
	m.append("a")
	m.Close()
	metas, err := filepath.Glob(filepath.Join(c.Dir, "jetstream", "*", "streams", subjects.LogStream, "meta.inf"))
	if err != nil || len(metas) != 1 {
		t.Fatalf("found %q, %v", metas, err)
	}
	if err := os.WriteFile(metas[0], []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := broker.Start(testContext(t), c); !errors.Is(err, broker.ErrStream) {
		t.Fatalf("error %v, want ErrStream", err)
	}
}

func TestLogWithSettingsThatLoseMessagesIsRefused(t *testing.T) {
	for what, harm := range map[string]func(*jetstream.StreamConfig){
		"MaxAge":            func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour },
		"MaxMsgs":           func(c *jetstream.StreamConfig) { c.MaxMsgs = 1000 },
		"MaxMsgsPerSubject": func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 1000 },
		"Subjects":          func(c *jetstream.StreamConfig) { c.Subjects = []string{subjects.Replicate} },
	} {
		t.Run(what, func(t *testing.T) {
			m := start(t)
			js, err := jetstream.New(m.nc)
			if err != nil {
				t.Fatal(err)
			}
			ctx := testContext(t)
			stream, err := js.Stream(ctx, subjects.LogStream)
			if err != nil {
				t.Fatal(err)
			}
			c := stream.CachedInfo().Config
			harm(&c)
			if _, err := js.UpdateStream(ctx, c); err != nil {
				t.Fatal(err)
			}
			if err := m.Restart(ctx); !errors.Is(err, broker.ErrStream) {
				t.Fatalf("error %v, want ErrStream", err)
			}
		})
	}
}

func TestLogLimitMayBeLoweredAndRaised(t *testing.T) {
	c := config(t.TempDir())
	m := startWith(t, c)
	body := strings.Repeat("x", 1000)
	var want []string
	for i := range 20 {
		id := fmt.Sprint(i)
		if _, err := m.log.Append(testContext(t), m.header(id), []byte(body)); err != nil {
			t.Fatal(err)
		}
		want = append(want, id)
	}
	m.Close()

	c.MaxLogBytes = 10_000 // less than is stored
	m = startWith(t, c)
	wantIDs(t, m.ids(1), want...)
	if _, err := m.log.Append(testContext(t), m.header("late"), make([]byte, 8<<10)); !errors.Is(err, broker.ErrLogFull) {
		t.Fatalf("error %v, want ErrLogFull", err)
	}
	m.Close()

	c.MaxLogBytes = 100_000
	m = startWith(t, c)
	m.append("again")
	wantIDs(t, m.ids(1), append(want, "again")...)
}

func TestWatchTellsWhoComesAndGoes(t *testing.T) {
	m := start(t)
	events := make(chan broker.Presence, 100)
	m.Watch(func(p broker.Presence) {
		if strings.HasPrefix(p.Name, "client") {
			events <- p
		}
	})
	for i := range 10 {
		name := fmt.Sprint("client ", i)
		nc := plain(t, m.Broker, nats.Name(name))
		if m.Client(name) == 0 {
			t.Fatalf("%s is not connected", name)
		}
		nc.Close()
		for _, connected := range []bool{true, false} {
			if p := receive(t, events); p.Name != name || p.Connected != connected {
				t.Fatalf("event %+v, want %s, %v", p, name, connected)
			}
		}
		// The server tells of the end before it strikes the client off its list.
		eventually(t, name+" is not listed any more", func() bool { return m.Client(name) == 0 })
	}
}

func receive[T any](t testing.TB, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(testPatience):
		t.Fatal("waited in vain")
		panic("unreachable")
	}
}

func TestRequestOfTheLargestSizePasses(t *testing.T) {
	m := start(t)
	if _, err := m.nc.Subscribe(subjects.Exec, func(msg *nats.Msg) {
		if err := msg.Respond([]byte(fmt.Sprint(len(msg.Data)))); err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := m.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	msg, err := plain(t, m.Broker).Request(subjects.Exec, make([]byte, subjects.MaxRequest), testPatience)
	if err != nil || string(msg.Data) != fmt.Sprint(subjects.MaxRequest) {
		t.Fatalf("answer %v, %v", msg, err)
	}
}
