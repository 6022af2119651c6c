// Package bench is `snapdb bench`: it loads a cluster through its NATS doors, as
// programs would, and reports throughput, latency, and how far slaves are behind.
//
// It measures from the outside and knows nothing of how a cluster works. The
// load generator runs on the machine it is started on; with [Options.Local] so
// does the whole cluster, in processes of its own.
package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/snapdb/snapdb/agent/client"
	"github.com/snapdb/snapdb/cmd/snapdb/format"
	"github.com/snapdb/snapdb/subjects"
)

// Workload is what clients do.
type Workload string

// The workloads.
const (
	Insert  Workload = "insert"  // single-row INSERTs
	Tx      Workload = "tx"      // transactions of Options.Rows single-row INSERTs
	Bulk    Workload = "bulk"    // INSERTs of Options.Rows rows in one statement
	Get     Workload = "get"     // SELECTs of one row by its key
	Mixed   Workload = "mixed"   // nine Gets to one Insert
	CatchUp Workload = "catchup" // Inserts while a slave is away, then its return
)

// Workloads are all of them, for help texts.
func Workloads() []string {
	return []string{string(Insert), string(Tx), string(Bulk), string(Get), string(Mixed), string(CatchUp)}
}

// Options say what to measure.
type Options struct {
	Server      string         // URL of a running master; unused with Start
	Client      client.Options // to get in there
	Start       bool           // start a master and Local slaves as processes
	Local       int            //
	Secure      bool           // the cluster that is started is a secured one
	Workload    Workload       //
	Clients     int            // each has one request under way at a time
	Connections int            // shared by the clients
	Duration    time.Duration  // of the load
	Rate        int            // operations a second of all clients together; 0: as many as they can
	Ack         subjects.Ack   // of writes; zero: the master's default
	Rows        int            // of a Tx or Bulk
	Node        string         // that Gets read from; "": the master
	Progress    io.Writer      // log lines of processes that bench starts
}

// Check says what is wrong with the options, and with which flag.
func (o *Options) Check() (flag string, err error) {
	switch {
	case !slices.Contains(Workloads(), string(o.Workload)):
		return "workload", fmt.Errorf("must be one of %s, not %q", strings.Join(Workloads(), ", "), o.Workload)
	case o.Clients < 1:
		return "clients", fmt.Errorf("must be at least 1, not %d", o.Clients)
	case o.Connections < 1 || o.Connections > o.Clients:
		return "connections", fmt.Errorf("must be at least 1 and at most the number of clients (%d), not %d", o.Clients, o.Connections)
	case o.Duration <= 0:
		return "duration", fmt.Errorf("must be positive, not %v", o.Duration)
	case o.Rows < 1:
		return "rows", fmt.Errorf("must be at least 1, not %d", o.Rows)
	case o.Rate < 0:
		return "rate", fmt.Errorf("must not be negative, but is %d", o.Rate)
	case o.Local < 0:
		return "local", fmt.Errorf("must not be negative, but is %d", o.Local)
	case o.Workload == Bulk && o.Rows > bulkMost:
		return "rows", fmt.Errorf("a statement of %d rows has too many parameters, %d rows are the most", o.Rows, bulkMost)
	case o.Workload == CatchUp && o.Local == 0:
		return "workload", errors.New("catchup stops and starts a slave and needs --local 1 or more")
	case o.Node != "" && o.Workload != Get && o.Workload != Mixed:
		return "node", fmt.Errorf("is where the workloads get and mixed read; %s only writes, which is the master's", o.Workload)
	case o.Node != "":
		return "node", subjects.CheckNodeID(o.Node)
	}
	return "", nil
}

// Report is what was measured. Times are in milliseconds, memory in MB of 10^6 bytes.
type Report struct {
	Workload    Workload       `json:"workload"`
	Clients     int            `json:"clients"`
	Connections int            `json:"connections"`
	Ack         string         `json:"ack,omitempty"`
	Partial     bool           `json:"partial,omitempty"` // it was interrupted
	Seconds     float64        `json:"seconds"`
	Ops         int64          `json:"ops"`
	OpsPerS     float64        `json:"ops_per_s"`
	RowsPerS    float64        `json:"rows_per_s"`
	P50MS       float64        `json:"p50_ms"`
	P99MS       float64        `json:"p99_ms"`
	P999MS      float64        `json:"p999_ms"`
	Errors      int64          `json:"errors"`
	FirstError  string         `json:"first_error,omitempty"`
	Lag         map[string]Lag `json:"lag"`
	// CatchUpPerS is how many transactions a second the returning slave applied.
	CatchUpPerS float64   `json:"catchup_per_s,omitempty"`
	Processes   []Process `json:"processes,omitempty"` // those that bench started
}

// Lag is how a slave follows: the time from the answer of a write until the slave
// has applied it, over a sample of writes, and the positions it was behind when
// the load ended.
type Lag struct {
	Samples   int     `json:"samples"`
	P50MS     float64 `json:"p50_ms"`
	P99MS     float64 `json:"p99_ms"`
	Positions uint64  `json:"positions"`
}

