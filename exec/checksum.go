package exec

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"strings"

	"github.com/snapdb/snapdb/exec/engine"
	"github.com/snapdb/snapdb/subjects"
)

// Sum is a digest of content: the first half of a SHA-256.
type Sum [16]byte

// String is the sum in hexadecimal.
func (s Sum) String() string { return hex.EncodeToString(s[:]) }

// TableChecksum is what one table holds.
type TableChecksum struct {
	Table string
	Rows  int64
	Sum   Sum
}

// Checksum is what a database holds at a position. Two nodes at the same
// position have equal ones, unless one of them has lied.
type Checksum struct {
	Position Position
	Tables   []TableChecksum // in order of their names
	Rows     int64           // of all tables
	Sum      Sum             // of schema, tables, user_version and application_id
}

// Checksum reads everything in the database and sums it up, in constant memory.
// It covers every row with its rowid and the type and exact bytes of its values,
// and the text of the schema. The content of a virtual table is that of its
// shadow tables. The counters of AUTOINCREMENT, in sqlite_sequence, are content:
// they decide what the next insert gets.
//
// Left out are snapdb's own tables; planner statistics; virtual generated
// columns, which follow from the others; and where in the file something lies,
// which differs between nodes.
//
// The end of ctx interrupts the reading.
func (s *Snapshot) Checksum(ctx context.Context) (*Checksum, error) {
	return s.ChecksumGently(ctx, func() {})
}

// ChecksumGently is Checksum that calls rest after every few rows, which may take its
// time.
func (s *Snapshot) ChecksumGently(ctx context.Context, rest func()) (*Checksum, error) {
	s.rest = rest
	stop := context.AfterFunc(ctx, s.Interrupt)
	defer stop()
	sum, err := s.checksum()
	if err != nil {
		if ctx.Err() != nil {
			err = errors.Join(err, context.Cause(ctx))
		}
		return nil, fmt.Errorf("checksum of %s: %w", s.d.name, err)
	}
	return sum, nil
}

func (s *Snapshot) checksum() (*Checksum, error) {
	sum := &Checksum{Position: s.Position()}
	whole := newDigest()
	for _, sql := range []string{
		"SELECT user_version, application_id FROM pragma_user_version, pragma_application_id",
		`SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE tbl_name NOT LIKE '\_snapdb%' ESCAPE '\'
		 AND tbl_name NOT LIKE 'sqlite\_stat%' ESCAPE '\' ORDER BY type, name`,
	} {
		rows, err := s.digest(sql, whole)
		if err != nil {
			return nil, err
		}
		whole.value(subjects.IntegerValue(rows))
	}
	tables, err := s.tables()
	if err != nil {
		return nil, err
	}
	for _, t := range tables {
		one := newDigest()
		rows, err := s.digest(t.query, one)
		if err != nil {
			return nil, fmt.Errorf("table %s: %w", t.name, err)
		}
		c := TableChecksum{t.name, rows, one.sum()}
		sum.Tables = append(sum.Tables, c)
		sum.Rows += rows
		whole.value(subjects.TextValue(c.Table))
		whole.value(subjects.IntegerValue(c.Rows))
		whole.value(subjects.BlobValue(c.Sum[:]))
	}
	sum.Sum = whole.sum()
	return sum, nil
}

// tableQuery is a table with the query that reads all of it in key order.
type tableQuery struct{ name, query string }

// tables are all tables that have content of their own.
func (s *Snapshot) tables() ([]tableQuery, error) {
	st, _, err := s.c.Prepare(`SELECT name, wr FROM pragma_table_list WHERE schema = 'main' AND type IN ('table','shadow')
	 AND name <> 'sqlite_schema' AND name NOT LIKE '\_snapdb%' ESCAPE '\' AND name NOT LIKE 'sqlite\_stat%' ESCAPE '\' ORDER BY name`, 0, engine.GuardNone)
	if err != nil {
		return nil, err
	}
	defer st.Close()
	var all []tableQuery
	for {
		row, err := st.Step()
		if err != nil || !row {
			return all, err
		}
		name := string(st.Column(0).Bytes())
		query, err := s.contentQuery(name, st.Column(1).Int() != 0)
		if err != nil {
			return nil, fmt.Errorf("table %s: %w", name, err)
		}
		all = append(all, tableQuery{name, query})
	}
}

