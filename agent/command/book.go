package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/snapdb/snapdb/subjects"
)

// Bounds of the Book.
const (
	// keptCommands and keptOutcomes are how many ended commands, and outcomes of
	// nodes in them, are kept; the oldest are forgotten.
	keptCommands = 1000
	keptOutcomes = 20000
	// openCommands is how many may be under way at a time.
	openCommands = 1000
	// MaxOutput is how many bytes of a node's output are kept.
	MaxOutput = 256 << 10
	// spareLines is how many superseded lines the file may have.
	spareLines = 10000
)

// Errors of the Book.
var (
	// ErrUnknown: there is no record of that id.
	ErrUnknown = errors.New("no such command")
	// ErrTooMany: too many commands are under way.
	ErrTooMany = errors.New("too many commands are under way")
)

// Book is the record of all commands. Its methods may be called by any goroutine.
type Book struct {
	changed func(subjects.CommandRecord) // called after every change, one after another

	mu      sync.Mutex
	journal *Journal
	records map[string]*subjects.CommandRecord
	order   []string // ids, oldest first
}

// line is a line of the book's file: a whole record, or how it stands on nodes now.
type line struct {
	Record *subjects.CommandRecord `json:"record,omitempty"`
	ID     string                  `json:"id,omitempty"`
	Nodes  []subjects.NodeOutcome  `json:"nodes,omitempty"`
}

