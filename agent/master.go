package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/snapdb/snapdb/agent/access"
	"github.com/snapdb/snapdb/agent/audit"
	"github.com/snapdb/snapdb/agent/blob"
	"github.com/snapdb/snapdb/agent/lend"
	"github.com/snapdb/snapdb/agent/signing"
	"github.com/snapdb/snapdb/broker"
	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// Defaults of MasterOptions.
const (
	DefaultListen      = "127.0.0.1:4222"
	DefaultDiskReserve = 256 << 20
)

// MasterOptions configure a Master. Dir is required.
type MasterOptions struct {
	Dir    string // data directory
	Listen string // host:port for NATS; "": DefaultListen; port 0 takes a free one
	// Ack is the rule for requests that name none; zero: insync.
	Ack subjects.Ack
	// MaxLogBytes bounds the log on disk; 0: the broker's default.
	MaxLogBytes int64
	// LogKeep is how much of the log is kept in bytes beyond what nodes need, the
	// large transactions beside it included; 0: DefaultLogKeep, but at most a half of
	// MaxLogBytes; negative: all.
	LogKeep int64
	// SnapshotEvery is how old the snapshot of a database that changes gets; 0:
	// DefaultSnapshotEvery.
	SnapshotEvery time.Duration
	// VerifyEvery is how often a database that changes is compared on all nodes; 0:
	// DefaultVerifyEvery, negative: only when somebody asks.
	VerifyEvery time.Duration
	// DiskReserve is the free space in bytes below which writes are refused;
	// 0: DefaultDiskReserve.
	DiskReserve uint64
	// Reads bound what reads may take of the machine.
	Reads Reads
	// FreeBytes measures free space; nil: exec.FreeBytes. Tests fill disks here.
	FreeBytes func(dir string) (uint64, error)
	// Sign is the key with which the log, heads, commands and answers to joins are signed;
	// nil: nothing is.
	Sign *signing.Key
	// Secure lets in only who has a right to come, and lets each do only what he may;
	// false: whoever reaches the port may do everything.
	Secure bool
	// Certificate shows clients of a secured master who it is.
	Certificate Certificate
	// Audit is about the audit record of a secured cluster.
	Audit   Audit
	Version string // of snapdb, for people
	Logger  *slog.Logger

	patience patience     // with clients; zero: the usual one
	hashing  access.Costs // of passwords; zero: the usual ones
	// publishPatience is the journal's; 0: the usual one. Tests shorten it.
	publishPatience time.Duration
	// dial adds options to the journal's connection. Tests cut it.
	dial func(*broker.Broker) []nats.Option
}

// Certificate is by what a secured master shows who it is. The zero value makes an own
// authority for the cluster, in the data directory.
type Certificate struct {
	// Hosts are names and addresses by which clients call the master, beside those that its
	// machine has by itself. Only clients that know no fingerprint look at them.
	Hosts []string
	// File, Key and CA are PEM files of a certificate that was brought; CA may be "" if
	// clients know it anyway.
	File, Key, CA string
}

// Audit says what is kept of who did what. The zero value is good.
type Audit struct {
	Writes bool          // every write, not only what changes schemas
	Mask   bool          // SQL without the values in it
	Keep   int64         // bytes; 0: audit.DefaultMaxBytes
	Age    time.Duration // 0: audit.DefaultMaxAge
}

// Errors of a master that does not start.
var (
	// ErrLogLost: the databases hold changes that the log does not.
	ErrLogLost = errors.New("the log does not hold what the databases hold")
	// ErrSecured: the cluster has been secured, and would be opened to everybody. What its
	// master writes unsigned its nodes would not take, nor itself later.
	ErrSecured = errors.New("this directory is that of a secured cluster")
)

