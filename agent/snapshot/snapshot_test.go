package snapshot_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/snapdb/snapdb/agent/snapshot"
	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// node is a data directory with one database, d, whose log is in memory.
type node struct {
	*exec.Store
	t  testing.TB
	at uint64 // last position
}

func newNode(t testing.TB) *node {
	t.Helper()
	s, err := exec.Open(t.TempDir(), exec.Options{Role: exec.RoleMaster, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	n := &node{Store: s, t: t}
	n.create("d")
	n.write("d", "CREATE TABLE t (x)")
	return n
}

func (n *node) create(name string) {
	n.t.Helper()
	cmd, _, err := exec.ParseCommand("CREATE DATABASE " + name)
	if err != nil {
		n.t.Fatal(err)
	}
	body, at := n.Catalog().Body(cmd, 1), n.Catalog().Applied()
	n.at++
	err = n.ApplyCatalog(&subjects.Message{Position: n.at, Data: body, Header: subjects.Header{DB: subjects.Catalog, Prev: at.Number, Chain: subjects.NextChain(at.Chain, 0, body)}})
	if err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) database(name string) *exec.Database {
	n.t.Helper()
	d, err := n.Database(name)
	if err != nil {
		n.t.Fatal(err)
	}
	return d
}

func (n *node) write(db, sql string) {
	n.t.Helper()
	d := n.database(db)
	g, err := d.Begin()
	if err != nil {
		n.t.Fatal(err)
	}
	tx, err := g.Open(subjects.Txn{Now: 1, Seed: 1})
	if err == nil {
		err = tx.RunAll([]subjects.Stmt{{SQL: sql}}, nil)
	}
	if err == nil {
		err = tx.Accept(nil)
	}
	var body []byte
	if err == nil {
		body, err = g.Seal()
	}
	if err != nil {
		n.t.Fatal(err)
	}
	n.at++
	if err := g.Commit(n.at, subjects.NextChain(d.Applied().Chain, d.Incarnation(), body)); err != nil {
		n.t.Fatal(err)
	}
}

func anyRoom(int64) error { return nil }

func open(t testing.TB, dir, cluster string) *snapshot.Store {
	t.Helper()
	s, err := snapshot.Open(dir, cluster, anyRoom, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func take(t testing.TB, s *snapshot.Store, d *exec.Database) subjects.Snapshot {
	t.Helper()
	snap, err := s.Take(context.Background(), d)
	if err != nil {
		t.Fatal(err)
	}
	return snap
}

func files(t testing.TB, dir string) (names []string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range list {
		names = append(names, f.Name())
	}
	return names
}

func wantFiles(t testing.TB, dir string, snaps ...subjects.Snapshot) {
	t.Helper()
	var want []string
	for _, s := range snaps {
		want = append(want, fmt.Sprint(s.Incarnation, ".json"), s.Digest)
	}
	slices.Sort(want)
	if has := files(t, dir); !slices.Equal(has, want) {
		t.Fatalf("files %q, want %q", has, want)
	}
}

func TestNewestSnapshotTakesThePlaceOfTheOlder(t *testing.T) {
	n, dir := newNode(t), t.TempDir()
	s := open(t, dir, "c")
	d := n.database("d")
	if snap, ok := s.Newest(d.Incarnation()); ok {
		t.Fatalf("there is one: %+v", snap)
	}
	first := take(t, s, d)
	if first.Head != d.Head() || first.Size == 0 || first.File == 0 || first.Taken == 0 {
		t.Fatalf("%+v, want one of %+v", first, d.Head())
	}
	wantFiles(t, dir, first)
	if again := take(t, s, d); again != first {
		t.Errorf("without a change: %+v, before %+v", again, first)
	}
	n.write("d", "INSERT INTO t VALUES (1)")
	second := take(t, s, d)
	wantFiles(t, dir, second)
	n.create("e")
	other := take(t, s, n.database("e"))
	wantFiles(t, dir, second, other)

	s = open(t, dir, "c") // after a restart
	if snap, ok := s.Newest(d.Incarnation()); !ok || snap != second {
		t.Fatalf("%+v, want %+v", snap, second)
	}
	if err := s.Prune(func(inc uint64) bool { return inc == other.Incarnation }); err != nil {
		t.Fatal(err)
	}
	wantFiles(t, dir, other)
}

func TestUnpackedSnapshotIsTheDatabase(t *testing.T) {
	n, other := newNode(t), newNode(t)
	n.write("d", "INSERT INTO t VALUES (hex(randomblob(1000000)))")
	s := open(t, t.TempDir(), "c")
	d := n.database("d")
	snap := take(t, s, d)
	if snap.Size >= snap.File {
		t.Errorf("%d bytes are packed into %d", snap.File, snap.Size)
	}
	path := filepath.Join(t.TempDir(), "file")
	if err := s.File(snap, path); err != nil {
		t.Fatal(err)
	}
	if err := other.database("d").Replace(path, d.Applied(), nil); err != nil {
		t.Fatal(err)
	}
	if other.database("d").Head() != d.Head() {
		t.Errorf("%+v, want %+v", other.database("d").Head(), d.Head())
	}
}

func TestSnapshotsThatCannotBeUsedAreNot(t *testing.T) {
	n := newNode(t)
	d := n.database("d")
	for name, harm := range map[string]func(dir string, snap subjects.Snapshot) error{
		"content is missing": func(dir string, snap subjects.Snapshot) error { return os.Remove(filepath.Join(dir, snap.Digest)) },
		"content is cut": func(dir string, snap subjects.Snapshot) error {
			return os.Truncate(filepath.Join(dir, snap.Digest), 10)
		},
		"manifest is cut": func(dir string, snap subjects.Snapshot) error {
			return os.Truncate(filepath.Join(dir, fmt.Sprint(snap.Incarnation, ".json")), 20)
		},
		"manifest is empty": func(dir string, snap subjects.Snapshot) error {
			return os.Truncate(filepath.Join(dir, fmt.Sprint(snap.Incarnation, ".json")), 0)
		},
		"manifest is of another database": func(dir string, snap subjects.Snapshot) error {
			return os.Rename(filepath.Join(dir, fmt.Sprint(snap.Incarnation, ".json")), filepath.Join(dir, "77.json"))
		},
		"digest leads elsewhere": func(dir string, snap subjects.Snapshot) error {
			path := filepath.Join(dir, fmt.Sprint(snap.Incarnation, ".json"))
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(path, bytes.Replace(data, []byte(snap.Digest), []byte("../secret"), 1), 0o600)
		},
	} {
		dir := t.TempDir()
		snap := take(t, open(t, dir, "c"), d)
		if err := harm(dir, snap); err != nil {
			t.Fatal(err)
		}
		s := open(t, dir, "c")
		if snap, ok := s.Newest(d.Incarnation()); ok {
			t.Errorf("%s: %+v is offered", name, snap)
		}
		wantFiles(t, dir)
		wantFiles(t, dir, append([]subjects.Snapshot(nil), take(t, s, d))...)
	}
	dir := t.TempDir()
	take(t, open(t, dir, "c"), d)
	if snap, ok := open(t, dir, "another").Newest(d.Incarnation()); ok {
		t.Errorf("of another cluster: %+v is offered", snap)
	}
	wantFiles(t, dir)
}

func TestWhatACrashLeftIsRemoved(t *testing.T) {
	n, dir := newNode(t), t.TempDir()
	snap := take(t, open(t, dir, "c"), n.database("d"))
	digest := strings.Repeat("ab", 32)
	for _, name := range []string{"1.copy", "1.copy-wal", "1.copy-shm", digest, digest + ".5.draft", "123.tmp"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	open(t, dir, "c")
	wantFiles(t, dir, snap)
}

// Older programs neither use nor remove what a newer one has made.
func TestSnapshotOfANewerFormatIsLeftAlone(t *testing.T) {
	d, dir := newNode(t).database("d"), t.TempDir()
	snap := take(t, open(t, dir, "c"), d)
	path := filepath.Join(dir, fmt.Sprint(snap.Incarnation, ".json"))
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, manifest := range []string{string(bytes.Replace(data, []byte(`"format": 1`), []byte(`"format": 2`), 1)), `{"format":3,"database":[1]}`} {
		if err := os.WriteFile(path, []byte(manifest), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := snapshot.Open(dir, "c", anyRoom, slog.New(slog.DiscardHandler))
		if !errors.Is(err, exec.ErrNewer) || !strings.Contains(err.Error(), "use a newer snapdb") || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", manifest, err)
		}
		wantFiles(t, dir, snap)
	}
}

func TestSnapshotThatFailsLeavesTheOlder(t *testing.T) {
	n, dir := newNode(t), t.TempDir()
	d := n.database("d")
	first := take(t, open(t, dir, "c"), d)
	n.write("d", "INSERT INTO t VALUES (1)")
	full := errors.New("full")
	s, err := snapshot.Open(dir, "c", func(int64) error { return full }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Take(context.Background(), d); !errors.Is(err, full) {
		t.Errorf("error %v, want %v", err, full)
	}
	s = open(t, dir, "c")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(full)
	if _, err := s.Take(ctx, d); !errors.Is(err, full) {
		t.Errorf("error %v, want %v", err, full)
	}
	if snap, ok := s.Newest(d.Incarnation()); !ok || snap != first {
		t.Errorf("%+v, want %+v", snap, first)
	}
	wantFiles(t, dir, first)
}

// What a node is sent may be anything.
func FuzzUnpack(f *testing.F) {
	dir := f.TempDir()
	n := newNode(f)
	s := open(f, dir, "c")
	snap := take(f, s, n.database("d"))
	packed, err := os.ReadFile(filepath.Join(dir, snap.Digest))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(packed, snap.File)
	f.Add(packed[:len(packed)/2], snap.File)
	f.Add([]byte{}, int64(0))
	f.Fuzz(func(t *testing.T, packed []byte, size int64) {
		if size < 0 || size > 1<<20 {
			size = 1 << 20
		}
		path := filepath.Join(t.TempDir(), "file")
		err := snapshot.Unpack(bytes.NewReader(packed), path, size)
		info, serr := os.Stat(path)
		switch {
		case err != nil && !errors.Is(serr, os.ErrNotExist):
			t.Fatalf("after %v a file is left: %v", err, serr)
		case err == nil && (serr != nil || info.Size() != size):
			t.Fatalf("no error, but %v", serr)
		}
	})
}

func BenchmarkTake(b *testing.B) {
	n := newNode(b)
	for range 8 {
		n.write("d", "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM r WHERE n<50000) INSERT INTO t SELECT n || ' ' || random() FROM r")
	}
	s := open(b, b.TempDir(), "c")
	size := int64(0)
	for b.Loop() {
		n.write("d", "INSERT INTO t VALUES (1)")
		size += take(b, s, n.database("d")).File
	}
	b.ReportMetric(float64(size)/(1<<20)/b.Elapsed().Seconds(), "MB/s")
}
