package agent

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/snapdb/snapdb/agent/snapshot"
	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// Times of replacing copies by snapshots.
const (
	// seedAgain is the pause before the master is asked for a snapshot again.
	seedAgain = time.Second
	// healMost is the longest pause between attempts to heal a copy that diverges
	// again and again, healForget how long it must have been well to begin anew.
	healMost   = 5 * time.Minute
	healForget = 10 * time.Minute
)

// takeCatalog makes the list of databases the master's, which the log does not
// continue here. nil: it does.
func (s *Slave) takeCatalog(c *subjects.CatalogSnapshot) error {
	if c == nil {
		return nil
	}
	at, err := position(c.Head)
	if err != nil {
		return fmt.Errorf("list of databases: %w", err)
	}
	if err := s.awaitIdle(s.life); err != nil {
		return err
	}
	if err := s.store.ReplaceCatalog(c.Databases, at); err != nil {
		return err
	}
	s.forgetDropped()
	s.lane(s.store.Catalog().Database).recover()
	s.log.Info("list of databases taken from the master", "databases", len(c.Databases), "position", c.Position)
	return nil
}

// judged notes what the master says of the copies.
func (s *Slave) judged(resp *subjects.JoinResponse) {
	if len(resp.Reseed) == 0 {
		// What is left there belongs to an attempt that is not needed any more.
		if err := os.RemoveAll(s.incoming()); err != nil {
			s.log.Warn("cannot remove what is left of snapshots", "error", err)
		}
	} else {
		s.mu.Lock()
		s.way.cursor, s.way.satisfied = 0, time.Time{} // what was complete is not
		s.mu.Unlock()
	}
	for _, d := range append(s.store.Databases(), s.store.Catalog().Database) {
		l := s.lane(d)
		reason, reseed := resp.Reseed[d.Name()]
		_, seeded := resp.Snapshots[d.Name()]
		taken := resp.Catalog != nil && d.Incarnation() == 0
		switch {
		case !reseed || taken:
			l.accept()
		case !seeded:
			l.reject(reason)
		case slices.Contains(resp.Foreign, d.Name()):
			l.await(subjects.StateDiverged, reason)
		default:
			l.await(subjects.StateJoining, reason)
		}
	}
}

// diverged are the copies that are known here to be wrong.
func (s *Slave) diverged() (names []string) {
	for _, d := range append(s.store.Databases(), s.store.Catalog().Database) {
		l := s.lane(d)
		l.mu.Lock()
		if l.wrong != "" {
			names = append(names, d.Name())
		}
		l.mu.Unlock()
	}
	return names
}

// damaged are the snapshots that did not arrive well since the last join; it is said
// once.
func (s *Slave) damaged() []string {
	if digest := s.spoilt.Swap(nil); digest != nil {
		return []string{*digest}
	}
	return nil
}

// seed replaces copies by snapshots, the smallest first, and joins again after each:
// what is ready goes on while the others are fetched.
func (s *Slave) seed(ses *stay, snaps map[string]subjects.Snapshot) {
	failed := false
	names := slices.SortedFunc(maps.Keys(snaps), func(a, b string) int {
		return cmp.Or(cmp.Compare(snaps[a].Size, snaps[b].Size), cmp.Compare(a, b))
	})
	for _, name := range names {
		snap := snaps[name]
		d, err := s.store.Database(name)
		if snap.Digest == "" || err != nil || d.Incarnation() != snap.Incarnation {
			continue // being taken, or dropped meanwhile
		}
		begun := time.Now()
		err = s.seedOne(ses.ctx, d, snap)
		if err == nil {
			s.log.Info("snapshot is here", "database", name, "position", snap.Position, "bytes", snap.Size, "duration", time.Since(begun))
			s.unseeded.Store(0)
			ses.leave(errSeeded)
			return
		}
		if ses.ctx.Err() != nil {
			return
		}
		failed = true
		if errors.Is(err, errBlob) {
			s.spoilt.Store(&snap.Digest)
		}
		s.log.Warn("cannot replace a copy by a snapshot, trying again", "database", name, "error", err)
	}
	pause := seedAgain
	if failed {
		pause = min(seedAgain<<min(s.unseeded.Add(1), 20), healMost)
	}
	if sleep(ses.ctx, pause) {
		ses.leave(errAskAgain)
	}
}

