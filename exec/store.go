package exec

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/snapdb/snapdb/exec/engine"
	"github.com/snapdb/snapdb/subjects"
)

// Role says what a data directory is for.
type Role string

// The roles.
const (
	RoleMaster Role = "master"
	RoleSlave  Role = "slave"
)

// Options of a Store.
type Options struct {
	Role Role
	// ID that the directory must have, if it has one; "": any.
	ID string
	// Spill makes room for a body too large for a message. Needed on a master.
	Spill func() (Spill, error)
	// Reads bound what reads may take of the machine.
	Reads Reads
	// Logger gets what the operator should know. Default: slog.Default().
	Logger *slog.Logger
}

// Identity is what a data directory says of itself, in node.json. Its format is that of
// everything in the directory that names none of its own.
type Identity struct {
	Format  int    `json:"format"`
	Role    Role   `json:"role"`
	ID      string `json:"id,omitempty"`
	Cluster string `json:"cluster,omitempty"` // "" until the node has joined one
}

// Names in a data directory.
const (
	identityFile = "node.json"
	lockFile     = "lock"
	trashDir     = "trash"
	fileSuffix   = ".db"
)

// trashKept is how many files set aside are kept; older ones are removed.
const trashKept = 16

// dropPatience is how long running reads may go on when their database is
// dropped, before they are interrupted.
const dropPatience = 5 * time.Second

// Store is the data directory of one node with all its databases. One process
// at a time holds it.
type Store struct {
	dir    string
	opts   Options
	log    *slog.Logger
	engine string
	lock   *os.File

	allowance *engine.Allowance // of all read connections

	mu       sync.RWMutex // guards identity and databases
	identity Identity
	open     map[string]*Database // by lower-case name
	catalog  *Catalog
}

// Open takes the data directory, making it if needed. It fails with an error
// that wraps ErrInUse, ErrNewer, ErrRole, ErrNodeID or ErrCatalog.
func Open(dir string, o Options) (*Store, error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	s := &Store{dir: dir, opts: o, log: o.Logger, open: map[string]*Database{}}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	lock, err := lockDir(filepath.Join(dir, lockFile))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	s.lock = lock
	if err := s.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", dir, err), s.Close())
	}
	return s, nil
}

// Lock holds a data directory without opening it, so that no store can be open on it
// until release. The error wraps ErrInUse if one is.
func Lock(dir string) (release func() error, err error) {
	lock, err := lockDir(filepath.Join(dir, lockFile))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return func() error { return unlockDir(lock) }, nil
}

func (s *Store) load() error {
	if err := s.loadIdentity(); err != nil {
		return err
	}
	if err := s.allow(&s.opts.Reads); err != nil {
		return err
	}
	var err error
	if s.engine, err = engine.Digest(); err != nil {
		return fmt.Errorf("digest of the SQL engine: %w", err)
	}
	if err := s.dropImages(); err != nil {
		return err
	}
	if s.catalog, err = s.openCatalog(); err != nil {
		return err
	}
	entries, err := s.catalog.entries()
	if err != nil {
		return err
	}
	if err := s.setAsideUnknown(entries); err != nil {
		return err
	}
	for _, e := range entries {
		d, err := s.openOrHeal(e)
		if err != nil {
			return err
		}
		s.open[strings.ToLower(e.name)] = d
	}
	return nil
}

// loadIdentity reads node.json, or writes it in a new directory.
func (s *Store) loadIdentity() error {
	path := filepath.Join(s.dir, identityFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s.saveIdentity(Identity{Format: formatVersion, Role: s.opts.Role})
	}
	if err != nil {
		return fmt.Errorf("read identity: %w", err)
	}
	var id Identity
	if err := json.Unmarshal(data, &id); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrIdentity, path, subjects.PlainJSON(data, err))
	}
	switch {
	case id.Format > formatVersion:
		return Newer(id.Format, formatVersion)
	case id.Format < 1:
		return fmt.Errorf("%w: %s names no format", ErrIdentity, path)
	case id.Role != s.opts.Role:
		return fmt.Errorf("%w: it is a %s's, not a %s's: give another --data", ErrRole, id.Role, s.opts.Role)
	case s.opts.ID != "" && id.ID != "" && id.ID != s.opts.ID:
		return fmt.Errorf("%w: it is %s's, not %s's: give another --data or --id %s", ErrNodeID, id.ID, s.opts.ID, id.ID)
	}
	s.identity = id
	return nil
}

