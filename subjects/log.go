package subjects

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
)

// Headers of a message on Replicate.
const (
	HeaderDB    = "Snapdb-Db"
	HeaderInc   = "Snapdb-Inc"
	HeaderPrev  = "Snapdb-Prev"
	HeaderChain = "Snapdb-Chain"
	HeaderTerm  = "Snapdb-Term"
	HeaderID    = "Snapdb-Id"
)

// HeaderMaster says on Epoch who claims to be the master. No message of the log
// has it, so none can be passed off as a claim.
const HeaderMaster = "Snapdb-Master"

// Chain is a running digest of everything one database has logged. Two nodes at
// the same position hold the same history if and only if their chains are
// equal: a bare position does not say that (a restored backup, or a log that
// lost its tail, counts up to the same number again with other content).
type Chain [16]byte

// FirstChain is the chain of a database just created as incarnation inc.
func FirstChain(inc uint64) Chain { return NextChain(Chain{}, inc, nil) }

// NextChain is the first half of SHA-256(previous chain ‖ incarnation ‖ body).
func NextChain(prev Chain, inc uint64, body []byte) Chain {
	h := sha256.New()
	h.Write(prev[:])
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], inc)
	h.Write(n[:])
	h.Write(body)
	var sum [sha256.Size]byte
	return Chain(h.Sum(sum[:0])[:len(Chain{})])
}

// String is the chain in hexadecimal.
func (c Chain) String() string { return hex.EncodeToString(c[:]) }

// MarshalText writes the chain in hexadecimal.
func (c Chain) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// Header says where in the history of its database a log message belongs.
type Header struct {
	DB    string // name of the database
	Inc   uint64 // incarnation: position of its CREATE DATABASE; 0 for the catalog
	Prev  uint64 // position of the previous message of the same database
	Chain Chain  // NextChain(chain at Prev, Inc, body)
	Term  uint64 // sequence of the master's message on Epoch
	ID    string // random; finds a publish whose answer was lost
	// Signature of the master over a SignedLog; zero if the master signs nothing.
	Signature Signature
}

// Message is one message of the log as it was stored.
type Message struct {
	Position uint64 // the stream's sequence
	Header   Header
	Data     []byte // the body, undecoded
}

// Stmt is one SQL statement with its positional arguments.
type Stmt struct {
	SQL  string
	Args []Value
}

// LogStmt is a statement as it was executed on the master.
type LogStmt struct {
	Stmt
	// Fails is the SQLite error message the statement ended with on the master,
	// inside an interactive transaction that went on; "" if it succeeded.
	Fails string
}

// Counters are the values a session sees in last_insert_rowid(), changes() and
// total_changes() when a transaction begins.
type Counters struct {
	RowID   int64
	Changes int64
	Total   int64
}

// Txn is one transaction of a log body: everything a node needs to execute it
// with the same result as the master.
type Txn struct {
	Now      int64    // the clock of the request, Unix milliseconds
	Seed     uint64   // of random() and randomblob()
	Counters Counters // of the session at the start
	ID       string   // the request's repeat-safe id, or ""
	Request  uint64   // what had that id: DigestStmts of the request; 0: not known
	// Interactive says that each statement ran in a savepoint of its own
	// (a failed one left nothing and the transaction went on); otherwise the
	// statements ran as one.
	Interactive bool
	Stmts       []LogStmt
	Sum         uint64 // digest of the results; see package exec
}

// BlobRef names a body that is kept as a blob because it is too large for a
// message. The blob is JSON Lines; see TxnWriter.
type BlobRef struct {
	Digest string // SHA-256 in hexadecimal
	Size   int64  // bytes
}

// ImageRef names the content with which a database begins: a SQLite file without
// snapdb's own tables, compressed with zstd and kept as a blob.
type ImageRef struct {
	BlobRef
	File int64 // bytes of the file itself
}

// Body is the content of a log message.
type Body struct {
	DB     string
	Engine string // digest of the SQL engine that executed it
	Txns   []Txn
	Blob   *BlobRef // set when the transactions are in a blob; Txns is then empty
	// Image is set in the first message of a database that was imported, which has no
	// transactions then.
	Image *ImageRef
	// Verify is set in a message that changes nothing: every node compares what it
	// holds just there.
	Verify VerifyMode
}

// VerifyMode is how thoroughly nodes compare what they hold.
type VerifyMode string

// The ways to compare.
const (
	VerifyContent VerifyMode = "content" // every row, and the schema
	VerifyDeep    VerifyMode = "deep"    // and that each file is sound, indexes included
)

// VerifyOf says whether the body of a log message asks for a comparison, without
// decoding it; "" if not. Of what is no body of a message it may say anything.
func VerifyOf(body []byte) VerifyMode {
	for _, v := range []VerifyMode{VerifyContent, VerifyDeep} {
		if bytes.HasSuffix(body, []byte(`,"verify":"`+string(v)+`"}`)) {
			return v
		}
	}
	return ""
}
