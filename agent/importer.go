package agent

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/snapdb/snapdb/agent/audit"
	"github.com/snapdb/snapdb/agent/snapshot"
	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// Times of an import.
const (
	// importPoll is how long an answer waits for something to have changed.
	importPoll = time.Second
	// importKept is how long the end of an import is remembered at least.
	importKept = time.Minute
	// importAcks is how long it waits for the slaves that must have it.
	importAcks = time.Hour
)

// Why an import ends before it is done.
var (
	errImporting = subjects.Errorf(subjects.CodeUnavailable, "it is being imported")
	errAbandoned = subjects.Errorf(subjects.CodeCancelled, "the client that wanted it has gone away; nothing is left of it")
)

// importer makes databases of files: one at a time, each takes a disk and a core.
//
// The content is logged as one message that names it by its digest, the first of the
// new database, and every node makes it its own in one transaction of SQLite, the
// master like all others. So the database is empty or whole on every node, at any
// moment. Until it is whole on the master nobody can write to it.
type importer struct {
	m *Master

	mu   sync.Mutex
	all  map[string]*importing // by id
	busy *importing            // the one that runs
}

// beginning is what a master writes down before it makes a database for an import, so
// that the next start finds one that has got no content.
type beginning struct {
	DB    string `json:"db"`
	After uint64 `json:"after"` // it was made after this position
}

func (i *importer) note() string { return filepath.Join(i.m.opts.Dir, "importing.json") }

// begin writes a beginning down.
func (i *importer) begin(db string) error {
	data, err := json.Marshal(beginning{db, i.m.store.Catalog().Applied().Number})
	if err == nil {
		err = exec.WriteFile(i.note(), append(data, '\n'))
	}
	if err != nil {
		return fmt.Errorf("write down what is imported: %w", err)
	}
	return nil
}

// forget removes what begin has written.
func (i *importer) forget() error {
	if err := os.Remove(i.note()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget what was imported: %w", err)
	}
	return nil
}

// clean drops the database of an import that the last life of this master has begun and
// not logged. Nobody has seen it since.
func (i *importer) clean() error {
	data, err := os.ReadFile(i.note())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var b beginning
	if err == nil {
		err = json.Unmarshal(data, &b)
	}
	if err != nil {
		return fmt.Errorf("read what was imported: %w", err)
	}
	d, err := i.m.store.Database(b.DB)
	if err == nil && d.Incarnation() > b.After && d.Applied().Number == d.Incarnation() {
		if _, err := i.m.changeCatalog(exec.Command{Verb: exec.DropDatabase, Name: d.Name()}, i.quick(i.m.ctx)); err != nil {
			return fmt.Errorf("drop database %s, whose import did not end: %w", d.Name(), err)
		}
		i.m.log.Info("a database whose import did not end was dropped", "database", d.Name())
	}
	return i.forget()
}

// importing is one import.
type importing struct {
	req    subjects.ImportRequest
	cancel context.CancelCauseFunc
	away   *time.Timer // cancels it when nobody asks
	turn   bell        // rung when it gets on

	// Guarded by the importer's lock.
	state subjects.ImportResponse
	err   error
	ended time.Time // zero: not yet
}

func newImporter(m *Master) *importer { return &importer{m: m, all: map[string]*importing{}} }

// holds is why a database that has just been made takes no writes yet, nil if it does.
func (i *importer) holds(db string) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.busy != nil && strings.EqualFold(i.busy.req.DB, db) {
		return errImporting
	}
	return nil
}

