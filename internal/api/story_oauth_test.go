package api_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

const loopback = "http://127.0.0.1:49152/callback"

// TestStoryLogin: a login from its start to tokens and again; who may begin one for whose credential, and end it; and what is told of what went wrong.
func TestStoryLogin(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		work := h.oauthProvider()
		draft := client.LoginDraft{Provider: work, Name: "mine", RedirectURI: loopback, Scopes: []string{"read"}, Resource: "https://api.example.com/mcp"}
		begun, err := h.client.StartLogin(ctx, draft)
		require.NoError(t, err)
		require.Equal(t, "loopback", begun.Way)
		address, err := url.Parse(begun.AuthorizeURL)
		require.NoError(t, err)
		q := address.Query()
		require.Equal(t, "https://api.example.com/mcp", q.Get("resource"))
		require.Equal(t, loopback, q.Get("redirect_uri"))

		// Nobody but who began it ends it; that spends it all the same.
		other := h.as(h.withRole(identity.Administrator))
		_, err = other.FinishLogin(ctx, client.LoginAnswer{Code: "planted-code", State: q.Get("state")})
		refused(t, err, 409, "login_state_refused")
		_, err = h.client.FinishLogin(ctx, client.LoginAnswer{Code: "planted-code", State: q.Get("state")})
		require.Contains(t, refused(t, err, 409, "login_state_refused").Detail, "finished already")

		made, err := h.client.FinishLogin(ctx, client.LoginAnswer{Code: "planted-code", State: h.consented(h.client, work)})
		require.NoError(t, err)
		require.Equal(t, []string{"access_token", "refresh_token"}, made.SecretFields)
		require.Equal(t, "healthy", made.Health)
		_, err = h.client.FinishLogin(ctx, client.LoginAnswer{Code: "planted-refused", State: h.consented(h.client, work)})
		require.NotContains(t, refused(t, err, 422, "oauth_refused").Detail, "planted")
		_, err = h.client.FinishLogin(ctx, client.LoginAnswer{Error: "access_denied", State: h.consented(h.client, work)})
		refused(t, err, 422, "oauth_refused")
		for _, nothing := range []client.LoginAnswer{{Code: "planted-code"}, {State: "planted-state"}, {Code: "c", State: "s", Error: "e"}, {Pasted: "planted"}, {}} {
			_, err = h.client.FinishLogin(ctx, nothing)
			require.NotContains(t, refused(t, err, 422, "validation_failed").Detail, "planted")
		}

		// Again, for the credential that is there: whoever manages it.
		again := client.LoginDraft{CredentialID: made.ID, RedirectURI: loopback}
		person := h.person(identity.Member)
		member := h.as(h.session(person))
		_, err = member.StartLogin(ctx, again)
		refused(t, err, 404, "not_found")
		_, err = member.StartDeviceLogin(ctx, client.LoginDraft{CredentialID: made.ID})
		refused(t, err, 404, "not_found")
		_, err = member.LoginClient(ctx, client.ClientLoginDraft{CredentialID: made.ID})
		refused(t, err, 404, "not_found")
		h.grant(made.ID, client.GrantDraft{Grantee: client.GranteeRef{Kind: "person", ID: person}, Use: true, Reveal: true})
		_, err = member.StartLogin(ctx, again)
		refused(t, err, 403, "forbidden")
		h.grant(made.ID, client.GrantDraft{Grantee: client.GranteeRef{Kind: "person", ID: person}, Manage: true})
		begun, err = member.StartLogin(ctx, again)
		require.NoError(t, err)
		address, err = url.Parse(begun.AuthorizeURL)
		require.NoError(t, err)
		// The right that is lost meanwhile is lost for the answer as well.
		h.grant(made.ID, client.GrantDraft{Grantee: client.GranteeRef{Kind: "person", ID: person}, Use: true})
		_, err = member.FinishLogin(ctx, client.LoginAnswer{Code: "planted-code", State: address.Query().Get("state")})
		refused(t, err, 403, "forbidden")
		h.grant(made.ID, client.GrantDraft{Grantee: client.GranteeRef{Kind: "person", ID: person}, Manage: true})
		begun, err = member.StartLogin(ctx, again)
		require.NoError(t, err)
		address, err = url.Parse(begun.AuthorizeURL)
		require.NoError(t, err)
		relogged, err := member.FinishLogin(ctx, client.LoginAnswer{Code: "planted-code", State: address.Query().Get("state")})
		require.NoError(t, err)
		require.Equal(t, made.ID, relogged.ID)
		require.EqualValues(t, 2, relogged.Version)

		// In a browser only with a session, and back to a page of ours.
		_, err = h.client.StartLogin(ctx, client.LoginDraft{Provider: work, Name: "x"})
		refused(t, err, 409, "state_conflict")
		begun, err = member.StartLogin(ctx, client.LoginDraft{Provider: work, Name: "x", ReturnTo: "/account"})
		require.NoError(t, err)
		require.Equal(t, "browser", begun.Way)
		require.True(t, strings.HasSuffix(begun.RedirectURI, "/api/auth/oauth/callback"), begun.RedirectURI)
		for _, away := range []string{"https://evil.example", "//evil.example", "/\\evil.example"} {
			_, err = member.StartLogin(ctx, client.LoginDraft{Provider: work, Name: "x", ReturnTo: away})
			refused(t, err, 422, "validation_failed")
		}

		// Nothing of it is in the records.
		for _, ev := range h.events() {
			b, err := json.Marshal(ev)
			require.NoError(t, err)
			require.NotContains(t, string(b), "planted")
		}
		require.NotContains(t, h.log.String(), "planted-access")
		require.NotContains(t, h.log.String(), q.Get("state"))
	})
}

