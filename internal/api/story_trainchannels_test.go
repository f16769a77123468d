package api_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// TestTrainChannelStory: who keeps a train says where its people are told; that they are told what its agents are asked needs an
// administrator with a fresh proof, and so does leading such a channel elsewhere. The address is in no answer, no record and no log.
func TestTrainChannelStory(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		const address, signing = "/services/T00000000/B00000000/planted8f3k2aaaaaaaazQ9x", "whsec_cGxhbnRlZC1zaWduaW5nLTEyMzQ1Njc4"
		var mu sync.Mutex
		var bodies []string
		slack := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { // ours, answering as Slack documents
			b, _ := io.ReadAll(r.Body)
			mu.Lock()
			bodies = append(bodies, r.URL.Path+" "+string(b))
			mu.Unlock()
			_, _ = io.WriteString(w, "ok")
		}))
		defer slack.Close()
		_, err := h.client.CreateTrain(ctx, client.TrainDraft{TrainID: "web"})
		require.NoError(t, err)
		operator, auditor, member := h.as(h.withRole(identity.Operator)), h.as(h.withRole(identity.Auditor)), h.as(h.withRole(identity.Member))
		made := client.TrainChannelPatch{WebhookURL: ptr(slack.URL + address), Channel: ptr("#agents"), IconEmoji: ptr(":robot_face:")}

		for _, nobody := range []*client.Client{auditor, member} {
			_, err = nobody.PutTrainChannel(ctx, "web", "slack", made)
			refused(t, err, http.StatusForbidden, "forbidden")
			_, err = nobody.TestTrainChannel(ctx, "web", "slack")
			refused(t, err, http.StatusForbidden, "forbidden")
		}
		_, err = member.TrainChannels(ctx, "web")
		refused(t, err, http.StatusNotFound, "not_found") // a train that they are not on
		_, err = operator.PutTrainChannel(ctx, "nowhere", "slack", made)
		refused(t, err, http.StatusNotFound, "not_found")
		_, err = operator.PutTrainChannel(ctx, "web", "slack", client.TrainChannelPatch{Channel: ptr("#agents")})
		require.Equal(t, "/webhook_url", refused(t, err, http.StatusUnprocessableEntity, "secret_missing").Errors[0].Pointer)
		for _, bad := range []client.TrainChannelPatch{{IconEmoji: ptr("robot")}, {Channel: ptr("#a b")}, {Channel: ptr("<!channel>")}, {Username: ptr("a\nb")}, {SigningSecret: ptr(signing)}, {WebhookURL: ptr("https://10.0.0.1/x")}} {
			if bad.WebhookURL == nil {
				bad.WebhookURL = made.WebhookURL
			}
			_, err = operator.PutTrainChannel(ctx, "web", "slack", bad)
			require.Error(t, err)
		}
		first, err := operator.PutTrainChannel(ctx, "web", "slack", made)
		require.NoError(t, err)
		require.Equal(t, slack.URL, first.Destination)
		require.Equal(t, "zQ9x", first.Suffix)
		require.Equal(t, "Signalbox", first.Username)
		require.True(t, first.Enabled)
		require.False(t, first.Content)
		again, err := auditor.TrainChannel(ctx, "web", "slack")
		require.NoError(t, err)
		require.Equal(t, first, again)
		tried, err := operator.TestTrainChannel(ctx, "web", "slack")
		require.NoError(t, err)
		require.Equal(t, "delivered", tried.Outcome)
		require.Len(t, bodies, 1)
		require.Contains(t, bodies[0], address+" ")
		require.Contains(t, bodies[0], `"channel":"#agents","username":"Signalbox","icon_emoji":":robot_face:"`)

		// Content: an operator may not, a person needs a fresh proof, and a channel with it is not led elsewhere by whoever may not.
		_, err = operator.PutTrainChannel(ctx, "web", "slack", client.TrainChannelPatch{Content: ptr(true)})
		refused(t, err, http.StatusForbidden, "forbidden")
		person := h.session(h.user.ID)
		h.stale()
		_, err = h.as(person).PutTrainChannel(ctx, "web", "slack", client.TrainChannelPatch{Content: ptr(true)})
		refused(t, err, http.StatusForbidden, "step_up_required")
		told, err := h.client.PutTrainChannel(ctx, "web", "slack", client.TrainChannelPatch{Content: ptr(true), IfMatch: first.ETag})
		require.NoError(t, err)
		require.True(t, told.Content)
		_, err = h.client.PutTrainChannel(ctx, "web", "slack", client.TrainChannelPatch{Content: ptr(true), IfMatch: first.ETag})
		refused(t, err, http.StatusPreconditionFailed, "etag_mismatch")
		for _, elsewhere := range []client.TrainChannelPatch{{WebhookURL: ptr(slack.URL + "/other")}, {Channel: ptr("#all")}, {Channel: ptr("#all"), Content: ptr(true)}} {
			_, err = operator.PutTrainChannel(ctx, "web", "slack", elsewhere)
			refused(t, err, http.StatusForbidden, "forbidden")
		}
		_, err = operator.PutTrainChannel(ctx, "web", "slack", client.TrainChannelPatch{Severity: ptr("warning"), Enabled: ptr(false)})
		require.NoError(t, err)
		_, err = operator.PutTrainChannel(ctx, "web", "slack", client.TrainChannelPatch{Enabled: ptr(true)})
		refused(t, err, http.StatusForbidden, "forbidden")
		off, err := operator.PutTrainChannel(ctx, "web", "slack", client.TrainChannelPatch{Enabled: ptr(true), WebhookURL: ptr(slack.URL + "/short"), Content: ptr(false)})
		require.NoError(t, err)
		require.Equal(t, "", off.Suffix, "a short path would be given away")

		hook, err := operator.PutTrainChannel(ctx, "web", "webhook", client.TrainChannelPatch{WebhookURL: ptr(slack.URL + "/hook"), SigningSecret: ptr(signing)})
		require.NoError(t, err)
		all, err := auditor.TrainChannels(ctx, "web")
		require.NoError(t, err)
		require.Len(t, all, 2)
		// The installation's channels are others, and reach no train's.
		page, err := h.client.ListChannels(ctx, client.ChannelFilter{})
		require.NoError(t, err)
		require.Empty(t, page.Channels)
		_, err = h.client.GetChannel(ctx, hook.ID)
		refused(t, err, http.StatusNotFound, "not_found")
		_, err = h.client.UpdateChannel(ctx, hook.ID, client.ChannelPatch{Name: ptr("mine")})
		refused(t, err, http.StatusNotFound, "not_found")
		refused(t, h.client.DeleteChannel(ctx, hook.ID), http.StatusNotFound, "not_found")
		_, err = h.client.TestChannel(ctx, hook.ID)
		refused(t, err, http.StatusNotFound, "not_found")

		require.NoError(t, operator.DeleteTrainChannel(ctx, "web", "slack"))
		refused(t, operator.DeleteTrainChannel(ctx, "web", "slack"), http.StatusNotFound, "not_found")
		require.NoError(t, h.client.DeleteTrain(ctx, "web", true))
		var left int
		require.NoError(t, h.db.Read(ctx, func(tx *store.Tx) error { return tx.Get(&left, `SELECT COUNT(*) FROM notify_channels`) }))
		require.Zero(t, left)

		var acts []string
		records := h.events()
		for i := len(records) - 1; i >= 0; i-- {
			if e := records[i]; e.Target.Kind == "notification_channel" {
				acts = append(acts, string(e.Action)+" "+e.Outcome)
			}
		}
		require.Equal(t, []string{"notify.channel_create ok", "notify.test pending", "notify.test ok", "notify.channel_update ok", "notify.channel_update ok", "notify.channel_update ok",
			"notify.channel_create ok", "notify.channel_delete ok"}, acts)
		said, err := json.Marshal([]any{records, first, told, off, hook, all})
		require.NoError(t, err)
		for _, sink := range []string{string(said), h.log.String()} {
			for _, never := range []string{"planted8f3k2", signing, "T00000000"} {
				require.NotContains(t, sink, never)
			}
		}
	})
}
