package subjects

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"
)

// Headers of what a master has signed, with Ed25519 (RFC 8032) over the Bytes of one
// of the Signed types below.
const (
	HeaderSig     = "Snapdb-Sig"     // the signature, base64
	HeaderKey     = "Snapdb-Key"     // which key it was made with: a KeyID, hexadecimal
	HeaderNode    = "Snapdb-Node"    // of a command: for which node it is
	HeaderExpires = "Snapdb-Expires" // of a command: until when the signature is good, Unix milliseconds
)

// Times of the signature of a command.
const (
	// CommandLife is how long after it was signed a command may arrive. One that is sent
	// again is signed again.
	CommandLife = time.Minute
	// ClockSkew is how far the clocks of a master and a node may differ.
	ClockSkew = 30 * time.Second
)

// KeyID names a public key: the first bytes of its SHA-256.
type KeyID [8]byte

// KeyIDOf is the name of a public key.
func KeyIDOf(public []byte) KeyID {
	sum := sha256.Sum256(public)
	return KeyID(sum[:len(KeyID{})])
}

// String is the name in hexadecimal.
func (k KeyID) String() string { return hex.EncodeToString(k[:]) }

// Signature says who has signed something. The zero one says that nobody has.
type Signature struct {
	Key KeyID
	Sig [64]byte
}

// EncodeSignature adds a signature to the headers of a message.
func EncodeSignature(m map[string][]string, s Signature) {
	m[HeaderSig] = []string{base64.StdEncoding.EncodeToString(s.Sig[:])}
	m[HeaderKey] = []string{s.Key.String()}
}

// DecodeSignature reads what EncodeSignature wrote, nothing else; a message that has
// neither header is not signed. The error wraps ErrMalformed.
func DecodeSignature(m map[string][]string) (Signature, error) {
	sig, key := m[HeaderSig], m[HeaderKey]
	if len(sig) == 0 && len(key) == 0 {
		return Signature{}, nil
	}
	if len(sig) != 1 || len(key) != 1 {
		return Signature{}, fmt.Errorf("%w headers %s and %s: one value needed of each", ErrMalformed, HeaderSig, HeaderKey)
	}
	var s Signature
	raw, err := base64.StdEncoding.Strict().DecodeString(sig[0])
	if err != nil || len(raw) != len(s.Sig) || base64.StdEncoding.EncodeToString(raw) != sig[0] {
		return Signature{}, fmt.Errorf("%w header %s: %q is not a signature", ErrMalformed, HeaderSig, clip(sig[0]))
	}
	copy(s.Sig[:], raw)
	if raw, err = hex.DecodeString(key[0]); err == nil && len(raw) == len(s.Key) {
		copy(s.Key[:], raw)
	}
	if s.Key.String() != key[0] {
		return Signature{}, fmt.Errorf("%w header %s: %q is not the name of a key", ErrMalformed, HeaderKey, clip(key[0]))
	}
	if s == (Signature{}) {
		return Signature{}, fmt.Errorf("%w header %s: nothing but zeros", ErrMalformed, HeaderSig)
	}
	return s, nil
}

// Seal is what the headers of a signed command say.
type Seal struct {
	Signature
	Node    string // for which the command is
	Expires int64  // Unix milliseconds
}

// EncodeSeal gives the headers of a signed command.
func EncodeSeal(s Seal) map[string][]string {
	m := map[string][]string{HeaderNode: {s.Node}, HeaderExpires: {strconv.FormatInt(s.Expires, 10)}}
	EncodeSignature(m, s.Signature)
	return m
}

