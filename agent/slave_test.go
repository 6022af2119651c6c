package agent_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/snapdb/snapdb/agent"
	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/exec/engine"
	"github.com/snapdb/snapdb/subjects"
)

func TestSlaveFollowsAndAcknowledges(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.catalog("CREATE DATABASE a")
	o.write("a", "CREATE TABLE t (x)", "INSERT INTO t VALUES (1)")
	s := o.start(t.TempDir())
	o.untilOnline(s)
	for i := range 20 {
		n := o.write("a", fmt.Sprintf("INSERT INTO t VALUES (%d)", i))
		until(t, "acknowledged", func() bool { return o.acked("a") == n })
	}
	b := o.catalog("CREATE DATABASE b")
	until(t, "catalog acknowledged", func() bool { return o.acked(subjects.Catalog) == b })
	last := o.write("b", "CREATE TABLE t (x)")
	untilAt(t, s, "b", last)
	o.publishHeads()
	until(t, "cursor", func() bool { return s.Status().Cursor == last })
	if got := o.count("snap1", "a"); got != 21 {
		t.Errorf("%d rows, want 21", got)
	}
	for name, h := range o.store.Heads() {
		if got := s.Store().Heads()[name]; got != h {
			t.Errorf("%s: %+v, origin %+v", name, got, h)
		}
	}
	st := s.Status()
	if st.State != subjects.StateOnline || st.LagMS != 0 || st.Foreign != 0 || st.Session != 101 || o.joinCount() != 1 {
		t.Errorf("status %+v after %d joins", st, o.joinCount())
	}
}

// Several databases, dropped and made again, from an empty directory: catalog
// messages are barriers, or a write would meet the wrong incarnation.
func TestSlaveCatchesUpThroughDrops(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	for round := range 4 {
		for _, db := range []string{"a", "b"} {
			o.catalog("CREATE DATABASE " + db)
			o.write(db, "CREATE TABLE t (x)")
			for range 10 * round {
				o.write(db, "INSERT INTO t VALUES (random())")
			}
		}
		if round < 3 {
			o.catalog("DROP DATABASE a")
			o.catalog("DROP DATABASE b")
		}
	}
	s := o.start(t.TempDir())
	o.untilOnline(s)
	for name, h := range o.store.Heads() {
		if got := s.Store().Heads()[name]; got != h {
			t.Errorf("%s: %+v, origin %+v", name, got, h)
		}
	}
	if got := o.count("snap1", "a"); got != 30 {
		t.Errorf("%d rows, want 30", got)
	}
	if st := s.Status(); st.Foreign != 0 {
		t.Errorf("foreign %d", st.Foreign)
	}
}

func TestSlavePassesOverForeignMessages(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.catalog("CREATE DATABASE a")
	o.write("a", "CREATE TABLE t (x)")
	s := o.start(t.TempDir())
	o.untilOnline(s)

	// A well-formed message with a made-up chain, one of a database that is not
	// there, and one of the wrong incarnation.
	g, h, body := o.group("a", "INSERT INTO t VALUES (666)")
	if err := g.Rollback(); err != nil {
		t.Fatal(err)
	}
	wrongChain, noDB, wrongInc := h, h, h
	wrongChain.Chain[0]++
	noDB.DB = "nobody"
	wrongInc.Inc += 1000
	for _, h := range []subjects.Header{wrongChain, noDB, wrongInc} {
		if _, err := o.append(h, body); err != nil {
			t.Fatal(err)
		}
	}
	n := o.write("a", "INSERT INTO t VALUES (1)")
	untilAt(t, s, "a", n)
	until(t, "foreign counted", func() bool { return s.Status().Foreign == 3 })
	o.publishHeads()
	until(t, "cursor", func() bool { return s.Status().Cursor == n })
	if got := o.count("snap1", "a"); got != 1 {
		t.Errorf("%d rows, want 1", got)
	}
	if st := s.Status(); st.State != subjects.StateOnline || o.joinCount() != 1 {
		t.Errorf("status %+v after %d joins", st, o.joinCount())
	}
}