// incoming is the folder of snapshots on their way.
func (s *Slave) incoming() string { return filepath.Join(s.o.Dir, "incoming") }

// seedOne replaces one copy.
func (s *Slave) seedOne(ctx context.Context, d *exec.Database, snap subjects.Snapshot) error {
	l := s.lane(d)
	dir := s.incoming()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	if err := s.roomFor(snap.Size + 3*snap.File); err != nil { // the unpacked file, the WAL, the database
		return err
	}
	name := filepath.Join(dir, strconv.FormatUint(snap.Incarnation, 10))
	part, file := name+"-"+snap.Digest+".part", name+snapshot.CopySuffix
	if err := removeOthers(name, part); err != nil {
		return err
	}
	if err := s.fetchSnapshot(ctx, snap, part, func(percent int64) { l.fetching(percent) }); err != nil {
		return err
	}
	packed, err := os.Open(part)
	if err != nil {
		return err
	}
	err = snapshot.Unpack(packed, file, snap.File)
	if err = errors.Join(err, packed.Close(), os.Remove(part)); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if d.Applied().Number == d.Incarnation() {
		s.mu.Lock()
		s.ready = append(s.ready, seeded{d.Name(), snap, file})
		s.mu.Unlock()
		return nil
	}
	defer os.Remove(file)
	l.ended.Wait() // it takes nothing new, but may have something in hand
	if state, _ := l.condition(); state == subjects.StateDiverged {
		if err := s.store.KeepAside(ctx, d); err != nil {
			s.log.Warn("the diverged copy cannot be kept aside", "database", d.Name(), "error", err)
		}
	}
	if err := replace(d, snap, file); err != nil {
		if exec.Damaged(err) && !errors.Is(err, exec.ErrBadCopy) { // of the copy, not of the snapshot
			s.mu.Lock()
			s.rebuild = append(s.rebuild, d.Name())
			s.mu.Unlock()
		}
		return err
	}
	l.recover()
	s.noteApplied(d, snap.Position)
	s.log.Info("copy replaced by a snapshot", "database", d.Name(), "position", snap.Position)
	return nil
}

// seeded is a snapshot unpacked, for a copy that has nothing yet.
type seeded struct {
	name string
	snap subjects.Snapshot
	file string
}

// installReady puts such snapshots in their place. Nothing is read from the log
// meanwhile.
func (s *Slave) installReady() {
	s.mu.Lock()
	ready := s.ready
	s.ready = nil
	s.mu.Unlock()
	for _, r := range ready {
		d, err := s.store.Database(r.name)
		if err != nil || d.Incarnation() != r.snap.Incarnation {
			continue // dropped meanwhile
		}
		s.dropLane(d)
		at, err := position(r.snap.Head)
		if err == nil {
			err = s.store.Install(d, r.file, at)
		}
		if err != nil {
			s.log.Warn("cannot put a snapshot in the place of a copy, trying again", "database", r.name, "error", err)
			s.unseeded.Add(1)
			continue
		}
		s.log.Info("copy made from a snapshot", "database", r.name, "position", r.snap.Position)
	}
	if len(ready) > 0 {
		s.recheck()
	}
}

// removeOthers removes what earlier attempts at a database left, but one file.
func removeOthers(name, but string) error {
	for _, pattern := range []string{name + "-*", name + ".*"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			return fmt.Errorf("list what is left: %w", err)
		}
		for _, f := range files {
			if f == but {
				continue
			}
			if err := os.Remove(f); err != nil {
				return fmt.Errorf("remove what is left: %w", err)
			}
		}
	}
	return nil
}

// roomFor says whether so many bytes fit the disk.
func (s *Slave) roomFor(need int64) error {
	free, err := exec.FreeBytes(s.o.Dir)
	if err != nil {
		return fmt.Errorf("measure free space: %w", err)
	}
	if free < uint64(need) {
		return fmt.Errorf("the disk has %d MB free, %d MB are needed", free>>20, need>>20)
	}
	return nil
}

