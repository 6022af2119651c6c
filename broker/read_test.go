package broker_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/snapdb/snapdb/broker"
	"github.com/snapdb/snapdb/subjects"
)

var errDone = errors.New("done")

func (m *master) addReader(name string, from uint64) {
	m.t.Helper()
	if err := m.log.AddReader(testContext(m.t), name, from); err != nil {
		m.t.Fatal(err)
	}
}

// readIDs reads n messages as a slave does.
func readIDs(t testing.TB, m *master, from uint64, n int) (ids []string) {
	t.Helper()
	name := fmt.Sprintf("reader-%d", time.Now().UnixNano())
	m.addReader(name, from)
	err := broker.ReadLog(testContext(t), plain(t, m.Broker), broker.Next(name), func(batch []broker.Entry) error {
		for _, e := range batch {
			if e.Message == nil {
				ids = append(ids, "foreign")
			} else {
				ids = append(ids, e.Message.Header.ID)
			}
		}
		if len(ids) >= n {
			return errDone
		}
		return nil
	})
	if !errors.Is(err, errDone) {
		t.Fatalf("reading ended after %d of %d messages: %v", len(ids), n, err)
	}
	return ids
}

func TestLargeBacklogArrivesCompleteAndInOrder(t *testing.T) {
	m := start(t)
	body := make([]byte, 7<<20)
	var want []string
	for i := range 1000 {
		size := 43 << 10
		switch {
		case i%250 == 100: // fits into nothing but a whole new pull
			size = len(body)
		case i%10 == 5:
			size = 0
		}
		want = append(want, fmt.Sprint(i))
		if _, err := m.log.Append(testContext(t), m.header(want[i]), body[:size]); err != nil {
			t.Fatal(err)
		}
	}
	if has := readIDs(t, m, 1, len(want)); !slices.Equal(has, want) {
		t.Fatalf("%d messages arrived, out of order or not all of %d", len(has), len(want))
	}
}

func TestMessagesArriveAsTheyAreStored(t *testing.T) {
	m := start(t)
	m.addReader("r", 1)
	got := make(chan string, 100)
	ctx, cancel := context.WithCancelCause(testContext(t))
	ended := make(chan error, 1)
	nc := plain(t, m.Broker)
	go func() {
		ended <- broker.ReadLog(ctx, nc, broker.Next("r"), func(batch []broker.Entry) error {
			for _, e := range batch {
				got <- e.Message.Header.ID
			}
			return nil
		})
	}()
	for i := range 20 {
		m.append(fmt.Sprint(i))
		if id := receive(t, got); id != fmt.Sprint(i) {
			t.Fatalf("got %s, want %d", id, i)
		}
	}
	cancel(errDone)
	if err := receive(t, ended); !errors.Is(err, errDone) {
		t.Fatalf("error %v, want the cause of the context's end", err)
	}
}

// A slow reader is not flooded: what waits for it stays within what it asks for.
func TestSlowReaderIsNotFlooded(t *testing.T) {
	m := start(t)
	const size, ahead = 100 << 10, 8 << 20
	for i := range 200 {
		if _, err := m.log.Append(testContext(t), m.header(fmt.Sprint(i)), make([]byte, size)); err != nil {
			t.Fatal(err)
		}
	}
	m.addReader("r", 1)
	js, err := jetstream.New(m.nc)
	if err != nil {
		t.Fatal(err)
	}
	nc := plain(t, m.Broker)
	taken := 0
	err = broker.ReadLog(testContext(t), nc, broker.Next("r"), func(batch []broker.Entry) error {
		taken += len(batch)
		// Once the server answers a later request, it has answered the pull before.
		if _, err := nc.RTT(); err != nil {
			return err
		}
		cons, err := js.Consumer(testContext(t), subjects.LogStream, "r")
		if err != nil {
			return err
		}
		if sent := int(cons.CachedInfo().Delivered.Consumer); (sent-taken)*size > ahead {
			return fmt.Errorf("%d messages of %d bytes wait", sent-taken, size)
		}
		if taken == 200 {
			return errDone
		}
		return nil
	})
	if !errors.Is(err, errDone) {
		t.Fatalf("after %d messages: %v", taken, err)
	}
}

