package client

import (
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
)

// maxWaiting bounds the requests that wait for answers at one time.
const maxWaiting = 1 << 16

// inbox hands answers to the requests they belong to. All requests of a client
// share one wildcard subscription; each answer subject ends in a small number,
// slot and turn, so that a late answer to a request that gave up cannot be taken
// for that of the next one in the same slot.
type inbox struct {
	prefix string // with the final dot

	mu     sync.Mutex
	slots  []*waiter
	free   []*waiter
	closed bool
}

// waiter is one request waiting. Its channel has room for the one answer, so
// that handing it over never blocks the connection.
type waiter struct {
	door   string // subject the request went to
	slot   uint64
	turn   uint64
	active bool
	answer chan answer
}

type answer struct {
	data    []byte
	nobody  bool // the broker said that no one listens at the door
	refused bool // the door's headers say that it is an error
	err     error
}

func newInbox(prefix string) *inbox { return &inbox{prefix: prefix + "."} }

func (b *inbox) listen(nc *nats.Conn) error {
	sub, err := nc.Subscribe(b.prefix+"*", b.deliver)
	if err != nil {
		return err
	}
	// What waits here is bounded by maxWaiting; dropping an answer would turn a
	// committed write into a timeout.
	return sub.SetPendingLimits(-1, -1)
}

// open takes a free slot for a request to door and returns the subject at which
// to answer.
func (b *inbox) open(door string) (reply string, w *waiter, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return "", nil, ErrClosed
	}
	if n := len(b.free); n > 0 {
		w, b.free = b.free[n-1], b.free[:n-1]
	} else {
		if len(b.slots) >= maxWaiting {
			return "", nil, ErrBusy
		}
		w = &waiter{slot: uint64(len(b.slots)), answer: make(chan answer, 1)}
		b.slots = append(b.slots, w)
	}
	w.turn++
	w.door, w.active = door, true
	var text [96]byte
	buf := append(text[:0], b.prefix...)
	buf = strconv.AppendUint(buf, w.slot, 36)
	buf = append(buf, '-')
	buf = strconv.AppendUint(buf, w.turn, 36)
	return string(buf), w, nil
}

// release gives a slot back, whether or not an answer came.
func (b *inbox) release(w *waiter) {
	b.mu.Lock()
	defer b.mu.Unlock()
	w.active = false
	select {
	case <-w.answer:
	default:
	}
	b.free = append(b.free, w)
}

func (b *inbox) deliver(m *nats.Msg) {
	slot, turn, ok := parseToken(strings.TrimPrefix(m.Subject, b.prefix))
	if !ok {
		return
	}
	a := answer{data: m.Data, nobody: len(m.Data) == 0 && m.Header.Get("Status") == "503", refused: m.Header.Get(micro.ErrorCodeHeader) != ""}
	b.mu.Lock()
	defer b.mu.Unlock()
	if slot < uint64(len(b.slots)) {
		if w := b.slots[slot]; w.active && w.turn == turn {
			w.give(a)
		}
	}
}

// close takes no more requests and fails those that wait.
func (b *inbox) close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.failAll(ErrClosed)
}

// failAll answers every waiting request with an error.
func (b *inbox) failAll(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, w := range b.slots {
		if w.active {
			w.give(answer{err: err})
		}
	}
}

// deny answers the requests that the broker did not let through. What it says of
// them is a text with the subject in quotes; there is no other way to know.
func (b *inbox) deny(err error) {
	text := err.Error()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, w := range b.slots {
		if w.active && strings.Contains(text, strconv.Quote(w.door)) {
			w.give(answer{err: fmt.Errorf("%w: %w", ErrDenied, err)})
		}
	}
}

// give hands over the first answer; the inbox is locked.
func (w *waiter) give(a answer) {
	w.active = false
	w.answer <- a
}

func parseToken(s string) (slot, turn uint64, ok bool) {
	left, right, ok := strings.Cut(s, "-")
	if !ok {
		return 0, 0, false
	}
	slot, err := strconv.ParseUint(left, 36, 64)
	if err != nil {
		return 0, 0, false
	}
	turn, err = strconv.ParseUint(right, 36, 64)
	return slot, turn, err == nil
}
