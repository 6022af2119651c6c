package files_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snapdb/snapdb/agent/files"
)

func open(t *testing.T, options ...files.Option) (*files.Folder, string) {
	t.Helper()
	dir := t.TempDir()
	f, err := files.Open(dir, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, dir
}

func from(content []byte) files.Next {
	return func(_ context.Context, offset int64, buf []byte) (int, error) {
		return copy(buf, content[offset:]), nil
	}
}

func digest(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

func TestNamesThatLeaveTheFolderOrBreakANodeAreRefused(t *testing.T) {
	for _, name := range []string{"", "../a", "a/../b", "/etc/passwd", `a\b`, "a\x00b", "C:x", "nul", "CON.txt", "d/lpt1.tar.gz",
		"a//b", "./a", "a.", "a ", "a.part", "1/2/3/4/5/6/7/8/9", strings.Repeat("x", 256)} {
		var bad *files.NameError
		if err := files.CheckName(name); !errors.As(err, &bad) {
			t.Errorf("%q: got %v", name, err)
		}
	}
	for _, name := range []string{"a", "docs/plan.pdf", ".hidden", "console.txt", "ünï.png", "1/2/3/4/5/6/7/8"} {
		if err := files.CheckName(name); err != nil {
			t.Error(err)
		}
	}
}

func TestAFileArrivesIsListedReadAndRemoved(t *testing.T) {
	f, _ := open(t)
	content := bytes.Repeat([]byte("snap"), 300_000)
	var last int64
	if err := f.Receive(t.Context(), "docs/a.bin", int64(len(content)), digest(content), from(content), func(done int64) { last = done }); err != nil {
		t.Fatal(err)
	}
	if last != int64(len(content)) {
		t.Fatalf("progress ended at %d", last)
	}
	list, err := f.List(t.Context())
	if err != nil || len(list) != 1 || list[0].Name != "docs/a.bin" || list[0].Size != last {
		t.Fatalf("listed %v, %v", list, err)
	}
	r, _, err := f.Read("docs/a.bin")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, content) {
		t.Fatalf("read other content (%v)", err)
	}
	if got, err := f.Digest(t.Context(), "docs/a.bin"); err != nil || got != digest(content) {
		t.Fatalf("digest %s, %v", got, err)
	}
	if err := f.Remove("docs/a.bin"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := f.Read("docs/a.bin"); !errors.Is(err, os.ErrNotExist) || err.Error() != "there is no file docs/a.bin in the node's folder" {
		t.Fatalf("got %v", err)
	}
}

func TestABrokenTransferGoesOnWhereItStopped(t *testing.T) {
	f, _ := open(t)
	content := bytes.Repeat([]byte("0123456789"), 200_000)
	broken := errors.New("the line is gone")
	err := f.Receive(t.Context(), "a", int64(len(content)), digest(content), func(_ context.Context, offset int64, buf []byte) (int, error) {
		if offset > 0 {
			return 0, broken
		}
		return copy(buf, content), nil
	}, nil)
	if !errors.Is(err, broken) {
		t.Fatalf("got %v", err)
	}
	if list, err := f.List(t.Context()); err != nil || len(list) != 0 {
		t.Fatalf("half a file is listed: %v, %v", list, err)
	}
	first := int64(-1)
	err = f.Receive(t.Context(), "a", int64(len(content)), digest(content), func(ctx context.Context, offset int64, buf []byte) (int, error) {
		if first < 0 {
			first = offset
		}
		return from(content)(ctx, offset, buf)
	}, nil)
	if err != nil || first != files.ChunkSize {
		t.Fatalf("went on from %d, %v", first, err)
	}
}

func TestOtherContentThanAnnouncedNeverGetsTheName(t *testing.T) {
	f, dir := open(t)
	if err := f.Receive(t.Context(), "a", 3, digest([]byte("abc")), from([]byte("abd")), nil); !errors.Is(err, files.ErrDigest) {
		t.Fatalf("got %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Fatalf("left behind: %v, %v", left, err)
	}
}

func TestTheReserveOfTheDiskIsKept(t *testing.T) {
	f, _ := open(t, files.KeepFree(100, func() (int64, error) { return 102, nil }))
	var space *files.SpaceError
	if err := f.Receive(t.Context(), "a", 3, digest([]byte("abc")), from([]byte("abc")), nil); !errors.As(err, &space) {
		t.Fatalf("got %v", err)
	}
	if err := f.Receive(t.Context(), "b", 2, digest([]byte("ab")), from([]byte("ab")), nil); err != nil {
		t.Fatal(err)
	}
}

func TestADiskThatFillsUpMeanwhileEndsTheTransferAndKeepsNothing(t *testing.T) {
	left := int64(10 * files.ChunkSize)
	f, dir := open(t, files.KeepFree(100, func() (int64, error) { return left, nil }))
	content := bytes.Repeat([]byte("snap"), files.ChunkSize)
	err := f.Receive(t.Context(), "docs/a", int64(len(content)), digest(content), func(ctx context.Context, offset int64, buf []byte) (int, error) {
		if offset > 0 {
			left = files.ChunkSize // somebody else has filled it
		}
		return from(content)(ctx, offset, buf)
	}, nil)
	var space *files.SpaceError
	if !errors.As(err, &space) || space.Need != 2*files.ChunkSize {
		t.Fatalf("got %v", err)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "docs")); err != nil || len(left) != 0 {
		t.Fatalf("left behind: %v, %v", left, err)
	}
}

func TestPartOfAnotherFileOfTheNameIsTakenAnew(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789"), 100_000)
	for what, part := range map[string][]byte{"shorter": []byte("other"), "as long": make([]byte, len(content)), "longer": make([]byte, 2*len(content))} {
		f, dir := open(t)
		if err := os.WriteFile(filepath.Join(dir, "a.part"), part, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := f.Receive(t.Context(), "a", int64(len(content)), digest(content), from(content), nil); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if got, err := os.ReadFile(filepath.Join(dir, "a")); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s: %d bytes, %v", what, len(got), err)
		}
	}
}

func TestALinkDoesNotLeadOutOfTheFolder(t *testing.T) {
	f, dir := open(t)
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("s"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "out")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := f.Read("out/secret"); err == nil {
		t.Fatal("read a file outside")
	}
	if err := f.Receive(t.Context(), "out/new", 1, digest([]byte("x")), from([]byte("x")), nil); err == nil {
		t.Fatal("wrote a file outside")
	}
}
