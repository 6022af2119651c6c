// Package broker runs the NATS server that is built into the master: it starts
// it, waits until it is ready, keeps its streams, knows who may do what, and
// stops it. It stores and delivers messages and looks at their headers; it knows
// no SQL.
//
// The caller must hold the data directory: the NATS server takes no lock, and two
// servers on one store lose acknowledged messages.
//
// # Who may do what
//
// With a [Gate], the master is alone in an account of the NATS server, with the
// streams. Users have one together, and each node one of its own. What goes from one to
// another is listed in accounts.go: requests to doors, into which the server writes who
// asks ([Caller]), what nodes say on their own subjects, and news. A node has nobody
// else in its account, so whatever it has others answer stays there. Whatever a user
// has others answer, on whatever subject, arrives at the doors in nobody's name
// ([Caller].Service), and at nodes without the master's signature. The name of the consumer with which a node
// reads is known to the node alone.
//
// Without a gate there are two identities. The master's own connections ([Broker.Connect]) live
// inside its process and may do everything. Everybody else, without credentials,
// may speak on the subjects of snapdb except [subjects.Replicate],
// [subjects.Epoch], [subjects.Heads], [subjects.CommandChanged] and the master's log
// lines, answer in inboxes, listen to everything but the master's inbox, and of
// JetStream use what only reads, and a consumer that the master made.
//
// The NATS server does not ask whether the sender of a request may publish where
// it wants the answer. Whoever may ask anything of anybody can therefore have an
// answer published on a subject that is closed to him. That is why
//
//   - the master answers requests with everybody's rights
//     ([Broker.ConnectPublic]): what goes to whom is then up to the server;
//   - nobody but the master makes consumers: one on another stream could deliver
//     messages of any content, headers included, anywhere;
//   - of all answers that arrive for a publish, only one that cannot be anything
//     else counts;
//   - a message of the log is one by its headers, and so is a claim of the
//     mastership ([Epoch]): answers of the server have none.
//
// What remains open without a gate: anybody who reaches the port can have
// answers, and exact copies of messages of the current term, stored in the log,
// where they are passed over (a copy continues nothing) but take space, or on
// [subjects.Epoch], which costs the master a new claim; can read everything; can
// take messages from the consumer of another node, which then joins again; and
// can answer in the inbox of another node or client in the name of the broker; and
// can speak as any node, whose session is in its public status, so that what is
// said to be applied is as true as whoever reaches the port is honest. Without
// credentials, serve on the loopback only.
package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/snapdb/snapdb/subjects"
)

// Defaults of Config.
const (
	DefaultMaxLogBytes  = 10 << 30
	DefaultPingInterval = 5 * time.Second
)

// Errors of Start.
var (
	// ErrPortTaken: something else listens on the address.
	ErrPortTaken = errors.New("the address is in use")
	// ErrStream: the stored log cannot be used as it is.
	ErrStream = errors.New("the stored log cannot be used")
)

// ErrStopped: the broker does not run.
var ErrStopped = errors.New("the broker is stopped")

// Config of a Broker. Dir and Listen are required.
type Config struct {
	Dir          string        // store directory, made if needed
	Listen       string        // host:port; port 0 takes a free one
	MaxLogBytes  int64         // size in bytes at which the log refuses messages; 0: DefaultMaxLogBytes
	PingInterval time.Duration // after which a silent client is asked; 0: DefaultPingInterval
	TLS          *tls.Config   // of the server; without it whoever comes over a network is not protected
	Gate         Gate          // says who may come in; nil: everybody, with everybody's rights
	Logger       *slog.Logger  // default: slog.Default()
}

// Broker is the running server. Its methods may be called by any goroutine.
type Broker struct {
	c      Config
	host   string
	keys   keys
	guests guests

	running sync.Mutex // held while the server is started or stopped
	closed  bool       // by Close; guarded by running

	mu       sync.RWMutex   // guards what follows
	srv      *server.Server // nil while it does not run
	port     int            // 0 until known, if any will do
	own, sys *nats.Conn     // for streams, and for presence
	conns    []*nats.Conn   // of this process, these two included
	cluster  string
	watch    func(Presence)
}

// Start starts the server and makes or checks its streams.
func Start(ctx context.Context, c Config) (*Broker, error) {
	if c.MaxLogBytes == 0 {
		c.MaxLogBytes = DefaultMaxLogBytes
	}
	if c.PingInterval == 0 {
		c.PingInterval = DefaultPingInterval
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	b := &Broker{c: c}
	var err error
	if b.host, b.port, err = splitAddress(c.Listen); err != nil {
		return nil, err
	}
	if b.keys, err = newKeys(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make log directory: %w", err)
	}
	if err := b.Restart(ctx); err != nil { // nothing runs yet
		b.Close()
		return nil, err
	}
	return b, nil
}

func splitAddress(address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, fmt.Errorf("address %q: must be HOST:PORT: %w", address, err)
	}
	if port, err = strconv.Atoi(text); err != nil || port < 0 || port > 65535 {
		return "", 0, fmt.Errorf("address %q: the port must be a number up to 65535", address)
	}
	return host, port, nil
}

// start runs a server and makes the streams ready. b.running is held.
func (b *Broker) start(ctx context.Context) error {
	if b.closed {
		return ErrStopped
	}
	if err := b.serve(); err != nil {
		return err
	}
	if err := b.connectOwn(); err != nil {
		return err
	}
	return b.ensureStreams(ctx)
}

// readyPatience is how long the server may take until clients can connect. Start
// opens the port itself, and the stores before it; what remains is nothing.
const readyPatience = 10 * time.Second

