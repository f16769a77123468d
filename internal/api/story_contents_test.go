package api_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// TestRequestLoggingStory: nothing is kept unless an administrator with a fresh proof has switched it on; whoever keeps the train may switch it off, and nothing else; what is kept
// is read by administrators alone, on record.
func TestRequestLoggingStory(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		_, err := h.client.CreateTrain(ctx, client.TrainDraft{TrainID: "web"})
		require.NoError(t, err)
		operator, auditor, member := h.as(h.withRole(identity.Operator)), h.as(h.withRole(identity.Auditor)), h.as(h.withRole(identity.Member))
		person := h.as(h.session(h.user.ID))

		_, err = member.RequestLogging(ctx, "web")
		refused(t, err, http.StatusNotFound, "not_found") // a train that they are not on
		first, err := auditor.RequestLogging(ctx, "web")
		require.NoError(t, err)
		require.False(t, first.Enabled)
		require.Nil(t, first.UpdatedAt)
		_, err = auditor.RequestLogging(ctx, "nowhere")
		refused(t, err, http.StatusNotFound, "not_found")

		on := client.RequestLoggingPatch{Enabled: ptr(true), RetentionDays: ptr(int64(3))}
		for _, nobody := range []*client.Client{operator, auditor, member} {
			_, err = nobody.SetRequestLogging(ctx, "web", on)
			refused(t, err, http.StatusForbidden, "forbidden")
		}
		h.stale()
		_, err = person.SetRequestLogging(ctx, "web", on)
		refused(t, err, http.StatusForbidden, "step_up_required")
		_, err = h.client.SetRequestLogging(ctx, "web", client.RequestLoggingPatch{RetentionDays: ptr(int64(91))})
		refused(t, err, http.StatusUnprocessableEntity, "validation_failed")
		_, err = h.client.SetRequestLogging(ctx, "web", client.RequestLoggingPatch{Enabled: ptr(true), IfMatch: `"r7"`})
		refused(t, err, http.StatusPreconditionFailed, "etag_mismatch")
		set, err := h.client.SetRequestLogging(ctx, "web", on) // a token, which was issued for it
		require.NoError(t, err)
		require.True(t, set.Enabled)
		require.Equal(t, int64(3), set.RetentionDays)
		require.NotEqual(t, first.ETag, set.ETag)

		_, err = operator.SetRequestLogging(ctx, "web", client.RequestLoggingPatch{RetentionDays: ptr(int64(1))})
		refused(t, err, http.StatusForbidden, "forbidden")
		kept, err := operator.KeptContents(ctx, "web")
		require.NoError(t, err)
		require.Equal(t, client.KeptContents{}, kept)

		for _, nobody := range []*client.Client{operator, auditor, member} {
			_, err = nobody.RequestContent(ctx, store.NewID("req"))
			refused(t, err, http.StatusForbidden, "forbidden")
			refused(t, nobody.PurgeContents(ctx, "web"), http.StatusForbidden, "forbidden")
		}
		_, err = person.RequestContent(ctx, store.NewID("req"))
		refused(t, err, http.StatusForbidden, "step_up_required")
		refused(t, person.PurgeContents(ctx, "web"), http.StatusForbidden, "step_up_required")
		for _, id := range []string{store.NewID("req"), "req_1", "%00"} {
			_, err = h.client.RequestContent(ctx, id)
			refused(t, err, http.StatusNotFound, "not_found")
		}
		require.NoError(t, h.client.PurgeContents(ctx, "web"))

		off, err := operator.SetRequestLogging(ctx, "web", client.RequestLoggingPatch{Enabled: ptr(false), IfMatch: set.ETag})
		require.NoError(t, err)
		require.False(t, off.Enabled)
	})
}
