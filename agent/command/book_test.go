package command_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/snapdb/snapdb/agent/command"
	"github.com/snapdb/snapdb/subjects"
)

var states = []subjects.CommandState{subjects.CommandQueued, subjects.CommandSent, subjects.CommandAccepted, subjects.CommandDone,
	subjects.CommandFailed, subjects.CommandTimedOut, subjects.CommandExpired, subjects.CommandCancelled}

func openBook(t interface{ Fatal(...any) }, path string, changed func(subjects.CommandRecord)) *command.Book {
	b, err := command.OpenBook(path, changed)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func ignore(subjects.CommandRecord) {}

// Whatever is asked of a book, its states go forward only, and after a restart at
// any point it says what it said before.
func TestStatesGoForwardAndSurviveRestarts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tries := 0
	rapid.Check(t, func(t *rapid.T) {
		tries++
		path := filepath.Join(dir, fmt.Sprint(tries))
		b := openBook(t, path, ignore)
		defer func() { b.Close() }()
		said := map[string]subjects.CommandRecord{}
		nodes := []string{"a", "b", "c"}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				id := fmt.Sprint(rapid.IntRange(0, 5).Draw(t, "id"))
				r := subjects.CommandRecord{ID: id, Op: subjects.OpPing, Created: time.Unix(int64(len(said)), 0).UTC()}
				for _, n := range nodes {
					r.Nodes = append(r.Nodes, subjects.NodeOutcome{Node: n, State: subjects.CommandQueued})
				}
				is, err := b.Add(r)
				if err != nil {
					t.Fatal(err)
				}
				if was, has := said[id]; has && !cmp.Equal(was, is) {
					t.Fatalf("a second record of one id changed the first:\n%s", cmp.Diff(was, is))
				}
				said[id] = is
			},
			"update": func(t *rapid.T) {
				id := fmt.Sprint(rapid.IntRange(0, 5).Draw(t, "id"))
				node := rapid.SampledFrom(nodes).Draw(t, "node")
				to := rapid.SampledFrom(states).Draw(t, "state")
				err := b.Update(id, func(n *subjects.NodeOutcome) bool {
					if n.Node != node {
						return false
					}
					n.State = to
					if to.Ended() {
						n.Ended = time.Unix(int64(rapid.IntRange(1, 9).Draw(t, "ended")), 0).UTC()
					}
					return true
				})
				was, has := said[id]
				if has == errors.Is(err, command.ErrUnknown) || has && err != nil {
					t.Fatalf("update of %s, which is there: %v: %v", id, has, err)
				}
				if !has {
					return
				}
				is, err := b.Get(id)
				if err != nil {
					t.Fatal(err)
				}
				for i, n := range is.Nodes {
					if before := was.Nodes[i].State; n.State != before && !command.Follows(before, n.State) {
						t.Fatalf("%s after %s", n.State, before)
					}
					if was.Nodes[i].State == subjects.CommandDone && n.State != subjects.CommandDone {
						t.Fatalf("what was done is %s", n.State)
					}
				}
				said[id] = is
			},
			"restart": func(t *rapid.T) {
				if err := b.Close(); err != nil {
					t.Fatal(err)
				}
				b = openBook(t, path, ignore)
				for id, was := range said {
					is, err := b.Get(id)
					// Times that the change of no state came with are not kept.
					for i := range is.Nodes {
						is.Nodes[i].Ended, was.Nodes[i].Ended = time.Time{}, time.Time{}
					}
					is.Ended, was.Ended = time.Time{}, time.Time{}
					if err != nil || !cmp.Equal(was, is) {
						t.Fatalf("after a restart: %v\n%s", err, cmp.Diff(was, is))
					}
					said[id], _ = b.Get(id)
				}
			},
		})
	})
}

// A crash in the middle of a line leaves the book as it was before that.
func TestLineThatACrashCutIsPassedOver(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "book")
	b := openBook(t, path, ignore)
	r, err := b.Add(subjects.CommandRecord{ID: "x", Op: subjects.OpPing, Nodes: []subjects.NodeOutcome{{Node: "a", State: subjects.CommandQueued}}})
	if err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(b.Update("x", func(n *subjects.NodeOutcome) bool { n.State = subjects.CommandSent; return true }), b.Close()); err != nil {
		t.Fatal(err)
	}
	all, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := len(whole); cut < len(all); cut++ {
		if err := os.WriteFile(path, all[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		b := openBook(t, path, ignore)
		if is, err := b.Get("x"); err != nil || !cmp.Equal(is, r) {
			t.Errorf("cut at %d: %v\n%s", cut, err, cmp.Diff(r, is))
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A line of a node that its command was not for cannot come from the book.
func TestDamagedBookIsAnError(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "book")
	lines := `{"record":{"id":"x","op":"ping","nodes":[{"node":"a","state":"queued"}]}}` + "\n" + `{"id":"x","nodes":[{"node":"b","state":"done"}]}` + "\n"
	if err := os.WriteFile(path, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := command.OpenBook(path, ignore); err == nil {
		t.Errorf("opened: %+v", b.Open())
	}
}
