package demo_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/demo"
	"signalbox.dev/signalbox/internal/secret"
)

// post sends a raw body with the test key.
func post(t *testing.T, ctx context.Context, url, body string, header ...string) (*http.Response, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	require.NoError(t, err)
	r.Header.Set("X-Api-Key", testKey)
	r.Header.Set("Anthropic-Version", "2023-06-01")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	return c.Do(r)
}

// exchange posts and reads the whole answer; the error is that of reading it.
func exchange(t *testing.T, url, body string, header ...string) (*http.Response, string, error) {
	t.Helper()
	resp, err := post(t, t.Context(), url, body, header...)
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp, string(b), err
}

func body(model string, stream bool) string {
	return fmt.Sprintf(`{"model":%q,"max_tokens":64,"stream":%t,"messages":[{"role":"user","content":"hi"}]}`, model, stream)
}

func TestStreamHasTheShapeOfTheRealAPI(t *testing.T) {
	_, url := start(t, demo.Options{})
	resp, got, err := exchange(t, url+"/v1/messages?beta=true", body("fake-stream-2", true))
	require.NoError(t, err)
	require.Equal(t, "text/event-stream; charset=utf-8", resp.Header.Get("Content-Type"))
	require.Equal(t, "no-cache", resp.Header.Get("Cache-Control"))
	id := fmt.Sprintf("msg_%x", sha256.Sum256([]byte(body("fake-stream-2", true))))[:28]
	require.Equal(t, strings.ReplaceAll(`event: message_start
data: {"type":"message_start","message":{"model":"fake-stream-2","id":"ID","type":"message","role":"assistant","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":1,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"cache_creation":{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":0},"output_tokens":1,"service_tier":"standard"}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

event: ping
data: {"type": "ping"}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"token 0 "}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"token 1 "} }

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"input_tokens":1,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":2}}

event: message_stop
data: {"type":"message_stop"}

`, "ID", id), got)

	for _, n := range []int{1, 50, 1000} {
		model := fmt.Sprintf("fake-stream-%d", n)
		_, once, err := exchange(t, url+"/v1/messages", body(model, true))
		require.NoError(t, err)
		require.Equal(t, n, strings.Count(once, "event: content_block_delta\n"))
		_, again, err := exchange(t, url+"/v1/messages", body(model, true))
		require.NoError(t, err)
		require.Equal(t, once, again, "equal requests get equal answers")
		for line := range strings.Lines(once) {
			if data, ok := strings.CutPrefix(line, "data: "); ok {
				require.True(t, json.Valid([]byte(data)), data)
			}
		}
	}
	_, other, err := exchange(t, url+"/v1/messages", body("fake-stream-50", true)+" ")
	require.NoError(t, err)
	_, one, err := exchange(t, url+"/v1/messages", body("fake-stream-50", true))
	require.NoError(t, err)
	require.NotEqual(t, one, other, "another body gets another message id")
}

func TestEachEventIsFlushed(t *testing.T) {
	u, url := start(t, demo.Options{})
	u.SetKeyBehaviour(secret.FromString(testKey), demo.Always(demo.Behaviour{Deltas: 3, Every: 40 * time.Millisecond}))
	resp, err := post(t, t.Context(), url+"/v1/messages", body("claude-x", true))
	require.NoError(t, err)
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	var at []time.Time
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "event: content_block_delta") {
			at = append(at, time.Now())
		}
	}
	require.NoError(t, lines.Err())
	require.Len(t, at, 3)
	require.Greater(t, at[2].Sub(at[0]), 60*time.Millisecond, "the deltas came apart, not at the end")
}

func TestSlowModels(t *testing.T) {
	_, url := start(t, demo.Options{})
	for _, stream := range []bool{true, false} {
		begin := time.Now()
		_, got, err := exchange(t, url+"/v1/messages", body("fake-stream-5-slow-20", stream))
		require.NoError(t, err)
		require.GreaterOrEqual(t, time.Since(begin), 100*time.Millisecond)
		require.Contains(t, got, "token 4")
	}
	begin := time.Now()
	_, _, err := exchange(t, url+"/v1/messages", body("fake-slow-stream-3", true))
	require.NoError(t, err)
	require.GreaterOrEqual(t, time.Since(begin), 150*time.Millisecond, "50 ms a delta is the default")
}

