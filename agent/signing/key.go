// Package signing keeps the keys with which a master signs what it says, and with
// which a node knows that the master has said it.
//
// What is signed, and how that looks on the wire, is package subjects' business; when
// something must be signed, and what becomes of what is not, is package agent's.
//
// # Keys follow each other
//
// A master has one [Key]. When it takes a new one it signs that with the old, and keeps
// the public half of the old one. A node has a [Ring]: the keys that it trusts, and those
// that have been succeeded. A key that has been succeeded is good for old messages of the
// log, which it has signed and which nobody signs again, and for nothing else: who finds
// it later can neither let nodes in nor command them.
package signing

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"sync"

	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// Signer signs with one key.
type Signer struct {
	ID      subjects.KeyID
	private ed25519.PrivateKey
}

func newSigner(private ed25519.PrivateKey) Signer {
	return Signer{ID: subjects.KeyIDOf(public(private)), private: private}
}

func public(private ed25519.PrivateKey) ed25519.PublicKey {
	return private.Public().(ed25519.PublicKey)
}

// Sign signs the Bytes of a Signed type of package subjects.
func (s Signer) Sign(message []byte) subjects.Signature {
	return subjects.Signature{Key: s.ID, Sig: [ed25519.SignatureSize]byte(ed25519.Sign(s.private, message))}
}

// Key is what a master signs with, kept in a file that only its user can read.
type Key struct {
	path string

	mu     sync.RWMutex
	signer Signer
	kept   keyFile
}

// keyFile is the file.
type keyFile struct {
	Seed        []byte                `json:"seed"` // of the private key, RFC 8032
	Since       uint64                `json:"since,omitempty"`
	Successions []subjects.Succession `json:"successions,omitempty"`
}

// OpenKey reads the key in a file, or makes one if there is no such file.
func OpenKey(path string) (*Key, error) {
	k := &Key{path: path}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		seed := make([]byte, ed25519.SeedSize)
		rand.Read(seed)
		return k, k.keep(keyFile{Seed: seed})
	}
	if err == nil {
		err = k.read(data)
	}
	if err != nil {
		return nil, fmt.Errorf("read signing key: %s: %w", path, err)
	}
	return k, nil
}

// read takes what the file has.
func (k *Key) read(data []byte) error {
	info, err := os.Stat(k.path)
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o077 != 0 && runtime.GOOS != "windows" {
		return fmt.Errorf("others than its owner may read it (%v): whoever has it can give orders to all nodes; make a new key, or chmod 600 the file if nobody can have read it", info.Mode().Perm())
	}
	var f keyFile
	if err := json.Unmarshal(data, &f); err != nil {
		return subjects.PlainJSON(data, err)
	}
	if len(f.Seed) != ed25519.SeedSize {
		return fmt.Errorf("the seed has %d bytes, not %d", len(f.Seed), ed25519.SeedSize)
	}
	signer := newSigner(ed25519.NewKeyFromSeed(f.Seed))
	next := []byte(public(signer.private))
	for _, s := range slices.Backward(f.Successions) {
		if !slices.Equal(s.New, next) || !follows(&s) {
			return errors.New("it does not say rightly which keys came before it")
		}
		next = s.Old
	}
	k.signer, k.kept = signer, f
	return nil
}

// keep makes f the key, in the file first.
func (k *Key) keep(f keyFile) error {
	data, err := json.Marshal(f)
	if err == nil {
		err = exec.WriteFile(k.path, append(data, '\n'))
	}
	if err != nil {
		return fmt.Errorf("keep signing key: %w", err)
	}
	k.signer, k.kept = newSigner(ed25519.NewKeyFromSeed(f.Seed)), f
	return nil
}

// Signer signs with the key as it is now.
func (k *Key) Signer() Signer {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.signer
}

// Public is what nodes must trust.
func (k *Key) Public() ed25519.PublicKey { return public(k.Signer().private) }

// Sign signs with the key as it is now.
func (k *Key) Sign(message []byte) subjects.Signature { return k.Signer().Sign(message) }

// Rotate takes a new key, which the old one signs. Nodes learn of it when they join.
func (k *Key) Rotate() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	seed := make([]byte, ed25519.SeedSize)
	rand.Read(seed)
	s := subjects.Succession{Old: public(k.signer.private), New: public(ed25519.NewKeyFromSeed(seed))}
	s.Sig = ed25519.Sign(k.signer.private, s.Bytes())
	return k.keep(keyFile{Seed: seed, Since: k.kept.Since, Successions: append(slices.Clone(k.kept.Successions), s)})
}

// Successions are how the key came to be the one that it is, oldest first.
func (k *Key) Successions() []subjects.Succession {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.kept.Successions
}

// Since is the position from which on every message of the log is signed, 0 while
// nothing is.
func (k *Key) Since() uint64 {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.kept.Since
}

// Begin notes the position from which on every message of the log is signed, unless that
// is noted already.
func (k *Key) Begin(position uint64) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.kept.Since != 0 {
		return nil
	}
	f := k.kept
	f.Since = position
	return k.keep(f)
}

// Verify says whether the master that has this key has signed a message, with this key or
// one before it.
func (k *Key) Verify(sig subjects.Signature, message []byte) error {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if own := public(k.signer.private); sig.Key == k.signer.ID {
		return verify(own, sig, message)
	}
	for _, s := range k.kept.Successions {
		if subjects.KeyIDOf(s.Old) == sig.Key {
			return verify(s.Old, sig, message)
		}
	}
	return unknown(sig)
}
