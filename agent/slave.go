package agent

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	mathrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/snapdb/snapdb/agent/files"
	"github.com/snapdb/snapdb/agent/lend"
	"github.com/snapdb/snapdb/agent/signing"
	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// SlaveOptions say what a slave is and where its master is.
type SlaveOptions struct {
	// URL of the master's broker. Default: nats://127.0.0.1:4222.
	URL string
	// TLS says by what the master is known, and that nothing is said to it without;
	// package pki makes one. nil: the scheme of URL and the broker decide, and the
	// system's roots.
	TLS *tls.Config
	// ID of the node; "" takes the one its data directory has, and in a new one
	// makes one from the host's name.
	ID string
	// Dir is the data directory.
	Dir string
	// Trust are the public keys of the master. With any, here or in the data directory from
	// an earlier start, nothing is applied or done that the master has not signed; without,
	// whoever answers is the master.
	Trust []ed25519.PublicKey
	// Token is what the node was given to join a secured cluster; "" if it has joined, or
	// the cluster is open.
	Token string
	// Labels are shown with the node and select it for commands.
	Labels map[string]string
	// Reads bound what reads may take of the machine.
	Reads Reads
	// Power powers the machine off on command; nil: such commands are refused.
	Power Power
	// Wallpaper is the desktop of the user as whom this runs; nil: there is none.
	Wallpaper Wallpaper
	// Version of this snapdb.
	Version string
	// Logger gets what the operator should know. Default: slog.Default().
	Logger *slog.Logger
}

// Times of a slave's life.
const (
	// reconnectMost is the longest pause between two attempts to reach the master.
	reconnectMost = 2 * time.Second
	// statusEvery is the beat of status messages.
	statusEvery = time.Second
	// silence is how long a slave that is behind waits for messages before it
	// joins again.
	silence = 3 * time.Second
	// stopPatience bounds how long an apply in hand may take to finish when the
	// slave ends without a Stop that says so.
	stopPatience = 10 * time.Second
)

// Slave keeps copies of all databases of a cluster: it reads the log, applies
// it, acknowledges, and answers reads. Everything it does ends with Stop.
type Slave struct {
	o       SlaveOptions
	id      string
	boot    string
	started time.Time
	log     *slog.Logger
	store   *exec.Store
	nc      *nats.Conn
	wire    *logWire

	life     context.Context // ends when the slave begins to stop
	end      context.CancelFunc
	work     context.Context // ends when applies in hand must not go on
	abort    context.CancelFunc
	lanes    *crew         // goroutines of lanes
	crew     *crew         // answers queries
	asking   sync.Map      // *nodeQuery of sessions, being answered
	service  micro.Service // used by the main goroutine only
	tasks    *tasks        // commands that change something
	labels   *labels
	known    *credentials
	shelf    *lend.Shelf
	files    *files.Folder
	host     *machine
	guard    *guard                 // nil: whoever answers is the master
	term     atomic.Uint64          // the newest known
	leaving  atomic.Bool            // a command ends the node
	spoilt   atomic.Pointer[string] // digest of a snapshot that did not arrive well
	unseeded atomic.Int32           // attempts to replace copies that failed since one did not
	reader   *reader
	prover   *prover
	online   bell          // rung when the connection is there again
	quiet    bell          // rung when a lane becomes idle
	advance  bell          // rung when something was applied or heads came
	changed  chan struct{} // holds one token when the status should be published
	telling  sync.Mutex    // held while it is
	done     chan struct{} // closed when everything has ended
	err      error         // why; read after done

	mu      sync.Mutex // guards all below
	stay    *stay      // nil while not joined
	closing bool
	refused string           // why the last join was refused
	copies  map[uint64]*lane // by incarnation; the catalog's is 0
	way     headway
	foreign uint64
	counted uint64            // position up to which unreadable messages were counted
	gaps    map[uint64]uint64 // incarnation → position from which it joined again once
	heals   map[uint64]heals  // by incarnation
	rebuild []string          // databases to be rebuilt from the log before the next join
	ready   []seeded          // snapshots to be put in their place before the next join
	unbuilt map[string]error  // why those of the last time could not be
	ending  string            // command that is about to end this process or its machine
}

