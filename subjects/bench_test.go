package subjects_test

import (
	"testing"

	"github.com/snapdb/snapdb/subjects"
)

func benchRequest() *subjects.Request {
	return &subjects.Request{
		DB: "SnapDB", SQL: "INSERT INTO Users VALUES (?,?)",
		Args: []subjects.Value{subjects.IntegerValue(123456), subjects.TextValue("Alice in Wonderland")},
	}
}

func benchBody(n int) *subjects.Body {
	r := benchRequest()
	b := &subjects.Body{DB: "SnapDB", Engine: "3fb19f86d081884c"}
	for i := range n {
		b.Txns = append(b.Txns, subjects.Txn{
			Now: 1795392000123, Seed: 0x9f86d081884c7d65, Sum: uint64(i),
			Stmts: []subjects.LogStmt{{Stmt: subjects.Stmt{SQL: r.SQL, Args: r.Args}}},
		})
	}
	return b
}

func benchResponse() *subjects.Response {
	return &subjects.Response{
		Results: []subjects.Result{{
			Columns: []string{"id", "name"}, Types: []string{"integer", "text"}, Rows: [][]subjects.Value{benchRequest().Args}, MS: 0.025,
		}},
		Position: 128, Applied: []string{"snap1", "snap2"}, Pending: []string{},
	}
}

func BenchmarkAppendRequest(b *testing.B) {
	r, buf := benchRequest(), []byte(nil)
	b.ReportAllocs()
	for b.Loop() {
		buf = subjects.AppendRequest(buf[:0], r)
	}
}

func BenchmarkDecodeRequest(b *testing.B) {
	data := subjects.AppendRequest(nil, benchRequest())
	var r subjects.Request
	b.ReportAllocs()
	for b.Loop() {
		if err := subjects.DecodeRequest(data, &r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendTxn(b *testing.B) {
	t, buf := &benchBody(1).Txns[0], []byte(nil)
	b.ReportAllocs()
	for b.Loop() {
		buf = subjects.AppendTxn(buf[:0], t)
	}
}

func BenchmarkDecodeBody64(b *testing.B) {
	data := subjects.AppendBody(nil, benchBody(64))
	var body subjects.Body
	b.ReportAllocs()
	for b.Loop() {
		if err := subjects.DecodeBody(data, &body); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/64, "ns/txn")
}

func BenchmarkAppendResponse(b *testing.B) {
	want := benchResponse()
	var out subjects.Results
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		out.Reset()
		out.Begin(want.Results[0].Columns)
		out.Row()
		for _, v := range want.Results[0].Rows[0] {
			out.Value(v)
		}
		out.SetMS(0.025)
		out.End(want.Results[0].Types, 0, 0)
		buf = subjects.AppendResponse(buf[:0], out.Bytes(), want)
	}
}

func BenchmarkDecodeResponse(b *testing.B) {
	data := encodeResponse(benchResponse())
	var r subjects.Response
	b.ReportAllocs()
	for b.Loop() {
		if err := subjects.DecodeResponse(data, &r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAck(b *testing.B) {
	a := subjects.AckMessage{Term: 7, Session: 3, Applied: map[string]uint64{"SnapDB": 4200}}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = subjects.AppendAck(buf[:0], &a)
		if err := subjects.DecodeAck(buf, &a); err != nil {
			b.Fatal(err)
		}
	}
}
