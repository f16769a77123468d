package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/api"
	"signalbox.dev/signalbox/internal/identity"
)

// document is what the tests read of the OpenAPI document. They derive their tables from it and from nothing else.
type document struct {
	OpenAPI string `json:"openapi"`
	Tags    []struct {
		Name        string `json:"name"`
		Description string `json:"description"`
	} `json:"tags"`
	Paths      map[string]map[string]json.RawMessage `json:"paths"`
	Components struct {
		Schemas map[string]*schema `json:"schemas"`
	} `json:"components"`
}

type operation struct {
	method, path string
	ID           string             `json:"operationId"`
	Summary      string             `json:"summary"`
	Permission   string             `json:"x-signalbox-permission"`
	Security     *[]json.RawMessage `json:"security"`
	Parameters   []struct {
		Name     string  `json:"name"`
		In       string  `json:"in"`
		Required bool    `json:"required"`
		Schema   *schema `json:"schema"`
	} `json:"parameters"`
	RequestBody *struct {
		Required bool `json:"required"`
		Content  map[string]struct {
			Schema *schema `json:"schema"`
		} `json:"content"`
	} `json:"requestBody"`
	Tags      []string `json:"tags"`
	Responses map[string]struct {
		Ref     string `json:"$ref"`
		Content map[string]struct {
			Schema *schema `json:"schema"`
		} `json:"content"`
	} `json:"responses"`
}

func (o operation) String() string { return o.method + " " + o.path }

// success returns the statuses of success.
func (o operation) success() []string {
	var out []string
	for status := range o.Responses {
		if strings.HasPrefix(status, "2") {
			out = append(out, status)
		}
	}
	return out
}

type schema struct {
	Ref           string             `json:"$ref"`
	Types         any                `json:"type"`
	Properties    map[string]*schema `json:"properties"`
	Required      []string           `json:"required"`
	Additional    json.RawMessage    `json:"additionalProperties"`
	Items         *schema            `json:"items"`
	Enum          []any              `json:"enum"`
	Format        string             `json:"format"`
	MinLength     *int               `json:"minLength"`
	MaxLength     *int               `json:"maxLength"`
	Minimum       *float64           `json:"minimum"`
	Maximum       *float64           `json:"maximum"`
	MaxItems      *int               `json:"maxItems"`
	MaxProperties *int               `json:"maxProperties"`
	Default       json.RawMessage    `json:"default"`
}

// kind returns the type besides null, and whether null is allowed.
func (s *schema) kind() (string, bool) {
	switch t := s.Types.(type) {
	case string:
		return t, false
	case []any:
		kind, null := "", false
		for _, e := range t {
			if e == "null" {
				null = true
			} else {
				kind, _ = e.(string)
			}
		}
		return kind, null
	}
	return "", false
}

func (d *document) resolve(s *schema) *schema {
	for s.Ref != "" {
		s = d.Components.Schemas[strings.TrimPrefix(s.Ref, "#/components/schemas/")]
	}
	return s
}

// body returns the schema of an operation's body, nil when it takes none.
func (d *document) body(o operation) *schema {
	if o.RequestBody == nil {
		return nil
	}
	return d.resolve(o.RequestBody.Content["application/json"].Schema)
}

func (d *document) operations(t *testing.T) []operation {
	t.Helper()
	var out []operation
	for path, item := range d.Paths {
		for method, raw := range item {
			o := operation{method: strings.ToUpper(method), path: path}
			require.NoError(t, json.Unmarshal(raw, &o))
			out = append(out, o)
		}
	}
	slices.SortFunc(out, func(a, b operation) int { return strings.Compare(a.String(), b.String()) })
	require.Greater(t, len(out), 35)
	return out
}

func readDocument(t *testing.T) *document {
	t.Helper()
	b, err := api.OpenAPI()
	require.NoError(t, err)
	var d document
	require.NoError(t, json.Unmarshal(b, &d))
	return &d
}

