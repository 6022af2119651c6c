package subjects_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/snapdb/snapdb/subjects"
	"pgregory.net/rapid"
)

// same compares messages by what they mean: nil and empty lists are alike.
var same = cmpopts.EquateEmpty()

func checkSame(t interface{ Fatalf(string, ...any) }, encoded []byte, want, got any) {
	if !json.Valid(encoded) {
		t.Fatalf("not valid JSON: %s", encoded)
	}
	if diff := cmp.Diff(want, got, same); diff != "" {
		t.Fatalf("%s\nread back differently (-want +got):\n%s", encoded, diff)
	}
}

func TestValueText(t *testing.T) {
	for _, c := range []struct {
		v    subjects.Value
		want string
	}{
		{subjects.Value{}, `null`},
		{subjects.IntegerValue(0), `0`},
		{subjects.IntegerValue(math.MinInt64), `-9223372036854775808`},
		{subjects.IntegerValue(1<<53 + 1), `9007199254740993`},
		{subjects.RealValue(5), `5.0`},
		{subjects.RealValue(0), `0.0`},
		{subjects.RealValue(math.Copysign(0, -1)), `-0.0`},
		{subjects.RealValue(0.1), `0.1`},
		{subjects.RealValue(1e20), `100000000000000000000.0`},
		{subjects.RealValue(1e308), `1e+308`},
		{subjects.RealValue(5e-324), `5e-324`},
		{subjects.RealValue(math.Inf(1)), `{"real":"+Inf"}`},
		{subjects.RealValue(math.Inf(-1)), `{"real":"-Inf"}`},
		{subjects.RealValue(math.NaN()), `null`},
		{subjects.TextValue(""), `""`},
		{subjects.TextValue("a\x00\"\\\n\x1f<é😀"), `"a\u0000\"\\\n\u001f<é😀"`},
		{subjects.TextBytes([]byte{0xff, 'a'}), `{"text":"/2E="}`},
		{subjects.BlobValue(nil), `{"blob":""}`},
		{subjects.BlobValue([]byte{0, 1, 2}), `{"blob":"AAEC"}`},
	} {
		got := subjects.AppendValue(nil, c.v)
		if string(got) != c.want {
			t.Errorf("%s, want %s", got, c.want)
		}
		var back subjects.Value
		if err := back.UnmarshalJSON(got); err != nil || !back.Equal(c.v) {
			t.Errorf("%s read back as %s, %v", got, subjects.AppendValue(nil, back), err)
		}
	}
}

func TestValueAccepts(t *testing.T) {
	for in, want := range map[string]subjects.Value{
		` 12 `:                      subjects.IntegerValue(12),
		`-0`:                        subjects.IntegerValue(0),
		`1E2`:                       subjects.RealValue(100),
		`1e-400`:                    subjects.RealValue(0),
		`"\u00e9\ud83d\ude00\/\b"`:  subjects.TextValue("é😀/\b"),
		`{ "text" : "\u0059Q==" }`:  subjects.TextValue("a"),
		`{"\u0062lob":"AA=="}`:      subjects.BlobValue([]byte{0}),
		`9223372036854775807`:       subjects.IntegerValue(math.MaxInt64),
		`18446744073709551616.0e-1`: subjects.RealValue(1844674407370955161.6),
	} {
		var got subjects.Value
		if err := got.UnmarshalJSON([]byte(in)); err != nil || !got.Equal(want) {
			t.Errorf("%s: %s, %v", in, subjects.AppendValue(nil, got), err)
		}
	}
}