// The consumer skips a message once: the slave must notice and read it again.
func TestSlaveRejoinsOnceAfterGap(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.catalog("CREATE DATABASE a")
	o.write("a", "CREATE TABLE t (x)")
	dir := t.TempDir()
	s := o.start(dir)
	o.untilOnline(s)
	stop(t, s)
	missing := o.write("a", "INSERT INTO t VALUES (1)")
	last := o.write("a", "INSERT INTO t VALUES (2)")
	o.answer = func(n int, r *subjects.JoinResponse) {
		if n == 2 {
			r.Start = missing + 1
		}
	}
	s = o.start(dir)
	until(t, "read past the gap", func() bool { o.publishHeads(); return o.joinCount() >= 3 })
	untilAt(t, s, "a", last)
	o.untilOnline(s)
	if st := s.Status(); st.Foreign != 0 || o.joinCount() != 3 {
		t.Errorf("foreign %d, want 0; %d joins, want 3", st.Foreign, o.joinCount())
	}
}

// The log really lacks a message: the database stops, visibly, the others go on.
func TestSlaveStopsDatabaseWhoseLogDoesNotContinue(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.catalog("CREATE DATABASE a")
	o.catalog("CREATE DATABASE b")
	o.write("a", "CREATE TABLE t (x)")
	o.write("b", "CREATE TABLE t (x)")
	dir := t.TempDir()
	s := o.start(dir)
	o.untilOnline(s)
	stop(t, s)
	missing := o.write("a", "INSERT INTO t VALUES (1)")
	o.write("a", "INSERT INTO t VALUES (2)")
	o.answer = func(_ int, r *subjects.JoinResponse) { r.Start = missing + 1 }
	s = o.start(dir)
	until(t, "stopped", func() bool { o.publishHeads(); return s.Status().State == subjects.StateStopped })
	st := s.Status().Databases["a"]
	if st.State != subjects.StateStopped || !strings.Contains(st.Reason, "does not continue") {
		t.Errorf("database a: %+v", st)
	}
	if n := o.joinCount(); n != 3 {
		t.Errorf("%d joins, want 3: one more than the start, not an endless row", n)
	}
	n := o.write("b", "INSERT INTO t VALUES (1)")
	untilAt(t, s, "b", n)
	until(t, "b acknowledged", func() bool { return o.acked("b") == n })
}

// A transaction that gives another result here must not be applied, must show,
// and ends with the database being made anew.
func TestSlaveShowsDivergence(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.catalog("CREATE DATABASE a")
	o.catalog("CREATE DATABASE b")
	before := o.write("a", "CREATE TABLE t (x)")
	s := o.start(t.TempDir())
	o.untilOnline(s)

	g, h, sealed := o.group("a", "INSERT INTO t VALUES (1)")
	var body subjects.Body
	if err := subjects.DecodeBody(sealed, &body); err != nil {
		t.Fatal(err)
	}
	body.Txns[0].Sum++
	forged := subjects.AppendBody(nil, &body)
	h.Chain = subjects.NextChain(o.db("a").Applied().Chain, h.Inc, forged)
	n, err := o.append(h, forged)
	if err == nil {
		err = g.Commit(n, h.Chain)
	}
	if err != nil {
		t.Fatal(err)
	}
	untilState(t, s, subjects.StateDiverged)
	o.write("a", "INSERT INTO t VALUES (2)")
	other := o.write("b", "CREATE TABLE t (x)")
	untilAt(t, s, "b", other)
	st := s.Status()
	if a := st.Databases["a"]; a.State != subjects.StateDiverged || a.Position != before || !strings.Contains(a.Reason, "diverged at position") {
		t.Errorf("a: %+v", a)
	}
	if b := st.Databases["b"]; b.State == subjects.StateDiverged {
		t.Errorf("b: %+v", b)
	}
	if got := o.count("snap1", "a"); got != 0 {
		t.Errorf("%d rows: the last good state has none", got)
	}
	o.catalog("DROP DATABASE a")
	o.catalog("CREATE DATABASE a")
	n = o.write("a", "CREATE TABLE t (x)")
	untilAt(t, s, "a", n)
	o.publishHeads()
	o.untilOnline(s)
}

