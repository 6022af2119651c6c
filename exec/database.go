package exec

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"sync"
	"sync/atomic"

	"github.com/snapdb/snapdb/exec/engine"
	"github.com/snapdb/snapdb/subjects"
)

// Position is a place in the history of one database: a number that orders and
// a chain that identifies.
type Position struct {
	Number uint64 // sequence in the log
	Chain  subjects.Chain
}

// Database is one replicated SQLite file. Reads run on any number of goroutines;
// groups and applies take turns on its single writer connection.
type Database struct {
	store  *Store
	name   string
	inc    uint64
	path   string
	engine string // digest, repeated in every body

	applied atomic.Pointer[Position]
	readers pool

	writing                          sync.Mutex // held from Begin to Commit or Rollback, and by Apply
	closed                           bool
	w                                *engine.Conn
	version                          uint32        // data_version when the writer last held the file
	buf                              []byte        // memory of the last body made, for the next
	body                             subjects.Body // memory of the last body applied, for the next
	setPos, setIDs                   *engine.Stmt
	ageIDs, pruneIDs, saveID, findID *engine.Stmt
}

// schema of snapdb's own tables in every database file. Clients can neither read
// nor write them, and checksums leave them out.
const schema = `
CREATE TABLE _snapdb_applied (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  format INTEGER NOT NULL,
  incarnation INTEGER NOT NULL,
  position INTEGER NOT NULL,
  chain TEXT NOT NULL
);
CREATE TABLE _snapdb_requests (
  id TEXT PRIMARY KEY,
  at INTEGER NOT NULL,
  position INTEGER,
  results BLOB,
  request INTEGER
) WITHOUT ROWID;
CREATE INDEX _snapdb_requests_at ON _snapdb_requests (at);
`

// formatVersion is written into every database file.
const formatVersion = 1

// errNotOurs says that a file is no database of snapdb or of another incarnation.
var errNotOurs = errors.New("not a database of this incarnation")

// createFile makes the file of a new database, durable and empty at position at.
func createFile(path string, inc uint64, at Position) error {
	c, err := engine.Open(path, engine.Options{})
	if err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	err = c.Exec("BEGIN IMMEDIATE; " + ownTables(inc, at) + "COMMIT; PRAGMA wal_checkpoint(TRUNCATE)")
	if err = errors.Join(err, c.Close()); err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	return nil
}

// ownTables makes snapdb's own tables, for a file of a position.
func ownTables(inc uint64, at Position) string {
	return fmt.Sprintf("%s INSERT INTO _snapdb_applied VALUES (1, %d, %d, %d, '%s'); ", schema, formatVersion, inc, at.Number, at.Chain)
}

// openDatabase opens an existing file. The error wraps errNotOurs, ErrNewer, or
// what SQLite said.
func (s *Store) openDatabase(name string, inc uint64) (*Database, error) {
	d := &Database{store: s, name: name, inc: inc, path: s.file(name), engine: s.engine}
	if _, err := os.Stat(d.path); err != nil {
		return nil, err
	}
	if err := d.open(); err != nil {
		if d.w != nil {
			err = errors.Join(err, d.w.Close())
		}
		return nil, fmt.Errorf("open database %s: %w", name, err)
	}
	d.readers.most = s.opts.Reads.Connections
	d.readers.open = func() (*reader, error) { return openReader(d.path, s.allowance) }
	d.readers.warn = func(err error) { s.log.Warn("read connection", "database", name, "error", err) }
	return d, nil
}

func (d *Database) open() error {
	var err error
	if d.w, err = engine.Open(d.path, engine.Options{}); err != nil {
		return err
	}
	pos, err := d.readPosition(d.w)
	if err != nil {
		return err
	}
	d.applied.Store(&pos)
	if err := d.addRequestColumn(); err != nil {
		return err
	}
	for sql, to := range map[string]**engine.Stmt{
		"UPDATE _snapdb_applied SET position=?, chain=?":                &d.setPos,
		"UPDATE _snapdb_requests SET position=? WHERE position IS NULL": &d.setIDs,
		findRequest:   &d.findID,
		ageRequests:   &d.ageIDs,
		pruneRequests: &d.pruneIDs,
		keepRequest:   &d.saveID,
	} {
		if *to, _, err = d.w.Prepare(sql, 0, engine.GuardNone); err != nil {
			return fmt.Errorf("prepare %q: %w", sql, err)
		}
	}
	d.version, err = d.w.DataVersion()
	return err
}

// addRequestColumn brings a file up to date that was made before the digest of a
// request was kept with its answer.
func (d *Database) addRequestColumn() error {
	row, err := queryRow(d.w, "SELECT 1 FROM pragma_table_info('_snapdb_requests') WHERE name = 'request'")
	if err == nil && row == nil {
		err = d.w.Exec("ALTER TABLE _snapdb_requests ADD COLUMN request INTEGER")
	}
	if err != nil {
		return fmt.Errorf("look for the digests of requests: %w", err)
	}
	return nil
}

