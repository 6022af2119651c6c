package exec_test

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

// checks is how many cases a property is tried with, unless the command line
// says otherwise: each builds a small cluster.
const checks = "12"

func TestMain(m *testing.M) {
	if job := os.Getenv(childVar); job != "" {
		fmt.Fprintln(os.Stderr, runChild(job))
		os.Exit(1)
	}
	flag.Parse()
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "rapid.checks" })
	if !chosen {
		flag.Set("rapid.checks", checks)
	}
	os.Exit(m.Run())
}
