package subjects

import (
	"encoding/hex"
	"fmt"
	"math/bits"
	"strconv"
)

// EncodeHeader gives the headers of a log message, in the shape of nats.Header.
func EncodeHeader(h Header) map[string][]string {
	m := map[string][]string{
		HeaderDB:    {h.DB},
		HeaderInc:   {strconv.FormatUint(h.Inc, 10)},
		HeaderPrev:  {strconv.FormatUint(h.Prev, 10)},
		HeaderChain: {h.Chain.String()},
		HeaderTerm:  {strconv.FormatUint(h.Term, 10)},
		HeaderID:    {h.ID},
	}
	if h.Signature != (Signature{}) {
		EncodeSignature(m, h.Signature)
	}
	return m
}

// DecodeHeader reads what EncodeHeader wrote; other headers are not looked at.
// The error wraps ErrMalformed and names the header.
func DecodeHeader(m map[string][]string) (Header, error) {
	var h Header
	var err error
	get := func(name string) string {
		v := m[name]
		if err == nil && (len(v) != 1 || v[0] == "") {
			err = fmt.Errorf("%w header %s: one value needed, %d given", ErrMalformed, name, len(v))
		}
		if err != nil {
			return ""
		}
		return v[0]
	}
	number := func(name string) uint64 {
		text := get(name)
		n, perr := strconv.ParseUint(text, 10, 64)
		if err == nil && (perr != nil || strconv.FormatUint(n, 10) != text) {
			err = fmt.Errorf("%w header %s: %q is not a decimal number", ErrMalformed, name, clip(text))
		}
		return n
	}
	h.DB = get(HeaderDB)
	if err == nil && h.DB != Catalog {
		if cerr := CheckDatabase(h.DB); cerr != nil {
			err = fmt.Errorf("%w header %s: %w", ErrMalformed, HeaderDB, cerr)
		}
	}
	h.Inc = number(HeaderInc)
	h.Prev = number(HeaderPrev)
	h.Term = number(HeaderTerm)
	h.ID = get(HeaderID)
	chain := get(HeaderChain)
	if err == nil && h.Chain.UnmarshalText([]byte(chain)) != nil {
		err = fmt.Errorf("%w header %s: %q is not a chain", ErrMalformed, HeaderChain, clip(chain))
	}
	if err == nil {
		h.Signature, err = DecodeSignature(m)
	}
	if err != nil {
		return Header{}, err
	}
	return h, nil
}

// UnmarshalText reads what MarshalText writes, nothing else. The error wraps
// ErrMalformed.
func (c *Chain) UnmarshalText(text []byte) error {
	var read Chain
	if len(text) != hex.EncodedLen(len(read)) {
		return fmt.Errorf("%w chain: must have %d digits, not %d", ErrMalformed, hex.EncodedLen(len(read)), len(text))
	}
	if _, err := hex.Decode(read[:], text); err != nil || read.String() != string(text) {
		return fmt.Errorf("%w chain: %q", ErrMalformed, text)
	}
	*c = read
	return nil
}

// AppendBody writes the body of a log message.
func AppendBody(dst []byte, b *Body) []byte {
	switch {
	case b.Blob != nil:
		dst = append(appendBodyHead(dst, b.DB, b.Engine), `,"blob":{`...)
		return append(appendBlobRef(dst, *b.Blob), "}}"...)
	case b.Image != nil:
		dst = append(appendBodyHead(dst, b.DB, b.Engine), `,"image":{`...)
		dst = append(appendBlobRef(dst, b.Image.BlobRef), `,"file":`...)
		return append(strconv.AppendInt(dst, b.Image.File, 10), "}}"...)
	}
	if b.Verify != "" {
		dst = appendString(append(appendBodyHead(dst, b.DB, b.Engine), `,"verify":`...), string(b.Verify))
		return append(dst, '}')
	}
	dst = BeginBody(dst, b.DB, b.Engine)
	for i := range b.Txns {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = AppendTxn(dst, &b.Txns[i])
	}
	return EndBody(dst)
}

func appendBlobRef(dst []byte, ref BlobRef) []byte {
	dst = appendString(append(dst, `"digest":`...), ref.Digest)
	return strconv.AppendInt(append(dst, `,"size":`...), ref.Size, 10)
}

// BeginBody writes what comes before the transactions of a body. With AppendTxn,
// joined by commas, and EndBody a body is built as its transactions happen.
func BeginBody(dst []byte, db, engine string) []byte {
	return append(appendBodyHead(dst, db, engine), `,"txns":[`...)
}