// DecodeSeal reads what EncodeSeal wrote. Of a command that is not signed the seal is
// zero. The error wraps ErrMalformed.
func DecodeSeal(m map[string][]string) (Seal, error) {
	sig, err := DecodeSignature(m)
	if err != nil || sig == (Signature{}) {
		return Seal{}, err
	}
	node, until := m[HeaderNode], m[HeaderExpires]
	if len(node) != 1 || len(until) != 1 {
		return Seal{}, fmt.Errorf("%w headers %s and %s: one value needed of each", ErrMalformed, HeaderNode, HeaderExpires)
	}
	if err := CheckNodeID(node[0]); err != nil {
		return Seal{}, fmt.Errorf("%w header %s: %w", ErrMalformed, HeaderNode, err)
	}
	ms, err := strconv.ParseInt(until[0], 10, 64)
	if err != nil || strconv.FormatInt(ms, 10) != until[0] {
		return Seal{}, fmt.Errorf("%w header %s: %q is not a decimal number", ErrMalformed, HeaderExpires, clip(until[0]))
	}
	return Seal{Signature: sig, Node: node[0], Expires: ms}, nil
}

// statement collects the bytes that are signed. They begin with what is said and in which
// format, so that nothing signed for one purpose passes for another; each field begins
// with its length, so that none runs into the next.
type statement []byte

func newStatement(what string) statement {
	return append(make(statement, 0, 256), "snapdb "+what+" 1\n"...)
}

func (s statement) text(v string) statement {
	return append(binary.BigEndian.AppendUint64(s, uint64(len(v))), v...)
}

func (s statement) number(v uint64) statement {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(s, 8), v)
}

// digest adds the SHA-256 of what may be large.
func (s statement) digest(v []byte) statement {
	sum := sha256.Sum256(v)
	return append(binary.BigEndian.AppendUint64(s, sha256.Size), sum[:]...)
}

// SignedLog is a message of the log. Its position is not known when it is signed; the
// chain, which continues that of the message at Prev, puts it in its place.
type SignedLog struct {
	Cluster string
	Header  Header // without its Signature
	Body    []byte
}

// Bytes are what is signed.
func (l *SignedLog) Bytes() []byte {
	h := &l.Header
	return newStatement("log").text(l.Cluster).text(h.DB).number(h.Inc).number(h.Prev).text(string(h.Chain[:])).
		number(h.Term).text(h.ID).digest(l.Body)
}

// SignedClaim is a message on Epoch.
type SignedClaim struct {
	Cluster string
	Last    uint64 // the claim that it follows
	Master  string
	Body    []byte
}

// Bytes are what is signed.
func (c *SignedClaim) Bytes() []byte {
	return newStatement("epoch").text(c.Cluster).number(c.Last).text(c.Master).digest(c.Body)
}

// SignedHeads is a message on Heads.
type SignedHeads struct {
	Cluster string
	Body    []byte
}

// Bytes are what is signed.
func (h *SignedHeads) Bytes() []byte { return newStatement("heads").text(h.Cluster).digest(h.Body) }

// SignedJoin is the answer to a join. It names the request, which has a nonce, so that
// it answers no other; and with the digests of snapshots it covers their contents.
type SignedJoin struct {
	Cluster string // of the answer
	Node    string // who asked
	Boot    string // likewise
	Session uint64 // of the answer
	Request []byte
	Answer  []byte
}

// Bytes are what is signed.
func (j *SignedJoin) Bytes() []byte {
	return newStatement("join").text(j.Cluster).text(j.Node).text(j.Boot).number(j.Session).digest(j.Request).digest(j.Answer)
}

// SignedCommand is a request on NodeCtl. Cluster and Key say who gives the command.
type SignedCommand struct {
	Cluster string
	Key     KeyID
	Node    string
	ID      string
	Op      Op
	Expires int64 // of the signature, Unix milliseconds
	Body    []byte
}

// Bytes are what is signed.
func (c *SignedCommand) Bytes() []byte {
	return newStatement("command").text(c.Cluster).text(string(c.Key[:])).text(c.Node).text(c.ID).text(string(c.Op)).
		number(uint64(c.Expires)).digest(c.Body)
}

// Succession says that one key takes the place of another, which has signed that.
type Succession struct {
	Old []byte `json:"old"` // public keys
	New []byte `json:"new"`
	Sig []byte `json:"sig"` // made with Old
}

// Bytes are what is signed.
func (s *Succession) Bytes() []byte {
	return newStatement("key").text(string(s.Old)).text(string(s.New))
}
