package signing

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sync"

	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// Why a signature is not accepted.
var (
	// ErrUnsigned: there is none.
	ErrUnsigned = errors.New("it is not signed")
	// ErrUnknownKey: it was made with a key that is not trusted.
	ErrUnknownKey = errors.New("it is signed with a key that is not trusted here")
	// ErrForged: it is not one of what is said to be signed.
	ErrForged = errors.New("its signature is wrong: it was changed, or somebody else has made it")
)

// maxSuccessions is how many keys may follow each other.
const maxSuccessions = 1000

// follows says whether a succession is signed by the key that it ends.
func follows(s *subjects.Succession) bool {
	return len(s.Old) == ed25519.PublicKeySize && len(s.New) == ed25519.PublicKeySize && !slices.Equal(s.Old, s.New) &&
		ed25519.Verify(s.Old, s.Bytes(), s.Sig)
}

func verify(key ed25519.PublicKey, sig subjects.Signature, message []byte) error {
	if !ed25519.Verify(key, message, sig.Sig[:]) {
		return ErrForged
	}
	return nil
}

func unknown(sig subjects.Signature) error {
	if sig == (subjects.Signature{}) {
		return ErrUnsigned
	}
	return fmt.Errorf("%w (%s)", ErrUnknownKey, sig.Key)
}

// keys are public keys by their names.
type keys map[subjects.KeyID]ed25519.PublicKey

func (k keys) add(key ed25519.PublicKey) { k[subjects.KeyIDOf(key)] = key }

// Ring are the keys that a node trusts, kept in a file.
type Ring struct {
	path string

	mu      sync.RWMutex
	trusted keys
	past    keys // have been succeeded
}

// ringFile is the file.
type ringFile struct {
	Trusted []ed25519.PublicKey `json:"trusted"`
	Past    []ed25519.PublicKey `json:"past,omitempty"`
}

// OpenRing reads the keys in a file, which need not exist, and adds those of trust. A key
// that is known to have been succeeded is not trusted again by being named in trust: a
// command line outlives keys.
func OpenRing(path string, trust []ed25519.PublicKey) (*Ring, error) {
	r := &Ring{path: path, trusted: keys{}, past: keys{}}
	data, err := os.ReadFile(path)
	if err == nil {
		err = r.read(data)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read trusted keys: %s: %w", path, err)
	}
	known := len(r.trusted)
	for _, key := range trust {
		if len(key) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("a key to trust has %d bytes, not %d", len(key), ed25519.PublicKeySize)
		}
		if r.past[subjects.KeyIDOf(key)] == nil {
			r.trusted.add(key)
		}
	}
	if len(r.trusted) == known {
		return r, nil
	}
	return r, r.write()
}

func (r *Ring) read(data []byte) error {
	var f ringFile
	if err := json.Unmarshal(data, &f); err != nil {
		return subjects.PlainJSON(data, err)
	}
	for _, key := range slices.Concat(f.Trusted, f.Past) {
		if len(key) != ed25519.PublicKeySize {
			return fmt.Errorf("a key has %d bytes, not %d", len(key), ed25519.PublicKeySize)
		}
	}
	if len(f.Trusted) == 0 {
		return errors.New("it has no key: nothing could be trusted")
	}
	for _, key := range f.Trusted {
		r.trusted.add(key)
	}
	for _, key := range f.Past {
		r.past.add(key)
	}
	return nil
}

func (r *Ring) write() error {
	var f ringFile
	for _, id := range slices.SortedFunc(maps.Keys(r.trusted), compareIDs) {
		f.Trusted = append(f.Trusted, r.trusted[id])
	}
	for _, id := range slices.SortedFunc(maps.Keys(r.past), compareIDs) {
		f.Past = append(f.Past, r.past[id])
	}
	data, err := json.Marshal(f)
	if err == nil {
		err = exec.WriteFile(r.path, append(data, '\n'))
	}
	if err != nil {
		return fmt.Errorf("keep trusted keys: %w", err)
	}
	return nil
}

func compareIDs(a, b subjects.KeyID) int { return slices.Compare(a[:], b[:]) }

// Empty says that nobody is trusted: signatures are not asked for.
func (r *Ring) Empty() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.trusted) == 0
}

// Verify says whether a trusted key has signed a message. The error wraps one of the
// above.
func (r *Ring) Verify(sig subjects.Signature, message []byte) error {
	r.mu.RLock()
	key := r.trusted[sig.Key]
	r.mu.RUnlock()
	if key == nil {
		return unknown(sig)
	}
	return verify(key, sig, message)
}

// VerifyPast is Verify for what may have been signed long ago, by a key that has been
// succeeded.
func (r *Ring) VerifyPast(sig subjects.Signature, message []byte) error {
	r.mu.RLock()
	key := r.trusted[sig.Key]
	if key == nil {
		key = r.past[sig.Key]
	}
	r.mu.RUnlock()
	if key == nil {
		return unknown(sig)
	}
	return verify(key, sig, message)
}

// Admit is Verify for the answer to a join, and learns from it: successions lead from the
// keys that are trusted to the one that has signed the answer, which is trusted from then
// on, in their place; and they name those that have signed what came before.
func (r *Ring) Admit(sig subjects.Signature, message []byte, successions []subjects.Succession) error {
	if len(successions) > maxSuccessions {
		return fmt.Errorf("%d keys are said to have followed each other, at most %d are looked at", len(successions), maxSuccessions)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	next := &Ring{path: r.path, trusted: maps.Clone(r.trusted), past: maps.Clone(r.past)}
	for i := range successions {
		s := &successions[i]
		if old := subjects.KeyIDOf(s.Old); next.trusted[old] != nil && next.past[subjects.KeyIDOf(s.New)] == nil && follows(s) {
			delete(next.trusted, old)
			next.past.add(s.Old)
			next.trusted.add(s.New)
		}
	}
	key := next.trusted[sig.Key]
	if key == nil {
		return unknown(sig)
	}
	if err := verify(key, sig, message); err != nil {
		return err
	}
	for _, s := range successions { // whoever has signed the answer says so
		if id := subjects.KeyIDOf(s.Old); len(s.Old) == ed25519.PublicKeySize && next.trusted[id] == nil {
			next.past.add(s.Old)
		}
	}
	if len(next.past) == len(r.past) && maps.EqualFunc(next.trusted, r.trusted, slices.Equal) {
		return nil
	}
	if err := next.write(); err != nil {
		return err
	}
	r.trusted, r.past = next.trusted, next.past
	return nil
}
