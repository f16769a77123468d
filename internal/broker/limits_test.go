package broker_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/anthropics/anthropic-sdk-go/option"
	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/quota"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/train"
)

func (d *door) limit(p quota.Patch) {
	d.t.Helper()
	p.Clear = true
	_, err := d.trains.UpdateTrain(context.Background(), d.admin, "web", train.Patch{Limits: &p}, "")
	require.NoError(d.t, err)
}

// refusal is the type and the text of an error in Anthropic's shape.
func refusal(t *testing.T, body string) (kind, text string) {
	t.Helper()
	var e struct {
		Type  string
		Error struct{ Type, Message string }
	}
	require.NoError(t, json.Unmarshal([]byte(body), &e), body)
	require.Equal(t, "error", e.Type)
	return e.Error.Type, e.Error.Message
}

// TestLimitsAtTheDoor: what is left is told beside each answer, and a request over a limit is refused in a way that agents show at the first try.
func TestLimitsAtTheDoor(t *testing.T) {
	each(t, doorOptions{}, func(t *testing.T, d *door) {
		_, _, h := d.do(d.request(hello))
		require.Empty(t, h.Get("X-RateLimit-Limit"), "nothing is limited")
		d.limit(quota.Patch{Set: map[quota.Kind]int64{quota.RequestsPerMinute: 2, quota.TokensPerDay: 1_000_000}})
		for left := int64(1); left >= 0; left-- {
			status, body, h := d.do(d.request(hello))
			require.Equal(t, 200, status, body)
			require.Equal(t, "2", h.Get("X-RateLimit-Limit-Requests"))
			require.Equal(t, strconv.FormatInt(left, 10), h.Get("X-RateLimit-Remaining-Requests"))
			require.Equal(t, h.Get("X-RateLimit-Remaining-Requests"), h.Get("X-RateLimit-Remaining"))
			require.Equal(t, "1000000", h.Get("X-RateLimit-Limit-Tokens"))
			reset, err := strconv.Atoi(h.Get("X-RateLimit-Reset"))
			require.NoError(t, err)
			require.LessOrEqual(t, reset, 61)
		}
		status, body, h := d.do(d.request(hello))
		require.Equal(t, 429, status)
		kind, text := refusal(t, body)
		require.Equal(t, "rate_limit_error", kind)
		require.Contains(t, text, "The train of this client key is at its limit: 2 requests a minute. ")
		require.Equal(t, "false", h.Get("X-Should-Retry"))
		require.Equal(t, "0", h.Get("X-RateLimit-Remaining"))
		require.Equal(t, h.Get("Retry-After"), h.Get("X-RateLimit-Reset"))
		require.Empty(t, h.Get("Anthropic-Ratelimit-Unified-Status"))

		d.limit(quota.Patch{Set: map[quota.Kind]int64{quota.MonthlyTokens: 1}})
		d.results(3)
		status, body, h = d.do(d.request(hello))
		require.Equal(t, 429, status)
		kind, text = refusal(t, body)
		require.Equal(t, "billing_error", kind)
		require.Contains(t, text, "The train of this client key has spent its budget: 1 tokens a month. ")
		require.Equal(t, "rejected", h.Get("Anthropic-Ratelimit-Unified-Status"))
		reset, err := strconv.ParseInt(h.Get("Anthropic-Ratelimit-Unified-Reset"), 10, 64)
		require.NoError(t, err)
		next := time.Unix(reset, 0).UTC()
		require.Equal(t, 1, next.Add(time.Second).Day(), "until the month ends")
		require.Equal(t, h.Get("Anthropic-Ratelimit-Unified-Reset"), h.Get("Anthropic-Ratelimit-Unified-Overage-Reset"))
		require.Equal(t, "1", h.Get("Anthropic-Ratelimit-Unified-Overage-Utilization"))
		require.Empty(t, h.Get("Anthropic-Ratelimit-Unified-Representative-Claim"))

		d.limit(quota.Patch{Set: map[quota.Kind]int64{quota.MaxTokens: 40}, Models: &[]string{"claude-x*"}})
		status, body, _ = d.do(d.request(hello))
		require.Equal(t, 400, status)
		kind, text = refusal(t, body)
		require.Equal(t, "invalid_request_error", kind)
		require.Contains(t, text, "max_tokens of at most 40")
		status, body, _ = d.do(d.request(`{"model":"claude-y","max_tokens":40,"messages":[]}`))
		require.Equal(t, 400, status)
		_, text = refusal(t, body)
		require.Contains(t, text, "They allow: claude-x*. ")
		for _, bad := range []string{`"max_tokens":41,"max_tokens":40`, `"max_tokens":"40"`, `"max_tokens":-1`, `"max_tokens":null`, `"max_\u0074okens":41`, `"x":1`} {
			status, _, _ := d.do(d.request(`{"model":"claude-x",` + bad + `,"messages":[{"role":"user","content":"hello"}]}`))
			require.Equal(t, 400, status, bad)
		}
		for _, good := range []string{`"max_tokens":40`, `"metadata":{"max_tokens":99},"max_tokens":1`} {
			status, body, _ := d.do(d.request(`{"model":"claude-x",` + good + `,"messages":[{"role":"user","content":"hello"}]}`))
			require.Equal(t, 200, status, "%s: %s", good, body)
		}
		status, body = d.ask("POST", "/v1/messages/batches", d.key, `{"requests":[]}`)
		require.Equal(t, 400, status, body)
		require.Contains(t, body, "A batch cannot be held against the limits")
	})
}

