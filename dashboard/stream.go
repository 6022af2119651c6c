package dashboard

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/snapdb/snapdb/subjects"
)

// linesType is asked for by who wants rows as lines.
const linesType = "application/x-ndjson"

// streamPatience is how long a client may take for one page of a long result.
const streamPatience = 30 * time.Second

// page is an answer of a door, its rows left as they are.
type page struct {
	Results  []pageResult    `json:"results"`
	Position json.RawMessage `json:"position"`
	Session  json.RawMessage `json:"session"`
}

type pageResult struct {
	Columns      json.RawMessage   `json:"columns"`
	Rows         []json.RawMessage `json:"rows"`
	Types        json.RawMessage   `json:"types"`
	Changes      json.RawMessage   `json:"changes"`
	LastInsertID json.RawMessage   `json:"last_insert_id"`
	MS           json.RawMessage   `json:"ms"`
	Truncated    bool              `json:"truncated"`
	More         string            `json:"more"`
}

// streamRows writes the answer of a door, and what follows its last result, which
// next gets: as one JSON object that looks like the answer would if it fitted, or
// as lines, if the client asks for them. There is one page in memory at a time.
//
// What fails after the first page cannot change the status any more: it is the
// "error" at the end, and there is no position then.
func streamRows(w http.ResponseWriter, r *http.Request, answer []byte, most uint64, next func(more string) ([]byte, error)) error {
	var first page
	if err := json.Unmarshal(answer, &first); err != nil {
		return subjects.Errorf(subjects.CodeInternal, "read the answer of a door: %v", err)
	}
	out := &rowWriter{w: w, conn: http.NewResponseController(w), lines: accepts(r, linesType), left: most, bounded: most > 0}
	kind := jsonType
	if out.lines {
		kind = linesType
	}
	w.Header().Set("Content-Type", kind)
	out.begin()
	for i := range first.Results {
		res := &first.Results[i]
		out.open(res, i > 0)
		last, failed := out.pages(res, next)
		out.close(res, last)
		if failed != nil {
			out.fail(failed)
			return errAnswered
		}
	}
	out.end(&first)
	return out.err
}

// accepts says whether a client asks for a media type by name.
func accepts(r *http.Request, kind string) bool {
	for _, a := range strings.Split(r.Header.Get("Accept"), ",") {
		if name, _, _ := strings.Cut(a, ";"); strings.EqualFold(strings.TrimSpace(name), kind) {
			return true
		}
	}
	return false
}

// rowWriter writes results in one of the two forms. After an error it writes no more.
type rowWriter struct {
	w       http.ResponseWriter
	conn    *http.ResponseController
	lines   bool
	bounded bool
	left    uint64 // rows that may still be written, if bounded
	rows    int    // of the current result
	buf     bytes.Buffer
	err     error
}

// pages writes the rows of a result, as many pages as there are. last is the page
// that ended it; what is still cut then, is cut for good.
func (o *rowWriter) pages(res *pageResult, next func(more string) ([]byte, error)) (last *pageResult, failed error) {
	for {
		o.add(res)
		if res.More == "" || o.err != nil {
			return res, nil
		}
		if o.bounded && o.left == 0 {
			res.Truncated = true
			return res, nil
		}
		answer, err := next(res.More)
		var p page
		if err == nil {
			err = json.Unmarshal(answer, &p)
		}
		if err == nil && len(p.Results) != 1 {
			err = subjects.Errorf(subjects.CodeInternal, "go on reading: %d results instead of one", len(p.Results))
		}
		if err != nil {
			res.Truncated = true
			return res, err
		}
		res = &p.Results[0]
	}
}

// add writes the rows of a page.
func (o *rowWriter) add(res *pageResult) {
	rows := res.Rows
	if o.bounded && uint64(len(rows)) > o.left {
		rows, res.Truncated = rows[:o.left], true
	}
	o.left -= min(o.left, uint64(len(rows)))
	for _, row := range rows {
		if !o.lines && o.rows > 0 {
			o.buf.WriteByte(',')
		}
		o.rows++
		o.buf.Write(row)
		if o.lines {
			o.buf.WriteByte('\n')
		}
	}
	o.flush()
}

// flush sends what was written; a client that does not take it in time is given up.
func (o *rowWriter) flush() {
	if o.err == nil {
		o.err = o.conn.SetWriteDeadline(time.Now().Add(streamPatience))
	}
	if o.err == nil {
		_, o.err = o.w.Write(o.buf.Bytes())
	}
	if o.err == nil {
		o.err = o.conn.Flush()
	}
	if o.err != nil {
		o.err = errAnswered // the client is gone
	}
	o.buf.Reset()
}

func (o *rowWriter) begin() {
	if !o.lines {
		o.buf.WriteString(`{"results":[`)
	}
}

// open begins a result.
func (o *rowWriter) open(res *pageResult, more bool) {
	o.rows = 0
	if o.lines {
		o.field(`{"columns":`, res.Columns)
		o.field(`,"types":`, res.Types)
		o.buf.WriteString("}\n")
		return
	}
	if more {
		o.buf.WriteByte(',')
	}
	o.field(`{"columns":`, res.Columns)
	o.buf.WriteString(`,"rows":[`)
}

// close ends a result, whose types are in its first page and its time in the last.
func (o *rowWriter) close(first, last *pageResult) {
	if o.lines {
		o.buf.WriteString(`{"rows":`)
		o.buf.WriteString(strconv.Itoa(o.rows))
	} else {
		o.field(`],"types":`, first.Types)
	}
	o.field(`,"changes":`, last.Changes)
	o.field(`,"last_insert_id":`, last.LastInsertID)
	o.field(`,"ms":`, last.MS)
	if last.Truncated {
		o.buf.WriteString(`,"truncated":true`)
	}
	o.buf.WriteByte('}')
	if o.lines {
		o.buf.WriteByte('\n')
	}
}

// end ends the answer.
func (o *rowWriter) end(p *page) {
	if o.lines {
		o.field(`{"position":`, p.Position)
	} else {
		o.field(`],"position":`, p.Position)
	}
	if len(p.Session) > 0 {
		o.field(`,"session":`, p.Session)
	}
	o.buf.WriteString("}\n")
	o.flush()
}

// fail ends the answer with an error.
func (o *rowWriter) fail(err error) {
	data := subjects.AppendResponse(nil, nil, &subjects.Response{Error: wireError(err)})
	if o.lines {
		o.buf.Write(data)
	} else {
		o.buf.WriteString(`],`)
		o.buf.Write(bytes.TrimPrefix(data, []byte("{")))
	}
	o.buf.WriteByte('\n')
	o.flush()
}

// field writes a name, with what stands before it, and a value.
func (o *rowWriter) field(name string, value json.RawMessage) {
	o.buf.WriteString(name)
	if len(value) == 0 {
		value = json.RawMessage("null")
	}
	o.buf.Write(value)
}
