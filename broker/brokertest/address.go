package brokertest

import (
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
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
