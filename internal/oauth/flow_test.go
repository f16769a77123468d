package oauth_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/oauth"
	"signalbox.dev/signalbox/internal/provider"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// TestLogin: a login stores a credential with what the provider issued, and a second one gives the same credential new tokens.
func TestLogin(t *testing.T) {
	eachLogins(t, func(l *logins) {
		l.add("work", l.server)
		before := len(l.events())
		s := l.start("mine")
		s.Resource = "https://api.example.com/mcp"
		begun := l.begin(max, s)
		done, err := l.Finish(l.t.Context(), max, l.server.agree(begun))
		require.NoError(l.t, err)
		require.Equal(l.t, "/account", done.Next)
		require.False(l.t, done.Relogin)
		c := done.Credential
		require.Equal(l.t, []string{"access_token", "refresh_token"}, c.SecretFields)
		require.Equal(l.t, "client-1", c.OAuth.ClientID)
		require.Equal(l.t, []string{"read", "offline_access"}, c.OAuth.Scopes)
		require.Equal(l.t, "https://api.example.com/mcp", c.OAuth.Resource)
		require.Equal(l.t, "https://api.example.com", c.BaseURL)
		require.WithinDuration(l.t, time.Now().Add(time.Hour), *c.OAuth.ExpiresAt, time.Minute)
		require.Equal(l.t, []string{"oauth.begin ok", "oauth.login pending", "credential.create ok", "oauth.login ok"}, l.since(before))
		require.Equal(l.t, "https://api.example.com/mcp", l.server.calls()[0].Get("resource"))

		before = len(l.events())
		begun = l.begin(max, oauth.Start{CredentialID: c.ID, Way: oauth.ByLoopback, RedirectURL: "http://127.0.0.1:49152/callback"})
		done, err = l.Finish(l.t.Context(), max, l.server.agree(begun))
		require.NoError(l.t, err)
		require.True(l.t, done.Relogin)
		require.Equal(l.t, c.ID, done.Credential.ID)
		require.EqualValues(l.t, 2, done.Credential.Version)
		require.Equal(l.t, c.OAuth.Scopes, done.Credential.OAuth.Scopes)
		require.Equal(l.t, c.OAuth.Resource, done.Credential.OAuth.Resource)
		require.Equal(l.t, []string{"oauth.begin ok", "oauth.login pending", "credential.rotate ok login", "oauth.login ok"}, l.since(before))
	})
}

// TestALoginWithoutARefreshTokenForgetsTheOldOne: it belongs to the grant of the login before.
func TestALoginWithoutARefreshTokenForgetsTheOldOne(t *testing.T) {
	eachLogins(t, func(l *logins) {
		l.add("work", l.server)
		done, err := l.Finish(l.t.Context(), ada, l.server.agree(l.begin(ada, l.start("x"))))
		require.NoError(l.t, err)
		require.Contains(l.t, done.Credential.SecretFields, "refresh_token")
		l.server.answer = func(w http.ResponseWriter) bool {
			l.server.json(w, 200, map[string]any{"access_token": "planted-only-access", "token_type": "Bearer"})
			return true
		}
		done, err = l.Finish(l.t.Context(), ada, l.server.agree(l.begin(ada, oauth.Start{CredentialID: done.Credential.ID, Way: oauth.ByBrowser, RedirectURL: callback})))
		require.NoError(l.t, err)
		require.Equal(l.t, []string{"access_token"}, done.Credential.SecretFields)
		require.Nil(l.t, done.Credential.OAuth.ExpiresAt)
	})
}

// TestStateIsOfOneSessionOnceAndInTime: whatever else comes with a state is refused, and says why.
func TestStateIsOfOneSessionOnceAndInTime(t *testing.T) {
	eachLogins(t, func(l *logins) {
		l.add("work", l.server)
		back := l.server.agree(l.begin(ada, l.start("one")))
		_, err := l.Finish(l.t.Context(), ada, back)
		require.NoError(l.t, err)
		for range 2 { // a replay
			_, err = l.Finish(l.t.Context(), ada, back)
			l.refused(err, "login_state_refused")
			require.Contains(l.t, err.Error(), "a second time")
		}
		require.Len(l.t, l.server.calls(), 1, "the code of a replay goes nowhere")

		back = l.server.agree(l.begin(ada, l.start("two")))
		for _, who := range []identity.Caller{eve, {Kind: identity.KindToken, ID: "tok_1", UserID: ada.UserID, Role: identity.Administrator, Scopes: identity.RoleScopes(identity.Administrator)}} {
			_, err = l.Finish(l.t.Context(), who, back)
			l.refused(err, "login_state_refused")
		}
		_, err = l.Finish(l.t.Context(), ada, back)
		l.refused(err, "login_state_refused") // it was seen elsewhere
		other := ada
		other.SessionID = "ses_another"
		back = l.server.agree(l.begin(ada, l.start("two")))
		_, err = l.Finish(l.t.Context(), other, back)
		l.refused(err, "login_state_refused")
		require.Contains(l.t, err.Error(), "another session")

		back = l.server.agree(l.begin(ada, l.start("three")))
		l.now.pass(oauth.FlowLife + time.Second)
		_, err = l.Finish(l.t.Context(), ada, back)
		l.refused(err, "login_state_refused")
		require.Contains(l.t, err.Error(), "ten minutes")

		back.State = secret.FromString("never-was")
		_, err = l.Finish(l.t.Context(), ada, back)
		l.refused(err, "login_state_refused")
		require.Contains(l.t, err.Error(), "no login that was begun here")
		require.Len(l.t, l.server.calls(), 1)
		require.Len(l.t, l.stored(), 1)
		require.Equal(l.t, []string{"refused used", "refused used", "refused other_session", "refused used", "refused used", "refused other_session", "refused expired", "refused unknown"}, refusals(l.events()))
	})
}

