package access

import (
	"fmt"
	"time"
)

// Session is a browser in which a user has logged in.
type Session struct {
	ID       string    `json:"id"`
	User     string    `json:"user"`
	From     string    `json:"from"`  // where it was opened
	Agent    string    `json:"agent"` // as the browser calls itself
	Created  time.Time `json:"created"`
	LastUsed time.Time `json:"last_used"`
}

// session is what is kept of a session.
type session struct {
	Session
	Hash string `json:"hash"`
}

func (e session) id() string { return e.ID }

func (e session) check(st *state) error {
	if !isID(e.ID) || !isHash(e.Hash) {
		return fmt.Errorf("session %q: %w: its id or hash", clip(e.ID), ErrInvalid)
	}
	if _, ok := st.tokens[e.ID]; ok {
		return fmt.Errorf("session %s: %w token of this id", e.ID, ErrExists)
	}
	if _, err := st.user(e.User); err != nil {
		return fmt.Errorf("session %s: %w", e.ID, err)
	}
	return nil
}

// OpenSession opens a web session for who has just logged in with a password, and
// returns its secret, which is kept nowhere. A token opens none, since a session
// has all that the user has.
func (s *Store) OpenSession(p Principal, from, agent string) (secret string, err error) {
	if p.Credential != "" {
		return "", fmt.Errorf("web session: %w: log in with the password", ErrDenied)
	}
	now := s.now()
	e := session{Session: Session{User: p.User, From: plain(from), Agent: plain(agent), Created: now, LastUsed: now}}
	err = s.update(func(st *state) ([]Revoked, error) {
		if _, ok := st.users[p.User]; !ok {
			return nil, ErrDenied
		}
		revoked := s.makeRoom(st, p.User, now)
		secret, e.ID, e.Hash = newSecret(sessionKind, st.taken)
		st.sessions[e.ID] = e
		return revoked, e.check(st)
	})
	return shown(secret, err)
}

// makeRoom drops the sessions that are over, and of a user who has too many the
// one that was not used for longest.
func (s *Store) makeRoom(st *state, user string, now time.Time) (revoked []Revoked) {
	has, oldest := 0, session{}
	for id, e := range st.sessions {
		if s.over(e, now) {
			delete(st.sessions, id)
			continue
		}
		if e.User == user {
			has++
			if oldest.ID == "" || e.LastUsed.Before(oldest.LastUsed) {
				oldest = e
			}
		}
	}
	if has >= maxSessions {
		delete(st.sessions, oldest.ID)
		revoked = append(revoked, Revoked{Credential: oldest.ID})
	}
	return revoked
}

// over says whether a session has ended by itself.
func (s *Store) over(e session, now time.Time) bool {
	last := s.use.since(e.ID, e.LastUsed)
	return now.Sub(e.Created) >= s.opt.Lifetime || now.Sub(last) >= s.opt.Idle
}

// Session says whose web session this is. The error is ErrDenied, or ErrExpired
// for one that was right.
func (s *Store) Session(secret string) (Principal, error) {
	id, key, ok := splitSecret(sessionKind, secret)
	if !ok {
		return Principal{}, ErrDenied
	}
	st := s.state.Load()
	e := st.sessions[id]
	if !sameKey(key, e.Hash) {
		return Principal{}, ErrDenied
	}
	now := s.now()
	p, err := s.bySession(st, e, now)
	if err == nil {
		s.touch(id, now)
	}
	return p, err
}

func (s *Store) bySession(st *state, e session, now time.Time) (Principal, error) {
	if s.over(e, now) {
		return Principal{}, ErrExpired
	}
	p := st.users[e.User].principal()
	p.Credential, p.Expires = e.ID, e.Created.Add(s.opt.Lifetime)
	return p, nil
}

// Sessions lists the open web sessions of a user, of all users for "".
func (s *Store) Sessions(user string) []Session {
	var list []Session
	now := s.now()
	for _, e := range inOrder(s.state.Load().sessions) {
		if (user == "" || e.User == user) && !s.over(e, now) {
			e.LastUsed = s.use.since(e.ID, e.LastUsed)
			list = append(list, e.Session)
		}
	}
	return list
}

// CloseSession ends a web session.
func (s *Store) CloseSession(id string) error {
	return s.update(func(st *state) ([]Revoked, error) {
		if _, ok := st.sessions[id]; !ok {
			return nil, fmt.Errorf("%w session %q", ErrUnknown, clip(id))
		}
		delete(st.sessions, id)
		return []Revoked{{Credential: id}}, nil
	})
}
