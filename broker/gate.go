package broker

import (
	"context"
	"encoding/base64"
	"math"
	"net"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
)

// Credentials are what a client shows to be let in.
type Credentials struct {
	// User and Secret are those of a person or a program. A node that is not known
	// yet shows the secret of its invitation beside its key.
	User, Secret string
	// Key is the public NKey of a node, which the client has proven to own.
	Key string
	// Connection is what the client calls its connection.
	Connection string
	// From is the address of the client's machine.
	From string
}

// Guest is who a client is, and what it may do here. What it may do at the doors is
// for those who answer there to say.
type Guest struct {
	// Name is who asks, in what arrives at the doors ([Caller]); of a user only. It must
	// be made of letters, digits and ".-_#".
	Name string
	// Inbox is the prefix of the subjects at which a user takes answers. Others may
	// neither listen there nor guess what comes next.
	Inbox string
	// Node is the id of a node. A node has an account of its own.
	Node string
	// Whole says that a user may see all there is: the log, and the copies on nodes.
	Whole bool
	// Until is when the connection is cut; zero: never.
	Until time.Time
}

// Gate says who a client is, or why it is not let in. It is called by many goroutines
// at a time, each of one client that waits. The client is told no more than that it was
// refused, so a gate logs why.
type Gate func(ctx context.Context, c Credentials) (Guest, error)

// gatePatience is how long a gate may think. The server gives a client two seconds.
const gatePatience = 1500 * time.Millisecond

// gatekeeper lets clients into one server.
type gatekeeper struct {
	b      *Broker
	open   chan struct{} // closed when the accounts are there
	houses *houses       // read after open
}

func newGatekeeper(b *Broker) *gatekeeper { return &gatekeeper{b: b, open: make(chan struct{})} }

// start makes the accounts, and lets clients in from then on.
func (g *gatekeeper) start(srv *server.Server) error {
	var err error
	if g.houses, err = openHouses(srv); err != nil {
		return err
	}
	g.b.guests.clear()
	close(g.open)
	return nil
}

// Check is called by the server for each client that connects.
func (g *gatekeeper) Check(c server.ClientAuthentication) bool {
	ctx, cancel := context.WithTimeout(context.Background(), gatePatience)
	defer cancel()
	select {
	case <-g.open:
	case <-ctx.Done():
		return false
	}
	o := c.GetOpts()
	if o.Nkey != "" && !proven(o, c.GetNonce()) {
		return false
	}
	if user := g.b.keys.own(o.Nkey, g.houses.srv, g.houses.users); user != nil {
		c.RegisterUser(user)
		return true
	}
	// The name that the server writes into requests is the key, if the client shows
	// one, and else the user's: each is proven or replaced here.
	guest, ok := g.admit(ctx, c.GetID(), Credentials{User: o.Username, Secret: secretOf(o), Key: o.Nkey, Connection: o.Name, From: from(c.RemoteAddress())})
	if !ok || guest.Node == "" && o.Nkey != "" {
		return false
	}
	user, err := g.houses.user(guest)
	if err != nil {
		g.b.c.Logger.Error("cannot let a client in", "error", err)
		return false
	}
	c.RegisterUser(user)
	return true
}

// admit asks the gate about a client, and again if somebody looked for guests meanwhile,
// because they have lost their rights, and did not find this one.
func (g *gatekeeper) admit(ctx context.Context, client uint64, c Credentials) (guest Guest, ok bool) {
	for looked := uint64(math.MaxUint64); looked != g.b.guests.looked.Load(); {
		looked = g.b.guests.looked.Load()
		var err error
		if guest, err = g.b.c.Gate(ctx, c); err != nil {
			g.b.guests.remove(client)
			return guest, false
		}
		g.b.guests.add(client, guest)
	}
	return guest, true
}

// secretOf is what a client shows as password or as token.
func secretOf(o *server.ClientOpts) string {
	if o.Password != "" {
		return o.Password
	}
	return o.Token
}

// proven says whether a client owns the key it shows: it has signed what the server
// asked it to.
func proven(o *server.ClientOpts, nonce []byte) bool {
	sig, err := base64.RawURLEncoding.DecodeString(o.Sig)
	if err != nil {
		return false
	}
	key, err := nkeys.FromPublicKey(o.Nkey)
	return err == nil && len(nonce) > 0 && key.Verify(nonce, sig) == nil
}

func from(addr net.Addr) string {
	if addr == nil {
		return ""
	}
	host, _, err := net.SplitHostPort(addr.String())
	if err != nil {
		return addr.String()
	}
	return host
}

// Caller is who asks at a door of a gated broker.
type Caller struct {
	// Name is the guest's.
	Name string `json:"user"`
	// Account tells users and nodes apart: [UsersAccount], or that of a node.
	Account string `json:"acc"`
	// From is the address of the caller's machine.
	From string `json:"host"`
	// Service is set where a request has come through more than one account. At the
	// master's doors that is an answer which somebody wanted to have there, and what is
	// said of its caller is then what whoever answered has written.
	Service string `json:"svc"`
}

// CallerHeader is where the server writes who asks, as JSON, over whatever the client
// has written there ([Caller.Service] tells where not).
const CallerHeader = server.ClientInfoHdr

// Node is the id of the node that asks, "" if none does.
func (c Caller) Node() string { return nodeOf(c.Account) }

// User says whether a user asks.
func (c Caller) User() bool { return c.Account == UsersAccount }

// Guests are the connections of all guests that match, by the server's numbers. The gate
// is asked again about those who are at it just now.
func (b *Broker) Guests(match func(Guest) bool) []uint64 {
	b.guests.looked.Add(1)
	return b.guests.find(match)
}

// Disconnect cuts connections, those of them that are there.
func (b *Broker) Disconnect(clients []uint64) {
	b.mu.RLock()
	srv := b.srv
	b.mu.RUnlock()
	if srv == nil {
		return // nobody is connected
	}
	for _, id := range clients {
		// Its only error is that there is no such client any more. The event that says so
		// may never come, of one that was not quite in.
		_ = srv.DisconnectClientByID(id)
		b.guests.remove(id)
	}
}
