package api_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/store"
)

// acts returns the newest n acts as "action outcome", the newest last, without the reads of the log.
func (h *house) acts(n int) []string {
	h.t.Helper()
	var out []string
	for _, e := range h.events() {
		if len(out) == n {
			break
		}
		out = append([]string{string(e.Action) + " " + e.Outcome}, out...)
	}
	return out
}

func TestStoryAPIKey(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		key := "sk-ant-planted-" + strings.Repeat("k", 20) + "4242"
		made, err := h.client.CreateCredential(ctx, client.CredentialDraft{
			Type: "api_key", Name: "team-alpha", Provider: "anthropic", Tags: []string{"prod"}, Notes: "planted-note", Secrets: map[string]string{"api_key": key},
		})
		require.NoError(t, err)
		require.True(t, store.ValidID("cred", made.ID))
		require.Equal(t, "acc_team-alpha", made.AccountID)
		require.Equal(t, []string{"api_key"}, made.SecretFields)
		require.Equal(t, []string{}, made.Hosts)
		require.Equal(t, "4242", made.Suffix)
		require.Equal(t, "active", made.Status)
		require.EqualValues(t, 1, made.Version)
		require.NotEmpty(t, made.ETag)
		require.WithinDuration(t, time.Now(), made.CreatedAt, time.Minute)

		// Another account of that name is refused, another credential is not.
		_, err = h.client.CreateCredential(ctx, client.CredentialDraft{Type: "api_key", Name: "team-alpha", Provider: "anthropic", Secrets: map[string]string{"api_key": key}})
		refused(t, err, 409, "already_exists")

		got, err := h.client.GetCredential(ctx, made.ID)
		require.NoError(t, err)
		require.Equal(t, made.ETag, got.ETag)
		require.True(t, got.HasNotes)
		require.Equal(t, "planted-note", got.Notes)

		list, err := h.client.ListCredentials(ctx, client.CredentialFilter{Type: "api_key", Tag: "prod", Status: "active", Q: "alpha"})
		require.NoError(t, err)
		require.Len(t, list.Credentials, 1)
		require.Empty(t, list.Credentials[0].Notes, "a list shows no notes")
		require.Empty(t, list.NextCursor)
		list, err = h.client.ListCredentials(ctx, client.CredentialFilter{Tag: "other"})
		require.NoError(t, err)
		require.NotNil(t, list.Credentials)
		require.Empty(t, list.Credentials)

		// Secrets in a patch make a new version; the ETag of the first state no longer fits.
		rotated := "sk-ant-planted-" + strings.Repeat("n", 20) + "9999"
		changed, err := h.client.UpdateCredential(ctx, made.ID, client.CredentialPatch{
			Description: ptr("main key"), Secrets: map[string]*string{"api_key": &rotated}, Reason: "monthly", Clear: []string{"notes", "tags"}, IfMatch: made.ETag,
		})
		require.NoError(t, err)
		require.EqualValues(t, 2, changed.Version)
		require.Equal(t, "main key", changed.Description)
		require.False(t, changed.HasNotes)
		require.Equal(t, []string{}, changed.Tags)
		require.NotEqual(t, made.ETag, changed.ETag)
		_, err = h.client.UpdateCredential(ctx, made.ID, client.CredentialPatch{Description: ptr("late"), IfMatch: made.ETag})
		refused(t, err, 412, "etag_mismatch")

		versions, err := h.client.CredentialVersions(ctx, made.ID)
		require.NoError(t, err)
		require.Len(t, versions, 2)
		require.True(t, versions[0].Current)
		require.Equal(t, "monthly", versions[0].Reason)
		require.Equal(t, "9999", versions[0].Suffix)

		value, err := h.client.RevealCredential(ctx, made.ID, "api_key", "story")
		require.NoError(t, err)
		require.Equal(t, rotated, value)

		back, err := h.client.RestoreCredential(ctx, made.ID, 1)
		require.NoError(t, err)
		require.EqualValues(t, 3, back.Version)
		value, err = h.client.RevealCredential(ctx, made.ID, "api_key", "story")
		require.NoError(t, err)
		require.Equal(t, key, value)
		_, err = h.client.RestoreCredential(ctx, made.ID, 7)
		refused(t, err, 404, "not_found")

		require.NoError(t, h.client.DeleteCredential(ctx, made.ID))
		_, err = h.client.GetCredential(ctx, made.ID)
		refused(t, err, 404, "not_found")
		require.Equal(t, []string{"credential.reveal ok", "credential.rotate ok", "credential.reveal ok", "credential.delete ok"}, h.acts(4))

		for _, secret := range []string{key, rotated, "planted-note"} {
			require.NotContains(t, h.log.String(), secret)
			for _, e := range h.events() {
				require.NotContains(t, e.Reason+strings.Join(e.Fields, ""), secret)
			}
		}
	})
}

