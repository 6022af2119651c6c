package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/snapdb/snapdb/agent/client"
	"github.com/snapdb/snapdb/subjects"
)

// catchUpPatience bounds the return of the slave that was away.
const catchUpPatience = 10 * time.Minute

// catchUp stops the last slave, loads the others with single-row inserts, and
// then times how long the slave needs for what it has missed, from its joining.
func (o Options) catchUp(ctx context.Context, clients []*client.Client, cluster *local) (*Report, error) {
	away := cluster.nodes[len(cluster.nodes)-1]
	if err := away.halt(); err != nil {
		return nil, err
	}
	t := &tally{times: make([][]time.Duration, o.Clients)}
	load := o
	load.Workload = Insert
	took := load.drive(ctx, clients, t)
	r := o.sum(t, took)
	if r.Partial = ctx.Err() != nil; r.Partial {
		return r, nil
	}
	if err := cluster.run(away); err != nil {
		return nil, err
	}
	spent, err := await(ctx, clients[0], away.used.Name)
	if r.Partial = err != nil && ctx.Err() != nil; r.Partial {
		return r, nil
	}
	if err != nil {
		return nil, err
	}
	r.CatchUpPerS = float64(r.Ops) / spent.Seconds()
	return r, nil
}

// await returns how long a slave took from its joining to the head.
func await(ctx context.Context, c *client.Client, id string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, catchUpPatience)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	var joined time.Time
	for {
		info, err := c.Info(ctx)
		if err != nil {
			return 0, err
		}
		for _, n := range info.Nodes {
			if n.ID != id || n.State == subjects.StateStopped || n.State == subjects.StateOffline {
				continue
			}
			if joined.IsZero() {
				joined = time.Now()
			}
			if n.Acked[database] >= info.Heads[database].Position {
				return time.Since(joined), nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return 0, fmt.Errorf("wait for %s to catch up: %w", id, context.Cause(ctx))
		}
	}
}
