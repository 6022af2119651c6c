package broker

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Presence is a connection that began or ended.
type Presence struct {
	Name      string // the client's
	Client    uint64 // the server's number of the connection
	Connected bool
	Reason    string // why it ended
}

// Watch has fn called for each connection that begins or ends from now on, one
// after another; where there is a gate, for those of nodes. It replaces the function of an earlier call. During a Restart
// all connections end without a word.
func (b *Broker) Watch(fn func(Presence)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.watch = fn
}

// Client is the number of the newest connection of a client of exactly that name (where
// there is a gate, of a node), 0 if none is connected now. For a moment after Watch told of a connection's end
// the server may still list it.
func (b *Broker) Client(name string) (number uint64) {
	b.mu.RLock()
	srv := b.srv
	b.mu.RUnlock()
	if srv == nil {
		return 0
	}
	list, err := srv.Connz(&server.ConnzOptions{Limit: math.MaxInt32, Username: true})
	if err != nil {
		return 0 // it is being stopped
	}
	for _, c := range list.Conns {
		if c.Name == name && b.ofNodes(c.Account) {
			number = max(number, c.Cid)
		}
	}
	return number
}

// ofNodes says whether an account is where nodes connect. In those of a gate a node's
// connection has the name that its gate has let pass.
func (b *Broker) ofNodes(account string) bool {
	if b.c.Gate == nil {
		return account == server.DEFAULT_GLOBAL_ACCOUNT || account == "" // as lists of connections have it
	}
	return nodeOf(account) != ""
}

// Connections is how many clients are connected, those of this process included.
func (b *Broker) Connections() int {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.srv == nil {
		return 0
	}
	return b.srv.NumClients()
}

// watchPresence listens to the server's own events, which tell of a killed client
// within milliseconds. One subscription for both kinds keeps their order.
func (b *Broker) watchPresence(sys *nats.Conn) error {
	if _, err := sys.Subscribe("$SYS.ACCOUNT.*.*", b.onPresence); err != nil {
		return fmt.Errorf("watch connections: %w", err)
	}
	if err := sys.Flush(); err != nil {
		return fmt.Errorf("watch connections: %w", err)
	}
	return nil
}

func (b *Broker) onPresence(msg *nats.Msg) {
	connected := strings.HasSuffix(msg.Subject, ".CONNECT")
	if !connected && !strings.HasSuffix(msg.Subject, ".DISCONNECT") {
		return // another event of the account
	}
	var event struct {
		Client struct {
			Name    string `json:"name"`
			Account string `json:"acc"`
			ID      uint64 `json:"id"`
		} `json:"client"`
		Reason string `json:"reason"`
	}
	if err := json.Unmarshal(msg.Data, &event); err != nil {
		b.c.Logger.Warn("cannot read a presence event", "error", err)
		return
	}
	if !connected {
		b.guests.remove(event.Client.ID)
	}
	b.mu.RLock()
	watch := b.watch
	b.mu.RUnlock()
	if watch != nil && b.ofNodes(event.Client.Account) {
		watch(Presence{Name: event.Client.Name, Client: event.Client.ID, Connected: connected, Reason: event.Reason})
	}
}
