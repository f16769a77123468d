package broker

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
)

// TestMessages: what every reader reads alike is taken, with what the record needs of it; the rest is refused, and no refusal quotes it.
func TestMessages(t *testing.T) {
	sum := func(text string) string {
		s := sha256.Sum256([]byte(text))
		return hex.EncodeToString(s[:16])
	}
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	for text, want := range map[string]message{
		`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"capabilities":{}}}`:                                   {method: "initialize"},
		`{"jsonrpc":"2.0","method":"notifications/initialized"}`:                                                        {method: "notifications/initialized"},
		`{"jsonrpc":"2.0","id":"a","result":{}}`:                                                                        {},
		`{"jsonrpc":"2.0","id":1.5,"error":{"code":1,"message":"planted"}}`:                                             {},
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read file","arguments":{"b":1.50,"a":"<é>"}}}`: {method: "tools/call", name: "read file", tool: "read file", digest: sum(`{"a":"<é>","b":1.50}`)},
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}`:                                          {method: "tools/call", name: "x", tool: "x"},
		`{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///ü"}}`:                               {method: "resources/read", name: "file:///ü"},
		`{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"hi","arguments":{}}}`:                         {method: "prompts/get", name: "hi"},
		`{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":` + deep(62) + `}}`:                                         {method: "x"},
	} {
		got, err := readMessage([]byte(text))
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	for text, code := range map[string]string{
		``: "malformed_json", `{`: "malformed_json", `{"jsonrpc":"2.0","id":1,"id":2,"method":"planted"}`: "malformed_json", `{"jsonrpc":"2.0","id":1,"method":"x"}{}`: "malformed_json",
		`{"jsonrpc":"2.0","id":1,"method":"x","params":{"name":"planted","name":"b"}}`: "malformed_json", `{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":` + deep(63) + `}}`: "malformed_json",
		"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\"}": "malformed_json",
		`[{"jsonrpc":"2.0","id":1,"method":"x"}]`:            "", `"x"`: "", `{}`: "", `{"jsonrpc":"1.0","id":1,"method":"x"}`: "", `{"id":1,"method":"x"}`: "", `{"jsonrpc":2.0,"id":1,"method":"x"}`: "",
		`{"jsonrpc":"2.0","id":null,"method":"x"}`: "", `{"jsonrpc":"2.0","id":{},"method":"x"}`: "", `{"jsonrpc":"2.0","id":true,"method":"x"}`: "",
		`{"jsonrpc":"2.0","id":1,"method":7}`: "", `{"jsonrpc":"2.0","id":1,"method":""}`: "", `{"jsonrpc":"2.0","id":1,"method":"a b"}`: "", `{"jsonrpc":"2.0","id":1,"method":"a\nb"}`: "", `{"jsonrpc":"2.0","id":1,"method":"` + strings.Repeat("a", 257) + `"}`: "",
		`{"jsonrpc":"2.0","id":1,"method":"x","result":{}}`: "", `{"jsonrpc":"2.0","id":1,"result":{},"error":{}}`: "", `{"jsonrpc":"2.0","result":{}}`: "", `{"jsonrpc":"2.0","id":1}`: "",
		`{"jsonrpc":"2.0","id":1,"method":"x","params":[1]}`: "", `{"jsonrpc":"2.0","id":1,"method":"x","params":"a"}`: "",
		// What a reader that does not tell upper from lower case takes for another message.
		`{"jsonrpc":"2.0","id":1,"method":"tools/list","Method":"tools/call"}`: "", `{"jsonrpc":"2.0","id":1,"method":"x","PARAMS":{}}`: "", `{"jsonrpc":"2.0","id":1,"method":"x","param\u017f":{}}`: "",
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","Name":"b"}}`: "", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","Arguments":{}}}`: "",
		`{"jsonrpc":"2.0","id":1,"method":"tools/call"}`: "", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":7}}`: "", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":""}}`: "",
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"\u202eplanted"}}`: "", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"` + strings.Repeat("a", 257) + `"}}`: "",
		`{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"name":"a"}}`: "",
	} {
		_, err := readMessage([]byte(text))
		f, ok := fault.As(err)
		require.True(t, ok, text)
		if code == "" {
			code = "malformed_request"
		}
		require.Equal(t, code, f.Code, text)
		require.NotContains(t, f.Detail, "planted")
	}
}

