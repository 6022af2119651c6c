package agent_test

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/snapdb/snapdb/agent"
	"github.com/snapdb/snapdb/agent/client"
	"github.com/snapdb/snapdb/broker/brokertest"
	"github.com/snapdb/snapdb/broker/pki"
	"github.com/snapdb/snapdb/subjects"
)

// cluster is a real master with real slaves, all in this process.
type cluster struct {
	t      testing.TB
	dir    string
	opts   agent.MasterOptions
	m      *agent.Master
	slaves map[string]*agent.Slave
	c      *client.Client

	power   agent.Power      // of slaves started from now on
	desktop agent.Wallpaper  // likewise
	reads   agent.Reads      // likewise
	clients []*client.Client // closed at the end

	// Of a secured cluster.
	user, secret string            // of who connects
	tokens       map[string]string // of nodes, by id
}

// newCluster starts a master and slaves, and waits until all are in sync. Its end
// is that all nodes that still run hold the same.
func newCluster(t testing.TB, opts agent.MasterOptions, slaves ...string) *cluster {
	t.Helper()
	c := &cluster{t: t, dir: t.TempDir(), opts: opts, slaves: map[string]*agent.Slave{}, tokens: map[string]string{}}
	c.opts.Dir, c.opts.Listen, c.opts.Version = filepath.Join(c.dir, "master"), brokertest.Address(t), "test"
	if c.opts.Logger == nil {
		c.opts.Logger = quiet()
	}
	c.opts.Cheaply()
	if c.opts.VerifyEvery == 0 {
		c.opts.VerifyEvery = -1 // positions are those of the test's own writes
	}
	c.startMaster()
	t.Cleanup(c.down)
	for _, id := range slaves {
		c.startSlave(id)
	}
	c.untilInSync(slaves...)
	return c
}

func (c *cluster) startMaster() {
	c.t.Helper()
	brokertest.AwaitFree(c.t, c.opts.Listen)
	var err error
	if c.m, err = agent.StartMaster(testContext(c.t), c.opts); err != nil {
		c.t.Fatal(err)
	}
	if c.opts.Secure {
		c.takeOver()
	}
	c.c = c.connect()
}

// The admin of secured test clusters.
const (
	admin         = "admin"
	adminPassword = "correct horse battery"
)

// takeOver changes the password of the first user, if it has just been made.
func (c *cluster) takeOver() {
	c.t.Helper()
	if first := c.m.FirstPassword(); first != "" {
		cl := c.connectAs(admin, first)
		if err := cl.ChangePassword(testContext(c.t), first, adminPassword); err != nil {
			c.t.Fatal(err)
		}
	}
	c.user, c.secret = admin, adminPassword
}

// tls is by what clients of a secured cluster know its master.
func (c *cluster) tls() *tls.Config {
	c.t.Helper()
	if !c.opts.Secure {
		return nil
	}
	config, err := pki.ClientConfig(c.m.Fingerprint())
	if err != nil {
		c.t.Fatal(err)
	}
	return config
}

// token invites a node, once.
func (c *cluster) token(id string) string {
	c.t.Helper()
	if !c.opts.Secure {
		return ""
	}
	if c.tokens[id] == "" {
		made, err := c.c.Invite(testContext(c.t), subjects.InvitationRequest{})
		if err != nil {
			c.t.Fatal(err)
		}
		c.tokens[id] = made.Secret
	}
	return c.tokens[id]
}

// connect is one more client, closed at the end of the test.
func (c *cluster) connect() *client.Client {
	c.t.Helper()
	return c.connectAs(c.user, c.secret)
}

func (c *cluster) connectAs(user, secret string) *client.Client {
	c.t.Helper()
	cl, err := client.Connect(testContext(c.t), c.m.URL(), client.Options{Name: "test", User: user, Secret: secret, TLS: c.tls()})
	if err != nil {
		c.t.Fatal(err)
	}
	c.clients = append(c.clients, cl)
	return cl
}

