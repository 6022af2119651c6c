package agent

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// Bounds of what proving costs a node.
const (
	// proofSlice is how long the reading for a proof goes on without a rest, and
	// proofRest how long it then rests: a fifth of a core.
	proofSlice = 5 * time.Millisecond
	proofRest  = 20 * time.Millisecond
	// proofGentle is how long it goes on so; then it hurries, because SQLite's WAL
	// grows as long as somebody reads an old state.
	proofGentle = 30 * time.Second
	// proofLasts is when it is given up.
	proofLasts = 10 * time.Minute
	// proofTables is how many tables a report tells of.
	proofTables = 4096
	// proofReader is how long a state waits for a free connection: who writes waits too.
	proofReader = 100 * time.Millisecond
	// maxProofs is how many states a node holds on to at a time, of which it sums up one.
	maxProofs = 8
)

// errProofBusy: as many states are held on to as may be.
var errProofBusy = errors.New("the node is still busy with earlier comparisons")

// prover sums up what a node holds of a database at one position: one after the other,
// in the background.
type prover struct {
	held chan struct{} // holds a token for each state that is held on to
	turn chan struct{} // holds a token while one is at work
}

func newProver() *prover {
	return &prover{held: make(chan struct{}, maxProofs), turn: make(chan struct{}, 1)}
}

// proof is what a node holds at one position, while it is being found out.
type proof struct {
	p    *prover
	snap *exec.Snapshot
	how  subjects.VerifyMode
}

// begin holds on to what a database holds now, which must be its state at a position.
// The caller must run the proof.
func (p *prover) begin(d *exec.Database, at uint64, how subjects.VerifyMode) (*proof, error) {
	select {
	case p.held <- struct{}{}:
	default:
		return nil, errProofBusy
	}
	snap, err := d.Read(context.Background(), time.Now().Add(proofReader), subjects.Counters{})
	if err == nil {
		snap.SetDeadline(time.Now().Add(proofLasts))
		snap.Yield()
	}
	if err == nil && snap.Position().Number != at {
		snap.Close()
		err = errors.New("the copy went on meanwhile")
	}
	if err != nil {
		<-p.held
		return nil, err
	}
	return &proof{p: p, snap: snap, how: how}, nil
}

// run sums up, and says how long it was at work for that, rests aside. What goes wrong is
// part of the report.
func (f *proof) run(ctx context.Context) (r *subjects.VerifyReport, worked time.Duration) {
	defer func() {
		f.snap.Close()
		<-f.p.held
	}()
	select {
	case f.p.turn <- struct{}{}:
		defer func() { <-f.p.turn }()
	case <-ctx.Done():
		return &subjects.VerifyReport{V: subjects.Version, Failed: "the node is stopping"}, 0
	}
	begun := time.Now()
	r, rested := f.sum(ctx, begun)
	return r, time.Since(begun) - rested
}

// sum sums up what is held on to, and says for how long it rested meanwhile.
func (f *proof) sum(ctx context.Context, begun time.Time) (r *subjects.VerifyReport, rested time.Duration) {
	r = &subjects.VerifyReport{V: subjects.Version}
	slice := begun
	sum, err := f.snap.ChecksumGently(ctx, func() {
		if now := time.Now(); now.Sub(slice) >= proofSlice && now.Sub(begun) < proofGentle {
			sleep(ctx, proofRest)
			slice = time.Now()
			rested += slice.Sub(now)
		}
	})
	if err == nil && f.how == subjects.VerifyDeep {
		r.Damage, err = f.snap.Integrity(ctx)
	}
	switch {
	case exec.Damaged(err):
		r.Damage = err.Error()
		return r, rested
	case err != nil:
		r.Failed = err.Error()
		return r, rested
	}
	r.Rows, r.Sum = sum.Rows, sum.Sum.String()
	if len(sum.Tables) <= proofTables {
		for _, t := range sum.Tables {
			r.Tables = append(r.Tables, subjects.TableSum{Table: t.Table, Rows: t.Rows, Sum: t.Sum.String()})
		}
	}
	return r, rested
}

// differing are the tables of which two reports say different things; without any it
// is the schema, or something else that is not in a table.
func differing(a, b *subjects.VerifyReport) []string {
	if len(a.Tables) == 0 || len(b.Tables) == 0 {
		return nil
	}
	sums := map[string]subjects.TableSum{}
	for _, t := range a.Tables {
		sums[t.Table] = t
	}
	var names []string
	for _, t := range b.Tables {
		if sums[t.Table] != t {
			names = append(names, t.Table)
		}
		delete(sums, t.Table)
	}
	for name := range sums {
		names = append(names, name)
	}
	if len(names) == 0 {
		names = append(names, "(schema)")
	}
	slices.Sort(names)
	return names
}
