package access_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/snapdb/snapdb/agent/access"
)

const file = "access.json"

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func write(t *testing.T, path string, data []byte, mode os.FileMode) {
	t.Helper()
	if err := errors.Join(os.WriteFile(path, data, mode), os.Chmod(path, mode)); err != nil {
		t.Fatal(err)
	}
}

// filled is a folder with one of everything, and the secrets of it.
func filled(t *testing.T) (dir string, c *clock, token, browser string) {
	t.Helper()
	c = newClock()
	dir = t.TempDir()
	s := open(t, dir, c)
	add(t, s, access.User{Name: "alice", Role: access.Admin}, alices)
	add(t, s, access.User{Name: "bob", Role: access.Operator, Databases: []string{}, Labels: "room=lab1"}, bobs)
	token, _ = makeToken(t, s, "bob", access.Viewer, nil, hour(c))
	browser, _ = openSession(t, s, "bob", bobs)
	secret, _ := invite(t, s, access.Invitation{Labels: map[string]string{"room": "lab1"}, Uses: 2, Expires: hour(c)})
	enrol(t, s, secret, "a", key(1))
	return dir, c, token, browser
}

func TestEverythingSurvivesARestart(t *testing.T) {
	t.Parallel()
	dir, c, token, browser := filled(t)
	s := open(t, dir, c)
	same(t, "token", verify(t, s, token).Role, access.Viewer)
	same(t, "session", session(t, s, browser).Databases, []string{})
	login(t, s, "alice", alices, home)
	if n, ok := s.NodeByKey(key(1)); !ok || n.Labels["room"] != "lab1" {
		t.Errorf("node: %+v, %v", n, ok)
	}
	if mode := written(t, dir).Mode().Perm(); runtime.GOOS != "windows" && mode != 0o600 {
		t.Errorf("mode of the file %04o", mode)
	}
	for _, secret := range []string{token, browser, alices, bobs} {
		if bytes.Contains(read(t, filepath.Join(dir, file)), []byte(secret[max(0, len(secret)-64):])) {
			t.Error("a secret is in the file")
		}
	}
}

func TestFileThatCannotBeTrustedIsRefused(t *testing.T) {
	t.Parallel()
	dir, c, _, _ := filled(t)
	good := read(t, filepath.Join(dir, file))
	change := func(old, new string) []byte {
		if !bytes.Contains(good, []byte(old)) {
			t.Fatalf("the file has no %s", old)
		}
		return bytes.Replace(good, []byte(old), []byte(new), 1)
	}
	for _, f := range []struct {
		what string
		data []byte
		mode os.FileMode
		says string
	}{
		{"empty", nil, 0o600, "damaged"},
		{"cut", good[:len(good)/2], 0o600, "damaged"},
		{"twice", append(bytes.Clone(good), good...), 0o600, "damaged"},
		{"of zeros", make([]byte, len(good)), 0o600, "damaged"},
		{"with another role", change(`"operator"`, `"admin"`), 0o600, "damaged"},
		{"with a flipped bit", change(`"bob"`, `"cob"`), 0o600, "damaged"},
		{"with an unknown field", change(`"version"`, `"more": 1, "version"`), 0o600, "damaged"},
		{"of no version", change(`"version": 1`, `"version": 0`), 0o600, "damaged"},
		{"of a newer version", change(`"version": 1`, `"of": {}, "version": 2`), 0o600, "newer snapdb"},
		{"that the group may read", good, 0o640, "chmod 600"},
		{"that the world may write", good, 0o602, "chmod 600"},
	} {
		if runtime.GOOS == "windows" && f.mode != 0o600 {
			continue
		}
		path := filepath.Join(t.TempDir(), file)
		write(t, path, f.data, f.mode)
		_, err := access.Open(filepath.Dir(path), access.Options{Now: c.Now, Costs: cheap})
		if err == nil || !strings.Contains(err.Error(), f.says) || !strings.Contains(err.Error(), path) {
			t.Errorf("a file %s: %v, want that it is %q", f.what, err, f.says)
		}
		if !bytes.Equal(read(t, path), f.data) {
			t.Errorf("a file %s was changed", f.what)
		}
	}
	if _, err := access.Open(filepath.Join(t.TempDir(), "none"), access.Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a folder that is not there: %v", err)
	}
	if _, err := access.Open(t.TempDir(), access.Options{Costs: access.Costs{MemoryKiB: 1}}); !errors.Is(err, access.ErrInvalid) {
		t.Errorf("costs that are none: %v", err)
	}
}

