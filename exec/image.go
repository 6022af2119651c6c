package exec

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/snapdb/snapdb/exec/engine"
	"github.com/snapdb/snapdb/subjects"
)

// ErrUnfit: a file cannot become a database of the cluster. Its text ends with why.
var ErrUnfit = errors.New("cannot be imported")

// imageSuffix ends the names of images that are being made the content of a database.
const imageSuffix = ".image"

// applyImage applies the first message of a database that was imported: its content
// comes from the image that the message names, in one SQLite transaction, with that
// message's position. begun is how many of the messages that were.
func (d *Database) applyImage(ctx context.Context, msgs []*subjects.Message, src Source) (begun int, err error) {
	if len(msgs) == 0 || msgs[0].Header.Prev != d.inc {
		return 0, nil
	}
	m := msgs[0]
	if subjects.DecodeBody(m.Data, &d.body) != nil || d.body.Image == nil {
		return 0, nil
	}
	if d.Applied().Continues(d.inc, m) != Next {
		return 0, fmt.Errorf("database %s at %d, message %d after %d: %w", d.name, d.Applied().Number, m.Position, m.Header.Prev, ErrBroken)
	}
	path := filepath.Join(d.store.dir, strconv.FormatUint(d.inc, 10)+imageSuffix)
	defer func() {
		if err != nil {
			err = fmt.Errorf("database %s, message %d: %w", d.name, m.Position, err)
		}
		err = errors.Join(err, removeDatabase(path))
	}()
	if err := removeDatabase(path); err != nil {
		return 0, err
	}
	if err := src.Image(ctx, *d.body.Image, path); err != nil {
		return 0, err
	}
	at := Position{m.Position, m.Header.Chain}
	c, err := engine.Open(path, engine.Options{Scratch: true})
	if err != nil {
		return 0, err
	}
	if err := errors.Join(c.Exec(ownTables(d.inc, at)), c.Close()); err != nil {
		return 0, err
	}
	err = d.replace(path, at, func(int, int) error {
		if src.Progress != nil {
			src.Progress(0)
		}
		return context.Cause(ctx)
	})
	if err != nil {
		return 0, err
	}
	return 1, nil
}

