package main

import (
	"os"
	"runtime"
	"strings"
	"testing"
)

func TestSameServerHoweverItIsWritten(t *testing.T) {
	for _, server := range []string{"tls://DB1:4222", "nats://db1", "db1", " db1:4222 ", "tls://user:secret@db1:4222/"} {
		if !sameServer("tls://db1:4222", server) {
			t.Errorf("%q is another", server)
		}
	}
	for _, server := range []string{"tls://db1:4223", "db2", "db1,db2", ""} {
		if sameServer("tls://db1:4222", server) {
			t.Errorf("%q is the same", server)
		}
	}
	if !sameServer("tls://[::1]:4222", "[::1]") {
		t.Error("not the same IPv6 address")
	}
}

func TestTheLastLoginCounts(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	kept, err := readLogins()
	if err != nil || kept.find("", "") != nil {
		t.Fatalf("%+v, %v", kept, err)
	}
	for _, is := range []login{{Server: "tls://a", User: "x"}, {Server: "tls://a", User: "y"}, {Server: "tls://b", User: "x"}, {Server: "nats://a:4222", User: "x", Token: "new"}} {
		if err := kept.keep(is); err != nil {
			t.Fatal(err)
		}
	}
	if kept, err = readLogins(); err != nil || len(kept.all) != 3 {
		t.Fatalf("%+v, %v", kept, err)
	}
	for at, want := range map[[2]string]string{{"", ""}: "nats://a:4222 x new", {"", "y"}: "tls://a y ", {"b:4222", ""}: "tls://b x ", {"tls://a", ""}: "nats://a:4222 x new"} {
		if is := kept.find(at[0], at[1]); is == nil || is.Server+" "+is.User+" "+is.Token != want {
			t.Errorf("%v: %+v, want %s", at, is, want)
		}
	}
	if kept.find("c", "") != nil || kept.find("b", "y") != nil {
		t.Error("a login that never was")
	}
	if runtime.GOOS == "windows" {
		return
	}
	if err := os.Chmod(kept.path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := readLogins(); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("others may read it: %v", err)
	}
}
