package agent_test

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"
)

// TestMain has three tests at least run side by side, also where there are fewer
// processors: they wait for disks, messages and time more than they compute.
func TestMain(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		if err := flag.Set("test.parallel", strconv.Itoa(max(3, runtime.GOMAXPROCS(0)))); err != nil {
			fmt.Fprintln(os.Stderr, "run tests side by side:", err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}
