package subjects_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/snapdb/snapdb/subjects"
)

// Every decoder, given anything: no panic, and an error that says malformed; or
// else what it read, written again, reads back as the same.

func refusedOr(t *testing.T, err error) bool {
	if err != nil && !errors.Is(err, subjects.ErrMalformed) && !errors.Is(err, subjects.ErrVersion) {
		t.Fatalf("error of another kind: %v", err)
	}
	return err != nil
}

func FuzzValue(f *testing.F) {
	for _, s := range []string{`null`, `-1`, `1.5e-3`, `"a\u0000\ud83d\ude00"`, `{"real":"+Inf"}`, `{"text":"/w=="}`, `{"blob":"AAEC"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var v, again subjects.Value
		if refusedOr(t, v.UnmarshalJSON(data)) {
			return
		}
		out := subjects.AppendValue(nil, v)
		if err := again.UnmarshalJSON(out); err != nil || !again.Equal(v) {
			t.Fatalf("%q written as %q: %v", data, out, err)
		}
	})
}

func FuzzBody(f *testing.F) {
	b := benchBody(2)
	f.Add(subjects.AppendBody(nil, b))
	b.Txns[0].ID, b.Txns[0].Interactive, b.Txns[0].Counters.RowID, b.Txns[1].Stmts[0].Fails = "i", true, -1, "no"
	f.Add(subjects.AppendBody(nil, b))
	f.Add([]byte(`{"v":1,"db":"d","engine":"e","blob":{"digest":"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08","size":1}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var got, again subjects.Body
		if refusedOr(t, subjects.DecodeBody(data, &got)) {
			return
		}
		out := subjects.AppendBody(nil, &got)
		if err := subjects.DecodeBody(out, &again); err != nil {
			t.Fatalf("%q written as %q: %v", data, out, err)
		}
		checkSame(t, out, got, again)
	})
}

func FuzzTxns(f *testing.F) {
	var buf bytes.Buffer
	if err := writeTxns(&buf, benchBody(2).Txns); err != nil {
		f.Fatal(err)
	}
	f.Add(buf.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := readTxns(bytes.NewReader(data))
		if refusedOr(t, err) {
			return
		}
		var out bytes.Buffer
		if err := writeTxns(&out, got); err != nil {
			t.Fatal(err)
		}
		again, err := readTxns(bytes.NewReader(out.Bytes()))
		if err != nil {
			t.Fatalf("%q written as %q: %v", data, out.Bytes(), err)
		}
		checkSame(t, []byte("0"), got, again)
	})
}

func FuzzRequest(f *testing.F) {
	f.Add(subjects.AppendRequest(nil, benchRequest()))
	f.Add([]byte(`{"stmts":[{"sql":"a","args":[{"blob":""},null]},{"sql":"b"}],"ack":"all","timeout_ms":1,"session":"s","min_position":2,"max_lag_ms":3,"id":"i"}`))
	f.Add([]byte(`{"more":"t","ack":2}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var got, again subjects.Request
		if refusedOr(t, subjects.DecodeRequest(data, &got)) {
			return
		}
		out := subjects.AppendRequest(nil, &got)
		if err := subjects.DecodeRequest(out, &again); err != nil {
			t.Fatalf("%q written as %q: %v", data, out, err)
		}
		checkSame(t, out, got, again)
	})
}

func FuzzResponse(f *testing.F) {
	f.Add(encodeResponse(benchResponse()))
	f.Add([]byte(`{"error":{"code":"syntax","message":"m","statement":1,"offset":0},"position":null,"session":{"db":"d","tx":true}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var got, again subjects.Response
		if refusedOr(t, subjects.DecodeResponse(data, &got)) {
			return
		}
		// Results writes only what a server can say.
		for i := range got.Results {
			r := &got.Results[i]
			r.Types = append(r.Types, make([]string, len(r.Columns))...)[:len(r.Columns)]
			for j := range r.Types {
				r.Types[j] = "t"
			}
			r.MS = max(r.MS, 0)
			r.Truncated = r.Truncated || r.More != ""
			if r.Truncated {
				r.Changes, r.LastInsertID = 0, 0
			}
		}
		out := encodeResponse(&got)
		if err := subjects.DecodeResponse(out, &again); err != nil {
			t.Fatalf("%q written as %q: %v", data, out, err)
		}
		checkSame(t, out, got, again)
	})
}

func FuzzAck(f *testing.F) {
	f.Add([]byte(`{"term":7,"session":3,"applied":{"SnapDB":42},"applying":{"a":1}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var got, again subjects.AckMessage
		if refusedOr(t, subjects.DecodeAck(data, &got)) {
			return
		}
		out := subjects.AppendAck(nil, &got)
		if err := subjects.DecodeAck(out, &again); err != nil {
			t.Fatalf("%q written as %q: %v", data, out, err)
		}
		checkSame(t, out, got, again)
	})
}

func FuzzHeader(f *testing.F) {
	f.Add("SnapDB", "12", "41", "3fb1000000000000000000000000abcd", "7", "x", strings.Repeat("A", 85)+"Q==", "0123456789abcdef")
	f.Add("SnapDB", "12", "41", "3fb1000000000000000000000000abcd", "7", "x", "", "")
	f.Fuzz(func(t *testing.T, db, inc, prev, chain, term, id, sig, key string) {
		m := map[string][]string{
			subjects.HeaderDB: {db}, subjects.HeaderInc: {inc}, subjects.HeaderPrev: {prev},
			subjects.HeaderChain: {chain}, subjects.HeaderTerm: {term}, subjects.HeaderID: {id},
		}
		if sig != "" || key != "" {
			m[subjects.HeaderSig], m[subjects.HeaderKey] = []string{sig}, []string{key}
		}
		got, err := subjects.DecodeHeader(m)
		if refusedOr(t, err) {
			return
		}
		if again, err := subjects.DecodeHeader(subjects.EncodeHeader(got)); err != nil || again != got {
			t.Fatalf("%+v, %v, want %+v", again, err, got)
		}
	})
}
