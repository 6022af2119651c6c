package agent_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/snapdb/snapdb/agent"
	"github.com/snapdb/snapdb/broker"
	"github.com/snapdb/snapdb/broker/brokertest"
	"github.com/snapdb/snapdb/subjects"
)

// update makes TestDataDirectoriesOfFormat store new directories of the present format.
// Those of a released format are never made again.
var update = flag.Bool("update", false, "store new data directories of the present format in testdata")

// stored is the archive with the data directories of a format: master and s1.
func stored(format int) string { return fmt.Sprintf("testdata/v%d.tar.zst", format) }

// everyKind is a value of every kind that a statement can have as argument.
var everyKind = []subjects.Value{
	{}, subjects.IntegerValue(-1 << 63), subjects.IntegerValue(1<<63 - 1), subjects.RealValue(0.1), subjects.RealValue(math.Inf(-1)),
	subjects.TextValue(""), subjects.TextValue("nul \x00 and ü"), subjects.TextValue("not \xff UTF-8"), subjects.BlobValue([]byte{}), subjects.BlobValue([]byte{0, 255}),
}

// largeText is more than a message of the log holds.
var largeText = strings.Repeat("large ", subjects.MaxInline/6+1)

// storeDirectories makes the data directories of a small cluster and packs them.
func storeDirectories(t *testing.T) {
	c := newCluster(t, agent.MasterOptions{}, "s1")
	c.do("", "CREATE DATABASE Kinds")
	c.do("Kinds", "CREATE TABLE kinds (id INTEGER PRIMARY KEY, v)")
	for _, v := range everyKind {
		c.do("Kinds", "INSERT INTO kinds (v) VALUES (?)", v)
	}
	c.do("", "CREATE DATABASE Gone")
	c.do("Gone", "CREATE TABLE g (a)")
	c.do("", "DROP DATABASE Gone")
	c.do("", "CREATE DATABASE Gone") // another of the same name
	c.do("Gone", "CREATE TABLE again (a, r DEFAULT (random())); CREATE INDEX i ON again (a)")
	if _, err := c.c.Snapshot(testContext(t), "Gone"); err != nil {
		t.Fatal(err)
	}
	c.do("Gone", "CREATE TRIGGER tr AFTER INSERT ON again WHEN NEW.a < 3 BEGIN INSERT INTO again (a) VALUES (NEW.a + 1); END")
	c.do("Gone", "INSERT INTO again (a) VALUES (1)")
	s := c.session("Gone")
	s.do("BEGIN")
	s.do("INSERT INTO again (a) VALUES (10)")
	s.fails(subjects.CodeConstraint, "INSERT INTO again (rowid) VALUES (1)")
	s.do("COMMIT")
	c.do("Gone", "CREATE TABLE large (x); INSERT INTO large VALUES (?)", subjects.TextValue(largeText))
	data := []byte("content of a file")
	args, err := json.Marshal(subjects.PushArgs{Digest: c.put(data), Size: int64(len(data)), Name: "in/a.txt"})
	if err != nil {
		t.Fatal(err)
	}
	for id, r := range map[string]subjects.CommandRequest{
		"stored-label": {Op: subjects.OpLabel, Args: label("room", "lab1"), By: "eve"},
		"stored-push":  {Op: subjects.OpPush, Args: args},
		"stored-fetch": {Op: subjects.OpFetch, Args: json.RawMessage(`{"name":"nothing"}`)},
	} {
		r.ID, r.All = id, true
		c.command(subjects.CommandSend, r)
	}
	c.untilStands("stored-label", "s1 done")
	c.untilStands("stored-push", "s1 done")
	c.untilStands("stored-fetch", "s1 failed")
	c.same()
	c.stopSlave("s1")
	c.command(subjects.CommandSend, subjects.CommandRequest{ID: "stored-queued", Op: subjects.OpLabel, Args: label("floor", "2"), All: true, Away: subjects.AwayQueue})
	c.stopMaster()
	pack(t, c.dir, stored(subjects.Version))
}

