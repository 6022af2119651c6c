package access

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"strings"
)

// kind begins a secret, so that one made for one purpose is of no use for another
// and is recognised where it was leaked.
type kind string

const (
	tokenKind      kind = "snapdb_"
	sessionKind    kind = "snapdb-session_"
	invitationKind kind = "snapdb-invitation_"
)

const (
	idBytes  = 6
	keyBytes = 32
)

// IsToken says whether a secret looks like an API token, not like a password.
func IsToken(secret string) bool {
	_, _, ok := splitSecret(tokenKind, secret)
	return ok
}

// newSecret makes kind + id + "_" + 32 random bytes, and what is kept of it. A
// plain SHA-256 is enough for a key that nobody can guess.
func newSecret(k kind, taken func(id string) bool) (secret, id, hash string) {
	id = randomHex(idBytes)
	for taken(id) {
		id = randomHex(idBytes)
	}
	key := randomHex(keyBytes)
	return string(k) + id + "_" + key, id, hashKey(key)
}

// splitSecret is the id and the key of a secret. Only the exact form is taken.
func splitSecret(k kind, secret string) (id, key string, ok bool) {
	rest, ok := strings.CutPrefix(secret, string(k))
	if !ok || len(rest) != 2*idBytes+1+2*keyBytes || rest[2*idBytes] != '_' {
		return "", "", false
	}
	id, key = rest[:2*idBytes], rest[2*idBytes+1:]
	return id, key, isHex(id) && isHex(key)
}

// sameKey says whether a key is the one that was kept, in a time that does not
// depend on where they differ.
func sameKey(key, hash string) bool {
	return subtle.ConstantTimeCompare([]byte(hashKey(key)), []byte(hash)) == 1
}

func hashKey(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails: the process ends without randomness
	return hex.EncodeToString(b)
}

func isHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }

// isID says whether s can be the id of a token, session or invitation.
func isID(s string) bool { return len(s) == 2*idBytes && isHex(s) }

// isHash says whether s can be the kept hash of a key.
func isHash(s string) bool { return len(s) == 2*sha256.Size && isHex(s) }

// OneTimePassword is 100 random bits in a form that can be typed.
func OneTimePassword() string {
	text := strings.ToLower(rand.Text())
	return text[:5] + "-" + text[5:10] + "-" + text[10:15] + "-" + text[15:20]
}
