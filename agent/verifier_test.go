package agent

import (
	"testing"
	"time"

	"github.com/snapdb/snapdb/subjects"
)

// What a comparison has cost is rested for, whatever small ones come after it.
func TestVerifierRestsForWhatItCost(t *testing.T) {
	t.Parallel()
	v, now := newVerifier(nil), time.Now()
	if v.rests(now) {
		t.Error("it rests after nothing")
	}
	v.mine = &comparing{worked: time.Minute}
	if v.rests(now) {
		t.Error("it rests before it knows for how long")
	}
	for _, worked := range []time.Duration{time.Minute, time.Millisecond} { // the second was urgent
		v.mine = &comparing{own: &subjects.VerifyReport{}, worked: worked}
		if !v.rests(now) {
			t.Errorf("it does not rest after %v", worked)
		}
	}
	if !v.rests(now.Add(19 * time.Minute)) {
		t.Error("a short one ended the rest of a long one")
	}
	if v.rests(now.Add(21 * time.Minute)) {
		t.Error("it rests for too long")
	}
}
