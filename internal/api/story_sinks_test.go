package api_test

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// TestSinkStory: an administrator says where the audit log goes; nobody else does; auditors see where and how far; what a sink keeps secret is in no answer, no
// record and no log.
func TestSinkStory(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		const secretURL, signing = "/planted-address-8f3k2", "whsec_cGxhbnRlZC1zaWduaW5nLTEyMzQ1Njc4"
		var posts atomic.Int64
		code := http.StatusNoContent
		receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			posts.Add(1)
			w.WriteHeader(code)
		}))
		defer receiver.Close()
		draft := client.SinkDraft{Kind: "webhook", Name: "siem", From: "beginning", Secrets: map[string]string{"url": receiver.URL + secretURL, "signing_secret": signing}}
		for _, role := range []identity.Role{identity.Operator, identity.Auditor, identity.Member} {
			_, err := h.as(h.withRole(role)).CreateSink(ctx, draft)
			refused(t, err, http.StatusForbidden, "forbidden")
			require.Equal(t, store.OutcomeRefused, h.events()[0].Outcome)
		}
		made, err := h.client.CreateSink(ctx, draft)
		require.NoError(t, err)
		require.Equal(t, receiver.URL, made.Destination)
		require.Equal(t, []string{"signing_secret", "url"}, made.SecretFields)
		require.Equal(t, store.SinkCreate, h.events()[0].Action)
		_, err = h.client.CreateSink(ctx, draft)
		refused(t, err, http.StatusConflict, "already_exists")

		require.NoError(t, h.audit.Flush(ctx))
		auditor := h.as(h.withRole(identity.Auditor))
		got, err := auditor.GetSink(ctx, made.ID)
		require.NoError(t, err)
		require.Equal(t, "catching_up", got.State, "nobody sends here")
		require.Positive(t, got.Behind)
		require.WithinDuration(t, time.Now(), *got.BehindSince, time.Minute)
		for _, role := range []identity.Role{identity.Operator, identity.Member} {
			_, err := h.as(h.withRole(role)).ListSinks(ctx)
			refused(t, err, http.StatusForbidden, "forbidden")
		}

		tried, err := h.client.TestSink(ctx, made.ID)
		require.NoError(t, err)
		require.Equal(t, "delivered", tried.Outcome)
		require.Equal(t, int64(1), posts.Load())
		code = http.StatusTeapot
		tried, err = h.client.TestSink(ctx, made.ID)
		require.NoError(t, err)
		require.Equal(t, "refused", tried.Outcome)
		require.Contains(t, tried.Detail, "418")
		_, err = auditor.TestSink(ctx, made.ID)
		refused(t, err, http.StatusForbidden, "forbidden")

		off := false
		changed, err := h.client.UpdateSink(ctx, made.ID, client.SinkPatch{Enabled: &off, IfMatch: made.ETag})
		require.NoError(t, err)
		require.Equal(t, "paused", changed.State)
		_, err = h.client.UpdateSink(ctx, made.ID, client.SinkPatch{Enabled: &off, IfMatch: made.ETag})
		refused(t, err, http.StatusPreconditionFailed, "etag_mismatch")
		list, err := h.client.ListSinks(ctx)
		require.NoError(t, err)
		require.Len(t, list, 1)
		require.NoError(t, h.client.DeleteSink(ctx, made.ID))
		_, err = h.client.GetSink(ctx, made.ID)
		refused(t, err, http.StatusNotFound, "not_found")
		require.Equal(t, store.SinkDelete, h.events()[0].Action)
		require.NotContains(t, h.log.String(), "planted-address")

		// A session proves anew who it is of before it sends the log anywhere.
		stale := h.as(h.session(h.user.ID))
		h.stale()
		_, err = stale.CreateSink(ctx, draft)
		refused(t, err, http.StatusForbidden, "step_up_required")
	})
}
