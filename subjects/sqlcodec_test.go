package subjects_test

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/snapdb/snapdb/subjects"
	"pgregory.net/rapid"
)

func TestRequestText(t *testing.T) {
	r := subjects.Request{
		DB: "SnapDB", SQL: "INSERT INTO Users VALUES (?,?)", Args: []subjects.Value{subjects.IntegerValue(1), subjects.TextValue("Alice")},
		Ack: subjects.Ack{Kind: subjects.AckCount, Count: 2}, TimeoutMS: 5000, Session: "s", Tx: true, MinPosition: 128, MaxLagMS: 2000, ID: "i",
	}
	const want = `{"db":"SnapDB","sql":"INSERT INTO Users VALUES (?,?)","args":[1,"Alice"],"ack":2,"timeout_ms":5000,"session":"s","tx":true,"min_position":128,"max_lag_ms":2000,"id":"i"}`
	if got := subjects.AppendRequest(nil, &r); string(got) != want {
		t.Errorf("%s, want %s", got, want)
	}
	several := subjects.Request{Stmts: []subjects.Stmt{{SQL: "a", Args: []subjects.Value{{}}}, {SQL: "b"}}, Ack: subjects.Ack{Kind: subjects.AckAll}}
	if got, want := string(subjects.AppendRequest(nil, &several)), `{"stmts":[{"sql":"a","args":[null]},{"sql":"b"}],"ack":"all"}`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestRequestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := genRequest().Draw(t, "request")
		data := subjects.AppendRequest(nil, &want)
		var got subjects.Request
		if err := subjects.DecodeRequest(data, &got); err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		checkSame(t, data, want, got)
	})
}

func TestRequestRefuses(t *testing.T) {
	for in, says := range map[string]string{
		"":                                 "empty",
		" \n":                              `{"db":"SnapDB","sql":`,
		"SELECT 1":                         `not a JSON object; it looks like {"db"`,
		`[1]`:                              "not a JSON object",
		`{}`:                               `needs "sql", "stmts" or "more"`,
		`{"db":"d","sql":""}`:              `needs "sql"`,
		`{"stmts":[]}`:                     `needs "sql"`,
		`{"stmts":[{}]}`:                   `field "sql" is missing`,
		`{"sql":"a","stmts":[{"sql":""}]}`: "only one of",
		`{"more":"a","args":[1]}`:          `"args" belongs to "sql"`,
		`{"sqll":"a"}`:                     `unknown field "sqll"`,
		`{"sql":"a","tx":true}`:            `"tx" says something of a "session"`,
		`{"sql":"a","session":"s","tx":1}`: "at byte 30",
		`{"sql":"a","sql":"b"}`:            `"sql" given twice`,
		`{"sql":"a","SQL":"b"}`:            `unknown field "SQL"`,
		`{"sql":"a"} {}`:                   "at byte 12: the end expected",
		`{"sql":"a",}`:                     "at byte 11",
		`{"sql":"a","timeout_ms":-1}`:      "at byte 24: must not be negative",
		`{"sql":"a","timeout_ms":1.5}`:     "not 1.5",
		`{"sql":"a","min_position":-1}`:    "not -1",
		`{"sql":"a","ack":0}`:              `"insync"`,
		`{"sql":"a","ack":"some"}`:         `not "some"`,
		`{"sql":"a","ack":-3}`:             `not "-3"`,
		`{"sql":"a","args":[1e999]}`:       `{"real":"+Inf"}`,
		`{"sql":"a","args":[true]}`:        "pass 1 or 0",
		`{"sql":"a","args":[12345678901234567890]}`:           "64 bits",
		`{"sql":"a","args":{"a":1}}`:                          "[ expected",
		`{"sql":"a","session":null}`:                          "expected",
		`{"sql":"a","id":"` + strings.Repeat("x", 257) + `"}`: "at most 256",
		`{"sql":"SELECT '` + "\xff" + `'"}`:                   "at byte 16: not valid UTF-8",
		`{"sql":"SELECT '` + "\xed\xa0\x80" + `'"}`:           "not valid UTF-8",
		`{"sql":"` + "\xf0\x9f" + `"}`:                        "not valid UTF-8",
		strings.Repeat(`{"sql":`, 10000):                      "expected",
		`{"args":` + strings.Repeat("[", 100000):              "not an SQL value",
	} {
		var r subjects.Request
		err := subjects.DecodeRequest([]byte(in), &r)
		if !errors.Is(err, subjects.ErrMalformed) || !strings.Contains(err.Error(), says) {
			t.Errorf("%.60q: error %v, must say %q", in, err, says)
		}
	}
	err := subjects.DecodeRequest([]byte(`{"sql":"a","ack":"x"}`), new(subjects.Request))
	if !errors.Is(err, subjects.ErrAck) {
		t.Errorf("ack: %v, want ErrAck", err)
	}
}

// A replaced byte in SQL text would run other SQL than was sent; it must never
// get that far, wherever it stands.
func TestRequestInvalidUTF8Anywhere(t *testing.T) {
	good := subjects.AppendRequest(nil, &subjects.Request{DB: "dé", SQL: "SELECT 'ü' -- 😀", Args: []subjects.Value{subjects.TextValue("ä")}})
	if err := subjects.DecodeRequest(good, new(subjects.Request)); err != nil {
		t.Fatal(err)
	}
	for i := range good {
		for _, c := range []byte{0x80, 0xff, 0xc0} {
			bad := append([]byte(nil), good...)
			bad[i] = c
			if err := subjects.DecodeRequest(bad, new(subjects.Request)); err == nil && string(bad) != string(good) && good[i] < 0x80 {
				t.Fatalf("%q accepted", bad)
			}
		}
	}
	var r subjects.Request
	if err := subjects.DecodeRequest(subjects.AppendRequest(nil, &subjects.Request{SQL: "\xff"}), &r); !errors.Is(err, subjects.ErrMalformed) {
		t.Errorf("our own encoder hides it: %v, %q", err, r.SQL)
	}
}

