package dashboard

import (
	"net/http"
	"sync"
	"time"

	"github.com/snapdb/snapdb/subjects"
)

// Bounds of the history.
const (
	historyLength = 15 * 60 // samples, a second each
	historyNodes  = 500     // those beyond it have none
)

// sample is how the cluster was in one second.
type sample struct {
	T        int64                 `json:"t"` // Unix milliseconds
	Writes   float64               `json:"writes_s"`
	Head     uint64                `json:"head"`
	LogBytes uint64                `json:"log_bytes"`
	Nodes    map[string]nodeSample `json:"nodes,omitempty"`
}

// nodeSample is how a node was in one second; of one that is away, how far it is known to
// have come.
type nodeSample struct {
	Away     bool    `json:"away,omitempty"`
	Position uint64  `json:"position"`
	LagMS    int64   `json:"lag_ms"`
	CPU      float64 `json:"cpu"` // percent of the machine
	RSS      uint64  `json:"rss"` // bytes of the process
	AckMS    float64 `json:"ack_ms"`
}

// takeSample makes a sample of the state of the cluster. before is the state at the
// sample before, nil if there was none.
func takeSample(info, before *subjects.ClusterInfoResponse, now, then time.Time) sample {
	s := sample{T: now.UnixMilli(), Head: info.Cursor, LogBytes: info.LogBytes, Nodes: map[string]nodeSample{}}
	if before != nil && before.Term == info.Term && now.After(then) && info.Writes >= before.Writes {
		s.Writes = float64(info.Writes-before.Writes) / now.Sub(then).Seconds()
	}
	for i := range info.Nodes {
		n := &info.Nodes[i]
		if len(s.Nodes) >= historyNodes {
			break
		}
		away := n.State == subjects.StateOffline || n.State == subjects.StateStopped
		ns := nodeSample{Away: away, Position: info.Applied(n), LagMS: n.LagMS, AckMS: n.AckMS}
		if !away && n.Status != nil && n.Status.Host != nil {
			ns.CPU, ns.RSS = n.Status.Host.CPUPercent, n.Status.Host.ProcessRSS
		}
		s.Nodes[n.ID] = ns
	}
	return s
}

// history keeps the samples of a quarter of an hour.
type history struct {
	mu      sync.Mutex // guards samples
	samples []sample   // a ring, once it is full
	next    int        // where the next goes
}

func (h *history) add(s sample) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.samples) < historyLength {
		h.samples = append(h.samples, s)
		return
	}
	h.samples[h.next] = s
	h.next = (h.next + 1) % historyLength
}

// all are every step-th samples, oldest first, with those of one node, or of all
// with "*", or of none with "".
func (h *history) all(node string, step int) []sample {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := []sample{}
	for i := (len(h.samples) - 1) % step; i < len(h.samples); i += step {
		if i < 0 {
			break
		}
		s := h.samples[(h.next+i)%len(h.samples)]
		if node != everyNode {
			own, ok := s.Nodes[node]
			s.Nodes = nil
			if ok {
				s.Nodes = map[string]nodeSample{node: own}
			}
		}
		list = append(list, s)
	}
	return list
}

// everyNode asks for the samples of all nodes.
const everyNode = "*"

// getHistory shows the last quarter of an hour.
func (s *Server) getHistory(w http.ResponseWriter, r *http.Request) error {
	p := readParameters(r, "node", "step")
	node, step := p.text("node"), int(p.number("step", 1, 60, 1))
	if node != everyNode {
		node = p.node("node")
	}
	if p.err != nil {
		return p.err
	}
	if node != everyNode && node != "" {
		if _, err := s.node(r.Context(), node); err != nil {
			return err
		}
	}
	return replyJSON(w, http.StatusOK, map[string]any{"samples": s.history.all(node, step)})
}