// Process is what a process of the local cluster used.
type Process struct {
	Name   string  `json:"name"`
	IdleMB float64 `json:"idle_mb"` // resident before the load
	PeakMB float64 `json:"peak_mb"` // resident at most
	CPUS   float64 `json:"cpu_s"`   // processor time over its whole life
}

// database is made for the measurement and dropped after it.
const database = "snapdbench"

// keys is how many rows point reads choose from.
const keys = 10_000

// errNothing: the end came before the load had begun.
var errNothing = errors.New("interrupted before anything was measured")

// early is the error of what came before the load.
func early(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return errNothing
	}
	return err
}

// Run measures. If ctx ends while the load runs, the report is about what was done
// until then, and says so.
func Run(ctx context.Context, o Options) (*Report, error) {
	var cluster *local
	if o.Start {
		var err error
		if cluster, err = startLocal(ctx, o); err != nil {
			return nil, early(ctx, err)
		}
		defer cluster.stop()
		o.Server, o.Client = cluster.url, cluster.client
	}
	report, err := o.measure(ctx, cluster)
	if report != nil && cluster != nil {
		report.Processes = cluster.stop()
	}
	return report, err
}

func (o Options) measure(ctx context.Context, cluster *local) (report *Report, err error) {
	clients := make([]*client.Client, o.Connections)
	for i := range clients {
		c, err := client.Connect(ctx, o.Server, o.Client)
		if err != nil {
			return nil, early(ctx, err)
		}
		defer c.Close()
		clients[i] = c
	}
	if err := awaitSlaves(ctx, clients[0], o.Local); err != nil {
		return nil, early(ctx, err)
	}
	if cluster != nil {
		cluster.noteIdle()
	}
	if cluster == nil { // or its data is removed with it
		defer func() { err = errors.Join(err, cleanUp(ctx, clients[0])) }()
	}
	if err := prepare(ctx, clients[0]); err != nil {
		return nil, early(ctx, err)
	}
	if o.Workload == CatchUp {
		return o.catchUp(ctx, clients, cluster)
	}
	return o.load(ctx, clients)
}

// cleanUpPatience bounds the end of a measurement, whatever ended it.
const cleanUpPatience = 10 * time.Second

// cleanUp drops the database, also when ctx has ended.
func cleanUp(ctx context.Context, c *client.Client) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpPatience)
	defer cancel()
	if _, err := c.Exec(ctx, &subjects.Request{SQL: "DROP DATABASE IF EXISTS " + database}); err != nil {
		return fmt.Errorf("the database %s is left behind, drop it: %w", database, err)
	}
	return nil
}

// prepare makes the database and the rows that point reads find.
func prepare(ctx context.Context, c *client.Client) error {
	for _, r := range []*subjects.Request{
		{SQL: "DROP DATABASE IF EXISTS " + database},
		{SQL: "CREATE DATABASE " + database},
		{DB: database, SQL: "CREATE TABLE t (id INTEGER PRIMARY KEY, a INTEGER, b TEXT)"},
		{DB: database, SQL: fmt.Sprintf("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < %d) INSERT INTO t SELECT i, i*7, 'row '||i FROM n", keys)},
	} {
		if _, err := c.Exec(ctx, r); err != nil {
			return fmt.Errorf("prepare the database: %s: %w", r.SQL, err)
		}
	}
	return nil
}

// Print writes the report for people.
func (r *Report) Print(w io.Writer) error {
	p := printer{w: w}
	if r.Partial {
		p.line("PARTIAL: interrupted after %.1f s", r.Seconds)
	}
	p.line("%s · %s on %s · %.1f s", r.Workload, format.Count(int64(r.Clients), "client"), format.Count(int64(r.Connections), "connection"), r.Seconds)
	p.line("  %.0f operations/s · %.0f rows/s", r.OpsPerS, r.RowsPerS)
	p.line("  p50 %.2f ms · p99 %.2f ms · p99.9 %.2f ms", r.P50MS, r.P99MS, r.P999MS)
	if r.CatchUpPerS > 0 {
		p.line("  catch-up of the slave that was away: %.0f transactions/s", r.CatchUpPerS)
	}
	if r.Errors > 0 {
		p.line("  %s, the first: %s", format.Count(r.Errors, "error"), r.FirstError)
	}
	for _, id := range slices.Sorted(maps.Keys(r.Lag)) {
		l := r.Lag[id]
		if l.Samples > 0 {
			p.line("  lag of %s after the answer: p50 %.2f ms · p99 %.2f ms (%s)", id, l.P50MS, l.P99MS, format.Count(int64(l.Samples), "sample"))
		}
		if l.Positions > 0 || l.Samples == 0 {
			p.line("  lag of %s at the end: %s", id, format.Count(int64(l.Positions), "position"))
		}
	}
	for _, m := range r.Processes {
		p.line("  %-8s idle %.0f MB · peak %.0f MB · %.1f s of processor time", m.Name, m.IdleMB, m.PeakMB, m.CPUS)
	}
	return p.err
}

// printer keeps the first error.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(text string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, text+"\n", args...)
	}
}
