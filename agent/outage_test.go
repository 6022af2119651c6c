package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/snapdb/snapdb/agent/blob"
	"github.com/snapdb/snapdb/broker"
	"github.com/snapdb/snapdb/broker/brokertest"
	"github.com/snapdb/snapdb/subjects"
)

// masterTest is a master and somebody who asks it, as anybody may.
type masterTest struct {
	*Master
	t      *testing.T
	client *nats.Conn
}

func startMaster(t *testing.T, o MasterOptions) *masterTest {
	t.Helper()
	o.Listen, o.Logger = brokertest.Address(t), silent()
	m, err := StartMaster(limited(t), o)
	if err != nil {
		t.Fatal(err)
	}
	mt := &masterTest{Master: m, t: t}
	t.Cleanup(mt.stop)
	if mt.client, err = nats.Connect(m.URL(), nats.ReconnectWait(10*time.Millisecond), nats.MaxReconnects(-1)); err != nil {
		t.Fatal(err)
	}
	return mt
}

func (m *masterTest) stop() {
	m.t.Helper()
	if m.Master == nil {
		return
	}
	m.client.Close()
	if err := m.Stop(limited(m.t)); err != nil {
		m.t.Error(err)
	}
	m.Master = nil
}

// unanswered is the code of exec for no answer at all.
const unanswered = subjects.Code("unanswered")

// exec sends SQL and returns the answer's error code, "" for success, and text.
func (m *masterTest) exec(db, sql string) (code subjects.Code, text string) {
	req, err := json.Marshal(map[string]string{"db": db, "sql": sql})
	if err != nil {
		return unanswered, err.Error()
	}
	msg, err := m.client.Request(subjects.Exec, req, 3*time.Second)
	if err != nil {
		return unanswered, err.Error()
	}
	var answer struct{ Error *subjects.Error }
	if err := json.Unmarshal(msg.Data, &answer); err != nil {
		return unanswered, fmt.Sprintf("%s: %v", msg.Data, err)
	}
	if answer.Error != nil {
		return answer.Error.Code, answer.Error.Message
	}
	return "", string(msg.Data)
}

func (m *masterTest) mustExec(db, sql string) string {
	m.t.Helper()
	code, text := m.exec(db, sql)
	if code != "" {
		m.t.Fatalf("%s: %s: %s", sql, code, text)
	}
	return text
}

// wantRow asserts what a query of one value answers.
func (m *masterTest) wantRow(db, sql, want string) {
	m.t.Helper()
	if text := m.mustExec(db, sql); !strings.Contains(text, `"rows":[[`+want+`]]`) {
		m.t.Fatalf("%s: %s, want %s", sql, text, want)
	}
}

// cut starts a master whose connection to the log is a wire with faults.
func cut(t *testing.T, wire *brokertest.Wire) *masterTest {
	return startMaster(t, MasterOptions{Dir: t.TempDir(), publishPatience: shortPatience,
		dial: func(b *broker.Broker) []nats.Option {
			return []nats.Option{wire.Option(b), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})}
		}})
}

func TestWriteWhoseAckIsLostSucceeds(t *testing.T) {
	t.Parallel()
	var wire brokertest.Wire
	m := cut(t, &wire)
	m.mustExec("", "CREATE DATABASE d")
	m.mustExec("d", "CREATE TABLE t (x)")
	wire.Set(brokertest.LoseAck)
	m.mustExec("d", "INSERT INTO t VALUES (1)")
	if !wire.Happened() {
		t.Error("no ack was lost")
	}
	m.wantRow("d", "SELECT group_concat(x) FROM t", `"1"`)
}

func TestWriteThatIsLostLeavesNothing(t *testing.T) {
	t.Parallel()
	var wire brokertest.Wire
	m := cut(t, &wire)
	m.mustExec("", "CREATE DATABASE d")
	m.mustExec("d", "CREATE TABLE t (x)")
	wire.Set(brokertest.LosePublish)
	if code, text := m.exec("d", "INSERT INTO t VALUES (1)"); code != subjects.CodeUnavailable || !strings.Contains(text, "nothing was changed") {
		t.Fatalf("%s: %s", code, text)
	}
	m.mustExec("d", "INSERT INTO t VALUES (2)")
	m.wantRow("d", "SELECT group_concat(x) FROM t", `"2"`)
}

// A log that is silent for too long leaves the outcome open, is restarted, and
// says then what it holds.
func TestSilentLogIsRestartedAndDecides(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		fault brokertest.Fault
		rows  string
	}{{"stored nothing", brokertest.LoseAll, `"2"`}, {"stored it", brokertest.LoseAnswers, `"1,2"`}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			silentLog(t, c.fault, c.rows)
		})
	}
}

