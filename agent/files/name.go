package files

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// The limits of a name: enough for people, small enough for every file system.
const (
	MaxName  = 255 // bytes
	MaxDepth = 8   // parts between slashes
)

// partial ends the names of files that have not wholly arrived.
const partial = ".part"

// NameError refuses a file name.
type NameError struct {
	Name string
	Why  string
}

// Error says what is wrong with the name.
func (e *NameError) Error() string {
	return fmt.Sprintf("file name %q: %s; use a relative name such as docs/plan.pdf", e.Name, e.Why)
}

// CheckName refuses names that would leave the folder, or that one of the
// systems a node runs on cannot hold: a name is good on all nodes or on none.
func CheckName(name string) error {
	if why := fault(name); why != "" {
		return &NameError{Name: name, Why: why}
	}
	return nil
}

func fault(name string) string {
	switch {
	case name == "":
		return "it is empty"
	case len(name) > MaxName:
		return fmt.Sprintf("it is longer than %d bytes", MaxName)
	case !utf8.ValidString(name):
		return "it is not UTF-8"
	case strings.HasPrefix(name, "/"):
		return "it is absolute"
	case strings.HasSuffix(strings.ToLower(name), partial):
		return "names ending in " + partial + " belong to files still arriving"
	}
	parts := strings.Split(name, "/")
	if len(parts) > MaxDepth {
		return fmt.Sprintf("it is deeper than %d folders", MaxDepth)
	}
	for _, part := range parts {
		if why := partFault(part); why != "" {
			return why
		}
	}
	return ""
}

func partFault(part string) string {
	switch {
	case part == "":
		return "a part of it is empty"
	case len(part) > MaxName-len(partial):
		return "a part of it is too long to have " + partial + " put behind it"
	case part == "." || part == "..":
		return "it has a part " + part
	case strings.ContainsAny(part, `\:*?"<>|`):
		return `it has one of \ : * ? " < > |`
	case strings.ContainsFunc(part, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return "it has a control character"
	case strings.HasSuffix(part, ".") || strings.HasSuffix(part, " "):
		return "a part of it ends in a dot or a space"
	case device(part):
		return "Windows keeps that name for a device"
	}
	return ""
}

// device says whether Windows would open a device: an extension does not help.
func device(part string) bool {
	stem, _, _ := strings.Cut(part, ".")
	stem = strings.ToUpper(strings.TrimRight(stem, " "))
	switch stem {
	case "CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$":
		return true
	}
	for _, port := range []string{"COM", "LPT"} {
		rest, ok := strings.CutPrefix(stem, port)
		if ok && utf8.RuneCountInString(rest) == 1 && strings.ContainsAny(rest, "0123456789¹²³") {
			return true
		}
	}
	return false
}