// removeDatabase removes a file with what SQLite puts beside it, if it is there.
func removeDatabase(path string) error {
	var errs []error
	for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// dropImages removes what an interrupted apply has left.
func (s *Store) dropImages() error {
	left, err := filepath.Glob(filepath.Join(s.dir, "*"+imageSuffix+"*"))
	if err != nil {
		return fmt.Errorf("list images: %w", err)
	}
	for _, f := range left {
		if err := os.Remove(f); err != nil {
			return fmt.Errorf("remove image: %w", err)
		}
	}
	return nil
}

// Image makes a new file at to that is a consistent copy of a SQLite file of any
// program, as databases of the cluster are: compact, with pages of 4 KiB. The file is
// opened for reading only, other programs may go on using it; what is committed in its
// WAL is part of it. progress, which may be nil, hears about how many bytes are there.
// The error wraps ErrUnfit if the file is the reason. Nothing is left of it then.
func Image(ctx context.Context, from, to string, progress func(done, total int64)) error {
	info, err := os.Stat(from)
	switch {
	case err != nil:
		return err
	case info.IsDir():
		return fmt.Errorf("%s %w: it is a directory", from, ErrUnfit)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s %w: it is no regular file", from, ErrUnfit)
	case info.Size() == 0:
		return fmt.Errorf("%s %w: it is empty", from, ErrUnfit)
	}
	c, err := engine.Open(from, engine.Options{ReadOnly: true, Trusted: true})
	if err == nil {
		err = vacuumInto(ctx, c, to, func(done int64) {
			if progress != nil {
				progress(min(done, info.Size()), info.Size())
			}
		})
		err = errors.Join(err, c.Close())
	}
	switch err = unfit(err); {
	case ctx.Err() != nil:
		err = fmt.Errorf("read %s: %w", from, context.Cause(ctx))
	case err == nil:
		return nil
	case errors.Is(err, ErrUnfit):
		err = fmt.Errorf("%s %w", from, err)
	default:
		err = fmt.Errorf("read %s: %w", from, err)
	}
	return errors.Join(err, removeDatabase(to))
}

// vacuumInto makes a compact copy. That is as fast as SQLite's backup, which cannot
// change the size of pages, and keeps rowids, which VACUUM alone does not.
func vacuumInto(ctx context.Context, c *engine.Conn, to string, progress func(done int64)) error {
	stop := context.AfterFunc(ctx, c.Interrupt)
	defer stop()
	defer repeat(func() {
		if info, err := os.Stat(to); err == nil {
			progress(info.Size())
		}
	})()
	return c.Exec("PRAGMA page_size=4096; VACUUM INTO '" + strings.ReplaceAll(to, "'", "''") + "'")
}

// unfit explains what SQLite says of a file.
func unfit(err error) error {
	var e *engine.Error
	if errors.Is(err, ErrUnfit) || !errors.As(err, &e) {
		return err
	}
	why := e.Message
	switch {
	case e.NoDatabase():
		why = "it is no SQLite database, or it is encrypted"
	case e.Corrupt():
		why = "it is damaged: " + e.Message
	case e.HotJournal():
		why = "a program that wrote to it did not end well, and its last transaction must be rolled back first, which would change the file: open it once with the sqlite3 shell or its own program"
	case e.Busy():
		why = "another program holds it locked: try again, or stop that program"
	case e.Full(), e.Disk():
		return err
	}
	return fmt.Errorf("%w: %s", ErrUnfit, why)
}

// CheckImage says whether a file made by [Image] can become the content of a
// database: that it is sound, and that everything in its schema could have been made
// by a client of the cluster. The error wraps ErrUnfit if not.
func CheckImage(ctx context.Context, path string) error {
	c, err := engine.Open(path, engine.Options{Scratch: true})
	if err != nil {
		return fmt.Errorf("the file %w", unfit(err))
	}
	stop := context.AfterFunc(ctx, c.Interrupt)
	if err = c.LimitCache(); err == nil {
		err = checkImage(ctx, c)
	}
	stop()
	err = errors.Join(err, c.Close())
	switch {
	case err != nil && ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return fmt.Errorf("the file %w", unfit(err))
	}
	return nil
}

func checkImage(ctx context.Context, c *engine.Conn) error {
	row, err := queryRow(c, "SELECT (SELECT encoding FROM pragma_encoding), (SELECT page_size FROM pragma_page_size)")
	if err != nil {
		return err
	}
	if encoding := string(row[0].Bytes()); encoding != "UTF-8" {
		return fmt.Errorf("%w: its texts are %s, those of the cluster UTF-8: write it out with sqlite3 (.dump) and read that into a new file", ErrUnfit, encoding)
	}
	if row[1].Int() != 4096 {
		return fmt.Errorf("%w: its pages have %d bytes", ErrUnfit, row[1].Int())
	}
	row, err = queryRow(c, `SELECT name FROM sqlite_schema WHERE name LIKE '\_snapdb%' ESCAPE '\' OR tbl_name LIKE '\_snapdb%' ESCAPE '\'`)
	if err != nil {
		return err
	}
	if row != nil {
		return fmt.Errorf("%w: it has %s, and names that begin with %s are snapdb's own: from a node's file, make one without them by snapdb db dump --format db", ErrUnfit, row[0].Bytes(), engine.Reserved)
	}
	row, err = queryRow(c, "SELECT name FROM dbstat WHERE mx_payload > ?", subjects.IntegerValue(subjects.MaxValue))
	if err != nil {
		return err
	}
	if row != nil {
		return fmt.Errorf("%w: a row of %s has more than the %d MB that one may have", ErrUnfit, row[0].Bytes(), subjects.MaxValue>>20)
	}
	if err := sound(ctx, c); err != nil {
		return fmt.Errorf("%w: %w", ErrUnfit, err)
	}
	if err := checkRowIDs(c); err != nil {
		return err
	}
	return checkSchema(ctx, c)
}

// checkRowIDs looks for the rowid after which SQLite chooses at random.
func checkRowIDs(c *engine.Conn) error {
	tables, err := queryRows(c, "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type IN ('table','shadow') AND NOT wr AND name <> 'sqlite_schema'", math.MaxInt)
	if err != nil {
		return err
	}
	for _, t := range tables {
		table := string(t[0].Bytes())
		id, err := rowIDName(c, table)
		if err != nil {
			return err
		}
		if id == "" {
			continue // no statement can name it, but then none can set it either
		}
		row, err := queryRow(c, "SELECT max("+id+") FROM main."+QuoteName(table))
		if err != nil {
			return err
		}
		if row != nil && row[0].Kind() == subjects.Integer && row[0].Int() == math.MaxInt64 {
			return fmt.Errorf("%w: table %s has a row with the rowid %d, after which SQLite chooses rowids at random, on every node others", ErrUnfit, table, int64(math.MaxInt64))
		}
	}
	return nil
}

// rowIDName is a name of the rowid of a table that none of its columns has taken.
func rowIDName(c *engine.Conn, table string) (string, error) {
	columns, err := queryRows(c, "SELECT lower(name) FROM pragma_table_xinfo(?)", math.MaxInt, subjects.TextValue(table))
	if err != nil {
		return "", err
	}
	taken := map[string]bool{}
	for _, column := range columns {
		taken[string(column[0].Bytes())] = true
	}
	for _, id := range []string{"rowid", "_rowid_", "oid"} {
		if !taken[id] {
			return id, nil
		}
	}
	return "", nil
}

// checkSchema says whether the cluster's rules allow all that a schema has: it is made
// once more, as a client would, in an empty database.
func checkSchema(ctx context.Context, c *engine.Conn) (err error) {
	objects, err := queryRows(c, `SELECT s.type, s.name, s.tbl_name, s.sql FROM sqlite_schema AS s
	 LEFT JOIN pragma_table_list AS l ON l.schema = 'main' AND l.name = s.name AND s.type = 'table'
	 WHERE s.sql IS NOT NULL AND s.name NOT LIKE 'sqlite\_%' ESCAPE '\' AND l.type IS NOT 'shadow'
	 ORDER BY CASE s.type WHEN 'table' THEN 0 WHEN 'view' THEN 1 ELSE 2 END, s.rowid`, math.MaxInt)
	if err != nil {
		return err
	}
	empty, err := engine.Open(":memory:", engine.Options{Scratch: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, empty.Close()) }()
	for _, o := range objects {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := makeObject(empty, string(o[3].Bytes())); err != nil {
			return fmt.Errorf("%w: %s %s could not be made in the cluster: %w", ErrUnfit, o[0].Bytes(), o[1].Bytes(), err)
		}
	}
	// What a view or a trigger does is looked at when it is used.
	for _, o := range objects {
		kind, table := string(o[0].Bytes()), QuoteName(string(o[2].Bytes()))
		var uses []string
		switch kind {
		case "view":
			uses = []string{"SELECT * FROM " + table}
		case "trigger":
			uses = []string{"DELETE FROM " + table, "INSERT INTO " + table + " DEFAULT VALUES"}
			columns, err := queryRows(empty, "SELECT name FROM pragma_table_xinfo(?) WHERE hidden = 0", math.MaxInt, subjects.TextValue(string(o[2].Bytes())))
			if err != nil {
				return err
			}
			for _, column := range columns {
				name := QuoteName(string(column[0].Bytes()))
				uses = append(uses, "UPDATE "+table+" SET "+name+" = "+name)
			}
		}
		for _, sql := range uses {
			// That it is wrong in another way than this is the business of whoever uses it.
			if st, _, err := empty.Prepare(sql, 0, engine.GuardWrite); err == nil {
				st.Close()
			} else if errors.Is(err, engine.ErrDenied) {
				return fmt.Errorf("%w: %s %s: %w", ErrUnfit, kind, o[1].Bytes(), err)
			}
		}
	}
	return nil
}

// makeObject executes one statement as a client's.
func makeObject(c *engine.Conn, sql string) error {
	st, _, err := c.Prepare(sql, 0, engine.GuardWrite)
	if err != nil {
		return err
	}
	defer st.Close()
	_, err = st.Step()
	return err
}
