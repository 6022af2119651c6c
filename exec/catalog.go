package exec

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/snapdb/snapdb/exec/engine"
	"github.com/snapdb/snapdb/subjects"
)

// Catalog lists the databases of a node: a database of its own with its own
// history, whose messages are CREATE DATABASE and DROP DATABASE. Beside that it
// keeps what only this node knows: on the master, the slaves that have joined.
type Catalog struct {
	*Database
}

// entry is one live database.
type entry struct {
	name string
	inc  uint64
}

// catalogSchema makes the catalog's tables. Those that were dropped were once kept in
// the list, with the position at which they were; now they go, or a node that got the
// list from the master would have another than one that has executed everything.
const catalogSchema = `
CREATE TABLE IF NOT EXISTS _snapdb_databases (
  incarnation INTEGER PRIMARY KEY,
  name TEXT NOT NULL COLLATE NOCASE,
  created INTEGER NOT NULL,
  dropped INTEGER
);
DELETE FROM _snapdb_databases WHERE dropped IS NOT NULL;
CREATE TABLE IF NOT EXISTS _snapdb_nodes (id TEXT PRIMARY KEY, joined INTEGER NOT NULL) WITHOUT ROWID;
`

// openCatalog opens the catalog, or makes it in a new directory.
func (s *Store) openCatalog() (*Catalog, error) {
	d, err := s.openSound(subjects.Catalog, 0)
	if errors.Is(err, ErrBadCopy) {
		if s.opts.Role != RoleSlave {
			return nil, fmt.Errorf("%w: %w", ErrCatalog, err)
		}
		s.log.Warn("the list of databases is damaged; it will come from the master again, and the databases with it", "error", err)
		if err := s.setAside(subjects.Catalog); err != nil {
			return nil, err
		}
		err = fs.ErrNotExist
	}
	if errors.Is(err, fs.ErrNotExist) {
		if err := createFile(s.file(subjects.Catalog), 0, Position{Chain: subjects.FirstChain(0)}); err != nil {
			return nil, err
		}
		d, err = s.openDatabase(subjects.Catalog, 0)
	}
	if err != nil {
		return nil, err
	}
	if err := d.w.Exec(catalogSchema); err != nil {
		return nil, errors.Join(fmt.Errorf("catalog schema: %w", err), d.Close(context.Background()))
	}
	return &Catalog{d}, nil
}

// openSound opens a small file and reads all of it. The error wraps ErrBadCopy if it
// is damaged.
func (s *Store) openSound(name string, inc uint64) (*Database, error) {
	d, err := s.openDatabase(name, inc)
	if Damaged(err) || errors.Is(err, errNotOurs) {
		return nil, fmt.Errorf("%w: %w", ErrBadCopy, err)
	}
	if err != nil {
		return nil, err
	}
	if err := sound(context.Background(), d.w); err != nil {
		return nil, errors.Join(err, d.Close(context.Background()))
	}
	return d, nil
}

// entries are the live databases.
func (c *Catalog) entries() ([]entry, error) {
	rows, err := queryRows(c.w, "SELECT name, incarnation FROM _snapdb_databases", maxDatabases)
	if err != nil {
		return nil, fmt.Errorf("read catalog: %w", err)
	}
	list := make([]entry, len(rows))
	for i, r := range rows {
		list[i] = entry{string(r[0].Bytes()), uint64(r[1].Int())}
	}
	return list, nil
}

// maxDatabases bounds the databases of a cluster: each keeps a connection and a
// file open.
const maxDatabases = 10_000

// Check says whether cmd, a CREATE or DROP DATABASE, can be logged now, and
// whether IF [NOT] EXISTS makes it a command without effect.
func (s *Store) Check(cmd Command) (noEffect bool, err error) {
	_, missing := s.Database(cmd.Name)
	if cmd.Verb == DropDatabase {
		if missing != nil && !cmd.If {
			return false, missing
		}
		return missing != nil, nil
	}
	if missing == nil && cmd.If {
		return true, nil
	}
	if err := s.creatable(cmd.Name); err != nil {
		return false, err
	}
	if len(s.Databases()) >= maxDatabases {
		return false, subjects.Errorf(subjects.CodeTooBig, "too many databases (%d)", maxDatabases)
	}
	return false, nil
}