// pack writes the files of a folder into an archive.
func pack(t *testing.T, dir, archive string) {
	t.Helper()
	var packed bytes.Buffer
	z, err := zstd.NewWriter(&packed, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithWindowSize(8<<20))
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	err = w.AddFS(os.DirFS(dir))
	if err := errors.Join(err, w.Close(), z.Close(), os.MkdirAll(filepath.Dir(archive), 0o755), os.WriteFile(archive, packed.Bytes(), 0o644)); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: %d bytes", archive, packed.Len())
}

// unpack is the opposite of pack.
func unpack(t *testing.T, archive, dir string) {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := zstd.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			return
		}
		if err == nil && h.Typeflag == tar.TypeDir {
			err = os.MkdirAll(filepath.Join(dir, h.Name), 0o700)
		} else if err == nil {
			var data []byte
			if data, err = io.ReadAll(r); err == nil {
				err = os.WriteFile(filepath.Join(dir, h.Name), data, 0o600)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// What a node of any released format has stored is read by this one, and goes on.
func TestDataDirectoriesOfFormat(t *testing.T) {
	t.Parallel()
	if *update {
		storeDirectories(t)
	}
	for format := 1; format <= subjects.Version; format++ {
		t.Run(fmt.Sprint(format), func(t *testing.T) {
			c := &cluster{t: t, dir: t.TempDir(), slaves: map[string]*agent.Slave{}}
			unpack(t, stored(format), c.dir)
			wantStoredLog(t, c.dir)
			c.opts = agent.MasterOptions{Dir: filepath.Join(c.dir, "master"), Listen: brokertest.Address(t), Version: "test", Logger: quiet(),
				SnapshotEvery: math.MaxInt64} // what is stored is old, and shall be looked at as it is
			c.startMaster()
			t.Cleanup(c.down)
			heads := c.m.Store().Heads()
			c.startSlave("s1")
			c.untilInSync("s1")
			c.wantStored(heads)
			// It goes on, also with a node that has nothing yet and one that lost a file.
			c.do("Gone", "INSERT INTO again (a) VALUES (?)", subjects.RealValue(0.5))
			c.do("", "DROP DATABASE Kinds")
			c.do("", "CREATE DATABASE Kinds")
			c.stopSlave("s1")
			if err := os.Remove(filepath.Join(c.dir, "s1", "Gone.db")); err != nil {
				t.Fatal(err)
			}
			if _, err := c.c.Snapshot(testContext(t), "Gone"); err != nil {
				t.Fatal(err)
			}
			c.startSlave("s1")
			c.startSlave("new")
			c.untilInSync("s1", "new")
		})
	}
}

// wantStored checks what storeDirectories has made.
func (c *cluster) wantStored(heads map[string]subjects.Head) {
	c.t.Helper()
	if at := c.slaves["s1"].Store().Heads(); fmt.Sprint(at) != fmt.Sprint(heads) || len(heads) != 3 {
		c.t.Errorf("the slave is at %v, the master at %v", at, heads)
	}
	var kinds strings.Builder
	for i, v := range everyKind {
		if i > 0 {
			kinds.WriteString("; ")
		}
		kinds.Write(subjects.AppendValue(nil, v))
	}
	for sql, want := range map[string]string{
		"SHOW DATABASES": `"Gone"; "Kinds"`,
		"USE Kinds; SELECT v FROM kinds ORDER BY id":                                          kinds.String(),
		"USE Gone; SELECT a, typeof(r) FROM again ORDER BY rowid":                             `1 "integer"; 2 "integer"; 10 "integer"`,
		"USE Gone; SELECT type, name FROM sqlite_schema WHERE name IN ('i', 'tr') ORDER BY 2": `"index" "i"; "trigger" "tr"`,
		fmt.Sprintf("USE Gone; SELECT x = '%s' FROM large", largeText):                        "1",
	} {
		db := ""
		if rest, ok := strings.CutPrefix(sql, "USE "); ok {
			db, sql, _ = strings.Cut(rest, "; ")
		}
		req := subjects.Request{DB: db, SQL: sql}
		master, err := c.c.Query(testContext(c.t), &req)
		if err != nil {
			c.t.Fatal(err)
		}
		slave, err := c.c.QueryNode(testContext(c.t), "s1", &req)
		if err != nil {
			c.t.Fatal(err)
		}
		if m, s := show(master.Results), show(slave.Results); m != want || s != want {
			c.t.Errorf("%.100s:\n%.500s on the master,\n%.500s on the slave, want\n%.500s", sql, m, s, want)
		}
	}
	c.untilStands("stored-queued", "s1 done")
	var records []string
	for _, r := range c.command(subjects.CommandList, subjects.CommandQuery{}) {
		records = append(records, fmt.Sprint(r.ID, " ", r.By, " ", r.Nodes[0].State))
	}
	for _, want := range []string{"stored-label eve done", "stored-push  done", "stored-fetch  failed", "stored-queued  done"} {
		if !strings.Contains(strings.Join(records, "\n"), want) {
			c.t.Errorf("no %q among %q", want, records)
		}
	}
	until(c.t, "the labels are known", func() bool {
		st := c.node("s1").Status
		return st != nil && st.Labels["room"] == "lab1" && st.Labels["floor"] == "2"
	})
	if data, err := os.ReadFile(filepath.Join(c.dir, "s1", "files", "in", "a.txt")); string(data) != "content of a file" {
		c.t.Errorf("the file is %q, %v", data, err)
	}
	info, err := c.c.Info(testContext(c.t))
	if err != nil {
		c.t.Fatal(err)
	}
	if snap, ok := info.Snapshots["Gone"]; !ok || snap.Position >= heads["Gone"].Position || snap.Size == 0 {
		c.t.Errorf("the snapshot is %+v", snap)
	}
}

// wantStoredLog reads every message of a stored master's log, and the blob of its large
// transaction: who replays them needs the SQL engine that they are from, whoever reads
// them does not.
func wantStoredLog(t *testing.T, dir string) {
	t.Helper()
	b, err := broker.Start(testContext(t), broker.Config{Dir: filepath.Join(dir, "master", "log"), Listen: "127.0.0.1:0", Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	nc, err := b.Connect("test")
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	log, err := b.OpenLog(nc)
	if err != nil {
		t.Fatal(err)
	}
	last, err := log.LastEpoch(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	if last.Position == 0 {
		t.Error("nobody has claimed the log")
	}
	var sqls []string
	blobs := 0
	if err := log.Read(testContext(t), 1, 1<<60, func(e broker.Entry) error {
		if e.Message == nil {
			return e.Foreign
		}
		var body subjects.Body
		if err := subjects.DecodeBody(e.Message.Data, &body); err != nil {
			return err
		}
		if body.Blob != nil {
			blobs++
			return readBlob(filepath.Join(dir, "master", "blobs", body.Blob.Digest), &sqls)
		}
		for _, txn := range body.Txns {
			for _, st := range txn.Stmts {
				sqls = append(sqls, st.SQL)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	all := strings.Join(sqls, "\n")
	for _, want := range []string{"CREATE DATABASE Kinds", "DROP DATABASE Gone", "INSERT INTO kinds (v) VALUES (?)", "INSERT INTO again (rowid) VALUES (1)", "INSERT INTO large VALUES (?)"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is not in the log", want)
		}
	}
	if blobs != 1 {
		t.Errorf("%d large transactions, want 1", blobs)
	}
}

// readBlob reads the statements of a large transaction.
func readBlob(path string, sqls *[]string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	r := subjects.NewTxnReader(f)
	for {
		if _, err := r.Next(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		for {
			st, err := r.Stmt()
			if err == io.EOF {
				break
			}
			if err != nil {
				return err
			}
			*sqls = append(*sqls, st.SQL)
		}
	}
}
