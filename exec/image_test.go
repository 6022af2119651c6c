package exec_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/exec/engine"
	"github.com/snapdb/snapdb/subjects"
)

// foreign makes a SQLite file as another program would, without snapdb's rules.
func foreign(t tb, sql string) string {
	t.Helper()
	path := filepath.Join(tempDir(t), "foreign.db")
	keep(t, path, sql).Close()
	return path
}

// keep executes SQL on a file and returns the connection.
func keep(t tb, path, sql string) *engine.Conn {
	t.Helper()
	c, err := engine.Open(path, engine.Options{Trusted: true, Scratch: true})
	if err == nil {
		err = c.Exec(sql)
	}
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return c
}

// importFile makes a database of a file on a node, as an import does.
func (h *history) importFile(n *node, file, db string) {
	h.t.Helper()
	image := filepath.Join(tempDir(h.t), "image")
	err := exec.Image(context.Background(), file, image, nil)
	if err == nil {
		err = exec.CheckImage(context.Background(), image)
	}
	data, rerr := os.ReadFile(image)
	if err = errors.Join(err, rerr); err != nil {
		h.t.Fatal(err)
	}
	digest := sha256.Sum256(data)
	ref := subjects.ImageRef{BlobRef: subjects.BlobRef{Digest: hex.EncodeToString(digest[:]), Size: 1}, File: int64(len(data))}
	if err := os.WriteFile(filepath.Join(h.blobs.dir, ref.Digest), data, 0o600); err != nil {
		h.t.Fatal(err)
	}
	h.command(n, "CREATE DATABASE "+db)
	h.image(n, db, ref)
	h.replay(n, 8)
}

// image logs an image as the next message of a database.
func (h *history) image(n *node, db string, ref subjects.ImageRef) *subjects.Message {
	h.t.Helper()
	d := n.database(db)
	at := d.Applied()
	body := subjects.AppendBody(nil, &subjects.Body{DB: db, Engine: n.Engine(), Image: &ref})
	return h.add(subjects.Header{DB: db, Inc: d.Incarnation(), Prev: at.Number, Chain: subjects.NextChain(at.Chain, d.Incarnation(), body)}, body)
}

// everything is a schema with something of each kind.
const everything = `PRAGMA user_version=7; PRAGMA application_id=9;
CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, i, r REAL, g AS (i || 'x') STORED);
INSERT INTO t (i, r) VALUES (9223372036854775807, 9e999), (-9223372036854775808, -9e999), (CAST(x'610062ff' AS TEXT), 0.1), (x'', NULL);
CREATE TABLE gaps (a, rowid_ TEXT); INSERT INTO gaps (rowid, a) VALUES (-5, 1), (3, 2), (4, -0.0), (90, 'ü');
CREATE TABLE w (k TEXT COLLATE NOCASE, n, PRIMARY KEY (k DESC, n)) WITHOUT ROWID; INSERT INTO w VALUES ('a', 1), ('B', 2), ('c', x'00');
CREATE VIRTUAL TABLE f USING fts5(body); INSERT INTO f VALUES ('one two'), ('three'); DELETE FROM f WHERE rowid = 1;
CREATE VIRTUAL TABLE box USING rtree(id, a, b); INSERT INTO box VALUES (1, 0.5, 2.25), (7, -1, 1);
CREATE INDEX ti ON t(i) WHERE i > 0; CREATE VIEW v AS SELECT * FROM t; ANALYZE;
CREATE TRIGGER tr AFTER INSERT ON gaps BEGIN INSERT INTO f VALUES (new.a); END;
DELETE FROM t WHERE id = 4;`

