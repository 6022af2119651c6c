package shell

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/snapdb/snapdb/agent/client"
	"github.com/snapdb/snapdb/cmd/snapdb/format"
	"github.com/snapdb/snapdb/subjects"
)

// Statements of a script that only write travel together, for speed: up to
// maxBatch of them, or as many as one chunk of the script holds.
const maxBatch = 512

// maxDepth bounds .read inside of .read.
const maxDepth = 16

// ScriptError is why a script stopped.
type ScriptError struct {
	Name    string // of the script; "": none, it was part of the command line
	Line    int    // where the statement begins
	Number  int    // of the statement; 0: a dot command, or no statement
	SQL     string // the statement
	Outcome string // what was applied and what was not
	Err     error
}

// Error is several lines: where and why, the statement, what was applied.
func (e *ScriptError) Error() string {
	var b strings.Builder
	if e.Name == "" && e.Number > 0 {
		fmt.Fprintf(&b, "statement %d", e.Number)
	} else if fmt.Fprintf(&b, "%s line %d", e.Name, e.Line); e.Number > 0 {
		fmt.Fprintf(&b, ", statement %d", e.Number)
	}
	text := describe(e.Err, e.SQL)
	fmt.Fprintf(&b, ": %s", text)
	if e.SQL != "" && !strings.Contains(text, "\n") {
		fmt.Fprintf(&b, "\n  %s", clip(e.SQL))
	}
	if e.Outcome != "" {
		fmt.Fprintf(&b, "\n%s", e.Outcome)
	}
	return b.String()
}

// Unwrap gives the reason.
func (e *ScriptError) Unwrap() error { return e.Err }

// FailedError ends a script that kept going.
type FailedError struct {
	Failed, Total int
	RolledBack    bool // with a failure, a whole transaction was undone
}

// Error counts.
func (e *FailedError) Error() string {
	text := fmt.Sprintf("%d of %s failed", e.Failed, format.Count(int64(e.Total), "statement"))
	if e.RolledBack {
		return text + ", with some of them the transactions they were in; all others were applied"
	}
	return text + "; all others were applied"
}

// script is one script being executed.
type script struct {
	s    *Shell
	name string
	in   *Splitter

	batch   []Statement
	done    int // statements executed
	begun   int // the statement that began the open transaction; 0: none is open
	failed  int
	undone  bool // a transaction was rolled back by a failure
	total   int
	defers  bool               // foreign keys are to be checked at COMMIT only
	changed int64              // rows
	last    *subjects.Response // of a write
	display progress
}

// outside is the begun of a script that was called inside a transaction.
const outside = -1

// Script executes SQL and dot commands from r. name is for messages, "" if r is
// part of a command line; size is the length of r in bytes, 0 if unknown. The
// error is a *[ScriptError], a *[FailedError] if the shell keeps going, or
// [ErrQuit].
func (s *Shell) Script(ctx context.Context, name string, r io.Reader, size int64) error {
	x := &script{s: s, name: name, in: NewSplitter(r), display: progress{size: size, start: time.Now()}}
	if s.Session.InTx() {
		x.begun = outside
	}
	if s.Progress {
		x.display.w = s.Stderr
	}
	defer x.display.clear()
	err := x.run(ctx)
	if err == nil && s.depth == 0 && s.Session.InTx() {
		err = &ScriptError{Name: name, Line: x.in.line, Err: errors.New("the script ends inside a transaction"), Outcome: x.before(x.total + 1)}
	}
	if err != nil {
		if x.begun > 0 && !errors.Is(err, ErrQuit) {
			// If this fails there is no connection, and the server will do it.
			_, _ = s.Close(ctx)
		}
		return err
	}
	if x.display.clear(); s.Progress && s.depth == 0 && x.last != nil {
		fmt.Fprintln(s.Stderr, strings.Join([]string{format.Count(int64(x.total), "statement"), format.Count(x.changed, "row"), written(x.last, time.Since(x.display.start))}, " · "))
	}
	if x.failed > 0 {
		return &FailedError{Failed: x.failed, Total: x.total, RolledBack: x.undone}
	}
	return nil
}

