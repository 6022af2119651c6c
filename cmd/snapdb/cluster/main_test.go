//go:build linux

package cluster_test

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/snapdb/snapdb/cmd/snapdb/processtest"
	"github.com/snapdb/snapdb/exec/engine"
)

// built is the binary under test, built once for the run.
var built *processtest.Program

// large makes the test of large transactions use the sizes that are promised.
var large = flag.Bool("large", false, "large transactions in full size: 1 M rows, 100 MB")

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	// The masters of tests must not meet at the usual address of the panel.
	if err := os.Setenv("SNAPDB_HTTP", "off"); err != nil {
		fmt.Fprintln(os.Stderr, "turn the panel off:", err)
		return 1
	}
	// Some tests read files with package exec, others with any SQLite: the first that
	// opens one decides for all how files are locked and memory is counted.
	if _, err := engine.Digest(); err != nil {
		fmt.Fprintln(os.Stderr, "set up SQLite:", err)
		return 1
	}
	dir, err := os.MkdirTemp("", "snapdb-cluster-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "make a directory for the program:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	if built, err = processtest.Build(dir, raceFlag...); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}
