//go:build linux

package cluster_test

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	osexec "os/exec"
	"path/filepath"
	"sync"
	"testing"

	"modernc.org/sqlite"
)

// built is the binary under test, built once for the run.
var built string

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
	// opens one would decide for all how files are locked.
	if _, err := sqlite.OFDLocking(true); err != nil {
		fmt.Fprintln(os.Stderr, "set up file locks:", err)
		return 1
	}
	dir, err := os.MkdirTemp("", "snapdb-cluster-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "make a directory for the program:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	built = filepath.Join(dir, "snapdb")
	args := append([]string{"build", "-o", built}, raceFlag...)
	build := osexec.Command("go", append(args, "github.com/snapdb/snapdb/cmd/snapdb")...)
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the program: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// program is the path of the binary under test.
//
// It is no dependency of this package that the go command could see: without a
// look at the folders of the module, which the go command notes, it would answer
// with the cached result of a test of another program.
func program(t testing.TB) string {
	t.Helper()
	if err := lookAtSources(); err != nil {
		t.Fatal(err)
	}
	return built
}

var lookAtSources = sync.OnceValue(func() error {
	return filepath.WalkDir("../../..", func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && d.Name() == ".git" {
			return filepath.SkipDir
		}
		return err
	})
})
