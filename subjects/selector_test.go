package subjects

import "testing"

func TestSelectorPicksByLabelsAndFacts(t *testing.T) {
	node := &NodeInfo{ID: "snap1", State: StateOnline, Status: &StatusMessage{OS: "linux", Arch: "amd64", Labels: map[string]string{"room": "lab1"}}}
	for text, want := range map[string]bool{
		"room=lab1": true, "room=lab2": false, "room!=lab2": true, "room!=lab1": false,
		"room=lab1,os=linux": true, " room = lab1 , os=windows": false, "id=snap1": true,
		"state=online,arch=amd64": true, "floor=2": false, "floor!=2": true,
	} {
		s, err := ParseSelector(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if got := s.Matches(node); got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
		again, err := ParseSelector(s.String())
		if err != nil || again.Matches(node) != want {
			t.Errorf("%s is written as %s, which reads otherwise (%v)", text, s, err)
		}
	}
	if s, _ := ParseSelector("room=lab1"); s.Matches(&NodeInfo{ID: "never-seen"}) {
		t.Error("a node without status has a label")
	}
}

func TestSelectorsThatSayNothingAreRefused(t *testing.T) {
	for _, text := range []string{"", " ", "room", "room=", "=lab1", ",", "room=lab1,", "!=x", "ro om=1", "room=a\x00b"} {
		if s, err := ParseSelector(text); err == nil {
			t.Errorf("%q was read as %v", text, s)
		}
	}
}
