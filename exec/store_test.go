package exec_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/exec/engine"
	"github.com/snapdb/snapdb/subjects"
)

// quiet is for nodes that are made to complain.
var quiet = slog.New(slog.DiscardHandler)

func write(t tb, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// trash are the names of the database files that were set aside, without the time.
func (n *node) trash() []string {
	n.t.Helper()
	files, err := filepath.Glob(filepath.Join(n.dir, "trash", "*.db"))
	if err != nil {
		n.t.Fatal(err)
	}
	names := []string{}
	for _, f := range files {
		_, name, _ := strings.Cut(filepath.Base(f), "-")
		names = append(names, name)
	}
	return names
}

func TestDataDirectoryKeepsItsIdentity(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	slave := exec.Options{Role: exec.RoleSlave, ID: "snap1"}
	n := open(t, dir, slave)
	if _, err := exec.Open(dir, slave); !errors.Is(err, exec.ErrInUse) {
		t.Errorf("opened a second time: %v", err)
	}
	// Not the id's before its node was let in with it.
	if id := n.Identity().ID; id != "" {
		t.Errorf("the id %s is kept at once", id)
	}
	if err := n.SetID("snap1"); err != nil {
		t.Error(err)
	}
	if err := n.SetID("snap2"); !errors.Is(err, exec.ErrNodeID) {
		t.Errorf("given another id: %v", err)
	}
	for range 2 {
		if err := n.SetCluster("c1"); err != nil {
			t.Error(err)
		}
	}
	if err := n.SetCluster("c2"); !errors.Is(err, exec.ErrCluster) || !strings.Contains(err.Error(), "c1") {
		t.Errorf("bound to another cluster: %v", err)
	}
	n.close()
	for name, c := range map[string]struct {
		o    exec.Options
		want error
	}{
		"another id":     {exec.Options{Role: exec.RoleSlave, ID: "snap2"}, exec.ErrNodeID},
		"the other role": {exec.Options{Role: exec.RoleMaster}, exec.ErrRole},
	} {
		if _, err := exec.Open(dir, c.o); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Failing to open gives the directory back; without an id it has its own.
	n.opts.ID = ""
	n.reopen()
	if got, want := n.Identity(), (exec.Identity{Format: 1, Role: exec.RoleSlave, ID: "snap1", Cluster: "c1"}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}

	unnamed := open(t, t.TempDir(), exec.Options{Role: exec.RoleSlave})
	if err := unnamed.SetID("snap9"); err != nil {
		t.Error(err)
	}
	unnamed.close()
	unnamed.reopen()
	if unnamed.Identity().ID != "snap9" {
		t.Errorf("%+v", unnamed.Identity())
	}
}

// A slave gets the list of databases from its master again; a master's is in its log.
func TestDamagedCatalog(t *testing.T) {
	for name, harm := range map[string]func(data []byte) []byte{
		"cut short":         func(data []byte) []byte { return data[:len(data)/2] },
		"a page":            func(data []byte) []byte { clear(data[4096:8192]); return data },
		"the head":          func(data []byte) []byte { copy(data, "not a database"); return data },
		"another program's": func([]byte) []byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			for _, role := range []exec.Role{exec.RoleMaster, exec.RoleSlave} {
				n := open(t, t.TempDir(), exec.Options{Role: role})
				newHistory(t).command(n, "CREATE DATABASE d")
				n.close()
				path := filepath.Join(n.dir, "_snapdb.db")
				data, err := os.ReadFile(path)
				if err == nil {
					err = os.WriteFile(path, harm(data), 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
				if role == exec.RoleMaster {
					if _, err := exec.Open(n.dir, n.opts); !errors.Is(err, exec.ErrCatalog) {
						t.Errorf("a master with a damaged catalog: %v", err)
					}
					continue
				}
				n.reopen()
				if dbs, at := n.Databases(), n.Catalog().Applied(); len(dbs) > 0 || at.Number != 0 {
					t.Errorf("databases %v, catalog at %d; want none, and the beginning", dbs, at.Number)
				}
				if kept, err := filepath.Glob(filepath.Join(n.dir, "trash", "*.db")); err != nil || len(kept) != 2 {
					t.Errorf("kept aside: %q, %v", kept, err)
				}
			}
		})
	}
}

// A process that is being started has, for a moment, all files of this one open.
func TestDataDirectoryIsFreeOnceClosed(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var starting sync.WaitGroup
	starting.Go(func() {
		for ctx.Err() == nil {
			cmd := osexec.CommandContext(ctx, os.Args[0], "-test.run=^$")
			if err := cmd.Start(); err != nil {
				if ctx.Err() == nil {
					t.Error(err)
				}
				return
			}
			cmd.Process.Kill()
			cmd.Wait()
		}
	})
	n := newSlave(t)
	for range 60 {
		n.close()
		n.reopen()
	}
	cancel()
	starting.Wait()
}

func TestDataDirectoryThatCannotBeUsed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "no directory")
	newer, garbage, none := t.TempDir(), t.TempDir(), t.TempDir()
	write(t, filepath.Join(newer, "node.json"), `{"format":2,"role":"slave","new":1}`)
	write(t, filepath.Join(garbage, "node.json"), `{"format":`)
	write(t, filepath.Join(none, "node.json"), `{"role":"slave"}`)
	for dir, want := range map[string]error{filepath.Join(file, "x"): nil, file: nil, newer: exec.ErrNewer, garbage: exec.ErrIdentity, none: exec.ErrIdentity} {
		s, err := exec.Open(dir, exec.Options{Role: exec.RoleSlave})
		if err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", dir, err, want)
		}
		if s != nil {
			t.Errorf("%s: a store in spite of %v", dir, err)
		}
	}

	left, err := filepath.Glob(filepath.Join(newer, "*"))
	if diff := cmp.Diff([]string{filepath.Join(newer, "lock"), filepath.Join(newer, "node.json")}, left); err != nil || diff != "" {
		t.Errorf("something was done in a newer directory: %v %s", err, diff)
	}

	// A database file of a newer snapdb.
	_, master, _ := cluster(t, "CREATE TABLE t (a)")
	master.close()
	c, err := engine.Open(master.file("d"), engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.Exec("UPDATE _snapdb_applied SET format = 2"), c.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := exec.Open(master.dir, master.opts); !errors.Is(err, exec.ErrNewer) {
		t.Errorf("a newer database file: %v", err)
	}
}