// fetchSnapshot brings the blob of a snapshot into a file, going on where an earlier
// attempt ended. A file that turns out to be of something else is removed.
func (s *Slave) fetchSnapshot(ctx context.Context, snap subjects.Snapshot, path string, progress func(percent int64)) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if errors.Is(err, errBlob) {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	hash := sha256.New()
	at, err := io.Copy(hash, f)
	if err == nil && at > snap.Size {
		at, err = 0, f.Truncate(0)
		hash.Reset()
		if err == nil {
			_, err = f.Seek(0, io.SeekStart)
		}
	}
	if err != nil {
		return fmt.Errorf("read what was fetched before: %w", err)
	}
	r := &blobReader{ctx: ctx, get: s.getChunk, early: &s.online, hash: hash, at: at,
		ref: subjects.BlobRef{Digest: snap.Digest, Size: snap.Size}}
	r.seen = func() { progress(r.at * 100 / max(1, snap.Size)) }
	if _, err := io.Copy(f, r); err != nil {
		return fmt.Errorf("fetch snapshot: %w", err)
	}
	return nil
}

// await notes that the copy is to be replaced by a snapshot.
func (l *lane) await(state subjects.State, reason string) {
	l.mu.Lock()
	wrong := l.wrong
	l.mu.Unlock()
	if wrong == "" { // else it knows better why
		l.fail(state, reason)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seeding, l.refused = true, false
}

// fetching shows how much of the snapshot is there.
func (l *lane) fetching(percent int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.state != subjects.StateJoining: // a diverged copy says why
	case percent < 100:
		l.reason = fmt.Sprintf("%d %% of its snapshot is here", percent)
	default:
		l.reason = "its snapshot is here, and is being put in place"
	}
}

// filling says what is missing of a copy that has nothing yet, "" if it has something
// to read.
func (l *lane) filling() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.seeding || l.db.Applied().Number > l.db.Incarnation() {
		return ""
	}
	return l.reason
}

// recover notes that the copy is good again.
func (l *lane) recover() {
	l.mu.Lock()
	l.state, l.reason, l.refused, l.seeding, l.missed, l.dropped = "", "", false, false, false, 0
	l.wrong, l.passed, l.suspects, l.asked = "", 0, 0, 0
	l.mu.Unlock()
	l.s.tell()
}

// damage notes that the file of the copy is damaged, if the error says so.
func (l *lane) damage(err error) bool {
	if !exec.Damaged(err) {
		return false
	}
	l.ruin(err.Error())
	return true
}

// ruin notes how the file of the copy is damaged.
func (l *lane) ruin(how string) {
	l.mu.Lock()
	l.damaged = true
	l.mu.Unlock()
	l.fail(subjects.StateDiverged, "its file is damaged: "+how)
}

// heals counts how often a copy was healed lately.
type heals struct {
	n    int
	last time.Time
}

// another says whether the copy may be healed again, and counts that.
func (h heals) another(now time.Time) (heals, bool) {
	if now.Sub(h.last) > healForget {
		h.n = 0
	}
	if h.n > 0 && now.Sub(h.last) < min(time.Second<<h.n, healMost) {
		return h, false
	}
	return heals{min(h.n+1, 20), now}, true
}

// heal sees to it that a copy which has diverged or is damaged is replaced, and says
// whether it does. One that needs it again and again gets it ever more seldom.
func (s *Slave) heal(l *lane, now time.Time) (begun bool) {
	l.mu.Lock()
	ill, damaged := l.state == subjects.StateDiverged && !l.refused && !l.seeding && !l.halted, l.damaged
	l.mu.Unlock()
	if !ill {
		return false
	}
	inc := l.db.Incarnation()
	s.mu.Lock()
	s.heals[inc], begun = s.heals[inc].another(now)
	if begun && damaged && inc != 0 {
		s.rebuild = append(s.rebuild, l.db.Name())
	}
	s.mu.Unlock()
	if begun {
		s.leave(errHeal)
	}
	return begun
}
