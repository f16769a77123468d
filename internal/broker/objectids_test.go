package broker

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestFileIDs(t *testing.T) {
	for _, c := range []struct {
		body string
		want []string
	}{
		{`{"messages":[{"content":[{"type":"document","source":{"type":"file","file_id":"file_1"}}]}]}`, []string{"file_1"}},
		{`{"a":{"type":"file","file_id":"file_1"},"b":[{"type":"container_upload","file_id":"file_2"},{"type":"container_upload","file_id":"file_1"}]}`, []string{"file_1", "file_2"}},
		{`{"a":{"f\u0069le_id":"file_1"}}`, []string{"file_1"}},
		{`{"a":{"\u0066\u0069\u006c\u0065_\u0069\u0064":"fil\u0065_1"}}`, []string{"file_1"}},
		{`{"a":{"file_id" : "file_1" , "file_id":"file_2"}}`, []string{"file_1", "file_2"}},
		{`{"a":{"file_id":["file_1"]}}`, []string{noID}}, {`{"a":{"file_id":7}}`, []string{noID}}, {`{"a":{"file_id":{"x":"y"}}}`, []string{noID}}, {`{"a":{"file_id":null},"b":{"file_id":""}}`, nil},
		{`{"a":{"file_id":"` + strings.Repeat("x", 2000) + `"}}`, []string{noID}},
		{`{"a":"file_id","b":["file_id","file_1"],"c":"\"file_id\":\"file_1\""}`, nil},
		// What a tool is called with is anybody's, and what the upstream has said is only repeated.
		{`{"type":"tool_use","input":{"file_id":"drive-7","deep":[{"file_id":1}]},"file_id":"file_1"}`, []string{"file_1"}},
		{`{"tools":[{"input_schema":{"properties":{"file_id":{"type":"string"}}},"input_examples":[{"file_id":"x"}]}]}`, nil},
		{`{"content":[{"type":"bash_code_execution_output","file_id":"file_9"},{"type":"document","source":{"type":"file","file_id":"file_1"}}]}`, []string{"file_1"}},
		// Nobody may say what a block is twice.
		{`{"type":"x_output","type":"file","file_id":"file_1"}`, []string{"file_1"}}, {`{"type":"file","type":"x_output","file_id":"file_1"}`, []string{"file_1"}}, {`{"file_id":"file_1","type":"x_output","t\u0079pe":"file"}`, []string{"file_1"}},
		{`{"inp\u0075t":{"file_id":"x"}}`, nil}, {`{"a":{"input":"x","file_id":"file_1"}}`, []string{"file_1"}}, {`{"a":["input",{"file_id":"file_1"}]}`, []string{"file_1"}},
		{`{"file_id":"file_1"`, nil}, {`{"file_id`, nil}, {`{"file_id":`, nil}, {`}{"file_id":"file_1"}`, nil}, {`["file_id"]`, nil}, {``, nil},
		{strings.Repeat("[", 20000) + `{"file_id":"file_1"`, []string{noID}},
	} {
		require.Equal(t, c.want, fileIDs([]byte(c.body)), c.body[:min(90, len(c.body))])
	}
}

// reference is what fileIDs should find, by encoding/json.
func reference(v any, silent bool, found map[string]bool) {
	switch v := v.(type) {
	case []any:
		for _, x := range v {
			reference(x, silent, found)
		}
	case map[string]any:
		kind, _ := v["type"].(string)
		for name, x := range v {
			inside := silent || name == "input" || name == "input_schema" || name == "input_examples"
			if name == "file_id" && !silent && !strings.HasSuffix(kind, "_output") && x != nil {
				s, is := x.(string)
				quoted, _ := json.Marshal(s)
				switch {
				case !is || len(quoted) > 500: // the scan reads no long ones
					found[noID] = true
				case s != "":
					found[s] = true
				}
			}
			reference(x, inside, found)
		}
	}
}

// FuzzFileIDs holds the scan against encoding/json wherever that reads the text and no object names anything twice.
func FuzzFileIDs(f *testing.F) {
	for _, seed := range []string{`{"a":{"type":"file","file_id":"file_1"}}`, `[{"input":{"file_id":"x"}},{"\u0066ile_id":null}]`, `{"type":"x_output","file_id":"f","y":{"file_id":3}}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got := fileIDs(b)
		var v any
		if !utf8.Valid(b) || json.Unmarshal(b, &v) != nil || len(b) > 1<<16 {
			return
		}
		again, err := json.Marshal(v)
		require.NoError(t, err)
		if len(again) > 400 {
			return // lengths near the scan's bound differ by how a text is written
		}
		want := map[string]bool{}
		reference(v, false, want)
		if len(want) > idsMost {
			return
		}
		from := fileIDs(again)
		for _, id := range from {
			require.True(t, want[id], "%s: %q", again, id)
		}
		require.Len(t, from, len(want), "%s", again)
		for id := range want { // what the text itself says is never less, however it is written
			require.True(t, slices.Contains(got, id), "%s: %q", b, id)
		}
	})
}

func TestResultsLeadToUs(t *testing.T) {
	for _, c := range []struct{ batch, want string }{
		{`{"id":"b", "results_url" : "https://api.anthropic.com/v1/messages/batches/b/results","x":1e2}`, `{"id":"b", "results_url" : "http://box/v1/messages/batches/b/results","x":1e2}`},
		{`{"results_url":"https://x.example/anthropic/v1/messages/batches/b/results?y=1"}`, `{"results_url":"http://box/v1/messages/batches/b/results"}`},
		{`{"results_url":null,"a":{"results_url":"https://x/v1/messages/batches/b/results"}}`, `{"results_url":null,"a":{"results_url":"https://x/v1/messages/batches/b/results"}}`},
		{`{"results_url":"https://evil.example/steal"}`, `{"results_url":null}`},
		{`{"results_url":"https://evil.example/v1/messages/batches/../../x/results"}`, `{"results_url":null}`},
		{`{"r\u0065sults_url":"https://evil.example/steal"}`, `{"r\u0065sults_url":null}`},
		{`[]`, `[]`}, {`{`, `{`}, {``, ``},
	} {
		got, err := withResultsAt([]byte(c.batch), "http://box")
		require.NoError(t, err)
		require.Equal(t, c.want, string(got))
	}
	for _, twice := range []string{`{"results_url":null,"results_url":"https://evil.example/"}`, `{"results_url":"https://x/v1/messages/batches/b/results","x":[],"results\u005furl":"https://evil.example/"}`} {
		_, err := withResultsAt([]byte(twice), "http://box")
		require.Error(t, err)
	}
}
