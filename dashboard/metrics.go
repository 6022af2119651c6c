package dashboard

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/snapdb/snapdb/subjects"
)

// metrics asks the master whenever monitoring asks. It is a prometheus.Collector.
type metrics struct {
	s *Server

	up, position, stopped, writes, logBytes, logMax, logLast     *prometheus.Desc
	nodeState, nodePosition, nodeLag, nodeAck, nodeSync, viewers *prometheus.Desc
	behind, connections, verified, compared, unequal             *prometheus.Desc
	write, publish, group, ack                                   *prometheus.Desc
}

func newMetrics(s *Server) *metrics {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("snapdb_"+name, help, labels, nil)
	}
	return &metrics{s: s,
		up:           d("up", "Whether the master answers."),
		position:     d("database_position", "Position of a database on the master.", "database"),
		stopped:      d("database_stopped", "Whether a database of the master takes no writes.", "database"),
		writes:       d("writes_total", "Transactions logged since the master started."),
		logBytes:     d("log_bytes", "Size of the log."),
		logMax:       d("log_max_bytes", "Size of the log at which writes are refused."),
		logLast:      d("log_last_position", "Position of the last message of the log."),
		behind:       d("behind_seconds", "For how long the master has lacked what its log has, or may have."),
		verified:     d("database_verified_position", "Position at which all nodes were last compared and equal.", "database"),
		compared:     d("database_compared_seconds", "Age of the last comparison of a database on all nodes, whatever it found.", "database"),
		unequal:      d("database_unequal_copies", "Copies of a database that the last comparison found to differ.", "database"),
		connections:  d("nats_connections", "Connections to the broker, the master's own included."),
		nodeState:    d("node_state", "1 for the state that a node is in.", "node", "state"),
		nodePosition: d("node_position", "Position that a node has acknowledged.", "node", "database"),
		nodeLag:      d("node_lag_seconds", "Age of the oldest position that a node has not acknowledged.", "node"),
		nodeAck:      d("node_ack_seconds", "Time from the log to a node's acknowledgement, lately.", "node"),
		nodeSync:     d("node_in_sync", "For how many databases writes wait for a node.", "node"),
		viewers:      d("panel_connections", "Pages of the panel that watch."),
		write:        d("write_seconds", "Time from a write's request to its answer."),
		publish:      d("log_publish_seconds", "Time in which the log stored a group."),
		group:        d("group_transactions", "Transactions of a group."),
		ack:          d("ack_seconds", "Time from the log to a node's acknowledgement of the newest position of a database."),
	}
}

// Describe makes it an unchecked collector: what there is depends on the cluster.
func (m *metrics) Describe(chan<- *prometheus.Desc) {}

// Collect asks the master.
func (m *metrics) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	m.s.hub.mu.Lock()
	gauge(m.viewers, float64(len(m.s.hub.viewers)))
	m.s.hub.mu.Unlock()
	ctx, cancel := context.WithTimeout(m.s.ctx, controlPatience)
	defer cancel()
	var info subjects.ClusterInfoResponse
	var counted subjects.MetricsResponse
	err := m.s.ask(ctx, subjects.ClusterInfo, struct{}{}, &info)
	if err == nil {
		err = m.s.ask(ctx, subjects.ClusterMetrics, struct{}{}, &counted)
	}
	if err != nil {
		m.s.log.Warn("cannot ask the master for metrics", "error", err)
		gauge(m.up, 0)
		return
	}
	gauge(m.up, 1)
	for db, head := range info.Heads {
		gauge(m.position, float64(head.Position), db)
		_, stopped := info.Stopped[db]
		gauge(m.stopped, map[bool]float64{true: 1}[stopped], db)
	}
	to <- prometheus.MustNewConstMetric(m.writes, prometheus.CounterValue, float64(info.Writes))
	gauge(m.logBytes, float64(info.LogBytes))
	for name, v := range info.Verified {
		differ := 0
		for _, n := range v.Nodes {
			if n.State == subjects.VerifyDifferent {
				differ++
			}
		}
		gauge(m.compared, time.Since(time.UnixMilli(v.At)).Seconds(), name)
		if gauge(m.unequal, float64(differ), name); v.Proven {
			gauge(m.verified, float64(v.Position), name)
		}
	}
	gauge(m.logMax, float64(info.LogMax))
	gauge(m.logLast, float64(info.LogLast))
	gauge(m.behind, float64(info.BehindMS)/1000)
	gauge(m.connections, float64(info.Connections))
	for i := range info.Nodes {
		n := &info.Nodes[i]
		gauge(m.nodeState, 1, n.ID, string(n.State))
		gauge(m.nodeLag, float64(n.LagMS)/1000, n.ID)
		gauge(m.nodeAck, n.AckMS/1000, n.ID)
		gauge(m.nodeSync, float64(len(n.InSync)), n.ID)
		for db, position := range n.Acked {
			gauge(m.nodePosition, float64(position), n.ID, db)
		}
	}
	const micro = 1e-6
	to <- histogram(m.write, counted.Write, micro)
	to <- histogram(m.publish, counted.Publish, micro)
	to <- histogram(m.group, counted.Group, 1)
	to <- histogram(m.ack, counted.Ack, micro)
}