func (x *script) run(ctx context.Context) error {
	for {
		st, ok := x.in.Buffered()
		if !ok {
			// Whoever feeds a pipe slowly sees each statement executed as
			// soon as it is whole.
			if err := x.flush(ctx); err != nil {
				return err
			}
			var err error
			if st, err = x.in.Next(); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return x.broken(err)
			}
		}
		if err := x.take(ctx, st); err != nil {
			return err
		}
	}
}

// take executes a statement, or keeps it to travel with the next.
func (x *script) take(ctx context.Context, st Statement) error {
	if !st.Dot {
		x.total = st.Number
	}
	if !st.Dot && !x.s.Timing && batchable(st.SQL) {
		x.batch = append(x.batch, st)
		if len(x.batch) < maxBatch {
			return nil
		}
		return x.flush(ctx)
	}
	if err := x.flush(ctx); err != nil {
		return err
	}
	switch {
	case st.Dot:
		err := x.s.Dot(ctx, st.SQL)
		if err == nil || errors.Is(err, ErrQuit) {
			x.watch(x.total + 1)
			return err
		}
		var inner *ScriptError
		if errors.As(err, &inner) {
			return err
		}
		return x.fail([]Statement{st}, err)
	case foreignKeysOff.MatchString(st.SQL):
		x.s.note("%s line %d: %s was skipped; foreign keys are checked at COMMIT instead", x.name, st.Line, clip(st.SQL))
		x.done, x.defers = st.Number, true
		return nil
	case foreignKeysOn.MatchString(st.SQL):
		x.done, x.defers = st.Number, false
		return nil
	}
	if err := x.execute(ctx, []Statement{st}); err != nil {
		return err
	}
	if x.defers && x.begun == st.Number {
		if _, err := x.s.send(ctx, &subjects.Request{SQL: "PRAGMA defer_foreign_keys=ON"}); err != nil {
			return x.fail([]Statement{st}, fmt.Errorf("put off the checking of foreign keys: %w", err))
		}
	}
	return nil
}

// Dumps begin with the first of these, and some end with the second. Foreign keys
// are on for good here: whether they are must not differ between nodes.
var (
	foreignKeysOff = regexp.MustCompile(`(?i)^PRAGMA\s+foreign_keys\s*(=\s*|\(\s*)(OFF|0|NO|FALSE)\s*\)?$`)
	foreignKeysOn  = regexp.MustCompile(`(?i)^PRAGMA\s+foreign_keys\s*(=\s*|\(\s*)(ON|1|YES|TRUE)\s*\)?$`)
)

// batchable statements only write, return little, and neither begin nor end
// transactions nor change the database: what stands around them in a batch does
// not change what they mean.
func batchable(sql string) bool {
	first, second := words(sql)
	switch first {
	case "insert", "replace", "update", "delete":
		return true
	case "create", "drop", "alter":
		return second != "database" && second != "schema" && second != "user" && second != ""
	}
	return false
}

// words are the first two of a statement that has no comment before or between
// them, in lower case.
func words(sql string) (first, second string) {
	f := strings.Fields(sql[:min(len(sql), 64)])
	if len(f) > 0 {
		first = strings.ToLower(f[0])
	}
	if len(f) > 1 && isWord(f[1][0]) {
		second = strings.ToLower(f[1])
	}
	return first, second
}

func (x *script) flush(ctx context.Context) error {
	batch := x.batch
	x.batch = x.batch[:0]
	if len(batch) == 0 {
		return nil
	}
	return x.execute(ctx, batch)
}

