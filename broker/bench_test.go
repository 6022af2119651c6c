package broker_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/snapdb/snapdb/broker"
)

// benchBody is about the size of a group with one insert.
var benchBody = bytes.Repeat([]byte("x"), 300)

// BenchmarkFsync is what a publish cannot be faster than.
func BenchmarkFsync(b *testing.B) {
	f, err := os.Create(filepath.Join(b.TempDir(), "file"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	for b.Loop() {
		if _, err := f.Write(benchBody); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAppend is one publish after another, each waited for.
func BenchmarkAppend(b *testing.B) {
	m := start(b)
	for b.Loop() {
		if _, err := m.log.Append(context.Background(), m.header("bench"), benchBody); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDeliver is a publish until a reader on another connection has it.
func BenchmarkDeliver(b *testing.B) {
	m := start(b)
	for i := range 2 {
		if err := m.log.AddReader(testContext(b), fmt.Sprint("reader", i), 1); err != nil {
			b.Fatal(err)
		}
	}
	ctx, end := context.WithCancel(context.Background())
	defer end()
	got := make(chan uint64, 100)
	for i := range 2 {
		nc := plain(b, m.Broker, nats.Name("reader"))
		go broker.ReadLog(ctx, nc, broker.Next(fmt.Sprint("reader", i)), func(batch []broker.Entry) error {
			got <- batch[len(batch)-1].Position
			return nil
		})
	}
	for b.Loop() {
		at, err := m.log.Append(context.Background(), m.header("bench"), benchBody)
		if err != nil {
			b.Fatal(err)
		}
		for behind := 2; behind > 0; {
			if <-got >= at {
				behind--
			}
		}
	}
}
