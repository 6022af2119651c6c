//go:build unix

package main

import (
	"bytes"
	"errors"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/snapdb/snapdb/broker/brokertest"
)

// person is a user of a machine, with what snapdb keeps for him.
type person struct {
	t    *testing.T
	home string
	env  []string
}

// run runs snapdb, or another program of the same person, to its end.
func (p *person) run(stdin, program string, args ...string) (stdout, stderr string, code int) {
	p.t.Helper()
	cmd := osexec.CommandContext(p.t.Context(), program, args...)
	cmd.Env = append(append(os.Environ(), "XDG_CONFIG_HOME="+p.home, "XDG_STATE_HOME="+p.home, "HOME="+p.home, "NO_COLOR=1"), p.env...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	err := cmd.Run()
	var exit *osexec.ExitError
	if err != nil && !errors.As(err, &exit) {
		p.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// does runs snapdb, which must be done, and returns what it prints.
func (p *person) does(args ...string) string {
	p.t.Helper()
	out, errs, code := p.run("", "snapdb", args...)
	if code != exitDone {
		p.t.Errorf("snapdb %s: exit code %d\n%s%s", strings.Join(args, " "), code, out, errs)
	}
	return out
}

// fails runs snapdb, which must end with a code and say something.
func (p *person) fails(code int, says, stdin string, args ...string) {
	p.t.Helper()
	out, errs, got := p.run(stdin, "snapdb", args...)
	if got != code || !strings.Contains(errs, says) {
		p.t.Errorf("snapdb %s: exit code %d, want %d and %q\n%s%s", strings.Join(args, " "), got, code, says, out, errs)
	}
}

// between is what the screen shows between two texts.
func (s *screen) between(before, after string) string {
	s.t.Helper()
	s.expect(before)
	s.mu.Lock()
	from := s.seen
	s.mu.Unlock()
	s.expect(after)
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.TrimSpace(s.output[from : s.seen-len(after)])
}

// shown is all that the screen has shown so far.
func (s *screen) shown() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.output
}

// securedCluster is a secured master on a loopback address, as processes, and its admin.
type securedCluster struct {
	t         *testing.T
	dir, addr string
	url, pin  string
	admin     *person
	password  string // of the admin
	master    *screen
	slaves    map[string]*screen
}

func (c *securedCluster) startMaster(flags ...string) {
	c.t.Helper()
	c.master = openProgram(c.t, c.dir, c.url, append([]string{"master", "--data", filepath.Join(c.dir, "m"), "--nats", c.addr, "--http", "off", "--verify-every", "0"}, flags...)...)
}

func (c *securedCluster) startSlave(id string, flags ...string) {
	c.t.Helper()
	c.slaves[id] = openProgram(c.t, c.dir, c.url, append([]string{"slave", "--nats", c.url, "--id", id, "--data", filepath.Join(c.dir, id)}, flags...)...)
}

func (c *securedCluster) person(name string) *person {
	return &person{t: c.t, home: filepath.Join(c.dir, name)}
}

// state waits until the admin sees a node in a state.
func (c *securedCluster) state(id, state string) {
	c.t.Helper()
	late := time.Now().Add(20 * time.Second)
	for {
		out, errs, _ := c.admin.run("", "snapdb", "node", "ls")
		for line := range strings.Lines(out) {
			if f := strings.Fields(line); len(f) > 1 && f[0] == id && f[1] == state {
				return
			}
		}
		if time.Now().After(late) {
			c.t.Fatalf("%s is not %s:\n%s%s", id, state, out, errs)
		}
	}
}

// stop interrupts a node and waits until it has ended well.
func (c *securedCluster) stop(s *screen) {
	c.t.Helper()
	if err := s.cmd.Process.Signal(os.Interrupt); err != nil {
		c.t.Error(err)
	}
	s.ended()
}

// From the first start on: every step that the README gives to a person, and what keeps
// others out.
func TestSecuredClusterFromItsFirstStart(t *testing.T) {
	t.Parallel()
	addr := brokertest.Address(t)
	c := &securedCluster{t: t, dir: t.TempDir(), addr: addr, url: "tls://" + addr, slaves: map[string]*screen{}}
	c.admin = c.person("admin")
	c.startMaster("--secure")
	once := c.master.between("password  ", "   for one time")
	c.pin = c.master.between("fingerprint ", "\r\n")
	c.master.expect("master ready at " + c.url)
	c.logIn(once)
	c.join()
	c.roles()
	c.tokens()
	c.natsTool()
	c.restart()
	c.admin.does("db", "verify")
	c.revoke()
}

// logIn is the admin's first login, after some that get nowhere.
func (c *securedCluster) logIn(once string) {
	c.t.Helper()
	as := []string{"login", "--server", c.url, "--user", "admin"}
	c.admin.fails(exitUnreachable, "snapdb login --server "+c.url, "", "node", "ls", "--server", c.url)
	c.admin.fails(exitUnreachable, "a CA that this machine does not trust", once, as...)
	c.admin.fails(exitUnreachable, "does not belong to the cluster with this fingerprint", once, append(as, "--pin", "sha256:"+strings.Repeat("0", 64))...)
	as = append(as, "--pin", c.pin)
	c.admin.fails(exitDenied, "user or password are wrong", "nothing like it", as...)
	c.admin.fails(exitDenied, "the cluster is secured: snapdb login", "", "node", "ls", "--server", c.url, "--pin", c.pin)

	c.password = "correct horse battery"
	s := openProgram(c.t, c.admin.home, c.url, as...)
	s.expect("password of admin: ")
	s.run(once, "this password is for one time", "new password: ")
	s.run("short", "the same again: ")
	s.run("short", "must have 12 to 1024 bytes", "new password: ")
	s.run(c.password, "the same again: ")
	s.run("something else", "these are two", "new password: ")
	s.run(c.password, "the same again: ")
	s.run(c.password, "logged in at "+c.url+" as admin (admin), until ")
	s.ended()
	if shown := s.shown(); strings.Contains(shown, c.password) || strings.Contains(shown, once) {
		c.t.Errorf("a password is seen:\n%s", shown)
	}
	info, err := os.Stat(filepath.Join(c.admin.home, "snapdb", "logins.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		c.t.Errorf("the login is kept as %v, %v", info, err)
	}
	// Again, where it was last; the token before is gone.
	c.admin.env = []string{"SNAPDB_PASSWORD=" + c.password}
	c.admin.does("login")
	c.admin.env = nil
	if out := c.admin.does("user", "token", "ls"); strings.Count(out, "cli@") != 1 {
		c.t.Errorf("tokens after two logins:\n%s", out)
	}
}

// join lets two slaves in by invitation, and others not.
func (c *securedCluster) join() {
	c.t.Helper()
	c.admin.does("sql", "-c", "CREATE DATABASE d; USE d; CREATE TABLE t (a); INSERT INTO t VALUES (1)")
	line := strings.Fields(c.admin.does("node", "invite", "--label", "room=lab1"))
	if len(line) != 6 || strings.Join(line[:5], " ") != "snapdb slave --nats "+c.url+" --token" {
		c.t.Fatalf("the invitation is %q", line)
	}
	used := line[5]
	c.startSlave("snap1", "--token", used)
	token := filepath.Join(c.dir, "token")
	if err := os.WriteFile(token, []byte(strings.Fields(c.admin.does("node", "invite", "--node", "snap2"))[7]+"\n"), 0o600); err != nil {
		c.t.Fatal(err)
	}
	c.startSlave("snap2", "--token-file", token)
	c.state("snap1", "online")
	c.state("snap2", "online")
	if out := c.admin.does("node", "ls"); !strings.Contains(out, "room=lab1") {
		c.t.Errorf("no label of the invitation:\n%s", out)
	}
	late := c.person("late")
	slave := func(id string) []string {
		return []string{"slave", "--nats", c.url, "--id", id, "--data", filepath.Join(c.dir, id)}
	}
	late.fails(exitDenied, "get one with snapdb node invite", "", slave("snap3")...)
	late.fails(exitDenied, "its token has been used", used, append(slave("snap3"), "--token-file", "-")...)
	late.env = []string{"SNAPDB_TOKEN=" + used}
	late.fails(exitUsage, "SNAPDB_TOKEN is the invitation of a slave", "", "node", "ls")
	if out := c.admin.does("node", "keys"); strings.Count(out, "snap") != 2 {
		c.t.Errorf("the keys are\n%s", out)
	}
}

// roles lets a user of each role try everything.
func (c *securedCluster) roles() {
	c.t.Helper()
	users := map[string]*person{"admin": c.admin}
	ladder := []string{"viewer", "writer", "operator", "admin"}
	for _, role := range ladder[:3] {
		p := c.person(role)
		users[role] = p
		password := "a password of " + role
		if _, errs, code := c.admin.run(password, "snapdb", "user", "add", role, "--role", role, "--password-file", "-"); code != exitDone {
			c.t.Fatal(errs)
		}
		if _, errs, code := p.run(password, "snapdb", "login", "--server", c.url, "--user", role, "--pin", c.pin); code != exitDone {
			c.t.Fatal(errs)
		}
	}
	for _, step := range []struct{ least, command string }{
		{"viewer", "sql --db d --node snap1 -c SELECT*FROM+t"},
		{"writer", "sql --db d -c INSERT+INTO+t+VALUES(2)"},
		{"operator", "node label snap1 seen=yes"},
		{"admin", "user ls"},
		{"admin", "node invite"},
	} {
		may := false
		for _, role := range ladder {
			may = may || role == step.least
			var args []string
			for _, a := range strings.Fields(step.command) {
				args = append(args, strings.ReplaceAll(a, "+", " "))
			}
			if may {
				users[role].does(args...)
			} else {
				users[role].fails(exitDenied, "this takes the role "+step.least, "", args...)
			}
		}
	}
	if out := users["viewer"].does("whoami"); !strings.Contains(out, "role       viewer\ndatabases  all\n") {
		c.t.Errorf("whoami:\n%s", out)
	}
	c.admin.does("user", "role", "viewer", "viewer", "--db", "other")
	users["viewer"].fails(exitDenied, `"d" is not among the databases`, "", "sql", "--db", "d", "-c", "SELECT 1")
	c.admin.does("user", "rm", "viewer", "--yes")
	users["viewer"].fails(exitDenied, "the token of viewer has expired, or was revoked", "", "node", "ls")
}

// tokens are made for programs, and revoked.
func (c *securedCluster) tokens() {
	c.t.Helper()
	token := strings.TrimSpace(c.admin.does("user", "token", "make", "writer", "--label", "till", "--role", "viewer", "--expires", "1h"))
	program := c.person("program")
	program.env = []string{"SNAPDB_SERVER=" + c.url, "SNAPDB_PIN=" + c.pin, "SNAPDB_TOKEN=" + token}
	program.fails(exitUsage, "say whose with --user", "", "whoami")
	program.env = append(program.env, "SNAPDB_USER=writer")
	if out := program.does("whoami"); !strings.Contains(out, "user       writer\nrole       viewer\n") {
		c.t.Errorf("whoami:\n%s", out)
	}
	id := strings.Split(token, "_")[1]
	c.admin.does("user", "token", "rm", id)
	program.fails(exitDenied, "the token of writer has expired, or was revoked", "", "whoami")
	program.env = program.env[:2]
	program.env = append(program.env, "SNAPDB_USER=writer")
	program.fails(exitDenied, "writer has not logged in at "+c.url, "", "whoami")
}

// natsTool is the plain nats tool with a context of a user.
func (c *securedCluster) natsTool() {
	c.t.Helper()
	nats, err := osexec.LookPath("nats")
	if err != nil {
		if os.Getenv("SNAPDB_REQUIRE_NATS") != "" {
			c.t.Errorf("there is no nats tool: %v", err)
		}
		return
	}
	p := c.person("operator")
	p.does("nats-context")
	run := func(says string, args ...string) {
		c.t.Helper()
		out, errs, _ := p.run("", nats, append([]string{"--context", "snapdb", "--timeout", "5s"}, args...)...)
		if !strings.Contains(out+errs, says) {
			c.t.Errorf("nats %s does not say %q:\n%s%s", strings.Join(args, " "), says, out, errs)
		}
	}
	run(`"rows":[[1]`, "req", "db.query", `{"db":"d","sql":"SELECT * FROM t"}`)
	run(`"state":"done"`, "req", "node.snap1.ctl", `{"op":"ping"}`)
	run("DB_REPLICATE", "stream", "ls")
	run("db.replicate, db.epoch", "stream", "info", "DB_REPLICATE")
	run("node-snap1-", "consumer", "ls", "DB_REPLICATE")
	run("snapdb-master", "micro", "ls")
	run("permissions violation", "pub", "db.replicate", "x")
}

// restart is one of everybody: they know each other again, and nobody opens the cluster.
func (c *securedCluster) restart() {
	c.t.Helper()
	dir := filepath.Join(c.dir, "m")
	c.admin.fails(exitFailed, "in use by another process", "", "master", "reset-admin", "--data", dir)
	c.stop(c.slaves["snap1"])
	c.stop(c.master)
	c.admin.fails(exitUsage, "the cluster in "+dir+" is secured", "", "master", "--data", dir, "--nats", c.addr, "--http", "off", "--insecure")
	once := strings.Fields(c.admin.does("master", "reset-admin", "--data", dir))[3]
	c.startMaster()
	c.master.expect("fingerprint " + c.pin)
	c.master.expect("master ready at " + c.url)
	if shown := c.master.shown(); strings.Contains(shown, "password") {
		c.t.Errorf("a password is shown again:\n%s", shown)
	}
	c.admin.fails(exitDenied, "the password of admin is for one time", "", "node", "ls")
	c.admin.fails(exitUsage, "there is no new password", once, "login")
	if out, errs, code := c.admin.run(once+"\n"+c.password+"\n", "snapdb", "login"); code != exitDone {
		c.t.Errorf("login after a reset:\n%s%s", out, errs)
	}
	c.startSlave("snap1")
	c.state("snap1", "online")
	c.state("snap2", "online")
	c.admin.does("sql", "--db", "d", "--ack", "all", "-c", "INSERT INTO t VALUES (3)")

	// The master is another one to who looks at it, but not to who knew it before.
	now := strings.Fields(c.admin.does("authority", "rotate", "--yes"))[1]
	c.admin.does("whoami")
	kept, err := os.ReadFile(filepath.Join(c.admin.home, "snapdb", "logins.json"))
	if err != nil || now == c.pin || !strings.Contains(string(kept), now) {
		c.t.Errorf("the fingerprint %s is not kept: %s, %v", now, kept, err)
	}
}

// revoke cuts a node off, and then the admin himself.
func (c *securedCluster) revoke() {
	c.t.Helper()
	c.admin.fails(exitUsage, "to cut off snap2, say --yes", "", "node", "revoke", "snap2")
	c.admin.does("node", "revoke", "snap2", "--yes")
	c.state("snap2", "offline")
	c.slaves["snap2"].expect("it was revoked, or another took its place")
	c.admin.does("sql", "--db", "d", "-c", "INSERT INTO t VALUES (4)")
	c.stop(c.slaves["snap2"])
	c.admin.does("logout")
	c.admin.fails(exitFailed, "there is no such login", "", "logout")
	c.stop(c.slaves["snap1"])
	c.stop(c.master)
}