func refusals(events []string) (out []string) {
	for _, e := range events {
		if rest, ok := strings.CutPrefix(e, "oauth.login refused"); ok {
			out = append(out, "refused"+rest)
		}
	}
	return out
}

// TestMixUp: an answer of another server, or without the name that the server promised, leads to no exchange.
func TestMixUp(t *testing.T) {
	eachLogins(t, func(l *logins) {
		honest := newConsent(l.t)
		l.add("work", l.server)
		l.add("honest", honest)
		for name, change := range map[string]func(*provider.Callback){
			"another's":   func(b *provider.Callback) { b.Issuer = honest.issuer },
			"nobody's":    func(b *provider.Callback) { b.Issuer = "" },
			"almost ours": func(b *provider.Callback) { b.Issuer += "/" },
		} {
			back := l.server.agree(l.begin(ada, l.start("x")))
			change(&back)
			_, err := l.Finish(l.t.Context(), ada, back)
			l.refused(err, "login_state_refused")
			require.Contains(l.t, err.Error(), "another provider", name)
		}
		// A server without a name of its own must not hand on what is another's.
		_, err := l.AddProvider(l.t.Context(), ada, oauth.ProviderEdit{
			Name: ptr("nameless"), AuthorizeURL: ptr(l.server.URL + "/authorize"), TokenURLs: &[]string{l.server.URL + "/token"}, ClientID: ptr("client-1"),
			ClientSecret: ptr(secret.FromString("planted-client-secret")), Auth: ptr(provider.AuthPost),
		})
		require.NoError(l.t, err)
		s := l.start("y")
		s.Provider = "nameless"
		back := l.server.agree(l.begin(ada, s))
		back.Issuer = honest.issuer
		_, err = l.Finish(l.t.Context(), ada, back)
		l.refused(err, "login_state_refused")
		require.Empty(l.t, l.server.calls())
		require.Empty(l.t, honest.calls())

		back = l.server.agree(l.begin(ada, s))
		back.Issuer = ""
		_, err = l.Finish(l.t.Context(), ada, back)
		require.NoError(l.t, err)
	})
}

// TestAnswersThatAreNoConsent: the error of a refusal, and what the token endpoint refuses, store nothing and quote nothing.
func TestAnswersThatAreNoConsent(t *testing.T) {
	eachLogins(t, func(l *logins) {
		l.add("work", l.server)
		back := l.server.agree(l.begin(ada, l.start("x")))
		back.Code, back.Error = secret.Value{}, "access_denied"
		_, err := l.Finish(l.t.Context(), ada, back)
		l.refused(err, "oauth_refused")
		require.Empty(l.t, l.server.calls())

		back = l.server.agree(l.begin(ada, l.start("x")))
		back.Code = secret.FromString("another-code")
		_, err = l.Finish(l.t.Context(), ada, back)
		l.refused(err, "oauth_refused")

		for _, broken := range []func(http.ResponseWriter) bool{
			func(w http.ResponseWriter) bool { w.WriteHeader(502); return true },
			func(w http.ResponseWriter) bool { _, _ = w.Write([]byte("{planted")); return true },
			func(w http.ResponseWriter) bool {
				w.Header().Set("Location", "https://evil.example")
				w.WriteHeader(307)
				return true
			},
		} {
			l.server.answer = broken
			_, err = l.Finish(l.t.Context(), ada, l.server.agree(l.begin(ada, l.start("x"))))
			l.refused(err, "oauth_unreachable")
		}
		l.server.answer = nil
		require.Empty(l.t, l.stored())

		// The verifier is this login's own: with another one's code the server says no.
		one, two := l.server.agree(l.begin(ada, l.start("x"))), l.server.agree(l.begin(ada, l.start("y")))
		one.Code, two.Code = two.Code, one.Code
		for _, b := range []provider.Callback{one, two} {
			_, err = l.Finish(l.t.Context(), ada, b)
			l.refused(err, "oauth_refused")
		}
	})
}