func TestCatalog(t *testing.T) {
	h := newHistory(t)
	master, slave := newMaster(t, h), newSlave(t)
	check := func(sql string) (bool, error) {
		cmd, _, err := exec.ParseCommand(sql)
		if err != nil {
			t.Fatal(err)
		}
		return master.Check(cmd)
	}
	h.command(master, "CREATE DATABASE Shop")
	h.command(master, "CREATE DATABASE other")
	first := master.database("sHOP").Incarnation()
	if master.database("shop").Name() != "Shop" {
		t.Error("the name has lost its case")
	}
	h.mustWrite(master, "shop", "CREATE TABLE old (a)", "INSERT INTO old VALUES (1)")
	for sql, want := range map[string]subjects.Code{
		"CREATE DATABASE SHOP":      subjects.CodeExists,
		"DROP DATABASE nowhere":     subjects.CodeNoSuchDatabase,
		"CREATE DATABASE '../x'":    subjects.CodeBadRequest,
		"CREATE DATABASE ''":        subjects.CodeBadRequest,
		"CREATE DATABASE main":      subjects.CodeBadRequest,
		"CREATE DATABASE Temp":      subjects.CodeBadRequest,
		"CREATE DATABASE sqlite_x":  subjects.CodeBadRequest,
		"CREATE DATABASE _SnapDB_x": subjects.CodeBadRequest,
		"CREATE DATABASE con":       subjects.CodeBadRequest,
		"CREATE DATABASE 'a b'":     subjects.CodeBadRequest,
		"CREATE DATABASE été":       subjects.CodeBadRequest,
		"CREATE DATABASE 1a":        subjects.CodeBadRequest,
		"DROP DATABASE _snapdb":     subjects.CodeNoSuchDatabase,
		"CREATE DATABASE IF NOT EXISTS \"" + strings.Repeat("a", 300) + "\"": subjects.CodeBadRequest,
	} {
		_, err := check(sql)
		wantCode(t, sql, err, want)
	}
	for _, sql := range []string{"CREATE DATABASE IF NOT EXISTS shop", "DROP DATABASE IF EXISTS nowhere"} {
		if noEffect, err := check(sql); err != nil || !noEffect {
			t.Errorf("%s: %v, %v", sql, noEffect, err)
		}
	}
	if _, err := master.Database(""); exec.WireError(err).Code != subjects.CodeNoDatabase {
		t.Errorf("no name: %v", err)
	}
	h.replay(slave, 1)
	same(t, master, slave)

	// Dropped and made again, it is another database.
	h.command(master, "DROP DATABASE SHOP")
	h.command(master, "CREATE DATABASE shop")
	if inc := master.database("shop").Incarnation(); inc == first || inc != uint64(len(h.msgs)) {
		t.Errorf("incarnation %d, before %d", inc, first)
	}
	if got := master.query("shop", "SELECT count(*) FROM sqlite_schema WHERE name = 'old'"); got != "0" {
		t.Error("the new database has the old one's table")
	}
	h.mustWrite(master, "shop", "CREATE TABLE new (a)")
	h.replay(slave, 1)
	same(t, master, slave)
	for _, n := range []*node{master, slave} {
		if diff := cmp.Diff([]string{"Shop.db"}, n.trash()); diff != "" {
			t.Errorf("trash: %s", diff)
		}
		n.close()
		n.reopen()
	}
	same(t, master, slave)
	if diff := cmp.Diff([]string{"other", "shop"}, []string{slave.Databases()[0].Name(), slave.Databases()[1].Name()}); diff != "" {
		t.Error(diff)
	}
	if head := slave.Heads()[subjects.Catalog]; head.Position != master.Catalog().Applied().Number || len(slave.Heads()) != 3 {
		t.Errorf("heads %v", slave.Heads())
	}
	// A node that has seen nothing of it comes to the same.
	late := newSlave(t)
	h.replay(late, 100)
	same(t, master, late)
}

