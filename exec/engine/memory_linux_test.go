package engine_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/snapdb/snapdb/exec/engine"
	"github.com/snapdb/snapdb/subjects"
)

func TestLargeArgumentsAreFreed(t *testing.T) {
	c := open(t)
	v := subjects.BlobValue(make([]byte, 4<<20))
	mustRun(t, c, engine.GuardRead, "SELECT length(?)", v)
	before := resident(t)
	for i := range 40 {
		// A text of its own each time, so that the cache holds many statements.
		mustRun(t, c, engine.GuardRead, fmt.Sprintf("SELECT length(?) + %d", i), v)
	}
	if grown := resident(t) - before; grown > 50<<20 {
		t.Errorf("memory grew by %d MiB while binding 40 times 4 MiB", grown>>20)
	}
}

// resident is the resident memory of this process in bytes.
func resident(t *testing.T) int {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(b))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}