// Master is the node that takes writes.
type Master struct {
	opts    MasterOptions
	log     *slog.Logger // to the operator, and to whoever watches the nodes' lines
	wire    *logWire
	host    *machine
	meters  meters
	boot    string
	started time.Time

	store       *exec.Store
	blobs       *blob.Store
	warden      *warden    // nil in an open cluster
	audit       *audit.Log // of a secured cluster
	certificate certificate
	oneTime     string // password of the first user, until it is changed
	broker      *broker.Broker
	journal     *journal
	fleet       *fleet
	keeper      *keeper
	verifier    *verifier
	orders      *orders
	importer    *importer
	shelf       *lend.Shelf
	reader      *reader
	sessions    sessions
	services    []micro.Service
	crew        *crew   // answers requests
	served      *shares // of those
	admitter    *crew   // answers joins, whatever load the others are under

	ctx    context.Context // ends when the master stops
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup
	failed chan error // why it stopped by itself

	stopping  sync.Once
	stopped   chan struct{} // closed when everything has ended
	ended     error         // how; read after stopped
	unstarted bool          // the start has failed

	catalog       chan struct{} // holds a token while databases are made or dropped
	catalogBehind bool          // guarded by catalog: the log has a change that the node does not

	mu      sync.RWMutex // guards writers
	writers map[string]*writer

	diskAt atomic.Int64 // when free space was last measured, Unix ms
	diskOK atomic.Bool
}

// StartMaster opens the data directory, starts the broker, takes over the log
// and catches up with it, and only then opens the doors.
func StartMaster(ctx context.Context, o MasterOptions) (*Master, error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Listen == "" {
		o.Listen = DefaultListen
	}
	if o.Ack.Kind == subjects.AckDefault {
		o.Ack.Kind = subjects.AckInSync
	}
	if o.DiskReserve == 0 {
		o.DiskReserve = DefaultDiskReserve
	}
	if o.SnapshotEvery == 0 {
		o.SnapshotEvery = DefaultSnapshotEvery
	}
	if o.VerifyEvery == 0 {
		o.VerifyEvery = DefaultVerifyEvery
	}
	if o.LogKeep == 0 {
		o.LogKeep = DefaultLogKeep
		if o.MaxLogBytes > 0 {
			o.LogKeep = min(o.LogKeep, o.MaxLogBytes/2)
		}
	}
	o.Reads.usual()
	if o.FreeBytes == nil {
		o.FreeBytes = exec.FreeBytes
	}
	if o.patience == (patience{}) {
		o.patience = usualPatience()
	}
	if o.publishPatience == 0 {
		o.publishPatience = publishPatience
	}
	wire := newLogWire()
	m := &Master{opts: o, log: slog.New(teeHandler{o.Logger.Handler(), wire.handler()}), wire: wire, host: &machine{dir: o.Dir}, boot: randomID(), started: time.Now(),
		writers: map[string]*writer{}, sessions: sessions{open: map[string]*session{}}, failed: make(chan error, 1), stopped: make(chan struct{}),
		catalog: make(chan struct{}, 1), crew: newCrew(maxRequests), served: newShares(maxRequests / 2), admitter: newCrew(maxJoins)}
	m.ctx, m.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	if err := m.start(ctx); err != nil {
		m.unstarted = true
		return nil, errors.Join(err, m.Stop(context.WithoutCancel(ctx)))
	}
	return m, nil
}

