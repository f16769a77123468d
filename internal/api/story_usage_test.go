package api_test

import (
	"encoding/csv"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// used records that a key was lent a credential, and what became of it.
func (h *house) used(w world, model string, told ...store.Detail) {
	h.t.Helper()
	ctx := h.t.Context()
	train, err := h.client.GetTrain(ctx, w.trainSlug)
	require.NoError(h.t, err)
	lease := store.Str("lease", store.NewID("lease"))
	e := store.Event{
		Actor: store.Actor{Kind: "client_key", ID: w.key, Name: "=SUM(A1)"}, OnBehalf: train.ID, Action: store.LeaseGranted, Outcome: store.OutcomePending,
		Target:  store.Target{Kind: "credential", ID: w.credential, Name: "team"},
		Details: store.Details{lease, store.Str("train", w.trainSlug), store.Str("path", "/v1/messages"), store.Str("model", model)},
	}
	_, err = h.db.Append(ctx, e)
	require.NoError(h.t, err)
	if len(told) == 0 {
		return
	}
	e.Action, e.Outcome, e.Details = store.LeaseOutcome, store.OutcomeOK, append(store.Details{lease, store.Str("result", "ok")}, told...)
	_, err = h.db.Append(ctx, e)
	require.NoError(h.t, err)
}

// addUp has what is recorded added up.
func (h *house) addUp() {
	h.t.Helper()
	require.NoError(h.t, h.audit.Flush(h.t.Context()))
	for more := true; more; {
		var err error
		more, err = h.ledger.Pass(h.t.Context())
		require.NoError(h.t, err)
	}
}

// TestStoryUsage: an operator asks what was used, by whom and at what cost, as JSON and as a table.
func TestStoryUsage(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		w := h.world()
		h.used(w, "claude-sonnet-4-5", store.Str("usage", "complete"), store.Str("model", "claude-sonnet-4-5-20250929"), store.Int("input_tokens", 1000), store.Int("output_tokens", 2001),
			store.Int("cache_read_tokens", 10), store.Int("cache_creation_5m_tokens", 100), store.Int("cache_creation_1h_tokens", 7), store.Int("tool_calls", 2))
		h.used(w, "claude-sonnet-4-5", store.Str("usage", "unknown"))
		h.used(w, "claude-sonnet-4-5")
		h.addUp()

		all, err := h.client.Usage(ctx, client.UsageQuery{})
		require.NoError(t, err)
		require.Zero(t, all.Behind)
		require.Equal(t, 24*time.Hour, all.To.Sub(all.From).Truncate(time.Hour)-time.Hour, "at least the last 24 hours")
		require.NotEmpty(t, all.PricesOf)
		// 1000 × 3 + 2001 × 15 + 10 × 0.30 + 100 × 3.75 + 7 × 6 micro-dollars
		cost := client.USD(3000 + 30015 + 3 + 375 + 42)
		want := client.Used{Requests: 3, Complete: 1, Unknown: 1, Pending: 1, InputTokens: 1000, OutputTokens: 2001, CacheReadTokens: 10, CacheCreationTokens: 107, CacheCreation5mTokens: 100,
			CacheCreation1hTokens: 7, ToolCalls: 2, CostUSD: &cost, PricedUSD: cost}
		require.Equal(t, want, all.Total)
		require.Equal(t, []client.UsageRow{{Used: want}}, all.Usage)

		by, err := h.client.Usage(ctx, client.UsageQuery{GroupBy: []string{"month", "train", "credential", "client_key", "user", "model"}, Limit: 1})
		require.NoError(t, err)
		require.Len(t, by.Usage, 1)
		require.Equal(t, want, by.Total)
		row := by.Usage[0]
		require.Equal(t, w.trainSlug, *row.TrainID)
		train, err := h.client.GetTrain(ctx, w.trainSlug)
		require.NoError(t, err)
		require.Equal(t, train.ID, row.TrainInternalID)
		require.Equal(t, w.credential, *row.CredentialID)
		require.Equal(t, w.key, *row.ClientKeyID)
		require.Equal(t, "=SUM(A1)", row.ClientKeyName)
		require.Equal(t, h.user.ID, *row.UserID)
		require.Equal(t, adminEmail, row.UserName)
		require.Equal(t, 1, row.BeginsAt.Day())
		require.NotEmpty(t, by.NextCursor)
		next, err := h.client.Usage(ctx, client.UsageQuery{GroupBy: []string{"month", "train", "credential", "client_key", "user", "model"}, Limit: 1, Cursor: by.NextCursor})
		require.NoError(t, err)
		require.Len(t, next.Usage, 1)
		require.Empty(t, next.NextCursor)
		require.Equal(t, []string{"claude-sonnet-4-5", "claude-sonnet-4-5-20250929"}, []string{*row.Model, *next.Usage[0].Model})

		for _, q := range []client.UsageQuery{{TrainID: w.trainSlug}, {CredentialID: w.credential}, {ClientKeyID: w.key}, {UserID: h.user.ID}} {
			got, err := h.client.Usage(ctx, q)
			require.NoError(t, err)
			require.Equal(t, want, got.Total, "%+v", q)
		}
		for _, q := range []client.UsageQuery{{TrainID: "other"}, {CredentialID: "cred_0"}, {ClientKeyID: "key_0"}, {UserID: "user_0"}, {Model: "claude"}} {
			got, err := h.client.Usage(ctx, q)
			require.NoError(t, err)
			require.Zero(t, got.Total.Requests, "%+v", q)
			require.Empty(t, got.Usage)
		}

		// A model without a price has no cost, and what has one is told apart.
		h.used(w, "new-model", store.Str("usage", "partial"), store.Str("model", "new-model"), store.Int("input_tokens", 40), store.Int("output_tokens", 2))
		h.addUp()
		all, err = h.client.Usage(ctx, client.UsageQuery{})
		require.NoError(t, err)
		require.Nil(t, all.Total.CostUSD)
		require.Equal(t, cost, all.Total.PricedUSD)
		require.EqualValues(t, 42, all.Total.UnpricedTokens)
		require.EqualValues(t, 1, all.Total.Partial)
		a := h.do(request{method: "GET", target: "/api/usage?group_by=model", token: h.token})
		require.Contains(t, string(a.body), `"cost_usd":0.033435,`) // an exact number
		require.Contains(t, string(a.body), `"cost_usd":null,`)

		var text strings.Builder
		cursor, err := h.client.UsageCSV(ctx, client.UsageQuery{GroupBy: []string{"client_key", "model"}, Limit: 2}, &text)
		require.NoError(t, err)
		require.NotEmpty(t, cursor)
		_, err = h.client.UsageCSV(ctx, client.UsageQuery{GroupBy: []string{"client_key", "model"}, Limit: 2, Cursor: cursor}, &text)
		require.NoError(t, err)
		lines, err := csv.NewReader(strings.NewReader(text.String())).ReadAll()
		require.NoError(t, err)
		require.Len(t, lines, 5)
		require.Equal(t, lines[0], lines[3]) // each page has its heads
		require.Equal(t, []string{"", "", "", "", w.key, "'=SUM(A1)", "", "", "claude-sonnet-4-5-20250929", "1", "1", "0", "0", "0", "0", "1000", "2001", "10", "100", "7", "2", "0.033435", "0.033435", "0", ""}, lines[2])
		require.Equal(t, []string{"new-model", "1", "0", "1"}, lines[4][8:12])
		require.Equal(t, []string{"", "0.000000", "42", ""}, lines[4][21:])
		a = h.do(request{method: "GET", target: "/api/usage.csv", token: h.token})
		require.Equal(t, "text/csv; charset=utf-8; header=present", a.header.Get("Content-Type"))
		require.Contains(t, a.header.Get("Content-Disposition"), "signalbox-usage.csv")
	})
}

