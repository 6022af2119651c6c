package dashboard

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/snapdb/snapdb/subjects"
)

// Codes of errors that only HTTP has.
const (
	codeMethod      subjects.Code = "method_not_allowed"
	codeContentType subjects.Code = "unsupported_media_type"
	// codeUnauthenticated: nobody knows who asks.
	codeUnauthenticated subjects.Code = "unauthenticated"
)

const jsonType = "application/json"

// statusOf is the HTTP status of an error. Those after which a write may have
// happened are 504: a client must not do again what it got a 5xx for, unless the
// request had an id.
func statusOf(code subjects.Code) int {
	switch code {
	case subjects.CodeSyntax, subjects.CodeBadRequest, subjects.CodeNoDatabase:
		return http.StatusBadRequest
	case codeUnauthenticated:
		return http.StatusUnauthorized
	case subjects.CodeDenied, subjects.CodeForbidden, subjects.CodeReadOnly:
		return http.StatusForbidden
	case subjects.CodeNoSuchDatabase, subjects.CodeNotFound:
		return http.StatusNotFound
	case codeMethod:
		return http.StatusMethodNotAllowed
	case subjects.CodeConstraint, subjects.CodeExists, subjects.CodeTransaction, subjects.CodeCancelled:
		return http.StatusConflict
	case subjects.CodeTooBig:
		return http.StatusRequestEntityTooLarge
	case codeContentType:
		return http.StatusUnsupportedMediaType
	case subjects.CodeBusy, subjects.CodeUnavailable, subjects.CodeStale:
		return http.StatusServiceUnavailable
	case subjects.CodeTimeout, subjects.CodeNotAcknowledged, subjects.CodeOutcomeUnknown:
		return http.StatusGatewayTimeout
	}
	return http.StatusInternalServerError
}

// handler answers a request, or returns why not.
type handler func(w http.ResponseWriter, r *http.Request) error

// ServeHTTP makes an error of the handler the answer.
func (h handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := h(w, r); err != nil && !errors.Is(err, errAnswered) {
		refuse(w, wireError(err))
	}
}

// wireError is an error as clients see it.
func wireError(err error) *subjects.Error {
	var we *subjects.Error
	var long *http.MaxBytesError
	switch {
	case errors.As(err, &we):
		return we
	case errors.As(err, &long):
		return subjects.Errorf(subjects.CodeTooBig, "the body has more than the %d bytes that are taken here", long.Limit)
	case errors.Is(err, context.DeadlineExceeded):
		return subjects.Errorf(subjects.CodeTimeout, "%v", err)
	}
	return subjects.Errorf(subjects.CodeUnavailable, "%v", err)
}

// refuse answers with an error.
func refuse(w http.ResponseWriter, e *subjects.Error) {
	reply(w, statusOf(e.Code), subjects.AppendResponse(nil, nil, &subjects.Response{Error: e}))
}

// reply answers with JSON that is there already.
func reply(w http.ResponseWriter, status int, data []byte) {
	w.Header().Set("Content-Type", jsonType)
	w.WriteHeader(status)
	_, _ = w.Write(data) // the client is gone if this fails
}

// replyJSON answers with a value.
func replyJSON(w http.ResponseWriter, status int, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return subjects.Errorf(subjects.CodeInternal, "encode the answer: %v", err)
	}
	reply(w, status, data)
	return nil
}

// readRefusal is the error that a door answered with.
func readRefusal(answer []byte) *subjects.Error {
	var resp subjects.Response
	if err := subjects.DecodeResponse(answer, &resp); err != nil || resp.Error == nil {
		return subjects.Errorf(subjects.CodeInternal, "a door refused, and said %q", clip(string(answer)))
	}
	return resp.Error
}

// ask sends a request to a door of the control plane and reads the answer.
func (s *Server) ask(ctx context.Context, subject string, request, answer any) error {
	data, err := json.Marshal(request)
	if err != nil {
		return subjects.Errorf(subjects.CodeInternal, "encode a request to %s: %v", subject, err)
	}
	got, err := s.askRaw(ctx, subject, data)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(got, answer); err != nil {
		return subjects.Errorf(subjects.CodeInternal, "read the answer of %s: %v", subject, err)
	}
	return nil
}

// askRaw is ask for JSON that stays JSON. The error is the door's refusal too.
func (s *Server) askRaw(ctx context.Context, subject string, request []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, controlPatience)
	defer cancel()
	return s.askDoor(ctx, subject, nil, request)
}

// askDoor sends a request to a door, whose refusal is the error.
func (s *Server) askDoor(ctx context.Context, subject string, header map[string][]string, request []byte) ([]byte, error) {
	got, refused, err := s.request(ctx, subject, header, request)
	if err != nil {
		return nil, err
	}
	if refused {
		return nil, readRefusal(got)
	}
	return got, nil
}
