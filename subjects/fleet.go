package subjects

import (
	"math"
	"time"
)

// Head is how far one database has come.
type Head struct {
	Incarnation uint64 `json:"incarnation"`
	Position    uint64 `json:"position"`
	Chain       string `json:"chain"` // hexadecimal
}

// HeadsMessage is published on Heads every second and on change.
type HeadsMessage struct {
	Term uint64 `json:"term"`
	// Cursor is the position up to which the log is decided: a node that has
	// applied every head below is at Cursor for every database.
	Cursor uint64          `json:"cursor"`
	Heads  map[string]Head `json:"heads"`
	// Number counts the messages of a master that signs them, so that none is heard
	// twice.
	Number uint64 `json:"number,omitempty"`
}

// JoinRequest is what a slave says on Join.
type JoinRequest struct {
	V         int             `json:"v"`
	ID        string          `json:"id"`
	Boot      string          `json:"boot"`              // random per process start
	Nonce     string          `json:"nonce,omitempty"`   // random per request, of a slave that wants a signed answer
	Cluster   string          `json:"cluster,omitempty"` // "" on a fresh data directory
	Engine    string          `json:"engine"`            // digest of the SQL engine
	Version   string          `json:"version"`           // of snapdb
	Databases map[string]Head `json:"databases"`         // what it has applied, catalog included
	// Diverged lists databases of which the slave knows that their content is not what
	// it should be at that position.
	Diverged []string `json:"diverged,omitempty"`
	// Damaged lists digests of snapshots that arrived with another content.
	Damaged []string `json:"damaged,omitempty"`
}

// CatalogEntry is a database in the list of all.
type CatalogEntry struct {
	Name        string `json:"name"`
	Incarnation uint64 `json:"incarnation"`
	Created     int64  `json:"created"` // Unix milliseconds
}

// CatalogSnapshot is the list of all databases at a position.
type CatalogSnapshot struct {
	Head
	Databases []CatalogEntry `json:"databases"`
}

// Snapshot names a copy of a whole database, which the master keeps as a blob: the
// database's file, compressed with zstd.
type Snapshot struct {
	Head
	Digest string `json:"digest"` // SHA-256 of the blob, hexadecimal
	Size   int64  `json:"size"`   // of the blob, bytes
	File   int64  `json:"file"`   // size of the database's file, bytes
	Taken  int64  `json:"taken"`  // Unix milliseconds
}

// SnapshotRequest on SnapshotTake asks for a snapshot of a database as it is now.
// The answer is a Snapshot.
type SnapshotRequest struct {
	DB string `json:"db"`
}

// JoinResponse lets a slave in, or says why not.
type JoinResponse struct {
	V        int          `json:"v"`
	Cluster  string       `json:"cluster,omitempty"`
	Term     uint64       `json:"term,omitempty"`
	Session  uint64       `json:"session,omitempty"`  // number that every ack must carry
	Consumer string       `json:"consumer,omitempty"` // name of the consumer made for it
	Next     string       `json:"next,omitempty"`     // subject at which it is asked for messages; "": JetStream's own
	Start    uint64       `json:"start,omitempty"`    // first position the consumer delivers
	Heads    HeadsMessage `json:"heads,omitzero"`
	// Reseed lists databases that the log does not continue from where they are, with
	// the reason.
	Reseed map[string]string `json:"reseed,omitempty"`
	// Snapshots are for databases of Reseed. One without a digest is being taken: join
	// again. A database without any has more than the master, or others say that the
	// master is wrong: a person must decide.
	Snapshots map[string]Snapshot `json:"snapshots,omitempty"`
	// Foreign lists those of Reseed whose content is not the log's.
	Foreign []string `json:"foreign,omitempty"`
	// Catalog is set when the log does not continue the slave's list of databases.
	Catalog *CatalogSnapshot `json:"catalog,omitempty"`
	// Successions are how the master's key came to be the one that it is, oldest first.
	Successions []Succession `json:"successions,omitempty"`
	// Refused is set when the slave is not let in.
	Refused *Refusal `json:"refused,omitempty"`
}