// Whatever an imported file was, the nodes that begin with it go on like any others.
func TestImportedFilesBecomeDatabases(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, before string }{
		{"rollback journal", ""},
		{"small pages", "PRAGMA page_size=1024; PRAGMA auto_vacuum=FULL;"},
		{"large pages", "PRAGMA page_size=65536;"},
		{"WAL", "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; "},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(tempDir(t), "it's mine.db")
			writer := keep(t, file, c.before+everything) // still there: its WAL is not in the file
			defer writer.Close()
			// And in the middle of something that is not committed.
			if strings.HasPrefix(c.name, "WAL") {
				if err := writer.Exec("BEGIN; INSERT INTO w VALUES ('not yet', 1)"); err != nil {
					t.Fatal(err)
				}
			}
			before := contents(t, file)
			h := newHistory(t)
			master, slave := newMaster(t, h), newSlave(t)
			h.importFile(master, file, "d")
			if after := contents(t, file); !bytes.Equal(before, after) {
				t.Error("the file was changed")
			}
			for sql, want := range map[string]string{
				"SELECT count(*) FROM t": "3", "SELECT group_concat(rowid) FROM gaps": "-5,3,4,90",
				"SELECT group_concat(k) FROM w": "c,B,a", "SELECT count(*) FROM f('three')": "1", "SELECT user_version FROM pragma_user_version": "7",
			} {
				if got := master.query("d", sql); got != want {
					t.Errorf("%s: %s, want %s", sql, got, want)
				}
			}
			h.mustWrite(master, "d", "INSERT INTO gaps VALUES ('five', 5); INSERT INTO t (i) VALUES (5)")
			h.replay(slave, 8)
			same(t, master, slave)
			master.close()
			master.reopen()
			h.mustWrite(master, "d", "INSERT INTO w VALUES ('d', 4)")
			h.replay(slave, 8)
			same(t, master, slave)
			late := newSlave(t)
			seed(master, late, true)
			same(t, master, late)
		})
	}
}

// contents are the bytes of a file and its WAL.
func contents(t tb, path string) []byte {
	t.Helper()
	var all []byte
	for _, suffix := range []string{"", "-wal", "-journal"} {
		data, err := os.ReadFile(path + suffix)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		all = append(all, data...)
	}
	return all
}