func (m *Master) start(ctx context.Context) error {
	var err error
	m.store, err = exec.Open(m.opts.Dir, exec.Options{Role: exec.RoleMaster, Logger: m.log,
		Spill: m.spill, Reads: m.opts.Reads.of(func() (uint64, error) { return m.opts.FreeBytes(m.opts.Dir) }, m.opts.DiskReserve)})
	if err != nil {
		return err
	}
	if m.blobs, err = blob.Open(filepath.Join(m.opts.Dir, "blobs")); err != nil {
		return err
	}
	// The broker's own lines stay off the wire: one about the wire would make the next.
	config := broker.Config{Dir: filepath.Join(m.opts.Dir, "log"), Listen: m.opts.Listen, MaxLogBytes: m.opts.MaxLogBytes, Logger: m.opts.Logger}
	if err := m.secure(ctx, &config); err != nil {
		return err
	}
	if m.broker, err = broker.Start(ctx, config); err != nil {
		return err
	}
	if m.warden != nil {
		m.warden.protect(m.broker)
	}
	if err := m.identify(ctx); err != nil {
		return err
	}
	m.verifier = newVerifier(m)
	if m.keeper, err = openKeeper(m); err != nil {
		return err
	}
	claim, err := json.Marshal(map[string]any{"v": subjects.Version, "boot": m.boot, "version": m.opts.Version})
	if err != nil {
		return fmt.Errorf("encode epoch: %w", err)
	}
	m.journal = &journal{log: m.log, broker: m.broker, master: m.boot, claim: claim, patience: m.opts.publishPatience, deposed: m.stepDown,
		sign: m.opts.Sign, cluster: m.store.Identity().Cluster}
	if m.opts.dial != nil {
		m.journal.dial = m.opts.dial(m.broker)
	}
	if err := m.journal.open(ctx); err != nil {
		return err
	}
	if m.opts.Sign != nil {
		if err := m.opts.Sign.Begin(m.journal.current()); err != nil {
			return err
		}
	}
	m.goes(func(ctx context.Context) { m.wire.run(ctx, m.journal.conn(), subjects.NodeLog(subjects.MasterID)) })
	ill, err := m.catchUp(ctx)
	if err != nil {
		return err
	}
	if err := m.settleDrafts(ctx); err != nil {
		return err
	}
	return m.open(ctx, ill)
}

// identify makes sure that data directory and log belong together, and gives
// both a cluster id when both are new.
func (m *Master) identify(ctx context.Context) error {
	own, logs := m.store.Identity().Cluster, m.broker.Cluster()
	switch {
	case own == "" && logs == "":
		own = randomID()
		if err := m.broker.SetCluster(ctx, own); err != nil {
			return err
		}
		return m.store.SetCluster(own)
	case own == "":
		return m.store.SetCluster(logs)
	case logs == "":
		return fmt.Errorf("%w: the log in %s is new, but the databases belong to cluster %s: restore the log from a backup; starting over would lose what slaves and databases agree on",
			ErrLogLost, filepath.Join(m.opts.Dir, "log"), own)
	case own != logs:
		return fmt.Errorf("%w: the log belongs to cluster %s, the databases to %s: give the data directory its own log back", exec.ErrCluster, logs, own)
	}
	return nil
}

// catchUp checks that the log continues every database and applies what they
// lack, up to the term just claimed. The ill ones could not follow.
func (m *Master) catchUp(ctx context.Context) (ill map[*exec.Database]*illness, err error) {
	term := m.journal.current()
	log, err := m.broker.LogInfo(ctx)
	if err != nil {
		return nil, err
	}
	if err := m.restoreSnapshots(log.First); err != nil {
		return nil, err
	}
	for name, head := range m.store.Heads() {
		if head.Position < log.First {
			continue // the log does not go back so far; what it has must continue it
		}
		if err := m.checkHead(ctx, name, head, term); err != nil {
			return nil, err
		}
	}
	return m.replay(ctx, log.First, term)
}

// checkHead says whether a database's applied position is part of the log.
func (m *Master) checkHead(ctx context.Context, name string, head subjects.Head, term uint64) error {
	if head.Position == 0 || name != subjects.Catalog && head.Position == head.Incarnation {
		return nil // nothing but its creation, which is the catalog's
	}
	if head.Position >= term {
		return fmt.Errorf("%w: database %s has applied position %d, the log ends at %d: %s", ErrLogLost, name, head.Position, term-1, restoreAdvice)
	}
	entry, err := m.journal.reader().Get(ctx, head.Position)
	if err != nil {
		return fmt.Errorf("%w: database %s has applied position %d: %w: %s", ErrLogLost, name, head.Position, err, restoreAdvice)
	}
	if entry.Message == nil || entry.Message.Header.Chain.String() != head.Chain {
		return fmt.Errorf("%w: what the log has at position %d is not what database %s has applied: %s", ErrLogLost, head.Position, name, restoreAdvice)
	}
	return nil
}