func TestCrashBeforeTheRenameLeavesWhatWas(t *testing.T) {
	t.Parallel()
	dir, c, token, _ := filled(t)
	half := filepath.Join(dir, file+".tmp")
	write(t, half, read(t, filepath.Join(dir, file))[:100], 0o644)
	s := open(t, dir, c)
	verify(t, s, token)
	if _, err := os.Stat(half); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the half file: %v", err)
	}
	want(t, "a change", s.SetRole("bob", access.Writer, nil, ""), nil)
	same(t, "role", open(t, dir, c).Users()[1].Role, access.Writer)
}

func TestChangeThatCannotBeSavedIsNone(t *testing.T) {
	t.Parallel()
	dir, c, token, browser := filled(t)
	s := open(t, dir, c)
	before := read(t, filepath.Join(dir, file))
	users, told := s.Users(), told(s)
	wall := filepath.Join(dir, file+".tmp")
	if err := os.Mkdir(wall, 0o700); err != nil {
		t.Fatal(err)
	}
	changes := []func() error{
		func() error { return s.Add(t.Context(), access.User{Name: "carol", Role: access.Viewer}, alices) },
		func() error { return s.SetRole("bob", access.Viewer, nil, "") },
		func() error { return s.SetPassword(t.Context(), "bob", alices, "") },
		func() error { return s.Remove("bob") },
		func() error { return s.RevokeNode("a") },
		func() error { return s.RotateNodeKey(key(1), key(2)) },
		func() error { return s.RevokeToken(s.Tokens("")[0].ID) },
		func() error { return s.CloseSession(s.Sessions("")[0].ID) },
		func() error { return s.RevokeInvitation(s.Invitations()[0].ID) },
		func() error { secret, err := s.ResetPassword(t.Context(), "bob"); return none(t, secret, err) },
		func() error { secret, err := s.ResetAdmin(t.Context()); return none(t, secret, err) },
		func() error {
			secret, _, err := s.MakeToken("bob", "", access.Viewer, nil, time.Time{})
			return none(t, secret, err)
		},
		func() error {
			secret, _, err := s.Invite(access.Invitation{Uses: 1, Expires: hour(c)})
			return none(t, secret, err)
		},
		func() error {
			secret, err := s.OpenSession(access.Principal{User: "bob"}, home, "")
			return none(t, secret, err)
		},
	}
	for n, change := range changes {
		if err := change(); err == nil || !strings.Contains(err.Error(), "save users and rights") {
			t.Errorf("change %d: %v", n, err)
		}
	}
	// Nobody is kept out by it.
	c.Add(time.Minute)
	verify(t, s, token)
	session(t, s, browser)
	login(t, s, "bob", bobs, away)
	same(t, "users", s.Users(), users)
	same(t, "revoked", told(), []access.Revoked(nil))
	if !bytes.Equal(read(t, filepath.Join(dir, file)), before) {
		t.Error("the file was changed")
	}
	if err := os.Remove(wall); err != nil {
		t.Fatal(err)
	}
	want(t, "a change", s.SetRole("bob", access.Viewer, nil, ""), nil)
	same(t, "role", open(t, dir, c).Users()[1].Role, access.Viewer)
}

func none(t *testing.T, secret string, err error) error {
	t.Helper()
	if secret != "" {
		t.Error("a secret was returned for what was not saved")
	}
	return err
}

