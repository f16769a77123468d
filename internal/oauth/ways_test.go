package oauth_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/oauth"
	"signalbox.dev/signalbox/internal/provider"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/vault"
)

// TestDeviceLogin: the provider is asked no more often than it wants, by one at a time, and its yes is stored once.
func TestDeviceLogin(t *testing.T) {
	eachLogins(t, func(l *logins) {
		l.add("work", l.server)
		ctx := l.t.Context()
		begun, err := l.BeginDevice(ctx, max, l.start("x"))
		require.NoError(l.t, err)
		require.Equal(l.t, "WDJB-MJHT", begun.UserCode)
		require.Equal(l.t, l.server.URL+"/go", begun.VerifyURL)

		p, err := l.PollDevice(ctx, max, begun.ID)
		require.NoError(l.t, err)
		require.False(l.t, p.Done)
		require.Empty(l.t, l.server.calls(), "the interval begins with the code")
		_, err = l.PollDevice(ctx, ada, begun.ID)
		l.refused(err, "not_found")
		_, err = l.PollDevice(ctx, max, "oaf_00000000000000000000000000")
		l.refused(err, "not_found")

		l.now.pass(6 * time.Second)
		p, err = l.PollDevice(ctx, max, begun.ID)
		require.NoError(l.t, err)
		require.Equal(l.t, 5*time.Second, p.Wait)
		require.Len(l.t, l.server.calls(), 1)
		_, err = l.PollDevice(ctx, max, begun.ID)
		require.NoError(l.t, err)
		require.Len(l.t, l.server.calls(), 1, "too early")

		l.now.pass(6 * time.Second)
		l.server.answer = func(w http.ResponseWriter) bool {
			l.server.json(w, 400, map[string]string{"error": "slow_down"})
			return true
		}
		p, err = l.PollDevice(ctx, max, begun.ID)
		require.NoError(l.t, err)
		require.Equal(l.t, 10*time.Second, p.Wait)
		l.now.pass(6 * time.Second)
		_, err = l.PollDevice(ctx, max, begun.ID)
		require.NoError(l.t, err)
		require.Len(l.t, l.server.calls(), 2, "slower from then on")

		// A provider that is away for a moment has not said no.
		l.now.pass(5 * time.Second)
		l.server.answer = func(w http.ResponseWriter) bool { w.WriteHeader(503); return true }
		p, err = l.PollDevice(ctx, max, begun.ID)
		require.NoError(l.t, err)
		require.False(l.t, p.Done)
		l.server.answer, l.server.device = nil, "yes"
		l.now.pass(p.Wait + time.Second)
		before := len(l.events())
		p, err = l.PollDevice(ctx, max, begun.ID)
		require.NoError(l.t, err)
		require.True(l.t, p.Done)
		require.Equal(l.t, []string{"access_token", "refresh_token"}, p.Credential.SecretFields)
		require.Equal(l.t, []string{"oauth.login pending", "credential.create ok", "oauth.login ok"}, l.since(before))
		_, err = l.PollDevice(ctx, max, begun.ID)
		l.refused(err, "login_state_refused")

		l.server.device = "no"
		begun, err = l.BeginDevice(ctx, max, l.start("y"))
		require.NoError(l.t, err)
		l.now.pass(6 * time.Second)
		_, err = l.PollDevice(ctx, max, begun.ID)
		l.refused(err, "oauth_refused")

		begun, err = l.BeginDevice(ctx, max, l.start("z"))
		require.NoError(l.t, err)
		l.now.pass(time.Hour)
		_, err = l.PollDevice(ctx, max, begun.ID)
		l.refused(err, "login_state_refused")
		require.Len(l.t, l.stored(), 1)
	})
}

// TestADeviceLoginThatIsAgreedAtTheLastMoment: a poll that began in time keeps what it is given when the code ends meanwhile.
func TestADeviceLoginThatIsAgreedAtTheLastMoment(t *testing.T) {
	eachLogins(t, func(l *logins) {
		l.add("work", l.server)
		begun, err := l.BeginDevice(l.t.Context(), max, l.start("x"))
		require.NoError(l.t, err)
		l.now.pass(time.Until(begun.ExpiresAt) - 10*time.Second)
		l.server.device = "yes"
		l.server.answer = func(http.ResponseWriter) bool { l.now.pass(time.Minute); return false }
		p, err := l.PollDevice(l.t.Context(), max, begun.ID)
		require.NoError(l.t, err)
		require.True(l.t, p.Done)
		require.Len(l.t, l.stored(), 1)
		_, err = l.PollDevice(l.t.Context(), max, begun.ID)
		l.refused(err, "login_state_refused")
	})
}

