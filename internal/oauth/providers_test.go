package oauth_test

import (
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

// TestProviderByItsIssuer: an issuer is asked for its endpoints, and what it said is kept.
func TestProviderByItsIssuer(t *testing.T) {
	eachLogins(t, func(l *logins) {
		k := l.add("work", l.server)
		require.Equal(l.t, l.server.URL+"/authorize", k.AuthorizeURL)
		require.Equal(l.t, []string{l.server.URL + "/token"}, k.TokenURLs)
		require.Equal(l.t, l.server.URL+"/device", k.DeviceURL)
		require.Equal(l.t, l.server.URL+"/revoke", k.RevokeURL)
		require.Equal(l.t, provider.AuthPost, k.Auth)
		require.True(l.t, k.NamesItself && k.Enabled && k.HasSecret && !k.Catalogue)

		l.server.issuer = "https://somebody.else.example"
		_, err := l.AddProvider(l.t.Context(), ada, oauth.ProviderEdit{Name: ptr("other"), Issuer: ptr(l.server.URL)})
		l.refused(err, "oauth_unreachable")
		_, err = l.AddProvider(l.t.Context(), ada, oauth.ProviderEdit{Name: ptr("other"), Issuer: ptr("http://192.168.1.1")})
		l.refused(err, "upstream_refused")

		list, err := l.Providers(l.t.Context(), max)
		require.NoError(l.t, err)
		require.Len(l.t, list, len(provider.Catalogue())+1)
		before := len(l.events())
		_, err = l.ChangeProvider(l.t.Context(), ada, "work", oauth.ProviderEdit{Scopes: &[]string{"read"}, IfMatch: `"old"`})
		l.refused(err, "etag_mismatch")
		changed, err := l.ChangeProvider(l.t.Context(), ada, "work", oauth.ProviderEdit{Scopes: &[]string{"read"}, IfMatch: k.ETag()})
		require.NoError(l.t, err)
		require.NotEqual(l.t, k.ETag(), changed.ETag())
		require.NoError(l.t, l.DeleteProvider(l.t.Context(), ada, "work", changed.ETag()))
		_, err = l.Provider(l.t.Context(), ada, "work")
		l.refused(err, "not_found")
		require.Equal(l.t, []string{"oauth.provider_change ok", "oauth.provider_delete ok"}, l.since(before))
	})
}

// TestWhoMayChangeProviders: an administrator with a fresh proof, since the addresses get refresh tokens.
func TestWhoMayChangeProviders(t *testing.T) {
	eachLogins(t, func(l *logins) {
		stale := ada
		stale.SteppedUpAt = time.Now().Add(-time.Hour)
		for who, code := range map[*identity.Caller]string{&eve: "forbidden", &max: "forbidden", &stale: "step_up_required", {}: "unauthenticated"} {
			_, err := l.AddProvider(l.t.Context(), *who, oauth.ProviderEdit{Name: ptr("x")})
			l.refused(err, code)
			_, err = l.ChangeProvider(l.t.Context(), *who, "github", oauth.ProviderEdit{ClientID: ptr("x")})
			l.refused(err, code)
			l.refused(l.DeleteProvider(l.t.Context(), *who, "github", ""), code)
		}
		require.Len(l.t, refusedActs(l.events()), 9)
	})
}

func refusedActs(events []string) (out []string) {
	for _, e := range events {
		if strings.HasPrefix(e, "oauth.refused refused") {
			out = append(out, e)
		}
	}
	return out
}

// TestTheCatalogueStaysAsItIs: of its rows the client and the scopes can be set, nothing else; its names cannot be taken.
func TestTheCatalogueStaysAsItIs(t *testing.T) {
	eachLogins(t, func(l *logins) {
		_, err := l.AddProvider(l.t.Context(), ada, oauth.ProviderEdit{Name: ptr("github"), TokenURLs: &[]string{"https://evil.example/token"}})
		l.refused(err, "already_exists")
		for _, e := range []oauth.ProviderEdit{{TokenURLs: &[]string{"https://evil.example/token"}}, {Issuer: ptr("https://evil.example")}, {Hosts: &[]string{"evil.example"}}, {RevokeURL: ptr("https://evil.example")}} {
			_, err = l.ChangeProvider(l.t.Context(), ada, "github", e)
			l.refused(err, "validation_failed")
		}
		s := l.start("x")
		s.Provider = "github"
		_, err = l.Begin(l.t.Context(), max, s)
		l.refused(err, "client_missing")
		k, err := l.ChangeProvider(l.t.Context(), ada, "github", oauth.ProviderEdit{ClientID: ptr("ours"), ClientSecret: ptr(secret.FromString("planted"))})
		require.NoError(l.t, err)
		require.True(l.t, k.Catalogue && k.HasSecret)
		row, _ := provider.Find(provider.Catalogue(), "github")
		require.Equal(l.t, row.TokenURLs, k.TokenURLs)
		require.Contains(l.t, l.begin(max, s).Address.Reveal(), "client_id=ours")

		// Another client has another secret.
		_, err = l.ChangeProvider(l.t.Context(), ada, "github", oauth.ProviderEdit{ClientID: ptr("another")})
		l.refused(err, "secret_missing")
		require.NoError(l.t, l.DeleteProvider(l.t.Context(), ada, "github", ""))
		k, err = l.Provider(l.t.Context(), ada, "github")
		require.NoError(l.t, err)
		require.False(l.t, k.HasSecret)
		l.refused(l.DeleteProvider(l.t.Context(), ada, "github", ""), "state_conflict")
	})
}

// TestConsumerSubscriptionsAreOffUntilSomebodyHasReadWhy.
func TestConsumerSubscriptionsAreOffUntilSomebodyHasReadWhy(t *testing.T) {
	eachLogins(t, func(l *logins) {
		s := oauth.Start{Provider: "anthropic", New: oauth.Draft{Name: "team"}, Way: oauth.ByPaste}
		_, err := l.Begin(l.t.Context(), max, s)
		l.refused(err, "provider_off")
		row, _ := provider.Find(provider.Catalogue(), "anthropic")
		require.Contains(l.t, err.Error(), row.Consumer)
		_, err = l.ChangeProvider(l.t.Context(), ada, "anthropic", oauth.ProviderEdit{Enabled: ptr(true)})
		l.refused(err, "terms_unread")
		require.Contains(l.t, err.Error(), row.Consumer)
		_, err = l.Begin(l.t.Context(), max, s)
		l.refused(err, "provider_off")
		_, err = l.ChangeProvider(l.t.Context(), ada, "anthropic", oauth.ProviderEdit{ClientID: ptr("x")})
		require.NoError(l.t, err, "a client id switches nothing on")
		_, err = l.Begin(l.t.Context(), max, s)
		l.refused(err, "provider_off")
		_, err = l.ChangeProvider(l.t.Context(), ada, "anthropic", oauth.ProviderEdit{ClientID: ptr("")})
		require.NoError(l.t, err)
		_, err = l.ChangeProvider(l.t.Context(), ada, "anthropic", oauth.ProviderEdit{Enabled: ptr(true), TermsRead: true})
		require.NoError(l.t, err)
		begun := l.begin(max, s)
		require.Equal(l.t, row.RedirectURL, begun.RedirectURL)
		require.Contains(l.t, begun.Address.Reveal(), "code=true")
		require.Contains(l.t, begun.Address.Reveal(), row.ClientID)
		var body []byte
		require.NoError(l.t, l.db.Read(l.t.Context(), func(tx *store.Tx) error {
			return tx.Get(&body, `SELECT body FROM audit_events WHERE action = 'oauth.provider_change' ORDER BY id DESC LIMIT 1`)
		}))
		require.Contains(l.t, string(body), `"terms_read":true`)
	})
}

// TestInvariant15WhereRefreshTokensGoIsBound: whatever somebody without the root key changes in a stored provider, no token and no secret goes there.
func TestInvariant15WhereRefreshTokensGoIsBound(t *testing.T) {
	eachLogins(t, func(l *logins) {
		l.add("work", l.server)
		_, err := l.ChangeProvider(l.t.Context(), ada, "anthropic", oauth.ProviderEdit{ClientID: ptr("x")})
		require.NoError(l.t, err)
		change := func(query string) {
			require.NoError(l.t, l.db.Bookkeep(l.t.Context(), store.Ceremony, func(tx *store.Tx) error {
				n, err := tx.Exec(query)
				require.EqualValues(l.t, 1, n, query)
				return err
			}))
		}
		type row struct {
			Settings string `db:"settings"`
			Binding  []byte `db:"binding"`
		}
		var was row
		require.NoError(l.t, l.db.Read(l.t.Context(), func(tx *store.Tx) error {
			return tx.Get(&was, `SELECT settings, binding FROM oauth_providers WHERE name = 'work'`)
		}))
		back := l.server.agree(l.begin(ada, l.start("x")))
		for _, set := range []string{
			`settings = REPLACE(settings, '/token', '/elsewhere')`, `settings = REPLACE(settings, 'client-1', 'client-2')`, `settings = '{}'`, `settings = 'x'`,
			`secret = NULL`, `revision = revision + 1`, `id = 'oap_00000000000000000000000000'`, `binding = settings_of_github`,
		} {
			if strings.HasPrefix(set, "binding") {
				set = `binding = (SELECT binding FROM oauth_providers WHERE name = 'anthropic')`
			}
			var undo row
			require.NoError(l.t, l.db.Read(l.t.Context(), func(tx *store.Tx) error {
				return tx.Get(&undo, `SELECT settings, binding FROM oauth_providers WHERE name = 'work'`)
			}))
			change(`UPDATE oauth_providers SET ` + set + ` WHERE name = 'work'`)
			k, err := l.Provider(l.t.Context(), ada, "work")
			require.NoError(l.t, err)
			require.True(l.t, k.Tampered, set)
			require.Empty(l.t, k.TokenURLs)
			_, err = l.Begin(l.t.Context(), ada, l.start("x"))
			l.refused(err, "provider_tampered")
			_, err = l.ChangeProvider(l.t.Context(), ada, "work", oauth.ProviderEdit{Title: ptr("x")})
			l.refused(err, "provider_tampered")
			require.NoError(l.t, l.db.Read(l.t.Context(), func(tx *store.Tx) error {
				_, ok, err := l.Lookup(tx, "work")
				require.False(l.t, ok)
				return err
			}))
			if strings.HasPrefix(set, "settings") || strings.HasPrefix(set, "binding") {
				require.NoError(l.t, l.db.Bookkeep(l.t.Context(), store.Ceremony, func(tx *store.Tx) error {
					_, err := tx.Exec(`UPDATE oauth_providers SET settings = $1, binding = $2 WHERE name = 'work'`, undo.Settings, undo.Binding)
					return err
				}))
			} else {
				require.NoError(l.t, l.DeleteProvider(l.t.Context(), ada, "work", ""))
				l.add("work", l.server)
			}
		}
		// A row of the catalogue that is switched on in the database stays off.
		change(`UPDATE oauth_providers SET settings = REPLACE(settings, '"enabled":false', '"enabled":true') WHERE name = 'anthropic'`)
		_, err = l.Begin(l.t.Context(), ada, oauth.Start{Provider: "anthropic", New: oauth.Draft{Name: "x"}, Way: oauth.ByPaste})
		l.refused(err, "provider_tampered")
		_, err = l.Finish(l.t.Context(), ada, back)
		l.refused(err, "login_state_refused")
		require.Empty(l.t, l.server.calls())
	})
}

// TestAClientSecretDoesNotMove: with other addresses or another client it must be given again.
func TestAClientSecretDoesNotMove(t *testing.T) {
	eachLogins(t, func(l *logins) {
		l.add("work", l.server)
		elsewhere := newConsent(l.t)
		for _, e := range []oauth.ProviderEdit{{TokenURLs: &[]string{elsewhere.URL + "/token"}}, {Issuer: &elsewhere.issuer}, {RevokeURL: ptr(elsewhere.URL)}, {DeviceURL: ptr(elsewhere.URL)}, {ClientID: ptr("x")}} {
			_, err := l.ChangeProvider(l.t.Context(), ada, "work", e)
			l.refused(err, "secret_missing")
		}
		_, err := l.ChangeProvider(l.t.Context(), ada, "work", oauth.ProviderEdit{Issuer: &elsewhere.issuer, ClientSecret: ptr(secret.Value{})})
		require.NoError(l.t, err)
		k, err := l.Provider(l.t.Context(), ada, "work")
		require.NoError(l.t, err)
		require.False(l.t, k.HasSecret)
		require.Equal(l.t, []string{elsewhere.URL + "/token"}, k.TokenURLs)
	})
}

func TestProvidersThatCannotBe(t *testing.T) {
	eachLogins(t, func(l *logins) {
		good := func() oauth.ProviderEdit {
			return oauth.ProviderEdit{Name: ptr("x"), AuthorizeURL: ptr("https://a.example.com/authorize?tenant=1"), TokenURLs: &[]string{"https://a.example.com/token"}}
		}
		for name, change := range map[string]func(*oauth.ProviderEdit){
			"name":      func(e *oauth.ProviderEdit) { e.Name = ptr("Mine!") },
			"no tokens": func(e *oauth.ProviderEdit) { e.TokenURLs = nil },
			"many tokens": func(e *oauth.ProviderEdit) {
				e.TokenURLs = &[]string{"https://a.example.com", "https://a.example.com", "https://a.example.com", "https://a.example.com", "https://a.example.com", "https://a.example.com"}
			},
			"private":    func(e *oauth.ProviderEdit) { e.TokenURLs = &[]string{"https://10.0.0.1/token"} },
			"http":       func(e *oauth.ProviderEdit) { e.TokenURLs = &[]string{"http://a.example.com/token"} },
			"query":      func(e *oauth.ProviderEdit) { e.TokenURLs = &[]string{"https://a.example.com/token?x=1"} },
			"user":       func(e *oauth.ProviderEdit) { e.AuthorizeURL = ptr("https://u:planted@a.example.com/") },
			"state":      func(e *oauth.ProviderEdit) { e.AuthorizeParams = &map[string]string{"state": "fixed"} },
			"challenge":  func(e *oauth.ProviderEdit) { e.AuthorizeParams = &map[string]string{"code_challenge_method": "plain"} },
			"header":     func(e *oauth.ProviderEdit) { e.TokenHeaders = &map[string]string{"authorization": "Bearer planted"} },
			"line break": func(e *oauth.ProviderEdit) { e.TokenHeaders = &map[string]string{"x-a": "1\r\nx-b: 2"} },
			"scope":      func(e *oauth.ProviderEdit) { e.Scopes = &[]string{"a b"} },
			"paste":      func(e *oauth.ProviderEdit) { e.PasteBack = ptr(true) },
			"auth":       func(e *oauth.ProviderEdit) { e.Auth = ptr(provider.Auth("private_key_jwt")) },
			"format":     func(e *oauth.ProviderEdit) { e.Format = ptr(provider.Format("xml")) },
			"grace":      func(e *oauth.ProviderEdit) { e.GraceSeconds = ptr(int64(-1)) },
			"host":       func(e *oauth.ProviderEdit) { e.Hosts = &[]string{"https://x"} },
		} {
			e := good()
			change(&e)
			_, err := l.AddProvider(l.t.Context(), ada, e)
			require.Error(l.t, err, name)
			l.refused(err, "validation_failed")
		}
		_, err := l.AddProvider(l.t.Context(), ada, good())
		require.NoError(l.t, err)
		_, err = l.AddProvider(l.t.Context(), ada, good())
		l.refused(err, "already_exists")
	})
}

// TestAProviderInUseStays: without it its credentials could not be refreshed.
func TestAProviderInUseStays(t *testing.T) {
	eachLogins(t, func(l *logins) {
		l.add("work", l.server)
		done, err := l.Finish(l.t.Context(), ada, l.server.agree(l.begin(ada, l.start("x"))))
		require.NoError(l.t, err)
		l.refused(l.DeleteProvider(l.t.Context(), ada, "work", ""), "state_conflict")
		require.NoError(l.t, l.Delete(l.t.Context(), ada, done.Credential.ID, ""))
		require.NoError(l.t, l.DeleteProvider(l.t.Context(), ada, "work", ""))
	})
}
