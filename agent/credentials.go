package agent

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/snapdb/snapdb/broker/pki"
	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// Token is what a new node is given to join a secured cluster.
type Token struct {
	// Secret is that of the invitation.
	Secret string
	// Pin is the fingerprint of the authority that certifies the master, "" if that is
	// one which the system knows.
	Pin string
	// Key is the public half of what the master signs with.
	Key ed25519.PublicKey
}

// String is the token as people pass it on: the parts with dots between.
func (t Token) String() string {
	pin := strings.TrimPrefix(t.Pin, pinKind)
	return t.Secret + "." + pin + "." + base64.RawURLEncoding.EncodeToString(t.Key)
}

// pinKind begins a fingerprint as it is written elsewhere.
const pinKind = "sha256:"

// ErrToken is returned for a text that is no token.
var ErrToken = errors.New("not a token as snapdb node invite prints it")

// ParseToken reads a token. The error wraps ErrToken, and shows nothing of the text.
func ParseToken(text string) (Token, error) {
	parts := strings.Split(strings.TrimSpace(text), ".")
	if len(parts) != 3 || parts[0] == "" {
		return Token{}, fmt.Errorf("%w: it has three parts with dots between", ErrToken)
	}
	t := Token{Secret: parts[0]}
	key, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || len(key) != ed25519.PublicKeySize {
		return Token{}, fmt.Errorf("%w: its end is no key; was it cut off?", ErrToken)
	}
	t.Key = key
	if parts[1] != "" {
		if pin, err := hex.DecodeString(parts[1]); err != nil || len(pin) != sha256.Size {
			return Token{}, fmt.Errorf("%w: its middle is no fingerprint", ErrToken)
		}
		t.Pin = pinKind + parts[1]
	}
	return t, nil
}

// credentials are by which a node is known in a secured cluster. The private key is made
// on the node and never leaves it.
type credentials struct {
	path   string
	kept   credentialsFile
	pair   nkeys.KeyPair // nil in an open cluster
	public string
	secret string // of the invitation, while it has just come
}

// credentialsFile is what a node's data directory keeps of them.
type credentialsFile struct {
	Seed  string            `json:"seed"` // of the NKey
	Pin   string            `json:"pin,omitempty"`
	Key   ed25519.PublicKey `json:"key"`   // of the master, when the node was invited
	Token string            `json:"token"` // SHA-256 of the token that brought it in, hexadecimal
}

// openCredentials reads a node's credentials. With a token that it has not used yet, the
// node becomes a new one: it gets a new key, which the token is shown with.
func openCredentials(dir, token string) (*credentials, error) {
	c := &credentials{path: filepath.Join(dir, "_snapdb_credentials.json")}
	if err := c.read(); err != nil {
		return nil, fmt.Errorf("read the node's credentials: %s: %w", c.path, err)
	}
	if token == "" {
		return c, nil
	}
	t, err := ParseToken(token)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(strings.TrimSpace(token)))
	if used := hex.EncodeToString(sum[:]); c.kept.Token != used {
		if err := c.renew(t, used); err != nil {
			return nil, fmt.Errorf("make the node's key: %w", err)
		}
	}
	c.secret = t.Secret // also if it was used: the master may not have got it
	return c, nil
}

func (c *credentials) read() error {
	data, err := os.ReadFile(c.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	info, err := os.Stat(c.path)
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o077 != 0 && runtime.GOOS != "windows" {
		return fmt.Errorf("others than its owner may read it (%v), and could speak as this node: invite the node again, or chmod 600 the file if nobody can have read it", info.Mode().Perm())
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&c.kept); err != nil {
		return fmt.Errorf("%w: invite the node again", subjects.PlainJSON(data, err))
	}
	return c.use()
}

// use makes the key pair of the kept seed.
func (c *credentials) use() error {
	var err error
	if c.pair, err = nkeys.FromSeed([]byte(c.kept.Seed)); err == nil {
		c.public, err = c.pair.PublicKey()
	}
	if err != nil {
		return fmt.Errorf("its seed is none: %w: invite the node again", err)
	}
	return nil
}

// renew makes a new key, and keeps it before it is shown to anybody.
func (c *credentials) renew(t Token, used string) error {
	pair, err := nkeys.CreateUser()
	if err != nil {
		return err
	}
	seed, err := pair.Seed()
	if err != nil {
		return err
	}
	c.kept = credentialsFile{Seed: string(seed), Pin: t.Pin, Key: t.Key, Token: used}
	if err := c.keep(); err != nil {
		return err
	}
	return c.use()
}

// trust is the key that the master had when the node was invited.
func (c *credentials) trust() []ed25519.PublicKey {
	if c.pair == nil {
		return nil
	}
	return []ed25519.PublicKey{c.kept.Key}
}

// over is by what the node knows its master: what it was started with, or else what its
// token says.
func (c *credentials) over(given *tls.Config) (*tls.Config, error) {
	if given != nil || c.pair == nil {
		return given, nil
	}
	return pki.ClientConfig(c.kept.Pin)
}

// follow takes over the fingerprint of the authority that has certified the master on a
// connection: it has another one when that was rotated, and the old one is good for some
// time only.
func (c *credentials) follow(nc *nats.Conn) error {
	if c.pair == nil || c.kept.Pin == "" {
		return nil
	}
	state, err := nc.TLSConnectionState()
	if err != nil {
		return nil // lost again
	}
	pin := pki.Issuer(state)
	if pin == "" || pin == c.kept.Pin {
		return nil
	}
	c.kept.Pin = pin
	return c.keep()
}

// keep writes down what is kept.
func (c *credentials) keep() error {
	data, err := json.Marshal(c.kept)
	if err == nil {
		err = exec.WriteFile(c.path, append(data, '\n'))
	}
	if err != nil {
		return fmt.Errorf("keep the node's credentials: %w", err)
	}
	return nil
}

// refusal is probably why a node was not let in, that has joined before or has not: the
// broker of a secured cluster says no more than that it was not.
func (c *credentials) refusal(joined bool) subjects.Refusal {
	reason := "its token has been used, has expired, was revoked, or is for another node: get another with snapdb node invite (--node ID to replace a node of that id)"
	switch {
	case c.pair == nil:
		reason = "the cluster is secured, and this node has no token: get one with snapdb node invite, and start it with --token"
	case joined:
		reason = "it was revoked, or another took its place: get a token with snapdb node invite --node ID, and start it with that, to let it in again"
	}
	return subjects.Refusal{Code: subjects.RefusedUnknown, Reason: reason}
}

// login proves to the broker which node this is; in an open cluster there is nothing to
// prove.
func (c *credentials) login() []nats.Option {
	if c.pair == nil {
		return nil
	}
	opts := []nats.Option{nats.Nkey(c.public, c.pair.Sign)}
	if c.secret != "" {
		opts = append(opts, nats.Token(c.secret))
	}
	return opts
}