// written is the file as it was last written: each time is another file.
func written(t *testing.T, dir string) os.FileInfo {
	t.Helper()
	info, err := os.Stat(filepath.Join(dir, file))
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func TestTimeOfUseIsSavedOnceAMinuteAndAtTheEnd(t *testing.T) {
	t.Parallel()
	dir, c, token, browser := filled(t)
	s := open(t, dir, c)
	used := func() time.Time { return open(t, dir, c).Tokens("bob")[0].LastUsed }
	c.Add(time.Hour / 2)
	verify(t, s, token)
	first := c.Now()
	same(t, "saved at once", used(), first)
	is := written(t, dir)
	c.Add(time.Minute - 1)
	verify(t, s, token)
	session(t, s, browser)
	if !os.SameFile(written(t, dir), is) {
		t.Error("saved within a minute")
	}
	same(t, "listed", s.Tokens("bob")[0].LastUsed, c.Now())
	c.Add(1)
	session(t, s, browser)
	same(t, "saved after a minute", used(), c.Now().Add(-1))
	c.Add(1)
	verify(t, s, token)
	want(t, "close", s.Close(), nil)
	same(t, "saved at the end", used(), c.Now())
	is = written(t, dir)
	want(t, "close", s.Close(), nil)
	if !os.SameFile(written(t, dir), is) {
		t.Error("saved without a reason")
	}
}

func TestPasswordIsHashedAnewWhenTheCostsHaveChanged(t *testing.T) {
	t.Parallel()
	dir, c, _, _ := filled(t)
	s, err := access.Open(dir, access.Options{Now: c.Now, Costs: access.Costs{MemoryKiB: 16, Time: 2, Threads: 1}})
	if err != nil {
		t.Fatal(err)
	}
	login(t, s, "bob", bobs, home)
	if data := read(t, filepath.Join(dir, file)); bytes.Count(data, []byte("$m=16,t=2,p=1$")) != 1 || bytes.Count(data, []byte("$m=8,t=1,p=1$")) != 1 {
		t.Errorf("not bob's hash alone is a new one:\n%s", data)
	}
	is := written(t, dir)
	login(t, s, "bob", bobs, home)
	if !os.SameFile(written(t, dir), is) {
		t.Error("saved again")
	}
	c.Add(time.Minute)
	login(t, s, "bob", bobs, home)
	same(t, "last login on disk", open(t, dir, c).Users()[1].LastLogin, c.Now())
	login(t, open(t, dir, c), "bob", bobs, home)
}

// When it is told, a change is durable and in force, and the store can be asked.
func TestWatcherIsToldWhatIsRevoked(t *testing.T) {
	t.Parallel()
	dir, c, _, _ := filled(t)
	s := open(t, dir, c)
	told := told(s)
	s.Watch(func(r access.Revoked) {
		same(t, "users on disk and in force", open(t, dir, c).Users(), s.Users())
		same(t, "nodes on disk and in force", open(t, dir, c).Nodes(), s.Nodes())
	})
	token, browser := s.Tokens("bob")[0].ID, s.Sessions("bob")[0].ID
	for _, change := range []struct {
		what string
		do   func() error
		want []access.Revoked
	}{
		{"token", func() error { return s.RevokeToken(token) }, []access.Revoked{{Credential: token}}},
		{"session", func() error { return s.CloseSession(browser) }, []access.Revoked{{Credential: browser}}},
		{"role", func() error { return s.SetRole("bob", access.Viewer, nil, "") }, []access.Revoked{{User: "bob"}}},
		{"password", func() error { return s.SetPassword(t.Context(), "bob", alices, "") }, []access.Revoked{{User: "bob"}}},
		{"reset", func() error { _, err := s.ResetPassword(t.Context(), "bob"); return err }, []access.Revoked{{User: "bob"}}},
		{"user", func() error { return s.Remove("bob") }, []access.Revoked{{User: "bob"}}},
		{"node", func() error { return s.RevokeNode("a") }, []access.Revoked{{Node: "a", Key: key(1)}}},
		{"new user", func() error { return s.Add(t.Context(), access.User{Name: "carol", Role: access.Viewer}, alices) }, nil},
		{"refused", func() error { s.Remove("alice"); return nil }, nil},
	} {
		want(t, change.what, change.do(), nil)
		same(t, change.what, told(), change.want)
	}
}

func TestManyChangeAtOnce(t *testing.T) {
	t.Parallel()
	dir, c, token, browser := filled(t)
	s := open(t, dir, c)
	told(s)
	var all sync.WaitGroup
	for n := range 4 {
		name := string(rune('k' + n))
		all.Go(func() {
			for range 5 {
				c.Add(time.Second)
				if err := s.Add(t.Context(), access.User{Name: name, Role: access.Writer}, alices); err != nil {
					t.Error(err)
				}
				secret, token, err := s.MakeToken(name, "", access.Viewer, nil, time.Time{})
				if err != nil {
					t.Error(err)
				}
				if p, err := s.VerifyToken(secret); err != nil || p.Name() != name+"#"+token.ID {
					t.Errorf("token of %s: %+v: %v", name, p, err)
				}
				if err := s.Remove(name); err != nil {
					t.Error(err)
				}
				_, _ = s.VerifyToken(secret)
			}
			if err := s.Add(t.Context(), access.User{Name: name, Role: access.Writer}, alices); err != nil {
				t.Error(err)
			}
		})
		all.Go(func() {
			for range 50 {
				if _, err := s.VerifyToken(token); err != nil {
					t.Error(err)
				}
				if _, err := s.Session(browser); err != nil {
					t.Error(err)
				}
				if len(s.Users()) < 2 || len(s.Tokens("bob")) != 1 || len(s.Sessions("")) != 1 {
					t.Error("a list lacks what nobody removed")
				}
			}
		})
	}
	all.Wait()
	if want := s.Close(); want != nil {
		t.Error(want)
	}
	again := open(t, dir, c)
	same(t, "users", again.Users(), s.Users())
	same(t, "tokens", again.Tokens(""), s.Tokens(""))
	same(t, "sessions", again.Sessions(""), s.Sessions(""))
	if len(again.Users()) != 6 {
		t.Errorf("users: %v", again.Users())
	}
}
