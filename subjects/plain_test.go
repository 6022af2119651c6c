package subjects_test

import (
	"encoding/json"
	"testing"

	"github.com/snapdb/snapdb/subjects"
)

// What is wrong with JSON is said in words for whoever wrote it.
func TestPlainJSON(t *testing.T) {
	for text, want := range map[string]string{
		"":                               "it is empty",
		"{\n\"op\": \"ping\",":           "line 2: it ends too early",
		"{\n\n \"op\" 1}":                "line 3: invalid character '1' after object key",
		"{\n\"op\": 1}":                  `line 2: "op" must be a string, not a number`,
		"{\"all\": []}":                  `line 1: "all" must be true or false, not a list`,
		"{\"nodes\": {}}":                `line 1: "nodes" must be a list, not an object`,
		"{\"batch\": 1.5}":               `line 1: "batch" must be a whole number in its limits, not 1.5`,
		"[]":                             "line 1: the whole must be an object, not a list",
		"{\"at\": \"tomorrow\"}":         "\"tomorrow\" is no time like 2027-01-31T18:00:00Z",
		"{\"at\": \"2027-01-31T18:00\"}": "\"2027-01-31T18:00\" is no time like 2027-01-31T18:00:00Z",
	} {
		var r subjects.CommandRequest
		err := json.Unmarshal([]byte(text), &r)
		if plain := subjects.PlainJSON([]byte(text), err); plain == nil || plain.Error() != want {
			t.Errorf("%q: %v, want %s (was %v)", text, plain, want, err)
		}
	}
	if err := subjects.PlainJSON(nil, nil); err != nil {
		t.Error(err)
	}
}
