package exec

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/snapdb/snapdb/subjects"
)

// While a read connection is being opened, others are lent and come back; one that
// is opened too late for its database is closed again.
func TestOpeningAReaderHoldsUpNobody(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	if err := createFile(path, 1, Position{1, subjects.FirstChain(1)}); err != nil {
		t.Fatal(err)
	}
	slow, begun := make(chan struct{}), make(chan struct{})
	p := pool{most: DefaultReadConnections, open: func() (*reader, error) { return openReader(path, nil) }, warn: func(err error) { t.Error(err) }}
	first, err := p.get(t.Context(), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	p.open = func() (*reader, error) {
		close(begun)
		<-slow
		return openReader(path, nil)
	}
	late := make(chan error, 1)
	go func() {
		_, err := p.get(t.Context(), time.Time{})
		late <- err
	}()
	<-begun
	lent := make(chan error, 1)
	go func() {
		p.put(first, Position{})
		again, err := p.get(t.Context(), time.Time{})
		if err == nil {
			p.put(again, Position{})
		}
		lent <- err
	}()
	select {
	case err := <-lent:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("a connection that is being opened holds up the others")
	}
	closed := make(chan error, 1)
	go func() { closed <- p.close(t.Context()) }()
	for done := false; !done; {
		p.mu.Lock()
		done = p.closed
		p.mu.Unlock()
	}
	close(slow)
	if err := <-late; !errors.Is(err, ErrClosed) {
		t.Errorf("%v, want %v", err, ErrClosed)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}
