package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// describedSchema is what the page reads of a JSON Schema.
type describedSchema struct {
	Ref         string                      `json:"$ref"`
	Type        any                         `json:"type"`
	Format      string                      `json:"format"`
	Description string                      `json:"description"`
	Properties  map[string]*describedSchema `json:"properties"`
	Additional  json.RawMessage             `json:"additionalProperties"`
	Required    []string                    `json:"required"`
	Items       *describedSchema            `json:"items"`
	Enum        []any                       `json:"enum"`
	Default     json.RawMessage             `json:"default"`
	MinLength   *int64                      `json:"minLength"`
	MaxLength   *int64                      `json:"maxLength"`
	Minimum     *json.Number                `json:"minimum"`
	Maximum     *json.Number                `json:"maximum"`
	MaxItems    *int64                      `json:"maxItems"`
	WriteOnly   bool                        `json:"writeOnly"`
}

// docsField is one row of the page: a parameter, a header or a field.
type docsField struct {
	Name, In, Type, Schema, Description string
	Required                            bool
	Limits                              []string
	Choices                             []string
	Inner                               []docsField
}

// types returns the type besides null, and whether null is allowed.
func (s *describedSchema) types() (kind string, null bool) {
	switch t := s.Type.(type) {
	case string:
		return t, false
	case []any:
		for _, e := range t {
			if e == "null" {
				null = true
			} else if text, ok := e.(string); ok {
				kind = text
			}
		}
	}
	return kind, null
}

func (d *described) resolve(s *describedSchema) *describedSchema {
	for hops := 0; s != nil && s.Ref != "" && hops < 10; hops++ {
		s = d.Components.Schemas[refName(s.Ref)]
	}
	if s == nil {
		return &describedSchema{}
	}
	return s
}

// fields returns the fields of an object, the required ones first.
func (d *described) fields(s *describedSchema) []docsField {
	s = d.resolve(s)
	var out []docsField
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		out = append(out, d.field(name, s.Properties[name], slices.Contains(s.Required, name)))
	}
	slices.SortStableFunc(out, func(a, b docsField) int {
		switch {
		case a.Required == b.Required:
			return 0
		case a.Required:
			return -1
		}
		return 1
	})
	return out
}

func (d *described) field(name string, s *describedSchema, required bool) docsField {
	out := docsField{Name: name, Required: required}
	if s == nil {
		return out
	}
	out.Description = s.Description
	kind, null := s.types()
	var inner *describedSchema // what a list or a free object holds
	switch {
	case s.Ref != "":
		out.Schema = refName(s.Ref)
	case kind == "array":
		out.Type, inner = "list of", s.Items
	case kind == "object" && len(s.Properties) == 0:
		out.Type = "object of"
		var value describedSchema
		if json.Unmarshal(s.Additional, &value) == nil && value.Type != nil {
			inner = &value
		} else {
			out.Type = "object"
		}
	default:
		out.Type = kind
		out.Inner = d.fields(s)
	}
	out.Limits, out.Choices = limits(s), choices(s)
	if inner != nil {
		sub := d.field("", inner, false)
		if sub.Schema != "" {
			out.Schema = sub.Schema
		} else {
			out.Type += " " + sub.Type
		}
		out.Limits, out.Choices, out.Inner = append(out.Limits, sub.Limits...), append(out.Choices, sub.Choices...), sub.Inner
	}
	if null {
		out.Type += " or null"
	}
	return out
}

// limits tells the bounds of a value in words.
func limits(s *describedSchema) []string {
	var out []string
	between := func(low, high, unit string) {
		switch {
		case low != "" && high != "":
			out = append(out, low+" to "+high+unit)
		case high != "":
			out = append(out, "at most "+high+unit)
		case low != "":
			out = append(out, "at least "+low+unit)
		}
	}
	if s.Format != "" && s.Format != formatSecret && !strings.HasPrefix(s.Format, "int") {
		out = append(out, s.Format)
	}
	if s.WriteOnly {
		out = append(out, "secret")
	}
	between(whole(s.MinLength), whole(s.MaxLength), " characters")
	between(number(s.Minimum), number(s.Maximum), "")
	between("", whole(s.MaxItems), " entries")
	if len(s.Default) > 0 {
		out = append(out, "default "+string(s.Default))
	}
	return out
}

