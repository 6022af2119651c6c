package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/snapdb/snapdb/broker"
	"github.com/snapdb/snapdb/broker/brokertest"
	"github.com/snapdb/snapdb/subjects"
)

// shortPatience is the patience of journals under test.
const shortPatience = 500 * time.Millisecond

func silent() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func limited(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// journalTest is a journal on a real broker, over a wire on which publishes get lost.
type journalTest struct {
	*journal
	t       *testing.T
	line    brokertest.Wire
	reasons []error // for which it was deposed
}

func openJournal(t *testing.T) *journalTest {
	t.Helper()
	b, err := broker.Start(limited(t), broker.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0", Logger: silent()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	k := &journalTest{t: t}
	k.journal = &journal{log: silent(), broker: b, master: "me", claim: []byte("mine"), patience: shortPatience,
		dial: []nats.Option{k.line.Option(b), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})}, deposed: func(err error) { k.reasons = append(k.reasons, err) }}
	t.Cleanup(k.journal.close)
	if err := k.open(limited(t)); err != nil {
		t.Fatal(err)
	}
	return k
}

// write appends a message whose body is its name.
func (k *journalTest) write(name string) (uint64, error) {
	return k.append(limited(k.t), subjects.Header{DB: "d"}, []byte(name))
}

func (k *journalTest) mustWrite(name string) uint64 {
	k.t.Helper()
	position, err := k.write(name)
	if err != nil {
		k.t.Fatalf("%s: %v", name, err)
	}
	return position
}

// names are those of the stored messages, by position.
func (k *journalTest) names() map[uint64]string {
	k.t.Helper()
	names := map[uint64]string{}
	err := k.reader().Read(limited(k.t), 1, 1<<60, func(e broker.Entry) error {
		if e.Message != nil {
			names[e.Position] = string(e.Message.Data)
		}
		return nil
	})
	if err != nil {
		k.t.Fatal(err)
	}
	return names
}

func (k *journalTest) wantNames(want map[uint64]string) {
	k.t.Helper()
	if has := k.names(); fmt.Sprint(has) != fmt.Sprint(want) {
		k.t.Fatalf("the log holds %v, want %v", has, want)
	}
}

// rival is another master's way to the same log.
func rival(t *testing.T, b *broker.Broker) *broker.Log {
	t.Helper()
	nc, err := b.Connect("rival")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	log, err := b.OpenLog(nc)
	if err != nil {
		t.Fatal(err)
	}
	return log
}