func (s *Store) saveIdentity(id Identity) error {
	data, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return fmt.Errorf("encode identity: %w", err)
	}
	if err := WriteFile(filepath.Join(s.dir, identityFile), append(data, '\n')); err != nil {
		return fmt.Errorf("save identity: %w", err)
	}
	s.identity = id
	return nil
}

// SetID gives a new directory its node id, for ever.
func (s *Store) SetID(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.identity.ID == id {
		return nil
	}
	if s.identity.ID != "" {
		return fmt.Errorf("%w: it is %s's", ErrNodeID, s.identity.ID)
	}
	next := s.identity
	next.ID = id
	return s.saveIdentity(next)
}

// SetCluster binds a new directory to a cluster, for ever. The error wraps
// ErrCluster if it already belongs to another.
func (s *Store) SetCluster(cluster string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.identity.Cluster {
	case cluster:
		return nil
	case "":
		next := s.identity
		next.Cluster = cluster
		return s.saveIdentity(next)
	}
	return fmt.Errorf("%w: %s, not %s", ErrCluster, s.identity.Cluster, cluster)
}

// Identity is what the directory says of itself.
func (s *Store) Identity() Identity {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.identity
}

// Dir is the data directory.
func (s *Store) Dir() string { return s.dir }

// Engine is the digest of the SQL engine of this process.
func (s *Store) Engine() string { return s.engine }

// Catalog is the database that lists the others.
func (s *Store) Catalog() *Catalog { return s.catalog }

// Database finds a database by name, whatever its case. The error is a
// *subjects.Error of code no_such_database or no_database.
func (s *Store) Database(name string) (*Database, error) {
	s.mu.RLock()
	d := s.open[strings.ToLower(name)]
	s.mu.RUnlock()
	if d == nil {
		return nil, ErrNoSuchDatabase(name)
	}
	return d, nil
}

// Databases are all of them, in order of their names, without the catalog.
func (s *Store) Databases() []*Database {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := make([]*Database, 0, len(s.open))
	for _, d := range s.open {
		all = append(all, d)
	}
	sort.Slice(all, func(i, j int) bool { return strings.ToLower(all[i].name) < strings.ToLower(all[j].name) })
	return all
}

// Heads are the applied positions of all databases, the catalog included.
func (s *Store) Heads() map[string]subjects.Head {
	heads := map[string]subjects.Head{subjects.Catalog: s.catalog.Head()}
	for _, d := range s.Databases() {
		heads[d.name] = d.Head()
	}
	return heads
}

// Close closes all databases, interrupting reads in flight, and gives the
// directory back. Groups must have ended.
func (s *Store) Close() error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // whoever still reads is interrupted
	var errs []error
	for _, d := range s.Databases() {
		errs = append(errs, d.Close(ctx))
	}
	if s.catalog != nil {
		errs = append(errs, s.catalog.Close(ctx))
	}
	errs = append(errs, unlockDir(s.lock))
	return errors.Join(errs...)
}

func (s *Store) file(name string) string { return filepath.Join(s.dir, name+fileSuffix) }

// openOrHeal opens a database of the catalog. A file that is missing, or that is
// not this database, is replaced by an empty one at its creation: the log holds
// everything since then.
func (s *Store) openOrHeal(e entry) (*Database, error) {
	d, err := s.openDatabase(e.name, e.inc)
	switch {
	case err == nil:
		return d, nil
	case errors.Is(err, fs.ErrNotExist):
		s.log.Warn("database file is missing, rebuilding it from the log", "database", e.name)
	case errors.Is(err, errNotOurs), Damaged(err):
		s.log.Warn("database file is unusable, rebuilding it from the log", "database", e.name, "error", err)
		if err := s.setAside(e.name); err != nil {
			return nil, err
		}
	default:
		return nil, err
	}
	return s.createDatabase(e)
}