// TestTwoTrainsOfOneSlug: a train that was deleted and made again is another one, and usage tells the two apart by their own ids.
func TestTwoTrainsOfOneSlug(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		draft := client.TrainDraft{TrainID: "again", Name: "Again"}
		var ids []string
		for i := range 2 {
			made, err := h.client.CreateTrain(ctx, draft)
			require.NoError(t, err)
			ids = append(ids, made.ID)
			for range i + 1 {
				h.used(world{trainSlug: "again", key: "key_0", credential: "cred_0"}, "claude-sonnet-4-5", store.Str("usage", "complete"), store.Str("model", "claude-sonnet-4-5"), store.Int("input_tokens", 1), store.Int("output_tokens", 1))
			}
			require.NoError(t, h.client.DeleteTrain(ctx, "again", false))
		}
		h.addUp()
		got := func(train string) map[string]int64 {
			report, err := h.client.Usage(ctx, client.UsageQuery{GroupBy: []string{"train"}, TrainID: train})
			require.NoError(t, err)
			out := map[string]int64{}
			for _, row := range report.Usage {
				require.Equal(t, "again", *row.TrainID)
				out[row.TrainInternalID] = row.Requests
			}
			return out
		}
		require.Equal(t, map[string]int64{ids[0]: 1, ids[1]: 2}, got("again"))
		require.Equal(t, map[string]int64{ids[0]: 1}, got(ids[0]))
		var text strings.Builder
		_, err := h.client.UsageCSV(ctx, client.UsageQuery{GroupBy: []string{"train"}}, &text)
		require.NoError(t, err)
		lines, err := csv.NewReader(strings.NewReader(text.String())).ReadAll()
		require.NoError(t, err)
		require.Len(t, lines, 3)
		for _, line := range lines[1:] {
			require.Equal(t, "again", line[1])
			require.Contains(t, ids, line[len(line)-1])
		}
	})
}

