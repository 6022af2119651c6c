// Package broker runs the NATS server that is built into the master: it starts
// it, waits until it is ready, keeps its streams, knows who may do what, and
// stops it. It stores and delivers messages and looks at their headers; it knows
// no SQL.
//
// The caller must hold the data directory: the NATS server takes no lock, and two
// servers on one store lose acknowledged messages.
package broker

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"sync"
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
	// ErrStream: a stream of the store has settings this broker cannot work with.
	ErrStream = errors.New("the stored stream has other settings")
)

// Config of a Broker. Dir and Listen are required.
type Config struct {
	Dir          string        // store directory, made if needed
	Listen       string        // host:port; port 0 takes a free one
	MaxLogBytes  int64         // size in bytes at which the log refuses messages; 0: DefaultMaxLogBytes
	PingInterval time.Duration // after which a silent client is asked; 0: DefaultPingInterval
	Logger       *slog.Logger  // default: slog.Default()
}

// Broker is the running server.
type Broker struct {
	c        Config
	password string // of the master's own user, new at each start of the process
	port     int

	mu       sync.RWMutex
	srv      *server.Server
	own, sys *nats.Conn // for streams, and for presence
	cluster  string
	watch    []func(Presence)
}

// Names of users and accounts.
const (
	masterUser = "master"
	publicUser = "public"
	sysUser    = "system"
	// masterInbox is where answers to the master arrive. Others may not publish
	// there: everybody who sees a message of the log sees its reply subject, and
	// could otherwise forge the answer that says it was stored.
	masterInbox = "_INBOX_master"
)

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
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make log directory: %w", err)
	}
	b := &Broker{c: c, password: secret()}
	if err := b.start(ctx); err != nil {
		return nil, errors.Join(err, b.Close(ctx))
	}
	return b, nil
}

func secret() string {
	var p [24]byte
	rand.Read(p[:])
	return hex.EncodeToString(p[:])
}

func (b *Broker) start(ctx context.Context) error {
	opts, err := b.options()
	if err != nil {
		return err
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		return fmt.Errorf("make NATS server: %w", err)
	}
	srv.SetLoggerV2(&logger{b.c.Logger.With("part", "nats")}, false, false, false)
	srv.Start()
	b.mu.Lock()
	b.srv = srv
	b.mu.Unlock()
	if !srv.ReadyForConnections(10 * time.Second) {
		return errors.New("the NATS server did not become ready within 10 s")
	}
	b.port = srv.Addr().(*net.TCPAddr).Port
	if acc := srv.GlobalAccount(); !acc.JetStreamEnabled() {
		if err := acc.EnableJetStream(nil, nil); err != nil {
			return fmt.Errorf("enable JetStream: %w", err)
		}
	}
	if err := b.watchPresence(); err != nil {
		return err
	}
	return b.ensureStreams(ctx)
}

// options are the server's. The address is tried first: the server itself would
// report a taken port only to its log.
func (b *Broker) options() (*server.Options, error) {
	host, portText, err := net.SplitHostPort(b.c.Listen)
	if err != nil {
		return nil, fmt.Errorf("address %q: must be HOST:PORT: %w", b.c.Listen, err)
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return nil, fmt.Errorf("address %q: the port must be a number", b.c.Listen)
	}
	if b.port != 0 {
		port = b.port // the same again after a restart
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return nil, fmt.Errorf("%w: listen on %s: %w", ErrPortTaken, b.c.Listen, err)
	}
	if port == 0 {
		port = l.Addr().(*net.TCPAddr).Port
	}
	if err := l.Close(); err != nil {
		return nil, fmt.Errorf("close trial listener: %w", err)
	}
	sys := server.NewAccount("SYS")
	return &server.Options{
		ServerName: "snapdb", Host: host, Port: port, NoSigs: true, NoLog: false,
		MaxPayload: subjects.MaxRequest + 64<<10, PingInterval: b.c.PingInterval, MaxPingsOut: 2,
		MaxPending: 256 << 20,
		JetStream:  true, StoreDir: b.c.Dir, SyncAlways: true,
		JetStreamMaxStore: b.c.MaxLogBytes + 1<<30, JetStreamMaxMemory: 1 << 30,
		Accounts: []*server.Account{sys}, SystemAccount: "SYS", NoAuthUser: publicUser,
		Users: []*server.User{
			{Username: masterUser, Password: b.password},
			{Username: publicUser, Password: secret(), Permissions: publicRights()},
			{Username: sysUser, Password: b.password, Account: sys},
		},
	}, nil
}

