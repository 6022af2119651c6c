//go:build linux

package cluster_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/snapdb/snapdb/cmd/snapdb/processtest"
)

// patience of the tests.
const patience = processtest.Patience

// node is a process of the program that has data.
type node struct {
	*processtest.Process
	t   testing.TB
	dir string // of its data, "" for none
}

// newNode prepares a process.
func newNode(t testing.TB, name, dir string, args ...string) *node {
	t.Helper()
	return &node{built.New(t, name, args...), t, dir}
}

// wipe removes the data of a node that does not run.
func (n *node) wipe() {
	n.t.Helper()
	entries, err := os.ReadDir(n.dir)
	if err != nil {
		n.t.Fatal(err)
	}
	for _, e := range entries { // the directory may be a disk of its own
		if err := os.RemoveAll(filepath.Join(n.dir, e.Name())); err != nil {
			n.t.Fatal(err)
		}
	}
}

func await(t testing.TB, missing func() string) { t.Helper(); processtest.Await(t, missing) }
