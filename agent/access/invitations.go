package access

import (
	"fmt"
	"maps"
	"time"

	"github.com/snapdb/snapdb/subjects"
)

// Invitation lets nodes in.
type Invitation struct {
	ID      string            `json:"id"`
	Labels  map[string]string `json:"labels,omitempty"` // that its nodes get
	Uses    int               `json:"uses"`             // how many nodes it is for
	Used    int               `json:"used"`
	Replace string            `json:"replace,omitempty"` // the one node it is for, which may have another key
	Created time.Time         `json:"created"`
	Expires time.Time         `json:"expires"`
}

// Open says whether it still lets a node in.
func (i Invitation) Open(now time.Time) bool { return i.Used < i.Uses && now.Before(i.Expires) }

// invitation is what is kept of an invitation.
type invitation struct {
	Invitation
	Hash string `json:"hash"`
}

// keepsInvitations is how long one is still listed after it has expired.
const keepsInvitations = 7 * 24 * time.Hour

func (i invitation) id() string { return i.ID }

func (i invitation) check(*state) error {
	switch {
	case !isID(i.ID) || !isHash(i.Hash):
		return fmt.Errorf("invitation %q: %w: its id or hash", clip(i.ID), ErrInvalid)
	case i.Uses < 1 || i.Uses > maxNodes || i.Used < 0 || i.Used > i.Uses:
		return fmt.Errorf("uses of an invitation: %w: 1 to %d", ErrInvalid, maxNodes)
	case i.Expires.IsZero():
		return fmt.Errorf("invitation: %w: it must expire", ErrInvalid)
	}
	if i.Replace != "" {
		if err := subjects.CheckNodeID(i.Replace); err != nil {
			return fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		if i.Uses != 1 {
			return fmt.Errorf("uses of an invitation: %w: one that replaces a node is for that one", ErrInvalid)
		}
	}
	return checkLabels(i.Labels)
}

func checkLabels(labels map[string]string) error {
	if len(labels) > maxLabels {
		return fmt.Errorf("%w labels: at most %d", ErrTooMany, maxLabels)
	}
	for key, value := range labels {
		if err := subjects.CheckLabel(key, value); err != nil {
			return fmt.Errorf("%w: %w", ErrInvalid, err)
		}
	}
	return nil
}

func (i invitation) copy() Invitation {
	i.Labels = maps.Clone(i.Labels)
	return i.Invitation
}

// Invite makes an invitation out of Labels, Uses, Expires and Replace, and returns
// its secret, which is kept nowhere. With Replace it is for exactly that node,
// which may be enrolled already or revoked, and then loses its old key.
func (s *Store) Invite(terms Invitation) (secret string, _ Invitation, err error) {
	now := s.now()
	i := invitation{Invitation: Invitation{
		Labels: maps.Clone(terms.Labels), Uses: terms.Uses, Replace: terms.Replace, Created: now, Expires: terms.Expires.UTC().Round(0),
	}}
	if err := checkExpiry(terms.Expires, now); err != nil {
		return "", Invitation{}, err
	}
	err = s.update(func(st *state) ([]Revoked, error) {
		maps.DeleteFunc(st.invitations, func(_ string, i invitation) bool { return now.Sub(i.Expires) >= keepsInvitations })
		if len(st.invitations) >= maxInvitations {
			return nil, fmt.Errorf("%w invitations: at most %d: revoke one", ErrTooMany, maxInvitations)
		}
		secret, i.ID, i.Hash = newSecret(invitationKind, func(id string) bool { _, ok := st.invitations[id]; return ok })
		st.invitations[i.ID] = i
		return nil, i.check(st)
	})
	if err != nil {
		return "", Invitation{}, err
	}
	return secret, i.copy(), nil
}

// Invitations lists the invitations, for a week also those that have expired.
func (s *Store) Invitations() []Invitation {
	var list []Invitation
	for _, i := range inOrder(s.state.Load().invitations) {
		list = append(list, i.copy())
	}
	return list
}

// RevokeInvitation ends an invitation. The nodes that came in by it stay.
func (s *Store) RevokeInvitation(id string) error {
	return s.update(func(st *state) ([]Revoked, error) {
		if _, ok := st.invitations[id]; !ok {
			return nil, fmt.Errorf("%w invitation %q", ErrUnknown, clip(id))
		}
		delete(st.invitations, id)
		return nil, nil
	})
}

// Enrol lets a node in by an invitation: from now on the key speaks for it. The
// error is ErrInvitation, or ErrEnrolled for an id or key that another node has.
// A node that did not get the answer may ask again with the same id and key.
func (s *Store) Enrol(secret, nodeID, publicKey string) (Node, error) {
	id, key, ok := splitSecret(invitationKind, secret)
	if !ok {
		return Node{}, ErrInvitation
	}
	// Guesses are refused without the lock that changes wait for.
	if !sameKey(key, s.state.Load().invitations[id].Hash) {
		return Node{}, ErrInvitation
	}
	n := Node{ID: nodeID, Key: publicKey, Enrolled: s.now(), Invitation: id}
	err := s.update(func(st *state) ([]Revoked, error) {
		i, ok := st.invitations[id]
		if !ok {
			return nil, ErrInvitation
		}
		was, has := st.nodes[nodeID]
		if has && was.Invitation == id && was.Key == publicKey { // a revoked one has no invitation left
			n = was
			return nil, nil
		}
		if !i.Open(n.Enrolled) || i.Replace != "" && i.Replace != nodeID {
			return nil, ErrInvitation
		}
		if has && i.Replace != nodeID {
			return nil, fmt.Errorf("node %s: %w: to replace the machine, make an invitation for exactly this node", nodeID, ErrEnrolled)
		}
		i.Used++
		st.invitations[id] = i
		n.Labels = maps.Clone(i.Labels)
		return st.enrol(n)
	})
	if err != nil {
		return Node{}, err
	}
	return n.copy(), nil
}