// publicRights are what everybody but the master may do: anything on the wire
// except speak as the master or change what is stored.
func publicRights() *server.Permissions {
	return &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{
		subjects.Replicate, subjects.Epoch, subjects.Heads, masterInbox + ".>",
		"$JS.API.STREAM.CREATE.>", "$JS.API.STREAM.UPDATE.>", "$JS.API.STREAM.DELETE.>", "$JS.API.STREAM.PURGE.>",
		"$JS.API.STREAM.RESTORE.>", "$JS.API.STREAM.SNAPSHOT.>", "$JS.API.STREAM.MSG.DELETE.>",
		"$JS.API.STREAM.PEER.>", "$JS.API.STREAM.LEADER.>", "$JS.API.META.>", "$JS.API.ACCOUNT.>", "$JS.API.SERVER.>",
		"$JS.API.CONSUMER.DELETE." + subjects.LogStream + ".>", "$JS.API.CONSUMER.PAUSE." + subjects.LogStream + ".>",
		"$JS.API.CONSUMER.LEADER.>", "$JS.API.CONSUMER.RESET." + subjects.LogStream + ".>",
	}}, Subscribe: &server.SubjectPermission{Deny: []string{masterInbox + ".>"}}}
}

// URL is where clients connect.
func (b *Broker) URL() string {
	host, _, err := net.SplitHostPort(b.c.Listen)
	if err != nil || host == "" || host == "0.0.0.0" || host == "::" {
		host = "127.0.0.1"
	}
	return "nats://" + net.JoinHostPort(host, strconv.Itoa(b.port))
}

// Connect opens a connection inside this process with the master's rights.
func (b *Broker) Connect(name string) (*nats.Conn, error) {
	return b.connect(name, masterUser, nats.CustomInboxPrefix(masterInbox))
}

func (b *Broker) connect(name, user string, opts ...nats.Option) (*nats.Conn, error) {
	b.mu.RLock()
	srv := b.srv
	b.mu.RUnlock()
	nc, err := nats.Connect("", append(opts, nats.InProcessServer(srv), nats.Name(name), nats.UserInfo(user, b.password), nats.NoReconnect())...)
	if err != nil {
		return nil, fmt.Errorf("connect to own broker: %w", err)
	}
	return nc, nil
}

// Close stops the server and waits for it.
func (b *Broker) Close(ctx context.Context) error {
	b.mu.Lock()
	srv, conns := b.srv, []*nats.Conn{b.own, b.sys}
	b.srv, b.own, b.sys = nil, nil, nil
	b.mu.Unlock()
	for _, nc := range conns {
		if nc != nil {
			nc.Close()
		}
	}
	if srv == nil {
		return nil
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		srv.Shutdown()
		srv.WaitForShutdown()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop the NATS server: %w", context.Cause(ctx))
	}
}

// Restart stops the server and starts it again on the same store and port: a
// full disk freezes JetStream until then, also after space is free again. All
// connections end.
func (b *Broker) Restart(ctx context.Context) error {
	if err := b.Close(ctx); err != nil {
		return err
	}
	return b.start(ctx)
}

// Presence is a connection that began or ended.
type Presence struct {
	Name      string // the client's
	Connected bool
	Reason    string // why it ended
}

// Watch calls fn, in order, for each connection that begins or ends.
func (b *Broker) Watch(fn func(Presence)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.watch = []func(Presence){fn}
}

// Connected says whether a client of exactly that name is connected now.
func (b *Broker) Connected(name string) bool {
	b.mu.RLock()
	srv := b.srv
	b.mu.RUnlock()
	if srv == nil {
		return false
	}
	list, err := srv.Connz(&server.ConnzOptions{Limit: 1 << 20})
	if err != nil {
		return false
	}
	for _, c := range list.Conns {
		if c.Name == name {
			return true
		}
	}
	return false
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
