package dashboard

import (
	"context"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/snapdb/snapdb/subjects"
)

// metrics asks the master whenever monitoring asks. It is a prometheus.Collector.
type metrics struct {
	s *Server

	up, position, stopped, writes, logBytes, logMax              *prometheus.Desc
	nodeState, nodePosition, nodeLag, nodeAck, nodeSync, viewers *prometheus.Desc
	write, publish, group                                        *prometheus.Desc
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
		nodeState:    d("node_state", "1 for the state that a node is in.", "node", "state"),
		nodePosition: d("node_position", "Position that a node has acknowledged.", "node", "database"),
		nodeLag:      d("node_lag_seconds", "Age of the oldest position that a node has not acknowledged.", "node"),
		nodeAck:      d("node_ack_seconds", "Time from the log to a node's acknowledgement, lately.", "node"),
		nodeSync:     d("node_in_sync", "For how many databases writes wait for a node.", "node"),
		viewers:      d("panel_connections", "Pages of the panel that watch."),
		write:        d("write_seconds", "Time from a write's request to its answer."),
		publish:      d("log_publish_seconds", "Time in which the log stored a group."),
		group:        d("group_transactions", "Transactions of a group."),
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
	gauge(m.logMax, float64(info.LogMax))
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

// readyz says whether the master has applied all that its log holds: it answers only
// when it once had, and names the databases that fell behind since.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) error {
	var info subjects.ClusterInfoResponse
	if err := s.ask(r.Context(), subjects.ClusterInfo, struct{}{}, &info); err != nil {
		return err
	}
	status := http.StatusOK
	if len(info.Stopped) > 0 {
		status = http.StatusServiceUnavailable
	}
	applied := map[string]uint64{}
	for db, head := range info.Heads {
		applied[db] = head.Position
	}
	return replyJSON(w, status, map[string]any{"ready": status == http.StatusOK, "position": info.Cursor, "applied": applied, "stopped": info.Stopped})
}
