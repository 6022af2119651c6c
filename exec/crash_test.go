package exec_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// childVar makes this test binary another process of a test: "master DIR LOG" or
// "slave DIR LOG".
const childVar = "SNAPDB_EXEC_TEST_CHILD"

// atEnd is what a child says that has nothing left to do.
const atEnd = "end"

// runChild does a child's work until somebody kills it.
func runChild(job string) error {
	word := strings.Fields(job)
	role := exec.Role(word[0])
	s, err := exec.Open(word[1], exec.Options{Role: role})
	if err != nil {
		return err
	}
	d, err := s.Database("d")
	if err != nil {
		return err
	}
	l := diskLog{dir: word[2]}
	// Like a starting master, the child first takes over what is in the log.
	if err := l.follow(d); err != nil {
		return err
	}
	if role == exec.RoleSlave {
		fmt.Println(atEnd)
		_, err := io.Copy(io.Discard, os.Stdin) // until it is killed
		return err
	}
	for {
		if err := l.lead(d); err != nil {
			return err
		}
	}
}

// diskLog is a log in a folder, one file per message. What was written survives
// the death of the process, as in the broker.
type diskLog struct{ dir string }

func (l diskLog) path(position uint64) string {
	return filepath.Join(l.dir, strconv.FormatUint(position, 10))
}

func (l diskLog) append(m *subjects.Message) error {
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	tmp := l.path(m.Position) + ".tmp"
	return errors.Join(os.WriteFile(tmp, data, 0o600), os.Rename(tmp, l.path(m.Position)))
}

// read is the message at a position, nil at the end of the log.
func (l diskLog) read(position uint64) (*subjects.Message, error) {
	data, err := os.ReadFile(l.path(position))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	m := new(subjects.Message)
	return m, errors.Join(err, json.Unmarshal(data, m))
}

// lead writes one group of random size and says that it is committed.
func (l diskLog) lead(d *exec.Database) error {
	g, err := d.Begin()
	if err != nil {
		return err
	}
	at := d.Applied()
	for i := range 1 + rand.IntN(20) {
		tx, err := g.Open(subjects.Txn{Now: int64(at.Number), Seed: rand.Uint64()})
		if err != nil {
			return err
		}
		var out subjects.Results
		sql := fmt.Sprintf("INSERT INTO t VALUES (%d, %d, random(), randomblob(300)); INSERT INTO f VALUES (hex(randomblob(9)))", at.Number+1, i)
		if i%5 == 4 {
			sql = "DELETE FROM t WHERE rowid IN (SELECT rowid FROM t ORDER BY random() LIMIT 3)"
		}
		if err := tx.RunAll([]subjects.Stmt{{SQL: sql}}, &out); err != nil {
			return err
		}
		if err := tx.Accept(nil); err != nil {
			return err
		}
	}
	body, err := g.Seal()
	if err != nil {
		return err
	}
	m := &subjects.Message{Position: at.Number + 1, Data: body,
		Header: subjects.Header{DB: "d", Inc: d.Incarnation(), Prev: at.Number, Chain: subjects.NextChain(at.Chain, d.Incarnation(), body)}}
	if err := l.append(m); err != nil {
		return err
	}
	if err := g.Commit(m.Position, m.Header.Chain); err != nil {
		return err
	}
	fmt.Println(m.Position)
	return nil
}

// follow applies what is in the log in random batches and says after each how far
// it is.
func (l diskLog) follow(d *exec.Database) error {
	for {
		var batch []*subjects.Message
		for i := range uint64(1 + rand.IntN(4)) {
			m, err := l.read(d.Applied().Number + 1 + i)
			if err != nil {
				return err
			}
			if m == nil {
				break
			}
			batch = append(batch, m)
		}
		if len(batch) == 0 {
			return nil
		}
		if _, err := d.Apply(context.Background(), batch, exec.Source{}); err != nil {
			return err
		}
		fmt.Println(d.Applied().Number)
	}
}

// killed runs a child, kills it after it has said a number of positions or is at
// the end, and returns the last position it said.
func killed(t *testing.T, job string, after int) uint64 {
	t.Helper()
	cmd := osexec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childVar+"="+job)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cmd.StdinPipe(); err != nil { // stays open
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines, last := bufio.NewScanner(out), uint64(0)
	for n := 0; lines.Scan(); n++ {
		if lines.Text() != atEnd {
			if last, err = strconv.ParseUint(lines.Text(), 10, 64); err != nil {
				t.Fatal(err)
			}
		}
		if n == after || lines.Text() == atEnd {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the child ended by itself")
	}
	return last
}

// A process that is killed while it commits leaves exactly what its position says:
// everything it has acknowledged, and no half of anything.
func TestKilledNodeHoldsWhatItsPositionSays(t *testing.T) {
	t.Parallel()
	h, master, slave := cluster(t, "CREATE TABLE t (g, i, r, b); CREATE INDEX ti ON t (r); CREATE VIRTUAL TABLE f USING fts5(x)")
	reference := newSlave(t)
	h.replay(slave, 1)
	h.replay(reference, 1)
	l := diskLog{dir: t.TempDir()}
	for round := range 7 {
		for _, n := range []*node{master, slave} {
			role := n.opts.Role
			n.close()
			said := killed(t, fmt.Sprintf("%s %s %s", role, n.dir, l.dir), rand.IntN(8))
			n.reopen()
			at := n.database("d").Applied().Number
			if at < said {
				t.Fatalf("round %d: the %s said %d and is at %d", round, role, said, at)
			}
			for len(h.msgs) < int(at) {
				m, err := l.read(uint64(len(h.msgs) + 1))
				if err != nil || m == nil {
					t.Fatalf("round %d: the %s is at %d, beyond the log: %v", round, role, at, err)
				}
				h.msgs = append(h.msgs, m)
			}
			// A third node, that was never killed, at the same position.
			all := h.msgs
			h.msgs = all[:max(int(at), int(reference.database("d").Applied().Number))]
			h.replay(reference, 3)
			h.msgs = all
			if at == reference.database("d").Applied().Number {
				same(t, reference, n)
			}
			if got := n.query("d", "SELECT group_concat(integrity_check) FROM pragma_integrity_check"); got != "ok" {
				t.Fatalf("round %d: the %s: %s", round, role, got)
			}
		}
	}
	// What is in the log counts, whoever had it before he was killed.
	for {
		m, err := l.read(uint64(len(h.msgs) + 1))
		if err != nil {
			t.Fatal(err)
		}
		if m == nil {
			break
		}
		h.msgs = append(h.msgs, m)
	}
	for _, n := range []*node{master, slave, reference} {
		h.replay(n, 5)
	}
	same(t, master, slave, reference)
}
