package api_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
)

// TestStoryLimits: limits of a train, a client key and a person are set, read, changed one by one and removed; what is wrong is refused with its place; and each
// change is on record with what it changed.
func TestStoryLimits(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		made, err := h.client.CreateTrain(ctx, client.TrainDraft{TrainID: "web", Limits: &client.LimitsPatch{Limits: client.Limits{RequestsPerMinute: ptr(int64(60)), Models: []string{"claude-*"}}}})
		require.NoError(t, err)
		require.Equal(t, &client.Limits{RequestsPerMinute: ptr(int64(60)), Models: []string{"claude-*"}}, made.Limits)
		usd := client.USD(12_500_000)
		changed, err := h.client.UpdateTrain(ctx, "web", client.TrainPatch{IfMatch: made.ETag, Limits: &client.LimitsPatch{Limits: client.Limits{MonthlyCostUSD: &usd, MaxTokens: ptr(int64(8192))}, Clear: []string{"models"}}})
		require.NoError(t, err)
		want := &client.Limits{RequestsPerMinute: ptr(int64(60)), MonthlyCostUSD: &usd, MaxTokens: ptr(int64(8192))}
		require.Equal(t, want, changed.Limits)
		got, err := h.client.GetTrain(ctx, "web")
		require.NoError(t, err)
		require.Equal(t, want, got.Limits)
		require.NotEqual(t, made.ETag, got.ETag)

		// As scripts send them.
		for _, body := range []string{
			`{"limits":{"requests_per_week":5}}`, `{"limits":{"requests_per_minute":0}}`, `{"limits":{"requests_per_minute":-1}}`, `{"limits":{"requests_per_minute":"60"}}`, `{"limits":{"requests_per_minute":1.5}}`,
			`{"limits":{"monthly_cost_usd":0}}`, `{"limits":{"monthly_cost_usd":"5"}}`, `{"limits":{"monthly_cost_usd":0.0000001}}`, `{"limits":{"models":[]}}`, `{"limits":{"models":["a*b"]}}`, `{"limits":[]}`, `{"limits":7}`,
			`{"limits":{"max_tokens":1e30}}`,
		} {
			a := h.do(request{method: "PATCH", target: "/api/trains/web", token: h.token, body: []byte(body)})
			require.Equal(t, http.StatusUnprocessableEntity, a.status, "%s: %s", body, a.body)
			require.Contains(t, string(a.body), "limits", body)
		}
		a := h.do(request{method: "PATCH", target: "/api/trains/web", token: h.token, body: []byte(`{"limits":{"requests_per_minute":null,"monthly_cost_usd":3.25,"tokens_per_day":100000}}`)})
		require.Equal(t, 200, a.status, "%s", a.body)
		require.Contains(t, string(a.body), `"limits":{"tokens_per_day":100000,"monthly_cost_usd":3.250000,"max_tokens":8192}`)
		a = h.do(request{method: "PATCH", target: "/api/trains/web", token: h.token, body: []byte(`{"limits":null}`)})
		require.Equal(t, 200, a.status, "%s", a.body)
		require.NotContains(t, string(a.body), `"limits"`)

		key, err := h.client.IssueKey(ctx, "web", client.KeyDraft{Name: "laptop", Limits: &client.LimitsPatch{Limits: client.Limits{ConcurrentStreams: ptr(int64(2))}}})
		require.NoError(t, err)
		require.Equal(t, int64(2), *key.Limits.ConcurrentStreams)
		tagged, err := h.client.GetKey(ctx, "web", key.ID)
		require.NoError(t, err)
		updated, err := h.client.UpdateKey(ctx, "web", key.ID, client.KeyPatch{IfMatch: tagged.ETag, Limits: &client.LimitsPatch{Limits: client.Limits{RequestsPerDay: ptr(int64(9))}, ClearAll: true}})
		require.NoError(t, err)
		require.Equal(t, &client.Limits{RequestsPerDay: ptr(int64(9))}, updated.Limits)
		_, err = h.client.UpdateKey(ctx, "web", key.ID, client.KeyPatch{IfMatch: tagged.ETag, Name: ptr("late")})
		refused(t, err, 412, "etag_mismatch")

		bo, err := h.client.CreateUser(ctx, client.UserDraft{Email: "bo@example.com", Name: "Bo", Role: "member", Password: "a long enough word"})
		require.NoError(t, err)
		person, err := h.client.UpdateUser(ctx, bo.User.ID, client.UserPatch{Limits: &client.LimitsPatch{Limits: client.Limits{MonthlyTokens: ptr(int64(1000))}}})
		require.NoError(t, err)
		require.Equal(t, int64(1000), *person.Limits.MonthlyTokens)
		person, err = h.client.UpdateUser(ctx, bo.User.ID, client.UserPatch{Limits: &client.LimitsPatch{ClearAll: true}})
		require.NoError(t, err)
		require.Nil(t, person.Limits)
		require.Equal(t, []string{"train.create ok", "train.update ok", "train.update ok", "train.update ok", "key.issue ok", "key.update ok", "identity.user_create ok", "identity.user_update ok", "identity.user_update ok"}, h.acts(9))
	})
}