// TestStoryOAuthProviders: who may say where tokens are sent, with what proof, and what is shown of it.
func TestStoryOAuthProviders(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		work := h.oauthProvider()
		p, err := h.client.GetOAuthProvider(ctx, work)
		require.NoError(t, err)
		require.True(t, p.HasClientSecret)
		require.NotEmpty(t, p.ETag)
		elsewhere := []string{"https://evil.example/token"}
		_, err = h.client.ChangeOAuthProvider(ctx, work, client.OAuthProviderEdit{TokenURLs: &elsewhere})
		refused(t, err, 422, "secret_missing")
		title := "Other"
		_, err = h.client.ChangeOAuthProvider(ctx, work, client.OAuthProviderEdit{Title: &title, IfMatch: `"old"`})
		refused(t, err, 412, "etag_mismatch")
		changed, err := h.client.ChangeOAuthProvider(ctx, work, client.OAuthProviderEdit{Title: &title, IfMatch: p.ETag})
		require.NoError(t, err)
		require.Equal(t, "Other", changed.Title)

		admin := h.person(identity.Administrator)
		session := h.as(h.session(admin))
		_, err = session.ChangeOAuthProvider(ctx, work, client.OAuthProviderEdit{Title: &title})
		require.NoError(t, err)
		stale := h.as(h.session(admin))
		h.stale()
		_, err = stale.ChangeOAuthProvider(ctx, work, client.OAuthProviderEdit{Title: &title})
		refused(t, err, 403, "step_up_required")
		_, err = h.as(h.withRole(identity.Operator)).ChangeOAuthProvider(ctx, work, client.OAuthProviderEdit{Title: &title})
		refused(t, err, 403, "forbidden")

		yes := true
		_, err = h.client.ChangeOAuthProvider(ctx, "anthropic", client.OAuthProviderEdit{Enabled: &yes})
		refused(t, err, 409, "terms_unread")
		_, err = h.client.StartLogin(ctx, client.LoginDraft{Provider: "anthropic", Name: "x", Paste: true})
		refused(t, err, 403, "provider_off")
		anthropic, err := h.client.ChangeOAuthProvider(ctx, "anthropic", client.OAuthProviderEdit{Enabled: &yes, TermsRead: true})
		require.NoError(t, err)
		require.True(t, anthropic.Enabled && anthropic.Catalogue)
		begun, err := h.client.StartLogin(ctx, client.LoginDraft{Provider: "anthropic", Name: "x", Paste: true})
		require.NoError(t, err)
		require.Equal(t, "paste", begun.Way)
		require.NoError(t, h.client.DeleteOAuthProvider(ctx, "anthropic"))

		h.write(func(tx *store.Tx) error {
			_, err := tx.Exec(`UPDATE oauth_providers SET settings = REPLACE(settings, '/token', '/elsewhere') WHERE name = $1`, work)
			return err
		})
		p, err = h.client.GetOAuthProvider(ctx, work)
		require.NoError(t, err)
		require.True(t, p.Tampered)
		require.Empty(t, p.TokenURLs)
		_, err = h.client.StartLogin(ctx, client.LoginDraft{Provider: work, Name: "x", RedirectURI: loopback})
		refused(t, err, 409, "provider_tampered")
		require.NoError(t, h.client.DeleteOAuthProvider(ctx, work))

		a := h.do(request{method: http.MethodGet, target: "/api/oauth/providers", token: h.token})
		require.Equal(t, 200, a.status)
		require.NotContains(t, string(a.body), "planted")
	})
}

// TestStoryConnections: what is known of the refreshing of a credential, a refresh that is due and one that is forced, and what was counted.
func TestStoryConnections(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		work := h.oauthProvider()
		made, err := h.client.FinishLogin(ctx, client.LoginAnswer{Code: "planted-code", State: h.consented(h.client, work)})
		require.NoError(t, err)
		c, err := h.client.RefreshCredential(ctx, made.ID, false)
		require.NoError(t, err)
		require.EqualValues(t, 1, c.Generation, "not due")
		c, err = h.client.RefreshCredential(ctx, made.ID, true)
		require.NoError(t, err)
		require.EqualValues(t, 2, c.Generation)
		require.Equal(t, "healthy", c.Health)
		require.NotNil(t, c.RefreshedAt)
		got, err := h.client.GetConnection(ctx, made.ID)
		require.NoError(t, err)
		require.Equal(t, c.Generation, got.Generation)
		page, err := h.client.ListConnections(ctx, work, "")
		require.NoError(t, err)
		require.Len(t, page.Connections, 1)
		m, err := h.client.OAuthMetrics(ctx)
		require.NoError(t, err)
		require.Len(t, m.Providers, 1)
		require.EqualValues(t, 1, m.Providers[0].Attempts)
		require.EqualValues(t, 1, m.Providers[0].Successes)
		require.EqualValues(t, 1, m.Providers[0].Stored)
		_, err = h.client.GetConnection(ctx, h.account("no-oauth"))
		refused(t, err, 404, "not_found")
	})
}