func TestSlaveShowsForeignWrite(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.catalog("CREATE DATABASE a")
	o.write("a", "CREATE TABLE t (x)")
	dir := t.TempDir()
	s := o.start(dir)
	o.untilOnline(s)
	c, err := engine.Open(filepath.Join(dir, "a.db"), engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.Exec("INSERT INTO t VALUES ('from outside')"), c.Close()); err != nil {
		t.Fatal(err)
	}
	o.write("a", "INSERT INTO t VALUES (1)")
	untilState(t, s, subjects.StateDiverged)
	if r := s.Status().Reason; !strings.Contains(r, exec.ErrForeignWrite.Error()) {
		t.Errorf("reason %q", r)
	}
}

// A blob whose bytes are not those of its digest is the blob's fault, not the
// copy's: nothing of it is applied, and it is tried again.
func TestSlaveBlobs(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.catalog("CREATE DATABASE a")
	before := o.write("a", "CREATE TABLE t (x)")
	s := o.start(t.TempDir())
	o.untilOnline(s)
	o.mu.Lock()
	o.corrupt = true
	o.mu.Unlock()
	var large []string
	for i := range 40 {
		large = append(large, fmt.Sprintf("INSERT INTO t VALUES ('%d%s')", i, strings.Repeat("x", 50_000)))
	}
	n := o.write("a", large...)
	untilState(t, s, subjects.StateStopped)
	if st := s.Status().Databases["a"]; st.Position != before || !strings.Contains(st.Reason, "digest") {
		t.Errorf("%+v", st)
	}
	later := o.write("a", "INSERT INTO t VALUES (1)")
	o.mu.Lock()
	o.corrupt = false
	o.mu.Unlock()
	untilAt(t, s, "a", n)
	untilAt(t, s, "a", later)
	o.untilOnline(s)
	if got := o.count("snap1", "a"); got != 41 {
		t.Errorf("%d rows, want 41", got)
	}
}

