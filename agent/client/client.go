// Package client is how a program talks to a cluster: SQL at the doors of the
// master and of single nodes, the state of the cluster, and commands to nodes,
// all by request and reply over one NATS connection.
//
// A [Client] may be shared by any number of goroutines, and should be: requests
// that leave together travel in one write, and their answers arrive in one read.
// For the same reason all of them share one inbox.
//
// It keeps no state of the cluster, retries nothing and hides no failure: a write
// whose answer is lost is reported as such ([ErrLost]), because only the caller
// knows whether doing it again is harmless. Chunks of blobs are the exception:
// there it always is.
package client

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/snapdb/snapdb/broker"
	"github.com/snapdb/snapdb/subjects"
)

// DefaultURL is where a master listens unless told otherwise.
const DefaultURL = "nats://127.0.0.1:4222"

// Defaults of [Options].
const (
	DefaultName           = "snapdb-client"
	DefaultConnectTimeout = 5 * time.Second
)

// reconnectWait is the pause between two tries to reach a lost master again.
const reconnectWait = 200 * time.Millisecond

// pingEvery is how often a silent connection is tried; it is lost after two pings
// without an answer.
const pingEvery = 10 * time.Second

// maxPooled is the largest encoding buffer kept for the next request, in bytes.
const maxPooled = 1 << 20

// Options of [Connect]. The zero value is good.
type Options struct {
	// Name is shown by the broker beside the connection; "": DefaultName.
	Name string
	// User and Secret, a password or an API token, are for a secured cluster; "": show
	// nothing.
	User, Secret string
	// Secured says that the cluster is, to a client that shows nothing by itself.
	Secured bool
	// With are more options of the connection, with which the others are then overruled:
	// those of a master's own process.
	With []nats.Option
	// ConnectTimeout bounds the first connection; 0: DefaultConnectTimeout.
	ConnectTimeout time.Duration
	// TLS says by what the master is known, and that nothing is said to it without;
	// package pki makes one. nil: the scheme of the URL and the broker decide, and the
	// system's roots.
	TLS *tls.Config
}

// Client is one connection to a cluster. It is safe for concurrent use.
type Client struct {
	nc    *nats.Conn
	api   string // prefix of what is open of JetStream
	inbox *inbox
	bufs  sync.Pool // of *[]byte: encoded requests
}

// Connect reaches the broker at url ("": DefaultURL). The error wraps
// [ErrUnreachable] when nobody answers there, [ErrDenied] when the broker does
// not let us in.
func Connect(ctx context.Context, url string, o Options) (*Client, error) {
	if url == "" {
		url = DefaultURL
	}
	if o.Name == "" {
		o.Name = DefaultName
	}
	if o.ConnectTimeout == 0 {
		o.ConnectTimeout = DefaultConnectTimeout
	}
	if end, ok := ctx.Deadline(); ok {
		o.ConnectTimeout = min(o.ConnectTimeout, time.Until(end))
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("connect to %s: %w", url, err)
	}
	inbox, err := o.inbox()
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", url, err)
	}
	box := newInbox(inbox)
	nc, err := nats.Connect(url, append([]nats.Option{
		o.login,
		nats.Name(o.Name),
		nats.Timeout(max(o.ConnectTimeout, time.Millisecond)),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(reconnectWait),
		// A request must fail at once while the connection is down, not wait
		// in a buffer and be executed when its caller has long gone.
		nats.ReconnectBufSize(-1),
		nats.PingInterval(pingEvery),
		nats.DisconnectErrHandler(func(nc *nats.Conn, _ error) {
			// After the answers that have arrived.
			if err := nc.Barrier(func() { box.failAll(ErrLost) }); err != nil {
				box.failAll(ErrLost) // closed: nothing is handed over any more
			}
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			if errors.Is(err, nats.ErrPermissionViolation) {
				box.deny(err)
			}
		}),
	}, o.With...)...)
	if err != nil {
		return nil, connectError(url, err)
	}
	c := &Client{nc: nc, inbox: box, api: jetstream.DefaultAPIPrefix}
	if o.Secured || o.User != "" || o.Secret != "" {
		c.api = broker.APIPrefix
	}
	if err := box.listen(nc); err != nil {
		nc.Close()
		return nil, fmt.Errorf("listen for answers: %w", err)
	}
	return c, nil
}

