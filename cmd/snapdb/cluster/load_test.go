//go:build linux

package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snapdb/snapdb/agent/client"
	"github.com/snapdb/snapdb/subjects"
)

// fate is what a client was told of its write.
type fate uint8

const (
	absent  fate = iota // certainly not written
	maybe               // the answer was lost, or is that nobody knows
	written             // certainly written
)

// load writes from several clients at once and remembers what each was told.
// Every write adds some rows with a token of its own to table ops and the same
// number to its client's row of table counters, so that a write that is missing,
// half there or there twice shows.
type load struct {
	t   testing.TB
	db  string
	url string

	acked   atomic.Int64
	reached chan struct{} // holds a token when acked has grown
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	gate    sync.RWMutex // held by each write on its way

	mu    sync.Mutex
	nodes map[string]bool // slaves that may be named in an answer
	ops   map[string]op
	said  map[string]int // errors by code or text, for the log of the test
}

// op is one write.
type op struct {
	client, rows int
	fate         fate
}

// writing is an op on its way.
type writing struct {
	token string
	op
	id  string // repeat-safe id, "" for none
	pad []byte // in each row
}

// largePad makes the log keep the body of a write beside its message.
const largePad = 600_000

const loadSchema = `CREATE TABLE ops (token TEXT, part INTEGER, client INTEGER, pad BLOB, dice INTEGER DEFAULT (random()), at TEXT DEFAULT CURRENT_TIMESTAMP);
CREATE INDEX ops_token ON ops (token);
CREATE TABLE counters (client INTEGER PRIMARY KEY, n INTEGER NOT NULL)`

// startLoad begins to write with that many clients, until stop. The first half
// of them share a connection.
func (c *cluster) startLoad(cl *client.Client, db string, clients int) *load {
	c.t.Helper()
	c.exec(cl, "", "CREATE DATABASE "+db)
	c.exec(cl, db, loadSchema)
	l := &load{t: c.t, db: db, url: c.url, nodes: map[string]bool{}, reached: make(chan struct{}, 1), ops: map[string]op{}, said: map[string]int{}}
	for _, n := range c.slaves {
		l.nodes[n.Name] = true
	}
	ctx, cancel := context.WithCancel(c.t.Context())
	l.cancel = cancel
	c.t.Cleanup(l.stop)
	for i := range clients {
		c.exec(cl, db, "INSERT INTO counters VALUES (?, 0)", subjects.IntegerValue(int64(i)))
		own := cl
		if i >= clients/2 {
			own = c.client()
		}
		l.wg.Go(func() { l.client(ctx, own, i) })
	}
	return l
}

// admit notes a slave that joins later.
func (l *load) admit(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nodes[id] = true
}

// stop ends the load and waits for the answers that are still due.
func (l *load) stop() {
	l.cancel()
	l.wg.Wait()
}

// pause waits for the writes on their way and keeps others from beginning, until
// goOn is called.
func (l *load) pause() (goOn func()) {
	l.gate.Lock()
	return l.gate.Unlock
}

// alter changes the schema, in one of the ways that the writes do not mind.
func (l *load) alter(cl *client.Client, rng *rand.Rand) {
	name := "x" + strconv.Itoa(rng.IntN(8))
	l.send(cl, l.db, []string{
		"CREATE INDEX IF NOT EXISTS " + name + " ON ops (client, part)",
		"DROP INDEX IF EXISTS " + name,
		"CREATE TABLE IF NOT EXISTS t" + name + " AS SELECT token, random() AS dice FROM ops",
		"DROP TABLE IF EXISTS t" + name,
		"CREATE TRIGGER IF NOT EXISTS g" + name + " AFTER INSERT ON ops BEGIN UPDATE counters SET n = n + 0; END",
		"DROP TRIGGER IF EXISTS g" + name,
		"ALTER TABLE counters ADD COLUMN c" + strconv.FormatUint(rng.Uint64(), 36) + " DEFAULT 5",
		"REINDEX; ANALYZE",
	}[rng.IntN(8)])
}

// awaitAcked waits until so many more writes were acknowledged.
func (l *load) awaitAcked(more int64) {
	l.t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for want := l.acked.Load() + more; l.acked.Load() < want; {
		select {
		case <-l.reached:
		case <-timer.C:
			l.t.Fatalf("%d of %d writes acknowledged within %v; errors: %v", l.acked.Load(), want, patience, l.errors())
		}
	}
}

