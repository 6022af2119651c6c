package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/snapdb/snapdb/agent/snapshot"
	"github.com/snapdb/snapdb/broker"
	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// Defaults of snapshots and of the log's length.
const (
	// DefaultSnapshotEvery is how old the snapshot of a database that changes gets.
	DefaultSnapshotEvery = time.Hour
	// DefaultLogKeep is how much of the log is kept, in bytes, beyond what is needed:
	// for slaves that were away for a short while.
	DefaultLogKeep = 256 << 20
)

// keepEvery is how often the keeper looks.
const keepEvery = 5 * time.Second

// keeper takes snapshots when they are due, and then removes the part of the log
// that nobody needs any more:
//
//   - never past the snapshot of a database that has changed since. One without a
//     snapshot holds everything since its creation back;
//   - never past what the master's own catalog has on stable storage;
//   - past what a slave that is connected has not read yet only if the log would
//     otherwise reach its limit: it then gets a snapshot.
type keeper struct {
	m     *Master
	snaps *snapshot.Store
	kick  chan struct{} // holds a token when there may be something to do

	mu      sync.Mutex
	wanted  map[uint64]bool   // incarnations of which somebody needs a snapshot
	doubted map[uint64]bool   // those of which somebody says that the snapshot is damaged
	said    map[uint64]string // why the last one of a database failed
}

func openKeeper(m *Master) (*keeper, error) {
	k := &keeper{m: m, kick: make(chan struct{}, 1), wanted: map[uint64]bool{}, doubted: map[uint64]bool{}, said: map[uint64]string{}}
	var err error
	k.snaps, err = snapshot.Open(filepath.Join(m.opts.Dir, "snapshots"), m.store.Identity().Cluster, k.room, m.log)
	return k, err
}

// room refuses what would take the disk's reserve.
func (k *keeper) room(bytes int64) error {
	free, err := k.m.opts.FreeBytes(k.m.opts.Dir)
	if err != nil {
		return fmt.Errorf("measure free space: %w", err)
	}
	if need := uint64(bytes) + k.m.opts.DiskReserve; free < need {
		return subjects.Errorf(subjects.CodeUnavailable, "the master's disk has %d MB free; %d MB would be needed, reserve included", free>>20, need>>20)
	}
	return nil
}

// want asks for a snapshot of a database soon.
func (k *keeper) want(incarnation uint64) {
	k.mu.Lock()
	k.wanted[incarnation] = true
	k.mu.Unlock()
	k.rouse()
}

// doubt has the snapshot of a database read again, and another taken if it is damaged.
func (k *keeper) doubt(incarnation uint64) {
	k.mu.Lock()
	k.doubted[incarnation] = true
	k.mu.Unlock()
	k.rouse()
}

// check reads the snapshots that somebody doubts.
func (k *keeper) check(ctx context.Context) error {
	k.mu.Lock()
	doubted := k.doubted
	k.doubted = map[uint64]bool{}
	k.mu.Unlock()
	for inc := range doubted {
		damaged, err := k.snaps.Check(ctx, inc)
		if err != nil {
			return err
		}
		if damaged {
			k.want(inc)
		}
	}
	return nil
}

// rouse makes the keeper look now.
func (k *keeper) rouse() {
	select {
	case k.kick <- struct{}{}:
	default:
	}
}

// run is the keeper's goroutine.
func (k *keeper) run(ctx context.Context) {
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	k.rouse() // a master that often ends shall keep its log short too
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.kick:
		case <-tick.C:
		}
		if err := k.round(ctx); err != nil && ctx.Err() == nil {
			k.m.log.Warn("cannot keep the log short", "error", err)
		}
	}
}

// round does what is due.
func (k *keeper) round(ctx context.Context) error {
	live := map[uint64]bool{}
	for _, d := range k.m.store.Databases() {
		live[d.Incarnation()] = true
	}
	if err := k.snaps.Prune(func(inc uint64) bool { return live[inc] }); err != nil {
		return err
	}
	if err := k.check(ctx); err != nil {
		return err
	}
	log, err := k.m.broker.LogInfo(ctx)
	if err != nil {
		return err
	}
	blobs, err := k.m.blobs.Size()
	if err != nil {
		return err
	}
	keep := k.m.opts.LogKeep
	long := keep >= 0 && int64(log.Bytes)+blobs > keep+keep/4
	for _, d := range k.m.store.Databases() {
		if k.due(d, long) {
			k.take(ctx, d)
		}
	}
	if !long || ctx.Err() != nil {
		return nil
	}
	return k.trim(ctx, log, int64(log.Bytes)+blobs)
}

