package api_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/store"
)

// account stores an account and returns its id.
func (h *house) account(name string) string {
	h.t.Helper()
	c, err := h.client.CreateCredential(h.t.Context(), client.CredentialDraft{
		Type: "api_key", Name: name, Provider: "anthropic", Secrets: map[string]string{"api_key": "sk-ant-planted-0123456789"},
	})
	require.NoError(h.t, err)
	return c.ID
}

func TestStoryTrains(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		made, err := h.client.CreateTrain(ctx, client.TrainDraft{TrainID: "web", Name: "Web"})
		require.NoError(t, err)
		require.True(t, store.ValidID("train", made.ID))
		require.Equal(t, "hash", made.Strategy)
		require.NotEmpty(t, made.ETag)
		_, err = h.client.CreateTrain(ctx, client.TrainDraft{TrainID: "web"})
		e := refused(t, err, 409, "already_exists")
		require.Equal(t, "/train_id", e.Errors[0].Pointer)

		// The slug and the id are one train.
		for _, ref := range []string{"web", made.ID} {
			got, err := h.client.GetTrain(ctx, ref)
			require.NoError(t, err)
			require.Equal(t, made, got)
		}
		changed, err := h.client.UpdateTrain(ctx, made.ID, client.TrainPatch{Strategy: ptr("priority"), KeyLimit: ptr(3), IfMatch: made.ETag})
		require.NoError(t, err)
		require.Equal(t, "priority", changed.Strategy)
		require.Equal(t, "Web", changed.Name, "what is not named stays")
		_, err = h.client.UpdateTrain(ctx, "web", client.TrainPatch{Name: ptr("Late"), IfMatch: made.ETag})
		refused(t, err, 412, "etag_mismatch")

		_, err = h.client.CreateTrain(ctx, client.TrainDraft{TrainID: "batch"})
		require.NoError(t, err)
		page, err := h.client.ListTrains(ctx, client.ListFilter{Limit: 1})
		require.NoError(t, err)
		require.Equal(t, "batch", page.Trains[0].TrainID)
		page, err = h.client.ListTrains(ctx, client.ListFilter{Limit: 1, Cursor: page.NextCursor})
		require.NoError(t, err)
		require.Equal(t, "web", page.Trains[0].TrainID)
		require.Empty(t, page.NextCursor)
		page, err = h.client.ListTrains(ctx, client.ListFilter{Q: "WE"})
		require.NoError(t, err)
		require.Len(t, page.Trains, 1)

		require.NoError(t, h.client.DeleteTrain(ctx, "batch", false))
		refused(t, h.client.DeleteTrain(ctx, "batch", false), 404, "not_found")
		require.Equal(t, []string{"train.create ok", "train.update ok", "train.create ok", "train.delete ok"}, h.acts(4))
	})
}

func TestStoryLinks(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		_, err := h.client.CreateTrain(ctx, client.TrainDraft{TrainID: "web", Strategy: "priority"})
		require.NoError(t, err)
		one, two := h.account("one"), h.account("two")

		link, created, err := h.client.Link(ctx, "web", client.LinkDraft{CredentialID: one})
		require.NoError(t, err)
		require.True(t, created)
		require.Equal(t, 100, link.Priority)
		require.Equal(t, "acc_one", link.AccountID)
		link, created, err = h.client.Link(ctx, "web", client.LinkDraft{CredentialID: "one", Alias: ptr("first"), Priority: ptr(2)})
		require.NoError(t, err)
		require.False(t, created, "200: it was there")
		require.Equal(t, "first", link.Alias)
		_, created, err = h.client.Link(ctx, "web", client.LinkDraft{CredentialID: "acc_two", Priority: ptr(1)})
		require.NoError(t, err)
		require.True(t, created)
		_, _, err = h.client.Link(ctx, "web", client.LinkDraft{CredentialID: "acc_two", Alias: ptr("first")})
		refused(t, err, 409, "already_exists")
		_, _, err = h.client.Link(ctx, "web", client.LinkDraft{CredentialID: store.NewID("cred")})
		refused(t, err, 404, "not_found")

		links, err := h.client.Links(ctx, "web")
		require.NoError(t, err)
		require.Len(t, links, 2)
		require.Equal(t, two, links[0].CredentialID)

		page, err := h.client.ListCredentials(ctx, client.CredentialFilter{TrainID: "web"})
		require.NoError(t, err)
		require.Len(t, page.Credentials, 2)
		_, err = h.client.ListCredentials(ctx, client.CredentialFilter{TrainID: "nowhere"})
		refused(t, err, 404, "not_found")

		why, err := h.client.Explain(ctx, "web")
		require.NoError(t, err)
		require.Equal(t, "priority", why.Strategy)
		require.Len(t, why.Accounts, 2)
		require.Equal(t, []string{"two", "one"}, []string{why.Accounts[0].Name, why.Accounts[1].Name})
		require.True(t, why.Accounts[0].Chosen)
		require.NotEmpty(t, why.Summary)
		_, err = h.client.UpdateTrain(ctx, "web", client.TrainPatch{Strategy: ptr("least-used")})
		refused(t, err, 422, "validation_failed")
		changed, err := h.client.UpdateTrain(ctx, "web", client.TrainPatch{Strategy: ptr("least-loaded")})
		require.NoError(t, err)
		require.Equal(t, "least-loaded", changed.Strategy)
		why, err = h.client.ExplainFor(ctx, "web", "claude-sonnet-5-5")
		require.NoError(t, err)
		for _, a := range why.Accounts {
			require.Equal(t, []client.Window{}, a.Windows, "none is a list too")
			require.InDelta(t, 0.5, a.Load, 0)
			require.Contains(t, a.Order, "nothing is known of how far it is used, which counts as 50 %")
		}

		link, err = h.client.Relink(ctx, "web", one, client.LinkPatch{Alias: ptr(""), Priority: ptr(0)})
		require.NoError(t, err)
		require.Empty(t, link.Alias)
		require.Equal(t, 0, link.Priority)
		a := h.do(request{method: "PATCH", target: "/api/trains/web/accounts/" + one, token: h.token, body: []byte(`{"alias":null}`)})
		require.Equal(t, 200, a.status, "%s", a.body)

		refused(t, h.client.DeleteTrain(ctx, "web", false), 409, "train_in_use")
		require.NoError(t, h.client.Unlink(ctx, "web", one))
		refused(t, h.client.Unlink(ctx, "web", one), 404, "not_found")
		_, err = h.client.Relink(ctx, "web", one, client.LinkPatch{Priority: ptr(1)})
		refused(t, err, 404, "not_found")
		require.NoError(t, h.client.DeleteTrain(ctx, "web", true))
	})
}

