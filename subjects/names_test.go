package subjects_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/snapdb/snapdb/subjects"
)

func TestCheckDatabase(t *testing.T) {
	for _, name := range []string{"SnapDB", "a", "_", "_a9", "snapdb", "mainly", "sqlite", "con1", "comma", "com", "lpt10", strings.Repeat("x", 63)} {
		if err := subjects.CheckDatabase(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{
		"", "../x", "a/b", `a\b`, "a.b", ".", "a b", "a-b", "9a", "a\x00", "a\n", "ü", "ａ", "\xff", "K\u212a", // KELVIN SIGN folds to k
		"main", "MAIN", "temp", "Temp", "sqlite_x", "SQLITE_x", "sqlite_", "_snapdb", "_SnapDB", "_snapdb_x",
		"con", "CON", "prn", "aux", "nul", "COM1", "com0", "Lpt9",
		strings.Repeat("x", 64), strings.Repeat("x", 300),
	} {
		err := subjects.CheckDatabase(name)
		if !errors.Is(err, subjects.ErrDatabaseName) {
			t.Errorf("%q: %v, want ErrDatabaseName", name, err)
		} else if len(err.Error()) > 300 {
			t.Errorf("%q: the error has %d bytes", name[:10], len(err.Error()))
		}
	}
}

func TestCheckNodeID(t *testing.T) {
	for _, id := range []string{"snap1", "1", "A-b_c", "masters", strings.Repeat("x", 63)} {
		if err := subjects.CheckNodeID(id); err != nil {
			t.Errorf("%q: %v", id, err)
		}
	}
	for _, id := range []string{
		"", "a.b", "*", ">", "a b", "-a", "_a", "../x", "a/b", "a\x00", "\r\n", "ü", "\xff", "master", "Master",
		strings.Repeat("x", 64), strings.Repeat("x", 300),
	} {
		if err := subjects.CheckNodeID(id); !errors.Is(err, subjects.ErrNodeID) {
			t.Errorf("%q: %v, want ErrNodeID", id, err)
		}
	}
}

func TestSplitNode(t *testing.T) {
	for _, subject := range []string{subjects.NodeAck("a"), subjects.NodeQuery("a"), subjects.NodeCtl("a"), subjects.NodeStatus("a"), subjects.NodeLog("a")} {
		id, word, ok := subjects.SplitNode(subject)
		if !ok || id != "a" || subject != "node."+id+"."+word {
			t.Errorf("%s: %q %q %v", subject, id, word, ok)
		}
	}
	if id, word, ok := subjects.SplitNode("node.master.log"); !ok || id != subjects.MasterID || word != "log" {
		t.Errorf("the master's log: %q %q %v", id, word, ok)
	}
	for _, subject := range []string{"", "node", "node.", "node.a", "node.a.", "node..ack", "node.a.b.c", "nodes.a.ack", "node.master.ack", "node.*.ack", "db.exec", "node.Master.log"} {
		if id, word, ok := subjects.SplitNode(subject); ok || id != "" || word != "" {
			t.Errorf("%s: %q %q %v", subject, id, word, ok)
		}
	}
}

// The vectors were computed with sha256sum; a change of them is a change of the
// log's format.
func TestNextChain(t *testing.T) {
	first := subjects.FirstChain(12)
	if got, want := first.String(), "cfdf21e2ba8e53a41f8a2934a8257a7d"; got != want {
		t.Errorf("first chain %s, want %s", got, want)
	}
	next := subjects.NextChain(first, 12, []byte(`{"v":1}`))
	if got, want := next.String(), "c624886c185b7991d94ea3a6b98991b2"; got != want {
		t.Errorf("next chain %s, want %s", got, want)
	}
	for _, other := range []subjects.Chain{
		subjects.NextChain(subjects.FirstChain(13), 12, []byte(`{"v":1}`)),
		subjects.NextChain(first, 13, []byte(`{"v":1}`)),
		subjects.NextChain(first, 12, []byte(`{"v":2}`)),
		subjects.NextChain(first, 12, nil),
	} {
		if other == next {
			t.Error("another history has the same chain")
		}
	}
	var back subjects.Chain
	text, _ := next.MarshalText()
	if err := back.UnmarshalText(text); err != nil || back != next {
		t.Errorf("%s read back as %s, %v", text, back, err)
	}
}

func TestParseAck(t *testing.T) {
	for _, s := range []string{"log", "insync", "all", "1", "2", "1000000"} {
		a, err := subjects.ParseAck(s)
		if err != nil || a.String() != s {
			t.Errorf("%q: %v, %v", s, a, err)
		}
	}
	for _, s := range []string{"", "LOG", "0", "-1", "1.5", "1e3", "9999999", "none", strings.Repeat("9", 300)} {
		if _, err := subjects.ParseAck(s); !errors.Is(err, subjects.ErrAck) {
			t.Errorf("%q: %v, want ErrAck", s, err)
		}
	}
}
