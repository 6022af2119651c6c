//go:build linux

package cluster_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/snapdb/snapdb/agent/client"
	"github.com/snapdb/snapdb/subjects"
)

// Of the campaign: repeat a failed one with the seed that it has printed, or go on
// for longer. With the build tag campaign it lasts ten minutes and knows more faults:
//
//	go test -tags campaign ./cmd/snapdb/cluster -run NothingThatHappens -v -timeout 0 -campaign.for 1h
var (
	campaignSeed   = flag.Uint64("campaign.seed", 0, "seed of what happens when and to whom; 0 takes a new one")
	campaignRounds = flag.Int("campaign.rounds", 8, "how many rounds")
	campaignFor    = flag.Duration("campaign.for", campaignLasts, "how long, instead of rounds")
	campaignOnly   = flag.String("campaign.only", "", "faults to choose from, separated by commas (default: all)")
)

// keptSeeds are of campaigns that failed once.
var keptSeeds = []uint64{}

// campaign is a cluster with clients that write without a pause, to which bad things
// happen. What must hold all the time is compared now and then.
type campaign struct {
	*cluster
	rng   *rand.Rand
	cl    *client.Client
	load  *load
	again *again
	links map[*node]*link
	disks map[*node]disk
	next  int // number of the next slave
	// spares says that the master loses snapshots, else that it loses databases: with
	// both gone, and the log shortened, it can only say so.
	spares bool
}

// fault is something bad that can happen. What it returns, if anything, ends it.
type fault struct {
	name   string
	weight int
	strike func(c *campaign) (mend func())
}

func faults() []fault {
	return append(longFaults(), []fault{
		{"kill", 8, (*campaign).strikeKill},
		{"freeze", 2, (*campaign).strikeFreeze},
		{"cut", 3, (*campaign).strikeCut},
		{"weather", 4, (*campaign).strikeWeather},
		{"disk", 2, (*campaign).strikeDisk},
		{"damage", 4, (*campaign).strikeDamage},
		{"loss", 3, (*campaign).strikeLoss},
		{"member", 2, (*campaign).strikeMember},
		{"schema", 2, (*campaign).strikeSchema},
	}...)
}

func TestNothingThatHappensToAClusterLosesAnything(t *testing.T) {
	t.Parallel()
	seeds := keptSeeds
	if *campaignSeed != 0 {
		seeds = []uint64{*campaignSeed}
	} else if *campaignFor != 0 || len(seeds) == 0 {
		seeds = []uint64{rand.Uint64()}
	}
	for _, seed := range seeds {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Logf("-campaign.seed %d", seed)
			startCampaign(t, rand.New(rand.NewPCG(seed, 1))).run()
		})
	}
}

func startCampaign(t *testing.T, rng *rand.Rand) *campaign {
	flags := []string{"--disk-reserve", "0"}
	if rng.IntN(2) == 0 {
		flags = append(flags, "--log-keep", "0") // who is away needs a snapshot
	}
	c := &campaign{cluster: newCluster(t, 0, flags...), rng: rng, links: map[*node]*link{}, disks: map[*node]disk{}}
	c.spares = rng.IntN(2) == 0
	for range 3 {
		c.join()
	}
	for _, n := range []*node{c.master, c.slaves[0]} {
		c.disks[n] = smallDisk(t, n, "512m")
	}
	c.start()
	c.cl = c.client()
	c.load = c.startLoad(c.cl, "Load", 6)
	c.again = newAgain(c.cluster, c.load, c.cl)
	return c
}

// join adds a slave that has its own link to the master.
func (c *campaign) join() *node {
	c.next++
	l := newLink(c.t, c.listen)
	n := c.addSlaveAt("snap"+strconv.Itoa(c.next), l.url)
	c.links[n] = l
	return n
}

func (c *campaign) run() {
	choice := c.choice()
	begun := time.Now()
	for round := 0; ; round++ {
		if *campaignFor == 0 && round >= *campaignRounds || *campaignFor > 0 && time.Since(begun) > *campaignFor {
			break
		}
		var mends []func()
		var names []string
		for range 1 + c.rng.IntN(3) {
			f := choice[c.rng.IntN(len(choice))]
			names = append(names, f.name)
			if mend := f.strike(c); mend != nil {
				mends = append(mends, mend)
			}
			c.pass(100 * time.Millisecond)
		}
		c.t.Logf("round %d: %s", round, strings.Join(names, ", "))
		c.rng.Shuffle(len(mends), func(i, j int) { mends[i], mends[j] = mends[j], mends[i] })
		for _, mend := range mends {
			mend()
		}
		c.revive()
		c.load.awaitAcked(1 + c.rng.Int64N(100))
		c.again.step()
		if round%8 == 7 {
			c.compare()
		}
		if c.t.Failed() {
			break
		}
	}
	c.load.stop()
	c.compare()
	c.finish(c.cl)
}

// choice are the faults to choose from, each as often as its weight says.
func (c *campaign) choice() (list []fault) {
	for _, f := range faults() {
		if *campaignOnly == "" || slices.Contains(strings.Split(*campaignOnly, ","), f.name) {
			list = append(list, slices.Repeat([]fault{f}, f.weight)...)
		}
	}
	if len(list) == 0 {
		c.t.Fatalf("no fault is named %s", *campaignOnly)
	}
	return list
}

// pass lets a part of the most time pass, with the cluster as it is.
func (c *campaign) pass(most time.Duration) { <-time.After(time.Duration(c.rng.Int64N(int64(most)))) }

// revive starts whoever does not run.
func (c *campaign) revive() {
	for _, n := range c.nodes() {
		if !n.Running() {
			n.Start()
		}
	}
}

// prove waits until all nodes are proven to hold the same of a database: what was
// damaged without anybody noticing is found, and healed.
func (c *campaign) prove(db string) {
	await(c.t, func() string {
		ctx, cancel := context.WithTimeout(c.t.Context(), patience)
		defer cancel()
		v, err := c.cl.Verify(ctx, db, true)
		switch {
		case err != nil:
			return err.Error()
		case !v.Proven:
			return fmt.Sprintf("%+v", v)
		case v.Nodes[subjects.MasterID].State != subjects.VerifyEqual || len(v.Nodes) != 1+len(c.slaves):
			c.t.Fatalf("proven: %+v", v)
		}
		return ""
	})
	c.settle(c.cl)
}

// compare stops the writing for a while and compares everything with everything.
func (c *campaign) compare() {
	defer c.load.pause()()
	c.settle(c.cl)
	for _, db := range c.names(c.cl, "") {
		c.prove(db)
	}
	for _, n := range c.nodes() {
		id := n.Name
		if n == c.master {
			id = ""
		}
		c.load.verify(c.cl, id)
		c.again.verify(id)
	}
}