func TestStoryOAuth(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		expires := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
		made, err := h.client.CreateCredential(ctx, client.CredentialDraft{
			Type: "oauth", Name: "team-beta", Provider: "anthropic",
			Secrets: map[string]string{"access_token": "planted-access-token-1", "refresh_token": "planted-refresh-token-1"},
			OAuth: &client.OAuth{ExpiresAt: &expires, Scopes: []string{"user:inference"}, ClientID: "cid", TokenEndpoint: "https://auth.example.com/token",
				TokenEndpointAuthMethod: "none", TokenRequestFormat: "json"},
		})
		require.NoError(t, err)
		require.Equal(t, "healthy", made.Health)
		require.Equal(t, []string{"access_token", "refresh_token"}, made.SecretFields)
		require.Equal(t, expires, made.OAuth.ExpiresAt.UTC())
		require.Equal(t, []string{"user:inference"}, made.OAuth.Scopes)
		require.Equal(t, "json", made.OAuth.TokenRequestFormat)

		// A merge of the block leaves what it does not name; null empties.
		a := h.do(request{method: "PUT", target: "/api/credentials/" + made.ID, token: h.token,
			body: []byte(`{"oauth":{"client_id":"other","scopes":null},"secrets":{"refresh_token":null}}`)})
		require.Equal(t, 200, a.status, "%s", a.body)
		got, err := h.client.GetCredential(ctx, made.ID)
		require.NoError(t, err)
		require.Equal(t, "other", got.OAuth.ClientID)
		require.Empty(t, got.OAuth.Scopes)
		require.Equal(t, "https://auth.example.com/token", got.OAuth.TokenEndpoint)
		require.Equal(t, []string{"access_token"}, got.SecretFields)

		past := time.Now().Add(-time.Minute)
		got, err = h.client.UpdateCredential(ctx, made.ID, client.CredentialPatch{OAuth: &client.OAuth{ExpiresAt: &past}})
		require.NoError(t, err)
		require.Equal(t, "needs_login", got.Health)

		_, err = h.client.CreateCredential(ctx, client.CredentialDraft{Type: "oauth", Name: "inside", Secrets: map[string]string{"access_token": "planted-access-token-2"},
			OAuth: &client.OAuth{TokenEndpoint: "https://169.254.169.254/token"}})
		e := refused(t, err, 422, "upstream_refused")
		require.Equal(t, "/oauth/token_endpoint", e.Errors[0].Pointer)
		require.NotContains(t, h.log.String(), "planted-")
	})
}

func TestStoryPassword(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		made, err := h.client.CreateCredential(ctx, client.CredentialDraft{
			Type: "password", Name: "Gitea Admin", Username: "admin", ExternalURL: "https://git.example.com", Requires2FA: true, ClientID: "acme",
			Secrets: map[string]string{"password": "planted \u0000 pass\u2028wörd \U0001F511"},
		})
		require.NoError(t, err)
		require.Empty(t, made.Suffix, "a password shows nothing of itself")
		require.True(t, made.Requires2FA)

		page, err := h.client.CredentialsByClient(ctx, "acme", client.CredentialFilter{})
		require.NoError(t, err)
		require.Len(t, page.Credentials, 1)
		page, err = h.client.CredentialsByClient(ctx, "nobody", client.CredentialFilter{})
		require.NoError(t, err)
		require.Empty(t, page.Credentials)

		value, err := h.client.RevealCredential(ctx, made.ID, "password", "story")
		require.NoError(t, err)
		require.Equal(t, "planted \u0000 pass\u2028wörd \U0001F511", value, "a secret comes back byte for byte")
		_, err = h.client.RevealCredential(ctx, made.ID, "api_key", "story")
		refused(t, err, 409, "not_revealable")

		got, err := h.client.RotateCredential(ctx, made.ID, map[string]string{"password": "next"}, "left the team")
		require.NoError(t, err)
		require.EqualValues(t, 2, got.Version)
		require.NotNil(t, got.LastRotatedAt)

		got, err = h.client.UpdateCredential(ctx, made.ID, client.CredentialPatch{Status: ptr("compromised")})
		require.NoError(t, err)
		require.Equal(t, "compromised", got.Status)
		_, err = h.client.UpdateCredential(ctx, made.ID, client.CredentialPatch{Status: ptr("active")})
		refused(t, err, 409, "state_conflict") // nobody takes the mark back unseen
		got, err = h.client.UpdateCredential(ctx, made.ID, client.CredentialPatch{Status: ptr("active"), IfMatch: got.ETag})
		require.NoError(t, err)
		require.Equal(t, "active", got.Status)

		// The type never changes, and is not a field of a change.
		a := h.do(request{method: "PATCH", target: "/api/credentials/" + made.ID, token: h.token, body: []byte(`{"type":"api_key"}`)})
		require.Equal(t, 422, a.status)
		require.Equal(t, "validation_failed", h.problem(a).Code)
	})
}