// RefusalCode is a stable name for why a join was refused.
type RefusalCode string

// Why a join is refused.
const (
	RefusedIDInUse  RefusalCode = "id_in_use"     // another live slave has that id
	RefusedCluster  RefusalCode = "other_cluster" // the data directory belongs to another cluster
	RefusedEngine   RefusalCode = "engine"        // SQL engines differ, results could too
	RefusedVersion  RefusalCode = "version"       // message format not understood
	RefusedInvalid  RefusalCode = "invalid"       // malformed request
	RefusedUnknown  RefusalCode = "unknown"       // a secured cluster does not know the node
	RefusedTooMany  RefusalCode = "too_many"      // more slaves than a cluster may have are enrolled
	RefusedNotReady RefusalCode = "not_ready"     // master is starting, busy or stopping; try again
)

// Refusal says why a slave is not let in and what to do.
type Refusal struct {
	Code   RefusalCode `json:"code"`
	Reason string      `json:"reason"`
}

// AckMessage is what a slave publishes on NodeAck after applying: cumulative,
// naming only the databases that changed since its last one.
type AckMessage struct {
	Term    uint64
	Session uint64
	Applied map[string]uint64
	// Applying is progress inside a long apply, so that a working slave is
	// told from a stuck one: database → statements done so far.
	Applying map[string]uint64
}

// State is the one word for how a node, or a database on a node, is.
type State string

// The states.
const (
	StateOnline   State = "online"
	StateLagging  State = "lagging"
	StateJoining  State = "joining"
	StateDiverged State = "diverged" // its content differs from the log's
	StateStopped  State = "stopped"  // it takes no more changes, or the process ended cleanly
	StateOffline  State = "offline"
)

// DatabaseStatus is one database on one node.
type DatabaseStatus struct {
	Incarnation uint64 `json:"incarnation"`
	Position    uint64 `json:"position"`
	Head        uint64 `json:"head"` // as far as the node knows
	State       State  `json:"state"`
	Reason      string `json:"reason,omitempty"` // why it is diverged or stopped
}

// StatusMessage is published on NodeStatus every second and on change.
type StatusMessage struct {
	V         int                       `json:"v"`
	ID        string                    `json:"id"`
	Boot      string                    `json:"boot"`
	Session   uint64                    `json:"session"`
	State     State                     `json:"state"`
	Reason    string                    `json:"reason,omitempty"`
	Cursor    uint64                    `json:"cursor"` // everything up to here is applied
	Databases map[string]DatabaseStatus `json:"databases"`
	LagMS     int64                     `json:"lag_ms"`  // since it last had all heads; 0: has them
	Foreign   uint64                    `json:"foreign"` // messages passed over because the master has not written or not signed them
	Version   string                    `json:"version"`
	Labels    map[string]string         `json:"labels,omitempty"`
	Started   time.Time                 `json:"started"`
	OS        string                    `json:"os"`
	Arch      string                    `json:"arch"`
	Host      *HostFacts                `json:"host,omitempty"`
	// Power says whether the node lets its machine be powered off and rebooted.
	Power bool `json:"power,omitempty"`
}

// ForgetRequest on Forget names a slave that will not come back. The answer is
// itself, or an error as requests get it.
type ForgetRequest struct {
	ID string `json:"id"`
}

// NodeInfo is one node as the master sees it.
type NodeInfo struct {
	ID       string            `json:"id"`
	State    State             `json:"state"`
	Reason   string            `json:"reason,omitempty"`
	Session  uint64            `json:"session"`
	LastSeen time.Time         `json:"last_seen"`
	InSync   []string          `json:"in_sync"` // databases it is in sync for
	Acked    map[string]uint64 `json:"acked"`   // database → position acknowledged
	LagMS    int64             `json:"lag_ms"`  // age of the oldest position it has not acknowledged
	// AckMS is how long it lately took from the log to its acknowledgement.
	AckMS  float64        `json:"ack_ms,omitempty"`
	Status *StatusMessage `json:"status,omitempty"`
}

