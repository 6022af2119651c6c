package access

import (
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Limits of what is kept.
const (
	maxUsers       = 1000
	maxDatabases   = 256
	maxTokens      = 100 // of one user
	maxSessions    = 32  // of one user: the one unused for longest makes room
	maxInvitations = 1000
	maxNodes       = 10_000
	maxLabels      = 64
)

// savesUse is how often at most times of use are saved for their own sake.
const savesUse = time.Minute

// Options are what a Store can be told; the zero value is right for a master.
type Options struct {
	Now      func() time.Time // time.Now
	Costs    Costs            // of hashing passwords: DefaultCosts
	Idle     time.Duration    // a web session unused for so long ends: 12 hours
	Lifetime time.Duration    // a web session so old ends: 7 days
}

// Revoked is what lost rights, or has others from now on: whoever keeps its
// connections cuts them. Exactly one of User, Credential and Node is set.
type Revoked struct {
	User       string // all that this user has, whatever the credential
	Credential string // one token or web session, by id
	Node       string // what this node is connected with by Key
	Key        string
}

// Store is who may do what in a cluster. All of its methods may be called from any
// goroutine. The folder is used by one Store at a time; the master's data folder,
// which is locked, is.
type Store struct {
	dir      string
	opt      Options
	unknown  passwordHash // of a password that nobody has
	hashing  hashing
	throttle *throttle
	use      use

	change   sync.Mutex // held by who makes the next state
	state    atomic.Pointer[state]
	watchers []func(Revoked) // under change
}

// use is when tokens and sessions were used since that was saved.
type use struct {
	mu    sync.Mutex
	last  map[string]time.Time
	saved time.Time
}

// Open reads the users and rights in a folder, the file access.json. A folder
// without it has none: see [Store.Bootstrap].
func Open(dir string, opt Options) (*Store, error) {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Costs == (Costs{}) {
		opt.Costs = DefaultCosts
	}
	if opt.Idle == 0 {
		opt.Idle = 12 * time.Hour
	}
	if opt.Lifetime == 0 {
		opt.Lifetime = 7 * 24 * time.Hour
	}
	if !opt.Costs.valid() {
		return nil, fmt.Errorf("costs of hashing passwords: %w: %+v", ErrInvalid, opt.Costs)
	}
	st, err := readFile(dir)
	if err != nil {
		return nil, err
	}
	s := &Store{
		dir: dir, opt: opt,
		unknown:  hashPassword(opt.Costs, OneTimePassword()),
		hashing:  newHashing(),
		throttle: newThrottle(),
		use:      use{last: map[string]time.Time{}},
	}
	s.state.Store(st)
	return s, nil
}

// Close saves when tokens and sessions were last used.
func (s *Store) Close() error {
	if len(s.use.copy()) == 0 {
		return nil
	}
	return s.update(func(*state) ([]Revoked, error) { return nil, nil })
}

// Watch has fn told of everything that loses rights, once that is durable and in
// force. It is called by the goroutine that made the change, which waits for it,
// and may ask the store. Who keeps connections notes a new one first and asks for
// its rights then: so none is missed that is revoked in between.
func (s *Store) Watch(fn func(Revoked)) {
	s.change.Lock()
	defer s.change.Unlock()
	s.watchers = append(s.watchers, fn)
}

// update makes the next state out of a copy of this one. It is in force when it is
// on stable storage, and what fn says to be revoked is told then; an error leaves
// everything as it was. When it is not known whether the file was written, the next
// change writes it as it should be.
func (s *Store) update(fn func(*state) ([]Revoked, error)) error {
	revoked, watchers, err := s.replace(fn)
	if err != nil {
		return err
	}
	for _, r := range revoked {
		for _, tell := range watchers {
			tell(r)
		}
	}
	return nil
}

func (s *Store) replace(fn func(*state) ([]Revoked, error)) ([]Revoked, []func(Revoked), error) {
	s.change.Lock()
	defer s.change.Unlock()
	next := s.state.Load().clone()
	used := s.use.copy()
	next.note(used)
	revoked, err := fn(next)
	if err == nil {
		err = writeFile(s.dir, next)
	}
	if err != nil {
		return nil, nil, err
	}
	s.state.Store(next)
	s.use.forget(used, s.now())
	return revoked, s.watchers[:len(s.watchers):len(s.watchers)], nil
}

// now is the time in the form in which it is read again.
func (s *Store) now() time.Time { return s.opt.Now().UTC().Round(0) }

// touch notes that a token or session was used. That this cannot be saved is no
// reason to refuse anybody: whoever changes something next is told.
func (s *Store) touch(id string, now time.Time) {
	if s.use.note(id, now) {
		_ = s.update(func(*state) ([]Revoked, error) { return nil, nil })
	}
}

// note says whether it is time to save.
func (u *use) note(id string, now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if now.After(u.last[id]) {
		u.last[id] = now
	}
	due := now.Sub(u.saved) >= savesUse
	if due {
		u.saved = now
	}
	return due
}

func (u *use) copy() map[string]time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	return maps.Clone(u.last)
}

// since is the later of a saved time of use and the one that is not saved yet.
func (u *use) since(id string, saved time.Time) time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	if last := u.last[id]; last.After(saved) {
		return last
	}
	return saved
}

// forget drops what was saved at a time.
func (u *use) forget(saved map[string]time.Time, now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for id, at := range saved {
		if u.last[id].Equal(at) {
			delete(u.last, id)
		}
	}
	u.saved = now
}

func (st *state) clone() *state {
	return &state{
		users:       maps.Clone(st.users),
		tokens:      maps.Clone(st.tokens),
		sessions:    maps.Clone(st.sessions),
		invitations: maps.Clone(st.invitations),
		nodes:       maps.Clone(st.nodes),
		keys:        maps.Clone(st.keys),
	}
}

// note takes over times of use. What was used may be gone since.
func (st *state) note(used map[string]time.Time) {
	for id, at := range used {
		if t, ok := st.tokens[id]; ok && at.After(t.LastUsed) {
			t.LastUsed = at
			st.tokens[id] = t
		}
		if e, ok := st.sessions[id]; ok && at.After(e.LastUsed) {
			e.LastUsed = at
			st.sessions[id] = e
		}
	}
}

// Principal is the present rights of somebody by the name of [Principal.Name],
// which a door has from who checked the credential: it asks for no secret.
func (s *Store) Principal(name string) (Principal, error) { return s.named(name, true) }

// Look is Principal for who only looks whether somebody is still there: it does not
// count as a use of the token or session.
func (s *Store) Look(name string) (Principal, error) { return s.named(name, false) }

func (s *Store) named(name string, used bool) (p Principal, err error) {
	st, now := s.state.Load(), s.now()
	user, credential, has := strings.Cut(name, "#")
	u, ok := st.users[user]
	if !ok {
		return Principal{}, ErrDenied
	}
	if !has {
		return u.principal(), nil
	}
	if t, ok := st.tokens[credential]; ok && t.User == user {
		p, err = s.byToken(st, t, now)
	} else if e, ok := st.sessions[credential]; ok && e.User == user {
		p, err = s.bySession(st, e, now)
	} else {
		err = ErrDenied
	}
	if err == nil && used {
		s.touch(credential, now)
	}
	return p, err
}
