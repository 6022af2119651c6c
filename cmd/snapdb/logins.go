package main

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/snapdb/snapdb/broker/pki"
	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// login is what is kept of a login: not the password, but a token that was made with it.
type login struct {
	Server  string    `json:"server"`
	User    string    `json:"user"`
	Token   string    `json:"token"`
	ID      string    `json:"id"` // of the token
	Pin     string    `json:"pin,omitempty"`
	CA      string    `json:"ca,omitempty"` // file
	Expires time.Time `json:"expires,omitzero"`
}

// logins are those of this user of the machine, the last first.
type logins struct {
	path string
	all  []login
}

// loginsFile is what the file is.
type loginsFile struct {
	Logins []login `json:"logins"`
}

// readLogins reads the file in which logins are kept, if it is there.
func readLogins() (*logins, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return &logins{}, nil // no home, no logins
	}
	l := &logins{path: filepath.Join(dir, "snapdb", "logins.json")}
	info, err := os.Stat(l.path)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		return l, nil // the latter is another user's, as behind sudo
	case err != nil:
		return nil, fmt.Errorf("read logins: %w", err)
	case info.Mode().Perm()&0o077 != 0 && runtime.GOOS != "windows":
		return nil, fmt.Errorf("others may read the tokens in %s (%v)\n  chmod 600 it, and log in again if somebody may have", l.path, info.Mode().Perm())
	}
	data, err := os.ReadFile(l.path)
	if err != nil {
		return nil, fmt.Errorf("read logins: %w", err)
	}
	var file loginsFile
	d := json.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(&file); err != nil {
		return nil, fmt.Errorf("read logins: %s: %w\n  remove it, and log in again", l.path, subjects.PlainJSON(data, err))
	}
	l.all = file.Logins
	return l, nil
}

// find is the last login at a server as a user; with "" at any, or as any.
func (l *logins) find(server, user string) *login {
	for _, is := range l.all {
		if (server == "" || sameServer(is.Server, server)) && (user == "" || is.User == user) {
			return &is
		}
	}
	return nil
}

// keep makes a login the last one, in the place of one at the same server as the same user.
func (l *logins) keep(is login) error {
	l.drop(is.Server, is.User)
	l.all = slices.Insert(l.all, 0, is)
	return l.write()
}

// know puts a new fingerprint of a server in the place of an old one.
func (l *logins) know(server, old, pin string) error {
	for i := range l.all {
		if is := &l.all[i]; sameServer(is.Server, server) && is.Pin == old {
			is.Pin = pin
		}
	}
	return l.write()
}

// drop forgets a login.
func (l *logins) drop(server, user string) {
	l.all = slices.DeleteFunc(l.all, func(is login) bool { return sameServer(is.Server, server) && is.User == user })
}

func (l *logins) write() error {
	if l.path == "" {
		return errors.New("keep the login: this user has no config directory: set HOME")
	}
	data, err := json.MarshalIndent(loginsFile{l.all}, "", "  ")
	if err == nil {
		err = os.MkdirAll(filepath.Dir(l.path), 0o700)
	}
	if err == nil {
		err = exec.WriteFile(l.path, append(data, '\n'))
	}
	if err != nil {
		return fmt.Errorf("keep the login: %w", err)
	}
	return nil
}

// sameServer says whether two URLs, or lists of such, are of the same addresses.
func sameServer(a, b string) bool { return slices.Equal(addresses(a), addresses(b)) }

// addresses are the HOST:PORT of a list of URLs.
func addresses(servers string) []string {
	var all []string
	for _, s := range strings.Split(strings.ToLower(servers), ",") {
		s = strings.TrimSpace(s)
		if _, rest, ok := strings.Cut(s, "://"); ok {
			s = rest
		}
		if at := strings.LastIndexByte(s, '@'); at >= 0 {
			s = s[at+1:]
		}
		s = strings.TrimSuffix(s, "/")
		if _, _, err := net.SplitHostPort(s); err != nil {
			s = net.JoinHostPort(strings.Trim(s, "[]"), "4222")
		}
		all = append(all, s)
	}
	return all
}

// knownBy is by what a master is known: a fingerprint, or the file of an authority. Without
// either, and with a secret to be told, it must be one that the system knows.
func knownBy(pin, ca string, secret bool) (*tls.Config, error) {
	switch {
	case pin != "" && ca != "":
		return nil, usageError(errors.New("give --pin or --ca, not both"))
	case ca != "":
		config, err := pki.ClientCA(ca)
		if err != nil {
			return nil, usageError(fmt.Errorf("--ca: %w", err))
		}
		return config, nil
	case pin != "" || secret:
		config, err := pki.ClientConfig(pin)
		if err != nil {
			return nil, usageError(fmt.Errorf("--pin: %w", err))
		}
		return config, nil
	}
	return nil, nil
}
