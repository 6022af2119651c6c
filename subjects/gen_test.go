package subjects_test

import (
	"math"
	"unicode/utf8"

	"github.com/snapdb/snapdb/subjects"
	"pgregory.net/rapid"
)

// Generators of everything that travels.

func genText() *rapid.Generator[string] {
	return rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{
		"", "\x00", "a\x00b", "\"\\/\b\f\n\r\t\x1f\x7f", "äöü €", "😀", "\u2028\u2029", "</script>", "\uFFFD", "\\u0041",
	}))
}

func genFloat() *rapid.Generator[float64] {
	return rapid.OneOf(rapid.Float64(), rapid.SampledFrom([]float64{
		0, math.Copysign(0, -1), 5, 1e20, 1e21, 1e-6, 1e-7, 1e308, math.MaxFloat64, math.SmallestNonzeroFloat64,
		math.Inf(1), math.Inf(-1), math.NaN(), 1 << 53, 0.1, 123456789.125,
	}))
}

func genValue() *rapid.Generator[subjects.Value] {
	return rapid.OneOf(
		rapid.Just(subjects.Value{}),
		rapid.Map(rapid.Int64(), subjects.IntegerValue),
		rapid.Map(rapid.SampledFrom([]int64{math.MinInt64, math.MaxInt64, 1<<53 + 1, 0, -1}), subjects.IntegerValue),
		rapid.Map(genFloat(), subjects.RealValue),
		rapid.Map(genText(), subjects.TextValue),
		rapid.Map(rapid.SliceOf(rapid.Byte()), subjects.TextBytes),
		rapid.Map(rapid.SliceOf(rapid.Byte()), subjects.BlobValue),
	)
}

func genStmt() *rapid.Generator[subjects.Stmt] {
	return rapid.Custom(func(t *rapid.T) subjects.Stmt {
		return subjects.Stmt{
			SQL:  genText().Filter(func(s string) bool { return s != "" }).Draw(t, "sql"),
			Args: rapid.SliceOfN(genValue(), 0, 5).Draw(t, "args"),
		}
	})
}

func genTxn() *rapid.Generator[subjects.Txn] {
	return rapid.Custom(func(t *rapid.T) subjects.Txn {
		n := rapid.Int64()
		return subjects.Txn{
			Now:         n.Draw(t, "now"),
			Seed:        rapid.Uint64().Draw(t, "seed"),
			Counters:    subjects.Counters{RowID: n.Draw(t, "rowid"), Changes: n.Draw(t, "changes"), Total: n.Draw(t, "total")},
			ID:          genText().Draw(t, "id"),
			Request:     rapid.Uint64().Draw(t, "request"),
			Interactive: rapid.Bool().Draw(t, "interactive"),
			Stmts: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) subjects.LogStmt {
				return subjects.LogStmt{Stmt: genStmt().Draw(t, "stmt"), Fails: genText().Draw(t, "fails")}
			}), 0, 4).Draw(t, "stmts"),
			Sum: rapid.Uint64().Draw(t, "sum"),
		}
	})
}

func genBody() *rapid.Generator[subjects.Body] {
	return rapid.Custom(func(t *rapid.T) subjects.Body {
		b := subjects.Body{DB: genText().Draw(t, "db"), Engine: genText().Draw(t, "engine")}
		if rapid.Bool().Draw(t, "blob") {
			b.Blob = &subjects.BlobRef{
				Digest: rapid.StringMatching("[0-9a-f]{64}").Draw(t, "digest"),
				Size:   rapid.Int64Min(0).Draw(t, "size"),
			}
			if rapid.Bool().Draw(t, "image") {
				b.Image = &subjects.ImageRef{BlobRef: *b.Blob, File: rapid.Int64Min(0).Draw(t, "file")}
				b.Blob = nil
			}
			return b
		}
		if b.Verify = rapid.SampledFrom([]subjects.VerifyMode{"", "", subjects.VerifyContent, subjects.VerifyDeep}).Draw(t, "verify"); b.Verify == "" {
			b.Txns = rapid.SliceOfN(genTxn(), 0, 4).Draw(t, "txns")
		}
		return b
	})
}

func genAck() *rapid.Generator[subjects.Ack] {
	return rapid.SampledFrom([]subjects.Ack{
		{}, {Kind: subjects.AckLog}, {Kind: subjects.AckInSync}, {Kind: subjects.AckAll},
		{Kind: subjects.AckCount, Count: 1}, {Kind: subjects.AckCount, Count: 12},
	})
}

