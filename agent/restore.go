package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/snapdb/snapdb/agent/snapshot"
	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// restoreSnapshots brings databases of the master that the log does not continue any
// more, because their file was lost, to their snapshots.
func (m *Master) restoreSnapshots(first uint64) error {
	for _, d := range m.store.Databases() {
		snap, ok := m.keeper.snaps.Newest(d.Incarnation())
		if !ok || d.Applied().Number+1 >= first || snap.Position <= d.Applied().Number {
			continue
		}
		if err := m.restoreSnapshot(d, snap); err != nil {
			return fmt.Errorf("restore %s from its snapshot: %w", d.Name(), err)
		}
		m.log.Warn("the log does not go back to where the database is; it was restored from its snapshot", "database", d.Name(), "position", snap.Position)
	}
	return nil
}

func (m *Master) restoreSnapshot(d *exec.Database, snap subjects.Snapshot) error {
	path := filepath.Join(m.opts.Dir, "snapshots", "restored"+snapshot.CopySuffix)
	if err := m.keeper.snaps.File(snap, path); err != nil {
		return err
	}
	return errors.Join(replace(d, snap, path), os.Remove(path))
}

// replace makes the content of a database that of a snapshot, unpacked at path.
func replace(d *exec.Database, snap subjects.Snapshot, path string) error {
	at, err := position(snap.Head)
	if err != nil {
		return err
	}
	return d.Replace(path, at, nil)
}

// position is where a head is, as it has travelled.
func position(h subjects.Head) (exec.Position, error) {
	at := exec.Position{Number: h.Position}
	if err := at.Chain.UnmarshalText([]byte(h.Chain)); err != nil {
		return at, fmt.Errorf("position %d: %w", h.Position, err)
	}
	return at, nil
}

// remake makes a database of this master anew whose content turned out not to be the
// log's, or whose file is damaged: from its snapshot and the log up to a position, or
// from the log alone, which begins at first. The old file is kept aside. Nobody reads
// or writes yet.
func (m *Master) remake(ctx context.Context, d *exec.Database, first, to uint64) (*exec.Database, error) {
	snap, ok := m.keeper.snaps.Newest(d.Incarnation())
	if !ok && first > d.Incarnation()+1 {
		return d, errors.New("it has no snapshot, and the log does not go back to its beginning")
	}
	if err := m.store.Rebuild(d); err != nil {
		return d, err
	}
	d, err := m.store.Database(d.Name())
	if err == nil && ok {
		err = m.restoreSnapshot(d, snap)
	}
	if err == nil {
		err = m.replayRange(ctx, d.Applied().Number+1, to, func(db string) bool { return db == d.Name() })
	}
	return d, err
}
