package oauth_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/oauth"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/vault"
)

// again begins a login anew for a credential.
func again(id string) oauth.Start {
	return oauth.Start{CredentialID: id, Way: oauth.ByBrowser, RedirectURL: callback}
}

// TestALoginAnewIsStoredWhereItBegan: a credential that was given another provider or a token endpoint of its own while its person was at the provider
// gets no tokens, since its next refresh would send them there.
func TestALoginAnewIsStoredWhereItBegan(t *testing.T) {
	elsewhere := map[string]vault.Patch{
		"another provider": {Provider: vault.To("other")},
		"own endpoint":     {OAuth: vault.OAuthPatch{TokenEndpoint: vault.To("https://id.example.com/token")}},
	}
	eachLogins(t, func(l *logins) {
		other := newConsent(l.t)
		l.add("work", l.server)
		l.add("other", other)
		ctx := l.t.Context()
		for name, change := range elsewhere {
			done, err := l.Finish(ctx, ada, l.server.agree(l.begin(ada, l.start(name))))
			require.NoError(l.t, err)
			id := done.Credential.ID

			// While the code is exchanged, which is the last moment.
			back := l.server.agree(l.begin(ada, again(id)))
			l.server.answer = func(http.ResponseWriter) bool {
				_, err := l.vault.Update(ctx, ada, id, change, "")
				require.NoError(l.t, err)
				return false
			}
			before := len(l.server.calls())
			_, err = l.Finish(ctx, ada, back)
			l.server.answer = nil
			l.refused(err, "state_conflict")
			require.Len(l.t, l.server.calls(), before+1)
			c, err := l.vault.Get(ctx, ada, id)
			require.NoError(l.t, err)
			require.EqualValues(l.t, 1, c.Version, name)

			// Before: then the code goes nowhere.
			_, err = l.vault.Update(ctx, ada, id, vault.Patch{Provider: vault.To("work"), OAuth: vault.OAuthPatch{TokenEndpoint: vault.Clear[string]()}}, "")
			require.NoError(l.t, err)
			back = l.server.agree(l.begin(ada, again(id)))
			_, err = l.vault.Update(ctx, ada, id, change, "")
			require.NoError(l.t, err)
			_, err = l.Finish(ctx, ada, back)
			l.refused(err, "state_conflict")
			require.Len(l.t, l.server.calls(), before+1, name)
			c, err = l.vault.Get(ctx, ada, id)
			require.NoError(l.t, err)
			require.EqualValues(l.t, 1, c.Version, name)
			require.Contains(l.t, l.events(), "oauth.login refused credential_changed")
		}
	})
}

// TestALoginByDeviceAnewLooksBeforeItAsks: the provider is not asked for tokens that could not be stored.
func TestALoginByDeviceAnewLooksBeforeItAsks(t *testing.T) {
	eachLogins(t, func(l *logins) {
		l.add("work", l.server)
		ctx := l.t.Context()
		done, err := l.Finish(ctx, ada, l.server.agree(l.begin(ada, l.start("x"))))
		require.NoError(l.t, err)
		begun, err := l.BeginDevice(ctx, ada, again(done.Credential.ID))
		require.NoError(l.t, err)
		_, err = l.vault.Update(ctx, ada, done.Credential.ID, vault.Patch{OAuth: vault.OAuthPatch{TokenEndpoint: vault.To("https://id.example.com/token")}}, "")
		require.NoError(l.t, err)
		l.now.pass(6 * time.Second)
		l.server.device = "yes"
		_, err = l.PollDevice(ctx, ada, begun.ID)
		l.refused(err, "state_conflict")
		require.Len(l.t, l.server.calls(), 1, "the code of the first login alone")
		require.Contains(l.t, l.events(), "oauth.login refused credential_changed")
		_, err = l.PollDevice(ctx, ada, begun.ID)
		l.refused(err, "login_state_refused")
	})
}

