package subjects

import (
	"encoding/json"
	"strings"
	"testing"
)

const someDigest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

func TestArgumentsThatAreRight(t *testing.T) {
	for _, c := range [][2]string{
		{"ping", ""}, {"ping", "{}"}, {"info", "null"}, {"files", ""},
		{"shutdown", ""}, {"shutdown", `{"mode":"host","grace_ms":60000,"message":"lunch"}`}, {"reboot", `{"grace_ms":1}`},
		{"wallpaper", `{"restore":true}`}, {"wallpaper", `{"digest":"` + someDigest + `","size":3}`},
		{"push", `{"digest":"` + someDigest + `","size":0,"name":"a/b.txt"}`}, {"fetch", `{"name":"ünïcode …"}`},
		{"logs", `{"lines":5,"level":"WARN"}`}, {"label", `{"set":{"room":"lab1"},"remove":["os/x"]}`},
		{"resync", `{"databases":["A"]}`}, {"resync", ""}, {"abort", `{"id":"x"}`},
	} {
		if err := CheckArgs(Op(c[0]), json.RawMessage(c[1])); err != nil {
			t.Errorf("%s %s: %v", c[0], c[1], err)
		}
	}
}

func TestArgumentsThatAreWrong(t *testing.T) {
	for _, c := range [][3]string{
		{"fly", "", "known are abort, fetch, files"}, {"", "", "unknown op"},
		{"ping", `{"x":1}`, "unknown field"}, {"ping", `[]`, "malformed"}, {"ping", `{} {}`, "follows"}, {"ping", "{\"\xff\":1}", "UTF-8"},
		{"shutdown", `{"mode":"planet"}`, "agent or host"}, {"shutdown", `{"grace_ms":-1}`, "grace_ms"}, {"shutdown", `{"grace_ms":"1"}`, "malformed"},
		{"shutdown", `{"message":"\u0007"}`, "control"}, {"reboot", `{"mode":"host"}`, "no mode"},
		{"wallpaper", ``, "SHA-256"}, {"wallpaper", `{"restore":true,"digest":"` + someDigest + `"}`, "either"},
		{"push", `{"digest":"abc","size":1,"name":"x"}`, "SHA-256"}, {"push", `{"digest":"` + someDigest + `","size":-1,"name":"x"}`, "negative"},
		{"push", `{"digest":"` + someDigest + `","size":1,"name":"../x"}`, "inside"}, {"push", `{"digest":"` + someDigest + `","size":1,"name":""}`, "bytes"},
		{"fetch", `{"name":"/etc/passwd"}`, "inside"}, {"fetch", `{"name":"a/../../x"}`, "inside"}, {"fetch", `{"name":"c:\\x"}`, "colons"}, {"fetch", `{"name":"a\u0000"}`, "control"},
		{"logs", `{"lines":-1}`, "lines"}, {"logs", `{"level":"loud"}`, "level"},
		{"label", `{"set":{"":"x"}}`, "label key"}, {"label", `{"set":{"a":"x,y"}}`, "no ','"}, {"label", `{"remove":["a b"]}`, "label key"},
		{"resync", `{"databases":["../x"]}`, "invalid database name"}, {"abort", "", "id"},
	} {
		err := CheckArgs(Op(c[0]), json.RawMessage(c[1]))
		if err == nil || !strings.Contains(err.Error(), c[2]) {
			t.Errorf("%s %s: %v, want %q", c[0], c[1], err, c[2])
		}
	}
}

func FuzzArguments(f *testing.F) {
	f.Add("shutdown", []byte(`{"mode":"agent"}`))
	f.Add("push", []byte(`{"digest":"","size":1,"name":"a"}`))
	f.Fuzz(func(t *testing.T, op string, args []byte) {
		if err := CheckArgs(Op(op), args); err == nil && len(args) > 0 && !json.Valid(args) {
			t.Errorf("%s: %q is no JSON and was taken", op, args)
		}
	})
}
