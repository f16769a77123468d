package api

import (
	"encoding/json"
	"html"
	"log/slog"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const hostile = `</style></code>"'><script>alert(1)</script>&lt;javascript:`

// TestDocsEscape: whatever stands in the document, names included, is text on the page.
func TestDocsEscape(t *testing.T) {
	document, err := OpenAPI()
	require.NoError(t, err)
	var tree any
	require.NoError(t, json.Unmarshal(document, &tree))
	var poison func(key string, v any) any
	poison = func(key string, v any) any {
		switch v := v.(type) {
		case map[string]any:
			out := map[string]any{}
			for k, e := range v {
				switch key {
				case "paths", "properties", "headers", "schemas", "responses":
					out[k+hostile] = poison(k, e)
				default:
					out[k] = poison(k, e)
				}
			}
			return out
		case []any:
			for i := range v {
				v[i] = poison(key, v[i])
			}
			return v
		case string:
			switch key {
			case "type", "in": // what they may be is fixed
				return v
			}
			return v + hostile
		}
		return v
	}
	poisoned, err := json.Marshal(poison("", tree))
	require.NoError(t, err)
	clean, err := renderDocs(document)
	require.NoError(t, err)
	bad, err := renderDocs(poisoned)
	require.NoError(t, err)
	page := string(bad.html)
	require.Equal(t, clean.policy, bad.policy)
	require.Greater(t, strings.Count(page, "&lt;script&gt;alert(1)"), 500, "the poison is on the page")
	require.NotContains(t, page, "<script")
	require.Equal(t, 1, strings.Count(page, "</style>"))
	// No element and no attribute is there that is not in the clean page too.
	tags := regexp.MustCompile(`<(/?[a-zA-Z!][a-zA-Z0-9]*)|\s([a-z-]+)="`)
	known := map[string]bool{}
	for _, m := range tags.FindAllString(string(clean.html), -1) {
		known[m] = true
	}
	for _, m := range tags.FindAllString(page, -1) {
		require.True(t, known[m], "%q came out of a text", m)
	}
	for _, m := range regexp.MustCompile(`href="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		require.Regexp(t, `^(#|/api/openapi\.json$)`, m[1])
	}
}

// TestDocsSamplesFit: the body of each example is one that the door takes.
func TestDocsSamplesFit(t *testing.T) {
	s, err := build(Config{Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	tried := 0
	for _, item := range s.huma.OpenAPI().Paths {
		for _, op := range operations(item) {
			if op.RequestBody == nil {
				continue
			}
			_, text, ok := strings.Cut(string(s.page.html), `<article id="op-`+op.OperationID+`"`)
			require.True(t, ok, op.OperationID)
			_, text, ok = strings.Cut(text, `<code class="curl">`)
			require.True(t, ok)
			text, _, _ = strings.Cut(text, "</code>")
			_, body, ok := strings.Cut(html.UnescapeString(text), "-d '")
			require.True(t, ok, text)
			tree, err := parse([]byte(strings.TrimSuffix(body, "'")))
			require.NoError(t, err, "%s: %s", op.OperationID, body)
			c := checker{registry: s.huma.OpenAPI().Components.Schemas}
			if f := c.check(op.RequestBody.Content["application/json"].Schema, tree); f != nil {
				require.Empty(t, f.Fields, "%s: %s", op.OperationID, body)
			}
			tried++
		}
	}
	require.Greater(t, tried, 10)
}
