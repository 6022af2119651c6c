package exec

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/snapdb/snapdb/exec/engine"
	"github.com/snapdb/snapdb/subjects"
)

// Errors of a data directory.
var (
	// ErrInUse: another process holds the data directory.
	ErrInUse = errors.New("data directory is in use by another process")
	// ErrNewer: the data directory was written by a newer snapdb.
	ErrNewer = errors.New("data directory was written by a newer version of snapdb")
	// ErrRole: a master's directory was given to a slave, or the other way round.
	ErrRole = errors.New("data directory belongs to the other role")
	// ErrCluster: the data directory belongs to another cluster.
	ErrCluster = errors.New("data directory belongs to another cluster")
	// ErrNodeID: the data directory belongs to a node of another id.
	ErrNodeID = errors.New("data directory belongs to another node")
	// ErrIdentity: the file that says whose directory it is makes no sense.
	ErrIdentity = errors.New("damaged data directory")
	// ErrCatalog: the master's list of databases is damaged.
	ErrCatalog = errors.New("the list of databases is damaged")
	// ErrClosed: the store or database was closed.
	ErrClosed = errors.New("closed")
)

// ErrForeignWrite: a database file was changed by something that is not snapdb.
var ErrForeignWrite = errors.New("the database file was changed by another program")

// Damaged says whether an error is that a file is no sound database: a disk, or
// somebody, has changed what was written to it.
func Damaged(err error) bool {
	var ee *engine.Error
	return errors.As(err, &ee) && ee.Corrupt()
}

// DivergedError says that a message of the log cannot be what this node's copy
// needs: it did not apply, or gave another result than on the master.
type DivergedError struct {
	Database string
	Position uint64 // of the message
	Reason   string
	Err      error // the cause, nil if results differed
}

// Error tells database, position and reason.
func (e *DivergedError) Error() string {
	s := fmt.Sprintf("database %s diverged at position %d: %s", e.Database, e.Position, e.Reason)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap is the cause.
func (e *DivergedError) Unwrap() error { return e.Err }

// Newer makes the error for something in a data directory whose format is newer than the
// one that this program reads. It wraps ErrNewer.
func Newer(format, reads int) error {
	return fmt.Errorf("%w (format %d, this one reads %d): use a newer snapdb", ErrNewer, format, reads)
}

// unreadable makes the error for a message whose body cannot be decoded. One of a newer
// snapdb says nothing against this copy: it can be applied after an upgrade.
func unreadable(database string, m *subjects.Message, err error) error {
	if errors.Is(err, subjects.ErrVersion) {
		return fmt.Errorf("database %s, message %d: %w", database, m.Position, err)
	}
	return &DivergedError{database, m.Position, "the message cannot be read", err}
}

// errNoDatabase is what a statement gets that needs a database and has none.
func errNoDatabase() *subjects.Error {
	return subjects.Errorf(subjects.CodeNoDatabase, `no database selected: say USE name, or give "db" with the request`)
}

// ErrNoSuchDatabase makes the error for a database that does not exist.
func ErrNoSuchDatabase(name string) *subjects.Error {
	if name == "" {
		return errNoDatabase()
	}
	return subjects.Errorf(subjects.CodeNoSuchDatabase, "no such database: %s", name)
}

// WireError turns an error of the engine into the one that travels. It is nil
// for nil and leaves errors that already are wire errors alone.
func WireError(err error) *subjects.Error {
	if err == nil {
		return nil
	}
	var we *subjects.Error
	if errors.As(err, &we) {
		return we
	}
	out := &subjects.Error{Code: codeOf(err), Message: err.Error(), Offset: -1}
	var ee *engine.Error
	if errors.As(err, &ee) {
		out.Offset = ee.Offset
		out.Message = ee.Message
	}
	return out
}

// codeOf sorts an error of the engine or of a database.
func codeOf(err error) subjects.Code {
	var ee *engine.Error
	var file *fs.PathError
	switch {
	case errors.Is(err, engine.ErrArguments), errors.Is(err, engine.ErrText):
		return subjects.CodeBadRequest
	case errors.Is(err, engine.ErrDenied), errors.Is(err, engine.ErrRandomName):
		return subjects.CodeDenied
	case errors.Is(err, engine.ErrMemory), errors.Is(err, engine.ErrFiles):
		return subjects.CodeTooBig
	case errors.Is(err, ErrForeignWrite), errors.Is(err, ErrClosed), errors.Is(err, engine.ErrRoom):
		return subjects.CodeUnavailable
	case errors.Is(err, context.DeadlineExceeded):
		return subjects.CodeTimeout
	case errors.Is(err, context.Canceled):
		return subjects.CodeCancelled
	case errors.As(err, &file):
		return subjects.CodeUnavailable // of the disk
	case !errors.As(err, &ee):
		return subjects.CodeInternal
	case ee.Constraint():
		return subjects.CodeConstraint
	case ee.TooBig():
		return subjects.CodeTooBig
	case ee.Busy():
		return subjects.CodeBusy
	case ee.Denied():
		return subjects.CodeDenied
	case ee.ReadOnly():
		return subjects.CodeReadOnly
	case ee.SQL():
		return subjects.CodeSyntax
	case ee.Full(), ee.Disk():
		return subjects.CodeUnavailable
	}
	return subjects.CodeInternal
}
