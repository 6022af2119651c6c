package agent_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/snapdb/snapdb/agent"
	"github.com/snapdb/snapdb/subjects"
)

// A message of a newer program stops its database where it is, says that snapdb must
// be upgraded, and holds nothing against the copy; other databases go on. So it is
// after a restart, too.
func TestMessageOfANewerVersionStopsItsDatabase(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.catalog("CREATE DATABASE a")
	o.catalog("CREATE DATABASE b")
	o.write("b", "CREATE TABLE t (x)")
	at := o.write("a", "CREATE TABLE t (x)", "INSERT INTO t VALUES (1)")
	dir := t.TempDir()
	s := o.start(dir)
	o.untilOnline(s)

	g, h, body := o.group("a", "INSERT INTO t VALUES (2)")
	if err := g.Rollback(); err != nil {
		t.Fatal(err)
	}
	newer := append([]byte(`{"v":2,"of":"another kind"`), bytes.TrimPrefix(body, []byte(`{"v":1`))...)
	h.Chain = subjects.NextChain(o.db("a").Applied().Chain, h.Inc, newer)
	if _, err := o.append(h, newer); err != nil {
		t.Fatal(err)
	}
	for n := range 2 {
		untilAt(t, s, "b", o.write("b", "INSERT INTO t VALUES (1)"))
		until(t, "a is stopped", func() bool { return s.Status().Databases["a"].State == subjects.StateStopped })
		if reason := s.Status().Databases["a"].Reason; !strings.Contains(reason, "written by a newer version of snapdb") || !strings.Contains(reason, "use a newer snapdb") {
			t.Errorf("the reason is %q", reason)
		}
		if got := position(s, "a"); got != at {
			t.Errorf("a is at %d, not %d", got, at)
		}
		if a, b := o.count("snap1", "a"), o.count("snap1", "b"); a != 1 || b != int64(n+1) {
			t.Errorf("a has %d rows, b %d", a, b)
		}
		stop(t, s)
		s = o.start(dir)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, j := range o.joins {
		if len(j.Diverged) > 0 {
			t.Errorf("the slave says that %q diverged", j.Diverged)
		}
	}
}

// A list of databases that has a message of a newer program stops likewise.
func TestCatalogOfANewerVersionStops(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.catalog("CREATE DATABASE a")
	o.write("a", "CREATE TABLE t (x)")
	s := o.start(t.TempDir())
	o.untilOnline(s)
	at := o.store.Catalog().Applied()
	body := []byte(`{"v":2,"create":"b"}`)
	if _, err := o.append(subjects.Header{DB: subjects.Catalog, Prev: at.Number, Chain: subjects.NextChain(at.Chain, 0, body), ID: "x"}, body); err != nil {
		t.Fatal(err)
	}
	until(t, "the catalog is stopped", func() bool {
		st := s.Status().Databases[subjects.Catalog]
		return st.State == subjects.StateStopped && strings.Contains(st.Reason, "use a newer snapdb")
	})
	if o.count("snap1", "a") != 0 {
		t.Error("a is not read as it is")
	}
}

// A slave does not take part in a cluster whose master speaks another version.
func TestMasterOfANewerVersionIsRefused(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.answer = func(_ int, r *subjects.JoinResponse) { r.V = 2 }
	s, err := agent.StartSlave(t.Context(), agent.SlaveOptions{URL: o.b.URL(), ID: "snap1", Dir: t.TempDir(), Version: "test", Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Wait()
	var refused *agent.RefusedError
	if !errors.As(err, &refused) || refused.Code != subjects.RefusedVersion || !strings.Contains(err.Error(), "use the same snapdb on both") {
		t.Errorf("error %v", err)
	}
}
