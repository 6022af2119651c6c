package bench

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/snapdb/snapdb/agent/client"
	"github.com/snapdb/snapdb/subjects"
)

// lagEvery is the pause between two samples of one slave's lag, long enough for
// the sampling not to be a load.
const lagEvery = 20 * time.Millisecond

// lagSamples collects the lag of every slave while the load runs.
type lagSamples struct {
	wg    sync.WaitGroup
	mu    sync.Mutex
	times map[string][]time.Duration
}

// sampleLag asks every slave now and then, with the position of a write just
// answered, for a read that has it: the time of that answer is the lag, and at
// least a round trip.
func (o Options) sampleLag(ctx context.Context, c *client.Client, t *tally) (*lagSamples, error) {
	info, err := c.Info(ctx)
	if err != nil {
		return nil, fmt.Errorf("find the slaves: %w", err)
	}
	s := &lagSamples{times: map[string][]time.Duration{}}
	for _, n := range info.Nodes {
		s.times[n.ID] = nil
		if n.State == subjects.StateOnline && o.Workload != Get {
			s.wg.Go(func() { s.follow(ctx, c, n.ID, t) })
		}
	}
	return s, nil
}

func (s *lagSamples) follow(ctx context.Context, c *client.Client, id string, t *tally) {
	tick := time.NewTicker(lagEvery)
	defer tick.Stop()
	var before uint64
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		position := t.last.Load()
		if position == before {
			continue
		}
		before = position
		begin := time.Now()
		_, err := c.QueryNode(ctx, id, &subjects.Request{DB: database, SQL: "SELECT 1", MinPosition: position, TimeoutMS: patience.Milliseconds()})
		if err != nil {
			continue // the positions at the end will show it
		}
		s.mu.Lock()
		s.times[id] = append(s.times[id], time.Since(begin))
		s.mu.Unlock()
	}
}

// wait ends the sampling, whose context has ended, and sums up.
func (s *lagSamples) wait() map[string]Lag {
	s.wg.Wait()
	lag := map[string]Lag{}
	for id, times := range s.times {
		slices.Sort(times)
		lag[id] = Lag{Samples: len(times), P50MS: quantile(times, 0.5), P99MS: quantile(times, 0.99)}
	}
	return lag
}