func TestDocumentIsTheReference(t *testing.T) {
	b, err := api.OpenAPI()
	require.NoError(t, err)
	for range 5 {
		again, err := api.OpenAPI()
		require.NoError(t, err)
		require.True(t, bytes.Equal(b, again), "the document differs from one call to the next")
	}
	have, err := os.ReadFile("../../docs/reference/openapi.json")
	require.NoError(t, err, "docs/reference/openapi.json is missing; write it with: make generate")
	require.True(t, bytes.Equal(b, have), "docs/reference/openapi.json is not current; mend it with: make generate")
}

func TestDocumentIsServed(t *testing.T) {
	b, err := api.OpenAPI()
	require.NoError(t, err)
	each(t, func(t *testing.T, h *house) {
		a := h.do(request{method: "GET", target: "/api/openapi.json", header: map[string][]string{"Accept": {"application/yaml"}}})
		require.Equal(t, 200, a.status)
		require.Equal(t, "application/json", a.header.Get("Content-Type"))
		require.Equal(t, string(b), string(a.body))
		h.headers(a)
	})
}

// TestDocument holds the document against the rules that all operations share.
func TestDocument(t *testing.T) {
	d := readDocument(t)
	require.Equal(t, "3.1.0", d.OpenAPI)
	sections := map[string]bool{}
	for _, tag := range d.Tags {
		require.NotEmpty(t, tag.Description, tag.Name)
		sections[tag.Name] = true
	}
	for _, o := range d.operations(t) {
		t.Run(o.String(), func(t *testing.T) {
			require.NotEmpty(t, o.ID)
			require.NotEmpty(t, o.Summary)
			require.True(t, strings.HasPrefix(o.path, "/api/"))
			require.NotEmpty(t, o.Permission, "no x-signalbox-permission")
			if o.Permission != "none" && o.Permission != "authenticated" {
				for p := range strings.FieldsSeq(o.Permission) {
					require.True(t, identity.Permission(p).Known(), p)
				}
			}
			require.NotNil(t, o.Security)
			require.Equal(t, o.Permission == "none", len(*o.Security) == 0, "security and permission must agree")
			require.NotEmpty(t, o.success())
			require.Contains(t, o.Responses, "400")
			require.Equal(t, d.body(o) != nil, o.Responses["415"].Ref != "", "a body and what may be wrong with it")
			require.Len(t, o.Tags, 1)
			require.Contains(t, sections, o.Tags[0])
			refusal := d.resolve(o.Responses["default"].Content["application/problem+json"].Schema)
			require.Contains(t, refusal.Properties, "code")
			require.Contains(t, refusal.Properties, "errors")
			if s := d.body(o); s != nil {
				require.True(t, o.RequestBody.Required)
				d.strict(t, "", s)
			}
		})
	}
	require.NotContains(t, d.Components.Schemas, "ErrorModel")
	require.NotContains(t, d.Components.Schemas, "ErrorDetail")
}

// strict checks that every object of an input is closed and every text bounded.
func (d *document) strict(t *testing.T, at string, s *schema) {
	s = d.resolve(s)
	kind, _ := s.kind()
	switch kind {
	case "object":
		if len(s.Properties) == 0 {
			require.NotNil(t, s.MaxProperties, "%s has no bound", at)
			var value schema
			require.NoError(t, json.Unmarshal(s.Additional, &value))
			d.strict(t, at+"/*", &value)
			return
		}
		require.Equal(t, "false", string(s.Additional), "%s takes unknown fields", at)
		for name, p := range s.Properties {
			d.strict(t, at+"/"+name, p)
		}
	case "array":
		require.NotNil(t, s.MaxItems, "%s has no bound", at)
		d.strict(t, at+"/0", s.Items)
	case "string":
		require.True(t, s.MaxLength != nil || len(s.Enum) > 0 || s.Format == "date-time", "%s has no bound", at)
	case "integer", "number":
		require.NotNil(t, s.Minimum, at)
		require.NotNil(t, s.Maximum, at)
	case "boolean":
	default:
		require.Fail(t, "an input of an unexpected type", "%s: %v", at, s.Types)
	}
}

