package exec

import (
	"errors"
	"fmt"
	"strings"

	"github.com/snapdb/snapdb/exec/engine"
	"github.com/snapdb/snapdb/subjects"
)

// preparer gives the next statement of a text; see [engine.Conn.Prepare].
type preparer func(sql string, off int) (*engine.Stmt, int, error)

// eachStatement prepares the statements of a request one after another, each
// after the one before has run, because a later one may need what an earlier one
// made. The arguments of a text with several statements are dealt out in order.
// An error says which statement it belongs to, counted from 1.
func eachStatement(stmts []subjects.Stmt, prepare preparer, run func(st *engine.Stmt, args []subjects.Value) error) error {
	number := 0
	for _, s := range stmts {
		args := s.Args
		for off := 0; off < len(s.SQL); {
			st, n, err := prepare(s.SQL, off)
			if err == nil && st == nil {
				break
			}
			number++
			if err != nil {
				return atStatement(number, misplaced(s.SQL[off:], err))
			}
			off += n
			own, err := deal(st, args, s.SQL[off:])
			if err != nil {
				st.Close()
				return atStatement(number, err)
			}
			args = args[len(own):]
			if err := run(st, own); err != nil {
				return atStatement(number, err)
			}
		}
		if len(args) > 0 {
			return atStatement(max(1, number), leftOver(len(args)))
		}
	}
	if number == 0 {
		return subjects.Errorf(subjects.CodeBadRequest, "no SQL statement given")
	}
	return nil
}

// misplaced explains a syntax error where sql is one of snapdb's own commands, which
// SQLite does not know. They are carried out one by one before the statements of a
// request, which are one transaction.
func misplaced(sql string, err error) error {
	cmd, n, failed := ParseCommand(sql)
	if failed != nil || cmd.Verb == NoCommand {
		return err
	}
	return subjects.Errorf(subjects.CodeSyntax, "%s must come before all other statements of its request, or in a request of its own", clip(strings.Trim(sql[engine.SkipBlank(sql, 0):n], "; \t\r\n")))
}

// deal takes the arguments of a statement from those of the text that begins with
// it. rest is the text after it: at its end no argument may be left over.
func deal(st *engine.Stmt, args []subjects.Value, rest string) ([]subjects.Value, error) {
	n := st.Params()
	switch {
	case n > len(args):
		return nil, fmt.Errorf("%w: statement needs %d, %d left", engine.ErrArguments, n, len(args))
	case n < len(args) && Blank(rest):
		return nil, leftOver(len(args) - n)
	}
	return args[:n], nil
}

func leftOver(args int) error {
	return fmt.Errorf("%w: %d more than the SQL has parameters", engine.ErrArguments, args)
}

// atStatement makes a wire error that names the statement.
func atStatement(number int, err error) error {
	we := *WireError(err)
	if we.Statement == 0 {
		we.Statement = number
	}
	return &statementError{&we, err}
}

// statementError is a wire error that still knows its cause.
type statementError struct {
	wire  *subjects.Error
	cause error
}

func (e *statementError) Error() string   { return e.wire.Error() }
func (e *statementError) Unwrap() []error { return []error{e.wire, e.cause} }

// RunAll executes the statements of a request that is one transaction. BEGIN in
// front and COMMIT at the end say only what is so anyway.
func (t *Tx) RunAll(stmts []subjects.Stmt, out *subjects.Results) error {
	prepare := func(sql string, off int) (*engine.Stmt, int, error) {
		return t.g.d.w.Prepare(sql, off, engine.GuardWrite)
	}
	first, ended := true, false
	return eachStatement(stmts, prepare, func(st *engine.Stmt, args []subjects.Value) error {
		defer st.Close()
		if err := fits(out); err != nil {
			return err
		}
		if ended {
			return subjects.Errorf(subjects.CodeTransaction, "a statement follows COMMIT: a request without a session is one transaction")
		}
		defer func() { first = false }()
		switch st.Op() {
		case engine.OpBegin:
			if first {
				return nil
			}
			return subjects.Errorf(subjects.CodeTransaction, "cannot start a transaction within a transaction: a request without a session is one transaction")
		case engine.OpCommit:
			ended = true
			return nil
		case engine.OpRollback:
			return subjects.Errorf(subjects.CodeTransaction, "ROLLBACK needs a session: a request without one is one transaction, which fails as a whole or not at all")
		}
		return t.Run(st, args, out)
	})
}

