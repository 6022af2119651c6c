package subjects

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Limits of arguments of commands.
const (
	// MaxGrace is the longest grace before a shutdown.
	MaxGrace = 24 * time.Hour
	// MaxFileName is the longest name of a file in a node's folder, in bytes.
	MaxFileName = 255
	// MaxLogLines is how many log lines one OpLogs may ask for.
	MaxLogLines = 5000
	// maxMessage is the longest message to who is logged in.
	maxMessage = 1000
	// maxLabels is how many labels one command may set or remove.
	maxLabels = 64
)

// DecodeStrict reads one JSON object of the control plane into v: no unknown
// fields, nothing behind it, valid UTF-8.
func DecodeStrict(data []byte, v any) error {
	if !utf8.Valid(data) {
		return errors.New("malformed: not valid UTF-8")
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return errors.New("malformed: nothing was sent; expected a JSON object")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("malformed: %w", PlainJSON(data, err))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("malformed: something follows the JSON object")
	}
	return nil
}

// DecodeRefusal is the error that an answer of the control plane is; nil if it is
// none.
func DecodeRefusal(data []byte) *Error {
	var failed struct {
		Error *struct {
			Code    Code   `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	if err := json.Unmarshal(data, &failed); err != nil || failed.Error == nil {
		return nil
	}
	return Errorf(failed.Error.Code, "%s", failed.Error.Message)
}

// CheckArgs says what is wrong with the arguments of an operation, whichever node
// they are for.
func CheckArgs(op Op, args json.RawMessage) error {
	check, ok := argChecks()[op]
	if !ok {
		return fmt.Errorf("unknown op %q: known are %s", clip(string(op)), strings.Join(Ops(), ", "))
	}
	if len(args) == 0 || string(args) == "null" {
		args = json.RawMessage("{}")
	}
	if err := check(args); err != nil {
		return fmt.Errorf("args of %s: %w", op, err)
	}
	return nil
}

// Ops are the names of all operations.
func Ops() []string {
	var names []string
	for _, op := range slices.Sorted(maps.Keys(argChecks())) {
		names = append(names, string(op))
	}
	return names
}

func argChecks() map[Op]func(json.RawMessage) error {
	none := checked(func(*struct{}) error { return nil })
	return map[Op]func(json.RawMessage) error{
		OpPing: none, OpInfo: none, OpFiles: none,
		OpShutdown: checked(func(a *ShutdownArgs) error {
			if a.Mode != "" && a.Mode != ShutdownAgent && a.Mode != ShutdownHost {
				return fmt.Errorf("mode must be %s or %s, not %q", ShutdownAgent, ShutdownHost, clip(string(a.Mode)))
			}
			return a.check()
		}),
		OpReboot: checked(func(a *ShutdownArgs) error {
			if a.Mode != "" {
				return errors.New("a reboot has no mode: it is always the host's")
			}
			return a.check()
		}),
		OpWallpaper: checked(func(a *WallpaperArgs) error {
			if a.Restore {
				if a.Digest != "" {
					return errors.New("either an image or restore")
				}
				return nil
			}
			return checkBlob(a.Digest, a.Size)
		}),
		OpPush: checked(func(a *PushArgs) error {
			return errors.Join(checkBlob(a.Digest, a.Size), checkFileName(a.Name))
		}),
		OpFetch: checked(func(a *FetchArgs) error { return checkFileName(a.Name) }),
		OpLogs: checked(func(a *LogsArgs) error {
			if a.Lines < 0 || a.Lines > MaxLogLines {
				return fmt.Errorf("lines must be 0 to %d", MaxLogLines)
			}
			return CheckLogLevel(a.Level)
		}),
		OpLabel: checked(func(a *LabelArgs) error {
			if len(a.Set)+len(a.Remove) > maxLabels {
				return fmt.Errorf("at most %d labels at a time", maxLabels)
			}
			for key, value := range a.Set {
				if err := CheckLabel(key, value); err != nil {
					return err
				}
			}
			for _, key := range a.Remove {
				if err := CheckLabel(key, ""); err != nil {
					return err
				}
			}
			return nil
		}),
		OpResync: checked(func(a *ResyncArgs) error {
			for _, name := range a.Databases {
				if err := CheckDatabase(name); err != nil {
					return err
				}
			}
			return nil
		}),
		OpAbort: checked(func(a *AbortArgs) error {
			if a.ID == "" {
				return errors.New("id of the command to give up is missing")
			}
			return nil
		}),
	}
}

// checked reads arguments of one type and checks them.
func checked[A any](check func(*A) error) func(json.RawMessage) error {
	return func(args json.RawMessage) error {
		a := new(A)
		if err := DecodeStrict(args, a); err != nil {
			return err
		}
		return check(a)
	}
}

func (a *ShutdownArgs) check() error {
	switch {
	case a.GraceMS < 0 || a.GraceMS > MaxGrace.Milliseconds():
		return fmt.Errorf("grace_ms must be 0 to %d", MaxGrace.Milliseconds())
	case len(a.Message) > maxMessage:
		return fmt.Errorf("message has more than %d bytes", maxMessage)
	case strings.ContainsFunc(a.Message, func(r rune) bool { return r < ' ' && r != '\n' || r == 0x7f }):
		return errors.New("message has control characters")
	}
	return nil
}

func checkBlob(digest string, size int64) error {
	if raw, err := hex.DecodeString(digest); err != nil || len(raw) != 32 {
		return fmt.Errorf("digest must be a SHA-256 in hexadecimal, not %q", clip(digest))
	}
	if size < 0 {
		return errors.New("size must not be negative")
	}
	return nil
}

// checkFileName refuses what can be no file's name anywhere; what a node's own
// system says of a name is for the node.
func checkFileName(name string) error {
	switch {
	case name == "" || len(name) > MaxFileName:
		return fmt.Errorf("name must have 1 to %d bytes", MaxFileName)
	case strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' || r == ':' }):
		return fmt.Errorf("name %q: no control characters, backslashes and colons", clip(name))
	case strings.HasPrefix(name, "/") || slices.Contains(strings.Split(name, "/"), ".."):
		return fmt.Errorf("name %q: must stay inside the node's folder", clip(name))
	}
	return nil
}

// CheckLogLevel says whether a level is one: debug, info, warn or error, "" for all.
func CheckLogLevel(level string) error {
	switch strings.ToLower(level) {
	case "", "debug", "info", "warn", "error":
		return nil
	}
	return fmt.Errorf("level must be debug, info, warn or error, not %q", clip(level))
}