func TestSlaveRefused(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.answer = func(n int, r *subjects.JoinResponse) {
		switch n {
		case 1:
			r.Refused = &subjects.Refusal{Code: subjects.RefusedNotReady, Reason: "starting"}
		case 2:
			r.Refused = &subjects.Refusal{Code: subjects.RefusedIDInUse, Reason: "another one has it"}
		}
	}
	s, err := agent.StartSlave(t.Context(), agent.SlaveOptions{URL: o.b.URL(), ID: "snap1", Dir: t.TempDir(), Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	var refused *agent.RefusedError
	if err := s.Wait(); !errors.As(err, &refused) || refused.Code != subjects.RefusedIDInUse || !strings.Contains(err.Error(), "another one has it") {
		t.Fatalf("ended with %v", err)
	}
}

// Once it was in, a slave does not end because it is not let in again.
func TestSlaveRefusedLater(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	s := o.start(t.TempDir())
	o.untilOnline(s)
	o.answer = func(n int, r *subjects.JoinResponse) {
		if n < 4 {
			r.Refused = &subjects.Refusal{Code: subjects.RefusedIDInUse, Reason: "another one has it"}
		}
	}
	o.dropReader()
	untilState(t, s, subjects.StateStopped)
	if r := s.Status().Reason; !strings.Contains(r, "another one has it") {
		t.Errorf("reason %q", r)
	}
	o.untilOnline(s)
}

// dropReader takes the consumer of the last session away.
func (o *origin) dropReader() {
	o.t.Helper()
	o.mu.Lock()
	name := o.readers[len(o.readers)-1]
	o.mu.Unlock()
	if err := o.log.RemoveReader(testContext(o.t), name); err != nil {
		o.t.Fatal(err)
	}
}

func TestSlaveComesBack(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.catalog("CREATE DATABASE a")
	o.write("a", "CREATE TABLE t (x)")
	s := o.start(t.TempDir())
	o.untilOnline(s)
	listen := strings.TrimPrefix(o.b.URL(), "nats://")

	o.dropReader()
	n := o.write("a", "INSERT INTO t VALUES (1)")
	untilAt(t, s, "a", n)

	o.down()
	untilState(t, s, subjects.StateJoining)
	o.serve(listen)
	n = o.write("a", "INSERT INTO t VALUES (2)")
	untilAt(t, s, "a", n)
	until(t, "acknowledged in the new session", func() bool { return o.acked("a") == n })
	o.untilOnline(s)
	o.mu.Lock()
	defer o.mu.Unlock()
	if last := o.joins[len(o.joins)-1]; last.Cluster != "c1" || last.Databases["a"].Position == 0 || last.Boot != o.joins[0].Boot {
		t.Errorf("joined again as %+v", last)
	}
}

func TestSlaveWaitsForMaster(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	listen := strings.TrimPrefix(o.b.URL(), "nats://")
	o.down()
	s := o.start(t.TempDir())
	if st := s.Status(); st.State != subjects.StateJoining || st.Reason == "" {
		t.Errorf("%+v", st)
	}
	o.serve(listen)
	o.untilOnline(s)
}

// The master rejects a position only because it is itself not so far yet.
func TestSlaveAsksAgainWhenRejected(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.catalog("CREATE DATABASE a")
	o.write("a", "CREATE TABLE t (x)")
	dir := t.TempDir()
	s := o.start(dir)
	o.untilOnline(s)
	stop(t, s)
	o.answer = func(n int, r *subjects.JoinResponse) {
		if n == 2 {
			r.Reseed = map[string]string{"a": "not so far yet"}
		}
	}
	s = o.start(dir)
	untilState(t, s, subjects.StateDiverged)
	o.publishHeads()
	o.untilOnline(s)
	until(t, "acknowledged when the master knows it", func() bool { return o.acked("a") > 0 })
	if n := o.ackedIn(102, "a"); n != 0 {
		t.Errorf("a copy that the master does not know acknowledges %d before", n)
	}
	if n := o.joinCount(); n != 3 {
		t.Errorf("%d joins, want 3", n)
	}
	n := o.write("a", "INSERT INTO t VALUES (1)")
	untilAt(t, s, "a", n)
}

func TestSlaveReadsAsNewAsAsked(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.catalog("CREATE DATABASE a")
	first := o.write("a", "CREATE TABLE t (x)")
	s := o.start(t.TempDir())
	o.untilOnline(s)
	resp := o.ask("snap1", subjects.Request{DB: "a", SQL: "SELECT 1", MinPosition: first + 1000, TimeoutMS: 50})
	if resp.Error == nil || resp.Error.Code != subjects.CodeStale {
		t.Errorf("%+v", resp.Error)
	}
	answered := make(chan *subjects.Response, 1)
	go func() {
		answered <- o.ask("snap1", subjects.Request{DB: "a", SQL: "SELECT count(*) FROM t", MinPosition: first + 1, TimeoutMS: 10_000})
	}()
	n := o.write("a", "INSERT INTO t VALUES (1)")
	if n != first+1 {
		t.Fatalf("position %d after %d", n, first)
	}
	if resp := <-answered; resp.Error != nil || resp.Position < n || resp.Results[0].Rows[0][0].Int() != 1 {
		t.Errorf("%+v", resp)
	}
	untilAt(t, s, "a", n)
	o.publishHeads()
	if resp := o.ask("snap1", subjects.Request{DB: "a", SQL: "SELECT 1", MaxLagMS: 60_000, TimeoutMS: 5000}); resp.Error != nil {
		t.Error(resp.Error)
	}
	for sql, code := range map[string]subjects.Code{
		"INSERT INTO t VALUES (2)": subjects.CodeReadOnly, "CREATE DATABASE z": subjects.CodeReadOnly, "BEGIN": subjects.CodeTransaction,
		"SELEKT": subjects.CodeSyntax, "USE nowhere": subjects.CodeNoSuchDatabase, "SHOW SLAVES": subjects.CodeUnavailable,
	} {
		if resp := o.ask("snap1", subjects.Request{DB: "a", SQL: sql}); resp.Error == nil || resp.Error.Code != code {
			t.Errorf("%s: %+v, want %s", sql, resp.Error, code)
		}
	}
	if resp := o.ask("snap1", subjects.Request{DB: "a", SQL: "SHOW CHECKSUM"}); resp.Error != nil || resp.Position != n || len(resp.Results[0].Rows) != 2 {
		t.Errorf("checksum: %+v", resp)
	}
	for _, sql := range []string{"SHOW DATABASES", "USE a; SELECT * FROM t", "USE a; SHOW TABLES", "USE a; DESCRIBE t"} {
		if resp := o.ask("snap1", subjects.Request{SQL: sql}); resp.Error != nil || len(resp.Results) != 1 || len(resp.Results[0].Rows) != 1 {
			t.Errorf("%s: %+v", sql, resp)
		}
	}
}

func TestSlaveObeys(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	s := o.start(t.TempDir())
	o.untilOnline(s)
	for request, want := range map[string]func(subjects.CtlResponse) bool{
		`{"op":"ping"}`: func(r subjects.CtlResponse) bool {
			return r.State == subjects.CommandDone && r.Node == "snap1" && r.Boot != ""
		},
		`{"op":"info"}`: func(r subjects.CtlResponse) bool {
			var st subjects.StatusMessage
			return r.State == subjects.CommandDone && json.Unmarshal(r.Output, &st) == nil && st.ID == "snap1" && st.Version == "test"
		},
		`{"op":"fly"}`: func(r subjects.CtlResponse) bool {
			return r.State == subjects.CommandFailed && strings.Contains(r.Reason, "known are abort")
		},
		`{"op":`: func(r subjects.CtlResponse) bool {
			return r.State == subjects.CommandFailed && strings.Contains(r.Reason, "malformed")
		},
	} {
		msg, err := o.public().RequestWithContext(testContext(t), subjects.NodeCtl("snap1"), []byte(request))
		if err != nil {
			t.Fatal(err)
		}
		var resp subjects.CtlResponse
		if err := json.Unmarshal(msg.Data, &resp); err != nil || !want(resp) {
			t.Errorf("%s: %s, %v", request, msg.Data, err)
		}
	}
}

// After Stop the goodbye was said, the files are free, and the id stays.
func TestSlaveStops(t *testing.T) { // not beside others, which have goroutines too
	o := newOrigin(t)
	o.catalog("CREATE DATABASE a")
	o.write("a", "CREATE TABLE t (x)")
	dir := t.TempDir()
	s, err := agent.StartSlave(t.Context(), agent.SlaveOptions{URL: o.b.URL(), Dir: dir, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	o.untilOnline(s)
	if err := subjects.CheckNodeID(s.ID()); err != nil {
		t.Error(err)
	}
	stop(t, s)
	until(t, "no goroutine of the slave left", func() bool {
		buf := make([]byte, 1<<20)
		stacks := string(buf[:runtime.Stack(buf, true)])
		return !strings.Contains(stacks, "agent.(*Slave)") && !strings.Contains(stacks, "agent.(*lane)") && !strings.Contains(stacks, "agent.(*logWire)")
	})
	until(t, "goodbye", func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		return o.states[s.ID()].State == subjects.StateStopped
	})
	store, err := exec.Open(dir, exec.Options{Role: exec.RoleSlave, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if store.Identity().ID != s.ID() || store.Identity().Cluster != "c1" {
		t.Errorf("%+v", store.Identity())
	}
}

// Log lines reach whoever listens on the node's log subject.
func TestSlaveLogsOnTheWire(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	lines := make(chan *nats.Msg, 64)
	if _, err := o.nc.ChanSubscribe(subjects.NodeLog("snap1"), lines); err != nil {
		t.Fatal(err)
	}
	o.start(t.TempDir())
	select {
	case msg := <-lines:
		var line struct{ Msg, Level, Node string }
		if err := json.Unmarshal(msg.Data, &line); err != nil || line.Msg == "" || line.Node != "snap1" {
			t.Errorf("%s: %v", msg.Data, err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("no line came")
	}
}

// While heads come that it does not reach, a slave says how far it lags, and it
// stops saying so once it is there.
func TestSlaveShowsLag(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.catalog("CREATE DATABASE a")
	o.write("a", "CREATE TABLE t (x)")
	s := o.start(t.TempDir())
	o.untilOnline(s)

	// The origin knows of a write that the log does not bring. That it brought nothing
	// before either is no reason to give it less time.
	idle := time.Now()
	until(t, "a while without writes", func() bool {
		o.publishHeads()
		return time.Since(idle) > agent.Silence
	})
	promised := time.Now()
	g, h, body := o.group("a", "INSERT INTO t VALUES (1)")
	heads := o.heads()
	heads.Heads["a"] = subjects.Head{Incarnation: h.Inc, Position: heads.Cursor + 1, Chain: h.Chain.String()}
	heads.Cursor++
	data, err := json.Marshal(heads)
	if err == nil {
		err = o.nc.Publish(subjects.Heads, data)
	}
	if err != nil {
		t.Fatal(err)
	}
	untilState(t, s, subjects.StateLagging)
	if st := s.Status(); st.LagMS < 2000 || st.Databases["a"].State != subjects.StateLagging || st.Cursor >= heads.Cursor {
		t.Errorf("%+v", st)
	}
	until(t, "joined again after silence", func() bool { return o.joinCount() >= 2 })
	if waited := time.Since(promised); waited < agent.Silence {
		t.Errorf("it joined again %v after it heard of the write", waited)
	}
	n, err := o.append(h, body)
	if err == nil {
		err = g.Commit(n, h.Chain)
	}
	if err != nil {
		t.Fatal(err)
	}
	untilAt(t, s, "a", n)
	o.publishHeads()
	until(t, "no lag", func() bool {
		st := s.Status()
		return st.State == subjects.StateOnline && st.LagMS == 0 && st.Cursor == n
	})
}

// A database that is dropped while heads wait for it must not hold them up for ever.
func TestSlaveForgetsHeadsOfDropped(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.catalog("CREATE DATABASE a")
	s := o.start(t.TempDir())
	o.untilOnline(s)
	heads := o.heads()
	a := heads.Heads["a"]
	a.Position += 1000
	heads.Heads["a"] = a
	data, err := json.Marshal(heads)
	if err == nil {
		err = o.nc.Publish(subjects.Heads, data)
	}
	if err != nil {
		t.Fatal(err)
	}
	until(t, "behind", func() bool { return s.Status().Databases["a"].Head == a.Position })
	n := o.catalog("DROP DATABASE a")
	until(t, "dropped", func() bool { return s.Store().Catalog().Applied().Number == n })
	o.publishHeads()
	until(t, "no lag", func() bool {
		st := s.Status()
		return st.LagMS == 0 && st.Cursor == n && st.State == subjects.StateOnline
	})
}

// A long apply shows that it is at work before it is done.
func TestSlaveShowsProgress(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.catalog("CREATE DATABASE a")
	o.write("a", "CREATE TABLE t (x)")
	s := o.start(t.TempDir())
	o.untilOnline(s)
	// How much work it takes for progress to be due depends on the machine.
	for statements := 100; statements <= 25_600; statements *= 2 {
		work := "INSERT INTO t WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n < 1000) SELECT count(*) FROM c"
		n := o.write("a", slices.Repeat([]string{work}, statements)...)
		untilAt(t, s, "a", n)
		until(t, "acknowledged", func() bool { return o.acked("a") == n })
		o.mu.Lock()
		shown := slices.ContainsFunc(o.acks, func(a subjects.AckMessage) bool { return a.Applying["a"] > 0 && a.Session == 101 })
		o.mu.Unlock()
		if shown {
			return
		}
	}
	t.Error("no progress was acknowledged")
}
