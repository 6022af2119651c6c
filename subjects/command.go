package subjects

import (
	"encoding/json"
	"time"
)

// Subjects of commands: where people and programs ask the master to command
// nodes. Each is a request with a JSON reply; a refusal is an error as the doors
// for SQL answer it.
const (
	// CommandSend takes a CommandRequest and answers with a CommandResponse.
	CommandSend = "command.send"
	// CommandPreview takes a CommandRequest and answers whom it would reach.
	CommandPreview = "command.preview"
	// CommandList takes a CommandQuery and answers with a CommandResponse.
	CommandList = "command.list"
	// CommandCancel and CommandRetry take a CommandQuery that names an ID.
	CommandCancel = "command.cancel"
	CommandRetry  = "command.retry"
	// CommandChanged is where the master publishes every CommandRecord that changed.
	CommandChanged = "command.changed"
	// BlobPut takes chunks of a blob that a command is to carry, or that a node
	// brings: the body is the bytes, the headers say of what. It answers with a
	// BlobPutResponse. A chunk without bytes asks where to go on.
	BlobPut = "blob.put"
)

// NodeReport is where node id reports to the master how a command goes on that it
// has accepted; the reply says that the master has noted it.
func NodeReport(id string) string { return "node." + id + ".report" }

// Headers of a BlobPut.
const (
	HeaderDigest = "Snapdb-Digest" // SHA-256 of the whole blob, hexadecimal
	HeaderSize   = "Snapdb-Size"   // of the whole blob, in bytes
	HeaderOffset = "Snapdb-Offset" // of this chunk
)

// BlobPutResponse says how much of a blob the master has.
type BlobPutResponse struct {
	Offset int64 `json:"offset"` // where to go on
	Done   bool  `json:"done"`   // all is there, and the digest is right
}

// Op is what a node is told to do.
type Op string

// The operations of a node.
const (
	OpPing      Op = "ping"      // no arguments
	OpInfo      Op = "info"      // no arguments; output: a StatusMessage
	OpShutdown  Op = "shutdown"  // ShutdownArgs
	OpReboot    Op = "reboot"    // ShutdownArgs, without Mode
	OpWallpaper Op = "wallpaper" // WallpaperArgs
	OpPush      Op = "push"      // PushArgs: a file for the node's folder
	OpFetch     Op = "fetch"     // FetchArgs: a file of the node's folder; output: a FileInfo
	OpFiles     Op = "files"     // no arguments; output: a list of FileInfo
	OpLogs      Op = "logs"      // LogsArgs; output: a list of log lines
	OpLabel     Op = "label"     // LabelArgs; output: the labels
	OpResync    Op = "resync"    // ResyncArgs
	OpAbort     Op = "abort"     // AbortArgs: give up a command that is accepted
)

// ShutdownMode says what is shut down.
type ShutdownMode string

// What is shut down.
const (
	ShutdownAgent ShutdownMode = "agent" // the snapdb process of the node
	ShutdownHost  ShutdownMode = "host"  // the machine
)

// ShutdownArgs are the arguments of OpShutdown and OpReboot.
type ShutdownArgs struct {
	Mode    ShutdownMode `json:"mode,omitempty"` // default: agent
	GraceMS int64        `json:"grace_ms,omitempty"`
	Message string       `json:"message,omitempty"` // shown to who is logged in
}

// WallpaperArgs are the arguments of OpWallpaper: an image, or Restore.
type WallpaperArgs struct {
	Digest  string `json:"digest,omitempty"`
	Size    int64  `json:"size,omitempty"`
	Name    string `json:"name,omitempty"` // for people
	Restore bool   `json:"restore,omitempty"`
}

// PushArgs are the arguments of OpPush.
type PushArgs struct {
	Digest string `json:"digest"`
	Size   int64  `json:"size"`
	Name   string `json:"name"` // in the node's folder
}

// FetchArgs are the arguments of OpFetch.
type FetchArgs struct {
	Name string `json:"name"`
}

