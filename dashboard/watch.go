package dashboard

import (
	"bytes"
	"context"
	"encoding/json"
	"time"

	"github.com/snapdb/snapdb/subjects"
)

// How often the state of the cluster is asked for.
const (
	sampleEvery = time.Second            // for the history, always
	lookEvery   = 250 * time.Millisecond // while somebody watches
	// lookShare is how much of the time may go into asking: a large cluster whose
	// state takes long to tell is asked less often.
	lookShare = 20
)

// watch is the one that asks for the state of the cluster.
type watch struct {
	s    *Server
	wake chan struct{} // holds a token when somebody began to watch

	before *subjects.ClusterInfoResponse // the state at the last sample
	then   time.Time                     // when that was
	shown  []byte                        // the state as it was last sent, without what always changes
}

func newWatch(s *Server) *watch { return &watch{s: s, wake: make(chan struct{}, 1)} }

// hurry makes the watch look at once.
func (w *watch) hurry() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// run looks until ctx ends.
func (w *watch) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var sampled time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
		case <-timer.C:
		}
		begun := time.Now()
		due := begun.Sub(sampled) >= sampleEvery-lookEvery/2
		if due {
			sampled = begun
		}
		w.look(ctx, due)
		next := sampleEvery
		if w.s.hub.watched(topicCluster) {
			next = lookEvery
		}
		timer.Reset(max(next, lookShare*time.Since(begun)) - time.Since(begun))
	}
}

// look asks once, and shows what came if it is news. What nobody answers is no news:
// browsers see the age of what they have.
func (w *watch) look(ctx context.Context, due bool) {
	data, err := w.s.askRaw(ctx, subjects.ClusterInfo, nil)
	if err != nil {
		w.s.log.Debug("cannot ask for the state of the cluster", "error", err)
		return
	}
	var info subjects.ClusterInfoResponse
	if err := json.Unmarshal(data, &info); err != nil {
		w.s.log.Warn("cannot read the state of the cluster", "error", err)
		return
	}
	if due {
		w.sample(&info)
	}
	plain := plainState(info)
	if !due && bytes.Equal(plain, w.shown) {
		return
	}
	w.shown = plain
	h := w.s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	h.state = &info
	h.cluster.set(wrap(`{"type":"cluster","cluster":`, data))
	h.tell(topicCluster)
}

// sample notes the state for the history, and shows it.
func (w *watch) sample(info *subjects.ClusterInfoResponse) {
	now := time.Now()
	s := takeSample(info, w.before, now, w.then)
	w.before, w.then = info, now
	w.s.history.add(s)
	h := w.s.hub
	if !h.watched(topicSamples) {
		return
	}
	data, err := json.Marshal(&s)
	if err != nil {
		w.s.log.Warn("cannot encode a sample", "error", err)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sample.set(wrap(`{"type":"sample","sample":`, data))
	h.tell(topicSamples)
}

// plainState is the state without what changes every time.
func plainState(info subjects.ClusterInfoResponse) []byte {
	nodes := make([]subjects.NodeInfo, len(info.Nodes))
	for i, n := range info.Nodes {
		n.LastSeen, n.LagMS = time.Time{}, 0
		if n.Status != nil {
			st := *n.Status
			st.Host, st.LagMS, st.Cursor = nil, 0, 0
			n.Status = &st
		}
		nodes[i] = n
	}
	info.Nodes, info.Host, info.BehindMS = nodes, nil, 0
	data, err := json.Marshal(&info)
	if err != nil {
		return nil // of what was JSON a moment ago
	}
	return data
}
