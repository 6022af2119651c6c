package access

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/snapdb/snapdb/exec"
)

// FileName is the file in a master's data directory. Where it is, the cluster is a
// secured one.
const FileName = "access.json"

const fileVersion = 1

// envelope is the file: the sum is of the contents without white space, so that a
// damaged file is not taken for one with other rights in it.
type envelope struct {
	Version int             `json:"version"`
	Sum     string          `json:"sha256"`
	Access  json.RawMessage `json:"access"`
}

// contents are a state, each list in the order of its ids.
type contents struct {
	Users       []user       `json:"users"`
	Tokens      []token      `json:"tokens"`
	Sessions    []session    `json:"sessions"`
	Invitations []invitation `json:"invitations"`
	Nodes       []Node       `json:"nodes"`
}

// readFile is the state in a folder; a folder without the file has an empty one.
func readFile(dir string) (*state, error) {
	path := filepath.Join(dir, FileName)
	// What a crash left is no part of the state, and is not to be read by anybody.
	if err := os.Remove(path + ".tmp"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open users and rights: %w", err)
	}
	data, err := readPrivate(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(dir); err != nil {
			return nil, fmt.Errorf("open users and rights: %w", err)
		}
		return newState(), nil
	}
	if err != nil {
		return nil, fmt.Errorf("open users and rights: %w", err)
	}
	st, err := decode(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return st, nil
}

// readPrivate reads a file that nobody else may read or write.
func readPrivate(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	// Windows has no such bits: there the rights of the folder protect the file.
	if mode := info.Mode().Perm(); runtime.GOOS != "windows" && mode&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read or written by others than its owner (mode %04o): see who did, then chmod 600 it", path, mode)
	}
	return io.ReadAll(f)
}

// writeFile puts a state on stable storage: after a crash the old or the new one
// is there.
func writeFile(dir string, st *state) error {
	data, err := encode(st)
	if err == nil {
		err = exec.WriteFile(filepath.Join(dir, FileName), data)
	}
	if err != nil {
		return fmt.Errorf("save users and rights: %w", err)
	}
	return nil
}

func encode(st *state) ([]byte, error) {
	body, err := json.Marshal(contents{
		Users:       inOrder(st.users),
		Tokens:      inOrder(st.tokens),
		Sessions:    inOrder(st.sessions),
		Invitations: inOrder(st.invitations),
		Nodes:       inOrder(st.nodes),
	})
	if err != nil {
		return nil, err
	}
	data, err := json.MarshalIndent(envelope{fileVersion, sumOf(body), body}, "", "\t")
	return append(data, '\n'), err
}

func decode(data []byte) (*state, error) {
	var of struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(data, &of); err != nil {
		return nil, fmt.Errorf("damaged: restore it from a backup: %w", err)
	}
	if of.Version > fileVersion {
		return nil, fmt.Errorf("written by a newer snapdb (format %d, this one knows %d): start that one", of.Version, fileVersion)
	}
	st, err := decodeFirst(data)
	if err != nil {
		return nil, fmt.Errorf("damaged: restore it from a backup: %w", err)
	}
	return st, nil
}

// decodeFirst reads format 1.
func decodeFirst(data []byte) (*state, error) {
	var e envelope
	if err := strictly(data, &e); err != nil {
		return nil, err
	}
	if e.Version != 1 {
		return nil, fmt.Errorf("format %d is none", e.Version)
	}
	var body bytes.Buffer
	if err := json.Compact(&body, e.Access); err != nil {
		return nil, err
	}
	if sumOf(body.Bytes()) != e.Sum {
		return nil, errors.New("it is not what was written: its sum differs")
	}
	var c contents
	if err := strictly(body.Bytes(), &c); err != nil {
		return nil, err
	}
	return c.state()
}

func strictly(data []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("something follows the end")
	}
	return nil
}

func sumOf(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// entry is what a state is a list of.
type entry interface {
	id() string
	check(*state) error
}

// state is the whole of what is known. What is in its maps is never changed, only
// replaced, so that a copy of the maps is a copy of the state.
type state struct {
	users       map[string]user
	tokens      map[string]token
	sessions    map[string]session
	invitations map[string]invitation
	nodes       map[string]Node
	keys        map[string]string // of each key of a node, revoked ones too, the node's id
}

func newState() *state {
	st, _ := contents{}.state() // without entries there is nothing to refuse
	return st
}

// state makes the lists a state, and refuses what this package would not have
// written.
func (c contents) state() (*state, error) {
	st := &state{keys: map[string]string{}}
	var errs [5]error
	st.users, errs[0] = byID("user", c.Users)
	st.tokens, errs[1] = byID("token", c.Tokens)
	st.sessions, errs[2] = byID("session", c.Sessions)
	st.invitations, errs[3] = byID("invitation", c.Invitations)
	st.nodes, errs[4] = byID("node", c.Nodes)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	for id, n := range st.nodes {
		if st.keys[n.Key] != "" {
			return nil, fmt.Errorf("node %s: %w of this key", id, ErrExists)
		}
		st.keys[n.Key] = id
	}
	return st, errors.Join(checkAll(st, c.Users), checkAll(st, c.Tokens), checkAll(st, c.Sessions), checkAll(st, c.Invitations), checkAll(st, c.Nodes))
}

func byID[E entry](what string, list []E) (map[string]E, error) {
	m := make(map[string]E, len(list))
	for _, e := range list {
		if _, twice := m[e.id()]; twice {
			return nil, fmt.Errorf("%s %q is there twice", what, clip(e.id()))
		}
		m[e.id()] = e
	}
	return m, nil
}

func checkAll[E entry](st *state, list []E) error {
	for _, e := range list {
		if err := e.check(st); err != nil {
			return err
		}
	}
	return nil
}

func inOrder[E entry](m map[string]E) []E {
	list := make([]E, 0, len(m))
	for _, e := range m {
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b E) int { return cmp.Compare(a.id(), b.id()) })
	return list
}
