package shell

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/snapdb/snapdb/agent/client"
	"github.com/snapdb/snapdb/cmd/snapdb/format"
	"github.com/snapdb/snapdb/subjects"
)

const (
	// cancelGrace is how long the answer to a cancelled statement is waited
	// for, to learn whether it was cancelled in time.
	cancelGrace = 2 * time.Second
	// cancelEvery is how often the server is asked meanwhile.
	cancelEvery = 100 * time.Millisecond
	// answerGrace is how much longer than the server the shell waits.
	answerGrace = 5 * time.Second
	// serverLimit is more than the time limit of any request that names none.
	serverLimit = time.Minute
)

// ErrQuit is returned when .quit was read.
var ErrQuit = errors.New("quit")

// ErrInterrupted is returned for a statement that was not sent any more, because
// the context had ended.
var ErrInterrupted = errors.New("interrupted")

// ErrNoAnswer is returned for a statement that was interrupted, or took longer
// than the server allows, without the server saying what came of it.
var ErrNoAnswer = errors.New("the server did not say what came of the statement: it may or may not have been executed; before you repeat a write, look whether it is there")

// Config says how a shell begins; dot commands change most of it.
type Config struct {
	Session *client.Session
	Node    string        // ask this node's copy; "": the master
	Ack     subjects.Ack  // rule for writes; zero: the master's default
	Format  format.Kind   // "": table
	Timing  bool          // say after each statement what it did and how long it took
	Timeout time.Duration // per statement; 0: the server's limit
	// KeepGoing makes a script go on behind a statement that failed.
	KeepGoing bool
	// Progress shows on Stderr, which is then a terminal, how far a long script
	// has come.
	Progress bool
	Stdout   io.Writer // results
	Stderr   io.Writer // everything else
}

// Shell executes what it is given in one session. It is for one goroutine.
type Shell struct {
	Config
	writer   format.Writer // of results in the format written
	written  format.Kind
	position uint64 // of the last write, for reads from a node
	depth    int    // of .read in .read
	history  func() []string
}

// New makes a shell. The error is for a node id that cannot be one.
func New(c Config) (*Shell, error) {
	if c.Format == "" {
		c.Format = format.Table
	}
	s := &Shell{Config: c}
	if err := s.Session.SetNode(c.Node); err != nil {
		return nil, err
	}
	return s, nil
}

// Close ends the session. An open transaction is rolled back; it says whether
// there was one.
func (s *Shell) Close(ctx context.Context) (rolledBack bool, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerGrace)
	defer cancel()
	return s.Session.Close(ctx)
}

// send executes a request. When ctx is cancelled the server is asked to stop and
// its answer waited for a little, because it says what came of the statement.
func (s *Shell) send(ctx context.Context, r *subjects.Request) (*subjects.Response, error) {
	r.TimeoutMS = s.Timeout.Milliseconds()
	if s.Node == "" {
		r.Ack = s.Ack
	} else {
		r.MinPosition = s.position // what this shell has written, it also reads
	}
	wait, stop := s.patience(ctx)
	defer stop()
	resp, err := s.Session.Do(wait, r)
	if resp != nil && isWrite(resp) {
		s.position = max(s.position, resp.Position)
	}
	if err = s.unanswered(err); ctx.Err() != nil {
		err = interrupted(resp, err)
	}
	return resp, err
}

// interrupted is the error of a write that was committed before the interrupt
// reached it. The server's words are about a time that is up.
func interrupted(resp *subjects.Response, err error) error {
	var e *subjects.Error
	if !errors.As(err, &e) || e.Code != subjects.CodeNotAcknowledged || resp == nil {
		return err
	}
	said := *e
	said.Message = fmt.Sprintf("interrupted, but too late to undo the write: it is committed at position %d; %s; snapdb db ls shows who has it later",
		resp.Position, strings.Join(holders(resp), ", "))
	return &said
}

// unanswered turns the error of a request whose answer never came into
// [ErrNoAnswer]. The request may still be running in its session, which takes no
// other until then: a new one takes its place.
func (s *Shell) unanswered(err error) error {
	if !errors.Is(err, context.Canceled) && !errors.Is(err, client.ErrTimeout) {
		return err
	}
	if s.Session.InTx() {
		s.note("the open transaction was given up; the server will roll it back")
	}
	s.Session.Renew()
	return ErrNoAnswer
}

// patience is the context of one request: it outlives ctx by cancelGrace, during
// which the server is asked to stop.
func (s *Shell) patience(ctx context.Context) (context.Context, func()) {
	limit := s.Timeout
	if limit == 0 {
		limit = serverLimit
	}
	wait, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit+answerGrace)
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		again := time.NewTicker(cancelEvery)
		defer again.Stop()
		for end := time.Now().Add(cancelGrace); time.Now().Before(end); {
			// If this is lost, so is the statement's answer.
			_ = s.Session.Cancel()
			select {
			case <-wait.Done():
				return
			case <-again.C: // the statement may not have begun before
			}
		}
		cancel()
	})
	return wait, func() {
		cancel()
		if !stop() {
			<-ended
		}
	}
}