// open starts the writers, those of ill databases so that they refuse all, and opens
// the doors.
func (m *Master) open(ctx context.Context, ill map[*exec.Database]*illness) error {
	enrolled, err := m.store.Catalog().Enrolled()
	if err != nil {
		return err
	}
	m.reader = newReader(m.store, m.opts.Reads)
	m.fleet = newFleet(m, enrolled)
	for _, d := range m.store.Databases() {
		is := ill[d]
		if is == nil {
			m.startWriter(d, nil)
			continue
		}
		m.startWriter(d, is.why)
		m.fleet.floors[d.Name()] = floor{d.Applied().Number, m.started}         // it has not what the log has for it,
		m.fleet.ledger.open(d.Name(), d.Incarnation(), is.at.Number, m.started) // but slaves have
	}
	if m.orders, err = openOrders(m); err != nil {
		return err
	}
	m.importer = newImporter(m)
	if m.shelf, err = lend.Open(filepath.Join(m.opts.Dir, "lent"), m.keeper.room, lend.Patience); err != nil {
		return err
	}
	if err := m.fleet.open(); err != nil {
		return err
	}
	if err := m.importer.clean(); err != nil {
		return err
	}
	if err := m.openDoors(); err != nil {
		return err
	}
	m.goes(m.fleet.run)
	m.goes(m.orders.run)
	m.goes(m.keeper.run)
	m.goes(m.verifier.run)
	return nil
}

// goes runs f in a goroutine that Stop ends and waits for.
func (m *Master) goes(f func(ctx context.Context)) {
	m.wg.Add(1)
	go func() {
		defer m.wg.Done()
		f(m.ctx)
	}()
}

// startWriter makes and starts the writer of a database. With ill, it takes no
// writes until it is resumed.
func (m *Master) startWriter(d *exec.Database, ill error) *writer {
	w := newWriter(m, d)
	w.stopped = ill
	w.ctx, w.end = context.WithCancelCause(m.ctx)
	w.done = make(chan struct{})
	m.mu.Lock()
	m.writers[strings.ToLower(d.Name())] = w
	m.mu.Unlock()
	m.goes(func(context.Context) {
		defer close(w.done)
		w.run(w.ctx)
	})
	return w
}

// writer finds the writer of a database.
func (m *Master) writer(name string) (*writer, *subjects.Error) {
	m.mu.RLock()
	w := m.writers[strings.ToLower(name)]
	m.mu.RUnlock()
	if w == nil {
		return nil, exec.ErrNoSuchDatabase(name)
	}
	return w, nil
}

// eachWriter calls f for every writer; f must not wait.
func (m *Master) eachWriter(f func(*writer)) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for _, w := range m.writers {
		f(w)
	}
}

// URL is where slaves and clients connect.
func (m *Master) URL() string { return m.broker.URL() }

// Store is the master's data, for reading.
func (m *Master) Store() *exec.Store { return m.store }

