package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/snapdb/snapdb/broker/pki"
	"github.com/snapdb/snapdb/subjects"
)

// Errors that a caller may react to. Errors of the server are *[subjects.Error].
var (
	// ErrUnreachable: the request was not delivered, nothing was done. If somebody is
	// there who is not known to be the master, it also is one of the errors of package
	// pki.
	ErrUnreachable = errors.New("unreachable")
	// ErrLost: the connection broke before the answer came. The request may
	// or may not have been executed.
	ErrLost = errors.New("connection lost before the answer came; the request may or may not have been executed")
	// ErrClosed: the client was closed.
	ErrClosed = errors.New("client is closed")
	// ErrDenied: the broker does not let us in, or not publish there.
	ErrDenied = errors.New("access denied")
	// ErrTimeout: no answer came in the time the context allowed. The request
	// may still be executed. It is also context.DeadlineExceeded.
	ErrTimeout = errors.New("no answer in time")
	// ErrBusy: too many requests of this client are waiting for answers.
	ErrBusy = errors.New("too many requests are waiting for answers")
)

// UnreachableError says which door has nobody behind it. It is [ErrUnreachable].
type UnreachableError struct {
	Door string // subject
}

// Error says in words who is missing.
func (e *UnreachableError) Error() string {
	if id, _, ok := subjects.SplitNode(e.Door); ok {
		return fmt.Sprintf("node %s is not connected: nobody answers at %s", id, e.Door)
	}
	return fmt.Sprintf("no master is running there: nobody answers at %s", e.Door)
}

// Is makes errors.Is(err, ErrUnreachable) true.
func (e *UnreachableError) Is(target error) bool { return target == ErrUnreachable }

// TooBigError refuses a request larger than [subjects.MaxRequest]; it was not
// sent.
type TooBigError struct {
	Size int // bytes
}

// Error says what the limit is and what to do.
func (e *TooBigError) Error() string {
	return fmt.Sprintf("the request has %.1f MB, more than the %d MB that fit one: split it into several statements, inside BEGIN and COMMIT if they belong together",
		float64(e.Size)/(1<<20), subjects.MaxRequest>>20)
}

func connectError(url string, err error) error {
	switch {
	case errors.Is(err, nats.ErrAuthorization):
		return fmt.Errorf("connect to %s: %w: %w", redact(url), ErrDenied, err)
	case errors.Is(err, nats.ErrSecureConnWanted):
		err = fmt.Errorf("%w (%w)", pki.ErrPlain, err)
	}
	return fmt.Errorf("connect to %s: %w: %w", redact(url), ErrUnreachable, pki.Explain(err))
}

// redact keeps a password in a URL out of error messages.
func redact(url string) string {
	scheme, rest, ok := strings.Cut(url, "://")
	if !ok {
		return url
	}
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		return scheme + "://***@" + rest[i+1:]
	}
	return url
}

// publishError is why a request could not even be handed to the broker.
func publishError(nc *nats.Conn, err error) error {
	switch {
	case errors.Is(err, nats.ErrConnectionClosed):
		return ErrClosed
	case errors.Is(err, nats.ErrReconnectBufExceeded):
		return fmt.Errorf("send request: %w: not connected to the broker", ErrUnreachable)
	case errors.Is(err, nats.ErrMaxPayload):
		return fmt.Errorf("send request: the broker takes at most %d bytes: %w", nc.MaxPayload(), err)
	}
	var broken *net.OpError
	if errors.As(err, &broken) {
		return fmt.Errorf("send request: %w: %w", ErrLost, err) // a part of it, or all, may have left
	}
	return fmt.Errorf("send request: %w", err)
}

func waitError(ctx context.Context, subject string) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("%w at %s: %w", ErrTimeout, subject, ctx.Err())
	}
	return fmt.Errorf("wait for answer of %s: %w", subject, ctx.Err())
}
