package panel_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// schema is as much of JSON Schema as the description of the API uses.
type schema struct {
	Ref        string             `json:"$ref"`
	Type       any                // a name, or several
	Properties map[string]*schema // those that there may be, unless
	Additional json.RawMessage    `json:"additionalProperties"` // says more
	Required   []string
	Items      *schema
	Enum       []string
	Pattern    string
	OneOf      []*schema
}

// content is what a request or an answer holds, by media type.
type content struct {
	Ref     string `json:"$ref"`
	Content map[string]struct{ Schema *schema }
}

// description is the API's own of itself.
type description struct {
	Paths map[string]map[string]struct {
		RequestBody *content
		Responses   map[string]*content
	}
	Components struct {
		Responses map[string]*content
		Schemas   map[string]*schema
	}

	mu   sync.Mutex
	seen map[string]bool // "get /path" of which a success was checked
}

// named is what a reference leads to.
func named[T any](all map[string]T, ref string) T { return all[ref[strings.LastIndex(ref, "/")+1:]] }

// route finds the description of a path.
func (d *description) route(path string) string {
	path, _, _ = strings.Cut(path, "?")
	parts := strings.Split(path, "/")
	best := ""
	for pattern := range d.Paths {
		if slices.EqualFunc(strings.Split(pattern, "/"), parts, func(p, part string) bool {
			return p == part || strings.HasPrefix(p, "{") && part != ""
		}) && (best == "" || !strings.Contains(pattern, "{")) {
			best = pattern
		}
	}
	return best
}

// check says how an exchange differs from what is described.
func (d *description) check(method, path, body string, status int, mediaType string, answer []byte) error {
	pattern := d.route(path)
	op, ok := d.Paths[pattern][strings.ToLower(method)]
	if !ok {
		return nil // which is an error of the client, and no route's answer
	}
	is, ok := op.Responses[fmt.Sprint(status)]
	if !ok && status < 400 {
		return fmt.Errorf("status %d is not described", status)
	}
	if !ok {
		is = op.Responses["default"]
	}
	if is != nil && is.Ref != "" {
		is = named(d.Components.Responses, is.Ref)
	}
	if is == nil {
		return fmt.Errorf("status %d is not described", status)
	}
	if len(is.Content) > 0 {
		mediaType, _, _ = mime.ParseMediaType(mediaType)
		c, ok := is.Content[mediaType]
		if !ok {
			return fmt.Errorf("%s is not described", mediaType)
		}
		if mediaType == "application/json" {
			if err := d.checkJSON(c.Schema, answer); err != nil {
				return fmt.Errorf("answer: %w", err)
			}
		}
	}
	if status >= 300 {
		return nil
	}
	d.mu.Lock()
	d.seen[strings.ToLower(method)+" "+pattern] = true
	d.mu.Unlock()
	if op.RequestBody != nil && body != "" && strings.HasPrefix(body, "{") && op.RequestBody.Content["application/json"].Schema != nil {
		if err := d.checkJSON(op.RequestBody.Content["application/json"].Schema, []byte(body)); err != nil {
			return fmt.Errorf("request: %w", err)
		}
	}
	return nil
}

func (d *description) checkJSON(s *schema, data []byte) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return err
	}
	return d.conforms(s, v, "$")
}

// conforms says in what a value is not as its schema says.
func (d *description) conforms(s *schema, v any, at string) error {
	if s == nil {
		return nil
	}
	if s.Ref != "" {
		return d.conforms(named(d.Components.Schemas, s.Ref), v, at)
	}
	if len(s.OneOf) > 0 {
		var err error
		for _, one := range s.OneOf {
			if err = d.conforms(one, v, at); err == nil {
				return nil
			}
		}
		return err
	}
	if types := kinds(s.Type); len(types) > 0 && !slices.Contains(types, kind(v)) && !(kind(v) == "integer" && slices.Contains(types, "number")) {
		return fmt.Errorf("%s is a %s, not of %v", at, kind(v), types)
	}
	switch v := v.(type) {
	case string:
		if len(s.Enum) > 0 && !slices.Contains(s.Enum, v) {
			return fmt.Errorf("%s is %q, not one of %v", at, v, s.Enum)
		}
		if !regexp.MustCompile(s.Pattern).MatchString(v) {
			return fmt.Errorf("%s is %q, which does not match %s", at, v, s.Pattern)
		}
	case []any:
		for i, item := range v {
			if err := d.conforms(s.Items, item, fmt.Sprintf("%s[%d]", at, i)); err != nil {
				return err
			}
		}
	case map[string]any:
		return d.conformsObject(s, v, at)
	}
	return nil
}

func (d *description) conformsObject(s *schema, v map[string]any, at string) error {
	for _, name := range s.Required {
		if _, ok := v[name]; !ok {
			return fmt.Errorf("%s has no %q", at, name)
		}
	}
	for name, item := range v {
		is := s.Properties[name]
		switch {
		case is != nil:
		case string(s.Additional) == "false":
			return fmt.Errorf("%s has %q, which is not described", at, name)
		case len(s.Additional) > 0:
			is = new(schema)
			if err := json.Unmarshal(s.Additional, is); err != nil {
				return fmt.Errorf("schema of %s: %w", at, err)
			}
		}
		if err := d.conforms(is, item, at+"."+name); err != nil {
			return err
		}
	}
	return nil
}

func kinds(t any) (names []string) {
	switch t := t.(type) {
	case string:
		return []string{t}
	case []any:
		for _, name := range t {
			names = append(names, fmt.Sprint(name))
		}
	}
	return names
}

func kind(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case string:
		return "string"
	case json.Number:
		if strings.ContainsAny(v.String(), ".eE") {
			return "number"
		}
		return "integer"
	case []any:
		return "array"
	}
	return "object"
}
