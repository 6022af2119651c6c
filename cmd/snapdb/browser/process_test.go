//go:build linux

package browser_test

import (
	"context"
	"encoding/json"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/snapdb/snapdb/broker/brokertest"
)

// patience of the tests: far more than anything takes.
const patience = 30 * time.Second

// process is the program, running as a node.
type process struct {
	t     testing.TB
	name  string
	args  []string
	env   []string // beside the test's own
	log   string   // file with what it has said
	cmd   *osexec.Cmd
	ended chan struct{}
}

func (p *process) start() {
	p.t.Helper()
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	defer out.Close() // the process has its own
	cmd := osexec.Command(built, p.args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = append(os.Environ(), p.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // it must not outlive a test run that is killed
	if err := cmd.Start(); err != nil {
		p.t.Fatalf("start %s: %v", p.name, err)
	}
	ended := make(chan struct{})
	p.cmd, p.ended = cmd, ended
	go func() {
		_ = cmd.Wait() // tests look at how it ended
		close(ended)
	}()
}

func (p *process) running() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

func (p *process) kill() {
	p.t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		p.t.Errorf("kill %s: %v", p.name, err)
	}
	<-p.ended
}

// cluster is a master with its panel, and its slaves.
type cluster struct {
	t      testing.TB
	dir    string
	nats   string
	url    string // of the panel
	master *process
	slaves map[string]*process
}

// startCluster starts a master and that many slaves, snap1 and so on.
func startCluster(t testing.TB, slaves int) *cluster {
	t.Helper()
	c := &cluster{t: t, dir: t.TempDir(), nats: brokertest.Address(t), slaves: map[string]*process{}}
	http := brokertest.Address(t)
	c.url = "http://" + http
	c.master = c.process("master", "master", "--data", filepath.Join(c.dir, "master"), "--nats", c.nats, "--http", http)
	c.master.start()
	for i := range slaves {
		c.startSlave("snap" + strconv.Itoa(i+1))
	}
	return c
}

func (c *cluster) startSlave(id string, flags ...string) *process {
	c.t.Helper()
	p := c.newSlave(id, flags...)
	p.start()
	return p
}

// newSlave prepares a slave that is not started yet.
func (c *cluster) newSlave(id string, flags ...string) *process {
	c.t.Helper()
	p := c.process(id, append([]string{"slave", "--data", filepath.Join(c.dir, id), "--id", id, "--nats", "nats://" + c.nats}, flags...)...)
	c.slaves[id] = p
	return p
}

func (c *cluster) process(name string, args ...string) *process {
	p := &process{t: c.t, name: name, args: args, log: filepath.Join(c.dir, name+".log")}
	c.t.Cleanup(func() {
		if p.running() {
			p.kill()
		}
		if c.t.Failed() {
			said, _ := os.ReadFile(p.log) // for people, after a failure
			c.t.Logf("%s said last:\n%s", name, said[max(0, len(said)-2000):])
		}
	})
	return p
}

// sql runs SQL with the program, at the master or at a node, and returns its output.
func (c *cluster) sql(sql string, flags ...string) string {
	c.t.Helper()
	var out string
	await(c.t, func() string {
		ctx, cancel := context.WithTimeout(c.t.Context(), patience)
		defer cancel()
		answer, err := osexec.CommandContext(ctx, built, append([]string{"sql", "--server", "nats://" + c.nats, "--format", "json", "-c", sql}, flags...)...).CombinedOutput()
		out = string(answer)
		if err != nil {
			return err.Error() + ": " + out
		}
		return ""
	})
	return out
}

// rows are the objects in an output of sql.
func rows(t testing.TB, out string) []map[string]any {
	t.Helper()
	var list []map[string]any
	if err := json.Unmarshal([]byte(strings.TrimSpace(out)), &list); err != nil {
		t.Fatalf("%q is no list of rows: %v", out, err)
	}
	return list
}

// await waits until missing returns "", and fails the test with what it returned
// last when that takes too long.
func await(t testing.TB, missing func() string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(30 * time.Millisecond)
	defer tick.Stop()
	for {
		what := missing()
		if what == "" {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("still after %v: %s", patience, what)
		}
	}
}