func (h *house) refusals() (n int) {
	for _, e := range h.events() {
		if e.Action == store.IdentityRefused && e.Target.Kind == "usage" {
			n++
		}
	}
	return n
}

// TestUsageIsRefused: whoever may not see usage, or people, hears so, and the refusal is on record; what cannot be asked names what is wrong.
func TestUsageIsRefused(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		refusals := h.refusals()
		_, err := h.as(h.withRole(identity.Member)).Usage(ctx, client.UsageQuery{UserID: h.user.ID})
		refused(t, err, http.StatusForbidden, "forbidden")
		operator := h.as(h.withRole(identity.Operator))
		_, err = operator.Usage(ctx, client.UsageQuery{GroupBy: []string{"train"}})
		require.NoError(t, err)
		_, err = operator.Usage(ctx, client.UsageQuery{GroupBy: []string{"user"}})
		refused(t, err, http.StatusForbidden, "forbidden")
		_, err = operator.Usage(ctx, client.UsageQuery{UserID: h.user.ID})
		refused(t, err, http.StatusForbidden, "forbidden")
		_, err = h.as(h.with(identity.UsageRead)).Usage(ctx, client.UsageQuery{GroupBy: []string{"user"}})
		refused(t, err, http.StatusForbidden, "scope_missing")
		require.Equal(t, refusals+4, h.refusals())
		_, err = h.as(h.with(identity.UsageRead)).Usage(ctx, client.UsageQuery{GroupBy: []string{"day", "model"}})
		require.NoError(t, err)
		for _, query := range []string{"group_by=planted", "group_by=day,hour", "cursor=planted", "limit=0", "limit=10001", "from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", "group_by=hour&from=2020-01-01T00:00:00Z",
			"from=9999-12-31T00:00:00Z&to=9999-12-31T23:59:59Z", "to=9999-12-31T23:59:59Z", "to=9999-01-01T00:00:00Z", "from=9998-12-31T23:00:00-12:00&to=9999-12-31T23:59:59Z", "from=0002-01-01T00:00:00Z&to=0002-01-02T00:00:00Z", "to=1969-12-31T23:59:59Z", "to=0000-01-01T00:00:00Z"} {
			for _, path := range []string{"/api/usage?", "/api/usage.csv?"} {
				a := h.do(request{method: "GET", target: path + query, token: h.token})
				require.Equal(t, 422, a.status, query)
				require.NotContains(t, string(a.body), "planted")
			}
		}
	})
}

// TestSumsAreMadeAnewOverTheAPI: an administrator has the sums made anew, and everybody who reads them hears that they are not all until that is done.
func TestSumsAreMadeAnewOverTheAPI(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		w := h.world()
		h.used(w, "claude-sonnet-4-5", store.Str("usage", "complete"), store.Str("model", "claude-sonnet-4-5-20250929"), store.Int("input_tokens", 1000), store.Int("output_tokens", 2001))
		h.addUp()
		before, err := h.client.Usage(ctx, client.UsageQuery{})
		require.NoError(t, err)
		require.Nil(t, before.Anew)

		_, err = h.as(h.with(identity.UsageRead)).RebuildUsage(ctx)
		refused(t, err, 403, "scope_missing")
		_, err = h.as(h.session(h.person(identity.Operator))).RebuildUsage(ctx)
		refused(t, err, 403, "forbidden")
		at, err := h.client.RebuildUsage(ctx)
		require.NoError(t, err)
		require.Zero(t, at.Added)
		require.Positive(t, at.Records)
		during, err := h.client.Usage(ctx, client.UsageQuery{})
		require.NoError(t, err)
		require.NotNil(t, during.Anew)
		require.Zero(t, during.Anew.Added)
		require.Equal(t, during.Behind, during.Anew.Records)
		h.addUp()
		after, err := h.client.Usage(ctx, client.UsageQuery{From: &before.From, To: &before.To})
		require.NoError(t, err)
		require.Nil(t, after.Anew)
		require.Equal(t, before.Total, after.Total)
		found, err := h.audit.Search(ctx, audit.Query{Action: store.UsageRebuild, Limit: 10})
		require.NoError(t, err)
		require.Len(t, found.Events, 1)
		require.Equal(t, store.OutcomeOK, found.Events[0].Outcome)
	})
}