// show writes all results of an answer, page by page.
func (s *Shell) show(ctx context.Context, resp *subjects.Response) (rows int64, err error) {
	for i := range resp.Results {
		r := &resp.Results[i]
		if len(r.Columns) == 0 {
			continue
		}
		w := s.results()
		if err := w.Begin(r.Columns); err != nil {
			return rows, err
		}
		wait, stop := s.patience(ctx)
		err := s.Session.Pages(wait, s.Timeout.Milliseconds(), r, func(page *subjects.Result) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			err := w.Rows(page.Rows)
			rows += int64(len(page.Rows))
			return err
		})
		stop()
		if endErr := w.End(); err == nil {
			err = endErr
		}
		if ctx.Err() != nil && stopped(err) {
			return rows, fmt.Errorf("cancelled after %s", format.Count(rows, "row"))
		}
		if err != nil {
			return rows, fmt.Errorf("after %s: %w", format.Count(rows, "row"), err)
		}
	}
	return rows, nil
}

// stopped says whether an error is what an interrupt makes of the reading of rows.
func stopped(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, client.ErrTimeout) || code(err) == subjects.CodeCancelled
}

// results writes results in the current format. It stays the same as long as that
// does, because what a result looks like depends on there being one before it.
func (s *Shell) results() format.Writer {
	if s.writer == nil || s.written != s.Format {
		s.writer, s.written = format.New(s.Format, s.Stdout), s.Format
	}
	return s.writer
}

// execute sends one statement or text, shows what it returns, and what it did.
func (s *Shell) execute(ctx context.Context, sql string) error {
	start := time.Now()
	resp, err := s.send(ctx, &subjects.Request{SQL: sql})
	var rows int64
	if err == nil {
		rows, err = s.show(ctx, resp)
	}
	if s.Timing && resp != nil && (err == nil || isWrite(resp)) {
		fmt.Fprintln(s.Stderr, s.summary(sql, resp, rows, time.Since(start)))
	}
	return err
}

// summary is the line under the result of sql: what was done, where it is in the
// log, and who has it.
func (s *Shell) summary(sql string, resp *subjects.Response, rows int64, took time.Duration) string {
	switch n := changes(resp); {
	case isWrite(resp) && n == 0 && !changesRows(sql):
		return written(resp, took)
	case isWrite(resp):
		return format.Count(n, "row") + " · " + written(resp, took)
	case rows > 0 || hasRows(resp):
		return format.Count(rows, "row") + " · " + duration(took)
	case s.Session.InTx() && n > 0:
		return format.Count(n, "row") + " · not committed yet · " + duration(took)
	}
	return "done · " + duration(took)
}

// written says where a change is.
func written(resp *subjects.Response, took time.Duration) string {
	parts := append([]string{fmt.Sprintf("position %d", resp.Position)}, holders(resp)...)
	return strings.Join(append(parts, duration(took)), " · ")
}

// holders says who has a change and who has not.
func holders(resp *subjects.Response) []string {
	var parts []string
	if len(resp.Applied) > 0 {
		parts = append(parts, "applied by "+strings.Join(resp.Applied, " "))
	}
	if len(resp.Pending) > 0 {
		parts = append(parts, "pending "+strings.Join(resp.Pending, " "))
	}
	if len(parts) == 0 {
		parts = append(parts, "no slave has it yet")
	}
	return parts
}

// isWrite says whether an answer is that of a change in the log.
func isWrite(resp *subjects.Response) bool {
	return resp.Position > 0 && (resp.Applied != nil || resp.Pending != nil)
}

// changesRows says whether a statement is of a kind that changes a number of rows
// worth telling, even none.
func changesRows(sql string) bool {
	switch first, _ := words(sql); first {
	case "insert", "replace", "update", "delete", "with":
		return true
	}
	return false
}

func hasRows(resp *subjects.Response) bool {
	return slices.ContainsFunc(resp.Results, func(r subjects.Result) bool { return len(r.Columns) > 0 })
}

func changes(resp *subjects.Response) int64 {
	var n int64
	for i := range resp.Results {
		n += resp.Results[i].Changes
	}
	return n
}

func duration(d time.Duration) string {
	if d < 10*time.Second {
		return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// note says something that is neither result nor failure.
func (s *Shell) note(text string, args ...any) {
	fmt.Fprintf(s.Stderr, "note: "+text+"\n", args...)
}

// describe is an error with the place in the statement where it is, if known.
func describe(err error, sql string) string {
	text := format.Safe(err.Error())
	var e *subjects.Error
	if !errors.As(err, &e) || e.Code != subjects.CodeSyntax || e.Offset < 0 || e.Offset > len(sql) || e.Statement > 1 {
		return text
	}
	from := strings.LastIndexByte(sql[:e.Offset], '\n') + 1
	line, _, _ := strings.Cut(sql[from:], "\n")
	before := format.Safe(sql[from:e.Offset])
	if format.Width(line) > 200 {
		return text
	}
	return fmt.Sprintf("%s\n  %s\n  %s^", text, format.Safe(line), strings.Repeat(" ", format.Width(before)))
}
