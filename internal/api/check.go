package api

import (
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/fault"
)

// checker holds a body against the schema of its operation. huma's own validation is not used for bodies: it takes names in any case, and
// its errors carry the rejected value and name keys that the client chose, which may be a secret in the wrong place.
//
// A pointer is made of names that the schema knows and of indexes, nothing else.
type checker struct {
	registry huma.Registry
	fields   []fault.Field
}

// maxFindings bounds an answer; nobody mends more at once.
const maxFindings = 20

// freeKey is the form of the keys of a map, whose names the client chooses.
var freeKey = regexp.MustCompile(`^[a-z0-9_]{1,64}$`)

const freeKeyRule = "may only have names of 1 to 64 characters from a-z, 0-9 and _"

// check returns nil, or the fault that lists what is wrong.
func (c checker) check(s *huma.Schema, v any) *fault.Error {
	c.value(s, "", v)
	if len(c.fields) == 0 {
		return nil
	}
	f := fault.New(fault.Unprocessable, "validation_failed", "The body does not fit this route; see errors. The shapes are in /api/openapi.json.")
	for _, field := range c.fields {
		_ = f.With(field.Pointer, field.Message)
	}
	return f
}

func (c *checker) add(pointer, message string) {
	if len(c.fields) < maxFindings {
		c.fields = append(c.fields, fault.Field{Pointer: pointer, Message: message})
	}
}

func (c *checker) value(s *huma.Schema, at string, v any) {
	for s.Ref != "" {
		s = c.registry.SchemaFromRef(s.Ref)
	}
	if v == nil {
		if !s.Nullable {
			c.add(at, "must not be null; leave it out where it is optional")
		}
		return
	}
	switch s.Type {
	case huma.TypeObject:
		m, ok := v.(map[string]any)
		if !ok {
			c.add(at, "must be an object")
			return
		}
		c.object(s, at, m)
	case huma.TypeArray:
		l, ok := v.([]any)
		if !ok {
			c.add(at, "must be a list")
			return
		}
		c.list(s, at, l)
	case huma.TypeString:
		t, ok := v.(string)
		if !ok {
			c.add(at, "must be a text")
			return
		}
		c.text(s, at, t)
	case huma.TypeBoolean:
		if _, ok := v.(bool); !ok {
			c.add(at, "must be true or false")
		}
	case huma.TypeInteger:
		c.integer(s, at, v)
	case huma.TypeNumber:
		c.amount(s, at, v)
	default:
		c.add(at, "cannot be given")
	}
}

func (c *checker) object(s *huma.Schema, at string, m map[string]any) {
	if free, ok := s.AdditionalProperties.(*huma.Schema); ok {
		c.free(s, free, at, m)
		return
	}
	names := make([]string, 0, len(s.Properties))
	for name := range s.Properties {
		names = append(names, name)
	}
	slices.Sort(names)
	known := 0
	for _, name := range names {
		v, given := m[name]
		if !given {
			if slices.Contains(s.Required, name) {
				c.add(at+"/"+name, "is required")
			}
			continue
		}
		known++
		c.value(s.Properties[name], at+"/"+name, v)
	}
	if unknown := len(m) - known; unknown > 0 {
		message := "has a field that is not known here; known are " + strings.Join(names, ", ")
		if unknown > 1 {
			message = "has " + strconv.Itoa(unknown) + " fields that are not known here; known are " + strings.Join(names, ", ")
		}
		c.add(at, message)
	}
}

// free checks a map whose names the client chooses. Its findings do not say which entry is meant.
func (c *checker) free(s, value *huma.Schema, at string, m map[string]any) {
	if s.MinProperties != nil && len(m) < *s.MinProperties {
		c.add(at, "must have at least "+strconv.Itoa(*s.MinProperties)+" field")
	}
	if s.MaxProperties != nil && len(m) > *s.MaxProperties {
		c.add(at, "must have at most "+strconv.Itoa(*s.MaxProperties)+" fields")
	}
	inner := checker{registry: c.registry}
	for name, v := range m {
		if !freeKey.MatchString(name) {
			c.add(at, freeKeyRule)
			return
		}
		inner.value(value, "", v)
	}
	for _, f := range inner.fields {
		c.add(at, "has a field that "+f.Message)
		return
	}
}

func (c *checker) list(s *huma.Schema, at string, l []any) {
	if s.MinItems != nil && len(l) < *s.MinItems {
		c.add(at, "must have at least "+strconv.Itoa(*s.MinItems)+" items")
	}
	if s.MaxItems != nil && len(l) > *s.MaxItems {
		c.add(at, "must have at most "+strconv.Itoa(*s.MaxItems)+" items")
		return
	}
	for i, v := range l {
		c.value(s.Items, at+"/"+strconv.Itoa(i), v)
	}
}

func (c *checker) text(s *huma.Schema, at, t string) {
	// A secret is stored as bytes; every other text goes into a column that takes no NUL.
	if s.Format != formatSecret && strings.ContainsRune(t, 0) {
		c.add(at, "must not contain the character U+0000")
		return
	}
	n := utf8.RuneCountInString(t)
	if s.MinLength != nil && n < *s.MinLength {
		if *s.MinLength == 1 {
			c.add(at, "must not be empty")
		} else {
			c.add(at, "must have at least "+strconv.Itoa(*s.MinLength)+" characters")
		}
		return
	}
	if s.MaxLength != nil && n > *s.MaxLength {
		c.add(at, "must have at most "+strconv.Itoa(*s.MaxLength)+" characters")
		return
	}
	if len(s.Enum) > 0 && !slices.Contains(s.Enum, any(t)) {
		c.add(at, "must be one of "+oneOf(s.Enum))
		return
	}
	if s.Format == "date-time" {
		if _, err := time.Parse(time.RFC3339Nano, t); err != nil {
			c.add(at, "must be a time such as 2030-01-31T12:00:00Z (RFC 3339)")
		}
	}
}

func (c *checker) integer(s *huma.Schema, at string, v any) {
	number, ok := v.(json.Number)
	n, err := strconv.ParseInt(number.String(), 10, 64)
	switch {
	case !ok || err != nil:
		c.add(at, "must be a whole number")
	case s.Minimum != nil && float64(n) < *s.Minimum:
		c.add(at, "must be at least "+strconv.FormatFloat(*s.Minimum, 'f', -1, 64))
	case s.Maximum != nil && float64(n) > *s.Maximum:
		c.add(at, "must be at most "+strconv.FormatFloat(*s.Maximum, 'f', -1, 64))
	}
}

// amount checks a number of dollars, the one kind of number here that need not be whole.
func (c *checker) amount(s *huma.Schema, at string, v any) {
	var usd client.USD
	number, ok := v.(json.Number)
	if !ok || usd.UnmarshalJSON([]byte(number.String())) != nil {
		c.add(at, "must be a number with at most six digits after the point")
		return
	}
	f := float64(usd) / 1_000_000
	switch {
	case s.Minimum != nil && f < *s.Minimum:
		c.add(at, "must be at least "+strconv.FormatFloat(*s.Minimum, 'f', -1, 64))
	case s.Maximum != nil && f > *s.Maximum:
		c.add(at, "must be at most "+strconv.FormatFloat(*s.Maximum, 'f', -1, 64))
	}
}

func oneOf(enum []any) string {
	names := make([]string, 0, len(enum))
	for _, e := range enum {
		if s, ok := e.(string); ok {
			names = append(names, s)
		}
	}
	return strings.Join(names, ", ")
}