// Body makes the log body of a CREATE or DROP DATABASE.
func (c *Catalog) Body(cmd Command, now int64) []byte {
	sql := "DROP DATABASE " + cmd.Name
	if cmd.Verb == CreateDatabase {
		sql = "CREATE DATABASE " + cmd.Name
	}
	return subjects.AppendBody(nil, &subjects.Body{DB: subjects.Catalog, Engine: c.engine, Txns: []subjects.Txn{
		{Now: now, Stmts: []subjects.LogStmt{{Stmt: subjects.Stmt{SQL: sql}}}},
	}})
}

// ApplyCatalog executes one message of the catalog's history: it makes or drops
// databases. Nobody may be applying to, or writing, a database it drops.
func (s *Store) ApplyCatalog(m *subjects.Message) error {
	c := s.catalog
	c.writing.Lock()
	defer c.writing.Unlock()
	at := c.Applied()
	if at.Continues(0, m) != Next {
		return fmt.Errorf("catalog at %d, message %d after %d: %w", at.Number, m.Position, m.Header.Prev, ErrBroken)
	}
	var body subjects.Body
	if err := subjects.DecodeBody(m.Data, &body); err != nil {
		return unreadable(subjects.Catalog, m, err)
	}
	if len(body.Txns) != 1 || len(body.Txns[0].Stmts) != 1 {
		return &DivergedError{subjects.Catalog, m.Position, "a message of the catalog must hold one statement", nil}
	}
	sql := body.Txns[0].Stmts[0].SQL
	cmd, _, err := ParseCommand(sql)
	if err == nil && cmd.Verb == CreateDatabase {
		err = s.creatable(cmd.Name)
	}
	if err != nil {
		return &DivergedError{subjects.Catalog, m.Position, fmt.Sprintf("%q cannot be executed", clip(sql)), err}
	}
	if err := s.applyCommand(cmd, m, body.Txns[0].Now); err != nil {
		return fmt.Errorf("apply %q at %d: %w", clip(sql), m.Position, err)
	}
	return nil
}

// creatable says whether a database of that name can be made: it becomes the name
// of a file, and must not be that of another database.
func (s *Store) creatable(name string) error {
	if err := subjects.CheckDatabase(name); err != nil {
		return subjects.Errorf(subjects.CodeBadRequest, "%v", err)
	}
	if d, err := s.Database(name); err == nil {
		return subjects.Errorf(subjects.CodeExists, "database %s already exists", d.name)
	}
	return nil
}

// applyCommand makes or drops one database. The order is such that a crash
// leaves a file the catalog does not know, never a catalog that promises a file
// which was never there.
func (s *Store) applyCommand(cmd Command, m *subjects.Message, now int64) error {
	switch cmd.Verb {
	case CreateDatabase:
		d, err := s.createDatabase(entry{cmd.Name, m.Position})
		if err != nil {
			return err
		}
		if err := s.catalog.record(m, "INSERT INTO _snapdb_databases (incarnation, name, created) VALUES (?,?,?)",
			subjects.IntegerValue(int64(m.Position)), subjects.TextValue(cmd.Name), subjects.IntegerValue(now)); err != nil {
			return errors.Join(err, d.Close(context.Background()))
		}
		s.add(d)
		return nil
	case DropDatabase:
		d, err := s.Database(cmd.Name)
		if err != nil {
			return &DivergedError{subjects.Catalog, m.Position, "the log drops a database that is not here", err}
		}
		if err := s.catalog.record(m, "DELETE FROM _snapdb_databases WHERE incarnation=?", subjects.IntegerValue(int64(d.inc))); err != nil {
			return err
		}
		return s.remove(d)
	}
	return &DivergedError{subjects.Catalog, m.Position, "the log holds something that is no CREATE or DROP DATABASE", nil}
}

// record changes the catalog's list and its applied position together.
func (c *Catalog) record(m *subjects.Message, sql string, args ...subjects.Value) error {
	if err := c.begin(); err != nil {
		return err
	}
	err := c.write(sql, args...)
	if err == nil {
		err = c.commit(Position{m.Position, m.Header.Chain}, false)
	}
	if err != nil {
		err = errors.Join(err, c.rollback(false))
	}
	return err
}

