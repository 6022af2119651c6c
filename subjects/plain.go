package subjects

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"
)

// PlainJSON puts what encoding/json says of data into words for whoever wrote it:
// the line where it is, where that is known, and no type of this program.
func PlainJSON(data []byte, err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	var moment *time.ParseError
	switch {
	case err == nil:
		return nil
	case len(bytes.TrimSpace(data)) == 0:
		return errors.New("it is empty")
	case errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &syntax) && syntax.Offset >= int64(len(data)):
		return fmt.Errorf("line %d: it ends too early", lineAt(data, int64(len(data))))
	case syntax != nil:
		return fmt.Errorf("line %d: %w", lineAt(data, syntax.Offset), syntax)
	case errors.As(err, &kind):
		what := "the whole"
		if kind.Field != "" {
			what = fmt.Sprintf("%q", kind.Field)
		}
		return fmt.Errorf("line %d: %s must be %s, not %s", lineAt(data, kind.Offset), what, wanted(kind.Type), given(kind.Value))
	case errors.As(err, &moment):
		return fmt.Errorf("%q is no time like 2027-01-31T18:00:00Z", moment.Value)
	}
	return errors.New(strings.TrimPrefix(err.Error(), "json: "))
}

// lineAt is the line of the byte before an offset, from 1.
func lineAt(data []byte, offset int64) int {
	return 1 + bytes.Count(data[:max(min(offset, int64(len(data)))-1, 0)], []byte("\n"))
}

// wanted is what JSON has for a type.
func wanted(t reflect.Type) string {
	switch k := t.Kind(); {
	case k == reflect.String:
		return "a string"
	case k == reflect.Bool:
		return "true or false"
	case reflect.Int <= k && k <= reflect.Uintptr:
		return "a whole number in its limits"
	case k == reflect.Float32 || k == reflect.Float64:
		return "a number"
	case k == reflect.Slice || k == reflect.Array:
		return "a list"
	}
	return "an object"
}

// given is what was found, in the words of encoding/json.
func given(value string) string {
	switch value {
	case "array":
		return "a list"
	case "bool":
		return "true or false"
	case "object":
		return "an object"
	case "number", "string":
		return "a " + value
	}
	return strings.TrimPrefix(value, "number ")
}