// TestWhoseLimitBinds: where ours leave less than the upstream's, the upstream's numbers stay behind; else ours stand beside them.
func TestWhoseLimitBinds(t *testing.T) {
	each(t, doorOptions{}, func(t *testing.T, d *door) {
		theirs := map[string]string{}
		up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			for name, value := range theirs {
				w.Header().Set(name, value)
			}
			_, _ = w.Write([]byte(`{"type":"message","model":"claude-x","usage":{"input_tokens":1,"output_tokens":1}}`))
		}))
		t.Cleanup(up.Close)
		for _, a := range d.accounts {
			require.NoError(t, d.trains.Unlink(t.Context(), d.admin, "web", a.ID, ""))
		}
		d.account("web", "binding", up.URL, 1)
		for _, c := range []struct {
			limit  map[quota.Kind]int64
			theirs map[string]string
			pass   bool
		}{
			{nil, map[string]string{"Requests-Remaining": "5"}, true},
			{map[quota.Kind]int64{quota.RequestsPerDay: 1000}, map[string]string{"Requests-Remaining": "5", "Requests-Limit": "50"}, true},
			{map[quota.Kind]int64{quota.RequestsPerDay: 1000}, map[string]string{"Requests-Remaining": "50000", "Requests-Limit": "99999"}, false},
			{map[quota.Kind]int64{quota.RequestsPerDay: 1000}, map[string]string{"Unified-Status": "allowed", "Unified-Reset": "1"}, false},
			{map[quota.Kind]int64{quota.TokensPerDay: 1_000_000}, map[string]string{"Input-Tokens-Remaining": "20", "Tokens-Remaining": "5000000"}, true},
			{map[quota.Kind]int64{quota.TokensPerDay: 1_000_000}, map[string]string{"Tokens-Remaining": "5000000"}, false},
			{map[quota.Kind]int64{quota.ConcurrentStreams: 5}, map[string]string{"Tokens-Remaining": "5000000"}, true},
		} {
			clear(theirs)
			theirs["X-RateLimit-Limit"] = "upstream"
			for name, value := range c.theirs {
				theirs["Anthropic-Ratelimit-"+name] = value
			}
			d.limit(quota.Patch{Set: c.limit})
			status, body, h := d.do(d.request(hello))
			require.Equal(t, 200, status, body)
			for name, value := range c.theirs {
				if !c.pass {
					value = ""
				}
				require.Equal(t, value, h.Get("Anthropic-Ratelimit-"+name), "%+v", c)
			}
			if _, counted := c.limit[quota.RequestsPerDay]; counted {
				require.Equal(t, "1000", h.Get("X-RateLimit-Limit"))
			}
			require.LessOrEqual(t, strings.Count(strings.Join(h.Values("X-RateLimit-Limit"), ","), ","), 0)
		}
	})
}

