package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	osexec "os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/snapdb/snapdb/agent/client"
)

// startPatience bounds the start of the local cluster.
const startPatience = 30 * time.Second

// local is a cluster of processes that bench started.
type local struct {
	self     string
	url      string
	dir      string
	progress io.Writer
	nodes    []*node // the master first
	stopped  []Process
}

// node is one of its processes.
type node struct {
	args []string
	cmd  *osexec.Cmd // nil while it is away
	used Process
}

func startLocal(ctx context.Context, slaves int, progress io.Writer) (*local, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	dir, err := os.MkdirTemp("", "snapdb-bench-")
	if err != nil {
		return nil, fmt.Errorf("make a directory for bench: %w", err)
	}
	l := &local{self: self, dir: dir, progress: progress}
	if err := l.start(ctx, slaves); err != nil {
		l.stop()
		return nil, err
	}
	return l, nil
}

func (l *local) start(ctx context.Context, slaves int) error {
	address, err := freeAddress()
	if err != nil {
		return err
	}
	l.url = "nats://" + address
	l.nodes = []*node{{args: []string{"master", "--data", filepath.Join(l.dir, "master"), "--nats", address, "--http", "off"}, used: Process{Name: "master"}}}
	for i := range slaves {
		id := fmt.Sprintf("snap%d", i+1)
		l.nodes = append(l.nodes, &node{args: []string{"slave", "--data", filepath.Join(l.dir, id), "--id", id, "--nats", l.url}, used: Process{Name: id}})
	}
	for i, n := range l.nodes {
		if err := l.run(n); err != nil {
			return err
		}
		if i == 0 {
			if err := l.reach(ctx); err != nil {
				return err
			}
		}
	}
	return nil
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
	cmd.Stderr, cmd.SysProcAttr = l.progress, apart()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", n.used.Name, err)
	}
	n.cmd = cmd
	return nil
}

// reach waits until the master answers.
func (l *local) reach(ctx context.Context) error {
	return poll(ctx, "the master that bench started to answer", func(ctx context.Context) error {
		c, err := client.Connect(ctx, l.url, client.Options{})
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Info(ctx)
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