// nats is a connection of a stranger.
func (c *cluster) nats() *nats.Conn {
	c.t.Helper()
	nc, err := nats.Connect(c.m.URL())
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(nc.Close)
	return nc
}

func (c *cluster) stopMaster() {
	c.t.Helper()
	if c.m == nil {
		return
	}
	m := c.m
	c.m = nil
	if err := m.Stop(testContext(c.t)); err != nil {
		c.t.Errorf("stop master: %v", err)
	}
}

func (c *cluster) startSlave(id string) *agent.Slave {
	c.t.Helper()
	o := agent.SlaveOptions{URL: "nats://" + c.opts.Listen, ID: id, Dir: filepath.Join(c.dir, id), Token: c.token(id), Reads: c.reads, Power: c.power, Wallpaper: c.desktop, Version: "test", Logger: quiet()}
	if c.opts.Sign != nil {
		o.Trust = []ed25519.PublicKey{c.opts.Sign.Public()}
	}
	s, err := agent.StartSlave(context.Background(), o)
	if err != nil {
		c.t.Fatal(err)
	}
	c.slaves[id] = s
	return s
}

func (c *cluster) stopSlave(id string) {
	c.t.Helper()
	stop(c.t, c.slaves[id])
	delete(c.slaves, id)
}

// down compares all nodes and stops them.
func (c *cluster) down() {
	if c.m != nil && !c.t.Failed() {
		c.same()
	}
	for id := range c.slaves {
		c.stopSlave(id)
	}
	c.stopMaster()
	for _, cl := range c.clients {
		cl.Close()
	}
}

// same fails unless all nodes come to hold the same content at the same positions.
func (c *cluster) same() {
	c.t.Helper()
	for id, s := range c.slaves {
		until(c.t, id+" is where the master is", func() bool { return cmp.Equal(c.m.Store().Heads(), s.Store().Heads()) })
		for _, d := range c.m.Store().Databases() {
			req := subjects.Request{DB: d.Name(), SQL: "SHOW CHECKSUM"}
			want, err := c.c.Query(testContext(c.t), &req)
			if err != nil {
				c.t.Fatal(err)
			}
			got, err := c.c.QueryNode(testContext(c.t), id, &req)
			if err != nil {
				c.t.Fatal(err)
			}
			if w, g := show(want.Results), show(got.Results); w != g || want.Position != got.Position {
				c.t.Errorf("%s on %s: %s at %d, on the master %s at %d", d.Name(), id, g, got.Position, w, want.Position)
			}
		}
	}
}

// show is the rows of results as text.
func show(results []subjects.Result) string {
	var b strings.Builder
	for i, r := range results {
		if i > 0 {
			b.WriteString(" | ")
		}
		for j, row := range r.Rows {
			if j > 0 {
				b.WriteString("; ")
			}
			for k, v := range row {
				if k > 0 {
					b.WriteByte(' ')
				}
				b.Write(subjects.AppendValue(nil, v))
			}
		}
	}
	return b.String()
}

// try sends a request to the door for all SQL.
func (c *cluster) try(req subjects.Request) (*subjects.Response, error) {
	return c.c.Exec(testContext(c.t), &req)
}

// do executes SQL that must succeed.
func (c *cluster) do(db, sql string, args ...subjects.Value) *subjects.Response {
	c.t.Helper()
	resp, err := c.try(subjects.Request{DB: db, SQL: sql, Args: args})
	if err != nil {
		c.t.Fatalf("%.200s: %v", sql, err)
	}
	return resp
}

// rows is what a query gives on the master.
func (c *cluster) rows(db, sql string) string {
	c.t.Helper()
	resp, err := c.c.Query(testContext(c.t), &subjects.Request{DB: db, SQL: sql})
	if err != nil {
		c.t.Fatalf("%s: %v", sql, err)
	}
	return show(resp.Results)
}

// fails executes SQL that must fail with a code, and returns the message.
func (c *cluster) fails(code subjects.Code, req subjects.Request) string {
	c.t.Helper()
	resp, err := c.try(req)
	return wantCode(c.t, fmt.Sprintf("%.200s", req.SQL), resp, err, code)
}

