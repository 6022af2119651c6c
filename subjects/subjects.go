// Package subjects holds the words on the wire: subject names, headers and
// messages of the snapdb cluster, and how each is written and read as JSON.
//
// It is the vocabulary shared by every other room. It does no I/O, starts no
// goroutine and imports nothing but the standard library; whoever wants to know
// what a byte on the wire means finds it here and nowhere else.
//
// Messages that are read or written for every statement (log bodies, requests,
// responses, acknowledgements) have strict hand-written codecs, because
// encoding/json costs about ten times as much and silently repairs invalid
// UTF-8. Messages of the control plane (join, heads, status, commands) are plain
// structs for encoding/json.
package subjects

import (
	"errors"
	"fmt"
	"strings"
)

// Subjects that exist once in a cluster.
const (
	// Replicate carries the log: one message is one committed group of
	// transactions of one database. Only the master publishes on it.
	Replicate = "db.replicate"
	// Epoch carries the claims of masters: one at each start, and one whenever a
	// publish had no answer. The sequence of the last is the term that fences
	// every later message of the log.
	Epoch = "db.epoch"
	// Exec and Query are the doors for SQL at the master: Exec takes any
	// SQL, Query only reads.
	Exec  = "db.exec"
	Query = "db.query"
	// Cancel is where a client asks to stop what one of its sessions is
	// executing; the body is the session's name. It has no reply:
	// the cancelled request answers with CodeCancelled.
	Cancel = "db.cancel"
	// Join is where a slave asks to be let in.
	Join = "cluster.join"
	// Heads is where the master says how far each database has come.
	Heads = "cluster.heads"
	// ClusterInfo answers with the state of the whole cluster as the master sees it.
	ClusterInfo = "cluster.info"
	// Forget is where the master is told to forget a slave that will not come back.
	Forget = "cluster.forget"
	// ClusterMetrics answers with what the master has counted.
	ClusterMetrics = "cluster.metrics"
	// Verify is where the master is asked to compare a database on all nodes, Verified
	// where slaves tell it what they hold.
	Verify   = "db.verify"
	Verified = "cluster.verified"
	// SnapshotTake is where the master is asked for a snapshot of a database.
	SnapshotTake = "db.snapshot"
	// Import is where the master is asked to make a database of a file, Copy where it
	// lends copies of databases.
	Import = "db.import"
	Copy   = "db.copy"
	// Access begins the doors at which users, tokens, invitations and nodes of a secured
	// cluster are looked after.
	Access = "access"
	// BlobGet serves chunks of the master's blobs.
	BlobGet = "blob.get"
)

// Streams kept by the broker.
const (
	// LogStream stores Replicate and Epoch.
	LogStream = "DB_REPLICATE"
	// NodeLogStream stores the structured log lines of all nodes, bounded.
	NodeLogStream = "NODE_LOG"
)

// Names under which services answer `nats micro ls`.
const (
	MasterService = "snapdb-master"
	NodeService   = "snapdb-node"
)

// Catalog is the reserved database that lists all others. Every node has it.
const Catalog = "_snapdb"

// Version is the format of log messages, of the blobs that they name, and of control
// messages. Older log messages are read, newer ones refused; a slave and a master of
// different formats do not replicate with each other.
const Version = 1

// Sizes of the wire, in bytes.
const (
	// MaxRequest is the largest request or response of one NATS message.
	MaxRequest = 8 << 20
	// MaxInline is the size above which a log body travels as a blob.
	MaxInline = 1 << 20
	// MaxValue is the largest single text or blob value.
	MaxValue = 64 << 20
	// BlobChunk is the most that one blob.get answers.
	BlobChunk = 512 << 10
)

// NodeAck is where node id acknowledges what it has applied.
func NodeAck(id string) string { return "node." + id + ".ack" }

// NodeQuery is the read-only SQL door of node id.
func NodeQuery(id string) string { return "node." + id + ".query" }

// NodeCopy is where node id lends copies of its databases.
func NodeCopy(id string) string { return "node." + id + ".copy" }