// readPosition reads the applied row and checks that the file is what the
// catalog says it is.
func (d *Database) readPosition(c *engine.Conn) (Position, error) {
	var pos Position
	row, err := queryRow(c, "SELECT format, incarnation, position, chain FROM _snapdb_applied")
	if err != nil {
		var ee *engine.Error
		if errors.As(err, &ee) && !ee.Environmental() {
			return pos, fmt.Errorf("%w: %w", errNotOurs, err)
		}
		return pos, err
	}
	if row == nil {
		return pos, fmt.Errorf("%w: it has no position", errNotOurs)
	}
	if f := row[0].Int(); f > formatVersion {
		return pos, Newer(int(f), formatVersion)
	}
	if inc := uint64(row[1].Int()); inc != d.inc {
		return pos, fmt.Errorf("%w: the file is incarnation %d, the catalog says %d", errNotOurs, inc, d.inc)
	}
	pos.Number = uint64(row[2].Int())
	if err := pos.Chain.UnmarshalText(row[3].Bytes()); err != nil {
		return pos, fmt.Errorf("%w: chain: %w", errNotOurs, err)
	}
	return pos, nil
}

// Name is the name of the database, in the case it was created with.
func (d *Database) Name() string { return d.name }

// Incarnation is the position of the CREATE DATABASE that made it; 0 for the
// catalog.
func (d *Database) Incarnation() uint64 { return d.inc }

// Applied is the position up to which the log is applied and committed.
func (d *Database) Applied() Position { return *d.applied.Load() }

// Head is the applied position as it travels.
func (d *Database) Head() subjects.Head {
	p := d.Applied()
	return subjects.Head{Incarnation: d.inc, Position: p.Number, Chain: p.Chain.String()}
}

// Size is that of the file in bytes, without what only the WAL has yet.
func (d *Database) Size() (int64, error) {
	info, err := os.Stat(d.path)
	if err != nil {
		return 0, fmt.Errorf("size of database %s: %w", d.name, err)
	}
	return info.Size(), nil
}

// Interrupt stops the statement that the writer is executing, if any. It may be
// called from any goroutine, also after Close.
func (d *Database) Interrupt() { d.w.Interrupt() }

// Writer is the connection on which statements of a group are prepared. It
// belongs to whoever has an open group.
func (d *Database) Writer() *engine.Conn { return d.w }

// begin opens the SQLite transaction of a group and looks for foreign writes.
func (d *Database) begin() error {
	if d.closed {
		return fmt.Errorf("database %s: %w", d.name, ErrClosed)
	}
	d.w.BeginRequest()
	if err := d.afterFault(); err != nil {
		return err
	}
	if err := d.w.Begin(); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	v, err := d.w.DataVersion()
	if err == nil && v != d.version {
		err = fmt.Errorf("database %s: %w", d.name, ErrForeignWrite)
	}
	if err != nil {
		return errors.Join(err, d.w.Rollback())
	}
	return nil
}

// commit writes the applied position and commits.
func (d *Database) commit(pos Position, ids bool) error {
	d.w.BeginRequest() // a limit of some request must not reach its group's commit
	d.w.SetClock(0)
	number := subjects.IntegerValue(int64(pos.Number))
	if ids {
		if err := run(d.setIDs, number); err != nil {
			return fmt.Errorf("store request positions: %w", err)
		}
	}
	if err := run(d.setPos, number, subjects.TextValue(pos.Chain.String())); err != nil {
		return fmt.Errorf("store position: %w", err)
	}
	if err := d.w.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	d.applied.Store(&pos)
	d.readers.outdate()
	return nil
}

func (d *Database) rollback(analyzed bool) error {
	d.w.BeginRequest()
	d.w.SetClock(0)
	var err error
	if !d.w.Autocommit() {
		err = d.w.Rollback()
	}
	if analyzed {
		err = errors.Join(err, d.w.ReloadStatistics())
	}
	return errors.Join(err, d.afterFault())
}

// afterFault keeps an error of the disk, a full one for example, from being taken
// for the write of another program: it changes the version of the content too.
func (d *Database) afterFault() error {
	if !d.w.Faulted() {
		return nil
	}
	v, err := d.w.DataVersion()
	if err != nil {
		return fmt.Errorf("look at the file after a fault: %w", err)
	}
	d.version = v
	d.w.ResetFaulted()
	return nil
}

