package exec

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/snapdb/snapdb/exec/engine"
	"github.com/snapdb/snapdb/subjects"
)

// Strip takes snapdb's own tables out of a file that [Database.Copy] made, and leaves
// one that any program can use, with a rollback journal.
func Strip(path string) error {
	c, err := engine.Open(path, engine.Options{Trusted: true})
	if err == nil {
		// Nothing of the answers to requests may stay in unused pages.
		err = errors.Join(c.Exec("PRAGMA secure_delete=ON; BEGIN; DROP TABLE _snapdb_requests; DROP TABLE _snapdb_applied; COMMIT; PRAGMA journal_mode=DELETE"), c.Close())
	}
	if err != nil {
		return fmt.Errorf("take out snapdb's own tables: %w", err)
	}
	return nil
}

// Dump writes a file without snapdb's own tables as SQL, in constant memory. Executed
// in an empty database it gives the same content, value for value, rowids included.
// Indexes, triggers and views come last; of planner statistics it says only that they
// are to be gathered.
//
// Virtual tables are written as sqlite3's .dump does, by their shadow tables and an
// entry in sqlite_schema, which only sqlite3 can read back; virtual says that there
// are any.
func Dump(ctx context.Context, path string, w io.Writer) (virtual bool, err error) {
	c, err := engine.Open(path, engine.Options{ReadOnly: true, Trusted: true})
	if err != nil {
		return false, fmt.Errorf("dump: %w", err)
	}
	stop := context.AfterFunc(ctx, c.Interrupt)
	d := &dump{c: c, w: bufio.NewWriterSize(w, 256<<10)}
	err = errors.Join(d.all(), d.w.Flush())
	stop()
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err = errors.Join(err, c.Close()); err != nil {
		return d.virtual, fmt.Errorf("dump: %w", err)
	}
	return d.virtual, nil
}

// dump is a dump being written.
type dump struct {
	c       *engine.Conn
	w       *bufio.Writer // its error comes again with Flush
	reals   *engine.Stmt  // what SQLite makes of a real written out
	virtual bool
}

// object is one row of the schema.
type object struct{ kind, name, table, sql string }

func (d *dump) all() (err error) {
	if d.reals, _, err = d.c.Prepare("SELECT CAST(? AS REAL)", 0, engine.GuardNone); err != nil {
		return err
	}
	defer d.reals.Close()
	rows, err := queryRows(d.c, "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid", math.MaxInt)
	if err != nil {
		return err
	}
	objects := make([]object, len(rows))
	for i, r := range rows {
		objects[i] = object{string(r[0].Bytes()), string(r[1].Bytes()), string(r[2].Bytes()), string(r[3].Bytes())}
		d.virtual = d.virtual || isVirtual(objects[i].sql)
	}
	d.w.WriteString("PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\n")
	if d.virtual {
		d.w.WriteString("PRAGMA writable_schema=ON;\n")
	}
	sequence, statistics := false, false
	for _, o := range objects {
		switch {
		case o.kind != "table":
		case o.name == "sqlite_sequence":
			sequence = true
		case strings.HasPrefix(o.name, "sqlite_"):
			statistics = statistics || o.name == "sqlite_stat1"
		default:
			if err := d.table(o); err != nil {
				return fmt.Errorf("table %s: %w", o.name, err)
			}
		}
	}
	if sequence {
		if err := d.sequence(objects); err != nil {
			return err
		}
	}
	for _, kind := range []string{"index", "trigger", "view"} {
		for _, o := range objects {
			if o.kind == kind {
				fmt.Fprintf(d.w, "%s;\n", o.sql)
			}
		}
	}
	return d.end(statistics)
}

func isVirtual(sql string) bool {
	return len(sql) > 20 && strings.EqualFold(sql[:20], "CREATE VIRTUAL TABLE")
}

// end writes what is not in tables.
func (d *dump) end(statistics bool) error {
	row, err := queryRow(d.c, "SELECT user_version, application_id FROM pragma_user_version, pragma_application_id")
	if err != nil {
		return err
	}
	for i, name := range []string{"user_version", "application_id"} {
		if n := row[i].Int(); n != 0 {
			fmt.Fprintf(d.w, "PRAGMA %s=%d;\n", name, n)
		}
	}
	if d.virtual {
		d.w.WriteString("PRAGMA writable_schema=OFF;\n")
	}
	if statistics {
		d.w.WriteString("ANALYZE;\n")
	}
	d.w.WriteString("COMMIT;\n")
	return nil
}

// sequence writes the counters of AUTOINCREMENT. Their table comes into being with the
// first that has such a column, and stays when that is dropped.
func (d *dump) sequence(objects []object) error {
	needs := true
	for _, o := range objects {
		needs = needs && !strings.Contains(strings.ToUpper(o.sql), "AUTOINCREMENT")
	}
	if needs {
		d.w.WriteString("CREATE TABLE \"a table with a counter\" (id INTEGER PRIMARY KEY AUTOINCREMENT);\nDROP TABLE \"a table with a counter\";\n")
	}
	d.w.WriteString("DELETE FROM sqlite_sequence;\n")
	return d.rows("sqlite_sequence")
}

func (d *dump) table(o object) error {
	if isVirtual(o.sql) {
		name := d.literal(subjects.TextValue(o.name))
		fmt.Fprintf(d.w, "INSERT INTO sqlite_schema (type,name,tbl_name,rootpage,sql) VALUES ('table',%s,%s,0,%s);\n",
			name, name, d.literal(subjects.TextValue(o.sql)))
		return nil
	}
	// Shadow tables: as their virtual table is not made, only entered, nobody makes them.
	fmt.Fprintf(d.w, "%s;\n", o.sql)
	return d.rows(o.name)
}