// StartSlave opens the data directory and sets out to join. It does not wait for
// the master: that may come later. The slave ends by Stop, when ctx ends, or
// when its first join is refused for good; Wait tells.
func StartSlave(ctx context.Context, o SlaveOptions) (*Slave, error) {
	if o.URL == "" {
		o.URL = nats.DefaultURL
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.ID != "" {
		if err := subjects.CheckNodeID(o.ID); err != nil {
			return nil, err
		}
	}
	o.Reads.usual()
	s := &Slave{
		o: o, boot: randomID(), started: time.Now(), changed: make(chan struct{}, 1), done: make(chan struct{}),
		copies: map[uint64]*lane{}, gaps: map[uint64]uint64{}, heals: map[uint64]heals{}, unbuilt: map[string]error{}, wire: newLogWire(), crew: newCrew(maxQueries), lanes: newCrew(math.MaxInt),
		host: &machine{dir: o.Dir}, prover: newProver(),
	}
	s.log = slog.New(teeHandler{o.Logger.Handler(), s.wire.handler()})
	var err error
	s.store, err = exec.Open(o.Dir, exec.Options{Role: exec.RoleSlave, ID: o.ID, Logger: s.log,
		Reads: o.Reads.of(func() (uint64, error) { return exec.FreeBytes(o.Dir) }, DefaultDiskReserve)})
	if err != nil {
		return nil, err
	}
	s.life, s.end = context.WithCancel(ctx)
	s.work, s.abort = context.WithCancel(context.WithoutCancel(ctx))
	if err := s.begin(); err != nil {
		s.end()
		s.abort()
		return nil, errors.Join(err, s.store.Close())
	}
	go s.main()
	return s, nil
}

// begin gives the node its id and a connection.
func (s *Slave) begin() error {
	// A new directory keeps the id once the node is let in with it.
	s.id = cmp.Or(s.store.Identity().ID, s.o.ID)
	if s.id == "" {
		s.id = newNodeID()
	}
	s.log = s.log.With("node", s.id)
	s.reader = newReader(s.store, s.o.Reads)
	var err error
	if s.known, err = openCredentials(s.o.Dir, s.o.Token); err != nil {
		return err
	}
	ring, err := signing.OpenRing(filepath.Join(s.o.Dir, "trusted.json"), append(s.known.trust(), s.o.Trust...))
	if err != nil {
		return err
	}
	if !ring.Empty() {
		s.guard = &guard{ring: ring, seen: map[[sha256.Size]byte]int64{}}
	}
	if s.labels, err = openLabels(s.o.Dir, s.o.Labels); err != nil {
		return err
	}
	free := func() (int64, error) {
		free, err := exec.FreeBytes(s.o.Dir)
		return int64(min(free, 1<<62)), err
	}
	if s.files, err = files.Open(filepath.Join(s.o.Dir, "files"), files.KeepFree(DefaultDiskReserve, free)); err != nil {
		return err
	}
	if s.shelf, err = lend.Open(filepath.Join(s.o.Dir, "lent"), func(n int64) error { return s.roomFor(n + DefaultDiskReserve) }, lend.Patience); err != nil {
		return err
	}
	if err := s.dropParts(); err != nil {
		return err
	}
	if s.tasks, err = openTasks(s.o.Dir, interrupted); err != nil {
		return err
	}
	if s.nc, err = s.connect(); err != nil {
		return errors.Join(fmt.Errorf("connect to %s: %w", s.o.URL, err), s.tasks.journal.Close())
	}
	t := s.tasks
	t.node, t.boot, t.nc, t.log, t.life = s.id, s.boot, s.nc, s.log, s.life
	t.joined = func() bool { return s.current() != nil }
	if s.guard != nil {
		t.least = replayable
	}
	return nil
}

// connect makes a connection that never gives up. What is published while it is
// down is dropped: after a new join the master is told everything anyway.
func (s *Slave) connect() (*nats.Conn, error) {
	over, err := s.known.over(s.o.TLS)
	if err != nil {
		return nil, err
	}
	return nats.Connect(s.o.URL, append(s.known.login(),
		nats.Name(connName(s.id, s.boot)),
		func(n *nats.Options) error {
			n.Secure, n.TLSConfig = over != nil, over
			return nil
		},
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.CustomReconnectDelay(reconnectDelay),
		nats.IgnoreAuthErrorAbort(),
		nats.ReconnectBufSize(-1),
		nats.PingInterval(5*time.Second),
		nats.MaxPingsOutstanding(2),
		nats.ConnectHandler(func(*nats.Conn) { s.online.ring() }),
		nats.ReconnectHandler(func(*nats.Conn) { s.online.ring() }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if s.life.Err() == nil {
				s.log.Warn("connection to the master lost", "error", err)
			}
			s.leave(errDisconnected)
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			var broken *net.OpError
			if !errors.As(err, &broken) { // the end of the connection tells
				s.log.Warn("connection", "error", err)
			}
		}),
	)...)
}

// reconnectDelay grows from 50 ms to two seconds, with jitter so that a fleet
// does not come back in one instant.
func reconnectDelay(attempts int) time.Duration {
	d := min(50*time.Millisecond<<min(max(attempts-1, 0), 10), reconnectMost)
	return d/2 + mathrand.N(d/2)
}

