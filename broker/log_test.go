package broker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/snapdb/snapdb/broker"
	"github.com/snapdb/snapdb/broker/brokertest"
	"github.com/snapdb/snapdb/subjects"
)

func TestLogGivesBackWhatWasAppended(t *testing.T) {
	m := start(t)
	head := subjects.Header{DB: "Shop", Inc: 7, Prev: 5, Chain: subjects.FirstChain(7), Term: m.term, ID: "id"}
	body := []byte("{\"v\":1}\x00\xff\r\n")
	position, err := m.log.Append(testContext(t), head, body)
	if err != nil {
		t.Fatal(err)
	}
	e, err := m.log.Get(testContext(t), position)
	if err != nil || e.Foreign != nil || e.Message == nil {
		t.Fatalf("%+v, %v", e, err)
	}
	if e.Position != position || e.Message.Position != position || e.Subject != subjects.Replicate || e.Message.Header != head || !bytes.Equal(e.Message.Data, body) {
		t.Errorf("got %+v %+v", e, e.Message)
	}

	if e, err = m.log.Get(testContext(t), m.term); err != nil || e.Subject != subjects.Epoch || e.Message != nil || e.Foreign != nil {
		t.Errorf("the epoch: %+v, %v", e, err)
	}
	if _, err := m.log.Get(testContext(t), position+1); !errors.Is(err, broker.ErrNoMessage) {
		t.Errorf("beyond the end: %v, want ErrNoMessage", err)
	}
	info, err := m.LogInfo(testContext(t))
	if err != nil || info.First != m.term || info.Last != position || info.Messages != 2 || info.Bytes == 0 || info.MaxBytes != broker.DefaultMaxLogBytes {
		t.Errorf("extent %+v, %v", info, err)
	}
}

func TestMessageWithoutHeadersIsForeign(t *testing.T) {
	m := start(t)
	// Nobody else could, see the rights; the master's own connection can.
	ack, err := m.nc.Request(subjects.Replicate, []byte("hello"), testPatience)
	if err != nil {
		t.Fatal(err)
	}
	e, err := m.log.Get(testContext(t), m.term+1)
	if err != nil || e.Message != nil || e.Foreign == nil {
		t.Fatalf("after %s: %+v, %v", ack.Data, e, err)
	}
}

func TestStaleTermIsFenced(t *testing.T) {
	m := start(t)
	m.append("a")
	old := m.header("late")
	m.claim()
	if _, err := m.log.Append(testContext(t), old, []byte("late")); !errors.Is(err, broker.ErrFenced) {
		t.Fatalf("error %v, want ErrFenced", err)
	}
	m.append("b")
	wantIDs(t, m.ids(1), "a", "b")
}

