// Package panel puts the dashboard in front of a master: it gives it a connection
// to the broker, over which it speaks to the same doors as everybody.
package panel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/snapdb/snapdb/agent"
	"github.com/snapdb/snapdb/agent/client"
	"github.com/snapdb/snapdb/dashboard"
	"github.com/snapdb/snapdb/subjects"
)

// Options of [Start]. Master is required.
type Options struct {
	Listen string // HOST:PORT for HTTP; "": dashboard.DefaultListen
	Master *agent.Master
	// Insecure says that an open cluster may be reached over a network.
	Insecure bool
	Dir      string // for uploads, which are on their way through it; "": the usual one for such
	Version  string
	Logger   *slog.Logger
}

// Panel is a dashboard being served.
type Panel struct {
	*dashboard.Server
	client *client.Client
}

// Start connects to the master, inside this process, and serves the panel.
func Start(ctx context.Context, o Options) (*Panel, error) {
	entrance := o.Master.Entrance()
	c, err := client.Connect(ctx, "", client.Options{Name: "snapdb panel", With: o.Master.AsPanel(), Secured: entrance != nil})
	if err != nil {
		return nil, fmt.Errorf("connect the panel: %w", err)
	}
	d := dashboard.Options{
		Listen: o.Listen, Bus: bus{c}, NATS: o.Master.URL(), TLS: o.Master.TLS(), Insecure: o.Insecure,
		Uploads: o.Dir, Version: o.Version, Logger: o.Logger,
	}
	if entrance != nil {
		d.Access = entrance
	}
	s, err := dashboard.Start(d)
	if err != nil {
		c.Close()
		return nil, err
	}
	return &Panel{Server: s, client: c}, nil
}

// Stop ends the panel, and then its connection.
func (p *Panel) Stop(ctx context.Context) error {
	err := p.Server.Stop(ctx)
	p.client.Close()
	return err
}

// bus is a client as the dashboard wants it.
type bus struct{ *client.Client }

// Request sends a request, and says what the loss of an answer means.
func (b bus) Request(ctx context.Context, subject string, header map[string][]string, data []byte) (reply []byte, refused bool, err error) {
	reply, refused, err = b.DoHeader(ctx, subject, header, data)
	var long *client.TooBigError
	switch {
	case err == nil:
		return reply, refused, nil
	case errors.Is(err, client.ErrLost):
		return nil, false, subjects.Errorf(subjects.CodeOutcomeUnknown, "%v", err)
	case errors.Is(err, client.ErrTimeout):
		return nil, false, subjects.Errorf(subjects.CodeTimeout, "%v; it may still be carried out", err)
	case errors.Is(err, client.ErrDenied):
		return nil, false, subjects.Errorf(subjects.CodeDenied, "%v", err)
	case errors.Is(err, client.ErrBusy):
		return nil, false, subjects.Errorf(subjects.CodeBusy, "%v", err)
	case errors.As(err, &long):
		return nil, false, subjects.Errorf(subjects.CodeTooBig, "%v", err)
	}
	return nil, false, err
}