func TestResponseText(t *testing.T) {
	var out subjects.Results
	out.Begin([]string{"id", "name", "n"})
	out.Row()
	out.Value(subjects.IntegerValue(1))
	out.Value(subjects.TextValue("Alice"))
	out.Value(subjects.RealValue(2))
	out.SetMS(0.2)
	out.End([]string{"INTEGER", ""}, 1, 1)
	mark := out.Begin([]string{"half"})
	out.Row()
	out.Value(subjects.Value{})
	out.Rewind(mark)
	out.Begin(nil)
	out.EndMore(nil, "t")
	if out.Rows() != 1 {
		t.Errorf("%d rows, want 1", out.Rows())
	}
	const first = `{"columns":["id","name","n"],"rows":[[1,"Alice",2.0]],"types":["integer","text","real"],"changes":1,"last_insert_id":1,"ms":0.2}`
	const second = `{"columns":[],"rows":[],"types":[],"changes":0,"last_insert_id":0,"ms":0,"truncated":true,"more":"t"}`
	if got := string(out.Bytes()); got != first+","+second || out.Len() != len(got) {
		t.Errorf("results %s", got)
	}
	got := string(subjects.AppendResponse(nil, out.Bytes(), &subjects.Response{Position: 128, Applied: []string{"snap1"}, Pending: []string{}, Session: &subjects.SessionState{DB: "d", Tx: true}}))
	if want := `{"results":[` + first + "," + second + `],"position":128,"applied":["snap1"],"pending":[],"session":{"db":"d","tx":true}}`; got != want {
		t.Errorf("response %s, want %s", got, want)
	}
	failed := &subjects.Error{Code: subjects.CodeConstraint, Message: "UNIQUE constraint failed: Users.id", Statement: 1, Offset: -1}
	got = string(subjects.AppendResponse(nil, nil, &subjects.Response{Error: failed}))
	if want := `{"error":{"code":"constraint","message":"UNIQUE constraint failed: Users.id","statement":1},"position":null}`; got != want {
		t.Errorf("error response %s, want %s", got, want)
	}
	var again subjects.Results
	again.Append(nil)
	again.Append([]byte(first))
	again.Append([]byte(second))
	if string(again.Bytes()) != string(out.Bytes()) {
		t.Errorf("appended %s", again.Bytes())
	}
	again.Reset()
	if again.Len() != 0 || again.Rows() != 0 {
		t.Error("Reset left something")
	}
}

func TestNilResults(t *testing.T) {
	var out *subjects.Results
	out.Begin([]string{"a"})
	out.Row()
	out.Value(subjects.IntegerValue(1))
	out.SetMS(1)
	out.SetTruncated()
	out.End(nil, 1, 1)
	out.Rewind(out.Begin(nil))
	out.EndMore(nil, "x")
	out.Append([]byte("{}"))
	out.Reset()
	if out.Len() != 0 || out.Rows() != 0 || out.Bytes() != nil {
		t.Error("a nil Results kept something")
	}
}

func TestResponseRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := genResponse().Draw(t, "response")
		data := encodeResponse(&want)
		var got subjects.Response
		if err := subjects.DecodeResponse(data, &got); err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		checkSame(t, data, want, got)
		if (want.Applied == nil) != (got.Applied == nil) {
			t.Fatalf("a read and a write look the same: %s", data)
		}
	})
}

// Rows share memory: writing to one must not reach the next.
func TestResponseRowsAreApart(t *testing.T) {
	want := subjects.Response{Results: []subjects.Result{{Columns: []string{"a"}, Types: []string{"integer"}}}}
	for i := range 5000 {
		want.Results[0].Rows = append(want.Results[0].Rows, []subjects.Value{subjects.IntegerValue(int64(i))})
	}
	var got subjects.Response
	if err := subjects.DecodeResponse(encodeResponse(&want), &got); err != nil {
		t.Fatal(err)
	}
	for i, row := range got.Results[0].Rows {
		if row[0].Int() != int64(i) {
			t.Fatalf("row %d is %d", i, row[0].Int())
		}
		_ = append(row, subjects.Value{})
	}
}

func TestResponseRefuses(t *testing.T) {
	for _, in := range []string{
		``, `{}`, `{"position":1}`, `{"results":[],"position":-1}`, `{"results":[{"columns":["a"],"rows":[[1,2]]}]}`, `{"results":[{"rows":[[1]]}]}`,
		`{"results":[],"results":[]}`, `{"error":{"code":"x"}}`, `{"error":{"message":"x"}}`, `{"error":{"code":"x","message":"y","statement":-1}}`,
		`{"results":[],"session":{"tx":1}}`, `{"results":[],"extra":1}`, `{"results":[{"ms":1e999}]}`, `{"results":[]`, `{"results":[{"more":null}]}`,
	} {
		if err := subjects.DecodeResponse([]byte(in), new(subjects.Response)); !errors.Is(err, subjects.ErrMalformed) {
			t.Errorf("%s: %v, want ErrMalformed", in, err)
		}
	}
}

func TestResultsTimeIsANumber(t *testing.T) {
	for _, ms := range []float64{math.NaN(), math.Inf(1), -1} {
		var out subjects.Results
		out.Begin(nil)
		out.SetMS(ms)
		out.End(nil, 0, 0)
		if err := subjects.DecodeResponse(subjects.AppendResponse(nil, out.Bytes(), &subjects.Response{}), new(subjects.Response)); err != nil {
			t.Errorf("%v ms: %v", ms, err)
		}
	}
}
