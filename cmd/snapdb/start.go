package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/snapdb/snapdb/agent"
	"github.com/snapdb/snapdb/broker"
	"github.com/snapdb/snapdb/dashboard"
	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// explainStart says what to do about an error that kept a node from starting.
func explainStart(err error) error {
	var listen *net.OpError
	var path *fs.PathError
	switch {
	case errors.Is(err, broker.ErrPortTaken):
		return fmt.Errorf("--nats: %w\n  stop what listens there, or choose another address", err)
	case errors.As(err, &listen) && listen.Op == "listen":
		return fmt.Errorf("--nats: %w\n  choose an address of this machine that this user may listen at", err)
	case errors.Is(err, exec.ErrInUse):
		return fmt.Errorf("--data: %w\n  is snapdb running on it already? stop it, or choose another directory", err)
	case errors.Is(err, exec.ErrNewer), errors.Is(err, exec.ErrRole), errors.Is(err, exec.ErrCluster):
		return fmt.Errorf("--data: %w", err)
	case errors.Is(err, agent.ErrSecured):
		return fmt.Errorf("--data: %w\n  start it with --secure; a secured cluster cannot be opened again: its nodes take only what is signed", err)
	case errors.Is(err, exec.ErrIdentity):
		return fmt.Errorf("--data: %w\n  is it the right directory? then bring the file back from a backup", err)
	case errors.Is(err, exec.ErrCatalog):
		return fmt.Errorf("--data: %w\n  restore the directory from a backup; or move %s.db* in it away: if the log goes back to its beginning, everything is made again from that", err, subjects.Catalog)
	case errors.Is(err, exec.ErrNodeID):
		return fmt.Errorf("--id: %w", err)
	case errors.As(err, &path):
		return fmt.Errorf("--data: %w\n  choose a directory that this user can write to", err)
	}
	return err
}

// explainPanel says what to do about an error that kept the panel from starting.
func explainPanel(err error) error {
	var listen *net.OpError
	if errors.As(err, &listen) && listen.Op == "listen" {
		return fmt.Errorf("--http: %w\n  stop what listens there, choose another address, or none with --http %s", err, noPanel)
	}
	return err
}

// checkPanel says whether the panel of a demo can be at an address.
func checkPanel(addr string) error {
	if !served(addr) {
		return nil
	}
	if err := checkListen(addr); err != nil {
		return err
	}
	err := dashboard.CheckListen(addr)
	if errors.Is(err, dashboard.ErrNotLoopback) {
		return fmt.Errorf("%w\n  choose an address like %s, and reach it from elsewhere through a tunnel (ssh -L)", err, dashboard.DefaultListen)
	}
	return err
}

// checkDemo says whether a demo, which is open to whoever reaches it, may listen at an
// address.
func checkDemo(addr string) error {
	if err := checkListen(addr); err != nil {
		return err
	}
	if !loopback(addr) {
		return fmt.Errorf("%s can be reached over a network, and a demo is open to everybody: choose an address like %s\n  snapdb master is secured where a network reaches it", addr, agent.DefaultListen)
	}
	return nil
}

// checkListen says whether an address can be listened at.
func checkListen(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%q is not HOST:PORT: %w", addr, err)
	}
	if host == "" {
		return fmt.Errorf("%q names no host: 127.0.0.1:%s is for this machine only, 0.0.0.0:%s for every network that it is in", addr, port, port)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("%q is not HOST:PORT: the port must be a number up to 65535", addr)
	}
	return nil
}

// checkServers says whether a text is the address of a NATS server, or several
// with commas.
func checkServers(servers string) error {
	for _, s := range strings.Split(servers, ",") {
		s = strings.TrimSpace(s)
		if !strings.Contains(s, "://") {
			s = "nats://" + s
		}
		u, err := url.Parse(s)
		if err != nil || u.Hostname() == "" {
			return errors.New("must be an address like nats://127.0.0.1:4222")
		}
		if n, err := strconv.Atoi(u.Port()); u.Port() != "" && (err != nil || n < 1 || n > 65535) {
			return fmt.Errorf("the port must be a number from 1 to 65535, not %s", u.Port())
		}
		switch u.Scheme {
		case "nats", "tls", "ws", "wss":
		default:
			return fmt.Errorf("must be an address like nats://127.0.0.1:4222, not of the kind %q", u.Scheme)
		}
	}
	return nil
}

// stateDir is where a role keeps its data unless told otherwise.
func stateDir(role string) string {
	if dir := os.Getenv("STATE_DIRECTORY"); dir != "" {
		return filepath.Join(dir, role)
	}
	return filepath.Join(stateHome(), role)
}

// stateHome is where this user's programs keep what they must not lose, the part
// of it that is snapdb's.
func stateHome() string {
	if dir := os.Getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "snapdb")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "snapdb" // here, for want of a better place
	}
	return filepath.Join(home, ".local", "state", "snapdb")
}

// loopback says whether an address that can be listened at is this machine's own.
func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