// execute sends statements in one request. Outside a transaction the request is
// atomic: if a statement of it fails, those before it are sent again without it,
// so that the script has the effect it would have had one by one. Inside one,
// those before it have been executed.
func (x *script) execute(ctx context.Context, batch []Statement) error {
	for len(batch) > 0 {
		inTx := x.begun != 0
		err := x.send(ctx, batch)
		if err == nil {
			return nil
		}
		k := failedStatement(err)
		switch {
		case len(batch) == 1 || k > len(batch) || hopeless(err) || inTx && k == 0:
			return x.fail(batch, err)
		case inTx:
			x.done = batch[k-1].Number - 1
			if err := x.fail(batch[k-1:k], err); err != nil {
				return err
			}
			batch = batch[k:]
		case k <= 1: // the first one failed, or nobody knows which
			if err := x.execute(ctx, batch[:1]); err != nil {
				return err
			}
			batch = batch[1:]
		default:
			if err := x.execute(ctx, batch[:k-1]); err != nil {
				return err
			}
			batch = batch[k-1:]
		}
	}
	return nil
}

// send sends statements and shows their results.
func (x *script) send(ctx context.Context, batch []Statement) error {
	if ctx.Err() != nil {
		return ErrInterrupted
	}
	req := &subjects.Request{}
	for i, st := range batch {
		if !utf8.ValidString(st.SQL) {
			return &subjects.Error{Code: subjects.CodeSyntax, Message: "the statement is not valid UTF-8", Statement: i + 1, Offset: -1}
		}
		req.Stmts = append(req.Stmts, subjects.Stmt{SQL: st.SQL})
	}
	if len(batch) == 1 { // as text, which may be any command
		req.SQL, req.Stmts = batch[0].SQL, nil
	}
	start := time.Now()
	resp, err := x.s.send(ctx, req)
	if err != nil {
		if code(err) == subjects.CodeNotAcknowledged {
			x.did(batch)
		}
		return err
	}
	x.did(batch)
	if x.changed += changes(resp); isWrite(resp) {
		x.last = resp
	}
	x.display.show(x.in.BytesRead(), x.done)
	if hasRows(resp) {
		x.display.clear()
	}
	rows, err := x.s.show(ctx, resp)
	if err != nil {
		return err
	}
	if x.s.Timing {
		x.display.clear()
		fmt.Fprintln(x.s.Stderr, x.s.summary(batch[len(batch)-1].SQL, resp, rows, time.Since(start)))
	}
	return nil
}

// did notes that statements were executed, and whether a transaction is now open.
func (x *script) did(batch []Statement) {
	x.done = batch[len(batch)-1].Number
	x.watch(batch[0].Number)
}

func (x *script) watch(number int) {
	switch open := x.s.Session.InTx(); {
	case open && x.begun == 0:
		x.begun = number
	case !open:
		x.begun = 0
	}
}

// fail reports that statements did not succeed. It returns nil if the script goes
// on.
func (x *script) fail(batch []Statement, err error) error {
	st, n := batch[0], len(batch)
	e := &ScriptError{Name: x.name, Line: st.Line, Number: st.Number, SQL: st.SQL, Err: err}
	if st.Dot { // it counts as what comes behind the last statement
		e.Number, e.SQL = 0, ""
		st.Number, n = x.total+1, 1
	}
	if !x.s.KeepGoing || hopeless(err) {
		e.Outcome = x.outcome(st.Number, st.Number+n-1, unknown(err))
		return e
	}
	if x.begun != 0 && !x.s.Session.InTx() {
		x.undone, e.Outcome = true, x.rolledBack()
	}
	x.watch(st.Number)
	x.display.clear()
	fmt.Fprintln(x.s.Stderr, "error: "+e.Error())
	x.failed += n
	return nil
}

// broken reports that the script itself cannot be read on.
func (x *script) broken(err error) error {
	return fmt.Errorf("%s: %w\n%s", x.name, err, x.outcome(x.total+1, x.total+1, false))
}

