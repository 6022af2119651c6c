package dashboard

import (
	"cmp"
	"context"
	"encoding/json"
	"iter"
	"slices"
	"sync"

	"github.com/snapdb/snapdb/subjects"
)

// hub has the newest of everything that is live, and knows who watches.
type hub struct {
	s *Server

	mu      sync.Mutex // guards all below
	viewers map[*viewer]bool
	cluster frame // of the state of the cluster
	state   *subjects.ClusterInfoResponse
	sample  frame // of the last second

	turn    uint64            // counts changes of commands
	changes map[string]change // the newest, by id of the command
}

// keptChanges is how many commands that changed are remembered for slow browsers.
const keptChanges = 256

// change is a command that has changed.
type change struct {
	turn  uint64
	nodes []string
	data  []byte // the record
}

// onCommand takes a record that was published.
func (h *hub) onCommand(_ string, data []byte) {
	id, c, err := readChange(data)
	if err != nil {
		h.s.log.Warn("cannot read how a command stands", "error", err)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.turn++
	c.turn = h.turn
	h.changes[id] = c
	if len(h.changes) > keptChanges {
		oldest := id
		for other, o := range h.changes {
			if o.turn < h.changes[oldest].turn {
				oldest = other
			}
		}
		delete(h.changes, oldest)
	}
	h.tell(topicCommands)
}

func readChange(data []byte) (id string, c change, err error) {
	var r struct {
		ID    string `json:"id"`
		Nodes []struct {
			Node string `json:"node"`
		} `json:"nodes"`
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return "", c, err
	}
	for _, n := range r.Nodes {
		c.nodes = append(c.nodes, n.Node)
	}
	c.data = data
	return r.ID, c, nil
}

// since are the commands that changed after a turn, in the order in which they did.
func (h *hub) since(turn uint64) (list []change, now uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.changes {
		if c.turn > turn {
			list = append(list, c)
		}
	}
	slices.SortFunc(list, func(a, b change) int { return cmp.Compare(a.turn, b.turn) })
	return list, h.turn
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
	who  *visitor
	news chan struct{} // holds a token when there may be something to send

	mu      sync.Mutex // guards all below
	asks    *watchMessage
	changed bool // asks is new

	// What was sent; used by the writing goroutine only.
	cluster, sample, line, command uint64
	listed                         bool // the newest commands were sent
}

// admit lets a browser watch.
func (h *hub) admit(who *visitor) (*viewer, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.viewers) >= maxLive {
		return nil, subjects.Errorf(subjects.CodeBusy, "%d pages watch already: close some", maxLive)
	}
	v := &viewer{hub: h, who: who, news: make(chan struct{}, 1), asks: new(watchMessage)}
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
func (v *viewer) frames(ctx context.Context) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		m, changed := v.begin()
		if changed {
			v.cluster, v.sample, v.line, v.listed = 0, 0, m.After, false
		}
		_ = v.states(m, yield) && v.commands(ctx, m, yield) && v.logs(m, yield)
	}
}

// states yields what replaces what was before. Like its siblings it is false when
// the browser takes no more.
func (v *viewer) states(m *watchMessage, yield func([]byte, error) bool) bool {
	for _, f := range []struct {
		topic topic
		sent  *uint64
		have  *frame
	}{{topicCluster, &v.cluster, &v.hub.cluster}, {topicSamples, &v.sample, &v.hub.sample}} {
		if !m.wants(f.topic) {
			continue
		}
		v.hub.mu.Lock()
		now, state := *f.have, v.hub.state
		v.hub.mu.Unlock()
		if now.turn == *f.sent {
			continue
		}
		*f.sent = now.turn
		var err error
		if f.topic == topicCluster && v.who.limited() {
			now.data, err = clusterFor(v.who, *state)
		}
		if !yield(now.data, err) {
			return false
		}
	}
	return true
}

// clusterFor is the message of the state of the cluster for who is limited to some
// databases.
func clusterFor(who *visitor, state subjects.ClusterInfoResponse) ([]byte, error) {
	state.Only(who.uses)
	data, err := json.Marshal(&state)
	return wrap(`{"type":"cluster","cluster":`, data), err
}

// listedFirst is how many commands a browser gets before any changes.
const listedFirst = 50

// commands yields the newest commands, and then those that changed.
func (v *viewer) commands(ctx context.Context, m *watchMessage, yield func([]byte, error) bool) bool {
	if !m.wants(topicCommands) {
		return true
	}
	list, now := v.hub.since(v.command)
	if !v.listed {
		var newest struct {
			Commands []json.RawMessage `json:"commands"`
		}
		query := subjects.CommandQuery{Node: m.Node, Limit: listedFirst}
		if err := v.hub.s.ask(ctx, subjects.CommandList, &query, &newest); err != nil {
			return yield(nil, err) // the browser comes back and asks again
		}
		list, v.listed = nil, true
		for _, data := range slices.Backward(newest.Commands) {
			list = append(list, change{data: data})
		}
	}
	v.command = now
	for _, c := range list {
		if m.Node != "" && c.turn > 0 && !slices.Contains(c.nodes, m.Node) {
			continue
		}
		data := c.data
		if v.who.limited() {
			data = withoutOutput(data)
		}
		if !yield(wrap(`{"type":"command","command":`, data), nil) {
			return false
		}
	}
	return true
}

// withoutOutput is a record of a command without what nodes have said, which tells of all
// databases.
func withoutOutput(data []byte) []byte {
	var r subjects.CommandRecord
	if json.Unmarshal(data, &r) != nil {
		return []byte("null")
	}
	for i := range r.Nodes {
		r.Nodes[i].Output = nil
	}
	data, err := json.Marshal(r)
	if err != nil {
		return []byte("null")
	}
	return data
}

// logs yields lines, until there are no more.
func (v *viewer) logs(m *watchMessage, yield func([]byte, error) bool) bool {
	if !m.wants(topicLogs) || v.who.limited() { // lines tell of all databases
		return true
	}
	for {
		lines, next, skipped := v.hub.s.logs.after(v.line, logFilter{node: m.Node, all: true}, framed)
		if next == v.line {
			return true
		}
		v.line = next
		if len(lines) == 0 && skipped == 0 {
			continue
		}
		if lines == nil {
			lines = []logLine{}
		}
		data, err := json.Marshal(map[string]any{"type": "logs", "lines": lines, "skipped": skipped})
		if !yield(data, err) {
			return false
		}
	}
}

// wrap makes a message of JSON.
func wrap(before string, data []byte) []byte {
	return append(append([]byte(before), data...), '}')
}
