package subjects

import (
	"errors"
	"fmt"
	"strconv"
)

// Request is SQL over request/reply, at Exec, Query and NodeQuery.
type Request struct {
	DB    string  // database; "" where the session or the SQL says it
	SQL   string  // one or more statements
	Args  []Value // dealt out over them in order
	Stmts []Stmt  // instead of SQL: several statements, each with its arguments

	Ack         Ack    // acknowledgement rule of its write; zero: the one last named in its transaction, else the master's default
	TimeoutMS   int64  // time limit in milliseconds; 0: the server's default
	Session     string // name of an interactive session, chosen by the client; "" for none
	Tx          bool   // the session's transaction must be open, else nothing is done
	MinPosition uint64 // read only when this position is applied
	MaxLagMS    int64  // read only when not staler than this; 0: any
	ID          string // repeat-safe id: a request done within the last hour returns its first answer, above 1 MB without rows; other statements under it are refused
	More        string // token of a truncated result to go on with
}

// Result is what one statement returned.
type Result struct {
	Columns      []string
	Types        []string // declared type in lower case, else typeof() of the first row
	Rows         [][]Value
	Changes      int64 // rows changed by the statement
	LastInsertID int64
	MS           float64 // time spent in the engine, milliseconds
	Truncated    bool    // more rows exist than were sent
	More         string  // token for Request.More when Truncated
}

// Response answers a Request.
type Response struct {
	Results  []Result
	Position uint64   // of the write in the log, or what a read has seen; 0: none
	Applied  []string // nodes known to have applied Position, writes only
	Pending  []string // all other enrolled nodes
	Session  *SessionState
	Error    *Error // set if the request failed; Position is then 0 unless the write is in the log
}

// SessionState tells a client of a session where it stands after the request.
type SessionState struct {
	DB string `json:"db"` // current database
	Tx bool   `json:"tx"` // inside BEGIN … COMMIT
}

// AckKind says which acknowledgement an Ack asks for.
type AckKind uint8

// The acknowledgement rules.
const (
	AckDefault AckKind = iota // what the transaction or the master has set
	AckLog                    // durable in the log
	AckInSync                 // and applied by every slave that is in sync
	AckAll                    // and applied by every enrolled slave
	AckCount                  // and applied by Ack.Count slaves
)

// Ack is an acknowledgement rule.
type Ack struct {
	Kind  AckKind
	Count int // for AckCount, at least 1
}

// ErrAck is returned for an acknowledgement rule nobody knows.
var ErrAck = errors.New(`unknown acknowledgement rule: must be "log", "insync", "all" or a number of slaves`)

// ParseAck reads log, insync, all or a positive number. The error wraps ErrAck.
func ParseAck(s string) (Ack, error) {
	switch s {
	case "log":
		return Ack{Kind: AckLog}, nil
	case "insync":
		return Ack{Kind: AckInSync}, nil
	case "all":
		return Ack{Kind: AckAll}, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > 1_000_000 {
		return Ack{}, fmt.Errorf("%w, not %q", ErrAck, clip(s))
	}
	return Ack{Kind: AckCount, Count: n}, nil
}

// String is the form that ParseAck reads; "" for the default.
func (a Ack) String() string {
	switch a.Kind {
	case AckLog:
		return "log"
	case AckInSync:
		return "insync"
	case AckAll:
		return "all"
	case AckCount:
		return strconv.Itoa(a.Count)
	}
	return ""
}

// Code is a stable name for a kind of error. Clients may react to it; messages
// are for people.
type Code string

// The codes a Response may carry.
const (
	CodeSyntax          Code = "syntax"           // the SQL does not parse, or names what is not there
	CodeConstraint      Code = "constraint"       // UNIQUE, NOT NULL, CHECK, FOREIGN KEY, RAISE(…)
	CodeNoSuchDatabase  Code = "no_such_database" //
	CodeNoDatabase      Code = "no_database"      // none selected
	CodeExists          Code = "exists"           // CREATE DATABASE of a name taken
	CodeBusy            Code = "busy"             // limit reached or snapshot stale: try again
	CodeTimeout         Code = "timeout"          // ran longer than allowed, nothing was changed
	CodeCancelled       Code = "cancelled"        // the client asked to stop, nothing was changed
	CodeNotAcknowledged Code = "not_acknowledged" // committed, but the rule was not met in time
	CodeOutcomeUnknown  Code = "outcome_unknown"  // may or may not be committed; ask again with the id
	CodeTooBig          Code = "too_big"          // a value, row, statement or request beyond limits
	CodeReadOnly        Code = "read_only"        // a write at a door for reads
	CodeDenied          Code = "denied"           // forbidden SQL: ATTACH, VACUUM, PRAGMA …
	CodeForbidden       Code = "forbidden"        // the user has no right to it
	CodeBadRequest      Code = "bad_request"      // malformed JSON, unknown field, wrong arguments
	CodeNotFound        Code = "not_found"        // no such command or file
	CodeTransaction     Code = "transaction"      // nested BEGIN, COMMIT without BEGIN, rolled back by a limit
	CodeUnavailable     Code = "unavailable"      // not now: starting, stopping, disk full, database stopped
	CodeStale           Code = "stale"            // min_position or max_lag_ms not reached in time
	CodeInternal        Code = "internal"         // a fault of snapdb or of the disk
)

// Error is a failed request, as it travels.
type Error struct {
	Code      Code
	Message   string
	Statement int // which statement of the request, from 1; 0: none in particular
	Offset    int // byte offset of a syntax error in that statement, -1: unknown
}

// Errorf makes an Error that belongs to no particular statement.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...), Offset: -1}
}

// Error is the message alone; the code is for programs.
func (e *Error) Error() string { return e.Message }