// NodeCtl is where node id takes commands.
func NodeCtl(id string) string { return "node." + id + ".ctl" }

// NodeStatus is where node id says how it is.
func NodeStatus(id string) string { return "node." + id + ".status" }

// NodeLog is where node id, or the master as [MasterID], publishes its log lines.
func NodeLog(id string) string { return "node." + id + ".log" }

// SplitNode takes node.<id>.<word> apart. ok is false for any other subject. Of the
// master there are log lines only.
func SplitNode(subject string) (id, word string, ok bool) {
	rest, ok := strings.CutPrefix(subject, "node.")
	if !ok {
		return "", "", false
	}
	id, word, ok = strings.Cut(rest, ".")
	if subject == NodeLog(MasterID) {
		return id, word, true
	}
	if !ok || CheckNodeID(id) != nil || word == "" || strings.Contains(word, ".") {
		return "", "", false
	}
	return id, word, true
}

// Errors of names.
var (
	// ErrNodeID is returned for a node id that cannot be a subject token.
	ErrNodeID = errors.New("invalid node id")
	// ErrDatabaseName is returned for a name no database may have.
	ErrDatabaseName = errors.New("invalid database name")
)

const maxName = 63

// MasterID is the name of the master where nodes are named.
const MasterID = "master"

// CheckNodeID says whether id can name a node: 1 to 63 letters, digits, '-' and
// '_', beginning with a letter or digit; "master" is taken by the master.
// The error wraps ErrNodeID.
func CheckNodeID(id string) error {
	if id == "" || len(id) > maxName {
		return fmt.Errorf("%w %q: must have 1 to %d characters", ErrNodeID, clip(id), maxName)
	}
	for i := 0; i < len(id); i++ {
		c := id[i]
		if !(isLetter(c) && c != '_') && !isDigit(c) && (i == 0 || c != '-' && c != '_') {
			return fmt.Errorf("%w %q: only letters, digits, '-' and '_', beginning with a letter or digit", ErrNodeID, id)
		}
	}
	if strings.EqualFold(id, MasterID) {
		return fmt.Errorf("%w %q: this name is the master's", ErrNodeID, id)
	}
	return nil
}

// CheckDatabase says whether a client may create a database of that name:
// [A-Za-z_][A-Za-z0-9_]{0,62}, not main, temp, sqlite_*, _snapdb*, nor a device
// name of Windows (the file must be copyable everywhere). The error wraps
// ErrDatabaseName.
func CheckDatabase(name string) error {
	if name == "" || len(name) > maxName {
		return fmt.Errorf("%w %q: must have 1 to %d characters", ErrDatabaseName, clip(name), maxName)
	}
	for i := 0; i < len(name); i++ {
		if c := name[i]; !isLetter(c) && (i == 0 || !isDigit(c)) {
			return fmt.Errorf("%w %q: only letters, digits and '_', not beginning with a digit", ErrDatabaseName, clip(name))
		}
	}
	low := strings.ToLower(name)
	if low == "main" || low == "temp" || strings.HasPrefix(low, "sqlite_") || strings.HasPrefix(low, Catalog) || isDevice(low) {
		return fmt.Errorf("%w %q: reserved", ErrDatabaseName, name)
	}
	return nil
}

// isDevice knows the lower-case names that Windows gives to devices whatever
// their extension is.
func isDevice(low string) bool {
	switch low {
	case "con", "prn", "aux", "nul":
		return true
	}
	if len(low) != 4 || low[3] < '0' || low[3] > '9' {
		return false
	}
	return low[:3] == "com" || low[:3] == "lpt"
}

func isLetter(c byte) bool { return c == '_' || 'a' <= c|0x20 && c|0x20 <= 'z' }
func isDigit(c byte) bool  { return '0' <= c && c <= '9' }

// clip keeps a hostile name from filling the terminal of whoever reads the error.
func clip(s string) string {
	if len(s) <= maxName {
		return s
	}
	return s[:maxName] + "…"
}