// contentQuery makes the query that reads a table in key order, which is the
// order it is stored in: nothing needs to be sorted.
func (s *Snapshot) contentQuery(table string, withoutRowID bool) (string, error) {
	var columns, order []string
	name := subjects.TextValue(table)
	err := s.each(`SELECT name, hidden FROM pragma_table_xinfo(?)`, func(row *engine.Stmt) {
		if row.Column(1).Int() != hiddenVirtual {
			columns = append(columns, QuoteName(string(row.Column(0).Bytes())))
		}
	}, name)
	if err != nil {
		return "", err
	}
	if withoutRowID {
		err := s.each(`SELECT c.name, c.coll, c."desc" FROM pragma_index_list(?) AS i, pragma_index_xinfo(i.name) AS c
		 WHERE i.origin = 'pk' AND c."key" ORDER BY c.seqno`, func(row *engine.Stmt) {
			term := QuoteName(string(row.Column(0).Bytes())) + " COLLATE " + QuoteName(string(row.Column(1).Bytes()))
			if row.Column(2).Int() != 0 {
				term += " DESC"
			}
			order = append(order, term)
		}, name)
		if err != nil {
			return "", err
		}
	} else {
		id, err := rowIDName(s.c.Conn, table)
		if err != nil {
			return "", err
		}
		if id != "" {
			columns, order = append(columns, id), []string{id}
		}
	}
	// Without an index SQLite scans a table by rowid, even if the table's columns
	// have taken all names of it.
	query := "SELECT " + strings.Join(columns, ",") + " FROM main." + QuoteName(table) + " NOT INDEXED"
	if len(order) > 0 {
		query += " ORDER BY " + strings.Join(order, ",")
	}
	return query, nil
}

// Integrity reads the whole file, compares indexes with their tables, and returns what
// is wrong, "" if nothing is. The end of ctx interrupts it.
func (s *Snapshot) Integrity(ctx context.Context) (string, error) {
	stop := context.AfterFunc(ctx, s.Interrupt)
	defer stop()
	found, err := s.c.IntegrityCheck()
	if err != nil && ctx.Err() != nil {
		err = errors.Join(err, context.Cause(ctx))
	}
	if err != nil {
		return "", fmt.Errorf("check of %s: %w", s.d.name, err)
	}
	return found, nil
}

// hiddenVirtual is what PRAGMA table_xinfo says of a virtual generated column.
const hiddenVirtual = 2

// each calls f with every row of a query.
func (s *Snapshot) each(sql string, f func(row *engine.Stmt), args ...subjects.Value) error {
	st, _, err := s.c.Prepare(sql, 0, engine.GuardNone)
	if err != nil {
		return err
	}
	defer st.Close()
	if err := st.Bind(args); err != nil {
		return err
	}
	for {
		row, err := st.Step()
		if err != nil || !row {
			return err
		}
		f(st)
	}
}

// restRows is after how many rows a checksum may rest.
const restRows = 64

// digest adds all rows of a query to d and counts them.
func (s *Snapshot) digest(sql string, d *digest) (rows int64, err error) {
	n := -1
	err = s.each(sql, func(row *engine.Stmt) {
		if n < 0 {
			n = row.ColumnCount()
		}
		for i := range n {
			d.value(row.Column(i))
		}
		if rows++; rows%restRows == 0 {
			s.rest()
		}
	})
	return rows, err
}

// digest hashes values such that different ones give different bytes.
type digest struct {
	h   hash.Hash
	buf []byte // not hashed yet: many small writes would cost more than the hash
}

// digestBuffer is the size in bytes from which on a digest hashes what it has.
const digestBuffer = 16 << 10

func newDigest() *digest { return &digest{h: sha256.New(), buf: make([]byte, 0, digestBuffer)} }

func (d *digest) value(v subjects.Value) {
	if len(d.buf)+16 > digestBuffer {
		d.flush()
	}
	d.buf = append(d.buf, byte(v.Kind()))
	switch v.Kind() {
	case subjects.Integer:
		d.buf = binary.BigEndian.AppendUint64(d.buf, uint64(v.Int()))
	case subjects.Real:
		d.buf = binary.BigEndian.AppendUint64(d.buf, realBits(v.Float()))
	case subjects.Text, subjects.Blob:
		b := v.Bytes()
		d.buf = binary.BigEndian.AppendUint64(d.buf, uint64(len(b)))
		if len(d.buf)+len(b) > digestBuffer {
			d.flush()
		}
		if len(b) > digestBuffer {
			d.h.Write(b)
		} else {
			d.buf = append(d.buf, b...)
		}
	}
}

func (d *digest) flush() {
	d.h.Write(d.buf)
	d.buf = d.buf[:0]
}

func (d *digest) sum() Sum {
	d.flush()
	return Sum(d.h.Sum(nil)[:len(Sum{})])
}

// showChecksum answers SHOW CHECKSUM: a row per table, and a last one without a
// name for the whole database.
func (s *Snapshot) showChecksum(ctx context.Context, out *subjects.Results) error {
	sum, err := s.Checksum(ctx)
	if err != nil {
		return err
	}
	out.Begin([]string{"table", "rows", "checksum"})
	row := func(table subjects.Value, rows int64, sum Sum) {
		out.Row()
		out.Value(table)
		out.Value(subjects.IntegerValue(rows))
		out.Value(subjects.TextValue(sum.String()))
	}
	for _, t := range sum.Tables {
		row(subjects.TextValue(t.Table), t.Rows, t.Sum)
	}
	row(subjects.Value{}, sum.Rows, sum.Sum)
	out.End([]string{"text", "integer", "text"}, 0, 0)
	return nil
}