// rows writes the rows of a table in the order of their keys. A rowid is written where
// it is not the one that SQLite would choose, and is no column.
func (d *dump) rows(table string) error {
	columns, rowid, err := d.columns(table)
	if err != nil {
		return err
	}
	quoted := QuoteName(table)
	list := strings.Join(columns, ",")
	query := "SELECT " + list + " FROM main." + quoted + " NOT INDEXED"
	if rowid != "" {
		query = "SELECT " + rowid + "," + list + " FROM main." + quoted + " NOT INDEXED ORDER BY " + rowid
	}
	st, _, err := d.c.Prepare(query, 0, engine.GuardNone)
	if err != nil {
		return err
	}
	defer st.Close()
	for next := int64(1); ; {
		more, err := st.Step()
		if err != nil || !more {
			return err
		}
		first := 0
		if rowid != "" {
			first = 1
			id := st.Column(0).Int()
			if id == next {
				fmt.Fprintf(d.w, "INSERT INTO %s (%s) VALUES (", quoted, list)
			} else {
				fmt.Fprintf(d.w, "INSERT INTO %s (%s,%s) VALUES (%d,", quoted, rowid, list, id)
			}
			next = id + 1
		} else {
			fmt.Fprintf(d.w, "INSERT INTO %s (%s) VALUES (", quoted, list)
		}
		for i := first; i < st.ColumnCount(); i++ {
			if i > first {
				d.w.WriteByte(',')
			}
			if err := d.value(st.Column(i)); err != nil {
				return err
			}
		}
		d.w.WriteString(");\n")
	}
}

// columns are those of a table that can be inserted, quoted, and the name of its rowid;
// "" if it has none, or it is one of the columns.
func (d *dump) columns(table string) (columns []string, rowid string, err error) {
	name := subjects.TextValue(table)
	rows, err := queryRows(d.c, "SELECT name FROM pragma_table_xinfo(?) WHERE hidden = 0", math.MaxInt, name)
	if err != nil {
		return nil, "", err
	}
	for _, r := range rows {
		columns = append(columns, QuoteName(string(r[0].Bytes())))
	}
	// A primary key without an index is the rowid.
	own, err := queryRow(d.c, `SELECT (SELECT wr FROM pragma_table_list WHERE schema = 'main' AND name = ?1)
	 OR (SELECT count(*) FROM pragma_table_xinfo(?1) WHERE pk > 0) = 1
	 AND NOT EXISTS (SELECT 1 FROM pragma_index_list(?1) WHERE origin = 'pk')`, name)
	if err != nil {
		return nil, "", err
	}
	if own[0].Int() == 0 {
		rowid, err = rowIDName(d.c, table)
	}
	return columns, rowid, err
}

// value writes one value as a literal that gives exactly it.
func (d *dump) value(v subjects.Value) error {
	switch v.Kind() {
	case subjects.Integer:
		d.w.Write(strconv.AppendInt(d.w.AvailableBuffer(), v.Int(), 10))
	case subjects.Real:
		return d.real(v.Float())
	case subjects.Text:
		if b := v.Bytes(); utf8.Valid(b) && !strings.ContainsRune(string(b), 0) {
			d.w.WriteString(d.literal(v))
			return nil
		}
		d.w.WriteString("CAST(")
		d.bytes(v.Bytes())
		d.w.WriteString(" AS TEXT)")
	case subjects.Blob:
		d.bytes(v.Bytes())
	default:
		d.w.WriteString("NULL")
	}
	return nil
}

func (d *dump) literal(v subjects.Value) string {
	return "'" + strings.ReplaceAll(string(v.Bytes()), "'", "''") + "'"
}

func (d *dump) bytes(b []byte) {
	d.w.WriteString("x'")
	io.Copy(hex.NewEncoder(d.w), strings.NewReader(string(b)))
	d.w.WriteByte('\'')
}

// real writes the shortest number that SQLite reads as f. Should its reading differ
// from everybody else's for some f, the number is computed, which is exact.
func (d *dump) real(f float64) error {
	switch {
	case math.IsInf(f, 0):
		d.w.WriteString(map[bool]string{true: "9.0e+999", false: "-9.0e+999"}[f > 0])
		return nil
	case f == 0:
		d.w.WriteString(map[bool]string{true: "-0.0", false: "0.0"}[math.Signbit(f)])
		return nil
	}
	for _, digits := range []int{-1, 16, 17, 18} {
		form := byte('e')
		if a := math.Abs(f); digits < 0 && 1e-6 <= a && a < 1e15 {
			form = 'f'
		}
		text := strconv.FormatFloat(f, form, digits, 64)
		if !strings.ContainsAny(text, ".e") {
			text += ".0"
		}
		same, err := d.reads(text, f)
		if err != nil {
			return err
		}
		if same {
			d.w.WriteString(text)
			return nil
		}
	}
	d.w.WriteString(computed(f))
	return nil
}

func (d *dump) reads(text string, f float64) (bool, error) {
	defer d.reals.Reset()
	if err := d.reals.Bind([]subjects.Value{subjects.TextValue(text)}); err != nil {
		return false, err
	}
	if _, err := d.reals.Step(); err != nil {
		return false, err
	}
	return d.reals.Column(0).Float() == f, nil
}

// computed writes f as a whole number times or through powers of two.
func computed(f float64) string {
	fraction, exponent := math.Frexp(f)
	text := "(" + strconv.FormatInt(int64(math.Ldexp(fraction, 53)), 10) + ".0"
	for exponent -= 53; exponent != 0; {
		step := max(-62, min(62, exponent))
		exponent -= step
		if step > 0 {
			text += "*" + strconv.FormatInt(1<<step, 10) + ".0"
		} else {
			text += "/" + strconv.FormatInt(1<<-step, 10) + ".0"
		}
	}
	return text + ")"
}
