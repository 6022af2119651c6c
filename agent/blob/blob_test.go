package blob_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/snapdb/snapdb/agent/blob"
	"github.com/snapdb/snapdb/subjects"
)

func open(t testing.TB, dir string) *blob.Store {
	t.Helper()
	s, err := blob.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// draft writes a blob in parts and commits it.
func draft(t testing.TB, s *blob.Store, after uint64, parts ...string) (*blob.Writer, subjects.BlobRef) {
	t.Helper()
	w, err := s.Create(after)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range parts {
		if n, err := w.Write([]byte(p)); err != nil || n != len(p) {
			t.Fatalf("wrote %d of %d bytes, %v", n, len(p), err)
		}
	}
	ref, err := w.Commit()
	if err != nil {
		t.Fatal(err)
	}
	return w, ref
}

func digest(content string) string {
	sum := sha256.Sum256([]byte(content))
	return hex.EncodeToString(sum[:])
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

func wantFiles(t testing.TB, dir string, want ...string) {
	t.Helper()
	slices.Sort(want)
	if has := files(t, dir); !slices.Equal(has, want) {
		t.Fatalf("files %q, want %q", has, want)
	}
}

func wantDrafts(t testing.TB, s *blob.Store, want ...blob.Draft) {
	t.Helper()
	has, err := s.Drafts()
	if err != nil || !slices.Equal(has, want) {
		t.Fatalf("drafts %v, %v, want %v", has, err, want)
	}
}

func TestBlobIsNamedByItsContent(t *testing.T) {
	for _, parts := range [][]string{nil, {""}, {"a"}, {"a", "", "b\x00\xff"}, {strings.Repeat("long", 1<<16)}} {
		s := open(t, t.TempDir())
		w, ref := draft(t, s, 0, parts...)
		w.Keep()
		content := strings.Join(parts, "")
		if ref.Digest != digest(content) || ref.Size != int64(len(content)) {
			t.Fatalf("%d bytes: %+v", len(content), ref)
		}
		f, err := s.Open(ref.Digest)
		if err != nil {
			t.Fatal(err)
		}
		has, err := io.ReadAll(f)
		if err = errors.Join(err, f.Close()); err != nil || string(has) != content {
			t.Fatalf("%d bytes of %d, %v", len(has), len(content), err)
		}
	}
}

// Readers fetch pieces of any size and go on where they were.
func TestPiecesFromAnyOffsetMakeTheWhole(t *testing.T) {
	s := open(t, t.TempDir())
	rapid.Check(t, func(t *rapid.T) {
		content := rapid.SliceOfN(rapid.Byte(), 0, 5000).Draw(t, "content")
		w, err := s.Create(0)
		if err == nil {
			_, err = w.Write(content)
		}
		if err != nil {
			t.Fatal(err)
		}
		ref, err := w.Commit()
		if err != nil {
			t.Fatal(err)
		}
		var whole []byte
		for {
			p := make([]byte, rapid.IntRange(1, 2000).Draw(t, "piece"))
			n, err := s.ReadAt(ref.Digest, p, int64(len(whole)))
			if err != nil {
				t.Fatal(err)
			}
			if n < len(p) && len(whole)+n < len(content) {
				t.Fatalf("%d bytes at %d of %d: too few", n, len(whole), len(content))
			}
			if n == 0 {
				break
			}
			whole = append(whole, p[:n]...)
		}
		if !bytes.Equal(whole, content) {
			t.Fatal("the pieces are not the whole")
		}
		if n, err := s.ReadAt(ref.Digest, make([]byte, 1), int64(len(content))+1000); n != 0 || err != nil {
			t.Fatalf("beyond the end: %d bytes, %v", n, err)
		}
		if _, err := s.ReadAt(ref.Digest, make([]byte, 1), -1); err == nil {
			t.Fatal("a negative offset is accepted")
		}
	})
}

func TestOnlyDigestsNameBlobs(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "secret"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, filepath.Join(dir, "blobs"))
	w, ref := draft(t, s, 0, "content")
	w.Keep()
	for _, name := range []string{"", ".", "..", "../secret", "/etc/passwd", "secret", ref.Digest[:63], ref.Digest + "0", strings.ToUpper(ref.Digest),
		ref.Digest[:62] + "..", ref.Digest[:62] + "/.", ref.Digest + "\x00", strings.Repeat("g", 64), "../blobs/" + ref.Digest} {
		if _, err := s.Open(name); !errors.Is(err, blob.ErrDigest) {
			t.Errorf("open %q: %v, want ErrDigest", name, err)
		}
		if _, err := s.ReadAt(name, make([]byte, 1), 0); !errors.Is(err, blob.ErrDigest) {
			t.Errorf("read %q: %v, want ErrDigest", name, err)
		}
	}
	absent := digest("absent")
	if _, err := s.Open(absent); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open an absent blob: %v, want fs.ErrNotExist", err)
	}
	if _, err := s.ReadAt(absent, make([]byte, 1), 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("read an absent blob: %v, want fs.ErrNotExist", err)
	}
}

func TestAbortLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	w, err := s.Create(7)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("half")); err != nil {
		t.Fatal(err)
	}
	w.Abort()
	wantFiles(t, dir)

	w, _ = draft(t, s, 7, "whole")
	w.Abort()
	wantFiles(t, dir)
}

func TestBlobIsADraftUntilItIsKept(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	w, ref := draft(t, s, 42, "content")
	wantDrafts(t, s, blob.Draft{Digest: ref.Digest, After: 42})
	if len(files(t, dir)) != 2 {
		t.Fatalf("files %q", files(t, dir))
	}
	// A draft can be read: whoever the log has told of it does not wait.
	if n, err := s.ReadAt(ref.Digest, make([]byte, 100), 0); err != nil || n != len("content") {
		t.Fatalf("read %d bytes, %v", n, err)
	}
	w.Keep()
	wantDrafts(t, s)
	wantFiles(t, dir, ref.Digest)
	w.Keep()
	wantFiles(t, dir, ref.Digest)
}

func TestDraftsOutliveAStart(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	_, one := draft(t, s, 1, "one")
	_, two := draft(t, s, 1<<63, "two")
	kept, three := draft(t, s, 3, "three")
	kept.Keep()

	s = open(t, dir)
	drafts, err := s.Drafts()
	if err != nil || len(drafts) != 2 {
		t.Fatalf("drafts %v, %v", drafts, err)
	}
	for _, d := range drafts {
		switch d {
		case blob.Draft{Digest: one.Digest, After: 1}:
			err = s.Keep(d)
		case blob.Draft{Digest: two.Digest, After: 1 << 63}:
			err = errors.Join(s.Drop(d), s.Drop(d))
		default:
			t.Fatalf("draft %v", d)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	wantFiles(t, dir, one.Digest, three.Digest)
	wantDrafts(t, s)
}

// The same content again neither makes a draft of a blob that something refers
// to, nor may it be aborted away.
func TestContentThatIsThereStaysAsItIs(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	w, ref := draft(t, s, 1, "content")
	w.Keep()
	again, same := draft(t, s, 2, "content")
	if same != ref {
		t.Fatalf("%+v, want %+v", same, ref)
	}
	wantDrafts(t, s)
	again.Abort()
	wantFiles(t, dir, ref.Digest)
}

// A crash may have left a half-written file, a mark without its blob, or a blob
// whose mark is not yet removed.
func TestStartAfterACrash(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	_, ref := draft(t, s, 5, "content")
	for _, name := range []string{"123.tmp", digest("never renamed") + ".6.draft"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s = open(t, dir)
	drafts, err := s.Drafts()
	if err != nil || len(drafts) != 2 {
		t.Fatalf("drafts %v, %v", drafts, err)
	}
	for _, d := range drafts {
		if d.Digest != ref.Digest {
			if err := s.Drop(d); err != nil {
				t.Fatal(err)
			}
		}
	}
	wantFiles(t, dir, ref.Digest, ref.Digest+".5.draft")
}

func TestMarkThatSaysNothingIsReported(t *testing.T) {
	for _, name := range []string{".draft", "x.1.draft", digest("a") + ".draft", digest("a") + ".-1.draft", digest("a") + ".1.2.draft"} {
		dir := t.TempDir()
		s := open(t, dir)
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if drafts, err := s.Drafts(); err == nil {
			t.Errorf("%s: %v", name, drafts)
		}
	}
}

func TestFailuresAreReported(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := blob.Open(file); err == nil {
		t.Error("a file is taken for the folder")
	}

	dir := filepath.Join(t.TempDir(), "blobs")
	s := open(t, dir)
	w, err := s.Create(1)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if ref, err := w.Commit(); err == nil || ref != (subjects.BlobRef{}) {
		t.Errorf("commit into no folder: %+v, %v", ref, err)
	}
	if _, err := s.Create(1); err == nil {
		t.Error("create in no folder")
	}
}
