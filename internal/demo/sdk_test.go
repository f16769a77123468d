package demo_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"signalbox.dev/signalbox/internal/demo"
	"signalbox.dev/signalbox/internal/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testKey   = "sk-ant-planted-key"
	testToken = "sk-ant-oat-planted-token"
)

// start serves a fake on a real listener and stops it with the test.
func start(t *testing.T, o demo.Options) (*demo.Upstream, string) {
	t.Helper()
	o.Keys = append(o.Keys, secret.FromString(testKey))
	o.Tokens = append(o.Tokens, secret.FromString(testToken))
	u := demo.NewUpstream(o)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- u.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		require.NoError(t, u.Shutdown(ctx))
		require.NoError(t, <-served)
	})
	return u, "http://" + l.Addr().String()
}

// client is the official SDK, unmodified, with a transport of its own.
func client(t *testing.T, url string, opts ...option.RequestOption) anthropic.Client {
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	base := []option.RequestOption{
		option.WithoutEnvironmentDefaults(), option.WithBaseURL(url), option.WithAPIKey(testKey), option.WithHTTPClient(&http.Client{Transport: tr}), option.WithMaxRetries(0),
	}
	return anthropic.NewClient(append(base, opts...)...)
}

func ask(model, text string) anthropic.MessageNewParams {
	return anthropic.MessageNewParams{
		Model: model, MaxTokens: 1024, Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock(text))},
	}
}

func TestSDKReadsAMessage(t *testing.T) {
	_, url := start(t, demo.Options{})
	c := client(t, url)
	var resp *http.Response
	msg, err := c.Messages.New(t.Context(), ask("claude-sonnet-4-5-20250929", "Which line is clear?"), option.WithResponseInto(&resp))
	require.NoError(t, err)
	require.Len(t, msg.Content, 1)
	require.Contains(t, msg.Content[0].Text, `Your last message was: Which line is clear?`)
	require.Contains(t, msg.Content[0].Text, "No real model")
	require.Equal(t, "claude-sonnet-4-5-20250929", msg.Model)
	require.Equal(t, anthropic.StopReasonEndTurn, msg.StopReason)
	require.Regexp(t, `^msg_[0-9a-f]{24}$`, msg.ID)
	require.Positive(t, msg.Usage.InputTokens)
	require.EqualValues(t, 20, msg.Usage.OutputTokens)
	require.Regexp(t, `^req_`, resp.Header.Get("request-id"))
	require.Equal(t, "4000", resp.Header.Get("anthropic-ratelimit-requests-limit"))
	require.Equal(t, "3999", resp.Header.Get("anthropic-ratelimit-requests-remaining"))
	_, err = time.Parse(time.RFC3339, resp.Header.Get("anthropic-ratelimit-input-tokens-reset"))
	require.NoError(t, err)
}

func TestSDKStreams(t *testing.T) {
	_, url := start(t, demo.Options{})
	c := client(t, url)
	whole, err := c.Messages.New(t.Context(), ask("claude-x", "Grüße \"quoted\" \\ </script> \u2028 🚂"))
	require.NoError(t, err)

	stream := c.Messages.NewStreaming(t.Context(), ask("claude-x", "Grüße \"quoted\" \\ </script> \u2028 🚂"))
	var acc anthropic.Message
	var kinds []string
	for stream.Next() {
		ev := stream.Current()
		kinds = append(kinds, ev.Type)
		require.NoError(t, acc.Accumulate(ev))
	}
	require.NoError(t, stream.Err())
	require.NoError(t, stream.Close())
	require.Equal(t, whole.Content[0].Text, acc.Content[0].Text)
	require.Contains(t, acc.Content[0].Text, "Grüße \"quoted\" \\ </script> \u2028 🚂")
	require.Equal(t, "message_start", kinds[0])
	require.Equal(t, "content_block_start", kinds[1])
	require.Equal(t, []string{"content_block_stop", "message_delta", "message_stop"}, kinds[len(kinds)-3:])
	require.Equal(t, whole.Usage.InputTokens, acc.Usage.InputTokens)
	require.Equal(t, whole.Usage.OutputTokens, acc.Usage.OutputTokens)
	require.EqualValues(t, len(kinds)-5, acc.Usage.OutputTokens)
	require.Equal(t, anthropic.StopReasonEndTurn, acc.StopReason)
}