func wantCode(t testing.TB, what string, resp *subjects.Response, err error, code subjects.Code) string {
	t.Helper()
	var we *subjects.Error
	if !errors.As(err, &we) || we.Code != code {
		t.Errorf("%s: %+v, %v; want code %s", what, resp, err, code)
		return ""
	}
	return we.Message
}

// node is a slave as the master sees it.
func (c *cluster) node(id string) subjects.NodeInfo {
	c.t.Helper()
	for _, n := range c.m.Info(testContext(c.t)).Nodes {
		if n.ID == id {
			return n
		}
	}
	return subjects.NodeInfo{}
}

// untilInSync waits until slaves are in sync for every database.
func (c *cluster) untilInSync(ids ...string) {
	c.t.Helper()
	until(c.t, fmt.Sprint(ids, " in sync"), func() bool {
		for _, id := range ids {
			if n := c.node(id); n.State != subjects.StateOnline || len(n.InSync) != len(c.m.Store().Heads()) {
				return false
			}
		}
		return true
	})
}

// untilGone waits until the master knows that a slave has stopped.
func (c *cluster) untilGone(id string) {
	c.t.Helper()
	until(c.t, id+" is gone", func() bool {
		n := c.node(id)
		return n.State == subjects.StateStopped && len(n.InSync) == 0
	})
}

// pending is a request being executed.
type pending struct {
	t    testing.TB
	done chan struct{}
	resp *subjects.Response
	err  error
}

// start sends a request and does not wait for its answer.
func start(t testing.TB, do func() (*subjects.Response, error)) *pending {
	p := &pending{t: t, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.resp, p.err = do()
	}()
	return p
}

func (c *cluster) start(req subjects.Request) *pending {
	return start(c.t, func() (*subjects.Response, error) { return c.try(req) })
}

// answered says whether the answer is there.
func (p *pending) answered() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// wait returns the answer.
func (p *pending) wait() (*subjects.Response, error) {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		p.t.Fatal("no answer came")
	}
	return p.resp, p.err
}

// session is a conversation with the master, as a shell has it.
type session struct {
	*client.Session
	t testing.TB
}

func (c *cluster) session(db string) session { return session{c.c.NewSession(db), c.t} }

func (s session) try(sql string) (*subjects.Response, error) {
	return s.Do(testContext(s.t), &subjects.Request{SQL: sql})
}

func (s session) do(sql string) *subjects.Response {
	s.t.Helper()
	resp, err := s.try(sql)
	if err != nil {
		s.t.Fatalf("%s: %v", sql, err)
	}
	return resp
}

func (s session) fails(code subjects.Code, sql string) string {
	s.t.Helper()
	resp, err := s.try(sql)
	return wantCode(s.t, sql, resp, err, code)
}

func (s session) start(sql string) *pending {
	return start(s.t, func() (*subjects.Response, error) { return s.try(sql) })
}

// cancelled cancels until the request is answered: a cancel that comes before its
// request is lost. One that comes after it must not meet the next request: another
// session is cancelled, and cancels are heard in order.
func (c *cluster) cancelled(s session, p *pending) (*subjects.Response, error) {
	c.t.Helper()
	s.cancel(p)
	last := session{c.c.NewSession(s.DB()), c.t}
	last.cancel(last.start(endless))
	return p.wait()
}

func (s session) cancel(p *pending) {
	s.t.Helper()
	until(s.t, "cancelled", func() bool {
		if err := s.Cancel(); err != nil {
			s.t.Fatal(err)
		}
		return p.answered()
	})
}

// ask is a request in the plain JSON of the control plane.
func ask(t testing.TB, nc *nats.Conn, subject string, request, answer any) {
	t.Helper()
	body, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	msg, err := nc.RequestWithContext(testContext(t), subject, body)
	if err != nil {
		t.Fatalf("%s: %v", subject, err)
	}
	if err := json.Unmarshal(msg.Data, answer); err != nil {
		t.Fatalf("%s: %s: %v", subject, msg.Data, err)
	}
}
