package access

import (
	"fmt"
	"slices"
	"time"
)

// Token is a key by which a program acts as a user.
type Token struct {
	ID        string    `json:"id"`
	User      string    `json:"user"`
	Label     string    `json:"label"`
	Scope     Role      `json:"scope"`     // it has no higher role, whatever the user has
	Databases []string  `json:"databases"` // nil: all that the user has
	Created   time.Time `json:"created"`
	Expires   time.Time `json:"expires,omitzero"` // zero: never
	LastUsed  time.Time `json:"last_used,omitzero"`
}

// token is what is kept of a token.
type token struct {
	Token
	Hash string `json:"hash"`
}

func (t token) id() string { return t.ID }

func (t token) check(st *state) error {
	if !isID(t.ID) || !isHash(t.Hash) {
		return fmt.Errorf("token %q: %w: its id or hash", clip(t.ID), ErrInvalid)
	}
	if _, err := st.user(t.User); err != nil {
		return fmt.Errorf("token %s: %w", t.ID, err)
	}
	if !t.Scope.valid() {
		return fmt.Errorf("token %s: its scope: %w", t.ID, ErrInvalid)
	}
	if t.Scope == Admin && t.Databases != nil {
		return fmt.Errorf("token: %w: an admin could lift a limit to databases: leave it away, or give the scope operator", ErrInvalid)
	}
	if err := checkPlain("label of a token", t.Label); err != nil {
		return err
	}
	return checkDatabases(t.Databases)
}

// MakeToken makes a token of a user and returns its secret, which is kept nowhere.
// It cannot be made for more than the user may do now, and never may more than the
// user may do later.
func (s *Store) MakeToken(user, label string, scope Role, databases []string, expires time.Time) (secret string, _ Token, err error) {
	now := s.now()
	t := token{Token: Token{User: user, Label: label, Scope: scope, Databases: slices.Clone(databases), Created: now, Expires: expires.UTC().Round(0)}}
	if err := checkExpiry(expires, now); err != nil {
		return "", Token{}, err
	}
	err = s.update(func(st *state) ([]Revoked, error) {
		u, err := st.user(user)
		if err != nil {
			return nil, err
		}
		if scope > u.Role {
			return nil, fmt.Errorf("scope %s: %w: %s has the role %s", scope, ErrInvalid, user, u.Role)
		}
		for _, db := range databases {
			if u.Databases != nil && !hasDatabase(u.Databases, db) {
				return nil, fmt.Errorf("database %s: %w: %s does not have it", clip(db), ErrInvalid, user)
			}
		}
		if count(st.tokens, func(t token) bool { return t.User == user }) >= maxTokens {
			return nil, fmt.Errorf("%w tokens of %s: at most %d: revoke one", ErrTooMany, user, maxTokens)
		}
		secret, t.ID, t.Hash = newSecret(tokenKind, st.taken)
		st.tokens[t.ID] = t
		return nil, t.check(st)
	})
	if err != nil {
		return "", Token{}, err
	}
	return secret, t.copy(), nil
}

// taken says whether a token or session has an id: names tell them not apart.
func (st *state) taken(id string) bool {
	_, token := st.tokens[id]
	_, session := st.sessions[id]
	return token || session
}

func count[E any](m map[string]E, is func(E) bool) (n int) {
	for _, e := range m {
		if is(e) {
			n++
		}
	}
	return n
}

func (t token) copy() Token {
	t.Databases = slices.Clone(t.Databases)
	return t.Token
}

// VerifyToken says whose token this is. The error is ErrDenied, or ErrExpired for
// one that was right.
func (s *Store) VerifyToken(secret string) (Principal, error) {
	id, key, ok := splitSecret(tokenKind, secret)
	if !ok {
		return Principal{}, ErrDenied
	}
	st := s.state.Load()
	t := st.tokens[id]
	if !sameKey(key, t.Hash) {
		return Principal{}, ErrDenied
	}
	now := s.now()
	p, err := s.byToken(st, t, now)
	if err == nil {
		s.touch(id, now)
	}
	return p, err
}

func (s *Store) byToken(st *state, t token, now time.Time) (Principal, error) {
	if !t.Expires.IsZero() && !now.Before(t.Expires) {
		return Principal{}, ErrExpired
	}
	p := st.users[t.User].principal()
	p.Credential, p.Expires = t.ID, t.Expires
	p.Role = min(p.Role, t.Scope)
	p.Databases = intersect(p.Databases, t.Databases)
	return p, nil
}

// Tokens lists the tokens of a user, of all users for "", expired ones too.
func (s *Store) Tokens(user string) []Token {
	var list []Token
	for _, t := range inOrder(s.state.Load().tokens) {
		if user == "" || t.User == user {
			t.LastUsed = s.use.since(t.ID, t.LastUsed)
			list = append(list, t.copy())
		}
	}
	return list
}

// RevokeToken ends a token.
func (s *Store) RevokeToken(id string) error {
	return s.update(func(st *state) ([]Revoked, error) {
		if _, ok := st.tokens[id]; !ok {
			return nil, fmt.Errorf("%w token %q", ErrUnknown, clip(id))
		}
		delete(st.tokens, id)
		return []Revoked{{Credential: id}}, nil
	})
}