// login shows the server who the client is, and has it show the same.
func (o *Options) login(n *nats.Options) error {
	n.Secure, n.TLSConfig = o.TLS != nil, o.TLS
	n.User, n.Password = o.User, o.Secret
	if o.User != "" {
		n.InboxPrefix = subjects.UserInbox(subjects.CredentialName(o.User, o.Secret))
	}
	return nil
}

// inbox is a subject prefix for answers that nobody else has.
func (o *Options) inbox() (string, error) {
	n := nats.GetDefaultOptions()
	for _, set := range append([]nats.Option{o.login}, o.With...) {
		if err := set(&n); err != nil {
			return "", err
		}
	}
	inbox := nats.NewInbox()
	if n.InboxPrefix == "" {
		return inbox, nil
	}
	return n.InboxPrefix + inbox[strings.IndexByte(inbox, '.'):], nil
}

// Close ends the connection. Requests still waiting fail with [ErrClosed].
func (c *Client) Close() {
	c.inbox.close() // before the connection, whose end would look like a loss
	c.nc.Close()
}

// URL is the address of the broker that the client is connected to, or was last.
func (c *Client) URL() string { return c.nc.ConnectedUrlRedacted() }

// TLS says how the connection is encrypted; the error that it is not.
func (c *Client) TLS() (tls.ConnectionState, error) { return c.nc.TLSConnectionState() }

// Exec sends SQL of any kind to the master.
func (c *Client) Exec(ctx context.Context, r *subjects.Request) (*subjects.Response, error) {
	return c.Do(ctx, subjects.Exec, r)
}

// Query sends SQL that only reads to the master.
func (c *Client) Query(ctx context.Context, r *subjects.Request) (*subjects.Response, error) {
	return c.Do(ctx, subjects.Query, r)
}

// QueryNode sends SQL that only reads to node id's own copy.
func (c *Client) QueryNode(ctx context.Context, id string, r *subjects.Request) (*subjects.Response, error) {
	return c.Do(ctx, subjects.NodeQuery(id), r)
}

// Do sends a request to one of the doors for SQL and decodes the answer. An
// error of the server is a *[subjects.Error]; the response is then returned too,
// because it may say where a write is that was not acknowledged in time.
func (c *Client) Do(ctx context.Context, door string, r *subjects.Request) (*subjects.Response, error) {
	buf, _ := c.bufs.Get().(*[]byte)
	if buf == nil {
		buf = new([]byte)
	}
	body := subjects.AppendRequest((*buf)[:0], r)
	answer, err := c.DoRaw(ctx, door, body)
	if cap(body) <= maxPooled {
		*buf = body
		c.bufs.Put(buf)
	}
	if err != nil {
		return nil, err
	}
	resp := new(subjects.Response)
	if err := subjects.DecodeResponse(answer, resp); err != nil {
		return nil, fmt.Errorf("read answer of %s: %w", door, err)
	}
	if resp.Error != nil {
		return resp, resp.Error
	}
	return resp, nil
}

// DoRaw sends a body and returns the answer's, both as they travel. The body may
// be used again when DoRaw returns; the answer belongs to the caller.
func (c *Client) DoRaw(ctx context.Context, subject string, body []byte) ([]byte, error) {
	data, _, err := c.DoHeader(ctx, subject, nil, body)
	return data, err
}

// DoHeader is DoRaw with headers, and says whether the answer is a refusal: an
// answer that is not JSON, as of blob.get, does not tell by itself.
func (c *Client) DoHeader(ctx context.Context, subject string, header map[string][]string, body []byte) (data []byte, refused bool, err error) {
	if len(body) > subjects.MaxRequest {
		return nil, false, &TooBigError{Size: len(body)}
	}
	reply, w, err := c.inbox.open(subject)
	if err != nil {
		return nil, false, err
	}
	defer c.inbox.release(w)
	if header == nil {
		err = c.nc.PublishRequest(subject, reply, body)
	} else {
		err = c.nc.PublishMsg(&nats.Msg{Subject: subject, Reply: reply, Header: header, Data: body})
	}
	if err != nil {
		return nil, false, publishError(c.nc, err)
	}
	select {
	case a := <-w.answer:
		if a.err != nil {
			return nil, false, fmt.Errorf("wait for answer of %s: %w", subject, a.err)
		}
		if a.nobody {
			return nil, false, &UnreachableError{Door: subject}
		}
		return a.data, a.refused, nil
	case <-ctx.Done():
		return nil, false, waitError(ctx, subject)
	}
}