// claimAs claims the log in somebody's name.
func claimAs(t *testing.T, log *broker.Log, master string) {
	t.Helper()
	last, err := log.LastEpoch(limited(t))
	if err == nil {
		_, err = log.Claim(limited(t), last.Position, master, []byte("theirs"), subjects.Signature{})
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestJournalYieldsToAnotherMaster(t *testing.T) {
	k := openJournal(t)
	first := k.mustWrite("first")
	claimAs(t, rival(t, k.broker), "another")
	for range 2 {
		if _, err := k.write("late"); !errors.Is(err, errFenced) || !errors.Is(err, errNotStored) {
			t.Fatalf("error %v, want errFenced and errNotStored", err)
		}
	}
	if len(k.reasons) == 0 || !errors.Is(k.reasons[0], errFenced) {
		t.Fatalf("deposed with %v", k.reasons)
	}
	k.wantNames(map[uint64]string{first: "first"})
}

func TestJournalYieldsAlsoWhenItsPublishWasLost(t *testing.T) {
	t.Parallel()
	for fault, stored := range map[brokertest.Fault]bool{brokertest.LosePublish: false, brokertest.LoseAck: true} {
		k := openJournal(t)
		first := k.mustWrite("first")
		k.line.Set(fault)
		done := make(chan error, 1)
		go func() {
			_, err := k.write("lost")
			done <- err
		}()
		await(t, "the publish is lost", k.line.Happened)
		claimAs(t, rival(t, k.broker), "another")
		want := map[uint64]string{first: "first"}
		err := <-done
		if stored { // before the other's claim: it is in the log, and says so
			want[first+1] = "lost"
		}
		if stored != (err == nil) || err != nil && !errors.Is(err, errNotStored) {
			t.Fatalf("stored %v: %v", stored, err)
		}
		if _, err := k.write("late"); !errors.Is(err, errFenced) || len(k.reasons) == 0 {
			t.Fatalf("error %v, want errFenced; deposed %v", err, k.reasons)
		}
		k.wantNames(want)
	}
}

// await waits until ok.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for late := time.After(30 * time.Second); !ok(); {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// A claim of its own whose answer was lost, and what is no claim at all, make the
// log refuse a publish as another master's claim does.
func TestJournalGoesOnAfterWhatIsNoOthersClaim(t *testing.T) {
	k := openJournal(t)
	want := map[uint64]string{k.mustWrite("first"): "first"}

	claimAs(t, rival(t, k.broker), "me")
	want[k.mustWrite("second")] = "second"

	nc, err := nats.Connect(k.broker.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	before, err := k.reader().LastEpoch(limited(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.PublishRequest("$JS.API.STREAM.NAMES", subjects.Epoch, nil); err != nil {
		t.Fatal(err)
	}
	await(t, "the server's answer is on the epoch", func() bool {
		last, err := k.reader().LastEpoch(limited(t))
		return err == nil && last.Position > before.Position
	})
	want[k.mustWrite("third")] = "third"

	k.wantNames(want)
	if len(k.reasons) > 0 {
		t.Fatalf("deposed with %v", k.reasons)
	}
}

func TestJournalClearsUpAPublishWithoutAnswer(t *testing.T) {
	t.Parallel()
	for fault, stored := range map[brokertest.Fault]bool{brokertest.LosePublish: false, brokertest.LoseAck: true} {
		k := openJournal(t)
		term := k.current()
		want := map[uint64]string{k.mustWrite("first"): "first"}
		k.line.Set(fault)
		switch position, err := k.write("lost"); {
		case stored && err == nil:
			want[position] = "lost"
		case stored || !errors.Is(err, errNotStored):
			t.Fatalf("stored %v: %v", stored, err)
		}
		if k.current() == term {
			t.Error("still in the old term")
		}
		want[k.mustWrite("next")] = "next"
		k.wantNames(want)
	}
}

// Many databases write at the same time, and publishes and answers get lost: every
// answer the journal gives is what the log says.
func TestJournalNeverMistakesWhatTheLogHolds(t *testing.T) {
	t.Parallel()
	k := openJournal(t)
	var mu sync.Mutex
	want, unknown := map[uint64]string{}, map[string]bool{}
	stop := make(chan struct{})
	var faults, writers sync.WaitGroup
	faults.Go(func() {
		for range 5 {
			k.line.Set([]brokertest.Fault{brokertest.LosePublish, brokertest.LoseAck}[rand.IntN(2)])
			for !k.line.Happened() {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
				}
			}
		}
	})
	failed := 0
	for w := range 4 {
		writers.Go(func() {
			for i := range 50 {
				name := fmt.Sprintf("%d-%d", w, i)
				position, err := k.write(name)
				mu.Lock()
				switch {
				case err == nil:
					want[position] = name
				case errors.Is(err, errNotStored):
					failed++
				case errors.As(err, new(*unknownError)): // its claim was lost too: it may be either
					unknown[name] = true
				default:
					t.Errorf("%s: %v", name, err)
				}
				mu.Unlock()
			}
		})
	}
	writers.Wait()
	close(stop)
	faults.Wait()
	k.line.Set(brokertest.None)
	for position, name := range k.names() {
		if unknown[name] {
			want[position] = name
		}
	}
	k.wantNames(want)
	if failed == 0 || len(want) < 100 {
		t.Errorf("%d publishes were lost, %d are in the log, of %d nobody knows", failed, len(want), len(unknown))
	}
}

// Who shortens the log claims it anew, and must not keep everybody from writing.
func TestClaimDoesNotWaitForASilentLog(t *testing.T) {
	t.Parallel()
	k := openJournal(t)
	want := map[uint64]string{k.mustWrite("first"): "first"}
	k.line.Set(brokertest.LoseAll)
	if err := k.claimAnew(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("claim of a silent log: %v", err)
	}
	k.line.Set(brokertest.None)
	want[k.mustWrite("next")] = "next"
	k.wantNames(want)
}

func TestJournalDoesNotKnowWhatASilentLogHolds(t *testing.T) {
	t.Parallel()
	k := openJournal(t)
	want := map[uint64]string{k.mustWrite("first"): "first"}
	k.line.Set(brokertest.LoseAll)
	_, err := k.write("lost")
	var unknown *unknownError
	if !errors.As(err, &unknown) || unknown.id == "" {
		t.Fatalf("error %v, want an unknownError with an id", err)
	}

	// Two databases wait for it; it is restarted once.
	term := k.current()
	for range 2 {
		if err := k.revive(limited(t)); err != nil {
			t.Fatal(err)
		}
		if k.current() != term+2 {
			// "lost" is not stored: the new term follows "first" and the old term.
			t.Fatalf("term %d after %d", k.current(), term)
		}
	}
	want[k.mustWrite("next")] = "next"
	k.wantNames(want)
}