func TestMaxTokensCutsTheEcho(t *testing.T) {
	_, url := start(t, demo.Options{})
	params := ask("claude-x", "a b c")
	params.MaxTokens = 3
	c := client(t, url)
	msg, err := c.Messages.New(t.Context(), params)
	require.NoError(t, err)
	require.Equal(t, anthropic.StopReasonMaxTokens, msg.StopReason)
	require.EqualValues(t, 3, msg.Usage.OutputTokens)
	require.Equal(t, "Hello from Signalbox's ", msg.Content[0].Text)
}

func TestSDKCountsTokensAndReadsModels(t *testing.T) {
	_, url := start(t, demo.Options{})
	c := client(t, url)
	n, err := c.Messages.CountTokens(t.Context(), anthropic.MessageCountTokensParams{
		Model: "claude-x", Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("four"))},
	})
	require.NoError(t, err)
	small := n.InputTokens
	n, err = c.Messages.CountTokens(t.Context(), anthropic.MessageCountTokensParams{
		Model: "claude-x", Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("four and forty more"))},
	})
	require.NoError(t, err)
	require.Positive(t, small)
	require.Greater(t, n.InputTokens, small)

	var all []string
	pages := c.Models.ListAutoPaging(t.Context(), anthropic.ModelListParams{Limit: anthropic.Int(4)})
	for pages.Next() {
		all = append(all, pages.Current().ID)
	}
	require.NoError(t, pages.Err())
	require.Contains(t, all, "fake-slow")
	require.Contains(t, all, "claude-opus-4-5-20251101")
	one, err := c.Models.List(t.Context(), anthropic.ModelListParams{})
	require.NoError(t, err)
	require.Len(t, all, len(one.Data), "pages of 4 tell the same as one page")

	var back []string
	pages = c.Models.ListAutoPaging(t.Context(), anthropic.ModelListParams{Limit: anthropic.Int(4), BeforeID: anthropic.String("fake-slow")})
	for pages.Next() {
		back = append(back, pages.Current().ID)
	}
	require.NoError(t, pages.Err())
	require.ElementsMatch(t, all[:4], back)

	m, err := c.Models.Get(t.Context(), "fake-stream-7", anthropic.ModelGetParams{})
	require.NoError(t, err)
	require.Equal(t, "fake-stream-7", m.ID)
	_, err = c.Models.Get(t.Context(), "no-such-model", anthropic.ModelGetParams{})
	requireAPIError(t, err, 404, anthropic.ErrorTypeNotFoundError)
}

func requireAPIError(t *testing.T, err error, status int, kind anthropic.ErrorType) *anthropic.Error {
	t.Helper()
	var api *anthropic.Error
	require.True(t, errors.As(err, &api), "%v", err)
	require.Equal(t, status, api.StatusCode)
	require.Equal(t, kind, api.Type())
	require.Regexp(t, `^req_`, api.RequestID)
	require.Contains(t, api.RawJSON(), api.RequestID)
	return api
}

func TestSDKReadsEachErrorClass(t *testing.T) {
	_, url := start(t, demo.Options{})
	c := client(t, url)
	for model, want := range map[string]struct {
		status int
		kind   anthropic.ErrorType
		retry  string
	}{
		"fake-error-400": {400, anthropic.ErrorTypeInvalidRequestError, ""},
		"fake-error-401": {401, anthropic.ErrorTypeAuthenticationError, ""},
		"fake-error-402": {402, anthropic.ErrorTypeBillingError, ""},
		"fake-error-403": {403, anthropic.ErrorTypePermissionError, ""},
		"fake-error-404": {404, anthropic.ErrorTypeNotFoundError, ""},
		"fake-error-429": {429, anthropic.ErrorTypeRateLimitError, "5"},
		"fake-error-500": {500, anthropic.ErrorTypeAPIError, ""},
		"fake-error-503": {503, anthropic.ErrorTypeAPIError, ""},
		"fake-error-504": {504, anthropic.ErrorTypeTimeoutError, ""},
		"fake-error-529": {529, anthropic.ErrorTypeOverloadedError, ""},
		"gpt-0":          {404, anthropic.ErrorTypeNotFoundError, ""},
		"fake-nonsense":  {404, anthropic.ErrorTypeNotFoundError, ""},
		"fake-stream-":   {404, anthropic.ErrorTypeNotFoundError, ""},
		"fake-stream-0":  {404, anthropic.ErrorTypeNotFoundError, ""},
		"fake-error-200": {404, anthropic.ErrorTypeNotFoundError, ""},
	} {
		_, err := c.Messages.New(t.Context(), ask(model, "hi"))
		api := requireAPIError(t, err, want.status, want.kind)
		require.Equal(t, want.retry, api.Response.Header.Get("retry-after"), model)
		require.Equal(t, want.status == 429 || want.status >= 500, api.Response.Header.Get("x-should-retry") == "true", model)

		stream := c.Messages.NewStreaming(t.Context(), ask(model, "hi"))
		require.False(t, stream.Next())
		requireAPIError(t, stream.Err(), want.status, want.kind)
		_, err = c.Messages.CountTokens(t.Context(), anthropic.MessageCountTokensParams{Model: model, Messages: ask(model, "hi").Messages})
		requireAPIError(t, err, want.status, want.kind)
	}
}