func TestStoryKeys(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		made, err := h.client.CreateTrain(ctx, client.TrainDraft{TrainID: "web", KeyLimit: 2})
		require.NoError(t, err)
		_, err = h.client.CreateTrain(ctx, client.TrainDraft{TrainID: "other"})
		require.NoError(t, err)

		later := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
		key, err := h.client.IssueKey(ctx, "web", client.KeyDraft{Name: "laptop", ExpiresAt: &later})
		require.NoError(t, err)
		require.Regexp(t, `^sbx_live_[0-9A-Za-z]+$`, key.APIKey)
		require.Equal(t, "web", key.TrainID)
		require.Equal(t, h.user.ID, key.CreatedBy)
		require.Contains(t, key.KeyPreview, key.APIKey[len(key.APIKey)-4:])
		caller, err := h.identity.Client(key.APIKey)
		require.NoError(t, err)
		require.Equal(t, made.ID, caller.TrainID)

		list, err := h.client.ListKeys(ctx, "web", client.KeyFilter{})
		require.NoError(t, err)
		require.Len(t, list.APIKeys, 1)
		require.Equal(t, "active", list.APIKeys[0].Status)
		require.Equal(t, later, list.APIKeys[0].ExpiresAt.UTC())
		raw := h.do(request{method: "GET", target: "/api/trains/web/api-keys", token: h.token})
		require.NotContains(t, string(raw.body), key.APIKey, "a key is shown once")

		changed, err := h.client.UpdateKey(ctx, "web", key.ID, client.KeyPatch{Name: ptr("desk"), Clear: []string{"expires_at"}})
		require.NoError(t, err)
		require.Equal(t, "desk", changed.Name)
		require.Nil(t, changed.ExpiresAt)

		next, err := h.client.ReplaceKey(ctx, "web", key.ID, client.KeyReplacement{OverlapSeconds: 3600})
		require.NoError(t, err)
		require.NotEqual(t, key.APIKey, next.APIKey)
		_, err = h.identity.Client(key.APIKey)
		require.NoError(t, err, "the old key lives on for the overlap")
		_, err = h.client.ReplaceKey(ctx, "web", key.ID, client.KeyReplacement{})
		refused(t, err, 409, "state_conflict")

		_, err = h.client.IssueKey(ctx, "web", client.KeyDraft{Name: "two"})
		require.NoError(t, err)
		_, err = h.client.IssueKey(ctx, "web", client.KeyDraft{Name: "three"})
		refused(t, err, 409, "key_limit_reached")

		refused(t, h.client.PurgeKey(ctx, "web", next.ID), 409, "key_active")
		refused(t, h.client.RevokeKey(ctx, "other", next.ID), 404, "not_found")
		require.NoError(t, h.client.RevokeKey(ctx, "web", next.ID))
		_, err = h.identity.Client(next.APIKey)
		require.Error(t, err, "a revoked key is dead when the call returns")
		refused(t, h.client.RevokeKey(ctx, "web", next.ID), 404, "not_found")
		list, err = h.client.ListKeys(ctx, "web", client.KeyFilter{Status: "revoked"})
		require.NoError(t, err)
		require.Len(t, list.APIKeys, 1)
		require.NoError(t, h.client.PurgeKey(ctx, "web", next.ID))
		require.NotContains(t, h.log.String(), key.APIKey)
		require.NotContains(t, h.log.String(), next.APIKey)
	})
}