// TestALoginAnewIsRefreshedAsItWasMade: what another way of logging in left behind, a client secret or how tokens come, is gone.
func TestALoginAnewIsRefreshedAsItWasMade(t *testing.T) {
	eachLogins(t, func(l *logins) {
		room := l.room()
		l.add("work", l.server)
		ctx := l.t.Context()
		own := l.start("x")
		done, err := l.LoginClient(ctx, ada, own, "client-1", secret.FromString("planted-client-secret"))
		require.NoError(l.t, err)
		id := done.Credential.ID
		require.Equal(l.t, []string{"access_token", "client_secret"}, done.Credential.SecretFields)
		sent := func() (grant, key string) {
			_, _ = room.Refresh(ctx, ada, id)
			form := l.server.calls()[len(l.server.calls())-1]
			return form.Get("grant_type"), form.Get("client_secret")
		}

		// A person's consent after a program's own secret: refreshed with the refresh token, as the provider's client.
		done, err = l.Finish(ctx, ada, l.server.agree(l.begin(ada, again(id))))
		require.NoError(l.t, err)
		require.Equal(l.t, []string{"access_token", "refresh_token"}, done.Credential.SecretFields)
		require.Empty(l.t, done.Credential.OAuth.GrantType)
		grant, key := sent()
		require.Equal(l.t, "refresh_token", grant)
		require.Equal(l.t, "planted-client-secret", key)

		// And the reverse.
		done, err = l.LoginClient(ctx, ada, oauth.Start{CredentialID: id}, "", secret.Value{})
		require.NoError(l.t, err)
		require.Equal(l.t, []string{"access_token"}, done.Credential.SecretFields)
		require.Equal(l.t, vault.GrantClientCredentials, done.Credential.OAuth.GrantType)
		grant, _ = sent()
		require.Equal(l.t, "client_credentials", grant)

		// An old secret of the credential's own is not sent for the provider's client.
		_, err = l.vault.Rotate(ctx, ada, id, map[string]secret.Value{"client_secret": secret.FromString("planted-old")}, "test")
		require.NoError(l.t, err)
		_, err = l.Finish(ctx, ada, l.server.agree(l.begin(ada, again(id))))
		require.NoError(l.t, err)
		_, key = sent()
		require.Equal(l.t, "planted-client-secret", key)
	})
}

// TestALoginAnewAsAnotherClientAsksFirst: what storing the tokens would be refused for is said before anybody goes to the provider, and a proof that
// was fresh then does not grow old there.
func TestALoginAnewAsAnotherClientAsksFirst(t *testing.T) {
	eachLogins(t, func(l *logins) {
		l.add("work", l.server)
		ctx := l.t.Context()
		c, err := l.vault.Create(ctx, ada, vault.Draft{Type: vault.OAuth, Meta: vault.Meta{Name: "x", Provider: "work", OAuth: vault.OAuthMeta{ClientID: "client-0"}},
			Secrets: map[string]secret.Value{"access_token": secret.FromString("planted-a")}})
		require.NoError(l.t, err)
		stale := ada
		stale.SteppedUpAt = time.Now().Add(-time.Hour)
		for range 2 {
			_, err = l.Begin(ctx, stale, again(c.ID))
			l.refused(err, "step_up_required")
		}
		_, err = l.BeginDevice(ctx, stale, again(c.ID))
		l.refused(err, "step_up_required")
		_, err = l.LoginClient(ctx, stale, again(c.ID), "", secret.Value{})
		l.refused(err, "step_up_required")
		require.Empty(l.t, l.server.calls())

		back := l.server.agree(l.begin(ada, again(c.ID)))
		done, err := l.Finish(ctx, stale, back)
		require.NoError(l.t, err)
		require.Equal(l.t, "client-1", done.Credential.OAuth.ClientID)

		// With the same client nothing is sent elsewhere, so nothing is asked.
		_, err = l.Finish(ctx, stale, l.server.agree(l.begin(stale, again(c.ID))))
		require.NoError(l.t, err)
	})
}

// TestTokensThatCannotBeStoredAreRevoked: what a login brought and nobody may keep does not lie about at the provider, on record.
func TestTokensThatCannotBeStoredAreRevoked(t *testing.T) {
	eachLogins(t, func(l *logins) {
		l.add("work", l.server)
		ctx := l.t.Context()
		done, err := l.Finish(ctx, ada, l.server.agree(l.begin(ada, l.start("x"))))
		require.NoError(l.t, err)
		id := done.Credential.ID
		back := l.server.agree(l.begin(ada, again(id)))
		l.server.answer = func(http.ResponseWriter) bool { // while the code is exchanged
			_, err := l.vault.Update(ctx, ada, id, vault.Patch{OAuth: vault.OAuthPatch{TokenEndpoint: vault.To("https://id.example.com/token")}}, "")
			require.NoError(l.t, err)
			return false
		}
		_, err = l.Finish(ctx, ada, back)
		l.refused(err, "state_conflict")
		l.Close() // waits for what is under way
		require.Len(l.t, l.server.revoked, 1)
		require.Contains(l.t, l.server.revoked[0], "planted-refresh")
		last := l.events()[len(l.events())-3:]
		require.Equal(l.t, []string{"oauth.login refused credential_changed", "oauth.revoke pending state_conflict", "oauth.revoke ok"}, last)
		c, err := l.vault.Get(ctx, ada, id)
		require.NoError(l.t, err)
		require.EqualValues(l.t, 1, c.Version)
	})
}
