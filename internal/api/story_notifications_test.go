package api_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// TestChannelStory: an administrator makes channels, tries, changes and deletes them; nobody else does; what they keep secret is in no answer,
// no record and no log.
func TestChannelStory(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		const secretURL, signing = "/planted-address-8f3k2", "whsec_cGxhbnRlZC1zaWduaW5nLTEyMzQ1Njc4"
		var posts []*http.Request
		code := http.StatusNoContent
		receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			posts = append(posts, r.Clone(ctx))
			w.WriteHeader(code)
			_, _ = io.WriteString(w, "the receiver's own text")
		}))
		defer receiver.Close()

		draft := client.ChannelDraft{Kind: "webhook", Name: "pager", Severity: "warning", Kinds: []string{"account.refused"},
			Secrets: map[string]string{"url": receiver.URL + secretURL, "signing_secret": signing}}
		for _, role := range []identity.Role{identity.Operator, identity.Auditor, identity.Member} {
			_, err := h.as(h.withRole(role)).CreateChannel(ctx, draft)
			refused(t, err, http.StatusForbidden, "forbidden")
		}
		require.Equal(t, store.NotifyRefused, h.events()[0].Action)
		require.Equal(t, store.OutcomeRefused, h.events()[0].Outcome)

		made, err := h.client.CreateChannel(ctx, draft)
		require.NoError(t, err)
		require.Equal(t, receiver.URL, made.Destination)
		require.Equal(t, []string{"signing_secret", "url"}, made.SecretFields)
		_, err = h.client.CreateChannel(ctx, draft)
		refused(t, err, http.StatusConflict, "already_exists")
		got, err := h.as(h.withRole(identity.Auditor)).GetChannel(ctx, made.ID)
		require.NoError(t, err)
		require.Equal(t, made, got)

		tried, err := h.client.TestChannel(ctx, made.ID)
		require.NoError(t, err)
		require.Equal(t, "delivered", tried.Outcome)
		require.Len(t, posts, 1)
		require.Equal(t, secretURL, posts[0].URL.Path)
		require.Equal(t, tried.Delivery, posts[0].Header.Get("Signalbox-Delivery"))
		code = http.StatusTeapot
		tried, err = h.client.TestChannel(ctx, made.ID)
		require.NoError(t, err)
		require.Equal(t, "refused", tried.Outcome)
		require.Equal(t, "The receiver answered 418.", tried.Detail)

		changed, err := h.client.UpdateChannel(ctx, made.ID, client.ChannelPatch{Name: ptr("phone"), Enabled: ptr(false), Kinds: &[]string{}, IfMatch: got.ETag})
		require.NoError(t, err)
		require.False(t, changed.Enabled)
		require.Empty(t, changed.Kinds)
		_, err = h.client.UpdateChannel(ctx, made.ID, client.ChannelPatch{Name: ptr("again"), IfMatch: got.ETag})
		refused(t, err, http.StatusPreconditionFailed, "etag_mismatch")
		_, err = h.client.UpdateChannel(ctx, made.ID, client.ChannelPatch{Secrets: map[string]*string{"url": nil}})
		refused(t, err, http.StatusUnprocessableEntity, "secret_missing")
		page, err := h.client.ListDeliveries(ctx, client.DeliveryFilter{State: "failed", ChannelID: made.ID})
		require.NoError(t, err)
		require.Empty(t, page.Deliveries)
		require.NoError(t, h.client.DeleteChannel(ctx, made.ID))
		_, err = h.client.TestChannel(ctx, made.ID)
		refused(t, err, http.StatusNotFound, "not_found")

		var acts []string
		all := h.events()
		for i := len(all) - 1; i >= 0; i-- {
			if e := all[i]; e.Target.Kind == "notification_channel" && e.Outcome != store.OutcomeRefused {
				acts = append(acts, string(e.Action)+" "+e.Outcome)
			}
		}
		require.Equal(t, []string{"notify.channel_create ok", "notify.test pending", "notify.test ok", "notify.test pending", "notify.test failed",
			"notify.channel_update ok", "notify.channel_delete ok"}, acts)
		told, err := json.Marshal([]any{all, made, got, changed, tried})
		require.NoError(t, err)
		for _, sink := range []string{string(told), h.log.String()} {
			for _, never := range []string{secretURL, signing, "the receiver's own text"} {
				require.NotContains(t, sink, never)
			}
		}
	})
}
