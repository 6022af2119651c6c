package subjects

import (
	"fmt"
	"sort"
	"strings"
)

// Selector picks nodes by their labels: all of its terms must hold.
type Selector []selectorTerm

type selectorTerm struct {
	key, value string
	not        bool
}

// Limits of labels, in bytes.
const (
	maxLabelKey   = 63
	maxLabelValue = 255
)

// ParseSelector reads "key=value,key!=value". Besides labels the keys id, os, arch
// and state are known. An empty selector is an error: what selects nothing and
// what selects everything must not look alike.
func ParseSelector(text string) (Selector, error) {
	var s Selector
	for _, part := range strings.Split(text, ",") {
		key, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		key, not := strings.CutSuffix(key, "!")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if !ok || value == "" {
			return nil, fmt.Errorf("selector %q: expected key=value or key!=value, separated by commas", clip(text))
		}
		if err := CheckLabel(key, value); err != nil {
			return nil, fmt.Errorf("selector %q: %w", clip(text), err)
		}
		s = append(s, selectorTerm{key: key, value: value, not: not})
	}
	return s, nil
}

// CheckLabel says whether a node may have a label: the key as [CheckNodeID] has it
// plus '.' and '/', the value up to 255 bytes without ',' and control characters.
func CheckLabel(key, value string) error {
	if key == "" || len(key) > maxLabelKey {
		return fmt.Errorf("label key %q: must have 1 to %d characters", clip(key), maxLabelKey)
	}
	for i := 0; i < len(key); i++ {
		if c := key[i]; !isLetter(c) && !isDigit(c) && (i == 0 || !strings.ContainsRune("-./", rune(c))) {
			return fmt.Errorf("label key %q: only letters, digits, '_', '-', '.' and '/', beginning with a letter or digit", clip(key))
		}
	}
	if len(value) > maxLabelValue {
		return fmt.Errorf("value of label %s: at most %d bytes", key, maxLabelValue)
	}
	if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f || r == ',' }) {
		return fmt.Errorf("value of label %s: no ',' and no control characters", key)
	}
	return nil
}

// Matches says whether a node is picked.
func (s Selector) Matches(n *NodeInfo) bool {
	for _, t := range s {
		if (n.label(t.key) == t.value) == t.not {
			return false
		}
	}
	return true
}

// label is a label, or one of the facts that every node has.
func (n *NodeInfo) label(key string) string {
	switch key {
	case "id":
		return n.ID
	case "state":
		return string(n.State)
	}
	if n.Status == nil {
		return ""
	}
	switch key {
	case "os":
		return n.Status.OS
	case "arch":
		return n.Status.Arch
	}
	return n.Status.Labels[key]
}

// String writes the selector as it is read.
func (s Selector) String() string {
	parts := make([]string, len(s))
	for i, t := range s {
		op := "="
		if t.not {
			op = "!="
		}
		parts[i] = t.key + op + t.value
	}
	sort.Strings(parts)
	return strings.Join(parts, ",")
}
