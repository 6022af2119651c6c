package brokertest

import (
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
	"time"
)

// Address is one on which nobody listens. Its port is below those that the system
// gives to outgoing connections: on one of those, a slave that looks for its absent
// master can end up connected to itself and keep the port taken.
func Address(t testing.TB) string {
	t.Helper()
	for range 100 {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(12_000+rand.IntN(20_000)))
		l, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return address
	}
	t.Fatal("no free port found")
	return ""
}

// AwaitFree waits until nobody listens on an address any more. A program that a test
// beside has just started can hold what this process listened on for a moment: until
// it has become that program, it has everything that was open here.
func AwaitFree(t testing.TB, address string) {
	t.Helper()
	patience := time.NewTimer(10 * time.Second)
	defer patience.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		l, err := net.Listen("tcp", address)
		if err == nil {
			err = l.Close()
			if err == nil {
				return
			}
		}
		select {
		case <-tick.C:
		case <-patience.C:
			t.Fatal(err)
		}
	}
}
