package agent_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/snapdb/snapdb/subjects"
)

// BenchmarkSlaveLatency is the time from a message being in the log until its
// acknowledgement has arrived.
func BenchmarkSlaveLatency(b *testing.B) {
	o := newOrigin(b)
	o.catalog("CREATE DATABASE a")
	o.write("a", "CREATE TABLE t (x)")
	s := o.start(b.TempDir())
	untilState(b, s, subjects.StateOnline)
	acks := make(chan uint64, 16)
	if _, err := o.nc.Subscribe(subjects.NodeAck("snap1"), func(msg *nats.Msg) {
		var ack subjects.AckMessage
		if err := subjects.DecodeAck(msg.Data, &ack); err == nil && ack.Applied["a"] > 0 {
			acks <- ack.Applied["a"]
		}
	}); err != nil {
		b.Fatal(err)
	}
	var spent time.Duration
	for b.Loop() {
		n := o.write("a", "INSERT INTO t VALUES (1)")
		start := time.Now()
		for <-acks < n {
		}
		spent += time.Since(start)
	}
	b.ReportMetric(float64(spent.Microseconds())/float64(b.N), "us/ack-after-commit")
}

// BenchmarkSlaveCatchUp is how fast an empty slave applies a log of small groups.
func BenchmarkSlaveCatchUp(b *testing.B) {
	o := newOrigin(b)
	o.catalog("CREATE DATABASE a")
	o.write("a", "CREATE TABLE t (x)")
	const messages = 2000
	var last uint64
	for range messages {
		last = o.write("a", "INSERT INTO t VALUES (1)")
	}
	for b.Loop() {
		s := o.start(b.TempDir())
		until(b, "caught up", func() bool { return position(s, "a") >= last })
		stop(b, s)
	}
	b.ReportMetric(float64(messages)*float64(b.N)/b.Elapsed().Seconds(), "messages/s")
}
