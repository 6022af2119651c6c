package format_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/snapdb/snapdb/cmd/snapdb/format"
	"github.com/snapdb/snapdb/subjects"
)

var columns = []string{"id", "name", "id"}

func rows() [][]subjects.Value {
	return [][]subjects.Value{
		{subjects.IntegerValue(1), subjects.TextValue("Alice"), subjects.RealValue(5)},
		{subjects.IntegerValue(math.MaxInt64), subjects.TextValue("数据库"), {}},
		{subjects.IntegerValue(-3), subjects.TextValue("a\x1b[31m\n\"b\""), subjects.BlobValue([]byte{0xab, 0})},
		{{}, subjects.TextValue(""), subjects.RealValue(math.Inf(-1))},
	}
}

func write(t *testing.T, k format.Kind, pages ...[][]subjects.Value) string {
	t.Helper()
	var b bytes.Buffer
	w := format.New(k, &b)
	if err := w.Begin(columns); err != nil {
		t.Fatal(err)
	}
	for _, p := range pages {
		if err := w.Rows(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.End(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestGolden(t *testing.T) {
	golden := map[format.Kind]string{
		format.Table: `
┌─────────────────────┬────────────────┬─────────┐
│ id                  │ name           │ id      │
├─────────────────────┼────────────────┼─────────┤
│                   1 │ Alice          │     5.0 │
│ 9223372036854775807 │ 数据库         │ NULL    │
│                  -3 │ a\x1b[31m\n"b" │ x'ab00' │
│ NULL                │                │    -Inf │
└─────────────────────┴────────────────┴─────────┘
`,
		format.Line: `
  id = 1
name = Alice
  id = 5.0

  id = 9223372036854775807
name = 数据库
  id = NULL

  id = -3
name = a\x1b[31m\n"b"
  id = x'ab00'

  id = NULL
name = 
  id = -Inf
`,
		format.CSV: "\nid,name,id\r\n1,Alice,5.0\r\n9223372036854775807,数据库,\r\n-3,\"a\x1b[31m\n\"\"b\"\"\",x'ab00'\r\n,\"\",-Inf\r\n",
		format.JSON: `
[{"id":1,"name":"Alice","id:1":5.0},
 {"id":9223372036854775807,"name":"数据库","id:1":null},
 {"id":-3,"name":"a\u001b[31m\n\"b\"","id:1":{"blob":"qwA="}},
 {"id":null,"name":"","id:1":{"real":"-Inf"}}]
`,
	}
	for k, want := range golden {
		if diff := cmp.Diff(want, "\n"+write(t, k, rows())); diff != "" {
			t.Errorf("%s (-want +got):\n%s", k, diff)
		}
	}
}

// Pages must not show, except in the widths of a table.
func TestPages(t *testing.T) {
	for _, k := range []format.Kind{format.JSON, format.CSV, format.Line} {
		r := rows()
		if diff := cmp.Diff(write(t, k, r), write(t, k, r[:1], nil, r[1:3], r[3:])); diff != "" {
			t.Errorf("%s (-one page +several):\n%s", k, diff)
		}
	}
	got := write(t, format.Table, rows()[:1], rows()[1:])
	if !strings.Contains(got, "│ 9223372036854775807 │") {
		t.Errorf("a wide value of a later page is not whole:\n%s", got)
	}
}

func TestNoRows(t *testing.T) {
	if got, want := write(t, format.JSON), "[]\n"; got != want {
		t.Errorf("json: got %q, want %q", got, want)
	}
	want := "┌────┬──────┬────┐\n│ id │ name │ id │\n├────┼──────┼────┤\n└────┴──────┴────┘\n"
	if got := write(t, format.Table); got != want {
		t.Errorf("table:\n%swant\n%s", got, want)
	}
}

func TestProgramsReadIt(t *testing.T) {
	var objects []map[string]any
	if err := json.Unmarshal([]byte(write(t, format.JSON, rows())), &objects); err != nil || len(objects) != 4 {
		t.Errorf("json: %v, %d objects", err, len(objects))
	}
	records, err := csv.NewReader(strings.NewReader(write(t, format.CSV, rows()))).ReadAll()
	if err != nil || len(records) != 5 || records[3][1] != "a\x1b[31m\n\"b\"" {
		t.Errorf("csv: %v, %q", err, records)
	}
}

func TestSafe(t *testing.T) {
	for in, want := range map[string]string{
		"plain é 数":        "plain é 数",
		"\x1b]0;x\x07":     `\x1b]0;x\x07`,
		"\x00\xff":         `\x00\xff`,
		"a\u202eb\u2028\t": `a\u202eb\u2028\t`,
		"\u009b1m":         `\x9b1m`,
		"\ufffd":           "\ufffd",
	} {
		if got := format.Safe(in); got != want {
			t.Errorf("Safe(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestWidth(t *testing.T) {
	for s, want := range map[string]int{"abc": 3, "é": 1, "e\u0301": 1, "数据": 4, "한글": 4, "🎉": 2, "ｱ": 1, "Ａ": 2, "": 0} {
		if got := format.Width(s); got != want {
			t.Errorf("Width(%q) = %d, want %d", s, got, want)
		}
	}
}

func TestParseKind(t *testing.T) {
	if k, err := format.ParseKind("JSON"); k != format.JSON || err != nil {
		t.Errorf("JSON: %q, %v", k, err)
	}
	_, err := format.ParseKind("xml")
	if !errors.Is(err, format.ErrKind) || !strings.Contains(err.Error(), "table, json, csv, line") {
		t.Errorf("xml: %v", err)
	}
}

func TestSizesForPeople(t *testing.T) {
	t.Parallel()
	for n, want := range map[uint64]string{0: "0 B", 999: "999 B", 1000: "1.0 KB", 99_940: "99.9 KB", 99_960: "100 KB", 999_400: "999 KB", 999_999: "1.0 MB", 613_000: "613 KB", 10 << 30: "10.7 GB", 1<<64 - 1: "18.4 EB"} {
		if got := format.Bytes(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}
