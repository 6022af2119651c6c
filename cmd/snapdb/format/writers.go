package format

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/snapdb/snapdb/subjects"
)

// tableWriter draws a box. Its widths come from the first page of rows: a wider
// value of a later page sticks out, which is the price of not holding them all.
type tableWriter struct {
	printer
	columns []string
	widths  []int // set by the first page
}

func (t *tableWriter) Begin(columns []string) error {
	t.columns, t.widths = make([]string, len(columns)), nil
	for i, c := range columns {
		t.columns[i] = Safe(c)
	}
	return nil
}

func (t *tableWriter) Rows(rows [][]subjects.Value) error {
	cells := make([][]string, len(rows))
	for i, row := range rows {
		cells[i] = make([]string, len(row))
		for j, v := range row {
			cells[i][j] = Safe(plain(v))
		}
	}
	if t.widths == nil {
		t.open(cells)
	}
	for i, row := range rows {
		t.text("│")
		for j := range t.widths {
			cell, right := "", false
			if j < len(row) {
				k := row[j].Kind()
				cell, right = cells[i][j], k == subjects.Integer || k == subjects.Real
			}
			t.cell(cell, t.widths[j], right)
		}
		t.text("\n")
	}
	return t.flush()
}

func (t *tableWriter) End() error {
	if t.widths == nil {
		t.open(nil)
	}
	t.rule("└", "┴", "┘")
	return t.flush()
}

// open decides the widths and draws the head.
func (t *tableWriter) open(cells [][]string) {
	t.widths = make([]int, len(t.columns))
	for i, c := range t.columns {
		t.widths[i] = Width(c)
	}
	for _, row := range cells {
		for i := range min(len(row), len(t.widths)) {
			t.widths[i] = max(t.widths[i], Width(row[i]))
		}
	}
	t.rule("┌", "┬", "┐")
	t.text("│")
	for i, c := range t.columns {
		t.cell(c, t.widths[i], false)
	}
	t.text("\n")
	t.rule("├", "┼", "┤")
}

func (t *tableWriter) rule(left, middle, right string) {
	t.text(left)
	for i, w := range t.widths {
		if i > 0 {
			t.text(middle)
		}
		t.text(strings.Repeat("─", w+2))
	}
	t.text(right + "\n")
}

func (t *tableWriter) cell(s string, width int, right bool) {
	pad := strings.Repeat(" ", max(0, width-Width(s)))
	if right {
		s, pad = pad+s, ""
	}
	t.text(" " + s + pad + " │")
}

// lineWriter writes one value a line, names aligned.
type lineWriter struct {
	printer
	columns []string
	width   int
	begun   bool // some row of some result was written
}

func (l *lineWriter) Begin(columns []string) error {
	l.columns, l.width = make([]string, len(columns)), 0
	for i, c := range columns {
		l.columns[i] = Safe(c)
		l.width = max(l.width, Width(l.columns[i]))
	}
	return nil
}

func (l *lineWriter) Rows(rows [][]subjects.Value) error {
	for _, row := range rows {
		if l.begun {
			l.text("\n")
		}
		l.begun = true
		for i, v := range row {
			name := ""
			if i < len(l.columns) {
				name = l.columns[i]
			}
			l.text(strings.Repeat(" ", l.width-Width(name)) + name + " = " + Safe(plain(v)) + "\n")
		}
	}
	return l.flush()
}

func (l *lineWriter) End() error { return nil }

// csvWriter writes RFC 4180, lines ending in CR LF.
type csvWriter struct{ printer }

func (c *csvWriter) Begin(columns []string) error {
	for i, name := range columns {
		c.field(i, name, false)
	}
	c.text("\r\n")
	return c.flush()
}

func (c *csvWriter) Rows(rows [][]subjects.Value) error {
	for _, row := range rows {
		for i, v := range row {
			c.field(i, plain(v), v.Kind() == subjects.Null)
		}
		c.text("\r\n")
	}
	return c.flush()
}

func (c *csvWriter) End() error { return nil }

func (c *csvWriter) field(i int, s string, null bool) {
	if i > 0 {
		c.text(",")
	}
	switch {
	case null:
	case s == "" || strings.ContainsAny(s, ",\"\r\n") || s[0] == ' ' || s[len(s)-1] == ' ':
		c.text(`"` + strings.ReplaceAll(s, `"`, `""`) + `"`)
	default:
		c.text(s)
	}
}

// jsonWriter writes an array of objects, one row a line.
type jsonWriter struct {
	printer
	names []string // encoded, with the colon
	rows  int64
}

func (j *jsonWriter) Begin(columns []string) error {
	j.names, j.rows = make([]string, len(columns)), 0
	for i, c := range distinct(columns) {
		name, err := json.Marshal(c)
		if err != nil {
			return fmt.Errorf("encode column name: %w", err)
		}
		j.names[i] = string(name) + ":"
	}
	j.text("[")
	return j.flush()
}

func (j *jsonWriter) Rows(rows [][]subjects.Value) error {
	for _, row := range rows {
		if j.rows++; j.rows > 1 {
			j.text(",\n ")
		}
		j.text("{")
		for i, v := range row[:min(len(row), len(j.names))] {
			if i > 0 {
				j.text(",")
			}
			j.text(j.names[i])
			j.buf = subjects.AppendValue(j.buf, v)
		}
		j.text("}")
	}
	return j.flush()
}

func (j *jsonWriter) End() error {
	j.text("]\n")
	return j.flush()
}

// distinct gives columns of the same name different ones, because most readers of
// JSON keep only the last: id, id:1, id:2.
func distinct(columns []string) []string {
	seen := make(map[string]bool, len(columns))
	out := make([]string, len(columns))
	for i, c := range columns {
		name := c
		for n := 1; seen[name]; n++ {
			name = fmt.Sprintf("%s:%d", c, n)
		}
		seen[name] = true
		out[i] = name
	}
	return out
}
