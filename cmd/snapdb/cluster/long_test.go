//go:build linux && campaign

package cluster_test

import (
	osexec "os/exec"
	"strconv"
	"time"
)

// campaignLasts is how long a campaign goes on that is not told otherwise.
const campaignLasts = 10 * time.Minute

// longFaults need more than Go: strace, and the right to trace.
func longFaults() []fault { return []fault{{"fsync", 2, (*campaign).strikeSync}} }

// strikeSync makes the disk of a process refuse to put anything on stable storage.
func (c *campaign) strikeSync() func() {
	n := c.nodes()[c.rng.IntN(1+len(c.slaves))]
	if !n.Running() {
		return nil
	}
	tracer := osexec.Command("strace", "-f", "-qq", "-o", "/dev/null", "-p", strconv.Itoa(n.PID()),
		"-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO")
	if err := tracer.Start(); err != nil {
		c.t.Fatalf("failing fsync needs strace: %v", err)
	}
	c.pass(2 * time.Second)
	return func() {
		tracer.Process.Kill() // it may have ended with what it traced
		tracer.Wait()
	}
}
