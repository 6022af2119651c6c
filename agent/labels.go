package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"

	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// maxLabels is how many labels a node may have.
const maxLabels = 64

// labels are those that a node was started with, under those that it was given by
// command, which its data directory keeps.
type labels struct {
	path string

	mu      sync.Mutex
	started map[string]string
	given   map[string]string // "" removes one of started
}

func openLabels(dir string, started map[string]string) (*labels, error) {
	for key, value := range started {
		if err := subjects.CheckLabel(key, value); err != nil {
			return nil, err
		}
	}
	l := &labels{path: filepath.Join(dir, "labels.json"), started: started, given: map[string]string{}}
	data, err := os.ReadFile(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err == nil {
		err = subjects.PlainJSON(data, json.Unmarshal(data, &l.given))
	}
	if err != nil {
		return nil, fmt.Errorf("read labels: %s: %w", l.path, err)
	}
	return l, nil
}

// all are the labels that the node has.
func (l *labels) all() map[string]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.with(l.given)
}

func (l *labels) with(given map[string]string) map[string]string {
	all := map[string]string{}
	maps.Copy(all, l.started)
	maps.Copy(all, given)
	maps.DeleteFunc(all, func(_, value string) bool { return value == "" })
	return all
}

// change gives and removes labels and returns those that the node has then.
func (l *labels) change(set map[string]string, remove []string) (map[string]string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	given := maps.Clone(l.given)
	maps.Copy(given, set)
	for _, key := range remove {
		if delete(given, key); l.started[key] != "" {
			given[key] = ""
		}
	}
	all := l.with(given)
	if len(all) > maxLabels {
		return nil, fmt.Errorf("a node may have %d labels, these would be %d", maxLabels, len(all))
	}
	data, err := json.Marshal(given)
	if err == nil {
		err = exec.WriteFile(l.path, data)
	}
	if err != nil {
		return nil, fmt.Errorf("keep labels: %w", err)
	}
	l.given = given
	return all, nil
}