// EndBody writes what comes after the transactions of a body.
func EndBody(dst []byte) []byte { return append(dst, "]}"...) }

func appendBodyHead(dst []byte, db, engine string) []byte {
	dst = append(dst, `{"v":`...)
	dst = strconv.AppendInt(dst, Version, 10)
	dst = append(dst, `,"db":`...)
	dst = appendString(dst, db)
	dst = append(dst, `,"engine":`...)
	return appendString(dst, engine)
}

// AppendTxn writes one transaction of a body.
func AppendTxn(dst []byte, t *Txn) []byte {
	dst = appendTxnHead(dst, t)
	dst = append(dst, `,"stmts":[`...)
	for i := range t.Stmts {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendLogStmt(dst, &t.Stmts[i])
	}
	dst = append(dst, `],"sum":`...)
	dst = appendHex64(dst, t.Sum)
	return append(dst, '}')
}

// appendTxnHead writes a transaction up to its statements, without closing it.
func appendTxnHead(dst []byte, t *Txn) []byte {
	dst = append(dst, `{"now":`...)
	dst = strconv.AppendInt(dst, t.Now, 10)
	dst = append(dst, `,"seed":`...)
	dst = appendHex64(dst, t.Seed)
	dst = appendCounter(dst, `,"rowid":`, t.Counters.RowID)
	dst = appendCounter(dst, `,"changes":`, t.Counters.Changes)
	dst = appendCounter(dst, `,"total":`, t.Counters.Total)
	if t.ID != "" {
		dst = append(dst, `,"id":`...)
		dst = appendString(dst, t.ID)
	}
	if t.Request != 0 {
		dst = append(dst, `,"request":`...)
		dst = appendHex64(dst, t.Request)
	}
	if t.Interactive {
		dst = append(dst, `,"interactive":true`...)
	}
	return dst
}

func appendCounter(dst []byte, name string, n int64) []byte {
	if n == 0 {
		return dst
	}
	return strconv.AppendInt(append(dst, name...), n, 10)
}

func appendLogStmt(dst []byte, s *LogStmt) []byte {
	dst = append(dst, `{"sql":`...)
	dst = appendString(dst, s.SQL)
	dst = appendArgs(dst, s.Args)
	if s.Fails != "" {
		dst = append(dst, `,"fails":`...)
		dst = appendShown(dst, s.Fails)
	}
	return append(dst, '}')
}

// The fields of a transaction.
const (
	txnNow fields = 1 << iota
	txnSeed
	txnRowID
	txnChanges
	txnTotal
	txnID
	txnRequest
	txnInteractive
	txnStmts
	txnSum
)

// DecodeBody reads the body of a log message into b, using the memory of its
// slices again. Texts and blobs alias data, which must not change while b is in
// use. The error wraps ErrMalformed, or ErrVersion: a body begins with its format, so
// nothing of a newer one needs to be understood but that.
func DecodeBody(data []byte, b *Body) error {
	s := newScanner(data)
	old := *b
	*b = Body{Txns: old.Txns[:0]}
	const (
		v fields = 1 << iota
		db
		engine
		txns
		blob
		image
		verify
	)
	var seen fields
	for key := s.firstKey(); key != nil; key = s.nextKey() {
		switch string(key) {
		case "v":
			s.once(&seen, v, key)
			switch n := s.uint(); {
			case s.err == nil && n > Version:
				return fmt.Errorf("%w (format %d, this one reads %d): use a newer snapdb here", ErrVersion, n, Version)
			case s.err == nil && n == 0:
				s.fail("v: there is no format 0")
			}
		case "db":
			s.once(&seen, db, key)
			b.DB = s.text(old.DB)
		case "engine":
			s.once(&seen, engine, key)
			b.Engine = s.text(old.Engine)
		case "txns":
			s.once(&seen, txns, key)
			for ok := s.firstElem(); ok; ok = s.nextElem() {
				b.Txns = extend(b.Txns)
				s.txn(&b.Txns[len(b.Txns)-1])
			}
		case "blob":
			s.once(&seen, blob, key)
			b.Blob = new(BlobRef)
			s.blobRef(b.Blob, nil)
		case "image":
			s.once(&seen, image, key)
			b.Image = new(ImageRef)
			s.blobRef(&b.Image.BlobRef, &b.Image.File)
		case "verify":
			s.once(&seen, verify, key)
			b.Verify = VerifyMode(s.str())
			if s.err == nil && b.Verify != VerifyContent && b.Verify != VerifyDeep {
				s.fail("verify: %q or %q expected", VerifyContent, VerifyDeep)
			}
		default:
			s.unknown(key)
		}
	}
	s.need(seen, v, "v")
	s.need(seen, db, "db")
	s.need(seen, engine, "engine")
	if s.err == nil && bits.OnesCount(uint(seen&(txns|blob|image|verify))) != 1 {
		s.fail("either transactions, a blob, an image or verify expected")
	}
	return s.end()
}

