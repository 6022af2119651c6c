package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/snapdb/snapdb/subjects"
)

// Errors of the log.
var (
	// ErrFenced: another db.epoch is newer than the term of this publish.
	ErrFenced = errors.New("fenced by a newer epoch")
	// ErrLogFull: the log has reached its limit. Nothing was stored.
	ErrLogFull = errors.New("the log is full")
	// ErrUnanswered: no answer came. The message may or may not be stored.
	ErrUnanswered = errors.New("the log did not answer")
	// ErrNoMessage: there is no message at that position.
	ErrNoMessage = errors.New("no message at that position")
	// ErrRefused: JetStream refused the publish for another reason.
	ErrRefused = errors.New("the log refused the message")
)

// Codes of JetStream errors (https://docs.nats.io, errors.json of the server).
const (
	codeWrongLastSequence        = 10071
	codeWrongLastSequenceGeneric = 10164
	codeMaximumBytes             = 10077
	codeInsufficientResources    = 10023
)

// Headers of JetStream.
const (
	headerExpectSubjectSeq  = "Nats-Expected-Last-Subject-Sequence"
	headerExpectSubjectName = "Nats-Expected-Last-Subject-Sequence-Subject"
)

// Entry is one message of the stream.
type Entry struct {
	Position uint64
	Subject  string
	Message  *subjects.Message // set for what can be a message of the log
	Foreign  error             // on db.replicate, but no message of the log: why
}

// Epoch is a claim of the mastership.
type Epoch struct {
	Position uint64 // the term; 0 if nobody ever claimed
	Master   string // who claimed; "" if no master can have written the message
	Body     []byte
	// Of a claim that is signed: by whom, and the claim that it follows.
	Signature subjects.Signature
	Follows   uint64
}

// Log is the log as its only writer sees it.
type Log struct {
	nc    *nats.Conn
	js    jetstream.JetStream
	inbox string // where acks arrive, each at a subject of its own

	mu      sync.Mutex
	last    uint64               // number of the last publish
	waiting map[string]chan *ack // by the subject of its ack
}

// ack is how a publish ended.
type ack struct {
	position uint64
	err      error
}

// OpenLog opens the log over a connection of [Broker.Connect].
func (b *Broker) OpenLog(nc *nats.Conn) (*Log, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("open JetStream: %w", err)
	}
	l := &Log{nc: nc, js: js, inbox: nc.NewInbox(), waiting: map[string]chan *ack{}}
	if _, err := nc.Subscribe(l.inbox+".*", l.onAnswer); err != nil {
		return nil, fmt.Errorf("subscribe to acks: %w", err)
	}
	return l, nil
}

// publish stores a message if the last one on db.epoch is still at epoch.
func (l *Log) publish(ctx context.Context, subject string, header nats.Header, body []byte, epoch uint64) (uint64, error) {
	header[headerExpectSubjectSeq] = []string{strconv.FormatUint(epoch, 10)}
	header[headerExpectSubjectName] = []string{subjects.Epoch}
	reply, answer := l.await()
	defer l.forget(reply)
	err := l.nc.PublishMsg(&nats.Msg{Subject: subject, Reply: reply, Header: header, Data: body})
	if errors.Is(err, nats.ErrMaxPayload) {
		return 0, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrUnanswered, err)
	}
	select {
	case a := <-answer:
		return a.position, a.err
	case <-ctx.Done():
		return 0, fmt.Errorf("%w: %w", ErrUnanswered, context.Cause(ctx))
	}
}

// await makes a place for an ack to arrive.
func (l *Log) await() (reply string, answer chan *ack) {
	answer = make(chan *ack, 1)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last++
	reply = l.inbox + "." + strconv.FormatUint(l.last, 36)
	l.waiting[reply] = answer
	return reply, answer
}

func (l *Log) forget(reply string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.waiting, reply)
}

// onAnswer hands an ack to the publish that waits for it. Other answers of the
// server may get here, sent by somebody who has seen the reply subject; they
// change nothing.
func (l *Log) onAnswer(msg *nats.Msg) {
	a := readAck(msg)
	if a == nil {
		return
	}
	l.mu.Lock()
	answer := l.waiting[msg.Subject]
	delete(l.waiting, msg.Subject)
	l.mu.Unlock()
	if answer != nil {
		answer <- a
	}
}

// pubAck is JetStream's answer to a publish.
type pubAck struct {
	Stream string `json:"stream"`
	Seq    uint64 `json:"seq"`
	Error  *struct {
		Code    int    `json:"err_code"`
		Message string `json:"description"`
	} `json:"error"`
}

