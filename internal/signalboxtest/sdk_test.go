package signalboxtest_test

import (
	"bytes"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"
	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/demo"
	"signalbox.dev/signalbox/internal/signalboxtest"
)

// counting counts what really goes over the line: an SDK that retries by itself would hide our text behind its own.
type counting struct{ n atomic.Int64 }

func (c *counting) RoundTrip(r *http.Request) (*http.Response, error) {
	c.n.Add(1)
	return http.DefaultTransport.RoundTrip(r)
}

func sdk(lane *signalboxtest.Lane, count *counting, opts ...option.RequestOption) anthropic.Client {
	base := []option.RequestOption{option.WithBaseURL(lane.BaseURL()), option.WithAPIKey(lane.Key), option.WithHTTPClient(&http.Client{Transport: count})}
	return anthropic.NewClient(append(base, opts...)...)
}

func prompt(model, text string) anthropic.MessageNewParams {
	return anthropic.MessageNewParams{Model: anthropic.Model(model), MaxTokens: 512, Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock(text))}}
}

// TestOfficialSDK drives anthropic-sdk-go, unmodified, through the real listener.
func TestOfficialSDK(t *testing.T) {
	signalboxtest.Each(t, func(t *testing.T, box *signalboxtest.Box) {
		lane := box.Lane(t, "")
		count := &counting{}
		c := sdk(lane, count)
		ctx := t.Context()

		msg, err := c.Messages.New(ctx, prompt("claude-sonnet-x", "Is the line clear?"))
		require.NoError(t, err)
		require.Contains(t, msg.Content[0].Text, "Is the line clear?")

		stream := c.Messages.NewStreaming(ctx, prompt("claude-sonnet-x", "Is the line clear?"))
		var whole anthropic.Message
		for stream.Next() {
			require.NoError(t, whole.Accumulate(stream.Current()))
		}
		require.NoError(t, stream.Err())
		require.Equal(t, msg.Content[0].Text, whole.Content[0].Text)

		tokens, err := c.Messages.CountTokens(ctx, anthropic.MessageCountTokensParams{Model: "claude-sonnet-x", Messages: prompt("", "How many?").Messages})
		require.NoError(t, err)
		require.Positive(t, tokens.InputTokens)

		models, err := c.Models.List(ctx, anthropic.ModelListParams{})
		require.NoError(t, err)
		require.NotEmpty(t, models.Data)
		model, err := c.Models.Get(ctx, models.Data[0].ID, anthropic.ModelGetParams{})
		require.NoError(t, err)
		require.Equal(t, models.Data[0].ID, model.ID)
		require.EqualValues(t, 5, count.n.Load())

		for _, r := range box.Upstream.Requests() {
			require.True(t, r.Accepted)
			require.True(t, r.Credential().Equal(lane.Accounts[0].Secret), "the upstream must see the account's key")
			for name := range r.Header {
				require.False(t, strings.HasPrefix(name, "Msl-"), name)
			}
		}

		bearer := sdk(lane, count, option.WithHeaderDel("X-Api-Key"), option.WithAuthToken(lane.Key))
		_, err = bearer.Messages.New(ctx, prompt("claude-x", "with a bearer token"))
		require.NoError(t, err)
	})
}

// sdkError asks once and returns what the SDK makes of the refusal.
func sdkError(t *testing.T, c anthropic.Client, count *counting, p anthropic.MessageNewParams, opts ...option.RequestOption) *anthropic.Error {
	t.Helper()
	before := count.n.Load()
	_, err := c.Messages.New(t.Context(), p, opts...)
	var e *anthropic.Error
	require.True(t, errors.As(err, &e), "%v", err)
	require.EqualValues(t, 1, count.n.Load()-before, "the SDK must not retry: %v", err)
	require.NotEmpty(t, e.Response.Header.Get("X-Request-Id"))
	return e
}

