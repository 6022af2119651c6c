package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// The master is asked what it thinks of a proof after verdictFirst, then ever more
// seldom up to verdictEvery, for verdictPatience in all.
const (
	verdictFirst    = 50 * time.Millisecond
	verdictEvery    = time.Second
	verdictPatience = 5 * time.Minute
)

// prove sums up what a copy holds now, which is its state at a message that asks for
// it, and tells the master. The summing up goes on in the background.
func (s *Slave) prove(d *exec.Database, m *subjects.Message, how subjects.VerifyMode) {
	ses := s.current()
	if ses == nil {
		return
	}
	p, err := s.prover.begin(d, m.Position, how)
	if !s.lanes.do(func() {
		r := &subjects.VerifyReport{V: subjects.Version}
		if err != nil {
			r.Failed = err.Error()
		} else {
			r, _ = p.run(s.life) // which need not end before the slave can
		}
		r.ID, r.Session, r.Database = s.id, ses.number, d.Name()
		r.Head = subjects.Head{Incarnation: d.Incarnation(), Position: m.Position, Chain: m.Header.Chain.String()}
		s.submit(ses, d, r)
	}) && err == nil {
		p.run(cancelled()) // it lets go of what it holds
	}
}

// cancelled is a context that has ended.
func cancelled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// submit tells the master what a copy holds, until it says what it thinks of that.
func (s *Slave) submit(ses *stay, d *exec.Database, r *subjects.VerifyReport) {
	data, err := json.Marshal(r)
	if err != nil {
		s.log.Error("cannot tell what a copy holds", "database", d.Name(), "error", err)
		return
	}
	ctx, cancel := context.WithTimeout(ses.ctx, verdictPatience)
	defer cancel()
	for pause := verdictFirst; ; pause = min(2*pause, verdictEvery) {
		verdict, err := s.verdict(ctx, data)
		switch {
		case ctx.Err() != nil:
			return // another session, or the end
		case err != nil:
			s.log.Debug("the master does not say whether a copy is equal", "database", d.Name(), "error", err)
		case verdict.Differs:
			s.differs(d, r, verdict)
			return
		case !verdict.Wait:
			return
		}
		if !sleep(ctx, pause) {
			return
		}
	}
}

// verdict asks the master once.
func (s *Slave) verdict(ctx context.Context, report []byte) (*subjects.VerifyVerdict, error) {
	ctx, cancel := context.WithTimeout(ctx, joinPatience)
	defer cancel()
	msg, err := s.nc.RequestWithContext(ctx, subjects.Verified, report)
	if err != nil {
		return nil, err
	}
	var v struct {
		subjects.VerifyVerdict
		Error *struct{ Message string } `json:"error"`
	}
	if err := json.Unmarshal(msg.Data, &v); err != nil {
		return nil, fmt.Errorf("read verdict: %w", err)
	}
	if v.Error != nil {
		return nil, fmt.Errorf("the master says: %s", v.Error.Message)
	}
	return &v.VerifyVerdict, nil
}

// differs stops a copy that is not what it should be; it will be replaced.
func (s *Slave) differs(d *exec.Database, r *subjects.VerifyReport, v *subjects.VerifyVerdict) {
	l := s.lane(d)
	if r.Damage != "" {
		l.ruin(r.Damage)
		return
	}
	what := "its content"
	if len(v.Tables) > 0 {
		what = strings.Join(v.Tables, ", ")
	}
	l.diverge(fmt.Sprintf("at position %d the copy differs from the master's: %s", r.Position, what))
}