// What no master logs must not be executed as if one had: a name becomes a file.
func TestCatalogRefusesForgedMessages(t *testing.T) {
	h := newHistory(t)
	n := newMaster(t, h)
	h.command(n, "CREATE DATABASE d")
	h.mustWrite(n, "d", "CREATE TABLE t (a)")
	c, before := n.Catalog(), n.Heads()
	message := func(stmts ...string) *subjects.Message {
		txn := subjects.Txn{Now: 1}
		for _, sql := range stmts {
			txn.Stmts = append(txn.Stmts, subjects.LogStmt{Stmt: subjects.Stmt{SQL: sql}})
		}
		body := subjects.AppendBody(nil, &subjects.Body{DB: subjects.Catalog, Engine: n.Engine(), Txns: []subjects.Txn{txn}})
		at := c.Applied()
		return &subjects.Message{Position: 99, Header: subjects.Header{DB: subjects.Catalog, Prev: at.Number, Chain: subjects.NextChain(at.Chain, 0, body)}, Data: body}
	}
	for _, sql := range []string{"CREATE DATABASE '../x'", "CREATE DATABASE d", "CREATE DATABASE D", "CREATE DATABASE _snapdb", "DROP DATABASE nowhere",
		"DROP DATABASE _snapdb", "SHOW TABLES", "SELECT 1", "CREATE DATABASE", "", "CREATE DATABASE \x00"} {
		if err := n.ApplyCatalog(message(sql)); !errors.As(err, new(*exec.DivergedError)) {
			t.Errorf("%q: %v", sql, err)
		}
	}
	for _, m := range []*subjects.Message{message(), message("CREATE DATABASE e", "CREATE DATABASE f"), signed(c.Database, message("CREATE DATABASE e"), []byte("{}"))} {
		if err := n.ApplyCatalog(m); !errors.As(err, new(*exec.DivergedError)) {
			t.Errorf("%s: %v", m.Data, err)
		}
	}
	gap := message("CREATE DATABASE e")
	gap.Header.Prev++
	if err := n.ApplyCatalog(gap); !errors.Is(err, exec.ErrBroken) {
		t.Errorf("after a gap: %v", err)
	}
	if err := n.ApplyCatalog(h.msgs[0]); !errors.Is(err, exec.ErrBroken) {
		t.Errorf("again: %v", err)
	}
	if diff := cmp.Diff(before, n.Heads()); diff != "" {
		t.Error(diff)
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(n.dir), "x.db")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file outside of the directory: %v", err)
	}
	h.mustWrite(n, "d", "INSERT INTO t VALUES (1)")
}