func TestValueRefuses(t *testing.T) {
	for _, in := range []string{
		``, ` `, `nul`, `nulll`, `true`, `false`, `[1]`, `[]`, `{}`, `NaN`, `Infinity`, `-`, `+1`, `.5`, `5.`, `1e`, `1e+`,
		`01`, `-01`, `00`, `0x1`, `1 2`, `9223372036854775808`, `-9223372036854775809`, `99999999999999999999999`,
		`18446744073709551616`, `1e309`, `-1e309`,
		`"`, `"a`, `"\`, `"\x"`, `"\u12"`, `"\u12g4"`, `"\ud800"`, `"\ud800\u0041"`, `"\udc00"`, `"\ud83d\ud83d"`, "\"\n\"", "\"\x00\"",
		"\"\xff\"", "\"\xed\xa0\x80\"", "\"\xc0\x80\"", "\ufeff1",
		`{"real":"NaN"}`, `{"real":1}`, `{"real":"Inf"}`, `{"blob":"A"}`, `{"blob":"AB=="}`, `{"blob":"AA"}`, `{"blob":"AA==\n"}`, `{"blob":1}`,
		`{"text":"AA==","text":"AA=="}`, `{"blob":"AA==","x":1}`, `{"other":1}`, `{"blob":"AA=="`, `{"blob":"AA==",}`,
	} {
		var v subjects.Value
		if err := v.UnmarshalJSON([]byte(in)); !errors.Is(err, subjects.ErrMalformed) {
			t.Errorf("%q: %v, want ErrMalformed; read %s", in, err, subjects.AppendValue(nil, v))
		}
	}
}

func TestValueThroughEncodingJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.SliceOf(genValue()).Draw(t, "values")
		data, err := json.Marshal(in)
		if err != nil {
			t.Fatalf("%v", err)
		}
		var out []subjects.Value
		if err := json.Unmarshal(data, &out); err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		checkSame(t, data, in, out)
		clear(data) // the values must not depend on the document
		checkSame(t, []byte("0"), in, out)
	})
}

// What encoding/json makes of a string and of a number must be what we make of it.
func TestAgreesWithEncodingJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := genValue().Draw(t, "value")
		data := subjects.AppendValue(nil, v)
		if utf8Text(v) {
			var s string
			if err := json.Unmarshal(data, &s); err != nil || s != string(v.Bytes()) {
				t.Fatalf("%s: encoding/json reads %q, %v", data, s, err)
			}
			theirs, _ := json.Marshal(s)
			var back subjects.Value
			if err := back.UnmarshalJSON(theirs); err != nil || !back.Equal(v) {
				t.Fatalf("%s of encoding/json: %v", theirs, err)
			}
		}
		if v.Kind() == subjects.Real && !math.IsInf(v.Float(), 0) {
			f, err := strconv.ParseFloat(string(data), 64)
			if err != nil || math.Float64bits(f) != math.Float64bits(v.Float()) {
				t.Fatalf("%s: %v, %v", data, f, err)
			}
		}
	})
}

func TestBodyText(t *testing.T) {
	b := subjects.Body{DB: "SnapDB", Engine: "e1", Txns: []subjects.Txn{
		{Now: 1795392000123, Seed: 0x9f86d081884c7d65, Sum: 0x5be1, Stmts: []subjects.LogStmt{
			{Stmt: subjects.Stmt{SQL: "INSERT INTO Users VALUES (?,?)", Args: []subjects.Value{subjects.IntegerValue(1), subjects.TextValue("Alice")}}},
		}},
		{Now: 2, Counters: subjects.Counters{RowID: 3, Changes: 4, Total: 5}, ID: "x", Interactive: true, Stmts: []subjects.LogStmt{
			{Stmt: subjects.Stmt{SQL: "SELECT"}, Fails: "no such \xff"},
		}},
	}}
	const want = `{"v":1,"db":"SnapDB","engine":"e1","txns":[` +
		`{"now":1795392000123,"seed":"9f86d081884c7d65","stmts":[{"sql":"INSERT INTO Users VALUES (?,?)","args":[1,"Alice"]}],"sum":"0000000000005be1"},` +
		`{"now":2,"seed":"0000000000000000","rowid":3,"changes":4,"total":5,"id":"x","interactive":true,"stmts":[{"sql":"SELECT","fails":"no such ` + "\uFFFD" + `"}],"sum":"0000000000000000"}]}`
	if got := subjects.AppendBody(nil, &b); string(got) != want {
		t.Errorf("body\n%s\nwant\n%s", got, want)
	}
	parts := subjects.BeginBody(nil, b.DB, b.Engine)
	parts = subjects.AppendTxn(parts, &b.Txns[0])
	parts = append(parts, ',')
	parts = subjects.EndBody(subjects.AppendTxn(parts, &b.Txns[1]))
	if string(parts) != want {
		t.Errorf("body in parts\n%s\nwant\n%s", parts, want)
	}
	digest := "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
	blob := subjects.AppendBody(nil, &subjects.Body{DB: "d", Engine: "e", Blob: &subjects.BlobRef{Digest: digest, Size: 7}})
	if want := `{"v":1,"db":"d","engine":"e","blob":{"digest":"` + digest + `","size":7}}`; string(blob) != want {
		t.Errorf("blob body %s, want %s", blob, want)
	}
	image := subjects.AppendBody(nil, &subjects.Body{DB: "d", Engine: "e", Image: &subjects.ImageRef{BlobRef: subjects.BlobRef{Digest: digest, Size: 7}, File: 9}})
	if want := `{"v":1,"db":"d","engine":"e","image":{"digest":"` + digest + `","size":7,"file":9}}`; string(image) != want {
		t.Errorf("image body %s, want %s", image, want)
	}
}

func TestBodyRoundTrip(t *testing.T) {
	var got subjects.Body // used again on purpose
	rapid.Check(t, func(t *rapid.T) {
		want := genBody().Draw(t, "body")
		data := subjects.AppendBody(nil, &want)
		if v := subjects.VerifyOf(data); v != want.Verify {
			t.Fatalf("%s asks for the comparison %q", data, v)
		}
		if err := subjects.DecodeBody(data, &got); err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		checkSame(t, data, want, got)
	})
}

func TestBodyRefuses(t *testing.T) {
	txn := `{"now":1,"seed":"0000000000000000","stmts":[],"sum":"0000000000000000"}`
	head := `{"v":1,"db":"d","engine":"e",`
	if err := subjects.DecodeBody([]byte(head+`"txns":[`+txn+`]}`), new(subjects.Body)); err != nil {
		t.Fatalf("the good one: %v", err)
	}
	for _, in := range []string{
		``, `[]`, `{}`, head + `}`, head + `"txns":[]} x`, head + `"txns":[]}{}`, head + `"txns":[` + txn + `,]}`,
		head + `"txns":[],"txns":[]}`, head + `"txns":[],"other":1}`, `{"v":1,"db":"d","txns":[]}`, `{"v":1,"engine":"d","txns":[]}`,
		`{"db":"d","engine":"e","txns":[]}`, head + `"txns":[],"db":"d"}`, head + `"txns":[],"db":"` + "\xff" + `"}`,
		head + `"txns":[{}]}`, head + `"txns":[{"now":1.0}]}`, head + `"txns":[{"now":1,"seed":"0","stmts":[],"sum":"0000000000000000"}]}`,
		head + `"txns":[{"now":1,"seed":"000000000000000G","stmts":[],"sum":"0000000000000000"}]}`,
		head + `"txns":[{"now":1,"seed":"0000000000000000","stmts":[{}],"sum":"0000000000000000"}]}`,
		head + `"txns":[{"now":1,"seed":"0000000000000000","stmts":[{"sql":"x","sum":"0000000000000000"}],"sum":"0000000000000000"}]}`,
		head + `"blob":{"digest":"../../etc/passwd","size":1}}`, head + `"blob":{"digest":"","size":1}}`, head + `"blob":null}`,
		head + `"image":{"digest":"` + strings.Repeat("0", 64) + `","size":1}}`, head + `"blob":{"digest":"` + strings.Repeat("0", 64) + `","size":1,"file":1}}`,
		head + `"txns":[],"image":{"digest":"` + strings.Repeat("0", 64) + `","size":1,"file":1}}`,
		head + `"txns":[],"blob":{"digest":"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08","size":1}}`,
		head + `"blob":{"digest":"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08","size":-1}}`,
	} {
		if err := subjects.DecodeBody([]byte(in), new(subjects.Body)); !errors.Is(err, subjects.ErrMalformed) {
			t.Errorf("%s: %v, want ErrMalformed", in, err)
		}
	}
	for _, data := range []string{`{"v":2,"new":1}`, `{"v":2,"db":"d","engine":"e","txns":[]}`, `{"v":18446744073709551615`} {
		err := subjects.DecodeBody([]byte(data), new(subjects.Body))
		if !errors.Is(err, subjects.ErrVersion) || errors.Is(err, subjects.ErrMalformed) || !strings.Contains(err.Error(), "use a newer snapdb") {
			t.Errorf("%s: %v, want ErrVersion alone, with what to do", data, err)
		}
	}
	if err := subjects.DecodeBody([]byte(`{"v":0,"db":"d","engine":"e","txns":[]}`), new(subjects.Body)); !errors.Is(err, subjects.ErrMalformed) {
		t.Errorf("version 0: %v, want ErrMalformed", err)
	}
}

func TestHeader(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Uint64()
		want := subjects.Header{
			DB: rapid.SampledFrom([]string{"SnapDB", subjects.Catalog}).Draw(t, "db"), Inc: n.Draw(t, "inc"), Prev: n.Draw(t, "prev"),
			Chain: subjects.FirstChain(n.Draw(t, "chain")), Term: n.Draw(t, "term"), ID: "r4nd0m",
		}
		if rapid.Bool().Draw(t, "signed") {
			want.Signature = genSignature().Draw(t, "signature")
		}
		got, err := subjects.DecodeHeader(subjects.EncodeHeader(want))
		if err != nil || got != want {
			t.Fatalf("%+v, %v, want %+v", got, err, want)
		}
	})
	good := subjects.Header{DB: "d", ID: "i"}
	for name, values := range map[string][]string{
		subjects.HeaderDB: {"../x"}, subjects.HeaderInc: {"+1"}, subjects.HeaderPrev: {"01"}, subjects.HeaderTerm: {"1", "2"},
		subjects.HeaderChain: {"ABCDEF0123456789ABCDEF0123456789"}, subjects.HeaderID: nil,
	} {
		m := subjects.EncodeHeader(good)
		m[name] = values
		if _, err := subjects.DecodeHeader(m); !errors.Is(err, subjects.ErrMalformed) {
			t.Errorf("%s %q: %v, want ErrMalformed", name, values, err)
		}
	}
	if _, err := subjects.DecodeHeader(nil); !errors.Is(err, subjects.ErrMalformed) {
		t.Errorf("no headers: %v", err)
	}
}

// readTxns reads all transactions of a blob, as values of their own.
func readTxns(r io.Reader) (txns []subjects.Txn, err error) {
	tr := subjects.NewTxnReader(r)
	for {
		head, err := tr.Next()
		if err == io.EOF {
			return txns, nil
		}
		if err != nil {
			return nil, err
		}
		t := *head
		for {
			st, err := tr.Stmt()
			if err == io.EOF {
				break
			}
			if err != nil {
				return nil, err
			}
			ls := subjects.LogStmt{Stmt: subjects.Stmt{SQL: st.SQL}, Fails: st.Fails}
			for _, v := range st.Args {
				ls.Args = append(ls.Args, v.Clone())
			}
			t.Stmts = append(t.Stmts, ls)
		}
		t.Sum = tr.Sum()
		txns = append(txns, t)
	}
}

func writeTxns(w io.Writer, txns []subjects.Txn) error {
	tw := subjects.NewTxnWriter(w)
	for i := range txns {
		tw.Begin(&txns[i])
		for j := range txns[i].Stmts {
			tw.Stmt(&txns[i].Stmts[j])
		}
		if err := tw.End(txns[i].Sum); err != nil {
			return err
		}
	}
	return nil
}

func TestTxnsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(genTxn(), 0, 5).Draw(t, "txns")
		var buf bytes.Buffer
		if err := writeTxns(&buf, want); err != nil {
			t.Fatalf("%v", err)
		}
		for line := range bytes.Lines(buf.Bytes()) {
			if !json.Valid(line) {
				t.Fatalf("not valid JSON: %s", line)
			}
		}
		got, err := readTxns(iotest.OneByteReader(bytes.NewReader(buf.Bytes())))
		if err != nil {
			t.Fatalf("%v in\n%s", err, buf.Bytes())
		}
		checkSame(t, []byte("0"), want, got)
		// Cut anywhere but between transactions, it is malformed.
		cut := rapid.IntRange(0, buf.Len()).Draw(t, "cut")
		got, err = readTxns(bytes.NewReader(buf.Bytes()[:cut]))
		if err == nil {
			checkSame(t, []byte("0"), want[:len(got)], got)
		} else if !errors.Is(err, subjects.ErrMalformed) {
			t.Fatalf("cut at %d: %v", cut, err)
		}
	})
}

func TestTxnsLongLine(t *testing.T) {
	big := bytes.Repeat([]byte("0123456789abcdef"), 64<<10) // beyond any buffer
	want := []subjects.Txn{{Stmts: []subjects.LogStmt{
		{Stmt: subjects.Stmt{SQL: "a", Args: []subjects.Value{subjects.BlobValue(big), subjects.TextBytes(big)}}},
		{Stmt: subjects.Stmt{SQL: "b"}},
	}}}
	var buf bytes.Buffer
	if err := writeTxns(&buf, want); err != nil {
		t.Fatal(err)
	}
	got, err := readTxns(&buf)
	if err != nil {
		t.Fatal(err)
	}
	checkSame(t, []byte("0"), want, got)
}

func TestTxnReaderSkipsTheRest(t *testing.T) {
	txns := []subjects.Txn{{Now: 1, Stmts: make([]subjects.LogStmt, 3)}, {Now: 2}}
	var buf bytes.Buffer
	if err := writeTxns(&buf, txns); err != nil {
		t.Fatal(err)
	}
	r := subjects.NewTxnReader(&buf)
	for _, want := range []int64{1, 2} {
		if head, err := r.Next(); err != nil || head.Now != want {
			t.Fatalf("%+v, %v", head, err)
		}
	}
}

func TestTxnsErrors(t *testing.T) {
	broken := errors.New("disk")
	if err := writeTxns(failingWriter{broken}, []subjects.Txn{{}}); !errors.Is(err, broken) {
		t.Errorf("write: %v", err)
	}
	if _, err := readTxns(iotest.ErrReader(broken)); !errors.Is(err, broken) || errors.Is(err, subjects.ErrMalformed) {
		t.Errorf("read: %v", err)
	}
	head := `{"now":1,"seed":"0000000000000000"}` + "\n"
	for _, in := range []string{
		"\n", "x\n", head, head + "{}\n", head + head, head + `{"sql":"x","sum":"0000000000000000"}` + "\n",
		head + `{"sum":"0000000000000000"}`, `{"sum":"0000000000000000"}` + "\n", `{"now":1}` + "\n",
	} {
		if _, err := readTxns(bytes.NewReader([]byte(in))); !errors.Is(err, subjects.ErrMalformed) {
			t.Errorf("%q: %v, want ErrMalformed", in, err)
		}
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

func TestAckMessage(t *testing.T) {
	a := subjects.AckMessage{Term: 7, Session: 3, Applied: map[string]uint64{"SnapDB": 42}}
	if got, want := string(subjects.AppendAck(nil, &a)), `{"term":7,"session":3,"applied":{"SnapDB":42}}`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	var got subjects.AckMessage // used again on purpose
	rapid.Check(t, func(t *rapid.T) {
		want := genAckMessage().Draw(t, "ack")
		data := subjects.AppendAck(nil, &want)
		if err := subjects.DecodeAck(data, &got); err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		checkSame(t, data, want, got)
	})
	for _, in := range []string{``, `{}`, `{"term":-1}`, `{"term":1,"session":1,"applied":{"a":1,"a":2}}`, `{"term":1,"session":1,"applied":{"a":1.5}}`,
		`{"term":18446744073709551616,"session":1,"applied":{}}`} {
		if err := subjects.DecodeAck([]byte(in), &got); !errors.Is(err, subjects.ErrMalformed) {
			t.Errorf("%s: %v, want ErrMalformed", in, err)
		}
	}
}