func TestCredentialPages(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		for _, name := range []string{"a", "b", "c", "d", "e"} {
			_, err := h.client.CreateCredential(ctx, client.CredentialDraft{Type: "custom", Name: name, Secrets: map[string]string{"x": "y"}})
			require.NoError(t, err)
		}
		seen := map[string]bool{}
		cursor := ""
		for range 3 {
			page, err := h.client.ListCredentials(ctx, client.CredentialFilter{Limit: 2, Cursor: cursor})
			require.NoError(t, err)
			for _, c := range page.Credentials {
				require.False(t, seen[c.Name])
				seen[c.Name] = true
			}
			cursor = page.NextCursor
		}
		require.Len(t, seen, 5)
		require.Empty(t, cursor)
		page, err := h.client.ListCredentials(ctx, client.CredentialFilter{Skip: 4})
		require.NoError(t, err)
		require.Len(t, page.Credentials, 1)
		_, err = h.client.ListCredentials(ctx, client.CredentialFilter{Cursor: "planted-cursor"})
		e := refused(t, err, 422, "validation_failed")
		require.Equal(t, "query.cursor", e.Errors[0].Pointer)
	})
}

// TestNoStoreOnReveal: what reveals is never kept by a cache, and names no secret in a header.
func TestNoStoreOnReveal(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		made, err := h.client.CreateCredential(t.Context(), client.CredentialDraft{Type: "password", Name: "x", Secrets: map[string]string{"password": "planted-reveal"}})
		require.NoError(t, err)
		a := h.do(request{method: "POST", target: "/api/credentials/" + made.ID + "/reveal", token: h.token, body: []byte(`{"field":"password","reason":"test"}`)})
		require.Equal(t, 200, a.status)
		h.headers(a)
		require.JSONEq(t, `{"field":"password","value":"planted-reveal"}`, string(a.body))
		for name, values := range a.header {
			require.NotContains(t, strings.Join(values, " "), "planted", name)
		}
		require.Empty(t, a.header.Get("ETag"))
	})
}

func TestETagAndIfMatch(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		cred, err := h.client.CreateCredential(t.Context(), client.CredentialDraft{Type: "password", Name: "x", Secrets: map[string]string{"password": "pw"}})
		require.NoError(t, err)
		_, err = h.client.CreateTrain(t.Context(), client.TrainDraft{TrainID: "web"})
		require.NoError(t, err)
		for _, target := range []string{"/api/credentials/" + cred.ID, "/api/trains/web"} {
			for _, method := range []string{"PATCH", "PUT"} {
				before := h.do(request{method: "GET", target: target, token: h.token})
				tag := before.header.Get("ETag")
				require.Regexp(t, `^"[0-9-]+"$`, tag)
				change := func(match string) answered {
					return h.do(request{method: method, target: target, token: h.token, body: []byte(`{"description":"` + method + match[1:2] + `"}`), header: http.Header{"If-Match": {match}}})
				}
				stale := change(`"0"`)
				require.Equal(t, 412, stale.status)
				require.Equal(t, "etag_mismatch", h.problem(stale).Code)
				require.Equal(t, string(before.body), string(h.do(request{method: "GET", target: target, token: h.token}).body), "a refused change changed something")
				fits := change(tag)
				require.Equal(t, 200, fits.status, "%s", fits.body)
				require.NotEqual(t, tag, fits.header.Get("ETag"))
				require.Equal(t, 412, change(tag).status, "the tag of the state before fits no longer")
			}
		}
	})
}