// TestDocumentHasNoSecrets: no example, and nothing that looks like a key, token or password.
func TestDocumentHasNoSecrets(t *testing.T) {
	b, err := api.OpenAPI()
	require.NoError(t, err)
	var tree any
	require.NoError(t, json.Unmarshal(b, &tree))
	looks := regexp.MustCompile(`sbp_[0-9A-Za-z]|sbx_live_[0-9A-Za-z]|sk-[0-9A-Za-z]|eyJ[0-9A-Za-z]|-----BEGIN|[0-9A-Za-z+/_-]{33,}`)
	var walk func(at string, v any)
	walk = func(at string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for key, e := range v {
				require.NotContains(t, []string{"example", "examples"}, key, at)
				walk(at+"/"+key, e)
			}
		case []any:
			for i, e := range v {
				walk(fmt.Sprintf("%s/%d", at, i), e)
			}
		case string:
			if !strings.HasSuffix(at, "/$ref") && !strings.HasSuffix(at, "/operationId") {
				require.False(t, looks.MatchString(v), "%s: %s", at, v)
			}
		}
	}
	walk("", tree)
}

// conforms checks that a value that the server sent is what the document says: no other fields, none missing, each of its type.
func (d *document) conforms(t *testing.T, at string, s *schema, v any) {
	t.Helper()
	s = d.resolve(s)
	kind, nullable := s.kind()
	if v == nil {
		require.True(t, nullable, "%s is null", at)
		return
	}
	switch kind {
	case "object":
		m, ok := v.(map[string]any)
		require.True(t, ok, "%s is no object", at)
		for _, name := range s.Required {
			require.Contains(t, m, name, at)
		}
		for name, e := range m {
			p := s.Properties[name]
			if p == nil && string(s.Additional) != "false" {
				continue
			}
			require.NotNil(t, p, "%s/%s is not in the document", at, name)
			d.conforms(t, at+"/"+name, p, e)
		}
	case "array":
		l, ok := v.([]any)
		require.True(t, ok, "%s is no list", at)
		for i, e := range l {
			d.conforms(t, fmt.Sprintf("%s/%d", at, i), s.Items, e)
		}
	case "string":
		text, ok := v.(string)
		require.True(t, ok, "%s is no text", at)
		if s.Format == "date-time" {
			at, err := time.Parse(time.RFC3339Nano, text)
			require.NoError(t, err)
			require.Equal(t, time.UTC, at.Location(), "%s is not in UTC", text)
			require.Equal(t, at, at.Truncate(time.Microsecond))
		}
	case "integer":
		n, ok := v.(float64)
		require.True(t, ok && n == math.Trunc(n), "%s is no whole number", at)
	case "number":
		require.IsType(t, 1.0, v, at)
	case "boolean":
		require.IsType(t, true, v, at)
	default:
		require.Nil(t, s.Types, "%s has an unexpected type", at)
	}
}

// TestWhatTakesASecretOfItsOwnForbidsNothing: who exchanges a code or a refresh token has neither a session nor a role, so nothing of it is forbidden;
// signing in can be, to whoever lacks a second factor.
func TestWhatTakesASecretOfItsOwnForbidsNothing(t *testing.T) {
	forbids := map[string]bool{"log-in": true, "refresh-login": false, "exchange-login-code": false, "revoke-login": false, "log-out": true}
	for _, o := range readDocument(t).operations(t) {
		want, ok := forbids[o.ID]
		if !ok {
			continue
		}
		delete(forbids, o.ID)
		_, has := o.Responses["403"]
		require.Equal(t, want, has, o.ID)
	}
	require.Empty(t, forbids)
}
