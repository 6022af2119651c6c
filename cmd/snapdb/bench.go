package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	osexec "os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/snapdb/snapdb/agent/client"
	"github.com/snapdb/snapdb/subjects"
)

// benchOptions are the flags of bench.
type benchOptions struct {
	server      string
	local       int
	workload    string
	clients     int
	connections int
	duration    time.Duration
	ack         string
	txRows      int
	node        string
	json        bool
}

// benchRows is how many rows point reads choose from.
const benchRows = 10_000

// benchDB is made for the measurement and dropped after it.
const benchDB = "snapdbench"

func benchCommand() *cobra.Command {
	var o benchOptions
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "measure throughput and latency of a cluster",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return usageError(err)
			}
			return bench(cmd.Context(), o, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.server, "server", client.DefaultURL, "`URL` of a running master")
	f.IntVar(&o.local, "local", 0, "start a master and this many `SLAVES` as separate processes, and measure them")
	f.StringVar(&o.workload, "workload", "insert", "`WORK` to measure: insert, tx, get or mixed")
	f.IntVar(&o.clients, "clients", 64, "`NUMBER` of clients, each with one request at a time")
	f.IntVar(&o.connections, "connections", 1, "`NUMBER` of connections the clients share")
	f.DurationVar(&o.duration, "duration", 10*time.Second, "how long to measure, e.g. 10s")
	f.StringVar(&o.ack, "ack", "", "acknowledgement `RULE` of writes (default: the master's)")
	f.IntVar(&o.txRows, "rows", 100, "rows of a transaction in the tx workload")
	f.StringVar(&o.node, "node", "", "`ID` of the node that get reads from (default: the master)")
	f.BoolVar(&o.json, "json", false, "print one JSON object")
	return cmd
}

func (o *benchOptions) check() error {
	switch {
	case !slices.Contains([]string{"insert", "tx", "get", "mixed"}, o.workload):
		return fmt.Errorf("--workload: must be insert, tx, get or mixed, not %q", o.workload)
	case o.clients < 1 || o.connections < 1 || o.connections > o.clients:
		return errors.New("--clients and --connections: must be at least 1, with no more connections than clients")
	case o.duration <= 0 || o.txRows < 1 || o.local < 0:
		return errors.New("--duration and --rows must be positive, --local not negative")
	case o.ack != "":
		if _, err := subjects.ParseAck(o.ack); err != nil {
			return fmt.Errorf("--ack: %w", err)
		}
	}
	return nil
}

// benchReport is what bench prints with --json.
type benchReport struct {
	Workload    string            `json:"workload"`
	Clients     int               `json:"clients"`
	Connections int               `json:"connections"`
	Seconds     float64           `json:"seconds"`
	Ops         int64             `json:"ops"`
	OpsPerS     float64           `json:"ops_per_s"`
	RowsPerS    float64           `json:"rows_per_s"`
	P50MS       float64           `json:"p50_ms"`
	P99MS       float64           `json:"p99_ms"`
	P999MS      float64           `json:"p999_ms"`
	Errors      int64             `json:"errors"`
	FirstError  string            `json:"first_error,omitempty"`
	Lag         map[string]uint64 `json:"lag"` // positions each slave was behind when the load ended
}

func bench(ctx context.Context, o benchOptions, out, progress io.Writer) (err error) {
	if o.local > 0 {
		l, err := startLocal(ctx, o.local, progress)
		if err != nil {
			return err
		}
		defer l.stop()
		o.server = l.url
	}
	clients := make([]*client.Client, o.connections)
	for i := range clients {
		if clients[i], err = client.Connect(ctx, o.server, client.Options{Name: "snapdb bench"}); err != nil {
			return err
		}
		defer clients[i].Close()
	}
	if err := benchWait(ctx, clients[0], o.local); err != nil {
		return err
	}
	if err := benchPrepare(ctx, clients[0]); err != nil {
		return err
	}
	report := o.load(ctx, clients)
	if info, err := clients[0].Info(ctx); err == nil {
		report.Lag = map[string]uint64{}
		for _, n := range info.Nodes {
			report.Lag[n.ID] = info.Heads[benchDB].Position - min(n.Acked[benchDB], info.Heads[benchDB].Position)
		}
	}
	if _, err := clients[0].Exec(context.WithoutCancel(ctx), &subjects.Request{SQL: "DROP DATABASE IF EXISTS " + benchDB}); err != nil {
		return fmt.Errorf("clean up: %w", err)
	}
	return report.print(out, o.json)
}

// benchWait waits until the slaves that bench started are in.
func benchWait(ctx context.Context, c *client.Client, slaves int) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		info, err := c.Info(ctx)
		if err != nil {
			return err
		}
		in := 0
		for _, n := range info.Nodes {
			if n.State == subjects.StateOnline {
				in++
			}
		}
		if in >= slaves {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for %d slaves: %w", slaves, context.Cause(ctx))
		}
	}
}

func benchPrepare(ctx context.Context, c *client.Client) error {
	for _, r := range []*subjects.Request{
		{SQL: "DROP DATABASE IF EXISTS " + benchDB},
		{SQL: "CREATE DATABASE " + benchDB},
		{DB: benchDB, SQL: "CREATE TABLE t (id INTEGER PRIMARY KEY, a INTEGER, b TEXT)"},
		{DB: benchDB, SQL: fmt.Sprintf("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < %d) INSERT INTO t SELECT i, i*7, 'row '||i FROM n", benchRows)},
	} {
		if _, err := c.Exec(ctx, r); err != nil {
			return fmt.Errorf("prepare the database: %s: %w", r.SQL, err)
		}
	}
	return nil
}

