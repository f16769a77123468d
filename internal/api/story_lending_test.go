package api_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
)

// TestStoryPausedAccount: an account is paused, drained and resumed by who may change it, and everybody who sees it learns who did that and why.
func TestStoryPausedAccount(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		id := h.account("team")
		_, err := h.client.CreateTrain(ctx, client.TrainDraft{TrainID: "web"})
		require.NoError(t, err)
		_, _, err = h.client.Link(ctx, "web", client.LinkDraft{CredentialID: id})
		require.NoError(t, err)

		auditor := h.as(h.withRole(identity.Auditor))
		_, err = auditor.PauseAccount(ctx, id, "")
		refused(t, err, 403, "forbidden")
		_, err = h.as(h.withRole(identity.Member)).PauseAccount(ctx, id, "")
		refused(t, err, 404, "not_found")
		_, err = h.as(h.with(identity.CredentialRead)).PauseAccount(ctx, id, "")
		refused(t, err, 403, "scope_missing")

		before, err := h.client.GetCredential(ctx, id)
		require.NoError(t, err)
		require.Nil(t, before.Lending)
		paused, err := h.client.PauseAccount(ctx, id, "an invoice")
		require.NoError(t, err)
		require.Equal(t, []string{"credential.pause ok"}, h.acts(1))
		require.Equal(t, "paused", paused.Lending.State)
		require.Equal(t, "an invoice", paused.Lending.Reason)
		require.NotEmpty(t, paused.Lending.By)
		require.Equal(t, "active", paused.Status)
		_, err = h.client.UpdateCredential(ctx, id, client.CredentialPatch{Description: ptr("old"), IfMatch: before.ETag})
		refused(t, err, 412, "etag_mismatch")

		e, err := auditor.Explain(ctx, "web")
		require.NoError(t, err)
		require.Equal(t, "paused", e.Accounts[0].State)
		require.Contains(t, e.Accounts[0].Why, "an invoice")
		require.False(t, e.Accounts[0].Chosen)

		drained, err := h.client.DrainAccount(ctx, id, "")
		require.NoError(t, err)
		require.Equal(t, "drained", drained.Lending.State)
		require.Empty(t, drained.Lending.Reason, "the earlier reason is that of the earlier act")
		back, err := h.client.ResumeAccount(ctx, id, "paid")
		require.NoError(t, err)
		require.Nil(t, back.Lending)
		require.Equal(t, []string{"credential.drain ok", "credential.resume ok"}, h.acts(2))
		e, err = auditor.Explain(ctx, "web")
		require.NoError(t, err)
		require.Equal(t, "usable", e.Accounts[0].State)

		plain, err := h.client.CreateCredential(ctx, client.CredentialDraft{Type: "password", Name: "x", Secrets: map[string]string{"password": "planted-lending"}})
		require.NoError(t, err)
		_, err = h.client.PauseAccount(ctx, plain.ID, "")
		refused(t, err, 409, "state_conflict")
	})
}
