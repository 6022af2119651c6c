package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/snapdb/snapdb/agent/access"
	"github.com/snapdb/snapdb/agent/audit"
	"github.com/snapdb/snapdb/broker"
	"github.com/snapdb/snapdb/subjects"
)

// own is the right that every user has, whatever his role: to see to himself.
const own access.Right = -1

// caller is who asks at a door of the master.
type caller struct {
	access.Principal        // of a user; in an open cluster it has a name only if the client says one
	open             bool   // the cluster is open: everybody may do everything
	node             string // id of a node that asks
	from             string // address of the user's machine
}

// may refuses what the caller has no right to.
func (c *caller) may(right access.Right) *subjects.Error {
	switch {
	case c.open, c.Principal.May(right), right == own && c.node == "":
		return nil
	case c.node != "":
		return subjects.Errorf(subjects.CodeForbidden, "a node has no business here")
	case c.MustChange:
		return subjects.Errorf(subjects.CodeForbidden, "the password of %s is for one time: change it first (snapdb login, or the panel)", c.User)
	}
	return subjects.Errorf(subjects.CodeForbidden, "this takes the role %s, %s is %s: an admin can change that (snapdb user role)", access.Role(right), c.User, c.Role)
}

// uses refuses a database that is not among the caller's. A database that does not
// exist is refused in the same words, so that nobody learns which there are.
func (c *caller) uses(db string) *subjects.Error {
	if c.open || db == "" || c.Principal.MayUse(db) {
		return nil
	}
	if err := c.may(access.Read); err != nil {
		return err
	}
	return subjects.Errorf(subjects.CodeForbidden, "%.64q is not among the databases that %s may use: an admin can change that (snapdb user role)", db, c.User)
}

// commands refuses nodes that the caller may not command.
func (c *caller) commands(nodes []subjects.NodeInfo) *subjects.Error {
	if c.open {
		return nil
	}
	var others []string
	for _, n := range nodes {
		if !c.MayCommand(&n) {
			others = append(others, n.ID)
		}
	}
	if len(others) == 0 {
		return nil
	}
	return subjects.Errorf(subjects.CodeForbidden, "%s may command nodes with %s only, not %s", c.User, c.Labels, names(others))
}

// shown are records of commands as the caller may see them: what nodes say tells of all
// databases.
func (c *caller) shown(records ...subjects.CommandRecord) []subjects.CommandRecord {
	if c.open || c.Databases == nil {
		return records
	}
	for i := range records {
		records[i].Nodes = slices.Clone(records[i].Nodes)
		for j := range records[i].Nodes {
			records[i].Nodes[j].Output = nil
		}
	}
	return records
}

// is says whether the caller is a node, or may say so.
func (c *caller) is(node string) bool { return c.open || c.node == node && node != "" }

// scope makes names that a client chooses its own.
func (c *caller) scope(name string) string {
	if c.open || name == "" {
		return name
	}
	return c.Name() + "/" + name
}

// name is by whom shares are counted; "" in an open cluster, where nobody is sure who asks.
func (c *caller) name() string {
	if c == nil || c.open || c.node != "" {
		return ""
	}
	return c.User
}

// by is who gives a command: whoever the client says it is, where nobody knows.
func (c *caller) by(said string) string {
	if c.open {
		return said
	}
	return c.User
}

// warden says at the gate of the broker who may come in, and at the doors who asks.
type warden struct {
	store  *access.Store
	broker *broker.Broker // set before the first door opens
	record func(audit.Event)
	log    *slog.Logger

	mu    sync.Mutex
	known map[string]broker.Caller // what the broker wrote into requests
	lost  []uint64                 // connections that are to be cut
	loud  loudness
}

func newWarden(store *access.Store, record func(audit.Event), log *slog.Logger) *warden {
	return &warden{store: store, record: record, log: log, known: map[string]broker.Caller{}}
}

// label gives a node the labels of its invitation, whatever it says of itself: who may
// command nodes of some label only must be able to rely on them.
func (w *warden) label(id string, st *subjects.StatusMessage) {
	if w == nil {
		return
	}
	node, ok := w.store.Node(id)
	if !ok || len(node.Labels) == 0 {
		return
	}
	labels := maps.Clone(node.Labels)
	for key, value := range st.Labels {
		if _, given := labels[key]; !given {
			labels[key] = value
		}
	}
	st.Labels = labels
}

// protect notes who loses rights from now on, whose connections to a broker are then to
// be cut.
func (w *warden) protect(b *broker.Broker) {
	w.broker = b
	w.store.Watch(func(r access.Revoked) {
		lost := b.Guests(func(guest broker.Guest) bool { return concerns(r, guest) })
		w.mu.Lock()
		defer w.mu.Unlock()
		w.lost = append(w.lost, lost...)
	})
}

// admit is the broker's gate.
func (w *warden) admit(ctx context.Context, c broker.Credentials) (broker.Guest, error) {
	guest, err := w.guest(ctx, c)
	node, _ := nodeOfConn(c.Connection)
	if c.Key == "" {
		node = ""
	}
	if err != nil {
		w.mu.Lock()
		heard := w.loud.heard(c.From, time.Now())
		w.mu.Unlock()
		if !heard {
			return guest, err
		}
	}
	w.connected(cmp.Or(guest.Name, c.User), node, c.From, err)
	if err != nil {
		w.log.Warn("a client was not let in", "user", c.User, "connection", c.Connection, "from", c.From, "error", err)
	}
	return guest, err
}