// Repeat-safe ids are kept for an hour. Their age is not read off the clock, or one
// that is set forward would forget them all at once: the row without an id has a
// clock of its own, at, and the clock's time when it was last set, position. It
// follows that from write to write, by at most a minute at a time. All of it is in
// the log, and so the same on every node.
const (
	ageRequests = `INSERT INTO _snapdb_requests (id, at, position) VALUES ('', ?1, ?1)
 ON CONFLICT (id) DO UPDATE SET at = at + max(0, min(?1 - position, 60000)), position = ?1`
	pruneRequests = "DELETE FROM _snapdb_requests WHERE at < (SELECT at FROM _snapdb_requests WHERE id = '') - 3600000"
	keepRequest   = "INSERT INTO _snapdb_requests (id, at, results, request) SELECT ?, at, ?, ? FROM _snapdb_requests WHERE id = ''"
	findRequest   = "SELECT position, results, request FROM _snapdb_requests WHERE id=?"
)

// maxSavedResults is the size of an answer that is kept for a repeated request. Of a
// larger one everything but the rows is kept, and it says so.
const maxSavedResults = 1 << 20

// saveRequest remembers the answer of a request, and what was asked.
func (d *Database) saveRequest(t *subjects.Txn, results []byte) error {
	if len(results) > maxSavedResults {
		var err error
		if results, err = withoutRows(results); err != nil {
			return err
		}
	}
	if err := run(d.ageIDs, subjects.IntegerValue(t.Now)); err != nil {
		return err
	}
	if err := run(d.pruneIDs); err != nil {
		return err
	}
	return run(d.saveID, subjects.TextValue(t.ID), subjects.BlobValue(results), subjects.IntegerValue(int64(t.Request)))
}

// withoutRows makes results say that there were rows instead of having them. If even
// that is too large, the last ones are missing as well.
func withoutRows(results []byte) ([]byte, error) {
	var resp subjects.Response
	if err := subjects.DecodeResponse(subjects.AppendResponse(nil, results, &subjects.Response{}), &resp); err != nil {
		return nil, fmt.Errorf("read own results: %w", err)
	}
	var out subjects.Results
	for i := range resp.Results {
		r := &resp.Results[i]
		out.Begin(r.Columns)
		full := out.Len() > maxSavedResults
		if r.Truncated || len(r.Rows) > 0 || full {
			out.SetTruncated()
		}
		out.End(r.Types, r.Changes, r.LastInsertID)
		if full {
			break
		}
	}
	return out.Bytes(), nil
}

// lookupRequest finds what was answered to a request with the id of t. That must
// have been the same request; a file or a log of before that was kept does not say,
// and then it is believed.
func (d *Database) lookupRequest(t *subjects.Txn, out *subjects.Results) (position uint64, found bool, err error) {
	defer d.findID.Reset()
	if err := d.findID.Bind([]subjects.Value{subjects.TextValue(t.ID)}); err != nil {
		return 0, false, err
	}
	found, err = d.findID.Step()
	if err != nil || !found {
		return 0, false, err
	}
	if was := uint64(d.findID.Column(2).Int()); was != 0 && was != t.Request {
		return 0, true, subjects.Errorf(subjects.CodeBadRequest, "the id %q was used for another request on this database within the last hour; nothing was executed: repeat that one unchanged, or choose a new id", t.ID)
	}
	out.Append(d.findID.Column(1).Bytes())
	return uint64(d.findID.Column(0).Int()), true, nil
}

// Close waits for reads in flight, interrupting them when ctx ends, and closes
// the file. Groups must have ended.
func (d *Database) Close(ctx context.Context) error {
	err := d.readers.close(ctx)
	d.writing.Lock()
	defer d.writing.Unlock()
	if d.closed {
		return err
	}
	d.closed = true
	for _, st := range []*engine.Stmt{d.setPos, d.setIDs, d.ageIDs, d.pruneIDs, d.saveID, d.findID} {
		if st != nil {
			st.Close()
		}
	}
	return errors.Join(err, d.w.Close())
}

// run executes one of snapdb's own statements.
func run(st *engine.Stmt, args ...subjects.Value) error {
	defer st.Reset()
	if err := st.Bind(args); err != nil {
		return err
	}
	_, err := st.Step()
	return err
}

// queryRow returns the first row of one of snapdb's own queries, nil if none.
func queryRow(c *engine.Conn, sql string, args ...subjects.Value) ([]subjects.Value, error) {
	rows, err := queryRows(c, sql, 1, args...)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	return rows[0], nil
}

// queryRows returns up to limit rows of one of snapdb's own queries.
func queryRows(c *engine.Conn, sql string, limit int, args ...subjects.Value) (rows [][]subjects.Value, err error) {
	st, _, err := c.Prepare(sql, 0, engine.GuardNone)
	if err != nil {
		return nil, err
	}
	defer st.Close()
	if err := st.Bind(args); err != nil {
		return nil, err
	}
	for len(rows) < limit {
		more, err := st.Step()
		if err != nil || !more {
			return rows, err
		}
		row := make([]subjects.Value, st.ColumnCount())
		for i := range row {
			row[i] = st.Column(i).Clone()
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func realBits(f float64) uint64 { return math.Float64bits(f) }