// What a crash, or a person, has left in the directory does not become a database.
func TestUnknownFilesAreSetAside(t *testing.T) {
	h, master, slave := cluster(t, "CREATE TABLE t (a)")
	h.replay(slave, 1)
	slave.opts.Logger = quiet
	slave.close()
	write(t, slave.file("created"), "half of a CREATE DATABASE")
	write(t, slave.file("created")+"-wal", "its WAL")
	write(t, slave.file("created")+"-shm", "and what belongs to it")
	write(t, filepath.Join(slave.dir, "notes.txt"), "somebody's")
	slave.reopen()
	if diff := cmp.Diff([]string{"created.db"}, slave.trash()); diff != "" {
		t.Error(diff)
	}
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if _, err := os.Stat(slave.file("created") + suffix); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("created.db%s is still there: %v", suffix, err)
		}
	}
	if _, err := os.Stat(filepath.Join(slave.dir, "notes.txt")); err != nil {
		t.Errorf("a file that is no database was moved: %v", err)
	}
	// One that comes while the node runs is in the way of a CREATE DATABASE.
	write(t, slave.file("next"), "in the way")
	h.command(master, "CREATE DATABASE next")
	h.mustWrite(master, "next", "CREATE TABLE t (a)")
	h.replay(slave, 1)
	same(t, master, slave)

	for i := range 40 {
		slave.close()
		write(t, slave.file(fmt.Sprintf("junk%d", i)), "x")
		slave.reopen()
	}
	if trash := slave.trash(); len(trash) != 16 || trash[15] != "junk39.db" {
		t.Errorf("%d files kept: %v", len(trash), trash)
	}
	same(t, master, slave)
}

