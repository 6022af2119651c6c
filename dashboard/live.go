package dashboard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/snapdb/snapdb/subjects"
)

// Limits of a WebSocket.
const (
	maxLive       = 64               // open at a time
	maxWatch      = 4 << 10          // bytes of a message of a browser
	writePatience = 10 * time.Second // for a browser that takes nothing
	livePing      = 20 * time.Second // between looks whether it is still there
	liveEvery     = 50 * time.Millisecond
)

// topic is what a browser may watch.
type topic string

// The topics.
const (
	topicCluster  topic = "cluster"
	topicCommands topic = "commands"
	topicLogs     topic = "logs"
	topicSamples  topic = "samples"
)

// watchMessage is what a browser says it wants to see.
type watchMessage struct {
	Type   string  `json:"type"`
	Topics []topic `json:"topics"`
	Node   string  `json:"node,omitempty"`  // only this one's logs and commands
	After  uint64  `json:"after,omitempty"` // log lines after this one
}

// wants says whether a topic is watched.
func (m *watchMessage) wants(t topic) bool { return slices.Contains(m.Topics, t) }

// decodeWatch reads a message of a browser. The error is for whoever wrote it.
func decodeWatch(data []byte) (*watchMessage, error) {
	m := new(watchMessage)
	if err := subjects.DecodeStrict(data, m); err != nil {
		return nil, err
	}
	if m.Type != "watch" {
		return nil, fmt.Errorf(`the only type of message is "watch", not %q`, clip(m.Type))
	}
	for _, t := range m.Topics {
		switch t {
		case topicCluster, topicCommands, topicLogs, topicSamples:
		default:
			return nil, fmt.Errorf("no topic %q: there are cluster, commands, logs and samples", clip(string(t)))
		}
	}
	if m.Node != "" {
		if err := subjects.CheckNodeID(m.Node); err != nil && m.Node != subjects.MasterID {
			return nil, err
		}
	}
	return m, nil
}

// live is the WebSocket on which a browser watches.
func (s *Server) live(w http.ResponseWriter, r *http.Request) error {
	v, err := s.hub.admit(visitorOf(r.Context()))
	if err != nil {
		return err
	}
	defer s.hub.leave(v)
	s.wg.Add(1) // before Accept: of what is not HTTP any more, Shutdown knows nothing
	defer s.wg.Done()
	// Accept demands that the Origin, if there is one, is this server.
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return errAnswered // Accept has
	}
	defer conn.CloseNow()
	conn.SetReadLimit(maxWatch)
	ctx, cancel := context.WithCancel(v.who.in(s.ctx))
	defer cancel()
	read := make(chan error, 1)
	if v.who.name != "" {
		s.goes(func() {
			defer cancel()
			v.stay(ctx, conn)
		})
	}
	s.goes(func() {
		defer cancel()
		read <- v.read(ctx, conn)
	})
	err = v.write(ctx, conn)
	if s.ctx.Err() != nil {
		farewell(conn, websocket.StatusGoingAway, "the master stops")
	} else if err == nil {
		err = <-read
	}
	var bad *badWatch
	if errors.As(err, &bad) {
		farewell(conn, websocket.StatusPolicyViolation, bad.Error())
	}
	return errAnswered
}

// Codes of the end of a WebSocket, for the page.
const (
	statusLogin  websocket.StatusCode = 4401 // log in again
	statusRights websocket.StatusCode = 4403 // the page is to be made anew, for other rights
)

// stayEvery is how often it is looked whether who watches may still do so.
const stayEvery = 300 * time.Millisecond

// stay ends the connection when the session is over, or has other rights, or else when
// ctx ends.
func (v *viewer) stay(ctx context.Context, conn *websocket.Conn) {
	tick := time.NewTicker(stayEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now, err := v.hub.s.o.Access.Look(v.who.name)
		switch {
		case err != nil:
			farewell(conn, statusLogin, "the session is over: log in again")
			return
		case !v.who.sameRights(now):
			farewell(conn, statusRights, "the user has other rights now")
			return
		}
	}
}

// farewellPatience is how long a browser may take to agree to the end.
const farewellPatience = time.Second

// farewell ends a connection with a reason, without waiting long for a browser that
// does not listen.
func farewell(conn *websocket.Conn, code websocket.StatusCode, reason string) {
	late := time.AfterFunc(farewellPatience, func() { conn.CloseNow() })
	defer late.Stop()
	_ = conn.Close(code, reason)
}

// errAnswered says that nothing is left to answer.
var errAnswered = errors.New("answered")

// badWatch is a message that a browser should not have sent.
type badWatch struct{ error }

// read takes what the browser says until it goes.
func (v *viewer) read(ctx context.Context, conn *websocket.Conn) error {
	for {
		kind, data, err := conn.Read(ctx)
		if err != nil {
			return err
		}
		if kind != websocket.MessageText {
			return &badWatch{errors.New("messages are text")}
		}
		m, err := decodeWatch(data)
		if err != nil {
			return &badWatch{errors.New(reason(err))}
		}
		v.watch(m)
	}
}

// reason is an error that fits the frame that closes a WebSocket.
func reason(err error) string {
	const most = 120
	text := strings.ToValidUTF8(err.Error(), "?")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "")
	}
	return text
}

// write sends whatever is new until ctx ends or the browser goes.
func (v *viewer) write(ctx context.Context, conn *websocket.Conn) error {
	hello := map[string]any{"type": "hello", "boot": v.hub.s.boot, "version": v.hub.s.o.Version, "nats": v.hub.s.o.NATS, "time": time.Now().UTC()}
	if v.who.name != "" {
		hello["user"] = v.who.User
	}
	first, err := json.Marshal(hello)
	if err != nil {
		return err
	}
	if err := send(ctx, conn, first); err != nil {
		return err
	}
	ping := time.NewTicker(livePing)
	defer ping.Stop()
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ping.C:
			limited, cancel := context.WithTimeout(ctx, writePatience)
			err := conn.Ping(limited)
			cancel()
			if err != nil {
				return err
			}
		case <-v.news:
			for frame, err := range v.frames(ctx) {
				if err == nil {
					err = send(ctx, conn, frame)
				}
				if err != nil {
					return err
				}
			}
			pause.Reset(liveEvery)
			select {
			case <-pause.C:
			case <-ctx.Done():
				return nil
			}
		}
	}
}

// send writes a frame to a browser that must take it in time.
func send(ctx context.Context, conn *websocket.Conn, frame []byte) error {
	limited, cancel := context.WithTimeout(ctx, writePatience)
	defer cancel()
	return conn.Write(limited, websocket.MessageText, frame)
}
