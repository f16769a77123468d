package oauth_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/oauth"
	"signalbox.dev/signalbox/internal/outbound"
	"signalbox.dev/signalbox/internal/provider"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/vault"
)

func (l *logins) room() *oauth.Room {
	l.t.Helper()
	policy, err := outbound.ParsePolicy([]string{"127.0.0.1"})
	require.NoError(l.t, err)
	r, err := oauth.New(oauth.Config{DB: l.db, Vault: l.vault, Ring: l.ring, Endpoint: provider.New(provider.Config{Policy: policy}), Servers: l.Logins, SpillDir: l.t.TempDir(), Clock: l.now.Now})
	require.NoError(l.t, err)
	l.t.Cleanup(r.Close)
	return r
}

// TestARefreshAtAStoredProvider: what a login brought is refreshed there, as the provider's client and for the same resource.
func TestARefreshAtAStoredProvider(t *testing.T) {
	eachLogins(t, func(l *logins) {
		room := l.room()
		l.add("work", l.server)
		s := l.start("x")
		s.Resource = "https://api.example.com/mcp"
		done, err := l.Finish(l.t.Context(), ada, l.server.agree(l.begin(ada, s)))
		require.NoError(l.t, err)
		_, err = room.Refresh(l.t.Context(), ada, done.Credential.ID)
		require.Error(l.t, err, "the test server knows no refresh; what matters is what it was sent")
		sent := l.server.calls()[1]
		require.Equal(l.t, "refresh_token", sent.Get("grant_type"))
		require.Equal(l.t, "planted-client-secret", sent.Get("client_secret"))
		require.Equal(l.t, "https://api.example.com/mcp", sent.Get("resource"))
	})
}

// TestTokensByClientCredentialsAreRenewed: with the same secret, for the same scopes, and without a refresh token.
func TestTokensByClientCredentialsAreRenewed(t *testing.T) {
	eachLogins(t, func(l *logins) {
		room := l.room()
		l.add("work", l.server)
		own := l.start("own")
		own.Scopes = []string{"write"}
		for _, s := range []oauth.Start{l.start("providers"), own} {
			done, err := l.LoginClient(l.t.Context(), ada, s, "", secret.Value{})
			require.NoError(l.t, err)
			c, err := room.Refresh(l.t.Context(), ada, done.Credential.ID)
			require.NoError(l.t, err)
			require.EqualValues(l.t, 2, c.Generation)
			require.Equal(l.t, vault.Healthy, c.Health)
			now, err := l.vault.Get(l.t.Context(), ada, done.Credential.ID)
			require.NoError(l.t, err)
			require.Equal(l.t, []string{"access_token"}, now.SecretFields)
		}
		sent := l.server.calls()
		require.Len(l.t, sent, 4)
		require.Equal(l.t, "client_credentials", sent[3].Get("grant_type"))
		require.Equal(l.t, "write", sent[3].Get("scope"))
		require.Empty(l.t, sent[3].Get("refresh_token"))
	})
}

// TestTheProvidersSecretGoesToTheProviderAlone: who stores a credential may name any token endpoint and any client in it, and learns nothing by that.
func TestTheProvidersSecretGoesToTheProviderAlone(t *testing.T) {
	eachLogins(t, func(l *logins) {
		room, theirs := l.room(), newConsent(l.t)
		l.add("work", l.server)
		ends := time.Now().Add(time.Hour)
		for name, o := range map[string]vault.OAuthMeta{
			"own endpoint":               {TokenEndpoint: theirs.URL + "/token"},
			"own endpoint, their client": {TokenEndpoint: theirs.URL + "/token", ClientID: "client-1"},
			"own client":                 {ClientID: "client-2"},
		} {
			o.ExpiresAt = &ends
			c, err := l.vault.Create(l.t.Context(), max, vault.Draft{Type: vault.OAuth, Meta: vault.Meta{Name: name, Provider: "work", OAuth: o},
				Secrets: map[string]secret.Value{"access_token": secret.FromString("planted-a"), "refresh_token": secret.FromString("planted-r")}})
			require.NoError(l.t, err)
			_, err = room.Refresh(l.t.Context(), max, c.ID)
			require.Error(l.t, err)
		}
		sent := append(l.server.calls(), theirs.calls()...)
		require.Len(l.t, sent, 3)
		for _, form := range sent {
			require.NotContains(l.t, form.Encode(), "planted-client-secret")
		}
	})
}

// TestAMemberMintsNothingAsTheProvidersClient: whoever reaches only some credentials cannot store, change or restore one so that it would be refreshed
// with the provider's own secret; what an operator made so and shared stays as it was made.
func TestAMemberMintsNothingAsTheProvidersClient(t *testing.T) {
	eachLogins(t, func(l *logins) {
		l.add("work", l.server)
		room, ctx := l.room(), l.t.Context()
		tokens := map[string]secret.Value{"access_token": secret.FromString("planted-a")}
		minted := vault.OAuthMeta{GrantType: vault.GrantClientCredentials}
		draft := func(name string, o vault.OAuthMeta) vault.Draft {
			return vault.Draft{Type: vault.OAuth, Meta: vault.Meta{Name: name, Provider: "work", OAuth: o}, Secrets: tokens}
		}
		_, err := l.vault.Create(ctx, max, draft("stored", minted))
		l.refused(err, "forbidden")
		require.Empty(l.t, l.stored())

		// Step by step.
		c, err := l.vault.Create(ctx, max, draft("plain", vault.OAuthMeta{}))
		require.NoError(l.t, err)
		_, err = l.vault.Update(ctx, max, c.ID, vault.Patch{OAuth: vault.OAuthPatch{GrantType: vault.To(vault.GrantClientCredentials)}}, "")
		l.refused(err, "forbidden")
		own := secret.FromString("planted-own")
		_, err = l.vault.Update(ctx, max, c.ID, vault.Patch{OAuth: vault.OAuthPatch{GrantType: vault.To(vault.GrantClientCredentials)}, Secrets: map[string]*secret.Value{"client_secret": &own}}, "")
		require.NoError(l.t, err)
		_, err = l.vault.Update(ctx, max, c.ID, vault.Patch{Secrets: map[string]*secret.Value{"client_secret": nil}}, "")
		l.refused(err, "forbidden")
		_, err = l.vault.Restore(ctx, max, c.ID, 1)
		l.refused(err, "forbidden")
		_, _ = room.Refresh(ctx, max, c.ID)
		for _, form := range l.server.calls() {
			require.NotEqual(l.t, "planted-client-secret", form.Get("client_secret"))
		}

		// What an operator made so, its manager can rename and refresh, and not widen.
		c, err = l.vault.Create(ctx, max, draft("shared", vault.OAuthMeta{}))
		require.NoError(l.t, err)
		id := c.ID
		_, err = l.LoginClient(ctx, eve, oauth.Start{CredentialID: id}, "", secret.Value{})
		require.NoError(l.t, err)
		_, err = l.vault.Update(ctx, max, id, vault.Patch{Description: vault.To("theirs")}, "")
		require.NoError(l.t, err)
		_, err = room.Refresh(ctx, max, id)
		require.NoError(l.t, err)
		_, err = l.vault.Update(ctx, max, id, vault.Patch{OAuth: vault.OAuthPatch{Scopes: vault.To([]string{"admin"})}}, "")
		l.refused(err, "forbidden")
	})
}