// answer begins an import, or says how it is.
func (i *importer) answer(ctx context.Context, who *caller, req *subjects.ImportRequest) (*subjects.ImportResponse, error) {
	if err := who.uses(req.DB); err != nil {
		return nil, err
	}
	x, news, err := i.find(req)
	if news {
		e := audit.Event{Action: subjects.Import, Target: req.DB}
		i.m.recorded(who, e, func([]byte, *subjects.Error) {})(nil, exec.WireError(err))
	}
	if err != nil || news {
		return &subjects.ImportResponse{Stage: subjects.ImportChecking}, err
	}
	x.away.Reset(i.m.opts.patience.away)
	if req.Cancel {
		x.cancel(errCancelled)
	}
	limit := time.After(importPoll)
	for began := i.stage(x); ; {
		heard := x.turn.heard()
		i.mu.Lock()
		state, err, ended := x.state, x.err, !x.ended.IsZero()
		i.mu.Unlock()
		switch {
		case ended && err != nil:
			return nil, err
		case ended, state.Stage != began && state.Stage != subjects.ImportDone: // which is not all of it
			return &state, nil
		}
		select {
		case <-heard:
		case <-limit:
			return &subjects.ImportResponse{Stage: began, DB: state.DB, Position: state.Position}, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (i *importer) stage(x *importing) subjects.ImportStage {
	i.mu.Lock()
	defer i.mu.Unlock()
	return x.state.Stage
}

// find returns the import that is asked about. If it is new it is begun, unless it is
// only asked whether it would be refused.
func (i *importer) find(req *subjects.ImportRequest) (x *importing, news bool, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if x := i.all[req.ID]; x != nil {
		return x, false, nil
	}
	return nil, true, i.start(req)
}

// start begins an import. i.mu is held.
func (i *importer) start(req *subjects.ImportRequest) error {
	switch {
	case req.ID == "" || req.Size < 0 || req.File < 0:
		return subjects.Errorf(subjects.CodeBadRequest, `an import needs an "id", and sizes that are not negative`)
	case req.Cancel:
		return i.discard(req.Digest)
	case req.Begun:
		return subjects.Errorf(subjects.CodeUnavailable, "the master was restarted in the middle of the import; if database %s is there, it has all of it, and if not, nothing is left of it", req.DB)
	}
	if _, err := i.m.store.Check(exec.Command{Verb: exec.CreateDatabase, Name: req.DB}); err != nil {
		return err
	}
	// The blob, and what it becomes: the file, the WAL, the database.
	if err := i.m.keeper.room(req.Size + 3*req.File); err != nil {
		return err
	}
	switch {
	case req.Digest == "":
		return nil
	case i.busy != nil:
		return subjects.Errorf(subjects.CodeBusy, "database %s is being imported: try again when that is done", i.busy.req.DB)
	}
	maps.DeleteFunc(i.all, func(_ string, x *importing) bool { return time.Since(x.ended) > importKept })
	ctx, cancel := context.WithCancelCause(i.m.ctx)
	x := &importing{req: *req, cancel: cancel, state: subjects.ImportResponse{Stage: subjects.ImportChecking, DB: req.DB},
		away: time.AfterFunc(i.m.opts.patience.away, func() { cancel(errAbandoned) })}
	i.all[req.ID], i.busy = x, x
	i.m.goes(func(context.Context) { i.run(ctx, x) })
	return nil
}

// run carries an import out.
func (i *importer) run(ctx context.Context, x *importing) {
	begun := time.Now()
	err := i.carryOut(ctx, x)
	x.away.Stop()
	x.cancel(nil)
	i.mu.Lock()
	i.busy = nil
	if derr := i.discard(x.req.Digest); derr != nil {
		i.m.log.Warn("cannot remove the file of an import", "digest", x.req.Digest, "error", derr)
	}
	x.ended, x.err = time.Now(), err
	state := x.state
	i.mu.Unlock()
	x.turn.ring()
	if err != nil {
		i.m.log.Warn("a database was not imported", "database", x.req.DB, "error", err)
		return
	}
	i.m.log.Info("database imported", "database", x.req.DB, "position", state.Position, "bytes", x.req.File, "duration", time.Since(begun))
}

// reach notes that an import has come to a stage.
func (i *importer) reach(x *importing, s subjects.ImportResponse) {
	s.DB = x.req.DB
	i.mu.Lock()
	x.state = s
	i.mu.Unlock()
	x.turn.ring()
}

// discard removes what was brought for an import, unless the one that runs or a command
// needs the same. i.mu is held.
func (i *importer) discard(digest string) error {
	o := i.m.orders
	if digest == "" || i.busy != nil && i.busy.req.Digest == digest || o.book.Digests()[digest] {
		return nil
	}
	return o.files.Discard(digest)
}

func (i *importer) carryOut(ctx context.Context, x *importing) (err error) {
	image, ref, err := i.check(ctx, x)
	if err != nil {
		return err
	}
	if err := i.begin(x.req.DB); err != nil {
		image.Abort()
		return err
	}
	defer func() {
		if i.m.ctx.Err() == nil {
			err = errors.Join(err, i.forget())
		}
	}()
	w, err := i.create(ctx, x)
	if err != nil {
		image.Abort()
		return err
	}
	position, err := i.log(ctx, w, ref)
	if err != nil {
		var failed *subjects.Error
		if errors.As(err, &failed) && failed.Code == subjects.CodeOutcomeUnknown {
			image.Keep() // as the log may name it
			i.m.revive(w)
			return fmt.Errorf("%w; database %s is empty or has all of it", err, x.req.DB)
		}
		image.Abort()
		return i.undo(w, err)
	}
	image.Keep()
	i.reach(x, subjects.ImportResponse{Stage: subjects.ImportStoring, Position: position})
	i.m.fleet.logged(w, position, nil, true)
	stop := context.AfterFunc(ctx, func() { w.end(context.Cause(ctx)) })
	i.m.recover(w, position)
	stopped := !stop()
	switch {
	case i.m.ctx.Err() != nil:
		return errStopping // the log has it: the next start goes on
	case stopped:
		return i.undo(w, context.Cause(ctx))
	case w.reason() != nil:
		return i.undo(w, w.reason())
	}
	return i.await(ctx, x, w, position)
}

// check makes a blob of the file that was brought, once it turns out that it can
// become a database.
func (i *importer) check(ctx context.Context, x *importing) (image exec.Spill, ref subjects.ImageRef, err error) {
	f, err := i.m.orders.files.Open(x.req.Digest)
	if errors.Is(err, fs.ErrNotExist) {
		err = subjects.Errorf(subjects.CodeNotFound, "no file %.80q was brought to the master: bring it anew", x.req.Digest)
	}
	if err != nil {
		return nil, ref, err
	}
	defer f.Close()
	if image, err = i.m.spill(); err != nil {
		return nil, ref, err
	}
	// In the folder of snapshots what a crash leaves of it is removed.
	path := filepath.Join(i.m.opts.Dir, "snapshots", "imported"+snapshot.CopySuffix)
	packed := io.TeeReader(snapshot.Reader(ctx, f), image)
	err = snapshot.Unpack(packed, path, x.req.File)
	if err == nil {
		err = exec.CheckImage(ctx, path)
		err = errors.Join(err, os.Remove(path))
	}
	if err == nil {
		_, err = io.Copy(io.Discard, packed)
	}
	if err == nil {
		_, err = image.Write(uniqueFrame())
	}
	ref.File = x.req.File
	if err == nil {
		ref.BlobRef, err = image.Commit()
	}
	if err == nil {
		return image, ref, nil
	}
	image.Abort()
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case errors.Is(err, exec.ErrUnfit):
		err = subjects.Errorf(subjects.CodeBadRequest, "%v", err)
	}
	return nil, ref, err
}

// uniqueFrame is what tells the blob of an import from every other, also of the same file:
// blobs are removed with the messages that name them. Who unpacks passes over it, see
// https://www.rfc-editor.org/rfc/rfc8878#name-skippable-frames.
func uniqueFrame() []byte {
	id := randomID()
	frame := binary.LittleEndian.AppendUint32(nil, 0x184D2A50)
	return append(binary.LittleEndian.AppendUint32(frame, uint32(len(id))), id...)
}

// unpackImage makes a file of an image on the master itself, for [exec.Source].
func (m *Master) unpackImage(ctx context.Context, ref subjects.ImageRef, path string) error {
	f, err := m.blobs.Open(ref.Digest)
	if err != nil {
		return err
	}
	defer f.Close()
	return snapshot.Unpack(snapshot.Reader(ctx, f), path, ref.File)
}

// create makes the database. It takes no writes.
func (i *importer) create(ctx context.Context, x *importing) (*writer, error) {
	cmd := exec.Command{Verb: exec.CreateDatabase, Name: x.req.DB}
	if _, err := i.m.changeCatalog(cmd, i.quick(ctx)); err != nil {
		return nil, err
	}
	w, err := i.m.writer(x.req.DB)
	if err != nil {
		return nil, subjects.Errorf(subjects.CodeUnavailable, "database %s is in the log, but the master could not make it: drop it when it is there", x.req.DB)
	}
	return w, nil
}

// quick is a change of the catalog that nobody waits for.
func (i *importer) quick(ctx context.Context) *call {
	now := time.Now()
	return &call{begun: now, ctx: ctx, rule: subjects.Ack{Kind: subjects.AckLog}, deadline: now.Add(writePatience), wrote: true, answer: func(*call, outcome) {}}
}

// log makes the content the first message of the database.
func (i *importer) log(ctx context.Context, w *writer, ref subjects.ImageRef) (position uint64, err error) {
	m := i.m
	m.catalog <- struct{}{} // nobody drops it meanwhile
	defer func() { <-m.catalog }()
	switch now, err := m.writer(w.db.Name()); {
	case ctx.Err() != nil:
		return 0, context.Cause(ctx)
	case err != nil || now != w:
		return 0, subjects.Errorf(subjects.CodeNoSuchDatabase, "database %s was dropped while it was imported", w.db.Name())
	}
	if err := m.checkDisk(); err != nil {
		return 0, err
	}
	at := w.db.Applied()
	body := subjects.AppendBody(nil, &subjects.Body{DB: w.db.Name(), Engine: m.store.Engine(), Image: &ref})
	head := subjects.Header{DB: w.db.Name(), Inc: w.db.Incarnation(), Prev: at.Number,
		Chain: subjects.NextChain(at.Chain, w.db.Incarnation(), body)}
	m.fleet.publishing(w.db.Name())
	position, err = m.journal.append(ctx, head, body)
	if err == nil {
		return position, nil
	}
	failed := notLogged(err)
	if failed.Code != subjects.CodeOutcomeUnknown {
		m.fleet.decided(w.db.Name(), at.Number)
	}
	return 0, failed
}

// undo drops the database of an import that failed, and says what became of it.
func (i *importer) undo(w *writer, why error) error {
	m := i.m
	if now, err := m.writer(w.db.Name()); err != nil || now != w {
		return why // somebody has
	}
	if _, err := m.changeCatalog(exec.Command{Verb: exec.DropDatabase, Name: w.db.Name()}, i.quick(m.ctx)); err != nil {
		return fmt.Errorf("%w; and what is there of database %s could not be dropped, drop it: %w", why, w.db.Name(), err)
	}
	return why
}

// await waits for the slaves that a write of the default rule waits for.
func (i *importer) await(ctx context.Context, x *importing, w *writer, position uint64) error {
	i.reach(x, subjects.ImportResponse{Stage: subjects.ImportWaiting, Position: position})
	done := make(chan outcome, 1)
	c := &call{begun: time.Now(), ctx: ctx, rule: i.m.opts.Ack, deadline: time.Now().Add(importAcks), wrote: true,
		answer: func(_ *call, o outcome) { done <- o }}
	i.m.fleet.again(w, position, c)
	release := whenDone(ctx, func() { i.m.fleet.hurry(c) })
	o := <-done
	release()
	i.reach(x, subjects.ImportResponse{Stage: subjects.ImportDone, Position: position, Applied: o.applied, Pending: o.pending})
	return unmet(c, o)
}
