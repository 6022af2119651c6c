package exec

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/snapdb/snapdb/exec/engine"
	"github.com/snapdb/snapdb/subjects"
)

// ErrBadCopy: a file is no copy of the database and position that it should be, or
// is damaged.
var ErrBadCopy = errors.New("not a sound copy of the database")

// Copy makes a new file that is the database as it is now, position included, and
// checks it. Neither reads nor writes wait for it. The file is not synced. Nothing is
// left of it after an error, which wraps ErrBadCopy if the database is damaged.
func (d *Database) Copy(ctx context.Context, path string) (Position, error) {
	return d.copyTo(ctx, path, sound)
}

// copyTo makes a copy that passes a check.
func (d *Database) copyTo(ctx context.Context, path string, check func(context.Context, *engine.Conn) error) (at Position, err error) {
	r, err := openReader(d.path, nil)
	if err != nil {
		return at, fmt.Errorf("copy %s: %w", d.name, err)
	}
	defer func() { err = errors.Join(err, r.close()) }()
	if err := r.renew(Position{}); err != nil {
		return at, fmt.Errorf("copy %s: %w", d.name, err)
	}
	dst, err := engine.Open(path, engine.Options{Scratch: true})
	if err != nil {
		return at, fmt.Errorf("copy %s: %w", d.name, err)
	}
	err = r.CopyTo(dst, func(int, int) error { return context.Cause(ctx) })
	if err == nil {
		err = check(ctx, dst)
	}
	if err == nil {
		err = context.Cause(ctx) // which came too late to stop anything
	}
	if err = errors.Join(err, dst.Close()); err != nil {
		return at, errors.Join(fmt.Errorf("copy %s: %w", d.name, err), os.Remove(path))
	}
	return r.at, nil
}

// sound looks for damage.
func sound(ctx context.Context, c *engine.Conn) error {
	stop := context.AfterFunc(ctx, c.Interrupt)
	defer stop()
	if err := c.LimitCache(); err != nil {
		return fmt.Errorf("%w: %w", ErrBadCopy, err)
	}
	found, err := c.QuickCheck()
	switch {
	case err != nil && ctx.Err() == nil:
		return fmt.Errorf("%w: %w", ErrBadCopy, err)
	case err != nil:
		return context.Cause(ctx)
	case found != "":
		return fmt.Errorf("%w: %s", ErrBadCopy, found)
	}
	return nil
}

// Replace makes the content of a file that Copy made that of this database, in one
// transaction: who reads sees the old content, and then the new. The file must be of
// this incarnation and of position at, or the error wraps ErrBadCopy and the database
// stays what it was. progress, which may be nil, is called now and then, with zeros when
// nothing is known; its error gives it up.
func (d *Database) Replace(path string, at Position, progress func(done, total int) error) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("replace %s: %w", d.name, err)
		}
	}()
	if progress == nil {
		progress = func(int, int) error { return nil }
	}
	d.writing.Lock()
	defer d.writing.Unlock()
	return d.replace(path, at, progress)
}

// replace is Replace for who holds the writer.
func (d *Database) replace(path string, at Position, progress func(done, total int) error) (err error) {
	src, err := d.openCopy(path, at)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	if d.closed {
		return ErrClosed
	}
	// With a WAL as large as the database its commit takes long, and a checkpoint.
	var one sync.Mutex
	step := func(done, total int) error {
		one.Lock()
		defer one.Unlock()
		return progress(done, total)
	}
	defer repeat(func() { _ = step(0, 0) })()
	d.w.BeginRequest()
	if err := src.CopyTo(d.w, step); err != nil {
		return errors.Join(err, d.afterFault())
	}
	d.applied.Store(&at)
	d.readers.outdate()
	// What another program wrote into the old content is gone.
	if d.version, err = d.w.DataVersion(); err != nil {
		return err
	}
	// As large as the database, the WAL would slow every read; who still reads the
	// old content keeps it until a later checkpoint.
	_, _, _, err = d.w.Checkpoint(true)
	return err
}

// repeat calls f now and then, in a goroutine of its own, until it is stopped.
func repeat(f func()) (stop func()) {
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(repeatEvery)
		defer tick.Stop()
		for {
			select {
			case <-end:
				return
			case <-tick.C:
				f()
			}
		}
	}()
	return func() {
		close(end)
		<-ended
	}
}

// repeatEvery is how often something is said that takes long in one step.
const repeatEvery = 200 * time.Millisecond

// openCopy opens a file that must be a copy of this database at a position.
func (d *Database) openCopy(path string, at Position) (*engine.Conn, error) {
	// Not read-only: that would leave files beside it. Nor with a WAL that is synced:
	// the whole file would be, which is thrown away.
	c, err := engine.Open(path, engine.Options{Scratch: true})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadCopy, err)
	}
	has, err := d.readPosition(c)
	if err == nil {
		err = c.LimitCache()
	}
	if err == nil && has != at {
		err = fmt.Errorf("it is of position %d (%s), not %d (%s)", has.Number, has.Chain, at.Number, at.Chain)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", ErrBadCopy, err), c.Close())
	}
	return c, nil
}

