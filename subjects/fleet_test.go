package subjects_test

import (
	"testing"

	"github.com/snapdb/snapdb/subjects"
)

func TestAppliedIsWhereNothingIsMissing(t *testing.T) {
	t.Parallel()
	r := &subjects.ClusterInfoResponse{Heads: map[string]subjects.Head{"a": {Position: 7}, "b": {Position: 9}}}
	for _, c := range []struct {
		n    subjects.NodeInfo
		want uint64
	}{
		{subjects.NodeInfo{}, 0},
		{subjects.NodeInfo{Status: &subjects.StatusMessage{Cursor: 5}}, 5},
		{subjects.NodeInfo{Status: &subjects.StatusMessage{Cursor: 5}, Acked: map[string]uint64{"a": 7, "b": 9}}, 9},
		{subjects.NodeInfo{Acked: map[string]uint64{"a": 7, "b": 9}}, 9},
		{subjects.NodeInfo{Status: &subjects.StatusMessage{Cursor: 5}, Acked: map[string]uint64{"a": 4, "b": 9}}, 5}, // stuck in a
		{subjects.NodeInfo{Status: &subjects.StatusMessage{Cursor: 5}, Acked: map[string]uint64{"a": 7, "b": 8}}, 8},
		{subjects.NodeInfo{Status: &subjects.StatusMessage{Cursor: 12}, Acked: map[string]uint64{"a": 7, "b": 9}}, 12},
	} {
		if got := r.Applied(&c.n); got != c.want {
			t.Errorf("%+v: %d, want %d", c.n, got, c.want)
		}
	}
}