// A copy that is lost or useless is made again, empty and at the position where its
// history begins, and the others are not touched.
func TestLostFileIsRebuiltFromTheLog(t *testing.T) {
	h, master, slave := cluster(t, "CREATE TABLE t (a)", "INSERT INTO t VALUES (1), (2)")
	h.command(master, "CREATE DATABASE e")
	h.mustWrite(master, "e", "CREATE TABLE t (a)", "INSERT INTO t VALUES (3)")
	h.replay(slave, 2)
	slave.opts.Logger = quiet
	d := slave.database("d")
	start := exec.Position{Number: d.Incarnation(), Chain: subjects.FirstChain(d.Incarnation())}
	remove := func(suffixes ...string) {
		for _, suffix := range suffixes {
			if err := os.Remove(slave.file("d") + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
		}
	}
	edit := func(sql string) {
		c, err := engine.Open(slave.file("d"), engine.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(c.Exec(sql), c.Close()); err != nil {
			t.Fatal(err)
		}
	}
	for name, damage := range map[string]func(){
		"missing":             func() { remove("", "-wal", "-shm") },
		"no SQLite":           func() { remove("-wal", "-shm"); write(t, slave.file("d"), strings.Repeat("garbage", 3000)) },
		"empty":               func() { remove("-wal", "-shm"); write(t, slave.file("d"), "") },
		"cut short":           func() { damageFile(t, slave.file("d"), func(b []byte) []byte { return b[:5000] }) },
		"its first page torn": func() { damageFile(t, slave.file("d"), func(b []byte) []byte { clear(b[100:2000]); return b }) },
		"without a position":  func() { edit("DELETE FROM _snapdb_applied") },
		"with a bad chain":    func() { edit("UPDATE _snapdb_applied SET chain = 'x'") },
		"of another time":     func() { edit("UPDATE _snapdb_applied SET incarnation = 77") },
		"somebody's":          func() { edit("DROP TABLE _snapdb_applied") },
	} {
		slave.close()
		damage()
		slave.reopen()
		if at := slave.database("d").Applied(); at != start {
			t.Errorf("%s: at %v, want %v", name, at, start)
		}
		if at := slave.database("e").Applied(); at != master.database("e").Applied() {
			t.Errorf("%s: the other database is at %v", name, at)
		}
		h.replay(slave, 10)
		same(t, master, slave)
	}
}

func damageFile(t *testing.T, path string, change func([]byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, string(change(bytes.Clone(data))))
}

// DROP DATABASE waits for those who read, for a while, and then interrupts them.
func TestDropWaitsForReads(t *testing.T) {
	t.Parallel()
	h, master, slave := cluster(t, "CREATE TABLE t (a)")
	h.replay(slave, 1)
	s := slave.read("d")
	h.command(master, "DROP DATABASE d")
	dropped := make(chan error, 1)
	go func() { dropped <- slave.ApplyCatalog(h.msgs[len(h.msgs)-1]) }()
	for { // gone for newcomers, while the old one reads on
		if _, err := slave.Database("d"); err != nil {
			break
		}
	}
	var out subjects.Results
	if _, err := s.ReadAll([]subjects.Stmt{{SQL: "SELECT count(*) FROM t"}}, &out, exec.PageBytes); err != nil {
		t.Errorf("a read that was there before: %v", err)
	}
	s.Close()
	if err := <-dropped; err != nil {
		t.Error(err)
	}
	same(t, master, slave)

	h.command(master, "CREATE DATABASE d")
	h.replay(slave, 1)
	s = slave.read("d")
	read := make(chan error, 1)
	go func() {
		var out subjects.Results
		_, err := s.ReadAll([]subjects.Stmt{{SQL: endless}}, &out, exec.PageBytes)
		s.Close()
		read <- err
	}()
	h.command(master, "DROP DATABASE d")
	start := time.Now()
	if err := slave.ApplyCatalog(h.msgs[len(h.msgs)-1]); err != nil {
		t.Error(err)
	}
	if waited := time.Since(start); waited < time.Second {
		t.Errorf("waited only %v", waited)
	}
	wantCode(t, "the endless read", <-read, subjects.CodeCancelled)
	same(t, master, slave)
}

// What only this node knows survives a restart and is not part of the history.
func TestNodesOwnNotes(t *testing.T) {
	h, master, slave := cluster(t, "CREATE TABLE t (a)")
	h.replay(slave, 1)
	c, before := master.Catalog(), master.Heads()
	for _, id := range []string{"snap2", "snap1", "snap2"} {
		if err := c.Enrol(id, 1); err != nil {
			t.Fatal(err)
		}
	}
	master.close()
	master.reopen()
	c = master.Catalog()
	ids, err := c.Enrolled()
	if diff := cmp.Diff([]string{"snap1", "snap2"}, ids); diff != "" || err != nil {
		t.Error(diff, err)
	}
	if diff := cmp.Diff(before, master.Heads()); diff != "" {
		t.Error(diff)
	}
	h.command(master, "CREATE DATABASE e")
	h.replay(slave, 1)
	same(t, master, slave)
}

func TestShow(t *testing.T) {
	_, master, _ := cluster(t, `CREATE TABLE Users (id INTEGER PRIMARY KEY, name TEXT NOT NULL DEFAULT 'x', up AS (upper(name)), len AS (length(name)) STORED)`,
		"CREATE VIEW shown AS SELECT 1 AS one; CREATE TABLE \"odd name\" (a, b, PRIMARY KEY (b, a)) WITHOUT ROWID; ANALYZE")
	s := master.read("d")
	defer s.Close()
	show := func(sql string) ([][]string, error) {
		t.Helper()
		cmd, _, err := exec.ParseCommand(sql)
		if err != nil {
			t.Fatal(err)
		}
		var out subjects.Results
		if err := s.Show(context.Background(), cmd, &out); err != nil {
			return nil, err
		}
		var rows [][]string
		for _, r := range decode(t, &out)[0].Rows {
			var row []string
			for _, v := range r {
				row = append(row, string(subjects.AppendValue(nil, v)))
			}
			rows = append(rows, row)
		}
		return rows, nil
	}
	for sql, want := range map[string][][]string{
		"SHOW TABLES": {{`"Users"`}, {`"odd name"`}, {`"shown"`}},
		"DESCRIBE users": {
			{`"id"`, `"integer"`, `"NO"`, `"PRI"`, `null`, `""`}, {`"name"`, `"text"`, `"NO"`, `""`, `"'x'"`, `""`},
			{`"up"`, `""`, `"YES"`, `""`, `null`, `"generated virtual"`}, {`"len"`, `""`, `"YES"`, `""`, `null`, `"generated stored"`}},
		"DESC \"odd name\"":       {{`"a"`, `""`, `"NO"`, `"PRI"`, `null`, `""`}, {`"b"`, `""`, `"NO"`, `"PRI"`, `null`, `""`}},
		"SHOW CREATE TABLE SHOWN": {{`"shown"`, `"CREATE VIEW shown AS SELECT 1 AS one"`}},
	} {
		got, err := show(sql)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v %s", sql, err, diff)
		}
	}
	for sql, code := range map[string]subjects.Code{
		"DESCRIBE nowhere": subjects.CodeSyntax, "SHOW CREATE TABLE nowhere": subjects.CodeSyntax,
		"DESCRIBE _snapdb_applied": subjects.CodeDenied, "SHOW CREATE TABLE '_SNAPDB_requests'": subjects.CodeDenied,
	} {
		_, err := show(sql)
		wantCode(t, sql, err, code)
	}
}
