package exec

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/snapdb/snapdb/exec/engine"
)

// Defaults of Reads.
const (
	DefaultReadConnections = 16
	DefaultReadMemory      = 256 << 20
	DefaultReadFiles       = 1 << 30
)

// Reads bound what reads may take of the machine. They are a node's own: unlike the limits
// of SQL itself they need not be the same on all nodes.
type Reads struct {
	// Connections is how many reads of one database run at a time; more wait. 0:
	// DefaultReadConnections.
	Connections int
	// Memory is how many bytes SQLite may take for one read, its page cache included; all
	// of a node may take four times as much. 0: DefaultReadMemory.
	Memory int64
	// Files is how many bytes one read may put into temporary files. 0: DefaultReadFiles.
	Files int64
	// Room fails when the disk has no room for temporary files; nil: never.
	Room func() error
}

// temporaryDir is where in the data directory temporary files of reads are: on the disk
// that is watched. They have names only while they are opened.
const temporaryDir = "tmp"

// allow makes the allowance of the reads of a store.
func (s *Store) allow(r *Reads) error {
	if r.Connections == 0 {
		r.Connections = DefaultReadConnections
	}
	if r.Memory == 0 {
		r.Memory = DefaultReadMemory
	}
	if r.Files == 0 {
		r.Files = DefaultReadFiles
	}
	if r.Room == nil {
		r.Room = func() error { return nil }
	}
	dir, err := filepath.Abs(filepath.Join(s.dir, temporaryDir))
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err != nil {
		return fmt.Errorf("make folder for temporary files: %w", err)
	}
	s.allowance = &engine.Allowance{Memory: r.Memory, AllMemory: 4 * r.Memory, Files: r.Files, Dir: dir, Room: r.Room}
	return nil
}