// createDatabase makes an empty database at the position of its creation. A file
// in its way is set aside.
func (s *Store) createDatabase(e entry) (*Database, error) {
	if err := s.setAside(e.name); err != nil {
		return nil, err
	}
	if err := createFile(s.file(e.name), e.inc, Position{e.inc, subjects.FirstChain(e.inc)}); err != nil {
		return nil, err
	}
	if err := SyncDir(s.dir); err != nil {
		return nil, err
	}
	return s.openDatabase(e.name, e.inc)
}

// add makes a database known.
func (s *Store) add(d *Database) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[strings.ToLower(d.name)] = d
}

// remove forgets a database, closes it and sets its file aside.
func (s *Store) remove(d *Database) error {
	if err := s.close(d); err != nil {
		return err
	}
	return s.setAside(d.name)
}

// close forgets a database and closes it.
func (s *Store) close(d *Database) error {
	s.mu.Lock()
	delete(s.open, strings.ToLower(d.name))
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), dropPatience)
	defer cancel()
	if err := d.Close(ctx); err != nil {
		return fmt.Errorf("close database %s: %w", d.name, err)
	}
	return nil
}

// Rebuild sets the file of a database aside and puts an empty one in its place,
// to which the log can be applied from its creation on. A file that cannot be set
// aside goes on being the database's.
func (s *Store) Rebuild(d *Database) error {
	if err := s.close(d); err != nil {
		return err
	}
	if err := s.setAside(d.name); err != nil {
		old, again := s.openDatabase(d.name, d.inc)
		if again != nil {
			return errors.Join(err, again)
		}
		s.add(old)
		return err
	}
	empty, err := s.createDatabase(entry{d.name, d.inc})
	if err != nil {
		return fmt.Errorf("make database %s again: %w", d.name, err)
	}
	s.add(empty)
	return nil
}

// setAsideUnknown moves database files that the catalog does not list out of
// the way: left-overs of a drop or a create that a crash cut short, or files
// somebody put there.
func (s *Store) setAsideUnknown(entries []entry) error {
	known := map[string]bool{subjects.Catalog: true}
	for _, e := range entries {
		known[e.name] = true
	}
	files, err := filepath.Glob(filepath.Join(s.dir, "*"+fileSuffix))
	if err != nil {
		return fmt.Errorf("list databases: %w", err)
	}
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), fileSuffix)
		if known[name] {
			continue
		}
		s.log.Warn("setting aside a file that is no database of this node", "file", f)
		if err := s.setAside(name); err != nil {
			return err
		}
	}
	return nil
}

// setAside moves the file of a database, if there is one, into the trash and
// keeps the trash bounded.
func (s *Store) setAside(name string) error {
	trash := filepath.Join(s.dir, trashDir)
	to := filepath.Join(trash, trashName(name))
	moved := false
	for _, suffix := range []string{"", "-wal", "-shm"} {
		from := s.file(name) + suffix
		if _, err := os.Lstat(from); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := os.MkdirAll(trash, 0o700); err != nil {
			return fmt.Errorf("make trash: %w", err)
		}
		if err := os.Rename(from, to+suffix); err != nil {
			return fmt.Errorf("set aside: %w", err)
		}
		moved = true
	}
	if !moved {
		return nil
	}
	return s.emptyTrash(trash)
}

// trashName is the name that the file of a database gets in the trash.
func trashName(name string) string {
	return time.Now().UTC().Format("20060102T150405.000000000") + "-" + name + fileSuffix
}

func (s *Store) emptyTrash(trash string) error {
	files, err := filepath.Glob(filepath.Join(trash, "*"+fileSuffix))
	if err != nil {
		return fmt.Errorf("list trash: %w", err)
	}
	sort.Strings(files) // the stamp comes first: oldest first
	for len(files) > trashKept {
		for _, suffix := range []string{"", "-wal", "-shm"} {
			if err := os.Remove(files[0] + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("empty trash: %w", err)
			}
		}
		files = files[1:]
	}
	return nil
}

// WriteFile replaces a file so that a crash leaves the old or the new one.
func WriteFile(path string, data []byte) error {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}
