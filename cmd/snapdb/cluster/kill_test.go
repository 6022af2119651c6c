//go:build linux

package cluster_test

import (
	"flag"
	"math/rand/v2"
	"testing"
	"time"
)

// Of the test that kills: repeat a failed run with the seed that it has printed,
// or go on for longer.
var (
	killSeed   = flag.Uint64("kill.seed", 0, "seed of the moments and victims of killing; 0 takes a new one")
	killRounds = flag.Int("kill.rounds", 24, "how often to kill")
)

func TestKillingAnyProcessAtAnyMomentLosesNothing(t *testing.T) {
	t.Parallel()
	seed := *killSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-kill.seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	var flags []string
	if rng.IntN(2) == 0 {
		flags = []string{"--log-keep", "0"} // who is away needs a snapshot
	}
	c := startCluster(t, 3, flags...)
	cl := c.client()
	l := c.startLoad(cl, "Kills", 6)
	for round := range *killRounds {
		l.awaitAcked(1 + rng.Int64N(150))
		victims := []*node{c.nodes()[rng.IntN(4)]}
		switch {
		case round%3 == 0:
			victims[0] = c.master
		case round%8 == 7: // everything at once
			victims = c.nodes()
		case rng.IntN(4) == 0:
			victims = []*node{c.master, c.slaves[rng.IntN(3)]}
		}
		l.makeDatabase(cl, round)
		<-time.After(time.Duration(rng.Int64N(int64(3 * time.Millisecond)))) // into the middle of a write
		for _, n := range victims {
			n.kill()
		}
		if rng.IntN(2) == 0 && victims[0] != c.master {
			l.awaitAcked(1 + rng.Int64N(50)) // without them
		}
		rng.Shuffle(len(victims), func(i, j int) { victims[i], victims[j] = victims[j], victims[i] })
		for _, n := range victims {
			if n != c.master && rng.IntN(6) == 0 {
				n.wipe() // it has lost its disk, and starts anew
			}
			n.start()
		}
	}
	l.awaitAcked(100)
	l.stop()
	c.settle(cl)
	for _, id := range []string{"", "snap1", "snap2", "snap3"} {
		l.verify(cl, id)
		l.verifyDatabases(cl, id)
	}
	c.finish(cl)
}
