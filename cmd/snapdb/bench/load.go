package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/snapdb/snapdb/agent/client"
	"github.com/snapdb/snapdb/subjects"
)

// patience is the time limit of one operation.
const patience = 30 * time.Second

// tally is what one run of the load counts.
type tally struct {
	times  [][]time.Duration // by client
	failed atomic.Int64
	first  atomic.Pointer[string]
	last   atomic.Uint64 // position of the newest write
}

// load runs all clients for the duration and sums up.
func (o Options) load(ctx context.Context, clients []*client.Client) (*Report, error) {
	t := &tally{times: make([][]time.Duration, o.Clients)}
	watch, stop := context.WithCancel(ctx)
	defer stop()
	samples, err := o.sampleLag(watch, clients[0], t)
	if err != nil {
		return nil, early(ctx, err)
	}
	took := o.drive(ctx, clients, t)
	info, err := clients[0].Info(ctx)
	stop()
	r := o.sum(t, took)
	r.Lag = samples.wait()
	if r.Partial = ctx.Err() != nil; r.Partial {
		return r, nil
	}
	if err != nil {
		return nil, err
	}
	for _, n := range info.Nodes {
		l := r.Lag[n.ID]
		head := info.Heads[database].Position
		l.Positions = head - min(n.Acked[database], head)
		r.Lag[n.ID] = l
	}
	return r, nil
}

// drive runs all clients for the duration, or until outer ends, and returns how
// long it took.
func (o Options) drive(outer context.Context, clients []*client.Client, t *tally) time.Duration {
	ctx, cancel := context.WithTimeout(outer, o.Duration)
	defer cancel()
	var wg sync.WaitGroup
	start := time.Now()
	var turns atomic.Int64
	for i := range o.Clients {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 1))
			for o.turn(ctx, start, &turns) {
				begin := time.Now()
				position, err := o.once(context.WithoutCancel(ctx), clients[i%len(clients)], rng)
				if err != nil && outer.Err() != nil {
					return // the end may have come to the cluster too
				}
				if err != nil {
					t.failed.Add(1)
					text := err.Error()
					t.first.CompareAndSwap(nil, &text)
					continue
				}
				t.times[i] = append(t.times[i], time.Since(begin))
				if position > 0 {
					t.last.Store(position)
				}
			}
		})
	}
	wg.Wait()
	return time.Since(start)
}

// turn waits until the next operation is due. It is false when the time is up.
func (o Options) turn(ctx context.Context, start time.Time, turns *atomic.Int64) bool {
	if o.Rate == 0 {
		return ctx.Err() == nil
	}
	due := start.Add(time.Duration(turns.Add(1)-1) * time.Second / time.Duration(o.Rate))
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// once does one operation and returns the position of a write.
func (o Options) once(ctx context.Context, c *client.Client, rng *rand.Rand) (uint64, error) {
	if o.Workload == Get || o.Workload == Mixed && rng.IntN(10) > 0 {
		return 0, o.get(ctx, c, 1+rng.Int64N(keys))
	}
	req := &subjects.Request{DB: database, TimeoutMS: patience.Milliseconds(), Ack: o.Ack}
	switch o.Workload {
	case Tx:
		req.Stmts = make([]subjects.Stmt, o.Rows)
		for i := range req.Stmts {
			req.Stmts[i] = subjects.Stmt{SQL: insert, Args: rows(rng, 1)}
		}
	case Bulk:
		req.SQL, req.Args = insert+strings.Repeat(", (?, ?)", o.Rows-1), rows(rng, o.Rows)
	default:
		req.SQL, req.Args = insert, rows(rng, 1)
	}
	resp, err := c.Exec(ctx, req)
	if err != nil {
		return 0, err
	}
	return resp.Position, nil
}

// insert inserts one row. More rows may follow.
const insert = "INSERT INTO t (a, b) VALUES (?, ?)"

// bulkMost is how many rows have as many values as SQLite lets a statement have
// parameters.
const bulkMost = 32766 / 2

// rows are the values of n rows.
func rows(rng *rand.Rand, n int) []subjects.Value {
	values := make([]subjects.Value, 0, 2*n)
	for range n {
		a := rng.Int64()
		values = append(values, subjects.IntegerValue(a), subjects.TextValue("value "+strconv.FormatInt(a%1000, 10)))
	}
	return values
}

func (o Options) get(ctx context.Context, c *client.Client, key int64) error {
	req := &subjects.Request{DB: database, TimeoutMS: patience.Milliseconds(),
		SQL: "SELECT a, b FROM t WHERE id = ?", Args: []subjects.Value{subjects.IntegerValue(key)}}
	door := subjects.Query
	if o.Node != "" {
		door = subjects.NodeQuery(o.Node)
	}
	resp, err := c.Do(ctx, door, req)
	if err != nil {
		return err
	}
	if rows := resp.Results[0].Rows; len(rows) != 1 || rows[0][0].Int() != 7*key {
		return fmt.Errorf("key %d gave %v", key, rows)
	}
	return nil
}

func (o Options) sum(t *tally, took time.Duration) *Report {
	all := slices.Concat(t.times...)
	slices.Sort(all)
	ops := float64(len(all)) / took.Seconds()
	r := &Report{Workload: o.Workload, Clients: o.Clients, Connections: o.Connections, Ack: o.Ack.String(), Seconds: took.Seconds(),
		Ops: int64(len(all)), OpsPerS: ops, RowsPerS: ops, Errors: t.failed.Load(),
		P50MS: quantile(all, 0.5), P99MS: quantile(all, 0.99), P999MS: quantile(all, 0.999)}
	if o.Workload == Tx || o.Workload == Bulk {
		r.RowsPerS *= float64(o.Rows)
	}
	if first := t.first.Load(); first != nil {
		r.FirstError = *first
	}
	return r
}

// quantile of sorted times, in milliseconds.
func quantile(sorted []time.Duration, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return float64(sorted[min(len(sorted)-1, int(q*float64(len(sorted))))].Microseconds()) / 1000
}