// FileInfo is a file in a node's folder.
type FileInfo struct {
	Name     string    `json:"name"`
	Size     int64     `json:"size"`
	Digest   string    `json:"digest,omitempty"`
	Modified time.Time `json:"modified,omitzero"`
}

// LogsArgs are the arguments of OpLogs.
type LogsArgs struct {
	Lines int    `json:"lines,omitempty"` // newest that many; 0: 100
	Level string `json:"level,omitempty"` // this and above; "": all
}

// LabelArgs are the arguments of OpLabel. Without any, the labels are only shown.
type LabelArgs struct {
	Set    map[string]string `json:"set,omitempty"`
	Remove []string          `json:"remove,omitempty"`
}

// ResyncArgs are the arguments of OpResync.
type ResyncArgs struct {
	Databases []string `json:"databases,omitempty"` // none: all
}

// AbortArgs are the arguments of OpAbort.
type AbortArgs struct {
	ID string `json:"id"` // of the command
}

// CtlRequest is a command to a node on NodeCtl.
type CtlRequest struct {
	Op Op `json:"op"`
	// ID of the command: a node carries a command of one ID out once, also across
	// its restarts, and answers a repetition with what became of the first. "": the
	// node makes one up.
	ID string `json:"id,omitempty"`
	// Args depend on Op.
	Args json.RawMessage `json:"args,omitempty"`
	// Expires is when it is too late to begin; zero: never.
	Expires time.Time `json:"expires,omitzero"`
}

// CtlResponse is how a command stands on a node: the reply on NodeCtl, and what it
// reports on NodeReport afterwards if that was StateAccepted.
type CtlResponse struct {
	Node   string       `json:"node"`
	Boot   string       `json:"boot"`
	ID     string       `json:"id"` // of the command
	Op     Op           `json:"op,omitempty"`
	State  CommandState `json:"state"`            // accepted, done, failed or cancelled
	Reason string       `json:"reason,omitempty"` // why not done, or what is going on
	// Progress of an accepted command in bytes.
	Progress int64           `json:"progress,omitempty"`
	Total    int64           `json:"total,omitempty"`
	Output   json.RawMessage `json:"output,omitempty"`
}

// CommandState is how a command stands on one node.
type CommandState string

// The states, in order. From CommandDone on nothing follows, but that a node may
// say what became of a command that was given up waiting for.
const (
	CommandQueued    CommandState = "queued"    // waits for its time or for the node
	CommandSent      CommandState = "sent"      // on its way, no answer yet
	CommandAccepted  CommandState = "accepted"  // the node is at it
	CommandDone      CommandState = "done"      // the node says so
	CommandFailed    CommandState = "failed"    // the node says so, or it was away and not to be waited for
	CommandTimedOut  CommandState = "timed_out" // no answer in time: it may have happened
	CommandExpired   CommandState = "expired"   // not sent in time: it has not happened
	CommandCancelled CommandState = "cancelled" // withdrawn: it has not happened, or was given up
)

// Ended says whether nothing more is expected to come.
func (s CommandState) Ended() bool {
	switch s {
	case CommandQueued, CommandSent, CommandAccepted:
		return false
	}
	return true
}

// AwayPolicy says what becomes of a command for a node that is away.
type AwayPolicy string

// The policies.
const (
	AwaySkip  AwayPolicy = "skip"  // it fails at once
	AwayWait  AwayPolicy = "wait"  // it waits as long as the command may take
	AwayQueue AwayPolicy = "queue" // it waits until the command expires, also across restarts
)

