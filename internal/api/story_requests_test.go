package api_test

import (
	"encoding/csv"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// requested records a request for which an account was lent, with what is told of it, and returns its id.
func (h *house) requested(w world, model string, told ...store.Detail) string {
	h.t.Helper()
	return h.requestedBy(w, "laptop", model, told...)
}

// requestedBy is requested by a client key with a name.
func (h *house) requestedBy(w world, name, model string, told ...store.Detail) string {
	h.t.Helper()
	ctx := h.t.Context()
	train, err := h.client.GetTrain(ctx, w.trainSlug)
	require.NoError(h.t, err)
	lease, id := store.Str("lease", store.NewID("lease")), store.NewID("req")
	e := store.Event{
		Actor: store.Actor{Kind: "client_key", ID: w.key, Name: name}, OnBehalf: train.ID, Action: store.LeaseGranted, Outcome: store.OutcomePending, RequestID: id,
		Target: store.Target{Kind: "credential", ID: w.credential, Name: "team"},
		Details: store.Details{lease, store.Str("train", w.trainSlug), store.Int("version", 1), store.Int("attempt", 1), store.Str("method", "POST"), store.Str("path", "/v1/messages"), store.Str("model", model),
			store.Str("host", "api.example.com"), store.Int("body_bytes", 99)},
	}
	_, err = h.db.Append(ctx, e)
	require.NoError(h.t, err)
	if len(told) > 0 {
		e.Action, e.Outcome, e.Details = store.LeaseOutcome, store.OutcomeOK, append(store.Details{lease, store.Int("attempt", 1)}, told...)
		_, err = h.db.Append(ctx, e)
		require.NoError(h.t, err)
	}
	return id
}

// TestStoryRequests: an operator looks at requests one by one, asks for those of a key or an outcome, and reads one; each read is on record.
func TestStoryRequests(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		w := h.world()
		done := h.requested(w, "claude-sonnet-4-5", store.Str("result", "ok"), store.Int("status", 200), store.Int("bytes", 700), store.Int("first_byte_ms", 30), store.Int("duration_ms", 800),
			store.Str("usage", "complete"), store.Int("input_tokens", 1000), store.Int("output_tokens", 2000), store.Int("tool_calls", 1))
		open := h.requested(w, "new-model")
		h.addUp()

		page, err := h.client.Requests(ctx, client.RequestQuery{})
		require.NoError(t, err)
		require.Len(t, page.Requests, 2)
		require.Empty(t, page.NextCursor)
		require.Equal(t, "audit.read ok", h.acts(1)[0])
		require.Equal(t, []string{open, done}, []string{page.Requests[0].RequestID, page.Requests[1].RequestID}, "the newest first")
		require.Equal(t, "pending", page.Requests[0].Outcome)
		require.Equal(t, "new-model", page.Requests[0].Model)

		one, err := h.client.Request(ctx, done)
		require.NoError(t, err)
		require.Equal(t, page.Requests[1], one)
		train, err := h.client.GetTrain(ctx, w.trainSlug)
		require.NoError(t, err)
		cost := client.USD(1000*3 + 2000*15)
		attempt := one.Attempts[0]
		require.NotEmpty(t, attempt.LeaseID)
		require.NotEmpty(t, attempt.IntentID)
		require.NotEmpty(t, attempt.OutcomeID)
		tokens := client.LentTokens{InputTokens: 1000, OutputTokens: 2000, ToolCalls: 1}
		require.Equal(t, client.LentRequest{
			RequestID: done, At: one.At, TrainID: w.trainSlug, TrainInternalID: train.ID, ClientKeyID: w.key, ClientKeyName: "laptop", UserID: h.user.ID, UserName: adminEmail, Method: "POST", Path: "/v1/messages",
			Model: "claude-sonnet-4-5", ModelAsked: "claude-sonnet-4-5", CredentialID: w.credential, CredentialName: "team", Outcome: "complete", Status: 200, FirstByteMS: 30, DurationMS: 800, RequestBytes: 99,
			ResponseBytes: 700, LentTokens: tokens, CostUSD: &cost, Attempts: []client.LentAttempt{{Attempt: 1, LeaseID: attempt.LeaseID, At: one.At, CredentialID: w.credential, CredentialName: "team",
				CredentialVersion: 1, Host: "api.example.com", Outcome: "complete", Result: "ok", Status: 200, FirstByteMS: 30, DurationMS: 800, RequestBytes: 99, ResponseBytes: 700, LentTokens: tokens,
				IntentID: attempt.IntentID, OutcomeID: attempt.OutcomeID}},
		}, one)

		past, ahead := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		for _, q := range []client.RequestQuery{{TrainID: w.trainSlug}, {TrainID: train.ID}, {ClientKeyID: w.key}, {CredentialID: w.credential}, {UserID: h.user.ID}, {From: &past, To: &ahead}} {
			got, err := h.client.Requests(ctx, q)
			require.NoError(t, err)
			require.Len(t, got.Requests, 2, "%+v", q)
		}
		for _, q := range []client.RequestQuery{{Outcome: "complete"}, {Model: "new-model"}, {Limit: 1}} {
			got, err := h.client.Requests(ctx, q)
			require.NoError(t, err)
			require.Len(t, got.Requests, 1, "%+v", q)
		}
		for _, q := range []client.RequestQuery{{TrainID: "other"}, {ClientKeyID: "key_0"}, {CredentialID: "cred_0"}, {UserID: "user_0"}, {Model: "claude"}, {Outcome: "partial"}, {To: &past}, {From: &ahead}} {
			got, err := h.client.Requests(ctx, q)
			require.NoError(t, err)
			require.Empty(t, got.Requests, "%+v", q)
			require.Empty(t, got.NextCursor)
		}
		first, err := h.client.Requests(ctx, client.RequestQuery{Limit: 1})
		require.NoError(t, err)
		second, err := h.client.Requests(ctx, client.RequestQuery{Limit: 1, Cursor: first.NextCursor})
		require.NoError(t, err)
		require.Equal(t, done, second.Requests[0].RequestID)

		// The same as a table, page by page: each has its heads.
		var text strings.Builder
		cursor, err := h.client.RequestsCSV(ctx, client.RequestQuery{Limit: 1}, &text)
		require.NoError(t, err)
		require.Equal(t, first.NextCursor, cursor)
		cursor, err = h.client.RequestsCSV(ctx, client.RequestQuery{Limit: 1, Cursor: cursor}, &text)
		require.NoError(t, err)
		require.Empty(t, cursor)
		lines, err := csv.NewReader(strings.NewReader(text.String())).ReadAll()
		require.NoError(t, err)
		require.Len(t, lines, 4)
		require.Equal(t, lines[0], lines[2])
		require.Equal(t, []string{one.At.UTC().Format(store.TimeFormat), done, w.trainSlug, w.key, "laptop", h.user.ID, adminEmail, "POST", "/v1/messages", "claude-sonnet-4-5", "claude-sonnet-4-5", w.credential, "team",
			"1", "team", "complete", "200", "30", "800", "99", "700", "1000", "2000", "0", "0", "0", "1", "0.033000", train.ID}, lines[3])
		require.Equal(t, []string{"pending", "", "", ""}, lines[1][15:19], "what nobody knows yet")
		require.Equal(t, "audit.read ok", h.acts(1)[0])
		a := h.do(request{method: "GET", target: "/api/requests.csv?outcome=failed", token: h.token})
		require.Equal(t, "text/csv; charset=utf-8; header=present", a.header.Get("Content-Type"))
		require.Contains(t, a.header.Get("Content-Disposition"), "signalbox-requests.csv")
		require.Equal(t, 1, strings.Count(string(a.body), "\n"), "the heads alone")
		h.requestedBy(w, "=SUM(A1)", "claude-sonnet-4-5")
		text.Reset()
		_, err = h.client.RequestsCSV(ctx, client.RequestQuery{Limit: 1}, &text)
		require.NoError(t, err)
		require.Contains(t, text.String(), ",'=SUM(A1),")
		require.NotContains(t, text.String(), ",=SUM")
	})
}

