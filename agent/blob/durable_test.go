package blob_test

import (
	"fmt"
	"os"
	osexec "os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/snapdb/snapdb/agent/blob"
)

// envDir makes this test binary a process that stores one blob.
const envDir = "SNAPDB_TEST_BLOB_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(envDir); dir != "" {
		if err := storeOne(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func storeOne(dir string) error {
	s, err := blob.Open(dir)
	if err != nil {
		return err
	}
	w, err := s.Create(5)
	if err != nil {
		return err
	}
	if _, err := w.Write([]byte("content")); err != nil {
		return err
	}
	_, err = w.Commit()
	return err
}

// A blob must be on stable storage, under its name and with its mark, before the
// log can name it. Where a process can be watched, the order of its calls shows.
func TestCommitIsDurableBeforeItReturns(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	blobs, trace := filepath.Join(dir, "blobs"), filepath.Join(dir, "trace")
	args := []string{self}
	strace, err := osexec.LookPath("strace")
	if err == nil {
		err = osexec.Command(strace, "-o", os.DevNull, "true").Run()
	}
	watched := err == nil
	if watched {
		args = []string{strace, "-f", "-y", "-e", "trace=openat,fsync,rename,renameat,renameat2", "-o", trace, self}
	} else {
		t.Logf("nothing here to watch a process with: %v", err)
	}
	cmd := osexec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), envDir+"="+blobs)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	d := digest("content")
	wantFiles(t, blobs, d, d+".5.draft")
	if !watched {
		return
	}
	calls, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	order := regexp.MustCompile(`(?s)fsync\(\d+<[^>]*\.tmp>.*openat\([^\n]*\.5\.draft"[^\n]*O_CREAT.*rename[^\n]*\.tmp"[^\n]*` + d + `".*fsync\(\d+<` + regexp.QuoteMeta(blobs) + `>`)
	if !order.Match(calls) {
		t.Errorf("not content, mark, name, folder in this order:\n%s", calls)
	}
}