func (l *load) errors() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return fmt.Sprint(l.said)
}

// client writes one op after another, each in one of the ways there are.
func (l *load) client(ctx context.Context, cl *client.Client, number int) {
	rng := rand.New(rand.NewPCG(uint64(number), 7))
	for n := 0; ctx.Err() == nil; n++ {
		l.gate.RLock()
		w := &writing{token: fmt.Sprintf("%d-%d", number, n), op: op{client: number, rows: 1}}
		way := rng.IntN(10)
		if way >= 4 {
			w.rows = 2 + rng.IntN(4)
		}
		if way%2 == 0 {
			w.id = w.token
		}
		if rng.IntN(200) == 0 {
			w.rows, w.pad = 2, make([]byte, largePad)
		}
		// What was sent is waited for: only its answer says what became of it.
		sent, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		if way >= 8 {
			l.interactive(sent, cl, w)
		} else {
			l.atomic(ctx, sent, cl, w)
		}
		cancel()
		if w.fate == absent {
			l.backOff(ctx)
		}
		l.mu.Lock()
		l.ops[w.token] = w.op
		l.mu.Unlock()
		l.gate.RUnlock()
		if w.fate == written {
			l.acked.Add(1)
			select {
			case l.reached <- struct{}{}:
			default:
			}
		}
	}
}

// stmts are the statements of a write.
func (w *writing) stmts() []subjects.Stmt {
	var list []subjects.Stmt
	for part := range w.rows {
		list = append(list, subjects.Stmt{SQL: "INSERT INTO ops (token, part, client, pad) VALUES (?, ?, ?, ?)",
			Args: []subjects.Value{subjects.TextValue(w.token), subjects.IntegerValue(int64(part)), subjects.IntegerValue(int64(w.client)), subjects.BlobValue(w.pad)}})
	}
	return append(list, subjects.Stmt{SQL: "UPDATE counters SET n = n + ? WHERE client = ?",
		Args: []subjects.Value{subjects.IntegerValue(int64(w.rows)), subjects.IntegerValue(int64(w.client))}})
}

// atomic writes in one request. With an id it is repeated until its fate is
// certain, as clients are told to do.
func (l *load) atomic(running, ctx context.Context, cl *client.Client, w *writing) {
	doubt := false
	for {
		resp, err := cl.Exec(ctx, &subjects.Request{DB: l.db, Stmts: w.stmts(), ID: w.id})
		w.fate = l.judge(resp, err)
		if w.fate == written && w.id == "" {
			l.believe(ctx, cl, w, resp)
		}
		doubt = doubt || w.fate == maybe
		if w.fate == written || w.id == "" || running.Err() != nil {
			break
		}
		l.backOff(running)
	}
	if w.fate == absent && doubt {
		w.fate = maybe // of an earlier try
	}
}

// send executes SQL and says what became of it.
func (l *load) send(cl *client.Client, db, sql string) fate {
	ctx, cancel := context.WithTimeout(l.t.Context(), patience)
	defer cancel()
	return l.judge(cl.Exec(ctx, &subjects.Request{DB: db, SQL: sql}))
}

