package exec_test

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/snapdb/snapdb/subjects"
)

// travel sends values the way of a client's: as arguments of a request in JSON,
// through the log, to a slave, and back in its answer.
func travel(t tb, h *history, master, slave *node, values []subjects.Value) (there, back []subjects.Value) {
	t.Helper()
	request := subjects.AppendRequest(nil, &subjects.Request{DB: "d", SQL: "DELETE FROM v; INSERT INTO v VALUES (?" + strings.Repeat("), (?", len(values)-1) + ")", Args: values})
	var r subjects.Request
	if err := subjects.DecodeRequest(request, &r); err != nil {
		t.Fatal(err)
	}
	if o := h.group(master, "d", text(r.SQL, r.Args...))[0]; o.err != nil {
		t.Fatal(o.err)
	}
	h.replay(slave, 1)
	for _, row := range slave.rows("d", "SELECT a FROM v ORDER BY rowid") {
		there = append(there, row[0])
	}
	for _, row := range master.rows("d", "SELECT a FROM v ORDER BY rowid") {
		back = append(back, row[0])
	}
	return there, back
}

func TestEveryValueArrivesExactly(t *testing.T) {
	h, master, slave := cluster(t, "CREATE TABLE v (a)")
	var values []subjects.Value
	for _, n := range []int64{0, 1, -1, 5, 9007199254740993, -9007199254740993, math.MaxInt64, math.MinInt64, math.MaxInt32 + 1} {
		values = append(values, subjects.IntegerValue(n))
	}
	for _, f := range []float64{0, 5, 5.5, 0.1, -2.5, 1e308, -1e308, math.MaxFloat64, math.SmallestNonzeroFloat64, 9007199254740992, 9007199254740994, 1e15, 1e22, 123456789.125, math.Inf(1), math.Inf(-1)} {
		values = append(values, subjects.RealValue(f))
	}
	for _, s := range []string{"", "5", "a", "Ärger", "\U0001F600", "\x00", "a\x00b\x00", "\xff", "\xc3", "a\xed\xa0\x80b", "\ufeff", "\"\\/\b\f\n\r\t\x01\x7f", "\u2028", strings.Repeat("x", 200_000)} {
		values = append(values, subjects.TextValue(s), subjects.BlobValue([]byte(s)))
	}
	values = append(values, subjects.Value{}, subjects.BlobValue(nil), subjects.BlobValue([]byte{0, 0, 0}))
	there, back := travel(t, h, master, slave, values)
	for i, want := range values {
		if !there[i].Equal(want) || !back[i].Equal(want) {
			t.Errorf("%s %d %v %q: %s %d %v %q on the slave, %s %d %v %q on the master", want.Kind(), want.Int(), want.Float(), clip(want),
				there[i].Kind(), there[i].Int(), there[i].Float(), clip(there[i]), back[i].Kind(), back[i].Int(), back[i].Float(), clip(back[i]))
		}
	}
	same(t, master, slave)

	// What SQLite itself stores as something else: there is no NaN, and zero has no
	// sign where it becomes an integer.
	there, _ = travel(t, h, master, slave, []subjects.Value{subjects.RealValue(math.NaN()), subjects.RealValue(math.Copysign(0, -1))})
	if diff := cmp.Diff([]subjects.Value{{}, there[1]}, there); diff != "" || there[1].Kind() != subjects.Real || there[1].Float() != 0 {
		t.Errorf("NaN and -0.0 became %v", there)
	}
	same(t, master, slave)
}

func clip(v subjects.Value) []byte { return v.Bytes()[:min(40, len(v.Bytes()))] }

func TestAnyValueArrivesExactly(t *testing.T) {
	h, master, slave := cluster(t, "CREATE TABLE v (a)")
	zero := subjects.RealValue(math.Copysign(0, -1))
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(anyValue().Filter(func(v subjects.Value) bool { return !v.Equal(zero) }), 1, 50).Draw(t, "values")
		there, back := travel(t, h, master, slave, values)
		if diff := cmp.Diff(values, there); diff != "" {
			t.Errorf("on the slave: %s", diff)
		}
		if diff := cmp.Diff(values, back); diff != "" {
			t.Errorf("on the master: %s", diff)
		}
	})
	same(t, master, slave)
}

// The column decides the type, by SQLite's rules and nobody else's.
func TestColumnsConvertAsSQLiteDoes(t *testing.T) {
	h, master, slave := cluster(t, "CREATE TABLE v (i INTEGER, r REAL, t TEXT, n NUMERIC, b BLOB)")
	for _, v := range []subjects.Value{
		subjects.IntegerValue(9007199254740993), subjects.RealValue(5), subjects.RealValue(5.5), subjects.TextValue("5"), subjects.TextValue("5.0"),
		subjects.TextValue("9007199254740993"), subjects.TextValue(" 7 "), subjects.TextValue("abc"), subjects.BlobValue([]byte("5")), {},
	} {
		h.group(master, "d", text("INSERT INTO v VALUES (?, ?, ?, ?, ?)", v, v, v, v, v))
	}
	h.replay(slave, 1)
	want := [][]subjects.Value{
		{subjects.IntegerValue(9007199254740993), subjects.RealValue(9007199254740992), subjects.TextValue("9007199254740993"), subjects.IntegerValue(9007199254740993), subjects.IntegerValue(9007199254740993)},
		{subjects.IntegerValue(5), subjects.RealValue(5), subjects.TextValue("5.0"), subjects.IntegerValue(5), subjects.RealValue(5)},
		{subjects.RealValue(5.5), subjects.RealValue(5.5), subjects.TextValue("5.5"), subjects.RealValue(5.5), subjects.RealValue(5.5)},
		{subjects.IntegerValue(5), subjects.RealValue(5), subjects.TextValue("5"), subjects.IntegerValue(5), subjects.TextValue("5")},
		{subjects.IntegerValue(5), subjects.RealValue(5), subjects.TextValue("5.0"), subjects.IntegerValue(5), subjects.TextValue("5.0")},
	}
	got := slave.rows("d", "SELECT * FROM v ORDER BY rowid")
	if diff := cmp.Diff(want, got[:len(want)]); diff != "" {
		t.Error(diff)
	}
	if !bytes.Equal(got[8][0].Bytes(), []byte("5")) || got[8][0].Kind() != subjects.Blob {
		t.Errorf("a blob in an INTEGER column became %v", got[8][0])
	}
	same(t, master, slave)
}