func genRequest() *rapid.Generator[subjects.Request] {
	return rapid.Custom(func(t *rapid.T) subjects.Request {
		short := genText().Filter(func(s string) bool { return len(s) <= 256 })
		r := subjects.Request{
			DB:          genText().Draw(t, "db"),
			Ack:         genAck().Draw(t, "ack"),
			TimeoutMS:   rapid.Int64Min(0).Draw(t, "timeout"),
			Session:     short.Draw(t, "session"),
			MinPosition: rapid.Uint64().Draw(t, "position"),
			MaxLagMS:    rapid.Int64Min(0).Draw(t, "lag"),
			ID:          short.Draw(t, "id"),
		}
		r.Tx = r.Session != "" && rapid.Bool().Draw(t, "tx")
		switch rapid.IntRange(0, 2).Draw(t, "way") {
		case 0:
			st := genStmt().Draw(t, "stmt")
			r.SQL, r.Args = st.SQL, st.Args
		case 1:
			r.Stmts = rapid.SliceOfN(genStmt(), 1, 4).Draw(t, "stmts")
		default:
			r.More = genText().Filter(func(s string) bool { return s != "" }).Draw(t, "more")
		}
		return r
	})
}

func genResult() *rapid.Generator[subjects.Result] {
	return rapid.Custom(func(t *rapid.T) subjects.Result {
		columns := rapid.IntRange(0, 4).Draw(t, "columns")
		r := subjects.Result{
			Columns:      rapid.SliceOfN(genText(), columns, columns).Draw(t, "names"),
			Types:        rapid.SliceOfN(rapid.SampledFrom([]string{"integer", "varchar(3)", "üx"}), columns, columns).Draw(t, "types"),
			Rows:         rapid.SliceOfN(rapid.SliceOfN(genValue(), columns, columns), 0, 5).Draw(t, "rows"),
			Changes:      rapid.Int64().Draw(t, "changes"),
			LastInsertID: rapid.Int64().Draw(t, "rowid"),
			MS:           rapid.Float64Range(0, math.MaxFloat64).Draw(t, "ms"),
			Truncated:    rapid.Bool().Draw(t, "truncated"),
		}
		if r.Truncated {
			r.Changes, r.LastInsertID = 0, 0
			r.More = genText().Draw(t, "more")
		}
		return r
	})
}

func genResponse() *rapid.Generator[subjects.Response] {
	return rapid.Custom(func(t *rapid.T) subjects.Response {
		r := subjects.Response{
			Results:  rapid.SliceOfN(genResult(), 0, 3).Draw(t, "results"),
			Position: rapid.Uint64().Draw(t, "position"),
		}
		if rapid.Bool().Draw(t, "write") {
			r.Applied = rapid.SliceOfN(genText(), 0, 3).Draw(t, "applied")
			r.Pending = rapid.SliceOfN(genText(), 0, 3).Draw(t, "pending")
		}
		if rapid.Bool().Draw(t, "in session") {
			r.Session = &subjects.SessionState{DB: genText().Draw(t, "db"), Tx: rapid.Bool().Draw(t, "tx")}
		}
		if rapid.Bool().Draw(t, "failed") {
			r.Error = &subjects.Error{
				Code:      subjects.CodeSyntax,
				Message:   genText().Draw(t, "message"),
				Statement: rapid.IntRange(0, 9).Draw(t, "statement"),
				Offset:    rapid.IntRange(-1, 99).Draw(t, "offset"),
			}
		}
		return r
	})
}

func genAckMessage() *rapid.Generator[subjects.AckMessage] {
	return rapid.Custom(func(t *rapid.T) subjects.AckMessage {
		positions := rapid.MapOfN(genText(), rapid.Uint64(), 0, 4)
		return subjects.AckMessage{
			Term: rapid.Uint64().Draw(t, "term"), Session: rapid.Uint64().Draw(t, "session"),
			Applied: positions.Draw(t, "applied"), Applying: positions.Draw(t, "applying"),
		}
	})
}

// encodeResponse builds a response the way a server does.
func encodeResponse(r *subjects.Response) []byte {
	var out subjects.Results
	for i := range r.Results {
		res := &r.Results[i]
		out.Begin(res.Columns)
		for _, row := range res.Rows {
			out.Row()
			for _, v := range row {
				out.Value(v)
			}
		}
		out.SetMS(res.MS)
		if res.Truncated {
			out.EndMore(res.Types, res.More)
		} else {
			out.End(res.Types, res.Changes, res.LastInsertID)
		}
	}
	return subjects.AppendResponse(nil, out.Bytes(), r)
}

// utf8Text says whether a value is a text that JSON can hold as a string.
func utf8Text(v subjects.Value) bool { return v.Kind() == subjects.Text && utf8.Valid(v.Bytes()) }