// serve runs a server until it takes connections.
func (b *Broker) serve() error {
	log := newServerLog(b.c.Logger)
	o := b.options()
	var keeper *gatekeeper
	if b.c.Gate == nil {
		b.keys.register(o, o.Accounts[0])
	} else {
		keeper = newGatekeeper(b)
		o.CustomClientAuthentication, o.AlwaysEnableNonce = keeper, true
	}
	srv, err := server.NewServer(o)
	if err != nil {
		return fmt.Errorf("make NATS server: %w", err)
	}
	srv.SetLoggerV2(log, false, false, false)
	srv.Start()
	err = log.failure()
	if err == nil && !srv.ReadyForConnections(readyPatience) {
		err = fmt.Errorf("not ready within %v", readyPatience)
	}
	if err == nil && keeper != nil {
		err = keeper.start(srv)
	}
	if err != nil {
		shutDown(srv)
		if addressInUse(err) {
			err = fmt.Errorf("%w: %w", ErrPortTaken, err)
		}
		return fmt.Errorf("start NATS server: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.srv, b.port = srv, srv.Addr().(*net.TCPAddr).Port
	return nil
}

// addressInUse knows the error of a taken port, on Windows too, where it has
// another number.
func addressInUse(err error) bool {
	const windows = syscall.Errno(10048)
	return errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, windows)
}

// tlsPatience is how long a handshake may take, of a client far away or of many at once.
const tlsPatience = 10 * time.Second

// noStoreLimit is as much as the server may store in all: the streams have their
// own limits, and the server does not open one whose limit exceeds its own.
const noStoreLimit = 1 << 62

func (b *Broker) options() *server.Options {
	port := b.port
	if port == 0 {
		port = server.RANDOM_PORT
	}
	sys := server.NewAccount("SYS")
	o := &server.Options{
		Accounts: []*server.Account{sys}, SystemAccount: sys.Name,
		ServerName: "snapdb", Host: b.host, Port: port, NoSigs: true,
		// A request of the largest size has no headers; those of answers are
		// short, and answers are cut well below.
		MaxPayload:   subjects.MaxRequest,
		PingInterval: b.c.PingInterval, MaxPingsOut: 2,
		// Every answer goes to a subject of its own, which no cache has seen before:
		// without caches an answer costs a third less.
		NoSublistCache: true,
		// Who listens and does not read is dropped in the end, and until then must not
		// slow down whoever speaks.
		NoFastProducerStall: true,
		JetStream:           true, StoreDir: b.c.Dir, SyncAlways: true,
		JetStreamMaxStore: noStoreLimit, JetStreamMaxMemory: 1 << 30,
	}
	if b.c.TLS != nil { // for all but the connections of this process
		o.TLSConfig, o.TLSTimeout = b.c.TLS.Clone(), tlsPatience.Seconds()
	}
	return o
}

// URL is where clients connect.
func (b *Broker) URL() string {
	host := b.host
	if ip := net.ParseIP(host); host == "" || ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	scheme := "nats://"
	if b.c.TLS != nil {
		scheme = "tls://"
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	return scheme + net.JoinHostPort(host, strconv.Itoa(b.port))
}

// Close stops the server and waits until it has let go of the store, however
// long that takes: nobody else may open the store before.
func (b *Broker) Close() {
	b.running.Lock()
	defer b.running.Unlock()
	b.closed = true
	b.mu.RLock()
	conns := []*nats.Conn{b.own, b.sys}
	b.mu.RUnlock()
	for _, nc := range conns {
		if nc != nil {
			nc.Close()
		}
	}
	b.stop()
}

// stop stops the server, if it runs, and waits until the connections of this
// process have noticed: what they send afterwards reaches the next server or
// nobody. b.running is held.
func (b *Broker) stop() {
	b.mu.Lock()
	srv := b.srv
	b.srv = nil
	b.mu.Unlock()
	if srv == nil {
		return
	}
	var wait []func()
	for _, nc := range b.ownConns() {
		lost := nc.StatusChanged(nats.RECONNECTING, nats.CLOSED)
		if nc.IsConnected() {
			wait = append(wait, func() { <-lost })
		}
		defer nc.RemoveStatusListener(lost)
	}
	shutDown(srv)
	for _, noticed := range wait {
		noticed()
	}
}

func shutDown(srv *server.Server) {
	srv.Shutdown()
	srv.WaitForShutdown()
}

// Restart stops the server and starts it again on the same store and port: a
// full disk freezes JetStream until then, also after space is free again. The
// connections of this process are lost and come back by themselves.
func (b *Broker) Restart(ctx context.Context) error {
	b.running.Lock()
	defer b.running.Unlock()
	b.stop()
	return b.start(ctx)
}

// LogInfo is the extent of the log.
type LogInfo struct {
	First, Last, Messages uint64
	Bytes, MaxBytes       uint64
}

// LogInfo reads the extent of the log.
func (b *Broker) LogInfo(ctx context.Context) (LogInfo, error) {
	info, err := b.stream(ctx)
	if err != nil {
		return LogInfo{}, err
	}
	st := info.State
	return LogInfo{First: st.FirstSeq, Last: st.LastSeq, Messages: st.Msgs, Bytes: st.Bytes, MaxBytes: uint64(info.Config.MaxBytes)}, nil
}

// Cluster is the id stored with the log, "" if it is new.
func (b *Broker) Cluster() string {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.cluster
}

// storedLog is the folder in which the server keeps the log.
func (b *Broker) storedLog() string {
	return filepath.Join(b.c.Dir, server.JetStreamStoreDir, server.DEFAULT_GLOBAL_ACCOUNT, "streams", subjects.LogStream)
}
