package main

import (
	"os"
	"runtime/debug"
)

// gcPercent is how much garbage, in percent of what is in use, may pile up before
// it is collected. What a node has in use is a few MB, because pages of SQLite are
// no garbage-collected memory; collecting at every few MB cost a tenth of the
// processor time under load.
const gcPercent = 200

// relaxGC sets gcPercent unless the environment says something else.
func relaxGC() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}