func whole(n *int64) string {
	if n == nil || *n == 0 {
		return ""
	}
	return fmt.Sprint(*n)
}

func number(n *json.Number) string {
	if n == nil {
		return ""
	}
	return n.String()
}

func choices(s *describedSchema) []string {
	var out []string
	for _, e := range s.Enum {
		if e != nil {
			out = append(out, fmt.Sprint(e))
		}
	}
	return out
}

// curl is a command that makes the call. What a user fills in are variables of the shell, so that the lines of GETs run as they stand.
func (d *described) curl(o docsOperation, op *describedOp) string {
	target := o.Path
	var query []string
	for _, p := range op.Parameters {
		switch variable := "$" + strings.ToUpper(p.Name); {
		case p.In == "path":
			target = strings.ReplaceAll(target, "{"+p.Name+"}", variable)
		case p.In == "query" && p.Required:
			query = append(query, p.Name+"="+variable)
		}
	}
	if len(query) > 0 {
		target += "?" + strings.Join(query, "&")
	}
	var b strings.Builder
	b.WriteString("curl")
	if o.Method != "GET" {
		b.WriteString(" -X " + o.Method)
	}
	b.WriteString(` "$SIGNALBOX_URL` + target + `"`)
	if !o.Public {
		b.WriteString(" \\\n  -H \"Authorization: Bearer $SIGNALBOX_TOKEN\"")
	}
	if op.RequestBody != nil {
		b.WriteString(" \\\n  -H \"Content-Type: application/json\" \\\n  -d '" + d.sample(op.RequestBody.Content["application/json"]) + "'")
	}
	return b.String()
}

// sample is a body that has the required fields, or one field where none is.
func (d *described) sample(media *describedMedia) string {
	if media == nil {
		return "{}"
	}
	s := d.resolve(media.Schema)
	names := slices.Sorted(slices.Values(s.Required))
	if len(names) == 0 {
		if all := slices.Sorted(maps.Keys(s.Properties)); slices.Contains(all, "name") {
			names = []string{"name"}
		} else if len(all) > 0 {
			names = all[:1]
		}
	}
	if _, either := s.Properties["generate"]; either { // one of the two is needed, which no list of required fields says
		names = append(slices.DeleteFunc(names, func(n string) bool { return n == "generate" }), "secrets")
	}
	parts := make([]string, len(names))
	for i, name := range names {
		parts[i] = encoded(name) + ":" + encoded(d.value(s.Properties[name]))
	}
	// The text stands in single quotes.
	return strings.ReplaceAll("{"+strings.Join(parts, ",")+"}", "'", `'\''`)
}

func encoded(v any) string {
	var b bytes.Buffer
	if err := marshal(&b, v); err != nil {
		return "null"
	}
	return strings.TrimSpace(b.String())
}

// value is one that fits a schema, as far as a schema can tell.
func (d *described) value(s *describedSchema) any {
	s = d.resolve(s)
	kind, _ := s.types()
	switch {
	case len(s.Enum) > 0:
		return s.Enum[0]
	case s.Format == "date-time":
		return "2030-01-01T00:00:00Z"
	case kind == "string":
		return "…"
	case kind == "integer" || kind == "number":
		if s.Minimum != nil {
			return *s.Minimum
		}
		return 1
	case kind == "boolean":
		return true
	case kind == "array":
		return []any{d.value(s.Items)}
	case kind == "object":
		out := map[string]any{}
		for _, name := range s.Required {
			out[name] = d.value(s.Properties[name])
		}
		var free describedSchema
		if len(s.Properties) == 0 && json.Unmarshal(s.Additional, &free) == nil && (free.Type != nil || free.Ref != "") {
			out["field"] = d.value(&free)
		}
		return out
	}
	return nil
}
