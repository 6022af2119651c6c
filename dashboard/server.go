package dashboard

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/snapdb/snapdb/subjects"
)

// DefaultListen is where the panel is unless told otherwise.
const DefaultListen = "127.0.0.1:8080"

// Bus carries requests to the doors of the cluster and what is published there.
type Bus interface {
	// Request asks at a subject. If the door refused, the reply says why; the error is
	// that there was no reply. It is a *subjects.Error if it has a code that says more
	// than "unavailable".
	Request(ctx context.Context, subject string, header map[string][]string, data []byte) (reply []byte, refused bool, err error)
	// Subscribe calls fn for what is published at a subject, one after the other.
	Subscribe(subject string, fn func(subject string, data []byte)) (cancel func(), err error)
	// LogsKept calls fn for the newest log lines that were published and are kept, the
	// oldest first.
	LogsKept(ctx context.Context, most uint64, fn func(subject string, data []byte, at time.Time)) error
}

// Options of [Start]. Bus is required.
type Options struct {
	// Listen is HOST:PORT; "": DefaultListen; port 0 takes a free one. The host must
	// be of loopback in an open cluster, unless Insecure says otherwise.
	Listen string
	Bus    Bus
	// Access knows the users; nil in an open cluster, where everybody may do everything.
	Access Access
	// TLS shows who the server is, by GetCertificate, and makes it one of HTTPS; nil: HTTP.
	TLS *tls.Config
	// Insecure says that an open cluster is reached over a network, which is then said on
	// every page.
	Insecure bool
	// NATS is the address at which slaves join, for people.
	NATS string
	// Uploads is a folder for files on their way to the master, of the server's own;
	// "": the system's for temporary files.
	Uploads string
	Version string // of snapdb
	Logger  *slog.Logger
}

// ErrNotLoopback is returned for an address that others than this machine reach.
var ErrNotLoopback = errors.New("refuse to listen for HTTP on a non-loopback address")

// Timeouts of the server. There is none for a whole request: files and results may
// be as long as they are, and their handlers watch over progress.
const (
	headerPatience = 5 * time.Second
	idlePatience   = 2 * time.Minute
	maxHeader      = 32 << 10
)

// Server is a panel being served.
type Server struct {
	o    Options
	log  *slog.Logger
	boot string
	bus  Bus

	hub     *hub
	logs    *logRing
	early   *earlyLines
	history history
	watch   *watch
	uploads chan struct{} // has a place for each file that may be on its way

	listener net.Listener
	http     *http.Server
	mux      *http.ServeMux
	refusal  handler // a page that says why there is no other

	deaf   []func()        // end the subscriptions
	ctx    context.Context // ends when the server stops
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// Start listens and serves. The error of an address that cannot be listened at is a
// *[net.OpError] or wraps [ErrNotLoopback].
func Start(o Options) (*Server, error) {
	if o.Listen == "" {
		o.Listen = DefaultListen
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Access == nil && !o.Insecure {
		if err := CheckListen(o.Listen); err != nil {
			return nil, err
		}
	}
	s := &Server{o: o, log: o.Logger, boot: rand.Text(), bus: o.Bus, mux: http.NewServeMux()}
	s.hub = &hub{s: s, viewers: map[*viewer]bool{}, changes: map[string]change{}}
	s.logs, s.early = newLogRing(), newEarlyLines()
	s.watch = newWatch(s)
	s.uploads = make(chan struct{}, maxUploads)
	if err := s.route(); err != nil {
		return nil, err
	}
	if err := sweepUploads(o.Uploads); err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return nil, err
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if err := s.subscribe(); err != nil {
		s.cancel()
		return nil, errors.Join(err, listener.Close())
	}
	if o.TLS != nil {
		listener = listenTLS(listener, o.TLS)
	}
	s.listener = listener
	s.http = &http.Server{
		Handler: s.guard(s.mux), ReadHeaderTimeout: headerPatience, IdleTimeout: idlePatience, MaxHeaderBytes: maxHeader,
		ErrorLog:    slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return s.ctx },
	}
	s.goes(func() { s.readEarly(s.ctx) })
	s.goes(func() { s.watch.run(s.ctx) })
	s.goes(func() {
		if err := s.http.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("the panel is not served any more", "error", err)
		}
	})
	return s, nil
}

// subscribe begins to listen to what is published.
func (s *Server) subscribe() error {
	for subject, fn := range map[string]func(string, []byte){
		subjects.NodeLog("*"):   s.onLog,
		subjects.CommandChanged: s.hub.onCommand,
	} {
		cancel, err := s.bus.Subscribe(subject, fn)
		if err != nil {
			s.unsubscribe()
			return fmt.Errorf("listen to what is published: %w", err)
		}
		s.deaf = append(s.deaf, cancel)
	}
	return nil
}

func (s *Server) unsubscribe() {
	for _, cancel := range s.deaf {
		cancel()
	}
}

// goes runs f in a goroutine that Stop waits for.
func (s *Server) goes(f func()) {
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		f()
	}()
}

// URL is where the panel is.
func (s *Server) URL() string {
	addr := s.listener.Addr().String()
	if host, port, err := net.SplitHostPort(s.o.Listen); err == nil && host == "localhost" && port != "0" {
		addr = s.o.Listen
	}
	if s.o.TLS != nil {
		return "https://" + addr
	}
	return "http://" + addr
}

// Stop ends what is live, lets requests in hand finish until ctx ends, and waits for
// everything it started.
func (s *Server) Stop(ctx context.Context) error {
	s.cancel()
	s.unsubscribe()
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(fmt.Errorf("stop serving the panel: %w", err), s.http.Close())
	}
	s.wg.Wait()
	return err
}