// blobRef reads the name of a blob and, of an image, the size of its file.
func (s *scanner) blobRef(ref *BlobRef, unpacked *int64) {
	const digest, size, file fields = 1, 2, 4
	var seen fields
	for key := s.firstKey(); key != nil; key = s.nextKey() {
		switch {
		case string(key) == "digest":
			s.once(&seen, digest, key)
			ref.Digest = s.digest()
		case string(key) == "size":
			s.once(&seen, size, key)
			ref.Size = s.count()
		case string(key) == "file" && unpacked != nil:
			s.once(&seen, file, key)
			*unpacked = s.count()
		default:
			s.unknown(key)
		}
	}
	s.need(seen, digest, "digest")
	s.need(seen, size, "size")
	if unpacked != nil {
		s.need(seen, file, "file")
	}
}

// digest reads a SHA-256 in lower-case hexadecimal. It becomes the name of a
// file, so nothing else may pass.
func (s *scanner) digest() string {
	text := s.str()
	for i := 0; i < len(text); i++ {
		if c := text[i]; !isDigit(c) && (c < 'a' || c > 'f') {
			s.fail("digest: lower-case hexadecimal expected")
		}
	}
	if len(text) != 64 {
		s.fail("digest: 64 digits expected, not %d", len(text))
	}
	return text
}

func (s *scanner) txn(t *Txn) {
	*t = Txn{Stmts: t.Stmts[:0]}
	var seen fields
	for key := s.firstKey(); key != nil; key = s.nextKey() {
		switch string(key) {
		case "stmts":
			s.once(&seen, txnStmts, key)
			for ok := s.firstElem(); ok; ok = s.nextElem() {
				t.Stmts = extend(t.Stmts)
				s.logStmt(&t.Stmts[len(t.Stmts)-1])
			}
		case "sum":
			s.once(&seen, txnSum, key)
			t.Sum = s.hex64()
		default:
			s.txnField(t, key, &seen)
		}
	}
	s.need(seen, txnNow, "now")
	s.need(seen, txnSeed, "seed")
	s.need(seen, txnStmts, "stmts")
	s.need(seen, txnSum, "sum")
}

// txnField reads a field of the head of a transaction.
func (s *scanner) txnField(t *Txn, key []byte, seen *fields) {
	switch string(key) {
	case "now":
		s.once(seen, txnNow, key)
		t.Now = s.int()
	case "seed":
		s.once(seen, txnSeed, key)
		t.Seed = s.hex64()
	case "rowid":
		s.once(seen, txnRowID, key)
		t.Counters.RowID = s.int()
	case "changes":
		s.once(seen, txnChanges, key)
		t.Counters.Changes = s.int()
	case "total":
		s.once(seen, txnTotal, key)
		t.Counters.Total = s.int()
	case "id":
		s.once(seen, txnID, key)
		t.ID = s.str()
	case "request":
		s.once(seen, txnRequest, key)
		t.Request = s.hex64()
	case "interactive":
		s.once(seen, txnInteractive, key)
		t.Interactive = s.bool()
	default:
		s.unknown(key)
	}
}

// The fields of a statement.
const (
	stmtSQL fields = 1 << iota
	stmtArgs
	stmtFails
	stmtSum // in a blob: not a statement but the end of a transaction
)

func (s *scanner) logStmt(ls *LogStmt) {
	old := *ls
	*ls = LogStmt{}
	var seen fields
	for key := s.firstKey(); key != nil; key = s.nextKey() {
		s.logStmtField(ls, &old, key, &seen)
	}
	s.need(seen, stmtSQL, "sql")
}

func (s *scanner) logStmtField(ls, old *LogStmt, key []byte, seen *fields) {
	switch string(key) {
	case "sql":
		s.once(seen, stmtSQL, key)
		ls.SQL = s.text(old.SQL)
	case "args":
		s.once(seen, stmtArgs, key)
		ls.Args = s.args(old.Args)
	case "fails":
		s.once(seen, stmtFails, key)
		ls.Fails = s.str()
	default:
		s.unknown(key)
	}
}
