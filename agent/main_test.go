package agent_test

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

// TestMain has more tests run side by side than there are processors: they wait for
// disks, for each other's messages and for time to pass more than they compute.
func TestMain(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		if err := flag.Set("test.parallel", "3"); err != nil {
			fmt.Fprintln(os.Stderr, "run tests side by side:", err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}
