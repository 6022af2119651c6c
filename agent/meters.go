package agent

import (
	"encoding/json"
	"math/bits"
	"sync/atomic"
	"time"

	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// meters are what the master counts on its way. Counting costs an atomic addition
// or two.
type meters struct {
	write   histogram // microseconds from a request to its answer
	publish histogram // microseconds of a publish to the log
	group   histogram // transactions
}

// histogram counts values by their number of bits.
type histogram struct {
	counts [meterBuckets]atomic.Uint64
	sum    atomic.Uint64
}

// meterBuckets is how many buckets there are; the last has no bound. For times it
// begins at 4 s.
const meterBuckets = 23

func (h *histogram) observe(v uint64) {
	h.counts[min(bits.Len64(v), meterBuckets-1)].Add(1)
	h.sum.Add(v)
}

func (h *histogram) time(d time.Duration) { h.observe(uint64(max(d, 0).Microseconds())) }

func (h *histogram) read() subjects.Histogram {
	out := subjects.Histogram{Counts: make([]uint64, meterBuckets), Sum: h.sum.Load()}
	for i := range h.counts {
		out.Counts[i] = h.counts[i].Load()
	}
	return out
}

// answerMetrics says what the master has counted.
func (m *Master) answerMetrics(answer reply) {
	data, err := json.Marshal(subjects.MetricsResponse{
		V: subjects.Version, Write: m.meters.write.read(), Publish: m.meters.publish.read(), Group: m.meters.group.read(), Ack: m.fleet.ledger.acks.read(),
	})
	if err != nil {
		respondError(answer, exec.WireError(err))
		return
	}
	answer(data, nil)
}