// readAck reads JetStream's answer to a publish; nil if it is none. No other answer
// of the server names the stream so, in success and failure.
func readAck(msg *nats.Msg) *ack {
	if len(msg.Data) == 0 && msg.Header.Get(headerStatus) == "503" {
		return &ack{err: fmt.Errorf("%w: nobody listens", ErrUnanswered)}
	}
	var answer pubAck
	err := json.Unmarshal(msg.Data, &answer)
	if err != nil || answer.Stream != subjects.LogStream || answer.Error == nil && answer.Seq == 0 {
		return nil
	}
	e := answer.Error
	if e == nil {
		return &ack{position: answer.Seq}
	}
	cause := ErrRefused
	switch e.Code {
	case codeWrongLastSequence, codeWrongLastSequenceGeneric:
		cause = ErrFenced
	case codeMaximumBytes, codeInsufficientResources:
		cause = ErrLogFull
	}
	return &ack{err: fmt.Errorf("%w: %s (%d)", cause, e.Message, e.Code)}
}

// Claim publishes body on db.epoch in the name of a master and returns its
// sequence: the term in which that is the master. last is the epoch it follows:
// of several who follow the same, one wins and the others get ErrFenced. A zero
// signature is none. A full log is made a little larger: a log that nobody can claim
// cannot even be read.
func (l *Log) Claim(ctx context.Context, last uint64, master string, body []byte, sig subjects.Signature) (uint64, error) {
	header := nats.Header{subjects.HeaderMaster: {master}}
	if sig != (subjects.Signature{}) {
		header[subjects.HeaderPrev] = []string{strconv.FormatUint(last, 10)}
		subjects.EncodeSignature(header, sig)
	}
	term, err := l.publish(ctx, subjects.Epoch, header, body, last)
	if !errors.Is(err, ErrLogFull) {
		return term, err
	}
	if err := l.makeRoom(ctx); err != nil {
		return 0, err
	}
	return l.publish(ctx, subjects.Epoch, header, body, last)
}

// claimRoom is what a full log grows by for a claim.
const claimRoom = 4 << 10

func (l *Log) makeRoom(ctx context.Context) error {
	s, err := l.js.Stream(ctx, subjects.LogStream)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnanswered, err)
	}
	info := s.CachedInfo()
	info.Config.MaxBytes = max(info.Config.MaxBytes, int64(info.State.Bytes)) + claimRoom
	if _, err := l.js.UpdateStream(ctx, info.Config); err != nil {
		return fmt.Errorf("make room for a claim: %w", err)
	}
	return nil
}

// LastEpoch is the newest message on db.epoch.
func (l *Log) LastEpoch(ctx context.Context) (Epoch, error) {
	s, err := l.js.Stream(ctx, subjects.LogStream)
	if err != nil {
		return Epoch{}, fmt.Errorf("%w: %w", ErrUnanswered, err)
	}
	m, err := s.GetLastMsgForSubject(ctx, subjects.Epoch)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return Epoch{}, nil
	}
	if err != nil {
		return Epoch{}, fmt.Errorf("%w: read last epoch: %w", ErrUnanswered, err)
	}
	e := Epoch{Position: m.Sequence, Master: m.Header.Get(subjects.HeaderMaster), Body: m.Data}
	if e.Signature, err = subjects.DecodeSignature(m.Header); err == nil && e.Signature != (subjects.Signature{}) {
		e.Follows, err = strconv.ParseUint(m.Header.Get(subjects.HeaderPrev), 10, 64)
	}
	if err != nil {
		e.Signature = subjects.Signature{} // of nobody
	}
	return e, nil
}

// Append stores a message of the log, fenced by h.Term, and returns its position
// when it is on stable storage. The errors say what is certain: ErrFenced,
// ErrLogFull and ErrRefused that it is not stored, ErrUnanswered nothing.
func (l *Log) Append(ctx context.Context, h subjects.Header, body []byte) (uint64, error) {
	return l.publish(ctx, subjects.Replicate, subjects.EncodeHeader(h), body, h.Term)
}

// Get reads one message.
func (l *Log) Get(ctx context.Context, position uint64) (Entry, error) {
	s, err := l.js.Stream(ctx, subjects.LogStream)
	if err != nil {
		return Entry{}, fmt.Errorf("%w: %w", ErrUnanswered, err)
	}
	m, err := s.GetMsg(ctx, position)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return Entry{}, fmt.Errorf("%w: %d", ErrNoMessage, position)
	}
	if err != nil {
		return Entry{}, fmt.Errorf("%w: read position %d: %w", ErrUnanswered, position, err)
	}
	return newEntry(m.Sequence, m.Subject, m.Header, m.Data), nil
}

func newEntry(position uint64, subject string, header nats.Header, data []byte) Entry {
	e := Entry{Position: position, Subject: subject}
	if subject != subjects.Replicate {
		return e
	}
	h, err := subjects.DecodeHeader(header)
	if err != nil {
		e.Foreign = err
		return e
	}
	e.Message = &subjects.Message{Position: position, Header: h, Data: data}
	return e
}

