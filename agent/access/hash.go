package access

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
)

// Costs are the parameters of argon2id.
type Costs struct {
	MemoryKiB uint32
	Time      uint32
	Threads   uint8
}

// DefaultCosts are the least that the OWASP Password Storage Cheat Sheet asks of
// argon2id: 19 MiB, two passes, one lane. The 64 MiB and four lanes of RFC 9106's
// second recommendation would be too much beside a database on a small machine.
var DefaultCosts = Costs{MemoryKiB: 19 * 1024, Time: 2, Threads: 1}

const (
	saltBytes = 16
	hashBytes = 32
)

// Limits of what a file may demand of this process.
const (
	maxMemoryKiB = 1 << 20
	maxPasses    = 64
)

func (c Costs) valid() bool {
	return c.Time >= 1 && c.Time <= maxPasses && c.Threads >= 1 && c.MemoryKiB >= 8*uint32(c.Threads) && c.MemoryKiB <= maxMemoryKiB
}

// passwordHash is a hashed password with all that is needed to compare.
type passwordHash struct {
	costs     Costs
	salt, sum []byte
}

// hashing runs at most two hashes at a time, and at most one for addresses that
// are strange to the account: a flood of those does not hold up the others.
type hashing struct {
	all, strangers chan struct{}
}

func newHashing() hashing {
	return hashing{all: make(chan struct{}, 2), strangers: make(chan struct{}, 1)}
}

// do runs fn when there is room.
func (h hashing) do(ctx context.Context, strange bool, fn func()) error {
	if strange {
		if err := take(ctx, h.strangers); err != nil {
			return err
		}
		defer func() { <-h.strangers }()
	}
	if err := take(ctx, h.all); err != nil {
		return err
	}
	defer func() { <-h.all }()
	fn()
	return nil
}

func take(ctx context.Context, room chan struct{}) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("wait to check a password: %w", err)
	}
	select {
	case room <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait to check a password: %w", ctx.Err())
	}
}

func hashPassword(costs Costs, password string) passwordHash {
	salt := make([]byte, saltBytes)
	rand.Read(salt) // never fails: the process ends without randomness
	h := passwordHash{costs: costs, salt: salt}
	h.sum = h.derive(password)
	return h
}

func (h passwordHash) derive(password string) []byte {
	return argon2.IDKey([]byte(password), h.salt, h.costs.Time, h.costs.MemoryKiB, h.costs.Threads, hashBytes)
}

func (h passwordHash) matches(password string) bool {
	return subtle.ConstantTimeCompare(h.derive(password), h.sum) == 1
}

// MarshalText writes the string format of the Password Hashing Competition.
func (h passwordHash) MarshalText() ([]byte, error) {
	return fmt.Appendf(nil, "$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, h.costs.MemoryKiB, h.costs.Time, h.costs.Threads,
		base64.RawStdEncoding.EncodeToString(h.salt), base64.RawStdEncoding.EncodeToString(h.sum)), nil
}

// UnmarshalText reads what MarshalText writes, and nothing else.
func (h *passwordHash) UnmarshalText(text []byte) error {
	parts := strings.Split(string(text), "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != "v="+strconv.Itoa(argon2.Version) {
		return fmt.Errorf("hash of a password: %w: not argon2id of version %d", ErrInvalid, argon2.Version)
	}
	var read passwordHash
	c := &read.costs
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &c.MemoryKiB, &c.Time, &c.Threads); err != nil || !c.valid() {
		return fmt.Errorf("hash of a password: %w: parameters %q", ErrInvalid, clip(parts[3]))
	}
	var err error
	if read.salt, err = base64.RawStdEncoding.DecodeString(parts[4]); err != nil || len(read.salt) != saltBytes {
		return fmt.Errorf("hash of a password: %w: its salt", ErrInvalid)
	}
	if read.sum, err = base64.RawStdEncoding.DecodeString(parts[5]); err != nil || len(read.sum) != hashBytes {
		return fmt.Errorf("hash of a password: %w: its sum", ErrInvalid)
	}
	if again, _ := read.MarshalText(); string(again) != string(text) {
		return fmt.Errorf("hash of a password: %w: not in its one form", ErrInvalid)
	}
	*h = read
	return nil
}