// Install puts a file that Copy made in the place of a database's file: faster than
// [Database.Replace], but who reads is cut off, and who has the old file open does not
// see the new one. It is for a database that has nothing yet. The file is used up. Of a
// file that is not of this incarnation and position at, the error wraps ErrBadCopy, and
// the database stays what it was.
func (s *Store) Install(d *Database, path string, at Position) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("install %s: %w", d.name, err)
		}
	}()
	c, err := d.openCopy(path, at)
	if err == nil {
		err = c.Close()
	}
	if err == nil {
		err = syncFile(path)
	}
	if err != nil {
		return err
	}
	if err := s.close(d); err != nil {
		return err
	}
	// A WAL that outlives its file would be taken for the new one's.
	for _, suffix := range []string{"-wal", "-shm"} {
		if rerr := os.Remove(d.path + suffix); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
	}
	if err == nil {
		err = os.Rename(path, d.path)
	}
	if err == nil {
		err = SyncDir(s.dir)
	}
	again, oerr := s.openDatabase(d.name, d.inc)
	if oerr != nil {
		return errors.Join(err, oerr)
	}
	s.add(again)
	return err
}

func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Sync makes what is committed durable, so that the log need not have it any more.
func (d *Database) Sync() error {
	d.writing.Lock()
	defer d.writing.Unlock()
	if d.closed {
		return ErrClosed
	}
	// It syncs the WAL first, whatever it can copy from it then.
	if _, _, _, err := d.w.Checkpoint(false); err != nil {
		return fmt.Errorf("sync %s: %w", d.name, err)
	}
	return nil
}

// KeepAside puts a copy of a database that is about to be replaced into the trash.
func (s *Store) KeepAside(ctx context.Context, d *Database) error {
	trash := filepath.Join(s.dir, trashDir)
	if err := os.MkdirAll(trash, 0o700); err != nil {
		return fmt.Errorf("make trash: %w", err)
	}
	// Damage is why it may be kept.
	any := func(context.Context, *engine.Conn) error { return nil }
	if _, err := d.copyTo(ctx, filepath.Join(trash, trashName(d.name)), any); err != nil {
		return fmt.Errorf("keep aside: %w", err)
	}
	return s.emptyTrash(trash)
}

// ReplaceCatalog makes the list of databases that of a position, as the master had
// it there. Databases that are not in it are set aside; those that are new are empty
// and at their creation, until they are replaced or the log is applied.
func (s *Store) ReplaceCatalog(list []subjects.CatalogEntry, at Position) error {
	c := s.catalog
	c.writing.Lock()
	defer c.writing.Unlock()
	listed := map[uint64]bool{}
	for _, e := range list {
		if err := subjects.CheckDatabase(e.Name); err != nil {
			return fmt.Errorf("replace catalog: %w", err)
		}
		listed[e.Incarnation] = true
	}
	for _, d := range s.Databases() {
		if listed[d.inc] {
			delete(listed, d.inc) // it is there
			continue
		}
		if err := s.remove(d); err != nil {
			return fmt.Errorf("replace catalog: %w", err)
		}
	}
	var made []*Database
	for _, e := range list {
		if !listed[e.Incarnation] {
			continue
		}
		d, err := s.createDatabase(entry{e.Name, e.Incarnation})
		if err != nil {
			return errors.Join(fmt.Errorf("replace catalog: %w", err), closeAll(made))
		}
		made = append(made, d)
	}
	if err := c.rewrite(list, at); err != nil {
		return errors.Join(fmt.Errorf("replace catalog: %w", err), closeAll(made))
	}
	for _, d := range made {
		s.add(d)
	}
	return nil
}

// rewrite replaces all rows and the position together.
func (c *Catalog) rewrite(list []subjects.CatalogEntry, at Position) error {
	if err := c.begin(); err != nil {
		return err
	}
	err := c.write("DELETE FROM _snapdb_databases")
	for _, e := range list {
		if err == nil {
			err = c.write("INSERT INTO _snapdb_databases (incarnation, name, created) VALUES (?,?,?)",
				subjects.IntegerValue(int64(e.Incarnation)), subjects.TextValue(e.Name), subjects.IntegerValue(e.Created))
		}
	}
	if err == nil {
		err = c.commit(at, false)
	}
	if err != nil {
		err = errors.Join(err, c.rollback(false))
	}
	return err
}

// List is the catalog's own content, to be given to [Store.ReplaceCatalog], and the
// position at which it is that.
func (c *Catalog) List() ([]subjects.CatalogEntry, Position, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.closed {
		return nil, Position{}, ErrClosed
	}
	rows, err := queryRows(c.w, "SELECT name, incarnation, created FROM _snapdb_databases ORDER BY incarnation", maxDatabases)
	if err != nil {
		return nil, Position{}, fmt.Errorf("read catalog: %w", err)
	}
	list := make([]subjects.CatalogEntry, len(rows))
	for i, r := range rows {
		list[i] = subjects.CatalogEntry{Name: string(r[0].Bytes()), Incarnation: uint64(r[1].Int()), Created: r[2].Int()}
	}
	return list, c.Applied(), nil
}

func closeAll(dbs []*Database) error {
	var errs []error
	for _, d := range dbs {
		errs = append(errs, d.Close(context.Background()))
	}
	return errors.Join(errs...)
}