func TestSDKAuthentication(t *testing.T) {
	u, url := start(t, demo.Options{})
	for name, tc := range map[string]struct {
		opts []option.RequestOption
		ok   bool
	}{
		"api key":                     {nil, true},
		"api key as bearer":           {[]option.RequestOption{option.WithHeaderDel("X-Api-Key"), option.WithAuthToken(testKey)}, true},
		"unknown key":                 {[]option.RequestOption{option.WithAPIKey("sk-ant-other")}, false},
		"prefix of the key":           {[]option.RequestOption{option.WithAPIKey(testKey[:10])}, false},
		"empty key":                   {[]option.RequestOption{option.WithHeader("X-Api-Key", "")}, false},
		"no credential":               {[]option.RequestOption{option.WithHeaderDel("X-Api-Key")}, false},
		"token without beta":          {[]option.RequestOption{option.WithHeaderDel("X-Api-Key"), option.WithAuthToken(testToken)}, false},
		"token with beta":             {[]option.RequestOption{option.WithHeaderDel("X-Api-Key"), option.WithAuthToken(testToken), option.WithHeader("anthropic-beta", "oauth-2025-04-20")}, true},
		"token with betas":            {[]option.RequestOption{option.WithHeaderDel("X-Api-Key"), option.WithAuthToken(testToken), option.WithHeader("anthropic-beta", "a-1, oauth-2025-04-20,b-2")}, true},
		"token as api key":            {[]option.RequestOption{option.WithAPIKey(testToken), option.WithHeader("anthropic-beta", "oauth-2025-04-20")}, false},
		"two credentials in a header": {[]option.RequestOption{option.WithHeaderAdd("X-Api-Key", "other")}, false},
	} {
		c := client(t, url, tc.opts...)
		_, err := c.Messages.New(t.Context(), ask("claude-x", "hi"))
		if tc.ok {
			require.NoError(t, err, name)
			continue
		}
		require.Error(t, err, name)
		requireAPIError(t, err, 401, anthropic.ErrorTypeAuthenticationError)
	}
	u.RemoveKey(secret.FromString(testKey))
	c := client(t, url)
	_, err := c.Messages.New(t.Context(), ask("claude-x", "hi"))
	requireAPIError(t, err, 401, anthropic.ErrorTypeAuthenticationError)
}

func TestOverloadedMidStream(t *testing.T) {
	_, url := start(t, demo.Options{})
	c := client(t, url)
	stream := c.Messages.NewStreaming(t.Context(), ask("fake-overloaded-midstream", "hi"))
	deltas := 0
	for stream.Next() {
		if stream.Current().Type == "content_block_delta" {
			deltas++
		}
	}
	require.Positive(t, deltas, "the error comes after text")
	var api *anthropic.Error
	require.ErrorAs(t, stream.Err(), &api)
	require.Equal(t, 200, api.StatusCode)
	require.Equal(t, anthropic.ErrorTypeOverloadedError, api.Type())
	require.NoError(t, stream.Close())

	_, err := c.Messages.New(t.Context(), ask("fake-overloaded-midstream", "hi"))
	requireAPIError(t, err, 529, anthropic.ErrorTypeOverloadedError)
}
