// Package signing keeps the keys with which a master signs what it says, and with
// which a node knows that the master has said it.
//
// What is signed, and how that looks on the wire, is package subjects' business; when
// something must be signed, and what becomes of what is not, is package agent's.
//
// # Keys follow each other
//
// A master has one [Key]. A new one is signed with the old, whose public half is kept. A node has a [Ring]: the keys that it trusts, and those
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

	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// Key is what a master signs with, kept in a file that only its user can read.
type Key struct {
	path    string
	id      subjects.KeyID
	private ed25519.PrivateKey
	kept    keyFile
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
		return k, k.keep(keyFile{Seed: newSeed()})
	}
	if err == nil {
		err = k.read(data)
	}
	if err != nil {
		return nil, fmt.Errorf("read signing key: %s: %w", path, err)
	}
	return k, nil
}

func newSeed() []byte {
	seed := make([]byte, ed25519.SeedSize)
	rand.Read(seed)
	return seed
}

// public is the public half of the key that a seed makes.
func public(seed []byte) ed25519.PublicKey {
	return ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
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
	next := []byte(public(f.Seed))
	for _, s := range slices.Backward(f.Successions) {
		if !slices.Equal(s.New, next) || !follows(&s) {
			return errors.New("it does not say rightly which keys came before it")
		}
		next = s.Old
	}
	k.use(f)
	return nil
}

func (k *Key) use(f keyFile) {
	k.id, k.private, k.kept = subjects.KeyIDOf(public(f.Seed)), ed25519.NewKeyFromSeed(f.Seed), f
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
	k.use(f)
	return nil
}

// Rotate puts a new key in a file, signed by the one that was there. A master takes it
// when it starts, and nodes learn of it when they join that. It is what nodes that are
// enrolled from now on must trust.
func Rotate(path string) (ed25519.PublicKey, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("find the signing key that is to be succeeded: %w", err)
	}
	k, err := OpenKey(path)
	if err != nil {
		return nil, err
	}
	f := keyFile{Seed: newSeed(), Since: k.kept.Since}
	s := subjects.Succession{Old: k.Public(), New: public(f.Seed)}
	s.Sig = ed25519.Sign(k.private, s.Bytes())
	f.Successions = append(k.kept.Successions, s)
	err = k.keep(f)
	return k.Public(), err
}

// ID is the name of the public half.
func (k *Key) ID() subjects.KeyID { return k.id }

// Public is what nodes must trust.
func (k *Key) Public() ed25519.PublicKey { return k.private.Public().(ed25519.PublicKey) }

// Sign signs the Bytes of a Signed type of package subjects.
func (k *Key) Sign(message []byte) subjects.Signature {
	return subjects.Signature{Key: k.id, Sig: [ed25519.SignatureSize]byte(ed25519.Sign(k.private, message))}
}

// Successions are how the key came to be the one that it is, oldest first.
func (k *Key) Successions() []subjects.Succession { return k.kept.Successions }

// Since is the position after which every message of the log is signed, 0 while nothing
// is.
func (k *Key) Since() uint64 { return k.kept.Since }

// Begin notes the position after which every message of the log is signed, unless that is
// noted already. Nobody else may use the key meanwhile.
func (k *Key) Begin(position uint64) error {
	if k.kept.Since != 0 {
		return nil
	}
	f := k.kept
	f.Since = position
	return k.keep(f)
}

// Verify says whether the master that has this key has signed a message, with this key or
// one before it. The error wraps those of [Ring.Verify].
func (k *Key) Verify(sig subjects.Signature, message []byte) error {
	if sig.Key == k.id {
		return verify(k.Public(), sig, message)
	}
	for _, s := range k.kept.Successions {
		if subjects.KeyIDOf(s.Old) == sig.Key {
			return verify(s.Old, sig, message)
		}
	}
	return unknown(sig)
}