func TestReaderOfAConsumerThatIsGone(t *testing.T) {
	m := start(t)
	nc := plain(t, m.Broker)
	never := func([]broker.Entry) error { return errors.New("something arrived") }
	if err := broker.ReadLog(testContext(t), nc, broker.Next("none"), never); !errors.Is(err, broker.ErrConsumerGone) {
		t.Errorf("one that never was: %v, want ErrConsumerGone", err)
	}

	m.addReader("r", 1)
	m.append("a")
	err := broker.ReadLog(testContext(t), nc, broker.Next("r"), func([]broker.Entry) error { return m.log.RemoveReader(testContext(t), "r") })
	if !errors.Is(err, broker.ErrConsumerGone) {
		t.Errorf("one that is removed while being read: %v, want ErrConsumerGone", err)
	}
	if err := m.log.RemoveReader(testContext(t), "r"); err != nil {
		t.Errorf("removing it again: %v", err)
	}
}

func TestReaderOfALostConnection(t *testing.T) {
	for what, lose := range map[string]func(*master, *nats.Conn){
		"closed by the reader": func(_ *master, nc *nats.Conn) { nc.Close() },
		"broker stopped":       func(m *master, _ *nats.Conn) { m.Close() },
		"broker restarted": func(m *master, _ *nats.Conn) {
			if err := m.Restart(testContext(m.t)); err != nil {
				m.t.Error(err)
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			m := start(t)
			m.addReader("r", 1)
			m.append("a")
			nc := plain(t, m.Broker)
			err := broker.ReadLog(testContext(t), nc, broker.Next("r"), func([]broker.Entry) error {
				lose(m, nc)
				return nil
			})
			if !errors.Is(err, broker.ErrDisconnected) {
				t.Errorf("error %v, want ErrDisconnected", err)
			}
		})
	}
}

func TestReaderThatSharesItsConsumerSeesTheGap(t *testing.T) {
	m := start(t)
	m.addReader("r", 1)
	m.append("0")
	ended := make(chan error, 2)
	arrived := make(chan struct{}, 100)
	for range 2 {
		nc := plain(t, m.Broker)
		go func() {
			ended <- broker.ReadLog(testContext(t), nc, broker.Next("r"), func([]broker.Entry) error {
				arrived <- struct{}{}
				return nil
			})
		}()
	}
	// The server gives the messages to the two in turn.
	for i := 1; ; i++ {
		m.append(fmt.Sprint(i))
		select {
		case err := <-ended:
			if !errors.Is(err, broker.ErrGap) {
				t.Fatalf("error %v, want ErrGap", err)
			}
			return
		case <-arrived:
		}
	}
}

// A log may hold what looks like the server's words about a pull, see the top of
// the package. Readers must get past it.
func TestStoredWordsAboutAPullStopNobody(t *testing.T) {
	m := start(t)
	m.append("a")
	for _, status := range []string{"100 Idle Heartbeat", "404 No Messages", "408 Request Timeout", "409 Consumer Deleted", "503", "409 Message Size Exceeds MaxBytes"} {
		code, text, _ := strings.Cut(status, " ")
		msg := &nats.Msg{Subject: subjects.Replicate, Header: nats.Header{"Status": {code}, "Description": {text}, "Nats-Pending-Bytes": {"5"}}}
		if _, err := m.nc.RequestMsg(msg, testPatience); err != nil {
			t.Fatal(err)
		}
	}
	m.append("b")
	want := []string{"a", "foreign", "foreign", "foreign", "foreign", "foreign", "foreign", "b"}
	wantIDs(t, m.ids(1), want...)
	wantIDs(t, readIDs(t, m, 1, len(want)), want...)
}

func TestConsumersKeepNothingOnDisk(t *testing.T) {
	c := config(t.TempDir())
	m := startWith(t, c)
	m.append("a")
	m.addReader("r", 1)
	wantIDs(t, readIDs(t, m, 1, 1), "a")
	err := filepath.WalkDir(c.Dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.Contains(path, "obs") {
			err = fmt.Errorf("a consumer keeps %s", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestReaderBeginsWhereItIsTold(t *testing.T) {
	m := start(t)
	for _, id := range []string{"a", "b", "c"} {
		m.append(id)
	}
	m.claim() // no message of the log, not seen by readers
	m.append("d")
	for from, want := range map[uint64][]string{0: {"a", "b", "c", "d"}, m.term - 2: {"b", "c", "d"}, m.term: {"d"}} {
		wantIDs(t, readIDs(t, m, from, len(want)), want...)
	}
}