// ID of this node.
func (s *Slave) ID() string { return s.id }

// Store is the data directory with all copies.
func (s *Slave) Store() *exec.Store { return s.store }

// Wait returns when the slave has ended: nil after Stop, a *[RefusedError] when
// the master did not let it in.
func (s *Slave) Wait() error {
	<-s.done
	return s.err
}

// Stop ends the slave in order: it says goodbye, stops reading, finishes and
// acknowledges the apply in hand, and closes its files. When ctx ends, the apply
// in hand is rolled back instead. It returns when everything has ended, with
// what went wrong on the way.
func (s *Slave) Stop(ctx context.Context) error {
	s.end()
	stop := context.AfterFunc(ctx, s.abort)
	defer stop()
	<-s.done
	return s.err
}

// main is the slave's own goroutine: join, follow the log, join again, until the
// end; then it takes everything down.
func (s *Slave) main() {
	defer close(s.done)
	var wg sync.WaitGroup
	wg.Go(func() { s.wire.run(s.life, s.nc, subjects.NodeLog(s.id)) })
	wg.Go(s.beat)
	wg.Go(s.tasks.run)
	err := s.listen()
	if err == nil {
		err = s.follow()
	}
	s.end()
	s.err = errors.Join(err, s.takeDown(&wg))
}

// follow joins and reads until the life ends or the first join is refused.
func (s *Slave) follow() error {
	pause := backOff{}
	for {
		s.rebuildAsked()
		s.installReady()
		ses, err := s.join(&pause)
		if err != nil {
			return err
		}
		if ses == nil {
			return nil // stopped
		}
		err = s.read(ses)
		if s.life.Err() != nil {
			return nil
		}
		s.log.Info("joining again", "reason", err)
		if time.Since(ses.began) > reconnectMost {
			pause.reset()
		}
		pause.wait(s.life, &s.online)
	}
}

// takeDown ends everything in the order that loses nothing.
func (s *Slave) takeDown(wg *sync.WaitGroup) error {
	s.mu.Lock()
	s.closing = true
	lanes := make([]*lane, 0, len(s.copies))
	for _, l := range s.copies {
		lanes = append(lanes, l)
	}
	s.mu.Unlock()
	s.publishStatus()

	var errs []error
	if s.service != nil {
		errs = append(errs, s.service.Stop())
	}
	late := time.AfterFunc(stopPatience, s.abort)
	for _, l := range lanes {
		l.halt()
	}
	s.lanes.close()
	late.Stop()
	s.crew.close()
	s.reader.close()
	wg.Wait()

	flush, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if s.nc.IsConnected() {
		s.nc.FlushWithContext(flush) // the last acknowledgements; a broker that is gone needs none
	}
	s.nc.Close()
	s.abort()
	return errors.Join(append(errs, s.shelf.Close(), s.files.Close(), s.store.Close())...)
}

// beat publishes the status, looks whether the log still comes, and writes the
// cursor down now and then.
func (s *Slave) beat() {
	tick := time.NewTicker(statusEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.life.Done():
			return
		case <-s.changed:
		case <-tick.C:
			s.check()
		}
		s.publishStatus()
	}
}

// tell asks for the status to be published soon.
func (s *Slave) tell() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// newNodeID makes an id from the host's name that no other node has.
func newNodeID() string {
	host, err := os.Hostname()
	if err != nil {
		host = "node" // any name will do, the suffix makes it unique
	}
	host, _, _ = strings.Cut(filepath.Base(host), ".")
	id := strings.Map(func(r rune) rune {
		if r == '-' || '0' <= r && r <= '9' || 'a' <= r|0x20 && r|0x20 <= 'z' {
			return r
		}
		return -1
	}, host)
	id = strings.Trim(id, "-")
	if id == "" {
		id = "node"
	}
	return id[:min(len(id), 40)] + "-" + randomID()[:6]
}

// bell wakes everybody who waits for something to change.
type bell struct {
	mu sync.Mutex
	ch chan struct{}
}

// heard is closed at the next ring. Take it before looking at what may change.
func (b *bell) heard() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}

// backOff is the growing pause between attempts.
type backOff struct{ attempts int }

func (b *backOff) reset() { b.attempts = 0 }

// wait pauses; a ring of early, or the end of ctx, ends the pause.
func (b *backOff) wait(ctx context.Context, early *bell) {
	b.attempts++
	t := time.NewTimer(reconnectDelay(b.attempts))
	defer t.Stop()
	select {
	case <-t.C:
	case <-early.heard():
	case <-ctx.Done():
	}
}
