package access

import (
	"container/list"
	"sync"
	"time"
)

const (
	freeFailures = 5 // before there is any wait
	firstWait    = time.Second
	longestWait  = 5 * time.Minute
	forgetsAfter = time.Hour // of quiet
	keepsTurn    = 5 * time.Minute
	maxTallies   = 4096 // of each of the three sorts
)

// throttle counts wrong passwords. An attempt from an address that the account
// knows is counted for this pair alone. Any other is counted for its account and
// for its address, both of which must let it pass; and it is given a turn, so that
// the wait it was told ends however many others fail in the meantime. An attempt
// counts as a failure from when it begins, or many at once would all be looked at.
type throttle struct {
	mu        sync.Mutex
	accounts  recent
	addresses recent
	pairs     recent
}

func newThrottle() *throttle {
	return &throttle{accounts: newRecent(), addresses: newRecent(), pairs: newRecent()}
}

// tally is the failures of one account, address or pair.
type tally struct {
	key      string
	failures int
	last     time.Time // of the failures
	turn     time.Time // of a pair: when its account lets it pass in any case; zero: none
}

// wait is how long an attempt has to wait now.
func (t *tally) wait(now time.Time) time.Duration {
	if now.Sub(t.last) >= forgetsAfter {
		t.failures = 0
	}
	if t.failures < freeFailures {
		return 0
	}
	wait := longestWait
	if doubled := t.failures - freeFailures; doubled < 16 {
		wait = min(wait, firstWait<<doubled)
	}
	return max(0, min(wait, t.last.Add(wait).Sub(now))) // a clock set back makes nobody wait longer
}

func (t *tally) fail(now time.Time) {
	t.failures++
	t.last = now
}

// attempt is one that is being looked at.
type attempt struct {
	t       *throttle
	tallies []*tally
	known   bool
}

// begin says how long to wait, or counts the attempt.
func (t *throttle) begin(now time.Time, name, address string, strange bool) (attempt, time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	pair := name + " " + address
	if !strange {
		known := t.pairs.get(pair)
		if wait := known.wait(now); wait > 0 {
			return attempt{}, wait
		}
		known.fail(now)
		return attempt{t, []*tally{known}, true}, 0
	}
	from := t.addresses.get(address)
	if wait := from.wait(now); wait > 0 {
		return attempt{}, wait
	}
	counted := []*tally{from}
	if userName.MatchString(name) { // others exist nowhere, and would fill the memory
		account := t.accounts.get(name)
		if wait := account.wait(now); wait > 0 {
			if wait = t.pairs.get(pair).waitForTurn(now, wait); wait > 0 {
				return attempt{}, wait
			}
		}
		counted = append(counted, account)
	}
	for _, c := range counted {
		c.fail(now)
	}
	return attempt{t, counted, false}, 0
}

// waitForTurn gives a pair its turn after a wait, or takes it when it has come.
func (t *tally) waitForTurn(now time.Time, wait time.Duration) time.Duration {
	if t.turn.IsZero() || now.Sub(t.turn) >= keepsTurn || t.turn.Sub(now) > longestWait {
		t.turn = now.Add(wait)
	}
	if left := t.turn.Sub(now); left > 0 {
		return left
	}
	t.turn = time.Time{}
	return 0
}

// withdraw takes back that the attempt was counted.
func (a attempt) withdraw() {
	a.t.mu.Lock()
	defer a.t.mu.Unlock()
	for _, c := range a.tallies {
		c.failures = max(0, c.failures-1)
	}
}

// succeeded was the attempt. It clears what a known address failed before. The
// failures of others stay: one who has an account of his own must not be able to
// clear his address by it.
func (a attempt) succeeded() {
	if !a.known {
		a.withdraw()
		return
	}
	a.t.mu.Lock()
	defer a.t.mu.Unlock()
	for _, c := range a.tallies {
		c.failures = 0
	}
}

// recent keeps the tallies that were last asked for.
type recent struct {
	byKey map[string]*list.Element
	order *list.List // the latest first
}

func newRecent() recent { return recent{map[string]*list.Element{}, list.New()} }

func (r *recent) get(key string) *tally {
	if e, ok := r.byKey[key]; ok {
		r.order.MoveToFront(e)
		return e.Value.(*tally)
	}
	if r.order.Len() >= maxTallies {
		oldest := r.order.Remove(r.order.Back()).(*tally)
		delete(r.byKey, oldest.key)
	}
	t := &tally{key: key}
	r.byKey[key] = r.order.PushFront(t)
	return t
}
