package subjects

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// maxLine bounds one line of a blob, in bytes: a statement with all its
// arguments. A text of MaxValue control characters needs six times its size.
const maxLine = 8 * MaxValue

// ErrTooBig is returned for a statement that is too large to be logged.
var ErrTooBig = errors.New("statement too big for the log")

// TxnWriter writes transactions as JSON Lines, in constant memory: one line is
// the head of a transaction, one each of its statements, one its sum.
type TxnWriter struct {
	w    *bufio.Writer
	line []byte
	err  error
}

// NewTxnWriter makes a writer. What was written has reached w after each End.
func NewTxnWriter(w io.Writer) *TxnWriter {
	return &TxnWriter{w: bufio.NewWriterSize(w, 64<<10)}
}

// Begin writes the head of a transaction; its statements and sum are not looked
// at. An error is returned again by every later call.
func (w *TxnWriter) Begin(t *Txn) error {
	return w.write(append(appendTxnHead(w.line[:0], t), '}'))
}

// Stmt writes a statement of the transaction.
func (w *TxnWriter) Stmt(s *LogStmt) error {
	return w.write(appendLogStmt(w.line[:0], s))
}

// End writes the sum of the transaction and everything buffered.
func (w *TxnWriter) End(sum uint64) error {
	line := appendHex64(append(w.line[:0], `{"sum":`...), sum)
	if err := w.write(append(line, '}')); err != nil {
		return err
	}
	w.err = w.w.Flush()
	return w.err
}

func (w *TxnWriter) write(line []byte) error {
	w.line = append(line, '\n')
	if w.err == nil && len(w.line) > maxLine {
		w.err = fmt.Errorf("%w: %d bytes, at most %d", ErrTooBig, len(w.line), maxLine)
	}
	if w.err == nil {
		_, w.err = w.w.Write(w.line)
	}
	return w.err
}

// TxnReader reads what TxnWriter wrote. What it returns is valid until the next
// call. Its errors wrap ErrMalformed unless they come from the underlying reader.
type TxnReader struct {
	r      *bufio.Reader
	line   []byte
	number int // of the line, from 1
	scan   scanner
	txn    Txn
	stmt   LogStmt
	open   bool // inside a transaction
}

// NewTxnReader makes a reader of r, which it reads ahead.
func NewTxnReader(r io.Reader) *TxnReader {
	return &TxnReader{r: bufio.NewReaderSize(r, 64<<10)}
}

// Next goes to the next transaction, past the rest of the current one, and
// returns its head. The error is io.EOF after the last.
func (r *TxnReader) Next() (*Txn, error) {
	for r.open {
		if _, err := r.Stmt(); err != nil && err != io.EOF {
			return nil, err
		}
	}
	if err := r.readLine(); err != nil {
		return nil, err
	}
	s := &r.scan
	r.txn = Txn{}
	var seen fields
	for key := s.firstKey(); key != nil; key = s.nextKey() {
		s.txnField(&r.txn, key, &seen)
	}
	s.need(seen, txnNow, "now")
	s.need(seen, txnSeed, "seed")
	if err := s.end(); err != nil {
		return nil, fmt.Errorf("line %d: %w", r.number, err)
	}
	r.open = true
	return &r.txn, nil
}

// Stmt returns the next statement of the transaction, io.EOF after the last.
func (r *TxnReader) Stmt() (*LogStmt, error) {
	if !r.open {
		return nil, io.EOF
	}
	switch err := r.readLine(); {
	case err == io.EOF:
		return nil, fmt.Errorf("%w line %d: the last transaction does not end", ErrMalformed, r.number+1)
	case err != nil:
		return nil, err
	}
	s := &r.scan
	old := r.stmt
	r.stmt = LogStmt{}
	var seen fields
	for key := s.firstKey(); key != nil; key = s.nextKey() {
		if string(key) == "sum" {
			s.once(&seen, stmtSum, key)
			r.txn.Sum = s.hex64()
			continue
		}
		s.logStmtField(&r.stmt, &old, key, &seen)
	}
	if seen != stmtSum {
		s.need(seen, stmtSQL, "sql")
	}
	if s.err == nil && seen&stmtSum != 0 && seen != stmtSum {
		s.fail("a statement has no sum")
	}
	if err := s.end(); err != nil {
		return nil, fmt.Errorf("line %d: %w", r.number, err)
	}
	if seen == stmtSum {
		r.open = false
		return nil, io.EOF
	}
	return &r.stmt, nil
}

// Sum is the sum of the transaction, known once Stmt has returned io.EOF.
func (r *TxnReader) Sum() uint64 { return r.txn.Sum }

// readLine points the scanner at the next line; io.EOF if there is none. Most
// lines are used where the buffered reader has them.
func (r *TxnReader) readLine() error {
	line, err := r.r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		r.line = r.line[:0]
		for errors.Is(err, bufio.ErrBufferFull) && len(r.line) <= maxLine {
			r.line = append(r.line, line...)
			line, err = r.r.ReadSlice('\n')
		}
		r.line = append(r.line, line...)
		line = r.line
	}
	switch {
	case len(line) > maxLine:
		return fmt.Errorf("%w line %d: longer than %d bytes", ErrMalformed, r.number+1, maxLine)
	case err == io.EOF && len(line) == 0:
		return io.EOF
	case err == io.EOF:
		return fmt.Errorf("%w line %d: does not end", ErrMalformed, r.number+1)
	case err != nil:
		return fmt.Errorf("read transactions: %w", err)
	}
	r.number++
	recent, oldest := r.scan.recent, r.scan.oldest
	r.scan = newScanner(line)
	r.scan.recent, r.scan.oldest = recent, oldest
	return nil
}
