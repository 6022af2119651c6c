package access_test

import (
	"flag"
	"os"
	"testing"
)

// checks is how many cases a property is tried with, unless the command line says
// otherwise: each waits for the disk a hundred times.
const checks = "15"

func TestMain(m *testing.M) {
	flag.Parse()
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "rapid.checks" })
	if !chosen {
		flag.Set("rapid.checks", checks)
	}
	os.Exit(m.Run())
}