// TestRequestsAreRefused: whoever may not see usage hears so, who may not see people is told of none, and what cannot be asked names what is wrong.
func TestRequestsAreRefused(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		w := h.world()
		id := h.requested(w, "claude-sonnet-4-5")
		refusals := h.refusals()
		member := h.as(h.withRole(identity.Member))
		_, err := member.Requests(ctx, client.RequestQuery{})
		refused(t, err, http.StatusForbidden, "forbidden")
		_, err = member.Request(ctx, id)
		refused(t, err, http.StatusForbidden, "forbidden")
		_, err = member.RequestsCSV(ctx, client.RequestQuery{}, io.Discard)
		refused(t, err, http.StatusForbidden, "forbidden")
		operator := h.as(h.withRole(identity.Operator))
		_, err = operator.Requests(ctx, client.RequestQuery{UserID: h.user.ID})
		refused(t, err, http.StatusForbidden, "forbidden")
		_, err = operator.RequestsCSV(ctx, client.RequestQuery{UserID: h.user.ID}, io.Discard)
		refused(t, err, http.StatusForbidden, "forbidden")
		require.Equal(t, refusals+5, h.refusals())
		h.addUp()
		one, err := operator.Request(ctx, id)
		require.NoError(t, err)
		require.Empty(t, one.UserID)
		var text strings.Builder
		_, err = operator.RequestsCSV(ctx, client.RequestQuery{}, &text)
		require.NoError(t, err)
		require.Contains(t, text.String(), id)
		require.NotContains(t, text.String(), h.user.ID)
		_, err = operator.Request(ctx, store.NewID("req"))
		refused(t, err, http.StatusNotFound, "not_found")
		for _, query := range []string{"outcome=planted", "cursor=planted", "cursor=0.0.planted", "limit=0", "limit=501", "from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", "to=9999-12-31T23:59:59Z"} {
			for _, path := range []string{"/api/requests?", "/api/requests.csv?"} {
				a := h.do(request{method: "GET", target: path + query, token: h.token})
				require.Equal(t, 422, a.status, query)
				require.NotContains(t, string(a.body), "planted", query)
			}
		}
	})
}