// histogram makes a metric of a histogram of the master, whose bucket i has the
// values of i bits, in units of so much.
func histogram(d *prometheus.Desc, h subjects.Histogram, unit float64) prometheus.Metric {
	buckets, count := map[float64]uint64{}, uint64(0)
	for i, n := range h.Counts {
		count += n
		if i < len(h.Counts)-1 {
			buckets[float64(uint64(1)<<i-1)*unit] = count
		}
	}
	return prometheus.MustNewConstHistogram(d, count, float64(h.Sum)*unit, buckets)
}

// metricsHandler serves the metrics of cluster and process.
func (s *Server) metricsHandler() handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(newMetrics(s), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	inner := promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
	return func(w http.ResponseWriter, r *http.Request) error {
		inner.ServeHTTP(w, r)
		return nil
	}
}

// behindMost is for how long the master may lack what its log has and still be
// ready: a write on its way to the log counts too, for as long as that takes.
const behindMost = 2 * time.Second

// readiness is the answer to whether the master is ready. Position is up to where it
// has applied everything, LogLast where the log ends: messages that change nothing
// may lie between.
type readiness struct {
	Ready    bool              `json:"ready"`
	Why      []string          `json:"why"` // it is not; empty if it is
	Position uint64            `json:"position"`
	LogLast  uint64            `json:"log_last"`
	BehindMS int64             `json:"behind_ms"`
	Applied  map[string]uint64 `json:"applied"`
}

// readyz says whether the master has applied what its log holds. It answers at all
// only after it had once applied everything that the log held when it started.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) error {
	var info subjects.ClusterInfoResponse
	if err := s.ask(r.Context(), subjects.ClusterInfo, struct{}{}, &info); err != nil {
		return err
	}
	a := ready(&info)
	if s.visitor(r).may(forViewersOfAll) != nil { // whether it is ready is no secret
		a.hide()
	}
	status := http.StatusOK
	if !a.Ready {
		status = http.StatusServiceUnavailable
	}
	return replyJSON(w, status, a)
}

// hide leaves out what tells of databases.
func (a *readiness) hide() {
	a.Applied = map[string]uint64{}
	if !a.Ready {
		a.Why = []string{"a viewer of all databases is told why"}
	}
}

func ready(info *subjects.ClusterInfoResponse) readiness {
	a := readiness{Why: []string{}, Position: info.Cursor, LogLast: info.LogLast, BehindMS: info.BehindMS, Applied: map[string]uint64{}}
	for db, head := range info.Heads {
		a.Applied[db] = head.Position
	}
	for _, db := range slices.Sorted(maps.Keys(info.Stopped)) {
		a.Why = append(a.Why, fmt.Sprintf("database %s takes no writes: %s", db, info.Stopped[db]))
	}
	if info.LogMax == 0 {
		a.Why = append(a.Why, "the log does not answer")
	}
	if behind := time.Duration(info.BehindMS) * time.Millisecond; behind > behindMost {
		a.Why = append(a.Why, fmt.Sprintf("everything is applied up to position %d only; the log ends at %d and has had more for %v", info.Cursor, info.LogLast, behind.Round(time.Second)))
	}
	a.Ready = len(a.Why) == 0
	return a
}