// TestClientCredentials: a program's own secret brings tokens, that of the provider or one of the credential's own, and the credential says so.
func TestClientCredentials(t *testing.T) {
	eachLogins(t, func(l *logins) {
		l.add("work", l.server)
		ctx := l.t.Context()
		_, err := l.LoginClient(ctx, max, l.start("x"), "", secret.Value{})
		l.refused(err, "forbidden")
		require.Empty(l.t, l.server.calls(), "the provider's client is the installation's, not a member's")
		require.Contains(l.t, l.events(), "oauth.refused refused forbidden")
		done, err := l.LoginClient(ctx, eve, l.start("x"), "", secret.Value{})
		require.NoError(l.t, err)
		require.Equal(l.t, []string{"access_token"}, done.Credential.SecretFields)
		require.Equal(l.t, vault.GrantClientCredentials, done.Credential.OAuth.GrantType)

		own := l.start("y")
		own.Provider = "bare"
		_, err = l.AddProvider(ctx, ada, oauth.ProviderEdit{Name: ptr("bare"), TokenURLs: &[]string{l.server.URL + "/token"}, Auth: ptr(provider.AuthPost)})
		require.NoError(l.t, err)
		_, err = l.LoginClient(ctx, eve, own, "", secret.Value{})
		l.refused(err, "client_missing")
		_, err = l.LoginClient(ctx, max, own, "client-1", secret.Value{})
		l.refused(err, "validation_failed")
		_, err = l.LoginClient(ctx, max, own, "client-1", secret.FromString("planted-wrong"))
		l.refused(err, "oauth_refused")
		done, err = l.LoginClient(ctx, max, own, "client-1", secret.FromString("planted-client-secret"))
		require.NoError(l.t, err)
		require.Equal(l.t, []string{"access_token", "client_secret"}, done.Credential.SecretFields)
		require.Equal(l.t, "client-1", done.Credential.OAuth.ClientID)
		_, err = l.Begin(ctx, max, own)
		l.refused(err, "client_missing")
	})
}

// TestDeletionRevokes: what was issued is revoked after the deletion, which does not wait for it, and both are on record.
func TestDeletionRevokes(t *testing.T) {
	eachLogins(t, func(l *logins) {
		l.add("work", l.server)
		ctx := l.t.Context()
		begin := func(name string) vault.Credential {
			done, err := l.Finish(ctx, ada, l.server.agree(l.begin(ada, l.start(name))))
			require.NoError(l.t, err)
			return done.Credential
		}
		one := begin("one")
		refresh, err := l.vault.Reveal(ctx, ada, one.ID, "refresh_token", "test")
		require.NoError(l.t, err)
		before := len(l.events())
		l.refused(l.Delete(ctx, ada, one.ID, `"old"`), "etag_mismatch")
		l.refused(l.Delete(ctx, max, one.ID, ""), "not_found")
		require.NoError(l.t, l.Delete(ctx, ada, one.ID, one.ETag()))
		password, err := l.vault.Create(ctx, ada, vault.Draft{Type: vault.Password, Meta: vault.Meta{Name: "p"}, Secrets: map[string]secret.Value{"password": secret.FromString("planted")}})
		require.NoError(l.t, err)
		require.NoError(l.t, l.Delete(ctx, ada, password.ID, ""))
		l.Close()
		require.Equal(l.t, []string{refresh.Reveal()}, l.server.revoked)
		events := l.since(before)
		require.Contains(l.t, events, "oauth.revoke pending")
		require.Contains(l.t, events, "oauth.revoke ok")
		require.NotContains(l.t, events, "oauth.revoke failed")
	})
}

// TestARevocationThatFailsStopsNothing: and it is on record as failed.
func TestARevocationThatFailsStopsNothing(t *testing.T) {
	eachLogins(t, func(l *logins) {
		l.add("work", l.server)
		done, err := l.Finish(l.t.Context(), ada, l.server.agree(l.begin(ada, l.start("one"))))
		require.NoError(l.t, err)
		l.server.Close()
		require.NoError(l.t, l.Delete(l.t.Context(), ada, done.Credential.ID, ""))
		require.Empty(l.t, l.stored())
		l.Close()
		require.Contains(l.t, l.events(), "oauth.revoke failed dial")
	})
}
