package access

import (
	"fmt"
	"maps"
	"regexp"
	"time"

	"github.com/snapdb/snapdb/subjects"
)

// Node is a machine that was let in, and the key that speaks for it.
type Node struct {
	ID         string            `json:"id"`
	Key        string            `json:"key"` // the public one
	Labels     map[string]string `json:"labels,omitempty"`
	Enrolled   time.Time         `json:"enrolled"`
	Invitation string            `json:"invitation"`       // by which it came in
	Rotated    time.Time         `json:"rotated,omitzero"` // when the key was last replaced by the node itself
	Revoked    time.Time         `json:"revoked,omitzero"` // zero: it is not
}

// keyForm is any usual text form of a key: which one is for the doors to say.
var keyForm = regexp.MustCompile(`^[A-Za-z0-9+/=_-]{16,128}$`)

func (n Node) id() string { return n.ID }

func (n Node) check(*state) error {
	if err := subjects.CheckNodeID(n.ID); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if !keyForm.MatchString(n.Key) {
		return fmt.Errorf("key of node %s: %w: %q", n.ID, ErrInvalid, clip(n.Key))
	}
	if !isID(n.Invitation) {
		return fmt.Errorf("node %s: %w: its invitation", n.ID, ErrInvalid)
	}
	return checkLabels(n.Labels)
}

func (n Node) copy() Node {
	n.Labels = maps.Clone(n.Labels)
	return n
}

// enrol puts a node in, in place of the one of that id.
func (st *state) enrol(n Node) (revoked []Revoked, err error) {
	was, has := st.nodes[n.ID]
	if !has && len(st.nodes) >= maxNodes {
		return nil, fmt.Errorf("%w nodes: at most %d", ErrTooMany, maxNodes)
	}
	if has {
		revoked = []Revoked{{Node: n.ID, Key: was.Key}}
	}
	return revoked, st.put(n)
}

// put keeps a node with its key, which no other may have or have had.
func (st *state) put(n Node) error {
	was := st.nodes[n.ID]
	if owner, ok := st.keys[n.Key]; ok && (owner != n.ID || !was.Revoked.IsZero()) {
		return fmt.Errorf("key of node %s: %w: make a new key", n.ID, ErrEnrolled)
	}
	delete(st.keys, was.Key)
	st.keys[n.Key] = n.ID
	st.nodes[n.ID] = n
	return n.check(st)
}

// Nodes lists the nodes by id, revoked ones too.
func (s *Store) Nodes() []Node {
	var list []Node
	for _, n := range inOrder(s.state.Load().nodes) {
		list = append(list, n.copy())
	}
	return list
}

// Node is the node of an id, if one is enrolled and has not been revoked.
func (s *Store) Node(id string) (Node, bool) {
	n, ok := s.state.Load().nodes[id]
	if !ok || !n.Revoked.IsZero() {
		return Node{}, false
	}
	return n.copy(), true
}

// NodeByKey is the node for which a key speaks, if any does.
func (s *Store) NodeByKey(publicKey string) (Node, bool) {
	st := s.state.Load()
	n, ok := st.nodes[st.keys[publicKey]]
	if !ok || !n.Revoked.IsZero() {
		return Node{}, false
	}
	return n.copy(), true
}

// RevokeNode ends the rights of a node, and the invitation by which it came in.
func (s *Store) RevokeNode(id string) error {
	return s.update(func(st *state) ([]Revoked, error) {
		n, ok := st.nodes[id]
		if !ok || !n.Revoked.IsZero() {
			return nil, fmt.Errorf("%w node %q", ErrUnknown, clip(id))
		}
		n.Revoked = s.now()
		st.nodes[id] = n
		delete(st.invitations, n.Invitation)
		return []Revoked{{Node: id, Key: n.Key}}, nil
	})
}

// RotateNodeKey replaces the key of a node. The old one, with which the node asks
// for it, speaks for nobody from then on.
func (s *Store) RotateNodeKey(oldKey, newKey string) error {
	return s.update(func(st *state) ([]Revoked, error) {
		n, ok := st.nodes[st.keys[oldKey]]
		if !ok || !n.Revoked.IsZero() {
			return nil, fmt.Errorf("%w node with this key", ErrUnknown)
		}
		if oldKey == newKey {
			return nil, fmt.Errorf("key of node %s: %w: it is the one that it has", n.ID, ErrInvalid)
		}
		n.Key, n.Rotated = newKey, s.now()
		return []Revoked{{Node: n.ID, Key: oldKey}}, st.put(n)
	})
}