// CommandRequest asks the master to command nodes.
type CommandRequest struct {
	Op   Op              `json:"op"`
	Args json.RawMessage `json:"args,omitempty"`

	// To whom: exactly one of them.
	Nodes  []string `json:"nodes,omitempty"`
	Select string   `json:"select,omitempty"` // label selector
	All    bool     `json:"all,omitempty"`

	Away      AwayPolicy `json:"away,omitempty"`       // default: skip
	Expires   time.Time  `json:"expires,omitzero"`     // default: a day after At
	At        time.Time  `json:"at,omitzero"`          // not before; default: now
	Batch     int        `json:"batch,omitempty"`      // nodes at a time; 0: all at once
	PauseMS   int64      `json:"pause_ms,omitempty"`   // between batches
	TimeoutMS int64      `json:"timeout_ms,omitempty"` // for a node, from sent to the end without progress; 0: by Op
	// ID makes the request repeat-safe: if there is a record of that ID, that is the
	// answer. "": the master makes one.
	ID string `json:"id,omitempty"`
	By string `json:"by,omitempty"` // who, for people
}

// CommandQuery names commands.
type CommandQuery struct {
	ID    string `json:"id,omitempty"`    // one command, with the outputs of its nodes
	Node  string `json:"node,omitempty"`  // those to one node
	Limit int    `json:"limit,omitempty"` // newest that many; 0: 100
	// Nodes bounds CommandCancel and CommandRetry to some of the command's nodes.
	Nodes []string `json:"nodes,omitempty"`
	By    string   `json:"by,omitempty"`
}

// CommandRecord is a command and what became of it.
type CommandRecord struct {
	ID        string          `json:"id"`
	Op        Op              `json:"op"`
	Args      json.RawMessage `json:"args,omitempty"`
	By        string          `json:"by,omitempty"`
	To        string          `json:"to"` // as it was asked for, for people
	Created   time.Time       `json:"created"`
	At        time.Time       `json:"at,omitzero"`
	Expires   time.Time       `json:"expires,omitzero"`
	Away      AwayPolicy      `json:"away"`
	Batch     int             `json:"batch,omitempty"`
	PauseMS   int64           `json:"pause_ms,omitempty"`
	TimeoutMS int64           `json:"timeout_ms"`
	RetryOf   string          `json:"retry_of,omitempty"`
	Ended     time.Time       `json:"ended,omitzero"` // of the last node
	// Nodes is in order of id. In lists outputs are left out.
	Nodes []NodeOutcome `json:"nodes"`
}

// NodeOutcome is how a command stands on one node.
type NodeOutcome struct {
	Node     string          `json:"node"`
	State    CommandState    `json:"state"`
	Reason   string          `json:"reason,omitempty"`
	Sent     time.Time       `json:"sent,omitzero"`
	Accepted time.Time       `json:"accepted,omitzero"`
	Ended    time.Time       `json:"ended,omitzero"`
	Progress int64           `json:"progress,omitempty"` // bytes
	Total    int64           `json:"total,omitempty"`
	Output   json.RawMessage `json:"output,omitempty"`
}

// Skipped says whether it failed only because the node was away: it was never sent.
func (n *NodeOutcome) Skipped() bool { return n.State == CommandFailed && n.Sent.IsZero() }

// CommandPreviewResponse says whom a command would reach.
type CommandPreviewResponse struct {
	Reached []string   `json:"reached"`           // are there
	Away    []NodeInfo `json:"away,omitempty"`    // are not
	Unknown []string   `json:"unknown,omitempty"` // named, and no node of the cluster
}

// CommandResponse answers the other requests about commands.
type CommandResponse struct {
	Commands []CommandRecord `json:"commands"` // newest first
}

// HostFacts is what a node knows of its machine.
type HostFacts struct {
	Hostname    string  `json:"hostname"`
	Platform    string  `json:"platform"` // e.g. "debian 12.7"
	Kernel      string  `json:"kernel"`
	Cores       int     `json:"cores"`
	CPUPercent  float64 `json:"cpu_percent"` // of all cores, lately
	Load1       float64 `json:"load1"`
	MemoryTotal uint64  `json:"memory_total"` // bytes
	MemoryUsed  uint64  `json:"memory_used"`
	DiskTotal   uint64  `json:"disk_total"` // of the data directory's file system
	DiskFree    uint64  `json:"disk_free"`
	UptimeS     uint64  `json:"uptime_s"`
	ProcessRSS  uint64  `json:"process_rss"`
	SQLite      string  `json:"sqlite"` // version of the library
}