// backOff is the pause of a client that nobody answers.
func (l *load) backOff(ctx context.Context) {
	timer := time.NewTimer(5 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// interactive writes in a session, statement by statement.
func (l *load) interactive(ctx context.Context, cl *client.Client, w *writing) {
	s := cl.NewSession(l.db)
	list := append([]subjects.Stmt{{SQL: "BEGIN IMMEDIATE"}}, w.stmts()...)
	for _, stmt := range list {
		if resp, err := s.Do(ctx, &subjects.Request{SQL: stmt.SQL, Args: stmt.Args}); err != nil {
			l.judge(resp, err) // nothing of it is written without a COMMIT
			w.fate = absent
			return
		}
	}
	w.fate = l.judge(s.Do(ctx, &subjects.Request{SQL: "COMMIT"}))
}

// judge says what an answer means, and counts it.
func (l *load) judge(resp *subjects.Response, err error) fate {
	if err == nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, id := range slices.Concat(resp.Applied, resp.Pending) {
			if !l.nodes[id] && id != "master" {
				l.t.Errorf("an answer names node %q", id)
			}
		}
		return written
	}
	said := string(code(err))
	switch {
	case errors.Is(err, client.ErrUnreachable):
		said = "unreachable"
	case errors.Is(err, client.ErrLost):
		said = "lost"
	}
	l.mu.Lock()
	l.said[said]++
	l.mu.Unlock()
	return fateOf(l.t, err)
}

// fateOf says what the answer to a write means. An answer that nothing explains
// which the tests do to a cluster fails the test.
func fateOf(t testing.TB, err error) fate {
	switch {
	case err == nil:
		return written
	case errors.Is(err, client.ErrUnreachable):
		return absent
	case errors.Is(err, client.ErrLost):
		return maybe
	}
	switch code(err) {
	case subjects.CodeNotAcknowledged:
		return written
	case subjects.CodeOutcomeUnknown:
		return maybe
	case subjects.CodeBusy, subjects.CodeUnavailable, subjects.CodeTransaction,
		subjects.CodeTimeout: // behind a log that does not answer; it says that nothing was changed
		return absent
	}
	t.Errorf("unexpected answer to a write: %q: %v", code(err), err)
	return maybe
}

// code is that of an error of the server, "" for any other.
func code(err error) subjects.Code {
	var we *subjects.Error
	if errors.As(err, &we) {
		return we.Code
	}
	return ""
}

// believe reads a write at once on the nodes that are said to have applied it.
func (l *load) believe(ctx context.Context, cl *client.Client, w *writing, resp *subjects.Response) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second) // one that is killed does not answer
	defer cancel()
	for _, id := range resp.Applied {
		req := &subjects.Request{DB: l.db, SQL: "SELECT count(*) FROM ops WHERE token = ?", Args: []subjects.Value{subjects.TextValue(w.token)}}
		got, err := cl.QueryNode(ctx, id, req)
		if err != nil {
			continue // killed meanwhile
		}
		if n := got.Results[0].Rows[0][0].Int(); n != int64(w.rows) {
			l.t.Errorf("%s has %d rows of %s, %d were written at %d and said to be applied there; it is at %d", id, n, w.token, w.rows, resp.Position, got.Position)
		}
	}
}

// verify compares what a node holds with what the clients were told.
func (l *load) verify(cl *client.Client, id string) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), patience)
	defer cancel()
	rows := map[string]int{}
	counted := map[int64]int64{}
	for row, err := range cl.Rows(ctx, door(id), &subjects.Request{DB: l.db, SQL: "SELECT token, count(*), count(DISTINCT part), client FROM ops GROUP BY token"}) {
		if err != nil {
			l.t.Fatal(err)
		}
		token := string(row[0].Bytes())
		if row[1].Int() != row[2].Int() {
			l.t.Errorf("%q has %s %d times, with %d parts", id, token, row[1].Int(), row[2].Int())
		}
		rows[token] = int(row[1].Int())
		counted[row[3].Int()] += row[1].Int()
	}
	fates := map[fate]int{}
	for token, o := range l.ops {
		has, ok := rows[token]
		fates[o.fate]++
		switch {
		case ok && has != o.rows:
			l.t.Errorf("%q has %d rows of %s, which has %d", id, has, token, o.rows)
		case !ok && o.fate == written:
			l.t.Errorf("%q has lost %s, which was acknowledged", id, token)
		case ok && o.fate == absent:
			l.t.Errorf("%q has %s, which was said not to be written", id, token)
		}
		delete(rows, token)
	}
	for token := range rows {
		l.t.Errorf("%q has %s, which nobody wrote", id, token)
	}
	for row, err := range cl.Rows(ctx, door(id), &subjects.Request{DB: l.db, SQL: "SELECT client, n FROM counters"}) {
		if err != nil {
			l.t.Fatal(err)
		}
		if n := counted[row[0].Int()]; n != row[1].Int() {
			l.t.Errorf("%q has counted %d for client %d, who has %d rows", id, row[1].Int(), row[0].Int(), n)
		}
	}
	if id == "" {
		l.t.Logf("%d writes acknowledged, %d in doubt, %d refused; errors: %s", fates[written], fates[maybe], fates[absent], l.errors())
	}
}
