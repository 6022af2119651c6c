package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	_ "modernc.org/sqlite" // for scribble, in a process of its own

	"github.com/snapdb/snapdb/agent"
	"github.com/snapdb/snapdb/agent/client"
)

// TestMain lets scripts and terminals run this test binary as snapdb.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"snapdb": main, "scribble": scribble})
}

// scribble is `scribble FILE SQL`: a program that is not snapdb writes to a
// database.
func scribble() {
	db, err := sql.Open("sqlite", "file:"+os.Args[1]+"?_pragma=busy_timeout(10000)")
	if err == nil {
		_, err = db.Exec(os.Args[2])
		err = errors.Join(err, db.Close())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// TestScripts runs testdata/*.txtar: commands that a user could type, against
// real nodes.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Setenv("XDG_STATE_HOME", filepath.Join(env.WorkDir, "state"))
			env.Setenv("XDG_CONFIG_HOME", filepath.Join(env.WorkDir, "config"))
			env.Setenv("SNAPDB_HTTP", "off") // masters of scripts must not meet at one address
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"cluster": scriptCluster,
			"code":    scriptCode,
			"port":    scriptPort,
			"ready":   scriptReady,
			"state":   scriptState,
			"appears": scriptAppears,
		},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// scriptCluster is `cluster N`: a master and N slaves, and SNAPDB_SERVER naming
// the master.
func scriptCluster(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(strings.Join(args, " "))
	ts.Check(err)
	url, stop, err := startNodes(ts.Getenv("WORK"), n)
	ts.Defer(func() { ts.Check(stop()) })
	ts.Check(err)
	ts.Setenv("SNAPDB_SERVER", url)
}

// scriptCode is `code N program args...`: it must end with exit code N.
func scriptCode(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	var exit *osexec.ExitError
	code := 0
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

// scriptPort is `port NAME`: a free port in $NAME.
func scriptPort(ts *testscript.TestScript, _ bool, args []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	_, port, err := net.SplitHostPort(l.Addr().String())
	ts.Check(errors.Join(err, l.Close()))
	ts.Setenv(args[0], port)
}

// scriptReady is `ready N`: the master of SNAPDB_SERVER answers, and N slaves are
// online.
func scriptReady(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(strings.Join(args, " "))
	ts.Check(err)
	ts.Check(awaitSlaves(ts.Getenv("SNAPDB_SERVER"), n))
}

// scriptState is `state ID STATE [REASON]`: wait until the master says so of a node, for
// a reason that has those words in it.
func scriptState(ts *testscript.TestScript, _ bool, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := client.Connect(ctx, ts.Getenv("SNAPDB_SERVER"), client.Options{})
	ts.Check(err)
	defer c.Close()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		info, err := c.Info(ctx)
		ts.Check(err)
		for _, n := range info.Nodes {
			if n.ID == args[0] && string(n.State) == args[1] && strings.Contains(n.Reason, strings.Join(args[2:], " ")) {
				return
			}
		}
		<-tick.C
	}
}

// scriptAppears is `appears PATTERN`: wait until there is such a file.
func scriptAppears(ts *testscript.TestScript, _ bool, args []string) {
	patience := time.NewTimer(20 * time.Second)
	defer patience.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		found, err := filepath.Glob(ts.MkAbs(args[0]))
		ts.Check(err)
		if len(found) > 0 {
			return
		}
		select {
		case <-tick.C:
		case <-patience.C:
			ts.Fatalf("no file %s", args[0])
		}
	}
}

// startNodes starts a master and slaves snap1, snap2, … in this process.
func startNodes(dir string, slaves int) (url string, stop func() error, err error) {
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	var stops []func(context.Context) error
	stop = func() error {
		ctx, cancel := context.WithTimeout(context.Background(), stopPatience)
		defer cancel()
		var errs []error
		for _, s := range stops {
			errs = append(errs, s(ctx))
		}
		return errors.Join(errs...)
	}
	m, err := agent.StartMaster(context.Background(), agent.MasterOptions{Dir: filepath.Join(dir, "master"), Listen: "127.0.0.1:0", VerifyEvery: -1, Version: version, Logger: quiet})
	if err != nil {
		return "", stop, err
	}
	stops = append(stops, m.Stop)
	for i := range slaves {
		id := fmt.Sprintf("snap%d", i+1)
		s, err := agent.StartSlave(context.Background(), agent.SlaveOptions{URL: m.URL(), ID: id, Dir: filepath.Join(dir, id), Version: version, Logger: quiet})
		if err != nil {
			return "", stop, err
		}
		stops = append([]func(context.Context) error{s.Stop}, stops...)
	}
	return m.URL(), stop, awaitSlaves(m.URL(), slaves)
}

// awaitSlaves waits until a master answers and has that many slaves online.
func awaitSlaves(url string, n int) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		online, err := countOnline(ctx, url)
		if err == nil && online == n {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for %d slaves at %s: %d are there: %w", n, url, online, errors.Join(err, ctx.Err()))
		}
	}
}

func countOnline(ctx context.Context, url string) (int, error) {
	c, err := client.Connect(ctx, url, client.Options{})
	if err != nil {
		return 0, err
	}
	defer c.Close()
	info, err := c.Info(ctx)
	if err != nil {
		return 0, err
	}
	return info.Online(), nil
}