func (w *warden) guest(ctx context.Context, c broker.Credentials) (broker.Guest, error) {
	if c.Key != "" {
		return w.nodeGuest(c)
	}
	var p access.Principal
	var err error
	if access.IsToken(c.Secret) {
		p, err = w.store.VerifyToken(c.Secret)
		if err == nil && c.User != "" && c.User != p.User {
			err = errors.New("the token is another user's")
		}
	} else if c.User == "" || c.Secret == "" {
		err = errors.New("nothing was shown") // which is no guess
	} else {
		p, err = w.store.Login(ctx, c.User, c.Secret, c.From)
	}
	if err != nil {
		return broker.Guest{}, err
	}
	return broker.Guest{Name: p.Name(), Inbox: subjects.UserInbox(p.Name()), Whole: p.May(access.Read) && p.Databases == nil, Until: p.Expires}, nil
}

// nodeGuest lets a node in that is enrolled, or has an invitation.
func (w *warden) nodeGuest(c broker.Credentials) (broker.Guest, error) {
	id, ok := nodeOfConn(c.Connection)
	if !ok {
		return broker.Guest{}, errors.New("with a key come nodes only, and the connection is not called like one")
	}
	node, known := w.store.NodeByKey(c.Key)
	if !known {
		var err error
		if node, err = w.store.Enrol(c.Secret, id, c.Key); err != nil {
			return broker.Guest{}, err
		}
		w.cut(nil) // whoever had the id
		w.log.Info("node enrolled", "node", id, "from", c.From)
		w.record(audit.Event{Who: "node " + id, From: c.From, Action: "node.enrol", Target: id, Outcome: audit.OK, Detail: "by invitation " + node.Invitation})
	}
	if node.ID != id {
		return broker.Guest{}, fmt.Errorf("the key is that of node %s", node.ID)
	}
	return broker.Guest{Node: node.ID}, nil
}

// cut cuts the connections of whoever has lost rights. Who did it may be one of them, and
// has been answered by way of doors.
func (w *warden) cut(doors *nats.Conn) {
	if w == nil {
		return
	}
	w.mu.Lock()
	lost := w.lost
	w.lost = nil
	w.mu.Unlock()
	if len(lost) == 0 {
		return
	}
	if doors != nil {
		if err := doors.Flush(); err != nil {
			w.log.Warn("cutting connections before all answers are sent", "error", err)
		}
	}
	w.broker.Disconnect(lost)
}

// concerns says whether what a guest came in by has been revoked.
func concerns(r access.Revoked, guest broker.Guest) bool {
	user, credential, _ := strings.Cut(guest.Name, "#")
	switch {
	case r.Node != "":
		return guest.Node == r.Node
	case r.Credential != "":
		return credential == r.Credential
	}
	return r.User != "" && user == r.User
}

// loudness bounds what those who are not let in make the master write down: with no
// secret at all they could push everything else out of the audit record.
type loudness struct {
	since time.Time
	by    map[string]int // how often in this minute, by address
}

// Refusals that are written down in a minute: of one address, and addresses.
const (
	refusalsOfOne = 10
	refusers      = 100
)

// heard says whether one more refusal of an address is written down.
func (l *loudness) heard(from string, now time.Time) bool {
	if now.Sub(l.since) >= time.Minute || l.by == nil {
		l.since, l.by = now, map[string]int{}
	}
	if l.by[from] >= refusalsOfOne || l.by[from] == 0 && len(l.by) >= refusers {
		return false
	}
	l.by[from]++
	return true
}

// panelUser is the name of the panel where it asks for itself. No user can be called so.
const panelUser = "(panel)"

// caller is who asks, by what the broker wrote into the request.
func (w *warden) caller(h micro.Headers) (*caller, *subjects.Error) {
	if w == nil {
		return &caller{open: true}, nil
	}
	is, err := w.read(h.Get(broker.CallerHeader))
	nobody := subjects.Errorf(subjects.CodeForbidden, "nobody who may ask does")
	switch {
	case err != nil, is.Service != "":
		return nil, nobody
	case is.Node() != "":
		if _, enrolled := w.store.Node(is.Node()); !enrolled {
			return nil, nobody // about to be cut off
		}
		return &caller{node: is.Node()}, nil
	case !is.User():
		return nil, nobody // an answer that somebody wanted to have here
	}
	c := &caller{from: is.From}
	name := is.Name
	if name == w.broker.Deputy() {
		name, c.from = h.Get(subjects.HeaderAs), h.Get(subjects.HeaderFrom)
		if name == "" {
			c.Principal = access.Principal{User: panelUser, Role: access.Viewer}
			return c, nil
		}
	}
	if c.Principal, err = w.store.Principal(name); err != nil {
		return nil, subjects.Errorf(subjects.CodeForbidden, "%v", err)
	}
	return c, nil
}

// maxKnown bounds the callers that are remembered by what the broker writes of them.
const maxKnown = 4096

// read decodes what the broker wrote. Most requests of a connection have the same.
func (w *warden) read(text string) (broker.Caller, error) {
	w.mu.Lock()
	is, known := w.known[text]
	w.mu.Unlock()
	if known {
		return is, nil
	}
	if err := json.Unmarshal([]byte(text), &is); err != nil {
		return is, fmt.Errorf("read who asks: %w", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.known) >= maxKnown {
		clear(w.known)
	}
	w.known[text] = is
	return is, nil
}