// load runs all clients for the duration and sums up.
func (o benchOptions) load(ctx context.Context, clients []*client.Client) *benchReport {
	ctx, cancel := context.WithTimeout(ctx, o.duration)
	defer cancel()
	var wg sync.WaitGroup
	var failed atomic.Int64
	var first atomic.Pointer[string]
	times := make([][]time.Duration, o.clients)
	start := time.Now()
	for i := range o.clients {
		wg.Add(1)
		go func() {
			defer wg.Done()
			c := clients[i%len(clients)]
			rng := rand.New(rand.NewPCG(uint64(i), 1))
			for ctx.Err() == nil {
				begin := time.Now()
				err := o.once(context.WithoutCancel(ctx), c, rng)
				if err != nil {
					failed.Add(1)
					text := err.Error()
					first.CompareAndSwap(nil, &text)
					continue
				}
				times[i] = append(times[i], time.Since(begin))
			}
		}()
	}
	wg.Wait()
	return o.sum(times, time.Since(start), failed.Load(), first.Load())
}

// once does one operation of the workload.
func (o benchOptions) once(ctx context.Context, c *client.Client, rng *rand.Rand) error {
	get := o.workload == "get" || o.workload == "mixed" && rng.IntN(10) > 0
	req := &subjects.Request{DB: benchDB, TimeoutMS: 30_000}
	if get {
		req.SQL = "SELECT a, b FROM t WHERE id = ?"
		req.Args = []subjects.Value{subjects.IntegerValue(1 + rng.Int64N(benchRows))}
		if o.node != "" {
			_, err := c.QueryNode(ctx, o.node, req)
			return err
		}
		_, err := c.Query(ctx, req)
		return err
	}
	req.Ack, _ = subjects.ParseAck(o.ack) // checked with the flags; "" is the default
	const insert = "INSERT INTO t (a, b) VALUES (?, ?)"
	row := func() []subjects.Value {
		n := rng.Int64()
		return []subjects.Value{subjects.IntegerValue(n), subjects.TextValue("value " + strconv.FormatInt(n%1000, 10))}
	}
	if o.workload == "tx" {
		req.Stmts = make([]subjects.Stmt, o.txRows)
		for i := range req.Stmts {
			req.Stmts[i] = subjects.Stmt{SQL: insert, Args: row()}
		}
	} else {
		req.SQL, req.Args = insert, row()
	}
	_, err := c.Exec(ctx, req)
	return err
}

func (o benchOptions) sum(times [][]time.Duration, took time.Duration, failed int64, first *string) *benchReport {
	all := slices.Concat(times...)
	slices.Sort(all)
	at := func(q float64) float64 {
		if len(all) == 0 {
			return 0
		}
		return float64(all[min(len(all)-1, int(q*float64(len(all))))].Microseconds()) / 1000
	}
	r := &benchReport{Workload: o.workload, Clients: o.clients, Connections: o.connections, Seconds: took.Seconds(),
		Ops: int64(len(all)), OpsPerS: float64(len(all)) / took.Seconds(), P50MS: at(0.5), P99MS: at(0.99), P999MS: at(0.999), Errors: failed}
	r.RowsPerS = r.OpsPerS
	if o.workload == "tx" {
		r.RowsPerS *= float64(o.txRows)
	}
	if first != nil {
		r.FirstError = *first
	}
	return r
}

func (r *benchReport) print(out io.Writer, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(out).Encode(r)
	}
	fmt.Fprintf(out, "%s, %d clients on %d connections, %.1f s\n", r.Workload, r.Clients, r.Connections, r.Seconds)
	fmt.Fprintf(out, "  %.0f ops/s, %.0f rows/s\n  p50 %.2f ms, p99 %.2f ms, p99.9 %.2f ms\n  %d errors %s\n  lag at the end, in positions: %v\n",
		r.OpsPerS, r.RowsPerS, r.P50MS, r.P99MS, r.P999MS, r.Errors, r.FirstError, r.Lag)
	return nil
}

// local is a cluster of processes that bench started.
type local struct {
	url  string
	dir  string
	cmds []*osexec.Cmd
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
	l := &local{dir: dir}
	port, err := freePort()
	if err != nil {
		l.stop()
		return nil, err
	}
	l.url = "nats://127.0.0.1:" + port
	args := [][]string{{"master", "--data", filepath.Join(dir, "master"), "--nats", "127.0.0.1:" + port}}
	for i := range slaves {
		id := fmt.Sprintf("snap%d", i+1)
		args = append(args, []string{"slave", "--data", filepath.Join(dir, id), "--id", id, "--nats", l.url})
	}
	for i, a := range args {
		cmd := osexec.Command(self, a...)
		cmd.Stderr = progress
		if err := cmd.Start(); err != nil {
			l.stop()
			return nil, fmt.Errorf("start %s: %w", a[0], err)
		}
		l.cmds = append(l.cmds, cmd)
		if i == 0 {
			if err := benchReach(ctx, l.url); err != nil {
				l.stop()
				return nil, err
			}
		}
	}
	return l, nil
}

// benchReach waits until the master answers.
func benchReach(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := client.Connect(ctx, url, client.Options{})
		if err == nil {
			_, err = c.Info(ctx)
			c.Close()
		}
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the master that bench started does not answer: %w", err)
		}
	}
}

func (l *local) stop() {
	for _, cmd := range slices.Backward(l.cmds) {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it has ended already if this fails
		_ = cmd.Wait()
	}
	_ = os.RemoveAll(l.dir) // left to the system's cleaning of temporary files
}
