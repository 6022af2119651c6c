package agent

import (
	"context"
	"sync"
	"time"

	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// Reads bound what reads may take of a node. They are each node's own: unlike the limits
// of SQL itself, they need not be the same everywhere.
type Reads struct {
	// Time is the time limit of a read that names none, Longest what it may name. 0:
	// DefaultReadTime and DefaultReadLongest.
	Time, Longest time.Duration
	// Connections is how many reads of one database run at a time; 0:
	// exec.DefaultReadConnections. A user has at most half as many, over all databases.
	Connections int
	// Memory and Files are how many bytes of memory and of temporary files one read may
	// take; 0: exec.DefaultReadMemory and exec.DefaultReadFiles.
	Memory, Files int64
}

// Defaults of Reads.
const (
	DefaultReadTime    = 30 * time.Second
	DefaultReadLongest = 10 * time.Minute
)

// usual fills in the defaults.
func (r *Reads) usual() {
	if r.Time == 0 {
		r.Time = DefaultReadTime
	}
	if r.Longest == 0 {
		r.Longest = DefaultReadLongest
	}
	r.Time = min(r.Time, r.Longest)
	if r.Connections == 0 {
		r.Connections = exec.DefaultReadConnections
	}
}

// of are the bounds for the store of a node whose disk keeps a reserve. Temporary files
// leave twice as much free: that some reads need room must not make writes fail.
func (r Reads) of(free func() (uint64, error), reserve uint64) exec.Reads {
	return exec.Reads{Connections: r.Connections, Memory: r.Memory, Files: r.Files, Room: func() error {
		left, err := free()
		if err == nil && left < 2*reserve {
			err = subjects.Errorf(subjects.CodeUnavailable, "the disk has too little room to sort or group in (%d MB free, %d MB are left to others): free some space, or ask for less at a time", left>>20, 2*reserve>>20)
		}
		return err
	}}
}

// shares see to it that no user has more of something than his share. Who has no name, as
// in an open cluster, has no bound.
type shares struct {
	most int

	mu   sync.Mutex
	held map[string]int
	wake chan struct{} // closed and replaced when one is given back
}

func newShares(most int) *shares {
	return &shares{most: max(1, most), held: map[string]int{}, wake: make(chan struct{})}
}

// try takes one for a user, unless he has his share.
func (s *shares) try(user string) bool {
	if user == "" {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[user] >= s.most {
		return false
	}
	s.held[user]++
	return true
}

// take takes one for a user, and waits until he may have it.
func (s *shares) take(ctx context.Context, user string, limit time.Time) error {
	for {
		s.mu.Lock()
		wake := s.wake
		s.mu.Unlock()
		if s.try(user) {
			return nil
		}
		timer := time.NewTimer(time.Until(limit))
		select {
		case <-wake:
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-timer.C:
			return subjects.Errorf(subjects.CodeBusy, "%d reads of %s were under way for as long as the request may take, and a user may have no more at a time: wait for them, or give them up", s.most, user)
		}
	}
}

// give gives one of a user's back.
func (s *shares) give(user string) {
	if user == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[user]--; s.held[user] == 0 {
		delete(s.held, user)
	}
	close(s.wake)
	s.wake = make(chan struct{})
}