func silentLog(t *testing.T, fault brokertest.Fault, rows string) {
	var wire brokertest.Wire
	m := cut(t, &wire)
	for _, db := range []string{"a", "b"} {
		m.mustExec("", "CREATE DATABASE "+db)
		m.mustExec(db, "CREATE TABLE t (x UNIQUE)")
	}
	wire.Set(fault)
	answers := make(chan string, 2)
	for _, db := range []string{"a", "b"} {
		go func() {
			code, text := m.exec(db, "INSERT INTO t VALUES (1)")
			answers <- string(code) + " " + text
		}()
	}
	// The first to give up says so and has the broker restarted, which may cut off
	// the answer of the other.
	first := <-answers
	if !strings.HasPrefix(first, string(subjects.CodeOutcomeUnknown)) || !strings.Contains(first, "log id") {
		t.Errorf("the first answer is %q", first)
	}
	for _, db := range []string{"a", "b"} {
		await(t, "database "+db+" takes writes again", func() bool {
			code, _ := m.exec(db, "INSERT OR IGNORE INTO t VALUES (2)") // again, if its answer is lost
			return code == ""
		})
		m.wantRow(db, "SELECT group_concat(x) FROM t", rows)
	}
	<-answers
}

func TestMasterStepsDownForAnother(t *testing.T) {
	t.Parallel()
	m := startMaster(t, MasterOptions{Dir: t.TempDir()})
	m.mustExec("", "CREATE DATABASE d")
	m.mustExec("d", "CREATE TABLE t (x)")
	claimAs(t, rival(t, m.broker), "another")
	if code, text := m.exec("d", "INSERT INTO t VALUES (1)"); code != subjects.CodeUnavailable || !strings.Contains(text, "another master") {
		t.Fatalf("%s: %s", code, text)
	}
	if err := m.Wait(limited(t)); !errors.Is(err, errFenced) {
		t.Fatalf("the master ended with %v, want errFenced", err)
	}
}

// blobFiles are the names in the folder of blobs.
func blobFiles(t *testing.T, dir string) (names []string) {
	t.Helper()
	files, err := os.ReadDir(filepath.Join(dir, "blobs"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		names = append(names, f.Name())
	}
	return names
}

// large is a statement too large for a message of the log.
var large = "INSERT INTO t VALUES (zeroblob(3)), ('" + strings.Repeat("x", subjects.MaxInline+1) + "')"

func TestBlobOfARefusedWriteIsRemoved(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := startMaster(t, MasterOptions{Dir: dir, MaxLogBytes: 20_000, LogKeep: -1})
	m.mustExec("", "CREATE DATABASE d")
	m.mustExec("d", "CREATE TABLE t (x)")
	await(t, "the log is full", func() bool {
		code, _ := m.exec("d", "INSERT INTO t VALUES ('"+strings.Repeat("x", 1000)+"')")
		return code == subjects.CodeUnavailable
	})
	await(t, "the log takes not even a little", func() bool {
		code, _ := m.exec("d", "DELETE FROM t WHERE x = 1")
		return code == subjects.CodeUnavailable
	})
	// There is room for the transaction, but not for the message that names it.
	if code, text := m.exec("d", large); code != subjects.CodeUnavailable || !strings.Contains(text, broker.ErrLogFull.Error()) {
		t.Fatalf("%s: %s", code, text)
	}
	if files := blobFiles(t, dir); len(files) != 0 {
		t.Fatalf("blobs %q, want none", files)
	}
}

// What a master left when it was killed between storing a blob and hearing from
// the log, or between hearing and noting it, is found out at the next start.
func TestStartSettlesTheBlobsOfACrash(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := startMaster(t, MasterOptions{Dir: dir})
	m.mustExec("", "CREATE DATABASE d")
	m.mustExec("d", "CREATE TABLE t (x)")
	before := m.journal.known.Load()
	m.mustExec("d", large)
	m.mustExec("d", "INSERT INTO t VALUES (1)")
	m.stop()

	named := blobFiles(t, dir)
	if len(named) != 1 {
		t.Fatalf("blobs %q, want that of the write", named)
	}
	path := filepath.Join(dir, "blobs", named[0])
	content, err := os.ReadFile(path)
	if err == nil {
		err = os.Remove(path)
	}
	if err != nil {
		t.Fatal(err)
	}
	store, err := blob.Open(filepath.Join(dir, "blobs"))
	if err != nil {
		t.Fatal(err)
	}
	for _, body := range []string{string(content), "of a publish that never was"} {
		w, err := store.Create(before)
		if err == nil {
			_, err = w.Write([]byte(body))
		}
		if err == nil {
			_, err = w.Commit()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	// Another kind of blob, which the log knows nothing of.
	other := strings.Repeat("0", 64)
	if err := os.WriteFile(filepath.Join(dir, "blobs", other), nil, 0o600); err != nil {
		t.Fatal(err)
	}

	m = startMaster(t, MasterOptions{Dir: dir})
	if files := blobFiles(t, dir); strings.Join(files, " ") != other+" "+named[0] {
		t.Fatalf("blobs %q, want %q and %q", files, other, named)
	}
	if drafts, err := m.blobs.Drafts(); err != nil || len(drafts) > 0 {
		t.Fatalf("drafts %v, %v", drafts, err)
	}
	m.wantRow("d", "SELECT count(*) FROM t", "3")
}
