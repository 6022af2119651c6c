package exec_test

import (
	"os"
	"strings"
	"testing"

	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// What becomes of the blob of a group that is too large for a message depends on
// what becomes of the message.
func TestBlobOfAGroupFollowsItsMessage(t *testing.T) {
	for _, c := range []struct {
		name       string
		end        func(*history, *exec.Database, *exec.Group) error
		kept, left int
	}{
		{"stored", func(h *history, d *exec.Database, g *exec.Group) error {
			return g.Commit(uint64(len(h.msgs)+1), subjects.Chain{})
		}, 1, 1},
		{"not stored", func(_ *history, _ *exec.Database, g *exec.Group) error { return g.Rollback() }, 0, 0},
		{"nobody knows", func(_ *history, _ *exec.Database, g *exec.Group) error { return g.Leave() }, 0, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHistory(t)
			n := newMaster(t, h)
			h.command(n, "CREATE DATABASE d")
			h.mustWrite(n, "d", "CREATE TABLE t (x)")
			g, err := n.database("d").Begin()
			if err != nil {
				t.Fatal(err)
			}
			if o := h.run(n.database("d"), g, text("INSERT INTO t VALUES (?)", subjects.TextValue(strings.Repeat("x", subjects.MaxInline+1)))); o.err != nil {
				t.Fatal(o.err)
			}
			if _, err := g.Seal(); err != nil {
				t.Fatal(err)
			}
			if err := c.end(h, n.database("d"), g); err != nil {
				t.Fatal(err)
			}
			files, err := os.ReadDir(h.blobs.dir)
			if err != nil || len(files) != c.left || h.blobs.kept != c.kept {
				t.Errorf("%d blobs are left, %d kept, %v; want %d and %d", len(files), h.blobs.kept, err, c.left, c.kept)
			}
		})
	}
}
