package agent

import (
	"testing"
	"time"
)

func TestMostSlavesAccuseTheMaster(t *testing.T) {
	now := time.Now()
	a := accusations{}
	steps := []struct {
		after       time.Duration
		node        string
		withdrawn   bool
		most, early bool
	}{
		{0, "s1", false, false, true},
		{time.Second, "s1", false, false, true},
		{accuseWait, "s1", false, false, false},
		{accuseWait, "s2", false, true, true}, // two of three
		{accuseWait, "s1", false, true, false},
		{accuseWait, "s2", true, false, false},
		{accuseWait, "s1", false, false, false},
		{accuseWait + accusedFor + time.Second, "s2", false, false, true}, // s1's word is old
	}
	for i, s := range steps {
		if s.withdrawn {
			a.withdraw("d", s.node)
			continue
		}
		if most, early := a.add("d", s.node, 3, now.Add(s.after)); most != s.most || early != s.early {
			t.Errorf("step %d: most %v, early %v", i, most, early)
		}
	}
	if most, _ := (accusations{}).add("d", "only", 1, now); most {
		t.Error("a single slave is most of them")
	}
	a.withdraw("d", "s1")
	a.withdraw("d", "s2")
	a.withdraw("other", "s1")
	if len(a) != 0 {
		t.Errorf("left: %v", a)
	}
}