// TestTheUpstreamsRefusalPasses: where the upstream's limit is the one that binds, agents hear of that one.
func TestTheUpstreamsRefusalPasses(t *testing.T) {
	each(t, doorOptions{}, func(t *testing.T, d *door) {
		for i, c := range []struct {
			status int
			ours   string // of our limit of requests
			theirs map[string]string
		}{
			{200, "1000", map[string]string{"Anthropic-Ratelimit-Unified-Status": "rejected", "Anthropic-Ratelimit-Unified-Overage-Status": "allowed", "Anthropic-Ratelimit-Unified-Reset": "2000000000"}},
			{429, "", map[string]string{"Anthropic-Ratelimit-Unified-Status": "rejected", "Anthropic-Ratelimit-Unified-Reset": "2000000000"}},
			{429, "upstream", map[string]string{"X-Ratelimit-Limit": "upstream", "X-Ratelimit-Remaining": "0", "Retry-After": "7"}},
			{429, "", map[string]string{"Anthropic-Ratelimit-Requests-Remaining": "50000", "Anthropic-Ratelimit-Tokens-Remaining": "0"}},
		} {
			up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				for name, value := range c.theirs {
					w.Header().Set(name, value)
				}
				w.WriteHeader(c.status)
				_, _ = w.Write([]byte(`{"type":"message","model":"claude-x","usage":{"input_tokens":1,"output_tokens":1}}`))
			}))
			t.Cleanup(up.Close)
			last := d.accounts[len(d.accounts)-1]
			require.NoError(t, d.trains.Unlink(t.Context(), d.admin, "web", last.ID, ""))
			d.account("web", "refusing-"+strconv.Itoa(i), up.URL, 1)
			d.limit(quota.Patch{Set: map[quota.Kind]int64{quota.RequestsPerDay: 1000}})
			status, body, h := d.do(d.request(hello))
			require.Equal(t, c.status, status, body)
			for name, value := range c.theirs {
				require.Equal(t, value, h.Get(name), "%+v", c)
			}
			require.Equal(t, c.ours, h.Get("X-RateLimit-Limit"), "%+v", c)
		}
	})
}

// TestAListCountsOnce: however many objects it names, each of which is lent for and recorded; an empty one asks nobody, and counts nothing.
func TestAListCountsOnce(t *testing.T) {
	each(t, doorOptions{accounts: 2}, func(t *testing.T, d *door) {
		for i := range 6 {
			_, err := upload(d.sdk(d.key), "file", option.WithHeader("MSL-Account", d.accounts[i%2].Name))
			require.NoError(t, err)
		}
		granted := func() (n int) {
			for _, e := range d.events() {
				if e.Action == store.LeaseGranted {
					n++
				}
			}
			return n
		}
		before := granted()
		d.limit(quota.Patch{Set: map[quota.Kind]int64{quota.RequestsPerMinute: 3}})
		for range 3 {
			status, text := d.ask("GET", "/v1/files", d.key, "")
			require.Equal(t, 200, status, text)
			var list struct{ Data []json.RawMessage }
			require.NoError(t, json.Unmarshal([]byte(text), &list))
			require.Len(t, list.Data, 6)
			status, text = d.ask("GET", "/v1/messages/batches", d.key, "")
			require.Equal(t, 200, status, text)
		}
		require.Equal(t, before+3*6, granted(), "each lend is on record")
		status, text := d.ask("GET", "/v1/files", d.key, "")
		require.Equal(t, 429, status, text)
		require.Contains(t, text, "3 requests a minute")
		require.Equal(t, before+3*6, granted())
	})
}
