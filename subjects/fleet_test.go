package subjects_test

import (
	"testing"

	"github.com/snapdb/snapdb/subjects"
)

func TestAppliedIsTheNewestThatANodeHasSaid(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		n    subjects.NodeInfo
		want uint64
	}{
		{subjects.NodeInfo{}, 0},
		{subjects.NodeInfo{Acked: map[string]uint64{"a": 7}}, 0}, // of a session whose status has not come
		{subjects.NodeInfo{Status: &subjects.StatusMessage{Cursor: 5}}, 5},
		{subjects.NodeInfo{Status: &subjects.StatusMessage{Cursor: 5}, Acked: map[string]uint64{"a": 7, "b": 3}}, 7},
		{subjects.NodeInfo{Status: &subjects.StatusMessage{Cursor: 9}, Acked: map[string]uint64{"a": 7}}, 9},
	} {
		if got := c.n.Applied(); got != c.want {
			t.Errorf("%+v: %d, want %d", c.n, got, c.want)
		}
	}
}
