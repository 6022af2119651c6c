package main

import (
	"errors"

	"github.com/spf13/pflag"

	"github.com/snapdb/snapdb/agent"
	"github.com/snapdb/snapdb/exec"
)

// readFlags adds the flags of what reads may take of a node. What it returns checks and
// takes them over once they are parsed.
func readFlags(f *pflag.FlagSet, r *agent.Reads) (take func() error) {
	var memoryMB, filesMB int64
	f.DurationVar(&r.Time, "read-time", agent.DefaultReadTime, "`TIME` after which a read ends that names none")
	f.DurationVar(&r.Longest, "read-time-max", agent.DefaultReadLongest, "longest `TIME` that a read may name")
	f.IntVar(&r.Connections, "read-connections", exec.DefaultReadConnections, "`NUMBER` of reads of one database at a time; of a user at most half")
	f.Int64Var(&memoryMB, "read-memory", exec.DefaultReadMemory>>20, "memory in `MiB` that one read may take, all together four times as much")
	f.Int64Var(&filesMB, "read-temp", exec.DefaultReadFiles>>20, "temporary files in `MiB` that one read may write to sort and group")
	return func() error {
		switch {
		case r.Time <= 0 || r.Longest < r.Time:
			return errors.New("--read-time must be more than 0, and --read-time-max not less")
		case r.Connections < 2:
			return errors.New("--read-connections must be at least 2")
		case memoryMB < 32 || filesMB < 1:
			return errors.New("--read-memory must be at least 32, --read-temp at least 1")
		}
		r.Memory, r.Files = memoryMB<<20, filesMB<<20
		return nil
	}
}