// TestOfficialSDKErrors checks that each refusal of ours arrives in one request with its class and a text that says what to do.
func TestOfficialSDKErrors(t *testing.T) {
	signalboxtest.Each(t, func(t *testing.T, box *signalboxtest.Box) {
		lane := box.Lane(t, "")
		other := box.Lane(t, "")
		admin := box.Admin()
		ctx := t.Context()
		count := &counting{}
		c := sdk(lane, count)
		hello := prompt("claude-x", "hello")
		text := func(e *anthropic.Error) string { return e.RawJSON() + e.Error() }

		unknown := "sbx_live_" + strings.Repeat("0", len(lane.Key)-len("sbx_live_"))
		for _, key := range []string{unknown, lane.Key[:len(lane.Key)-1] + "!", "sk-ant-something-else", " "} {
			e := sdkError(t, c, count, hello, option.WithAPIKey(key))
			require.Equal(t, 401, e.StatusCode, key)
			require.Contains(t, text(e), "authentication_error")
			require.Equal(t, `Bearer realm="Signalbox"`, e.Response.Header.Get("WWW-Authenticate"))
			require.Equal(t, "false", e.Response.Header.Get("X-Should-Retry"))
			if key != " " {
				require.NotContains(t, text(e), key)
			}
		}

		e := sdkError(t, c, count, hello, option.WithHeader("MSL-Train-Id", other.Train))
		require.Equal(t, 403, e.StatusCode)
		require.Contains(t, text(e), "permission_error")
		e = sdkError(t, c, count, hello, option.WithHeader("MSL-Account", other.Accounts[0].ID))
		require.Equal(t, 403, e.StatusCode)
		require.Contains(t, text(e), "not linked")

		raw := func(body string) (int, string, http.Header) {
			resp, err := http.DefaultClient.Do(lane.Request(ctx, []byte(body)))
			require.NoError(t, err)
			defer func() { _ = resp.Body.Close() }()
			var b bytes.Buffer
			_, err = b.ReadFrom(resp.Body)
			require.NoError(t, err)
			return resp.StatusCode, b.String(), resp.Header
		}
		status, body, _ := raw(`{"model":"claude-x","model":"claude-y"}`)
		require.Equal(t, 400, status)
		require.Contains(t, body, "invalid_request_error")
		require.Contains(t, body, "twice")

		huge := prompt("claude-x", strings.Repeat("x", 33<<20))
		e = sdkError(t, c, count, huge)
		require.Equal(t, 413, e.StatusCode)
		require.Contains(t, text(e), "request_too_large")
		require.Contains(t, text(e), "32 MiB")

		resp, err := http.Get(lane.BaseURL() + "/v1/complete")
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, 404, resp.StatusCode)
		resp, err = http.Get(lane.BaseURL() + "/v1/messages")
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, 405, resp.StatusCode)
		require.Equal(t, "POST", resp.Header.Get("Allow"))

		// The upstream's own errors arrive as they are.
		e = sdkError(t, c, count, prompt("fake-error-400", "x"))
		require.Equal(t, 400, e.StatusCode)
		require.NotEmpty(t, e.Response.Header.Get("Request-Id"))

		// All accounts rest after a rate limit, and the answer says for how long.
		box.Upstream.SetKeyBehaviour(lane.Accounts[0].Secret, demo.Always(demo.Behaviour{Status: 429, RetryAfter: 40 * time.Second}))
		once := sdk(lane, count, option.WithMaxRetries(0))
		_, err = once.Messages.New(ctx, hello)
		require.Error(t, err)
		e = sdkError(t, c, count, hello)
		require.Equal(t, 429, e.StatusCode)
		require.Contains(t, text(e), "rate_limit_error")
		require.Contains(t, text(e), "cooling")
		require.NotEmpty(t, e.Response.Header.Get("Retry-After"))

		// A train without an account, a disabled one, a revoked key.
		empty, err := admin.CreateTrain(ctx, client.TrainDraft{TrainID: "empty", Name: "Empty"})
		require.NoError(t, err)
		key, err := admin.IssueKey(ctx, empty.TrainID, client.KeyDraft{Name: "k"})
		require.NoError(t, err)
		e = sdkError(t, c, count, hello, option.WithAPIKey(key.APIKey))
		require.Equal(t, 403, e.StatusCode)
		require.Contains(t, text(e), "permission_error")
		require.Contains(t, text(e), "signalbox train link")
		yes := true
		_, err = admin.UpdateTrain(ctx, empty.TrainID, client.TrainPatch{Disabled: &yes})
		require.NoError(t, err)
		e = sdkError(t, c, count, hello, option.WithAPIKey(key.APIKey))
		require.Equal(t, 401, e.StatusCode)
		require.NoError(t, admin.RevokeKey(ctx, other.Train, other.KeyID))
		e = sdkError(t, c, count, hello, option.WithAPIKey(other.Key))
		require.Equal(t, 401, e.StatusCode)
		require.NotContains(t, text(e), other.Key)
	})
}
