package broker

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/snapdb/snapdb/subjects"
)

// masterInbox is where answers to the master arrive. Others may not publish
// there: everybody who sees a message of the log sees its reply subject, and
// could otherwise forge the answer that says it was stored.
const masterInbox = "_INBOX_master"

// keys are the identities of this process, new at each of its starts: nobody can
// have them from elsewhere.
type keys struct{ master, system, public, deputy identity }

// identity is a key pair as NATS wants it.
type identity struct {
	pair   nkeys.KeyPair
	public string
}

func newKeys() (keys, error) {
	var k keys
	for _, id := range []*identity{&k.master, &k.system, &k.public, &k.deputy} {
		pair, err := nkeys.CreateUser()
		if err == nil {
			id.pair = pair
			id.public, err = pair.PublicKey()
		}
		if err != nil {
			return keys{}, fmt.Errorf("make keys: %w", err)
		}
	}
	return k, nil
}

// register makes the identities known to a server without a gate that is about to start.
func (k keys) register(o *server.Options, sys *server.Account) {
	o.NoAuthUser = k.public.public
	o.Nkeys = []*server.NkeyUser{
		{Nkey: k.master.public},
		{Nkey: k.system.public, Account: sys},
		{Nkey: k.public.public, Permissions: publicRights()},
	}
}

// own is the user behind a key of this process at a server with a gate, nil if it is
// none of them. The caller has made sure that the client owns the key.
func (k keys) own(key string, srv *server.Server, users *server.Account) *server.User {
	switch key {
	case k.master.public:
		return &server.User{Account: srv.GlobalAccount()}
	case k.system.public:
		return &server.User{Account: srv.SystemAccount()}
	case k.public.public:
		return &server.User{Account: srv.GlobalAccount(), Permissions: doorRights()}
	case k.deputy.public:
		return &server.User{Account: users, Permissions: userRights(deputyInbox, true)}
	}
	return nil
}

// publicRights are what everybody may do. What is not listed is closed, so that
// nothing opens when the server learns something new.
func publicRights() *server.Permissions {
	log := subjects.LogStream
	return &server.Permissions{
		Publish: &server.SubjectPermission{
			Allow: []string{
				"db.>", "cluster.>", "node.>", "blob.>", "command.>", "access.>", // the words of snapdb
				"_INBOX.>",           // answers
				"$SRV.>",             // nats micro
				"$SYS.REQ.USER.INFO", // nats account info
				// Looking at streams and consumers.
				server.JSApiAccountInfo, server.JSApiStreams, server.JSApiStreamList, server.JSApiStreamInfo, server.JSApiMsgGet,
				server.JSApiConsumers, server.JSApiConsumerList, server.JSApiConsumerInfo,
				// Reading the log, with a consumer made by the master.
				fmt.Sprintf(server.JSApiRequestNextT, log, "*"),
			},
			Deny: []string{subjects.Replicate, subjects.Epoch, subjects.Heads, subjects.CommandChanged, subjects.NodeLog(subjects.MasterID)},
		},
		Subscribe: &server.SubjectPermission{Deny: []string{masterInbox + ".>"}},
	}
}

// Connect opens a connection inside this process with the master's rights. It
// survives a Restart and ends when it is closed.
func (b *Broker) Connect(name string, opts ...nats.Option) (*nats.Conn, error) {
	return b.connect(name, append([]nats.Option{b.keys.master.login(), nats.CustomInboxPrefix(masterInbox)}, opts...))
}

// ConnectPublic opens a connection inside this process with everybody's rights,
// for whatever answers requests: the subject of the answer is the asker's choice,
// and must not be one that only the master may use.
func (b *Broker) ConnectPublic(name string, opts ...nats.Option) (*nats.Conn, error) {
	if b.c.Gate != nil {
		opts = append([]nats.Option{b.keys.public.login()}, opts...)
	}
	return b.connect(name, opts)
}

// deputyInbox is where answers to a deputy arrive. No user has it: their names have small
// letters.
const deputyInbox = "_INBOX_DEPUTY"

// AsDeputy are the options of a connection inside this process with the rights of a
// user, for what asks in the name of users that it has let in itself. Its requests
// arrive under the name [Broker.Deputy].
func (b *Broker) AsDeputy() []nats.Option {
	opts := []nats.Option{nats.InProcessServer(b), nats.IgnoreAuthErrorAbort()}
	if b.c.Gate != nil {
		opts = append(opts, b.keys.deputy.login(), nats.CustomInboxPrefix(deputyInbox))
	}
	return opts
}

// Deputy is the name of the caller that speaks for others.
func (b *Broker) Deputy() string { return b.keys.deputy.public }

// login proves to be the owner of the key.
func (id identity) login() nats.Option { return nats.Nkey(id.public, id.pair.Sign) }

// reconnectEvery is the pause before a lost connection of this process is made
// again: after a restart, or after the whole process stood still so long that the
// server gave it up.
const reconnectEvery = 20 * time.Millisecond

func (b *Broker) connect(name string, opts []nats.Option) (*nats.Conn, error) {
	nc, err := nats.Connect("", append([]nats.Option{
		nats.InProcessServer(b), nats.Name(name),
		nats.MaxReconnects(-1), nats.ReconnectWait(reconnectEvery), nats.ReconnectJitter(0, 0), nats.IgnoreAuthErrorAbort(),
		nats.ErrorHandler(b.onError),
	}, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("connect to own broker: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.conns = append(slices.DeleteFunc(b.conns, (*nats.Conn).IsClosed), nc)
	return nc, nil
}

// onError notes what the server refuses to a connection of this process: an answer
// that somebody wanted on a subject closed to him, for one. A closed pipe is a
// restart as such a connection sees it.
func (b *Broker) onError(nc *nats.Conn, _ *nats.Subscription, err error) {
	if !errors.Is(err, io.ErrClosedPipe) {
		b.c.Logger.Warn("own connection", "connection", nc.Opts.Name, "error", err)
	}
}

// ownConns are the connections of this process.
func (b *Broker) ownConns() []*nats.Conn {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return slices.Clone(b.conns)
}

// InProcessConn is one connection to the server that runs now; NATS clients of
// this process reach it that way.
func (b *Broker) InProcessConn() (net.Conn, error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.srv == nil {
		return nil, ErrStopped
	}
	return b.srv.InProcessConn()
}

// connectOwn opens the broker's own connections, once.
func (b *Broker) connectOwn() error {
	b.mu.RLock()
	there := b.sys != nil
	b.mu.RUnlock()
	if there {
		return nil
	}
	own, err := b.Connect("snapdb broker")
	if err != nil {
		return err
	}
	sys, err := b.connect("snapdb presence", []nats.Option{b.keys.system.login()})
	if err != nil {
		own.Close()
		return err
	}
	b.mu.Lock()
	b.own, b.sys = own, sys
	b.mu.Unlock()
	if b.c.Gate != nil {
		if err := relay(own); err != nil {
			return err
		}
	}
	return b.watchPresence(sys)
}