// outcome says what of the script is in the database, given that it stops with
// the statements from number first to last. unclear is for an answer that never
// came.
func (x *script) outcome(first, last int, unclear bool) string {
	switch {
	case x.failed == 0 && x.done >= first && x.begun == 0: // executed; what failed was to show it
		return upTo(x.done) + " applied; nothing after it was"
	case unclear && x.begun != 0:
		return "whether the transaction " + x.origin() + " was committed is not known; nothing after it was applied"
	case unclear && first == last:
		return x.before(first) + fmt.Sprintf("; whether statement %d was applied is not known", first)
	case unclear:
		return x.before(first) + fmt.Sprintf("; whether statements %d to %d were applied is not known, either all were or none", first, last)
	case first == 1 && x.begun != outside:
		return "nothing was applied"
	}
	return x.before(first) + fmt.Sprintf("; nothing of statement %d or after it was", first)
}

// before says what of the statements before number first is in the database.
func (x *script) before(first int) string {
	applied, rolledBack := first-1, ""
	if x.begun != 0 {
		applied, rolledBack = max(x.begun-1, 0), "; "+x.rolledBack()
	}
	switch {
	case x.failed > 0:
		return fmt.Sprintf("%s before it failed, the others were applied%s", format.Count(int64(x.failed), "statement"), rolledBack)
	case applied == 0:
		return "no statement was applied" + rolledBack
	}
	return upTo(applied) + " applied" + rolledBack
}

// rolledBack says what becomes of the open transaction: one that the script did
// not begin is not the script's to end.
func (x *script) rolledBack() string {
	if x.begun == outside && x.s.Session.InTx() {
		return "the transaction " + x.origin() + " is still open"
	}
	return "the transaction " + x.origin() + " was rolled back"
}

// origin says where the open transaction was begun.
func (x *script) origin() string {
	if x.begun == outside {
		return "begun before the script"
	}
	return fmt.Sprintf("begun by statement %d", x.begun)
}

func upTo(n int) string {
	if n == 1 {
		return "statement 1 was"
	}
	return fmt.Sprintf("statements 1 to %d were", n)
}

// failedStatement is which statement of a request failed, 0 if unknown.
func failedStatement(err error) int {
	var e *subjects.Error
	if errors.As(err, &e) {
		return e.Statement
	}
	return 0
}

func code(err error) subjects.Code {
	var e *subjects.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// hopeless errors are not a statement's fault: sending it again, or the next one,
// would not help.
func hopeless(err error) bool {
	switch code(err) {
	case "":
		var big *client.TooBigError
		return !errors.As(err, &big)
	case subjects.CodeUnavailable, subjects.CodeBusy, subjects.CodeOutcomeUnknown, subjects.CodeNotAcknowledged, subjects.CodeCancelled:
		return true
	}
	return false
}

// unknown says that a request may have been executed although it failed.
func unknown(err error) bool {
	return code(err) == subjects.CodeOutcomeUnknown || errors.Is(err, client.ErrLost) || errors.Is(err, ErrNoAnswer)
}

// clip makes a statement fit one line of a message.
func clip(sql string) string {
	const limit = 120
	sql = strings.Join(strings.Fields(sql[:min(len(sql), 4*limit)]), " ")
	if r := []rune(sql); len(r) > limit {
		sql = string(r[:limit]) + "…"
	}
	return format.Safe(sql)
}

// File executes a script file; see [Shell.Script].
func (s *Shell) File(ctx context.Context, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("open script: %w", err)
	}
	defer f.Close() // it was only read
	var size int64
	if fi, err := f.Stat(); err == nil && fi.Mode().IsRegular() {
		size = fi.Size()
	}
	return s.Script(ctx, name, f, size)
}

// dotRead executes a script file from within the shell or another script.
func (s *Shell) dotRead(ctx context.Context, name string) error {
	if s.depth >= maxDepth {
		return fmt.Errorf(".read is nested deeper than %d", maxDepth)
	}
	s.depth++
	defer func() { s.depth-- }()
	return s.File(ctx, name)
}