// Subscribe calls fn for what is published at a subject, one after the other. What
// fn does not take in time is dropped.
func (c *Client) Subscribe(subject string, fn func(subject string, data []byte)) (cancel func(), err error) {
	sub, err := c.nc.Subscribe(subject, func(m *nats.Msg) { fn(m.Subject, m.Data) })
	if err != nil {
		return nil, fmt.Errorf("subscribe %s: %w", subject, err)
	}
	return func() { _ = sub.Unsubscribe() }, nil // the connection is closed if this fails
}

// Info asks the master for the state of the whole cluster.
func (c *Client) Info(ctx context.Context) (*subjects.ClusterInfoResponse, error) {
	info := new(subjects.ClusterInfoResponse)
	if err := c.doJSON(ctx, subjects.ClusterInfo, struct{}{}, info); err != nil {
		return nil, fmt.Errorf("ask for the state of the cluster: %w", err)
	}
	return info, nil
}

// Forget makes the master forget slave id, which must not be connected.
func (c *Client) Forget(ctx context.Context, id string) error {
	if err := subjects.CheckNodeID(id); err != nil {
		return err
	}
	req := subjects.ForgetRequest{ID: id}
	if err := c.doJSON(ctx, subjects.Forget, req, &req); err != nil {
		return fmt.Errorf("forget node %s: %w", id, err)
	}
	return nil
}

// Snapshot asks the master for a snapshot of a database as it is now, and waits until
// it is durable.
func (c *Client) Snapshot(ctx context.Context, db string) (*subjects.Snapshot, error) {
	snap := new(subjects.Snapshot)
	if err := c.doJSON(ctx, subjects.SnapshotTake, subjects.SnapshotRequest{DB: db}, snap); err != nil {
		return nil, fmt.Errorf("snapshot of %s: %w", db, err)
	}
	return snap, nil
}

// Verify has a database compared on all nodes. The result may be that nothing is
// proven; an error is that nothing was compared.
func (c *Client) Verify(ctx context.Context, db string, deep bool) (*subjects.Verification, error) {
	req := subjects.VerifyRequest{DB: db, Deep: deep}
	if end, ok := ctx.Deadline(); ok {
		req.TimeoutMS = max(time.Until(end).Milliseconds()*9/10, 1) // the answer has to get here
	}
	v := new(subjects.Verification)
	if err := c.doJSON(ctx, subjects.Verify, req, v); err != nil {
		return nil, fmt.Errorf("verify %s: %w", db, err)
	}
	return v, nil
}

// Ctl gives a command straight to node id, without a record at the master, and
// returns how it stands there; one that failed is not an error here.
func (c *Client) Ctl(ctx context.Context, id string, req *subjects.CtlRequest) (*subjects.CtlResponse, error) {
	if err := subjects.CheckNodeID(id); err != nil {
		return nil, err
	}
	out := new(subjects.CtlResponse)
	if err := c.doJSON(ctx, subjects.NodeCtl(id), req, out); err != nil {
		return nil, fmt.Errorf("%s node %s: %w", req.Op, id, err)
	}
	return out, nil
}

// Status asks node id how it is.
func (c *Client) Status(ctx context.Context, id string) (*subjects.StatusMessage, error) {
	out, err := c.Ctl(ctx, id, &subjects.CtlRequest{Op: subjects.OpInfo})
	if err != nil {
		return nil, err
	}
	if out.State != subjects.CommandDone {
		return nil, fmt.Errorf("info node %s: %s", id, out.Reason)
	}
	st := new(subjects.StatusMessage)
	if err := json.Unmarshal(out.Output, st); err != nil {
		return nil, fmt.Errorf("info node %s: read answer: %w", id, err)
	}
	return st, nil
}

// doJSON is request and reply in the plain JSON of the control plane.
func (c *Client) doJSON(ctx context.Context, subject string, request, answer any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	data, err := c.DoRaw(ctx, subject, body)
	if err != nil {
		return err
	}
	if refused := subjects.DecodeRefusal(data); refused != nil {
		return refused
	}
	if err := json.Unmarshal(data, answer); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	return nil
}
