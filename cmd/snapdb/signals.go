package main

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// tidy is for commands that leave something behind if they are killed: until end
// is called, a second signal that asks the program to end does not kill it, but
// ends hurried. A third one kills.
func tidy() (hurried context.Context, end func()) {
	hurried, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	over := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for range 2 {
			select {
			case <-signals:
			case <-over:
				return
			}
		}
		signal.Stop(signals)
		cancel()
	})
	return hurried, func() {
		signal.Stop(signals)
		close(over)
		wg.Wait()
		cancel()
	}
}
