package dashboard

import (
	"context"
	"iter"
	"sync"

	"github.com/snapdb/snapdb/subjects"
)

// hub has the newest of everything that is live, and knows who watches.
type hub struct {
	s *Server

	mu      sync.Mutex // guards all below
	viewers map[*viewer]bool
	cluster frame // of the state of the cluster
	sample  frame // of the last second
}

// frame is a message that replaces the one before it.
type frame struct {
	turn uint64 // counts them
	data []byte
}

func (f *frame) set(data []byte) { f.turn, f.data = f.turn+1, data }

// viewer is a browser that watches.
type viewer struct {
	hub  *hub
	news chan struct{} // holds a token when there may be something to send

	mu      sync.Mutex // guards all below
	asks    *watchMessage
	changed bool // asks is new

	// What was sent; used by the writing goroutine only.
	cluster, sample uint64
}

// admit lets a browser watch.
func (h *hub) admit() (*viewer, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.viewers) >= maxLive {
		return nil, subjects.Errorf(subjects.CodeBusy, "%d pages watch already: close some", maxLive)
	}
	v := &viewer{hub: h, news: make(chan struct{}, 1), asks: new(watchMessage)}
	h.viewers[v] = true
	return v, nil
}

func (h *hub) leave(v *viewer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.viewers, v)
}

// watched says whether anybody watches a topic.
func (h *hub) watched(t topic) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for v := range h.viewers {
		if m, _ := v.wish(); m.wants(t) {
			return true
		}
	}
	return false
}

// tell wakes all who watch a topic. h.mu is held.
func (h *hub) tell(t topic) {
	for v := range h.viewers {
		if m, _ := v.wish(); m.wants(t) {
			v.wake()
		}
	}
}

func (v *viewer) wake() {
	select {
	case v.news <- struct{}{}:
	default:
	}
}

// watch changes what the browser wants to see.
func (v *viewer) watch(m *watchMessage) {
	v.mu.Lock()
	v.asks, v.changed = m, true
	v.mu.Unlock()
	v.wake()
	v.hub.s.watch.hurry()
}

// wish is what the browser wants to see, and whether it has changed.
func (v *viewer) wish() (m *watchMessage, changed bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.asks, v.changed
}

// begin is wish for the writing goroutine, which then starts from there.
func (v *viewer) begin() (m *watchMessage, changed bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	m, changed = v.asks, v.changed
	v.changed = false
	return m, changed
}

// frames are what is new for the browser, each made when the one before it was
// taken.
func (v *viewer) frames(context.Context) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		m, changed := v.begin()
		if changed {
			v.cluster, v.sample = 0, 0
		}
		for _, f := range []struct {
			topic topic
			sent  *uint64
			have  *frame
		}{{topicCluster, &v.cluster, &v.hub.cluster}, {topicSamples, &v.sample, &v.hub.sample}} {
			if !m.wants(f.topic) {
				continue
			}
			v.hub.mu.Lock()
			now := *f.have
			v.hub.mu.Unlock()
			if now.turn == *f.sent {
				continue
			}
			*f.sent = now.turn
			if !yield(now.data, nil) {
				return
			}
		}
	}
}
