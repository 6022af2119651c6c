package signing_test

import (
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/snapdb/snapdb/agent/signing"
	"github.com/snapdb/snapdb/subjects"
)

func openKey(t testing.TB, path string) *signing.Key {
	t.Helper()
	k, err := signing.OpenKey(path)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// rotate succeeds a key, which is still good for signing.
func rotate(t testing.TB, k *signing.Key, path string) *signing.Key {
	t.Helper()
	key, err := signing.Rotate(path)
	if err != nil {
		t.Fatal(err)
	}
	next := openKey(t, path)
	if !next.Public().Equal(key) || k.Public().Equal(key) || k.ID() == next.ID() || next.ID() != subjects.KeyIDOf(key) {
		t.Errorf("%v follows %v, and %v is in the file", subjects.KeyIDOf(key), k.ID(), next.ID())
	}
	return next
}

func openRing(t testing.TB, path string, trust ...ed25519.PublicKey) *signing.Ring {
	t.Helper()
	r, err := signing.OpenRing(path, trust)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

var message = []byte("a message")

func TestKeyIsMadeOnceAndStaysTheSame(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	k := openKey(t, path)
	if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", info.Mode(), err)
	}
	if k.Since() != 0 {
		t.Errorf("a new key has signed since %d", k.Since())
	}
	for _, position := range []uint64{7, 9} {
		if err := k.Begin(position); err != nil {
			t.Fatal(err)
		}
	}
	old := k.Sign(message)
	k = rotate(t, rotate(t, k, path), path)
	again := openKey(t, path)
	if !again.Public().Equal(k.Public()) || again.Since() != 7 || len(again.Successions()) != 2 || again.Sign(message) != k.Sign(message) {
		t.Errorf("read again: since %d, %d successions", again.Since(), len(again.Successions()))
	}
	forged := old
	forged.Key = subjects.KeyIDOf(k.Public())
	for _, x := range []struct {
		sig  subjects.Signature
		want error
	}{{old, nil}, {k.Sign(message), nil}, {forged, signing.ErrForged}, {subjects.Signature{}, signing.ErrUnsigned},
		{openKey(t, path+"2").Sign(message), signing.ErrUnknownKey}} {
		if err := again.Verify(x.sig, message); !errors.Is(err, x.want) {
			t.Errorf("verified: %v, want %v", err, x.want)
		}
	}
}

func TestSpoiltKeyIsRefusedWithTheReason(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if _, err := signing.Rotate(path); err == nil {
		t.Error("a key that is not there is succeeded")
	}
	rotate(t, openKey(t, path), path)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rotate(t, openKey(t, path+"2"), path+"2")
	foreign, err := os.ReadFile(path + "2")
	if err != nil {
		t.Fatal(err)
	}
	_, tail, _ := strings.Cut(string(foreign), `"successions"`)
	head, _, _ := strings.Cut(string(good), `"successions"`)
	for content, want := range map[string]string{
		"":                            "empty",
		string(good[:len(good)/2]):    "ends too early",
		`{"seed":"AAAA"}`:             "3 bytes",
		head + `"successions"` + tail: "which keys came before",
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := signing.OpenKey(path); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%.30q: %v, want %q", content, err, want)
		}
	}
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := signing.OpenKey(path); runtime.GOOS != "windows" && (err == nil || !strings.Contains(err.Error(), "chmod 600")) {
		t.Errorf("a key that others may read: %v", err)
	}
	for _, content := range []string{"", "{}", `{"trusted":["AAAA"]}`, "[]"} {
		if err := os.WriteFile(path+"3", []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := signing.OpenRing(path+"3", nil); err == nil || !strings.Contains(err.Error(), path+"3") {
			t.Errorf("a ring of %q: %v", content, err)
		}
	}
	if _, err := signing.OpenRing(path+"4", []ed25519.PublicKey{{1}}); err == nil {
		t.Error("a key of one byte is trusted")
	}
}

func TestRingFollowsSuccessions(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	k := openKey(t, path)
	first := k.Public()
	ring := openRing(t, filepath.Join(dir, "ring"), first)
	never := openRing(t, filepath.Join(dir, "never"))
	if !never.Empty() || ring.Empty() {
		t.Error("a ring without keys is one with keys, or the other way round")
	}
	old := k.Sign(message)
	if err := ring.Verify(old, message); err != nil {
		t.Error(err)
	}
	k = rotate(t, rotate(t, k, path), path)
	sig := k.Sign(message)
	if err := ring.Verify(sig, message); !errors.Is(err, signing.ErrUnknownKey) {
		t.Errorf("before the ring has learnt of the new key: %v", err)
	}

	// A thief who has seen everything, and has a key of his own.
	thief := openKey(t, filepath.Join(dir, "thief"))
	all := k.Successions()
	bent := append([]subjects.Succession{}, all...)
	bent[1].New = thief.Public()
	own := append(append([]subjects.Succession{}, all...), subjects.Succession{Old: k.Public(), New: thief.Public(), Sig: all[0].Sig})
	for name, list := range map[string][]subjects.Succession{"none": nil, "all": all, "another end": bent, "one more": own,
		"nonsense": {{}, {Old: first}, {Old: first, New: thief.Public(), Sig: []byte("x")}, {Old: first, New: first}}, "too many": make([]subjects.Succession, 1001)} {
		if err := ring.Admit(thief.Sign(message), message, list); err == nil {
			t.Errorf("a thief is admitted with the successions: %s", name)
		}
	}
	if err := ring.Verify(old, message); err != nil {
		t.Errorf("after a thief's answers: %v", err)
	}
	if err := ring.Admit(sig, []byte("another"), all); !errors.Is(err, signing.ErrForged) {
		t.Errorf("another message: %v", err)
	}

	newcomer := openRing(t, filepath.Join(dir, "newcomer"), k.Public())
	for name, r := range map[string]*signing.Ring{"one that was there before": ring, "a newcomer": newcomer} {
		for range 2 {
			if err := r.Admit(sig, message, all); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	// The same after a start with the key of the first day.
	ring, newcomer = openRing(t, filepath.Join(dir, "ring"), first), openRing(t, filepath.Join(dir, "newcomer"))
	for name, r := range map[string]*signing.Ring{"one that was there before": ring, "a newcomer": newcomer} {
		if err := r.Verify(sig, message); err != nil {
			t.Errorf("%s: the new key: %v", name, err)
		}
		if err := r.VerifyPast(sig, message); err != nil {
			t.Errorf("%s: the new key: %v", name, err)
		}
		if err := r.VerifyPast(old, message); err != nil {
			t.Errorf("%s: what the first key has signed: %v", name, err)
		}
		if err := r.Verify(old, message); !errors.Is(err, signing.ErrUnknownKey) {
			t.Errorf("%s: the first key is good for news: %v", name, err)
		}
		if err := r.Admit(old, message, nil); !errors.Is(err, signing.ErrUnknownKey) {
			t.Errorf("%s: the first key is good for a join: %v", name, err)
		}
		if err := r.VerifyPast(subjects.Signature{}, message); !errors.Is(err, signing.ErrUnsigned) {
			t.Errorf("%s: no signature: %v", name, err)
		}
	}
}

// logMessage is one of the size that single rows of 64 clients make.
func logMessage() *subjects.SignedLog {
	return &subjects.SignedLog{Cluster: "5c1ab3d2f6e7089912ab34cd", Body: make([]byte, 12<<10),
		Header: subjects.Header{DB: "SnapDB", Inc: 12, Prev: 41, Term: 7, ID: "5c1ab3d2f6e7089912ab34cd"}}
}

func BenchmarkSign(b *testing.B) {
	k, l := openKey(b, filepath.Join(b.TempDir(), "key")), logMessage()
	b.ReportAllocs()
	for b.Loop() {
		k.Sign(l.Bytes())
	}
}

func BenchmarkVerify(b *testing.B) {
	k, l := openKey(b, filepath.Join(b.TempDir(), "key")), logMessage()
	r := openRing(b, filepath.Join(b.TempDir(), "ring"), k.Public())
	sig := k.Sign(l.Bytes())
	b.ReportAllocs()
	for b.Loop() {
		if err := r.VerifyPast(sig, l.Bytes()); err != nil {
			b.Fatal(err)
		}
	}
}
