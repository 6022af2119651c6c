package engine_test

import (
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snapdb/snapdb/exec/engine"
)

// A close of a database file by anything in this process must not give up SQLite's
// locks, or the next program to open the file deletes the WAL that we go on writing.
func TestLocksSurviveAnotherClose(t *testing.T) {
	others := map[string]func(t *testing.T, path string){
		"this program": func(t *testing.T, path string) { child(t, "open "+path) },
	}
	if cli, err := osexec.LookPath("sqlite3"); err == nil {
		others["sqlite3"] = func(t *testing.T, path string) {
			out, err := osexec.CommandContext(t.Context(), cli, path, "SELECT count(*) FROM t").CombinedOutput()
			if err != nil {
				t.Fatalf("sqlite3: %v: %s", err, out)
			}
		}
	}
	for name, other := range others {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "test.db")
			c := openAt(t, path, engine.Options{})
			mustExec(t, c, "CREATE TABLE t (a); INSERT INTO t VALUES (1)")
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			other(t, path)
			if _, err := os.Stat(path + "-wal"); err != nil {
				t.Errorf("the WAL in use was deleted: %v", err)
			}
			mustExec(t, c, "INSERT INTO t VALUES (2)")
			other(t, path)
			fresh := openAt(t, path, engine.Options{ReadOnly: true})
			if got := text(t, fresh, "SELECT group_concat(a) FROM t"); got != "1,2" {
				t.Errorf("content is %s: commits were lost", got)
			}
			if got := text(t, c, "SELECT group_concat(integrity_check) FROM pragma_integrity_check"); !strings.HasPrefix(got, "ok") {
				t.Error(got)
			}
		})
	}
}