// TestWhoMayLogIn: a login anew needs the right to manage the credential, when it begins and when it ends, and of a read-only role nobody begins.
func TestWhoMayLogIn(t *testing.T) {
	eachLogins(t, func(l *logins) {
		l.add("work", l.server)
		done, err := l.Finish(l.t.Context(), ada, l.server.agree(l.begin(ada, l.start("hers"))))
		require.NoError(l.t, err)
		again := oauth.Start{CredentialID: done.Credential.ID, Way: oauth.ByBrowser, RedirectURL: callback}
		_, err = l.Begin(l.t.Context(), max, again)
		l.refused(err, "not_found")
		_, err = l.Begin(l.t.Context(), person("olga", identity.Auditor), l.start("x"))
		l.refused(err, "forbidden")
		_, err = l.Begin(l.t.Context(), identity.Caller{}, l.start("x"))
		l.refused(err, "unauthenticated")

		// Eve loses the right while she is at the provider.
		back := l.server.agree(l.begin(eve, again))
		less := eve
		less.Role = identity.Auditor
		_, err = l.Finish(l.t.Context(), less, back)
		l.refused(err, "forbidden")
		back = l.server.agree(l.begin(eve, l.start("x")))
		_, err = l.Finish(l.t.Context(), less, back)
		l.refused(err, "forbidden")
		require.EqualValues(l.t, 1, l.stored()[0].Version)
		require.Len(l.t, l.stored(), 1)
	})
}

// TestTheProviderIsTheOneThatWasAsked: settings that change while somebody is at the provider end the login.
func TestTheProviderIsTheOneThatWasAsked(t *testing.T) {
	eachLogins(t, func(l *logins) {
		l.add("work", l.server)
		back := l.server.agree(l.begin(ada, l.start("x")))
		_, err := l.ChangeProvider(l.t.Context(), ada, "work", oauth.ProviderEdit{Title: ptr("Other")})
		require.NoError(l.t, err)
		_, err = l.Finish(l.t.Context(), ada, back)
		l.refused(err, "login_state_refused")
		require.Contains(l.t, err.Error(), "changed")
		require.Empty(l.t, l.server.calls())
	})
}

// TestOnlyOurOwnWaysBack: the code comes back to this server, to the person's own machine or by hand.
func TestOnlyOurOwnWaysBack(t *testing.T) {
	eachLogins(t, func(l *logins) {
		l.add("work", l.server)
		for _, address := range []string{"https://evil.example/x", "http://evil.example:80/x", "http://127.0.0.1/x", "http://127.0.0.1.evil.example:1/", "http://u@127.0.0.1:1/", "http://127.0.0.1:1/?x=1", ""} {
			s := l.start("x")
			s.Way, s.RedirectURL = oauth.ByLoopback, address
			_, err := l.Begin(l.t.Context(), ada, s)
			l.refused(err, "validation_failed")
		}
		s := l.start("x")
		s.Way = oauth.ByPaste
		_, err := l.Begin(l.t.Context(), ada, s)
		l.refused(err, "validation_failed")
		token := identity.Caller{Kind: identity.KindToken, ID: "tok_1", UserID: "user_ada", Role: identity.Administrator, Scopes: identity.RoleScopes(identity.Administrator)}
		_, err = l.Begin(l.t.Context(), token, l.start("x"))
		l.refused(err, "state_conflict")
	})
}

// TestNothingOfALoginLiesReadable: neither the state nor the verifier is in the database, and a row that is moved does not open.
func TestNothingOfALoginLiesReadable(t *testing.T) {
	eachLogins(t, func(l *logins) {
		l.add("work", l.server)
		one, two := l.begin(ada, l.start("x")), l.begin(ada, l.start("y"))
		u, err := url.Parse(one.Address.Reveal())
		require.NoError(l.t, err)
		var rows []struct {
			ID     string `db:"id"`
			State  []byte `db:"state"`
			Sealed []byte `db:"sealed"`
		}
		require.NoError(l.t, l.db.Read(l.t.Context(), func(tx *store.Tx) error { return tx.Select(&rows, `SELECT id, state, sealed FROM oauth_flows`) }))
		require.Len(l.t, rows, 2)
		for _, row := range rows {
			require.NotContains(l.t, string(row.State)+string(row.Sealed), u.Query().Get("state"))
			require.NotContains(l.t, string(row.Sealed), callback)
		}
		require.NoError(l.t, l.db.Bookkeep(l.t.Context(), store.Ceremony, func(tx *store.Tx) error {
			_, err := tx.Exec(`UPDATE oauth_flows SET sealed = $1 WHERE id = $2`, rows[1].Sealed, rows[0].ID)
			return err
		}))
		_, err = l.Finish(l.t.Context(), ada, l.server.agree(map[string]oauth.Begun{one.ID: one, two.ID: two}[rows[0].ID]))
		require.Error(l.t, err)
		require.Empty(l.t, l.server.calls())
	})
}

// TestLoginsAreFew: one caller cannot fill the table.
func TestLoginsAreFew(t *testing.T) {
	eachLogins(t, func(l *logins) {
		l.add("work", l.server)
		for range 50 {
			l.begin(max, l.start("x"))
		}
		_, err := l.Begin(l.t.Context(), max, l.start("x"))
		l.refused(err, "rate_limited")
		l.begin(ada, l.start("x"))
		l.now.pass(oauth.FlowLife + time.Second)
		l.begin(max, l.start("x"))
	})
}
