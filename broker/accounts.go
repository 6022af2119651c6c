package broker

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/snapdb/snapdb/subjects"
)

// Accounts of a gated broker. The master is alone in the server's default account,
// where the streams are.
const (
	// UsersAccount is that of people and programs.
	UsersAccount = "USERS"
	nodePrefix   = "NODE_"
)

func nodeAccount(id string) string { return nodePrefix + id }

func nodeOf(account string) string {
	id, ok := strings.CutPrefix(account, nodePrefix)
	if !ok {
		return ""
	}
	return id
}

// APIPrefix is where users of a gated broker find what of JetStream is open to them
// (nats --js-api-prefix).
const APIPrefix = "snapdb.js"

// nextDoor is where a node of a gated broker asks for messages of the log.
const nextDoor = "log.next."

// answers is where the server wants answers to what it has carried from one account to
// another.
const answers = "_R_.>"

// What each side offers the others. The master offers
var (
	// userDoors to users, which say who asks,
	userDoors = []string{
		subjects.Exec, subjects.Query, subjects.Cancel, subjects.Verify, subjects.SnapshotTake, subjects.Import, subjects.Copy,
		subjects.ClusterInfo, subjects.ClusterMetrics, subjects.Forget, subjects.BlobGet, subjects.BlobPut,
		subjects.CommandSend, subjects.CommandPreview, subjects.CommandList, subjects.CommandCancel, subjects.CommandRetry,
		subjects.Access + ".>",
	}
	// nodeDoors to nodes, which say so too, each node's own subjects besides,
	nodeDoors = []string{subjects.Join, subjects.Verified, subjects.BlobGet, subjects.BlobPut}
	// apiDoors of JetStream, to look at the streams, to users,
	apiDoors = []string{
		"INFO", "STREAM.NAMES", "STREAM.LIST", "STREAM.INFO.*", "STREAM.MSG.GET.*",
		"CONSUMER.NAMES.*", "CONSUMER.LIST.*", "CONSUMER.INFO.*.*",
	}
	// and news: its own, and what others have told it. The server hands that to nobody
	// else by itself, so the broker says it again ([Broker.relay]).
	news     = []string{subjects.Replicate, subjects.Epoch, subjects.Heads, subjects.CommandChanged, subjects.NodeLog(subjects.MasterID)}
	relayed  = []string{"node.*.status", "node.*.log"}
	nodeNews = []string{subjects.Heads}
	// nodeWords are what a node says on its own subjects,
	nodeWords = []string{"ack", "status", "log", "report"}
	// nodeServices what it answers there, and with all other nodes to nats micro.
	nodeServices = []string{"ctl", "query", "copy"}
)

// houses are the accounts of a running server.
type houses struct {
	srv   *server.Server
	users *server.Account

	mu    sync.Mutex
	nodes map[string]*server.Account // by id, of those that have been here
}

// openHouses makes the accounts of a server that has just started.
func openHouses(srv *server.Server) (*houses, error) {
	master := srv.GlobalAccount()
	users, err := srv.RegisterAccount(UsersAccount)
	if err != nil {
		return nil, fmt.Errorf("make account %s: %w", UsersAccount, err)
	}
	var errs []error
	for _, subject := range news {
		errs = append(errs, master.AddStreamExport(subject, nil), users.AddStreamImport(master, subject, ""))
	}
	errs = append(errs, master.AddStreamExport(relayPrefix+">", nil))
	for _, subject := range relayed {
		errs = append(errs, users.AddMappedStreamImport(master, relayPrefix+subject, subject))
	}
	for _, subject := range slices.Concat(userDoors, nodeDoors) {
		errs = append(errs, master.AddServiceExport(subject, nil))
	}
	for _, word := range nodeWords {
		errs = append(errs, master.AddServiceExport("node.*."+word, nil))
	}
	next := fmt.Sprintf(server.JSApiRequestNextT, subjects.LogStream, "*")
	errs = append(errs, export(master, "$SRV.>"), export(master, next))
	for _, subject := range userDoors {
		errs = append(errs, shared(users, master, subject))
	}
	for _, api := range apiDoors {
		errs = append(errs, export(master, server.JSApiPrefix+"."+api), users.AddServiceImport(master, APIPrefix+"."+api, server.JSApiPrefix+"."+api))
	}
	for _, word := range nodeServices {
		errs = append(errs, export(master, "node.*."+word), shared(users, master, "node.*."+word))
	}
	errs = append(errs, users.AddServiceImport(master, "$SRV.>", ""))
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("join accounts: %w", err)
	}
	return &houses{srv: srv, users: users, nodes: map[string]*server.Account{}}, nil
}

// export offers a service that may answer more than once.
func export(a *server.Account, subject string) error {
	return a.AddServiceExportWithResponse(subject, server.Streamed, nil)
}

// shared imports a service to which the server says who asks.
func shared(a, from *server.Account, subject string) error {
	if err := a.AddServiceImport(from, subject, ""); err != nil {
		return err
	}
	return a.SetServiceImportSharing(from, subject, true)
}

