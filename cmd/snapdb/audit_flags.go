package main

import (
	"errors"

	"github.com/spf13/pflag"

	"github.com/snapdb/snapdb/agent"
	"github.com/snapdb/snapdb/agent/audit"
)

// auditFlags adds the flags of what is kept of who did what. What it returns checks and takes
// them over once they are parsed.
func auditFlags(f *pflag.FlagSet, a *agent.Audit) (take func() error) {
	var keepMB int64
	f.BoolVar(&a.Writes, "audit-writes", false, "put every write on the audit record of a secured cluster, not only what changes schemas")
	f.BoolVar(&a.Mask, "audit-mask", false, "leave the values out of SQL on the audit record")
	f.Int64Var(&keepMB, "audit-keep", audit.DefaultMaxBytes>>20, "size in `MiB` to which the oldest of the audit record is removed")
	f.DurationVar(&a.Age, "audit-age", audit.DefaultMaxAge, "`TIME` after which entries of the audit record are removed")
	return func() error {
		if keepMB < 1 || a.Age <= 0 {
			return errors.New("--audit-keep must be at least 1, --audit-age more than 0")
		}
		a.Keep = keepMB << 20
		return nil
	}
}