// TestHeadersSayWhatTheMessageSays: a header that names another method or tool than the message is refused, however it is written.
func TestHeadersSayWhatTheMessageSays(t *testing.T) {
	call, list := message{method: "tools/call", name: "grüße"}, message{method: "tools/list"}
	for _, c := range []struct {
		h  http.Header
		m  message
		ok bool
	}{
		{nil, call, true}, {http.Header{"Mcp-Method": {"tools/call"}}, call, true}, {http.Header{"Mcp-Method": {"tools/call"}, "Mcp-Name": {"grüße"}}, call, true},
		{http.Header{"Mcp-Name": {"=?base64?Z3LDvMOfZQ==?="}}, call, true}, {http.Header{"Mcp-Name": {"=?base64?Z3LDvMOfZZ==?="}}, call, false}, {http.Header{"Mcp-Name": {"=?base64?eA==?="}}, call, false},
		{http.Header{"Mcp-Method": {"tools/list"}}, call, false}, {http.Header{"Mcp-Method": {"TOOLS/CALL"}}, call, false}, {http.Header{"Mcp-Method": {"tools/call", "tools/call"}}, call, false}, {http.Header{"Mcp-Method": {""}}, call, false},
		{http.Header{"Mcp-Name": {"x"}}, list, false}, {http.Header{"Mcp-Name": {""}}, list, false}, {http.Header{"Mcp-Method": {"tools/list"}}, message{}, false},
		{http.Header{"Mcp-Protocol-Version": {"2025-11-25"}}, list, true}, {http.Header{"Mcp-Protocol-Version": {"2025-11-25", "2025-06-18"}}, list, false}, {http.Header{"Mcp-Protocol-Version": {"a b"}}, list, false},
		{http.Header{"Mcp-Session-Id": {"a", "b"}}, list, false}, {http.Header{"Last-Event-Id": {"a", "b"}}, list, false},
	} {
		require.Equal(t, c.ok, checkNames(c.h, c.m) == nil, "%v %v", c.h, c.m)
	}
}

// TestMissingScopes: of a server's challenge only scopes come through.
func TestMissingScopes(t *testing.T) {
	for line, want := range map[string]string{
		`Bearer error="insufficient_scope", scope="files:read files:write"`: "files:read files:write", `Bearer scope="a", error="insufficient_scope"`: "a", `Bearer error="insufficient_scope"`: "",
		"Bearer error=\"insufficient_scope\", scope=\"a \x07b é c\\d e\"": "a e", `Bearer error="insufficient_scope", scope="` + strings.Repeat("a", 2000) + `"`: "", `Bearer error="insufficient_scope", scope="a`: "",
	} {
		got, short := missingScopes([]string{line})
		require.True(t, short, line)
		require.Equal(t, want, got, line)
	}
	_, short := missingScopes([]string{`Bearer error="invalid_token", scope="a"`})
	require.False(t, short)
	_, short = missingScopes(nil)
	require.False(t, short)
}

// TestAClosedDoorLendsNothing: each door of MCP servers says in its own shape why.
func TestAClosedDoorLendsNothing(t *testing.T) {
	why := fault.New(fault.Unavailable, "encryption_key_missing", "Sealed.")
	b, err := New(Config{Closed: why})
	require.NoError(t, err)
	for path, door := range map[string]http.HandlerFunc{"/mcp/files": b.ServeMCP, MCPResource + "/mcp/files": b.ServeMCPResource, "/list-mcp-tools?mcpServerId=files": b.ServeMCPTools} {
		w := httptest.NewRecorder()
		door(w, httptest.NewRequest(http.MethodGet, path, nil))
		require.Contains(t, []int{503, 404}, w.Code, path)
		if path == "/mcp/files" {
			require.Contains(t, w.Body.String(), `"code":"encryption_key_missing"`)
		}
		if strings.HasPrefix(path, "/"+MCPTools) {
			require.Equal(t, 503, w.Code)
			require.Equal(t, `{"code":"executor_encryption_key_missing"}`, w.Body.String())
		}
	}
}