func TestCutConnections(t *testing.T) {
	u, plain := start(t, demo.Options{})
	h2 := httptest.NewUnstartedServer(u)
	h2.EnableHTTP2 = true
	h2.StartTLS()
	defer h2.Close()
	for _, stream := range []bool{true, false} {
		for _, model := range []string{"fake-cut-stream-10", "fake-cut-boundary-stream-10"} {
			for _, url := range []string{plain, h2.URL} {
				c := h2.Client()
				r, err := http.NewRequest(http.MethodPost, url+"/v1/messages", strings.NewReader(body(model, stream)))
				require.NoError(t, err)
				r.Header.Set("X-Api-Key", testKey)
				r.Header.Set("Anthropic-Version", "2023-06-01")
				resp, err := c.Do(r)
				require.NoError(t, err)
				got, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				require.Error(t, err, "%s stream=%t %s: a cut answer must not look complete", model, stream, resp.Proto)
				if !stream {
					require.False(t, json.Valid(got))
					continue
				}
				require.Contains(t, string(got), "token 4 ")
				require.NotContains(t, string(got), "token 5 ")
				require.NotContains(t, string(got), "message_stop")
				require.Equal(t, model == "fake-cut-boundary-stream-10", strings.HasSuffix(string(got), "}\n\n"), "%q", got)
			}
		}
	}
	h2.CloseClientConnections()
}

func TestBadRequests(t *testing.T) {
	_, url := start(t, demo.Options{})
	const messages = `"messages":[{"role":"user","content":"hi"}]`
	for in, want := range map[string]string{
		"":                                      "not valid JSON",
		"{":                                     "not valid JSON",
		`{"model":1}`:                           "not valid JSON",
		`{"max_tokens":1,` + messages + `}`:     "model: Field required",
		`{"model":"claude-x",` + messages + `}`: "max_tokens: Field required",
		`{"model":"claude-x","max_tokens":0,` + messages + `}`:                                                "max_tokens: Input should be",
		`{"model":"claude-x","max_tokens":1}`:                                                                 "messages: Field required",
		`{"model":"claude-x","max_tokens":1,"messages":[]}`:                                                   "at least one message",
		`{"model":"claude-x","max_tokens":1,"messages":[{"role":"tool","content":"x"}]}`:                      "messages.0.role",
		`{"model":"claude-x","max_tokens":1,"messages":[{"role":"user","content":"x"},{"role":"assistant"}]}`: "messages.1.content",
	} {
		resp, got, err := exchange(t, url+"/v1/messages", in)
		require.NoError(t, err)
		require.Equal(t, 400, resp.StatusCode, in)
		require.Contains(t, got, `"type":"invalid_request_error"`)
		require.Contains(t, got, want)
		require.Equal(t, "application/json", resp.Header.Get("Content-Type"))
	}
	resp, got, _ := exchange(t, url+"/v1/messages", body("claude-x", false), "Anthropic-Version", "")
	require.Equal(t, 400, resp.StatusCode)
	require.Contains(t, got, "anthropic-version: header is required")
	resp, _, _ = exchange(t, url+"/v1/models", "{}")
	require.Equal(t, 405, resp.StatusCode)
	require.Equal(t, "GET", resp.Header.Get("Allow"))
	resp, got, _ = exchange(t, url+"/v1/complete", "{}")
	require.Equal(t, 404, resp.StatusCode)
	require.Contains(t, got, "not_found_error")
	resp, got, _ = exchange(t, url+"/v1/messages", strings.Repeat(" ", 32<<20+1))
	require.Equal(t, 413, resp.StatusCode)
	require.Contains(t, got, "request_too_large")
}

func TestEchoTakesTheLastTextOfTheUser(t *testing.T) {
	_, url := start(t, demo.Options{})
	for in, want := range map[string]string{
		`[{"role":"user","content":"first"},{"role":"assistant","content":"no"},{"role":"user","content":[{"type":"text","text":"reminder"},{"type":"text","text":"second"},{"type":"image"}]},{"role":"assistant","content":"prefill"}]`: "was: second\"",
		`[{"role":"user","content":"` + strings.Repeat("ü", 600) + `"}]`:                      "was: " + strings.Repeat("ü", 200) + "…\"",
		`[{"role":"user","content":[{"type":"tool_result"}]}]`:                                "was: \"",
		`[{"role":"assistant","content":"only"}]`:                                             "was: \"",
		`[{"role":"user","content":"line\nbreak \"quoted\" <b>","cache_control":{"x":null}}]`: `was: line\nbreak \"quoted\" \u003cb\u003e"`,
	} {
		_, got, err := exchange(t, url+"/v1/messages", `{"model":"claude-x","max_tokens":9999,"messages":`+in+`}`)
		require.NoError(t, err)
		require.Contains(t, got, want)
		require.True(t, json.Valid([]byte(got)))
	}
}