func TestFilesThatCannotBeImportedSayWhy(t *testing.T) {
	t.Parallel()
	write := func(data string) string {
		path := filepath.Join(tempDir(t), "file")
		if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	sound, err := os.ReadFile(foreign(t, everything))
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(sound)
	copy(damaged[4096:8192], make([]byte, 4096))
	random := fmt.Sprintf("CREATE TABLE t (a); INSERT INTO t (rowid, a) VALUES (%d, 1)", int64(math.MaxInt64))
	for _, c := range []struct{ file, why string }{
		{tempDir(t), "it is a directory"},
		{write(""), "it is empty"},
		{write("no database, but longer than its header would be: " + strings.Repeat("x", 4096)), "no SQLite database"},
		{write(string(sound[:3*4096+7])), "damaged"},
		{write(string(damaged)), "damaged"},
		{foreign(t, "PRAGMA encoding='UTF-16le'; CREATE TABLE t (a)"), "its texts are UTF-16le"},
		{foreign(t, "CREATE TABLE _snapdb_x (a)"), "_snapdb_x, and names that begin with _snapdb are snapdb's own"},
		{foreign(t, "CREATE TABLE t (a); CREATE INDEX _SNAPDB ON t(a)"), "are snapdb's own"},
		{foreign(t, random), "rowids at random"},
		{foreign(t, "CREATE VIRTUAL TABLE s USING dbstat"), "dbstat is not allowed"},
		{foreign(t, "CREATE VIEW v AS SELECT sqlite_compileoption_get(1)"), "function sqlite_compileoption_get() is not allowed"},
		{foreign(t, "CREATE TABLE t (a); CREATE TRIGGER g AFTER UPDATE OF a ON t BEGIN SELECT load_extension('x'); END"), "function load_extension() is not allowed"},
		{foreign(t, "CREATE TABLE t (a); INSERT INTO t VALUES (zeroblob(67108865))"), "more than the 64 MB"},
		{write("SQLite format 3\x00" + strings.Repeat("\xff", 8000)), "no SQLite database"},
	} {
		image := filepath.Join(tempDir(t), "image")
		err := exec.Image(context.Background(), c.file, image, nil)
		if err == nil {
			err = exec.CheckImage(context.Background(), image)
		} else if left, _ := filepath.Glob(image + "*"); len(left) > 0 {
			t.Errorf("%s: left: %q", c.why, left)
		}
		if !errors.Is(err, exec.ErrUnfit) || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%v\nwant: %s", err, c.why)
		}
	}
	if err := exec.Image(context.Background(), "no/such/file", "x", nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	image := filepath.Join(tempDir(t), "image")
	if err := exec.Image(ctx, foreign(t, everything), image, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
}

// Of a program that crashed in the middle of a transaction, the journal must be rolled
// back before anybody reads: not by an import, which changes nothing.
func TestHotJournalIsLeftAlone(t *testing.T) {
	t.Parallel()
	path := filepath.Join(tempDir(t), "live.db")
	writer := keep(t, path, "PRAGMA journal_mode=DELETE; PRAGMA synchronous=FULL; CREATE TABLE t (a, b); PRAGMA cache_size=10; "+
		"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 5000) INSERT INTO t SELECT i, randomblob(50) FROM n; BEGIN; UPDATE t SET b = randomblob(50)")
	defer writer.Close()
	crashed := filepath.Join(tempDir(t), "crashed.db")
	for _, suffix := range []string{"", "-journal"} {
		data, err := os.ReadFile(path + suffix)
		if err == nil {
			err = os.WriteFile(crashed+suffix, data, 0o600)
		}
		if suffix != "" && !bytes.HasPrefix(data, []byte("\xd9\xd5\x05\xf9\x20\xa1\x63\xd7")) {
			t.Fatalf("the journal of %d bytes does not count yet: %.16x", len(data), data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	before := contents(t, crashed)
	err := exec.Image(context.Background(), crashed, filepath.Join(tempDir(t), "image"), nil)
	if why := "its last transaction must be rolled back first"; !errors.Is(err, exec.ErrUnfit) || !strings.Contains(err.Error(), why) {
		t.Errorf("%v\nwant: %s", err, why)
	}
	if !bytes.Equal(before, contents(t, crashed)) {
		t.Error("the file was changed")
	}
}

func TestLockedFileIsNotWaitedForForever(t *testing.T) {
	t.Parallel()
	locked := foreign(t, everything)
	holder := keep(t, locked, "BEGIN EXCLUSIVE")
	defer holder.Close()
	err := exec.Image(context.Background(), locked, filepath.Join(tempDir(t), "image"), nil)
	if why := "another program holds it locked"; !errors.Is(err, exec.ErrUnfit) || !strings.Contains(err.Error(), why) {
		t.Errorf("%v\nwant: %s", err, why)
	}
}

// A database begins with an image or has none; what is not there can be tried again.
func TestImageIsAppliedWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	h := newHistory(t)
	master, slave := newMaster(t, h), newSlave(t)
	h.importFile(master, foreign(t, everything), "d")
	h.replay(slave, 1)
	// A slave that could not fetch it has nothing, and is not harmed.
	h.command(master, "CREATE DATABASE e")
	ref := subjects.ImageRef{BlobRef: subjects.BlobRef{Digest: strings.Repeat("0", 64), Size: 1}, File: 1}
	m := h.image(master, "e", ref)
	gone := errors.New("gone")
	n, err := master.database("e").Apply(context.Background(), []*subjects.Message{m}, exec.Source{
		Image: func(_ context.Context, _ subjects.ImageRef, path string) error {
			return errors.Join(os.WriteFile(path, []byte("half"), 0o600), gone)
		}})
	if n != 0 || !errors.Is(err, gone) {
		t.Errorf("applied %d, %v", n, err)
	}
	if left, err := filepath.Glob(filepath.Join(master.dir, "*.image*")); err != nil || len(left) > 0 {
		t.Errorf("left: %q, %v", left, err)
	}
	if at := master.database("e").Applied(); at.Number != m.Header.Prev {
		t.Errorf("at %d after an apply that failed", at.Number)
	}
	h.msgs = h.msgs[:len(h.msgs)-1] // it never was in the log
	h.mustWrite(master, "e", "CREATE TABLE t (a)")
	m = h.image(master, "e", ref)
	h.msgs = h.msgs[:len(h.msgs)-1]
	var diverged *exec.DivergedError
	if _, err := master.database("e").Apply(context.Background(), []*subjects.Message{m}, exec.Source{OpenBlob: h.blobs.open, Image: h.blobs.image}); !errors.As(err, &diverged) {
		t.Errorf("an image in the middle: %v", err)
	}
	// What a crash in the middle leaves is removed.
	left := filepath.Join(slave.dir, "3.image-wal")
	if err := os.WriteFile(left, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	slave.close()
	slave.reopen()
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("still there: %v", err)
	}
	h.replay(slave, 8)
	same(t, master, slave)
}
