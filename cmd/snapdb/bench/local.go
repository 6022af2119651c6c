package bench

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	osexec "os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/snapdb/snapdb/agent/client"
	"github.com/snapdb/snapdb/broker/pki"
	"github.com/snapdb/snapdb/subjects"
)

// startPatience bounds the start of the local cluster.
const startPatience = 30 * time.Second

// local is a cluster of processes that bench started.
type local struct {
	self     string
	url      string
	client   client.Options
	dir      string
	progress io.Writer
	nodes    []*node // the master first
	stopped  []Process
}

// node is one of its processes.
type node struct {
	args []string
	cmd  *osexec.Cmd // nil while it is away
	out  output
	used Process
}

// output is what a process has written.
type output struct {
	mu   sync.Mutex
	text []byte
}

// Write takes a part of it.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text = append(o.text, p...)
	return len(p), nil
}

// String is all that came so far.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.text)
}

func startLocal(ctx context.Context, o Options) (*local, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	dir, err := os.MkdirTemp("", "snapdb-bench-")
	if err != nil {
		return nil, fmt.Errorf("make a directory for bench: %w", err)
	}
	l := &local{self: self, dir: dir, progress: o.Progress}
	if err := l.start(ctx, o.Local, o.Secure); err != nil {
		l.stop()
		return nil, err
	}
	return l, nil
}

func (l *local) start(ctx context.Context, slaves int, secure bool) error {
	address, err := freeAddress()
	if err != nil {
		return err
	}
	l.url = "nats://" + address
	master := &node{args: []string{"master", "--data", filepath.Join(l.dir, "master"), "--nats", address, "--http", "off"}, used: Process{Name: "master"}}
	if secure {
		l.url = "tls://" + address
		master.args = append(master.args, "--secure")
	}
	if err := l.run(master); err != nil {
		return err
	}
	var token []string
	if secure {
		if token, err = l.takeOver(ctx, master, slaves); err != nil {
			return fmt.Errorf("take over the secured cluster: %w", err)
		}
	}
	if err := l.reach(ctx); err != nil {
		return err
	}
	for i := range slaves {
		id := fmt.Sprintf("snap%d", i+1)
		args := append([]string{"slave", "--data", filepath.Join(l.dir, id), "--id", id, "--nats", l.url}, token...)
		if err := l.run(&node{args: args, used: Process{Name: id}}); err != nil {
			return err
		}
	}
	return nil
}

// takeOver logs in to a secured cluster for the first time, and invites its slaves.
func (l *local) takeOver(ctx context.Context, master *node, slaves int) (token []string, err error) {
	said := regexp.MustCompile(`(?s)password\s+(\S+).*fingerprint (\S+)`)
	var words []string
	err = poll(ctx, "the master's first password", func(context.Context) error {
		if words = said.FindStringSubmatch(master.out.String()); words == nil {
			return errors.New("it has not said it")
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	l.client = client.Options{Name: "snapdb bench", User: "admin", Secret: words[1]}
	if l.client.TLS, err = pki.ClientConfig(words[2]); err != nil {
		return nil, err
	}
	if err := l.reach(ctx); err != nil {
		return nil, err
	}
	c, err := client.Connect(ctx, l.url, l.client)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	l.client.Secret = rand.Text()
	if err := c.ChangePassword(ctx, words[1], l.client.Secret); err != nil {
		return nil, err
	}
	c, err = client.Connect(ctx, l.url, l.client)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	made, err := c.Invite(ctx, subjects.InvitationRequest{Uses: max(slaves, 1)})
	if err != nil {
		return nil, err
	}
	return []string{"--token", made.Secret}, nil
}

// freeAddress is one where nobody listens now.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return l.Addr().String(), l.Close()
}

func (l *local) run(n *node) error {
	cmd := osexec.Command(l.self, n.args...)
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = &n.out, l.progress, apart()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", n.used.Name, err)
	}
	n.cmd = cmd
	if !slices.Contains(l.nodes, n) {
		l.nodes = append(l.nodes, n)
	}
	return nil
}

// reach waits until the master answers.
func (l *local) reach(ctx context.Context) error {
	return poll(ctx, "the master that bench started to answer", func(ctx context.Context) error {
		c, err := client.Connect(ctx, l.url, l.client)
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Info(ctx)
		var refused *subjects.Error
		if errors.As(err, &refused) && refused.Code == subjects.CodeForbidden {
			return nil // before the first password is changed
		}
		return err
	})
}

// awaitSlaves waits until so many slaves are online.
func awaitSlaves(ctx context.Context, c *client.Client, want int) error {
	return poll(ctx, fmt.Sprintf("%d slaves", want), func(ctx context.Context) error {
		info, err := c.Info(ctx)
		if err != nil {
			return err
		}
		if in := info.Online(); in < want {
			return fmt.Errorf("%d are online", in)
		}
		return nil
	})
}

// poll tries again and again, within startPatience.
func poll(ctx context.Context, what string, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", what, err)
		}
	}
}

// noteIdle takes down what memory the processes use before the load.
func (l *local) noteIdle() {
	for _, n := range l.nodes {
		n.used.IdleMB = residentMB(n.cmd.Process.Pid)
	}
}

// halt stops one process and notes what it has used.
func (n *node) halt() error {
	if n.cmd == nil {
		return nil
	}
	cmd := n.cmd
	n.cmd = nil
	if err := terminate(cmd.Process); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", n.used.Name, err)
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w", n.used.Name, err)
	}
	s := cmd.ProcessState
	n.used.CPUS += (s.UserTime() + s.SystemTime()).Seconds()
	n.used.PeakMB = max(n.used.PeakMB, peakMB(s))
	return nil
}

// stop stops all processes, the master last, and removes their data. It may be
// called again.
func (l *local) stop() []Process {
	for _, n := range slices.Backward(l.nodes) {
		if err := n.halt(); err != nil {
			fmt.Fprintln(l.progress, "bench:", err)
		}
	}
	for _, n := range l.nodes {
		l.stopped = append(l.stopped, n.used)
	}
	l.nodes = nil
	if err := os.RemoveAll(l.dir); err != nil {
		fmt.Fprintln(l.progress, "bench: remove data:", err)
	}
	return l.stopped
}