// node is the account of a node, made when it first connects.
func (h *houses) node(id string) (*server.Account, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if a := h.nodes[id]; a != nil {
		return a, nil
	}
	node, err := h.srv.RegisterAccount(nodeAccount(id))
	if err != nil {
		return nil, fmt.Errorf("make account of node %s: %w", id, err)
	}
	master := h.srv.GlobalAccount()
	var errs []error
	for _, subject := range nodeNews {
		errs = append(errs, node.AddStreamImport(master, subject, ""))
	}
	errs = append(errs, node.AddMappedStreamImport(master, relayPrefix+subjects.Cancel, subjects.Cancel))
	for _, subject := range nodeDoors {
		errs = append(errs, shared(node, master, subject))
	}
	for _, word := range nodeWords {
		errs = append(errs, node.AddServiceImport(master, "node."+id+"."+word, ""))
	}
	errs = append(errs, node.AddServiceImport(master, nextDoor+"*", fmt.Sprintf(server.JSApiRequestNextT, subjects.LogStream, "*")))
	services := []string{"$SRV.>"}
	for _, word := range nodeServices {
		services = append(services, "node."+id+"."+word)
	}
	for _, subject := range services {
		errs = append(errs, export(node, subject), master.AddServiceImport(node, subject, ""))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("join account of node %s: %w", id, err)
	}
	h.nodes[id] = node
	return node, nil
}

// user is a guest as the server knows it.
func (h *houses) user(g Guest) (*server.User, error) {
	if g.Node != "" {
		account, err := h.node(g.Node)
		if err != nil {
			return nil, err
		}
		return &server.User{Account: account, Permissions: nodeRights(g.Node), ConnectionDeadline: g.Until}, nil
	}
	return &server.User{Username: g.Name, Account: h.users, Permissions: userRights(g.Inbox, g.Whole), ConnectionDeadline: g.Until}, nil
}

// nodeRights are what a node may do in its account. Little of it would leave the account,
// and nothing in another's name; the rest would only cost the server memory.
func nodeRights(id string) *server.Permissions {
	p := &server.Permissions{Publish: &server.SubjectPermission{}, Subscribe: &server.SubjectPermission{}}
	p.Publish.Allow = append([]string{nextDoor + "*", answers, "_INBOX.>"}, nodeDoors...)
	for _, word := range nodeWords {
		p.Publish.Allow = append(p.Publish.Allow, "node."+id+"."+word)
	}
	p.Subscribe.Allow = append([]string{"_INBOX.>", "$SRV.>", subjects.Cancel}, nodeNews...)
	for _, word := range nodeServices {
		p.Subscribe.Allow = append(p.Subscribe.Allow, "node."+id+"."+word)
	}
	return p
}

// userRights are what a user may do in the account of all users: ask at doors, where
// those who answer look at who asks, and with whole see what cannot be told apart by
// databases.
func userRights(inbox string, whole bool) *server.Permissions {
	p := &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: append([]string{"$SYS.REQ.USER.INFO"}, userDoors...)},
		Subscribe: &server.SubjectPermission{Allow: []string{inbox + ".>"}},
	}
	if whole {
		p.Publish.Allow = append(p.Publish.Allow, "$SRV.>", "node.*.ctl", "node.*.query", "node.*.copy")
		for _, api := range apiDoors {
			p.Publish.Allow = append(p.Publish.Allow, APIPrefix+"."+api)
		}
		p.Subscribe.Allow = append(append(p.Subscribe.Allow, news...), relayed...)
	}
	return p
}

// doorRights are those of the connection that answers: what arrives at the doors brings
// a subject of the server's own to answer at.
func doorRights() *server.Permissions {
	return &server.Permissions{Publish: &server.SubjectPermission{Allow: []string{answers, "node.*.ctl", "$SRV.>"}}}
}

// relayPrefix begins the subjects at which the broker says again what others than the
// master have said.
const relayPrefix = "relay."

// relay says what nodes say again for users, and what users cancel for nodes.
func relay(nc *nats.Conn) error {
	for _, subject := range append([]string{subjects.Cancel}, relayed...) {
		_, err := nc.Subscribe(subject, func(msg *nats.Msg) {
			if msg.Subject != subjects.NodeLog(subjects.MasterID) { // heard by users as it is
				_ = nc.Publish(relayPrefix+msg.Subject, msg.Data) // fails when the broker is closed
			}
		})
		if err != nil {
			return fmt.Errorf("relay %s: %w", subject, err)
		}
	}
	return nil
}

// guests are the clients that are connected.
type guests struct {
	looked atomic.Uint64 // how often somebody has looked for some

	mu   sync.Mutex
	here map[uint64]Guest
}

func (g *guests) add(client uint64, guest Guest) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.here == nil {
		g.here = map[uint64]Guest{}
	}
	g.here[client] = guest
}

func (g *guests) remove(client uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.here, client)
}

func (g *guests) find(match func(Guest) bool) (clients []uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for id, guest := range g.here {
		if match(guest) {
			clients = append(clients, id)
		}
	}
	return clients
}

func (g *guests) clear() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.here = nil
}