// due says whether a snapshot of a database should be taken now.
func (k *keeper) due(d *exec.Database, long bool) bool {
	if w, err := k.m.writer(d.Name()); err != nil || w.reason() != nil {
		return false // what is wrong with it must not spread
	}
	k.mu.Lock()
	wanted := k.wanted[d.Incarnation()]
	k.mu.Unlock()
	snap, ok := k.snaps.Newest(d.Incarnation())
	since := k.m.started
	if ok {
		since = time.UnixMilli(snap.Taken)
	}
	head := d.Head()
	switch {
	case wanted:
		return true
	case head.Position == head.Incarnation: // the catalog has all of it
		return false
	case long: // which comparisons alone keep it from being shortened, too
		return snap.Head != head
	}
	return time.Since(since) >= k.m.opts.SnapshotEvery && k.m.verifier.changed(snap.Head, head)
}

// take takes a snapshot; what fails is tried again in the next round, and said once.
func (k *keeper) take(ctx context.Context, d *exec.Database) {
	_, err := k.snaps.Take(ctx, d)
	if ctx.Err() != nil || errors.Is(err, exec.ErrClosed) {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil {
		delete(k.wanted, d.Incarnation())
		delete(k.said, d.Incarnation())
		return
	}
	if k.said[d.Incarnation()] != err.Error() {
		k.said[d.Incarnation()] = err.Error()
		k.m.log.Error("cannot take a snapshot", "database", d.Name(), "error", err)
	}
}

// trim removes the oldest part of a log that is used bytes long with its blobs.
func (k *keeper) trim(ctx context.Context, log broker.LogInfo, used int64) error {
	to, _ := k.m.fleet.cursor() // before the catalog is synced: what is made later may not be
	if err := k.m.store.Catalog().Sync(); err != nil {
		return err
	}
	for _, d := range k.m.store.Databases() {
		head := d.Head()
		snap, ok := k.snaps.Newest(d.Incarnation())
		switch {
		case head.Position == head.Incarnation: // the catalog has all of it
		case !ok:
			to = min(to, head.Incarnation)
		case snap.Head != head:
			to = min(to, snap.Position)
		}
	}
	if used < int64(log.MaxBytes)*3/4 {
		to = min(to, k.m.fleet.reached())
	}
	// The messages of a log are of about the same size, or it does not matter.
	share := float64(k.m.opts.LogKeep) / float64(used)
	to = min(to, log.Last-uint64(float64(log.Last+1-log.First)*share))
	if to < log.First {
		return nil
	}
	// The claim of the running term must not be what is removed.
	if err := k.m.journal.claimAnew(ctx); err != nil {
		return err
	}
	// Blobs first: if this ends in between, the next round finds them again.
	if err := k.dropBlobs(ctx, log.First, to); err != nil {
		return err
	}
	if err := k.m.journal.reader().Purge(ctx, to+1); err != nil {
		return err
	}
	k.m.log.Info("log shortened", "from", log.First, "to", to+1)
	return nil
}

// blobMessage is more than the size of a message that refers to a blob.
const blobMessage = 4 << 10

// dropBlobs removes the large transactions and images that a part of the log refers to.
func (k *keeper) dropBlobs(ctx context.Context, from, to uint64) error {
	return k.m.journal.reader().Read(ctx, from, to, func(e broker.Entry) error {
		if e.Message == nil || len(e.Message.Data) > blobMessage || !bytes.Contains(e.Message.Data, []byte(`"digest"`)) {
			return nil
		}
		var body subjects.Body
		switch err := subjects.DecodeBody(e.Message.Data, &body); {
		case err != nil: // of nobody
		case body.Blob != nil:
			return k.m.blobs.Remove(body.Blob.Digest)
		case body.Image != nil:
			return k.m.blobs.Remove(body.Image.Digest)
		}
		return nil
	})
}

// snapshot answers a request for one.
func (k *keeper) snapshot(ctx context.Context, who *caller, req *subjects.SnapshotRequest) (*subjects.Snapshot, error) {
	if err := who.uses(req.DB); err != nil {
		return nil, err
	}
	d, err := k.m.store.Database(req.DB)
	if err != nil {
		return nil, err
	}
	if w, err := k.m.writer(d.Name()); err == nil && w.reason() != nil {
		return nil, subjects.Errorf(subjects.CodeUnavailable, "no snapshot of %s is taken while it is stopped: %v", d.Name(), w.reason())
	}
	snap, err := k.snaps.Take(ctx, d)
	return &snap, err
}