func TestOneOfManyClaimantsWins(t *testing.T) {
	m := start(t)
	logs := make([]*broker.Log, 4)
	for i := range logs {
		logs[i] = openLog(t, m.Broker, ownConn(t, m.Broker))
	}
	for range 20 {
		last, err := m.log.LastEpoch(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		terms, errs := make([]uint64, len(logs)), make([]error, len(logs))
		var wg sync.WaitGroup
		for i, log := range logs {
			wg.Go(func() {
				terms[i], errs[i] = log.Claim(testContext(t), last.Position, fmt.Sprint(i), nil, subjects.Signature{})
			})
		}
		wg.Wait()
		winners := 0
		for i, err := range errs {
			switch {
			case err == nil:
				winners++
				epoch, err := m.log.LastEpoch(testContext(t))
				if err != nil || epoch.Position != terms[i] || epoch.Master != fmt.Sprint(i) {
					t.Fatalf("%d won term %d, the last epoch is %+v, %v", i, terms[i], epoch, err)
				}
			case !errors.Is(err, broker.ErrFenced):
				t.Fatalf("claimant %d: %v, want ErrFenced", i, err)
			}
		}
		if winners != 1 {
			t.Fatalf("%d claimants have won", winners)
		}
	}
}

func TestNewLogHasNoEpoch(t *testing.T) {
	b, err := broker.Start(testContext(t), config(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	epoch, err := openLog(t, b, ownConn(t, b)).LastEpoch(testContext(t))
	if err != nil || epoch.Position != 0 || epoch.Master != "" {
		t.Fatalf("%+v, %v", epoch, err)
	}
}

func TestFullLogRefusesAndKeepsEverything(t *testing.T) {
	c := config(t.TempDir())
	c.MaxLogBytes = 200_000
	m := startWith(t, c)
	body := strings.Repeat("x", 1000)
	fill := func() (n int) {
		for {
			_, err := m.log.Append(testContext(t), m.header("fill"), []byte(body))
			if errors.Is(err, broker.ErrLogFull) {
				return n
			}
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
	}
	n := fill()
	if n < 100 {
		t.Fatalf("full after %d messages", n)
	}
	// The epoch, the oldest of all, is still what publishes are fenced by.
	if e, err := m.log.Get(testContext(t), m.term); err != nil || e.Subject != subjects.Epoch {
		t.Fatalf("the epoch: %+v, %v", e, err)
	}
	if ids := m.ids(1); len(ids) != n {
		t.Fatalf("%d messages can be read of %d", len(ids), n)
	}

	// A full log can be claimed, after a new start too, and is still full then.
	m.claim()
	n += fill()
	m.Close()
	m = startWith(t, c)
	n += fill()
	if ids := m.ids(1); len(ids) != n {
		t.Fatalf("%d messages can be read of %d", len(ids), n)
	}
	info, err := m.LogInfo(testContext(t))
	if err != nil || info.Bytes > uint64(c.MaxLogBytes)+16<<10 {
		t.Fatalf("%+v, %v: grown far beyond its limit of %d", info, err, c.MaxLogBytes)
	}
}

func TestMessageThatNoReaderCouldTakeIsRefused(t *testing.T) {
	m := start(t)
	for _, size := range []int{8<<20 - 32<<10, 9 << 20} {
		if _, err := m.log.Append(testContext(t), m.header("big"), make([]byte, size)); !errors.Is(err, broker.ErrRefused) {
			t.Errorf("%d bytes: %v, want ErrRefused", size, err)
		}
	}
	largest := 8<<20 - 96<<10
	if _, err := m.log.Append(testContext(t), m.header("large"), make([]byte, largest)); err != nil {
		t.Fatal(err)
	}
	m.append("b")
	wantIDs(t, m.ids(1), "large", "b")
}

func TestUnansweredPublishIsClearedUpByTheNextEpoch(t *testing.T) {
	for _, c := range []struct {
		name   string
		fault  brokertest.Fault
		stored bool
	}{{"lost on the way out", brokertest.LosePublish, false}, {"lost on the way back", brokertest.LoseAck, true}} {
		t.Run(c.name, func(t *testing.T) {
			m := start(t)
			before := m.append("before")
			var w brokertest.Wire
			log := openLog(t, m.Broker, ownConn(t, m.Broker, w.Option(m.Broker)))
			w.Set(c.fault)
			ctx, cancel := context.WithTimeout(testContext(t), 300*time.Millisecond)
			defer cancel()
			if _, err := log.Append(ctx, m.header("lost"), []byte("lost")); !errors.Is(err, broker.ErrUnanswered) {
				t.Fatalf("error %v, want ErrUnanswered", err)
			}

			last, err := log.LastEpoch(testContext(t))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := log.Claim(testContext(t), last.Position, "test", nil, subjects.Signature{}); err != nil {
				t.Fatal(err)
			}
			position, found, err := log.Resolve(testContext(t), "lost", before+1)
			if err != nil || found != c.stored || found && position != before+1 {
				t.Fatalf("position %d, found %v, %v", position, found, err)
			}
			if _, found, err := log.Resolve(testContext(t), "before", before+1); err != nil || found {
				t.Fatalf("an older message: found %v, %v", found, err)
			}
			if _, found, err := log.Resolve(testContext(t), "never", 1); err != nil || found {
				t.Fatalf("an unknown message: found %v, %v", found, err)
			}
		})
	}
}

func TestRespondersCannotBreakOrForgeTheAck(t *testing.T) {
	m := start(t)
	for range 3 {
		nc := plain(t, m.Broker)
		if _, err := nc.Subscribe(subjects.Replicate, func(msg *nats.Msg) {
			_ = msg.Respond([]byte(`{"stream":"DB_REPLICATE","seq":999999}`))
		}); err != nil {
			t.Fatal(err)
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 200 {
		if position := m.append(fmt.Sprint(i)); position != m.term+1+uint64(i) {
			t.Fatalf("message %d: position %d", i, position)
		}
	}
}

// Whoever sees the reply subject of a publish can have the server send something
// else there, and sooner than the ack.
func TestAnswersSentToTheMasterByAnotherHandChangeNothing(t *testing.T) {
	m := start(t)
	m.addReader("r", 1)
	nc := plain(t, m.Broker)
	if _, err := nc.Subscribe(subjects.Replicate, func(msg *nats.Msg) {
		// An answer with an error and its code, one without, a word about a pull, a
		// message of the log.
		for api, body := range map[string]string{
			"$JS.API.CONSUMER.INFO.DB_REPLICATE.none":  "",
			"$JS.API.STREAM.INFO.DB_REPLICATE":         "",
			"$JS.API.CONSUMER.MSG.NEXT.DB_REPLICATE.r": `{"batch":1,"no_wait":true}`,
		} {
			if err := nc.PublishRequest(api, msg.Reply, []byte(body)); err != nil {
				t.Error(err)
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	var want []string
	for i := range 100 {
		want = append(want, fmt.Sprint(i))
		if position := m.append(want[i]); position != m.term+1+uint64(i) {
			t.Fatalf("message %d: position %d", i, position)
		}
	}
	wantIDs(t, m.ids(1), want...)
}

// What the stream refuses is seen by plain subscribers all the same. That is why
// slaves read with a consumer.
func TestOnlyTheConsumerHidesWhatWasRefused(t *testing.T) {
	m := start(t)
	old := m.header("refused")
	m.claim()
	nc := plain(t, m.Broker)
	sub, err := nc.SubscribeSync(subjects.Replicate)
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if _, err := m.log.Append(testContext(t), old, nil); !errors.Is(err, broker.ErrFenced) {
		t.Fatalf("error %v, want ErrFenced", err)
	}
	m.append("stored")
	for _, want := range []string{"refused", "stored"} {
		msg, err := sub.NextMsg(testPatience)
		if err != nil || msg.Header.Get(subjects.HeaderID) != want {
			t.Fatalf("the plain subscriber got %v, %v, want %s", msg, err, want)
		}
	}
	wantIDs(t, readIDs(t, m, 1, 1), "stored")
}

func TestReadBetweenPositions(t *testing.T) {
	m := start(t)
	for i := range 10 {
		m.append(fmt.Sprint(i))
	}
	first := m.term + 1 // of message 0
	for _, c := range []struct {
		from, to uint64
		want     string
	}{
		{0, 1 << 60, "0123456789"}, {1, first + 9, "0123456789"}, {first, first, "0"}, {first + 3, first + 5, "345"},
		{first + 9, 1 << 60, "9"}, {first + 10, 1 << 60, ""}, {first + 1000, 1 << 60, ""}, {first + 2, first + 1, ""}, {1, 0, ""},
	} {
		var got string
		err := m.log.Read(testContext(t), c.from, c.to, func(e broker.Entry) error {
			got += e.Message.Header.ID
			return nil
		})
		if err != nil || got != c.want {
			t.Errorf("from %d to %d: %q, %v, want %q", c.from, c.to, got, err, c.want)
		}
	}
}

func TestReadLeavesNoConsumerBehind(t *testing.T) {
	m := start(t)
	for i := range 10 {
		m.append(fmt.Sprint(i))
	}
	m.ids(1)
	broken := errors.New("broken")
	if err := m.log.Read(testContext(t), 1, 1<<60, func(broker.Entry) error { return broken }); !errors.Is(err, broken) {
		t.Fatalf("error %v, want that of the function", err)
	}
	ctx, cancel := context.WithCancelCause(testContext(t))
	if err := m.log.Read(ctx, 1, 1<<60, func(broker.Entry) error { cancel(broken); <-ctx.Done(); return nil }); err != nil && !errors.Is(err, broken) {
		t.Fatalf("error %v, want the cause of the context's end or none", err)
	}
	if names := consumers(t, m); len(names) > 0 {
		t.Fatalf("left behind: %q", names)
	}
}

// consumers lists those of the log.
func consumers(t testing.TB, m *master) (names []string) {
	t.Helper()
	js, err := jetstream.New(m.nc)
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(testContext(t), subjects.LogStream)
	if err != nil {
		t.Fatal(err)
	}
	list := s.ConsumerNames(testContext(t))
	for name := range list.Name() {
		names = append(names, name)
	}
	if list.Err() != nil {
		t.Fatal(list.Err())
	}
	return names
}

// What is before the running term's claim can go; the rest is as it was, and the
// log takes more.
func TestPurgedLogGoesOn(t *testing.T) {
	c := config(t.TempDir())
	m := startWith(t, c)
	for i := range 600 { // more than one step
		if err := m.nc.Publish(subjects.Replicate, fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	last := m.append("kept")
	if err := m.log.Purge(testContext(t), last); err == nil {
		t.Error("the claim of the running term was purged")
	}
	wantFirst := func(want uint64) {
		t.Helper()
		info, err := m.LogInfo(testContext(t))
		if err != nil || info.First != want {
			t.Fatalf("the log begins at %d, %v; want %d", info.First, err, want)
		}
	}
	wantFirst(1)
	m.claim()
	for range 2 { // again is nothing
		if err := m.log.Purge(testContext(t), last); err != nil {
			t.Fatal(err)
		}
		wantFirst(last)
	}
	m.append("next")
	wantIDs(t, m.ids(1), "kept", "next")
	m.Close()
	m = startWith(t, c)
	m.append("after a restart")
	wantIDs(t, m.ids(1), "kept", "next", "after a restart")
}