// fits refuses to go on with a request whose results are too large to be sent, so
// that many small statements cannot fill the memory.
func fits(out *subjects.Results) error {
	if out.Len() > subjects.MaxRequest {
		return subjects.Errorf(subjects.CodeTooBig, "the results of the statements before this one exceed %d MB: send fewer statements at a time", subjects.MaxRequest>>20)
	}
	return nil
}

// ReadAll executes the statements of a read request. The result of each is cut
// at limit bytes; if that of the last one was, it is returned to go on with, and
// is not ended yet.
func (s *Snapshot) ReadAll(stmts []subjects.Stmt, out *subjects.Results, limit int) (*Rows, error) {
	var last *Rows
	err := eachStatement(stmts, s.Next, func(st *engine.Stmt, args []subjects.Value) error {
		if last != nil { // an earlier result stays cut
			out.EndMore(last.Types(), "")
			last.Close()
			last = nil
		}
		if err := fits(out); err != nil {
			st.Close()
			return err
		}
		rows, err := s.Open(st, args)
		if err != nil {
			return err
		}
		more, err := rows.Page(out, limit)
		if err == nil && more {
			last = rows
			return nil
		}
		if err == nil {
			out.SetMS(float64(rows.Spent().Microseconds()) / 1000)
			out.End(rows.Types(), 0, 0)
		}
		rows.Close()
		return err
	})
	if err != nil && last != nil {
		last.Close()
		return nil, err
	}
	return last, err
}

// Used is how much of a request a statement was: bytes of its text, and arguments.
type Used struct{ SQL, Args int }

// ReadNext executes the first statement of sql, with the arguments that it needs of
// args, and returns how much of them it was. The result is cut at limit bytes for
// good.
func (s *Snapshot) ReadNext(sql string, args []subjects.Value, out *subjects.Results, limit int) (Used, error) {
	st, n, err := s.Next(sql, 0)
	if err != nil || st == nil {
		return Used{SQL: n}, err
	}
	own, err := deal(st, args, sql[n:])
	used := Used{n, len(own)}
	if err != nil {
		st.Close()
		return used, err
	}
	rows, err := s.Open(st, own)
	if err != nil {
		return used, err
	}
	defer rows.Close()
	more, err := rows.Page(out, limit)
	switch {
	case err != nil:
		return used, err
	case more:
		out.EndMore(rows.Types(), "")
	default:
		out.End(rows.Types(), 0, 0)
	}
	return used, nil
}

// RunNext executes the first statement of sql in an interactive transaction, with
// the arguments that it needs of args, and returns how much of them it was. After an
// error, Ended says whether the transaction can go on.
func (t *Tx) RunNext(sql string, args []subjects.Value, out *subjects.Results) (Used, error) {
	st, n, err := t.g.d.w.Prepare(sql, 0, engine.GuardWrite)
	if err != nil || st == nil {
		return Used{SQL: n}, err
	}
	defer st.Close()
	own, err := deal(st, args, sql[n:])
	used := Used{n, len(own)}
	switch {
	case st.Op() == engine.OpBegin:
		return used, subjects.Errorf(subjects.CodeTransaction, "cannot start a transaction within a transaction")
	case st.Op() == engine.OpCommit, st.Op() == engine.OpRollback:
		return used, subjects.Errorf(subjects.CodeTransaction, "COMMIT and ROLLBACK of a transaction must begin their request")
	case err != nil:
		return used, err
	}
	err = t.Run(st, own, out)
	var failed failure
	if err != nil && st.Op() == engine.OpWrite && !errors.As(err, &failed) && !errors.Is(err, engine.ErrArguments) {
		t.ended = true
	}
	return used, err
}

// Ended says whether an interactive transaction cannot go on.
func (t *Tx) Ended() bool { return t.ended || t.Lost() }