// Wait returns when the master has stopped by itself, with the reason, or when
// ctx ends, with nil.
func (m *Master) Wait(ctx context.Context) error {
	select {
	case err := <-m.failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

// stepDown ends this master, with the reason, because it must not go on.
func (m *Master) stepDown(err error) {
	select {
	case m.failed <- err:
	default:
	}
}

// Stop closes the doors, ends what runs, and closes broker and databases. When ctx
// ends before that is done, it goes on in the background, and Stop returns an error:
// a process that exits then loses no more than in a crash. Stop may be called again.
func (m *Master) Stop(ctx context.Context) error {
	m.stopping.Do(func() {
		m.cancel(errStopping)
		go func() {
			defer close(m.stopped)
			m.ended = m.takeDown()
		}()
	})
	select {
	case <-m.stopped:
		return m.ended
	case <-ctx.Done():
		return fmt.Errorf("stop the master: what runs has not ended in time: %w", context.Cause(ctx))
	}
}

// takeDown ends everything in an order in which nobody is answered after the log is
// gone.
func (m *Master) takeDown() error {
	var errs []error
	for _, s := range m.services {
		errs = append(errs, s.Stop())
	}
	m.eachWriter((*writer).interrupt)
	m.crew.close()
	m.admitter.close()
	m.wg.Wait()
	if m.fleet != nil {
		m.fleet.close()
	}
	if m.orders != nil {
		errs = append(errs, m.orders.book.Close())
	}
	if m.shelf != nil {
		errs = append(errs, m.shelf.Close())
	}
	if m.reader != nil {
		m.reader.close()
	}
	if m.journal != nil {
		m.journal.close()
	}
	if m.broker != nil {
		m.broker.Close()
	}
	if m.warden != nil {
		errs = append(errs, m.warden.store.Close())
	}
	if m.audit != nil {
		errs = append(errs, m.audit.Close())
	}
	if m.unstarted {
		errs = append(errs, m.unmake())
	}
	if m.store != nil {
		errs = append(errs, m.store.Close())
	}
	return errors.Join(errs...)
}

// recover replays the log into a database whose commit failed, and lets it take
// writes again.
func (m *Master) recover(w *writer, to uint64) {
	for w.ctx.Err() == nil {
		err := m.replayRange(w.ctx, w.db.Applied().Number+1, to, func(db string) bool { return db == w.db.Name() })
		if err == nil {
			w.log.Info("the database has caught up with the log", "position", w.db.Applied().Number)
			m.fleet.decided(w.db.Name(), w.db.Applied().Number)
			w.resume()
			return
		}
		var diverged *exec.DivergedError
		if errors.As(err, &diverged) || errors.Is(err, ErrLogLost) {
			w.broken(err)
			return
		}
		w.log.Error("cannot catch up with the log, trying again", "error", err)
		sleep(w.ctx, recoverPause)
	}
}

// recoverPause is the time between two attempts to catch up.
const recoverPause = time.Second

// revive lets the log decide what a database holds after a publish that nobody
// could clear up.
func (m *Master) revive(w *writer) {
	if m.reviveLog(m.ctx) {
		m.recover(w, m.journal.current()) // nothing of an older term comes after it
	}
}

// reviveLog restarts the broker after a publish that nobody could clear up, until
// that succeeds. It is false when ctx ended before.
func (m *Master) reviveLog(ctx context.Context) bool {
	for {
		limited, cancel := context.WithTimeout(ctx, revivePatience)
		err := m.journal.revive(limited)
		cancel()
		if err == nil {
			return true
		}
		m.log.Error("cannot restart the broker, trying again", "error", err)
		if !sleep(ctx, recoverPause) {
			return false
		}
	}
}

// revivePatience is how long one restart of the broker may take.
const revivePatience = 30 * time.Second

// spill makes a blob for a large transaction, unless the log and the blobs that it
// refers to have together reached the log's limit.
func (m *Master) spill() (exec.Spill, error) {
	ctx, cancel := context.WithTimeout(m.ctx, m.opts.publishPatience)
	defer cancel()
	log, err := m.broker.LogInfo(ctx)
	if err != nil {
		return nil, err
	}
	size, err := m.blobs.Size()
	if err != nil {
		return nil, err
	}
	if log.Bytes+uint64(size) >= log.MaxBytes {
		return nil, subjects.Errorf(subjects.CodeUnavailable, "not written, nothing was changed: the log (%d MB) and the large transactions beside it (%d MB) have reached the limit of %d MB: start the master with a larger --log-max", log.Bytes>>20, size>>20, log.MaxBytes>>20)
	}
	return m.blobs.Create(m.journal.known.Load())
}

// checkDisk refuses writes when the disk is nearly full: a full one freezes the
// log without an answer. Free space is measured at most every 100 ms.
func (m *Master) checkDisk() *subjects.Error {
	now := time.Now().UnixMilli()
	if now-m.diskAt.Load() >= 100 || !m.diskOK.Load() {
		free, err := m.opts.FreeBytes(m.opts.Dir)
		if err != nil {
			return subjects.Errorf(subjects.CodeInternal, "%v", err)
		}
		m.diskAt.Store(now)
		m.diskOK.Store(free >= m.opts.DiskReserve)
		if free < m.opts.DiskReserve {
			return subjects.Errorf(subjects.CodeUnavailable, "the master's disk is nearly full (%d MB free, %d MB are kept in reserve): nothing was written; free some space", free>>20, m.opts.DiskReserve>>20)
		}
	}
	return nil
}
