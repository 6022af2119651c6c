package dashboard

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"time"

	"github.com/snapdb/snapdb/subjects"
)

// bodyPatience is how long a client may take to send a body that is read whole.
const bodyPatience = 30 * time.Second

// readBody reads a JSON body of at most limit bytes.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != jsonType {
		return nil, subjects.Errorf(codeContentType, "the body must be JSON, with Content-Type: %s, not %q", jsonType, clip(r.Header.Get("Content-Type")))
	}
	conn := http.NewResponseController(w)
	if err := conn.SetReadDeadline(time.Now().Add(bodyPatience)); err != nil {
		return nil, subjects.Errorf(subjects.CodeInternal, "limit the time for the body: %v", err)
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err == nil {
		err = conn.SetReadDeadline(time.Time{})
	}
	if err != nil {
		return nil, bodyError(err)
	}
	return data, nil
}

// bodyError is why a body could not be read.
func bodyError(err error) error {
	var long *http.MaxBytesError
	if errors.As(err, &long) {
		return subjects.Errorf(subjects.CodeTooBig, "the body has more than the %d bytes that are taken here", long.Limit)
	}
	return subjects.Errorf(subjects.CodeBadRequest, "read the body: %v", err)
}

// readJSON reads a JSON body into v: no unknown fields, nothing behind it.
func readJSON(w http.ResponseWriter, r *http.Request, v any) error {
	data, err := readBody(w, r, subjects.MaxRequest)
	if err != nil {
		return err
	}
	if err := subjects.DecodeStrict(data, v); err != nil {
		return subjects.Errorf(subjects.CodeBadRequest, "%v", err)
	}
	return nil
}

// parameters are the query parameters of a request, read strictly.
type parameters struct {
	values map[string]string
	err    error
}

// readParameters reads the query parameters of a request, which must be among the
// known ones and be given once.
func readParameters(r *http.Request, known ...string) *parameters {
	p := &parameters{values: map[string]string{}}
	for name, values := range r.URL.Query() {
		ok := false
		for _, k := range known {
			ok = ok || k == name
		}
		switch {
		case !ok && len(known) == 0:
			p.fail("no parameter %q: there are none", clip(name))
		case !ok:
			p.fail("no parameter %q: there are %v", clip(name), known)
		case len(values) != 1:
			p.fail("parameter %s is given %d times", name, len(values))
		default:
			p.values[name] = values[0]
		}
	}
	return p
}

func (p *parameters) fail(format string, args ...any) {
	if p.err == nil {
		p.err = subjects.Errorf(subjects.CodeBadRequest, format, args...)
	}
}

// text is a parameter as it is, "" if it is not there.
func (p *parameters) text(name string) string { return p.values[name] }

// number is a parameter that is a number between least and most; otherwise, if it is
// not there.
func (p *parameters) number(name string, least, most, otherwise uint64) uint64 {
	text, ok := p.values[name]
	if !ok {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n < least || n > most {
		p.fail("%s must be a number from %d to %d, not %q", name, least, most, clip(text))
	}
	return n
}

// node is a parameter that names a node, or the master.
func (p *parameters) node(name string) string {
	id := p.values[name]
	if id != "" && id != subjects.MasterID {
		if err := subjects.CheckNodeID(id); err != nil {
			p.fail("%s: %v", name, err)
		}
	}
	return id
}