// Read hands the messages on db.replicate from one position to another, or to the
// end of the log, to fn, in order.
func (l *Log) Read(ctx context.Context, from, to uint64, fn func(Entry) error) error {
	if from > to {
		return nil
	}
	cons, err := l.js.CreateConsumer(ctx, subjects.LogStream, readerConfig("", from, time.Minute))
	if err != nil {
		return fmt.Errorf("make reader: %w", err)
	}
	info := cons.CachedInfo()
	defer l.discard(info.Name)
	if info.NumPending == 0 {
		return nil
	}
	// What the server says is still to come counts messages that it cannot read,
	// and passes over.
	last, err := l.lastMessage(ctx)
	if err != nil {
		return err
	}
	err = ReadLog(ctx, l.nc, Next(info.Name), func(batch []Entry) error {
		for _, e := range batch {
			if e.Position > to {
				return errEnough
			}
			if err := fn(e); err != nil {
				return err
			}
			if e.Position == to || e.Position >= last {
				return errEnough
			}
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// lastMessage is the position of the newest message on db.replicate, of which
// there must be one.
func (l *Log) lastMessage(ctx context.Context) (uint64, error) {
	s, err := l.js.Stream(ctx, subjects.LogStream)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrUnanswered, err)
	}
	m, err := s.GetLastMsgForSubject(ctx, subjects.Replicate)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return 0, fmt.Errorf("the last message of the log cannot be read: %w", ErrNoMessage)
	}
	if err != nil {
		return 0, fmt.Errorf("%w: read the last message of the log: %w", ErrUnanswered, err)
	}
	return m.Sequence, nil
}

// errEnough ends a Read.
var errEnough = errors.New("enough")

// discard removes the consumer of a Read that is over, whatever ended it. If that
// fails, the server removes it after a while.
func (l *Log) discard(consumer string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = l.js.DeleteConsumer(ctx, subjects.LogStream, consumer)
}

// Resolve says whether a message with that log id is stored at from or later. It
// is certain only if a claim followed the publish.
func (l *Log) Resolve(ctx context.Context, id string, from uint64) (position uint64, found bool, err error) {
	last, err := l.LastEpoch(ctx)
	if err != nil {
		return 0, false, err
	}
	err = l.Read(ctx, from, last.Position, func(e Entry) error {
		if e.Message != nil && e.Message.Header.ID == id {
			position, found = e.Position, true
			return errEnough
		}
		return nil
	})
	return position, found, err
}

// purgeStep is how many messages are removed at a time: publishes wait meanwhile, a few
// milliseconds for so many.
const purgeStep = 500

// Purge removes everything before a position, which must not be after the claim of the
// running term: without that the log would refuse every publish.
func (l *Log) Purge(ctx context.Context, before uint64) error {
	last, err := l.LastEpoch(ctx)
	if err != nil {
		return err
	}
	if before > last.Position {
		return fmt.Errorf("purge up to %d: the claim at %d would be lost", before, last.Position)
	}
	s, err := l.js.Stream(ctx, subjects.LogStream)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnanswered, err)
	}
	for at := s.CachedInfo().State.FirstSeq; at < before; {
		at = min(at+purgeStep, before)
		if err := s.Purge(ctx, jetstream.WithPurgeSequence(at)); err != nil {
			return fmt.Errorf("purge up to %d: %w", at, err)
		}
	}
	return nil
}

// readerLife is how long a consumer outlives its reader.
const readerLife = 5 * time.Minute

// AddReader makes the consumer with which a slave reads from position start on.
func (l *Log) AddReader(ctx context.Context, name string, start uint64) error {
	_, err := l.js.CreateConsumer(ctx, subjects.LogStream, readerConfig(name, start, readerLife))
	if err != nil {
		return fmt.Errorf("make consumer %s: %w", name, err)
	}
	return nil
}

// readerConfig is a consumer that keeps no state on disk: readers know by
// themselves what they have, and a hundred consumers that write their state ten
// times a second slow every publish. It delivers no epochs: where a consumer
// delivers to is up to whoever asks it.
func readerConfig(name string, start uint64, life time.Duration) jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Name: name, AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, Replicas: 1, InactiveThreshold: life,
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: max(1, start), FilterSubject: subjects.Replicate,
	}
}

// RemoveReader removes a consumer; one that is gone already is no error.
func (l *Log) RemoveReader(ctx context.Context, name string) error {
	err := l.js.DeleteConsumer(ctx, subjects.LogStream, name)
	if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return fmt.Errorf("remove consumer %s: %w", name, err)
	}
	return nil
}