func TestScripts(t *testing.T) {
	u, url := start(t, demo.Options{})
	key := secret.FromString(testKey)
	status := func(model string) int {
		resp, _, err := exchange(t, url+"/v1/messages", body(model, false))
		require.NoError(t, err)
		return resp.StatusCode
	}
	u.SetKeyBehaviour(key, demo.InTurn(demo.Behaviour{Status: 429, RetryAfter: 1500 * time.Millisecond}, demo.Behaviour{Status: 529}))
	resp, _, err := exchange(t, url+"/v1/messages", body("claude-x", false))
	require.NoError(t, err)
	require.Equal(t, 429, resp.StatusCode)
	require.Equal(t, "2", resp.Header.Get("Retry-After"), "rounded up")
	require.Equal(t, 529, status("claude-x"))
	require.Equal(t, 200, status("claude-x"), "afterwards the model's name decides")
	require.Equal(t, 500, status("fake-error-500"))

	u.SetKeyBehaviour(key, demo.Status(403))
	require.Equal(t, 403, status("claude-x"))
	require.Equal(t, 403, status("fake-stream-3"), "a script goes before the model")

	var seen []int
	u.SetKeyBehaviour(key, func(n int, r *http.Request) (demo.Behaviour, bool) {
		seen = append(seen, n)
		return demo.Behaviour{Header: http.Header{"anthropic-ratelimit-requests-remaining": {"7"}, "Anthropic-Organization-Id": nil}}, r.URL.Query().Get("beta") == "true"
	})
	resp, _, err = exchange(t, url+"/v1/messages?beta=true", body("no-such-model", false))
	require.NoError(t, err)
	require.Equal(t, 200, resp.StatusCode)
	require.Equal(t, "7", resp.Header.Get("Anthropic-Ratelimit-Requests-Remaining"))
	require.Empty(t, resp.Header.Values("Anthropic-Organization-Id"))
	require.Equal(t, 404, status("no-such-model"))
	require.Equal(t, []int{0, 1}, seen)

	u.SetKeyBehaviour(key, nil)
	require.Equal(t, 200, status("claude-x"))
	u.SetKeyBehaviour(secret.FromString("another"), demo.Status(500))
	resp, _, err = exchange(t, url+"/v1/messages", body("claude-x", false), "X-Api-Key", "another")
	require.NoError(t, err)
	require.Equal(t, 500, resp.StatusCode, "a script makes its key known")
}

// An answer that comes before the request's body was read is what made other proxies cut streams.
func TestEarlyAnswerDoesNotWaitForTheBody(t *testing.T) {
	u, url := start(t, demo.Options{Keep: 1})
	u.SetKeyBehaviour(secret.FromString(testKey), demo.Always(demo.Behaviour{Status: 429, Early: true}))
	held, release := io.Pipe()
	defer release.Close()
	r, err := http.NewRequest(http.MethodPost, url+"/v1/messages", held)
	require.NoError(t, err)
	r.Header.Set("X-Api-Key", testKey)
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	resp, err := tr.RoundTrip(r)
	require.NoError(t, err)
	require.Equal(t, 429, resp.StatusCode)
	resp.Body.Close()
	require.Zero(t, u.Requests()[0].BodySize)
}

func TestUnifiedLimitsAreToldToTokens(t *testing.T) {
	_, url := start(t, demo.Options{})
	resp, _, err := exchange(t, url+"/v1/messages", body("claude-x", false), "X-Api-Key", "", "Authorization", "x")
	require.NoError(t, err)
	require.Equal(t, 401, resp.StatusCode)

	r, err := http.NewRequest(http.MethodPost, url+"/v1/messages", strings.NewReader(body("claude-x", false)))
	require.NoError(t, err)
	r.Header.Set("Authorization", "bearer "+testToken)
	r.Header.Set("Anthropic-Beta", "oauth-2025-04-20")
	r.Header.Set("Anthropic-Version", "2023-06-01")
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	resp, err = tr.RoundTrip(r)
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, 200, resp.StatusCode)
	require.Equal(t, "allowed", resp.Header.Get("Anthropic-Ratelimit-Unified-Status"))
	require.Regexp(t, `^\d+$`, resp.Header.Get("Anthropic-Ratelimit-Unified-5h-Reset"))
	require.Regexp(t, `^0\.\d+$`, resp.Header.Get("Anthropic-Ratelimit-Unified-7d-Utilization"))
	require.Empty(t, resp.Header.Get("Anthropic-Ratelimit-Requests-Limit"))
}