// OpenBook reads the book at path. changed is told every record that changes, and
// must not call the book.
func OpenBook(path string, changed func(subjects.CommandRecord)) (*Book, error) {
	b := &Book{changed: changed, records: map[string]*subjects.CommandRecord{}}
	var err error
	b.journal, err = OpenJournal(path, func(data []byte) error {
		var l line
		if err := json.Unmarshal(data, &l); err != nil {
			return subjects.PlainJSON(data, err)
		}
		switch r := b.records[l.ID]; {
		case l.Record != nil:
			b.enter(l.Record)
		case r != nil:
			for _, n := range l.Nodes {
				i := slices.IndexFunc(r.Nodes, func(o subjects.NodeOutcome) bool { return o.Node == n.Node })
				if i < 0 {
					return fmt.Errorf("command %s was not for node %s", l.ID, n.Node)
				}
				r.Nodes[i] = n
			}
			r.Ended = ended(r)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return b, nil
}

func (b *Book) enter(r *subjects.CommandRecord) {
	if _, has := b.records[r.ID]; !has {
		b.order = append(b.order, r.ID)
	}
	r.Ended = ended(r)
	b.records[r.ID] = r
}

// ended is when the last node of a record ended; zero while one has not.
func ended(r *subjects.CommandRecord) time.Time {
	var last time.Time
	for _, n := range r.Nodes {
		if !n.State.Ended() {
			return time.Time{}
		}
		if n.Ended.After(last) {
			last = n.Ended
		}
	}
	return last
}

// Close closes the file.
func (b *Book) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.journal.Close()
}

// Add enters a new record. If there is one of its id, that is returned and nothing
// changes.
func (b *Book) Add(r subjects.CommandRecord) (subjects.CommandRecord, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if has := b.records[r.ID]; has != nil {
		return copyOf(has), nil
	}
	if b.open() >= openCommands {
		return r, fmt.Errorf("%w (%d): wait for some to end, or cancel them", ErrTooMany, openCommands)
	}
	r = copyOf(&r)
	if err := b.journal.Append(line{Record: &r}); err != nil {
		return r, err
	}
	b.enter(&r)
	b.changed(copyOf(&r))
	return copyOf(&r), b.prune()
}

func (b *Book) open() (n int) {
	for _, r := range b.records {
		if r.Ended.IsZero() {
			n++
		}
	}
	return n
}

// Update changes how a command stands on some of its nodes: change is called for
// each and says whether it has changed something. Changes that go back are not
// made, see [Follows]. Progress within a state is shown, and forgotten with the
// process.
func (b *Book) Update(id string, change func(*subjects.NodeOutcome) bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.records[id]
	if r == nil {
		return fmt.Errorf("%w: %s", ErrUnknown, id)
	}
	l, next := line{ID: id}, copyOf(r)
	news := false
	for i := range r.Nodes {
		n := r.Nodes[i]
		was := n.State
		if !change(&n) || n.State != was && !Follows(was, n.State) {
			continue
		}
		if len(n.Output) > MaxOutput {
			n.Output, n.Reason = nil, fmt.Sprintf("%s (its output of %d bytes is too long to be kept)", n.Reason, len(n.Output))
		}
		next.Nodes[i], news = n, true
		if n.State != was {
			l.Nodes = append(l.Nodes, n)
		}
	}
	if !news {
		return nil
	}
	if len(l.Nodes) > 0 {
		if err := b.journal.Append(l); err != nil {
			return err
		}
	}
	b.enter(&next)
	b.changed(copyOf(&next))
	return b.prune()
}

// Follows says whether a state may come after another. Nothing leads back; but a
// node that was given up waiting for may still say what it has done.
func Follows(was, is subjects.CommandState) bool {
	switch was {
	case subjects.CommandQueued:
		return true
	case subjects.CommandSent:
		// Back in the queue when it certainly did not arrive.
		return true
	case subjects.CommandAccepted:
		return is.Ended()
	case subjects.CommandTimedOut, subjects.CommandCancelled:
		return is == subjects.CommandDone || is == subjects.CommandFailed || is == subjects.CommandCancelled
	}
	return false
}

// prune forgets the oldest ended commands beyond the bounds and keeps the file
// short.
func (b *Book) prune() error {
	ended, outcomes := 0, 0
	keep := make([]string, 0, len(b.order))
	for _, id := range slices.Backward(b.order) {
		r := b.records[id]
		if !r.Ended.IsZero() {
			ended, outcomes = ended+1, outcomes+len(r.Nodes)
			if ended > keptCommands || outcomes > keptOutcomes && ended > 1 {
				delete(b.records, id)
				continue
			}
		}
		keep = append(keep, id)
	}
	slices.Reverse(keep)
	b.order = keep
	if b.journal.Lines() <= len(b.order)+spareLines {
		return nil
	}
	lines := make([]any, len(b.order))
	for i, id := range b.order {
		lines[i] = line{Record: b.records[id]}
	}
	return b.journal.Rewrite(lines)
}

// Get returns a record.
func (b *Book) Get(id string) (subjects.CommandRecord, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.records[id]
	if r == nil {
		return subjects.CommandRecord{}, fmt.Errorf("%w: %s", ErrUnknown, id)
	}
	return copyOf(r), nil
}

// List returns the newest records first, up to limit, of one node if that is not
// "", without outputs.
func (b *Book) List(node string, limit int) []subjects.CommandRecord {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := []subjects.CommandRecord{}
	for _, id := range slices.Backward(b.order) {
		if len(list) >= limit {
			break
		}
		r := copyOf(b.records[id])
		if node != "" && !slices.ContainsFunc(r.Nodes, func(n subjects.NodeOutcome) bool { return n.Node == node }) {
			continue
		}
		for i := range r.Nodes {
			r.Nodes[i].Output = nil
		}
		list = append(list, r)
	}
	return list
}

// Open returns the records that have not ended, the oldest first.
func (b *Book) Open() []subjects.CommandRecord {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []subjects.CommandRecord
	for _, id := range b.order {
		if r := b.records[id]; r.Ended.IsZero() {
			list = append(list, copyOf(r))
		}
	}
	return list
}

// Digests are those of all blobs that records refer to.
func (b *Book) Digests() map[string]bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := map[string]bool{}
	note := func(data []byte) {
		var names struct {
			Digest string `json:"digest"`
		}
		if json.Unmarshal(data, &names) == nil && names.Digest != "" {
			all[names.Digest] = true
		}
	}
	for _, r := range b.records {
		note(r.Args)
		for _, n := range r.Nodes {
			note(n.Output)
		}
	}
	return all
}

func copyOf(r *subjects.CommandRecord) subjects.CommandRecord {
	c := *r
	c.Nodes = slices.Clone(r.Nodes)
	return c
}