// write executes one of the catalog's own statements.
func (c *Catalog) write(sql string, args ...subjects.Value) error {
	st, _, err := c.w.Prepare(sql, 0, engine.GuardNone)
	if err != nil {
		return fmt.Errorf("catalog: %w", err)
	}
	defer st.Close()
	if err := run(st, args...); err != nil {
		return fmt.Errorf("catalog: %w", err)
	}
	return nil
}

// local executes a statement on what only this node knows.
func (c *Catalog) local(sql string, args ...subjects.Value) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.closed {
		return ErrClosed
	}
	c.w.BeginRequest()
	return c.write(sql, args...)
}

// Enrol remembers that a slave has joined, at a time in Unix milliseconds.
func (c *Catalog) Enrol(id string, now int64) error {
	return c.local("INSERT INTO _snapdb_nodes VALUES (?,?) ON CONFLICT DO NOTHING", subjects.TextValue(id), subjects.IntegerValue(now))
}

// Forget takes back what Enrol did.
func (c *Catalog) Forget(id string) error {
	return c.local("DELETE FROM _snapdb_nodes WHERE id = ?", subjects.TextValue(id))
}

// Enrolled are the ids of all slaves that have joined and are not forgotten, in order.
func (c *Catalog) Enrolled() ([]string, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.closed {
		return nil, ErrClosed
	}
	rows, err := queryRows(c.w, "SELECT id FROM _snapdb_nodes ORDER BY id", 1_000_000)
	if err != nil {
		return nil, fmt.Errorf("read enrolled slaves: %w", err)
	}
	ids := make([]string, len(rows))
	for i, r := range rows {
		ids[i] = string(r[0].Bytes())
	}
	return ids, nil
}

// showTables lists tables and views as SHOW TABLES shows them.
const showTables = `SELECT name FROM sqlite_schema WHERE type IN ('table','view')
 AND name NOT LIKE 'sqlite\_%' ESCAPE '\' AND name NOT LIKE '\_snapdb%' ESCAPE '\' ORDER BY name`

// describeTable lists the columns of a table as DESCRIBE shows them.
const describeTable = `SELECT name AS "field", lower(type) AS "type",
 CASE WHEN "notnull" OR pk THEN 'NO' ELSE 'YES' END AS "null",
 CASE WHEN pk THEN 'PRI' ELSE '' END AS "key", dflt_value AS "default",
 CASE hidden WHEN 2 THEN 'generated virtual' WHEN 3 THEN 'generated stored' ELSE '' END AS "extra"
 FROM pragma_table_xinfo(?) WHERE hidden <> 1`

const showCreateTable = `SELECT name AS "table", sql AS "create table" FROM sqlite_schema
 WHERE type IN ('table','view') AND name = ? COLLATE NOCASE`

// Show answers SHOW TABLES, SHOW CHECKSUM, DESCRIBE and SHOW CREATE TABLE. Only
// SHOW CHECKSUM takes long; the end of ctx interrupts it.
func (s *Snapshot) Show(ctx context.Context, cmd Command, out *subjects.Results) error {
	if cmd.Verb == ShowChecksum {
		return s.showChecksum(ctx, out)
	}
	sql, args := showTables, []subjects.Value(nil)
	if cmd.Verb != ShowTables {
		if strings.HasPrefix(strings.ToLower(cmd.Name), subjects.Catalog) {
			return subjects.Errorf(subjects.CodeDenied, "table %s is reserved", cmd.Name)
		}
		args = []subjects.Value{subjects.TextValue(cmd.Name)}
		sql = showCreateTable
		if cmd.Verb == Describe {
			sql = describeTable
		}
	}
	st, _, err := s.c.Prepare(sql, 0, engine.GuardNone)
	if err != nil {
		return fmt.Errorf("show: %w", err)
	}
	rows, err := s.Open(st, args)
	if err != nil {
		return fmt.Errorf("show: %w", err)
	}
	defer rows.Close()
	mark, before := out.Mark(), out.Rows()
	more, err := rows.Page(out, PageBytes)
	if err != nil {
		out.Rewind(mark)
		return fmt.Errorf("show: %w", err)
	}
	if cmd.Verb != ShowTables && out.Rows() == before {
		out.Rewind(mark)
		return subjects.Errorf(subjects.CodeSyntax, "no such table: %s", cmd.Name)
	}
	if more {
		out.EndMore(rows.Types(), "")
	} else {
		out.End(rows.Types(), 0, 0)
	}
	return nil
}
