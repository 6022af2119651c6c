package dashboard

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestEveryRouteIsDescribedAndNothingElse(t *testing.T) {
	var doc struct {
		Paths map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal(openapi, &doc); err != nil {
		t.Fatal(err)
	}
	s := &Server{hub: &hub{}}
	for _, r := range s.routes() {
		methods := doc.Paths[r.path]
		method := strings.ToLower(r.method)
		if _, ok := methods[method]; !ok {
			t.Errorf("%s %s is not described", r.method, r.path)
		}
		delete(methods, method)
	}
	for path, left := range doc.Paths {
		for method := range left {
			t.Errorf("%s %s is described, but is not there", method, path)
		}
	}
}

func TestEveryRouteAndPageNamesItsRight(t *testing.T) {
	s := &Server{hub: &hub{}, o: Options{Access: struct{ Access }{}}}
	for _, r := range s.routes() {
		if r.right < forAnybody || r.right > forAdmins {
			t.Errorf("who may %s %s?", r.method, r.path)
		}
	}
	for _, p := range s.panelPages() {
		if p.right < forViewers || p.right > forAdmins {
			t.Errorf("who may see page %s?", p.path)
		}
	}
}