// ClusterInfoResponse answers ClusterInfo.
type ClusterInfoResponse struct {
	V       int             `json:"v"`
	Cluster string          `json:"cluster"`
	Term    uint64          `json:"term"`
	Version string          `json:"version"`
	Engine  string          `json:"engine"`
	Ack     string          `json:"ack"` // default rule
	Started time.Time       `json:"started"`
	Cursor  uint64          `json:"cursor"`
	Heads   map[string]Head `json:"heads"`
	// Stopped lists databases of the master that take no writes, with the reason.
	Stopped map[string]string `json:"stopped,omitempty"`
	// Writes are the transactions logged since this master started.
	Writes   uint64 `json:"writes"`
	LogFirst uint64 `json:"log_first"` // position at which the log begins
	LogBytes uint64 `json:"log_bytes"`
	LogMax   uint64 `json:"log_max"` // 0: the log did not answer
	// LogLast is the position of the log's last message, of whatever kind.
	LogLast uint64 `json:"log_last"`
	// BehindMS is for how long the master has lacked what its log has, or may have;
	// 0: it has everything.
	BehindMS int64 `json:"behind_ms"`
	// BlobBytes is the size of the large transactions that are kept beside the log.
	BlobBytes uint64 `json:"blob_bytes"`
	// SnapshotBytes is the size of all snapshots, Snapshots the newest by database.
	SnapshotBytes uint64              `json:"snapshot_bytes"`
	Snapshots     map[string]Snapshot `json:"snapshots,omitempty"`
	// Verified is the last comparison of each database on all nodes.
	Verified map[string]Verification `json:"verified,omitempty"`
	// Connections are those to the broker, the master's own included.
	Connections int    `json:"connections"`
	OS          string `json:"os"`
	Arch        string `json:"arch"`
	// Host is the master's machine.
	Host  *HostFacts `json:"host,omitempty"`
	Nodes []NodeInfo `json:"nodes"`
	// Omitted says what was left out because all of it does not fit one message.
	Omitted string `json:"omitted,omitempty"`
}

// Applied is the position up to which a node has everything, as far as it has said: what
// its last status says, or more if it has acknowledged more since. 0 if it never said.
// Of a database whose head it has acknowledged it lacks nothing; of the others, nothing
// up to what it has acknowledged.
func (r *ClusterInfoResponse) Applied(n *NodeInfo) uint64 {
	at := uint64(0)
	if n.Status != nil {
		at = n.Status.Cursor
	}
	newest, lacks, oldest := uint64(0), false, uint64(math.MaxUint64)
	for db, head := range r.Heads {
		acked := n.Acked[db]
		newest = max(newest, acked)
		if acked < head.Position {
			lacks, oldest = true, min(oldest, acked)
		}
	}
	if lacks {
		return max(at, oldest)
	}
	return max(at, newest)
}

// Online is how many slaves are online.
func (r *ClusterInfoResponse) Online() int {
	n := 0
	for i := range r.Nodes {
		if r.Nodes[i].State == StateOnline {
			n++
		}
	}
	return n
}

// BlobRequest asks for a chunk on BlobGet. The answer is the bytes, at most
// BlobChunk of them; none at the end.
type BlobRequest struct {
	Digest string `json:"digest"`
	Offset int64  `json:"offset"`
	Length int    `json:"length,omitempty"` // 0: BlobChunk
}

// MetricsResponse answers ClusterMetrics: what the master has counted since it
// started.
type MetricsResponse struct {
	V       int       `json:"v"`
	Write   Histogram `json:"write"`   // microseconds from a request to its answer
	Publish Histogram `json:"publish"` // microseconds in which the log stored a group
	Group   Histogram `json:"group"`   // transactions of a group
	Ack     Histogram `json:"ack"`     // microseconds from the log to a slave's acknowledgement of a head
}

// Histogram counts whole numbers by how many bits they have: Counts[i] those from
// 2^(i-1) to 2^i - 1, the last one all above too.
type Histogram struct {
	Counts []uint64 `json:"counts"`
	Sum    uint64   `json:"sum"`
}
