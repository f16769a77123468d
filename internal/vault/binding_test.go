package vault_test

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

// boundColumns are what the MAC vouches for, each with something else that somebody who writes the database could put there.
func boundColumns() map[string]string {
	return map[string]string{
		"type": `'api_key'`, "name": `'elsewhere'`, "account_id": `'acc_elsewhere'`, "provider": `'evil'`, "state": `'disabled'`, "version": `1`, "revision": `7`,
		"username": `'eve'`, "base_url": `'https://evil.example'`, "external_url": `'https://evil.example'`, "internal_url": `'https://evil.example'`, "port": `2222`,
		"hosts": `'["evil.example"]'`, "expires_at": `4102444800000000`, "owner": `'eve'`, "client_id": `'c2'`, "service_id": `'s2'`, "infrastructure_id": `'i2'`,
		"plugin_name": `'p2'`, "oauth_scopes": `'["everything"]'`, "oauth_client_id": `'theirs'`, "oauth_token_endpoint": `'https://evil.example/token'`,
		"oauth_auth_method": `'client_secret_post'`, "oauth_format": `'form'`, "oauth_resource": `'https://evil.example'`, "oauth_grant": `'client_credentials'`,
		"binding": `NULL`, "lending": `'drained'`, "upstream_ca_bundle": `'theirs'`, "upstream_proxy_url": `'https://evil.example:3128'`, "upstream_proxy_username": `'eve'`,
		"inject_kind": `'query'`, "inject_name": `'X-Evil'`, "methods": `'["GET","DELETE"]'`, "paths": `'[]'`,
	}
}

// freeColumns decide nothing about where a secret goes; notes have a binding of their own. The id stands apart: it names the row.
func freeColumns() map[string]string {
	return map[string]string{
		"description": `'x'`, "tags": `'["x"]'`, "requires_vpn": `1`, "requires_2fa": `1`, "rotate_every_days": `9`, "notes": `NULL`, "notes_version": `9`,
		"search": `'x'`, "created_at": `1767225600000000`, "updated_at": `1767225600000000`, "last_rotated_at": `1767225600000000`, "rotate_at": `1767225600000000`,
		"upstream_connect_timeout": `9`, "upstream_response_timeout": `9`,
		"lending_reason": `'x'`, "lending_by": `'eve'`, "lending_since": `1767225600000000`,
	}
}

func fullOAuth(name string) vault.Draft {
	d := oauthDraft(name, nil)
	d.BaseURL, d.Hosts = "https://llm.example.com", []string{"llm.example.com"}
	d.Username, d.ExternalURL, d.InternalURL, d.Port = "bot", "https://console.example.com", "https://lan.example", 22
	d.Owner, d.ClientID, d.ServiceID, d.InfrastructureID, d.PluginName = "ops", "c1", "s1", "i1", "p1"
	d.Inject, d.Methods, d.Paths = vault.Inject{Kind: vault.InjectHeader, Name: "X-Key"}, []string{"GET"}, []string{"/v1/**"}
	return d
}

// mend is the least that mends an OAuth credential.
func mend() vault.Patch {
	return vault.Patch{Provider: vault.To("anthropic"), BaseURL: vault.To("https://llm.example.com"), Hosts: vault.To([]string{"llm.example.com"}), State: vault.To(vault.Active),
		OAuth: vault.OAuthPatch{Scopes: vault.To([]string{"user:inference", "user:profile"}), TokenEndpoint: vault.To("https://console.example.com/v1/oauth/token"), ClientID: vault.To("client"), AuthMethod: vault.To("none"),
			RequestFormat: vault.To("json")},
		Inject: vault.InjectPatch{Kind: vault.To(vault.InjectHeader), Name: vault.To("X-Key")}, Methods: vault.To([]string{"GET"}), Paths: vault.To([]string{"/v1/**"})}
}

// TestInvariant15WhereASecretGoesIsBound: whatever somebody without the root key changes of what decides where, how and whether a secret goes,
// it goes nowhere any more. Every column of the table is either bound or known to be free.
func TestInvariant15WhereASecretGoesIsBound(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		c, other := f.create(t, fullOAuth("team")), f.create(t, apiKey("other"))
		_, err := f.Rotate(t.Context(), admin, c.ID, secrets("access_token", accessToken+"2"), "")
		require.NoError(t, err)

		var columns []string
		require.NoError(t, f.db.Read(t.Context(), func(tx *store.Tx) error {
			rows, err := tx.Query(`SELECT * FROM credentials`)
			if err != nil {
				return err
			}
			defer func() { require.NoError(t, rows.Close()) }()
			columns, err = rows.Columns()
			return err
		}))
		known := []string{"id"}
		for name := range maps.Keys(boundColumns()) {
			known = append(known, name)
		}
		for name := range maps.Keys(freeColumns()) {
			known = append(known, name)
		}
		require.ElementsMatch(t, columns, known, "a new column is bound, or on the list of free ones with a reason in binding.go")

		for name, value := range boundColumns() {
			f.exec(t, `CREATE TABLE kept AS SELECT `+name+` FROM credentials WHERE id = '`+c.ID+`'`)
			f.exec(t, `UPDATE credentials SET `+name+` = `+value+` WHERE id = $1`, c.ID)
			before := len(f.events(t))

			m := f.materials(t, c.ID, other.ID)
			require.True(t, m[c.ID].Tampered && m[c.ID].Damaged, name)
			require.Nil(t, m[c.ID].Secrets, name)
			require.Nil(t, m[c.ID].BaseURL, name)
			require.Empty(t, m[c.ID].Hosts, name)
			require.Contains(t, m[c.ID].Usable(today), "credential_tampered", name)
			require.Empty(t, m[other.ID].Usable(today), "the others go on")
			require.Contains(t, f.log.String(), `"level":"ERROR","msg":"a credential was changed outside Signalbox`, name)
			require.Len(t, f.events(t), before, "the lender records")

			refused := func(err error, action store.Action) {
				t.Helper()
				require.Equal(t, fault.Conflict, requireCode(t, err, "credential_tampered").Kind, name)
				ev := f.lastEvent(t)
				require.Equal(t, []any{action, store.OutcomeFailed, "credential_tampered", c.ID}, []any{ev.Action, ev.Outcome, ev.Reason, ev.Target.ID}, name)
			}
			v, err := f.Reveal(t.Context(), admin, c.ID, "access_token", "to test")
			require.True(t, v.IsZero())
			refused(err, store.CredentialReveal)
			_, err = f.Rotate(t.Context(), admin, c.ID, secrets("access_token", "fresh", "refresh_token", "fresh"), "")
			refused(err, store.CredentialRotate)
			_, err = f.Restore(t.Context(), admin, c.ID, 1)
			refused(err, store.CredentialRotate)
			_, err = f.Update(t.Context(), admin, c.ID, vault.Patch{Description: vault.To("harmless")}, "")
			refused(err, store.CredentialUpdate)
			got, err := f.Get(t.Context(), admin, c.ID)
			require.NoError(t, err, name)
			require.True(t, got.Tampered, name)
			said, ok := f.lastEvent(t).Details.Get("tampered")
			require.True(t, ok, name)
			require.Equal(t, "true", said.Text())
			items, _, err := f.List(t.Context(), admin, vault.Filter{})
			require.NoError(t, err, name)
			require.Len(t, items, 2, "a list does not look")
			all, tampered, err := f.CheckAll(t.Context())
			require.NoError(t, err)
			require.Equal(t, 2, all)
			require.Equal(t, []string{c.ID}, tampered, name)

			f.exec(t, `UPDATE credentials SET `+name+` = (SELECT `+name+` FROM kept) WHERE id = $1`, c.ID)
			require.NoError(t, f.db.Bookkeep(t.Context(), store.Cursor, func(tx *store.Tx) error { _, err := tx.Exec(`DROP TABLE kept`); return err }))
			require.Empty(t, f.materials(t, c.ID)[c.ID].Usable(today), "put back, it fits again: %s", name)
		}
		for name, value := range freeColumns() {
			f.exec(t, `UPDATE credentials SET `+name+` = `+value+` WHERE id = $1`, c.ID)
			require.Empty(t, f.materials(t, c.ID)[c.ID].Usable(today), name)
		}
		_, tampered, err := f.CheckAll(t.Context())
		require.NoError(t, err)
		require.Empty(t, tampered)
		noSecret(t, f.log.String())
		require.NotContains(t, f.log.String(), "evil.example", "the log names the credential, not what was put there")
	})
}

// A MAC fits one row only, wholly or not at all.
func TestABindingFitsNoOtherRow(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		one, two := f.create(t, apiKey("one")), f.create(t, apiKey("two"))
		f.exec(t, `CREATE TABLE kept AS SELECT id, binding FROM credentials`) // SQLite would see its own half of a swap
		f.exec(t, `UPDATE credentials SET binding = (SELECT k.binding FROM kept k WHERE k.id <> credentials.id)`)
		m := f.materials(t, one.ID, two.ID)
		require.True(t, m[one.ID].Tampered && m[two.ID].Tampered)
		var box []byte
		require.NoError(t, f.db.Read(t.Context(), func(tx *store.Tx) error {
			return tx.Get(&box, `SELECT binding FROM credentials WHERE id = $1`, two.ID)
		}))
		for i := range box { // one's own MAC lies in two's row
			bad := append([]byte(nil), box...)
			bad[i] ^= 1
			f.exec(t, `UPDATE credentials SET binding = $1 WHERE id = $2`, bad, one.ID)
			require.True(t, f.materials(t, one.ID)[one.ID].Tampered, i)
		}
		for _, n := range []int{0, 1, len(box) - 1} {
			f.exec(t, `UPDATE credentials SET binding = $1 WHERE id = $2`, box[:n], one.ID)
			require.True(t, f.materials(t, one.ID)[one.ID].Tampered, n)
		}
		f.exec(t, `UPDATE credentials SET binding = $1 WHERE id = $2`, box, one.ID)
		require.False(t, f.materials(t, one.ID)[one.ID].Tampered)
	})
}

// What somebody who writes the database can still do: put back, whole, a state that the credential once had. A part of one does not fit.
func TestAnOlderStateFitsOnlyWhole(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		d := apiKey("team")
		d.BaseURL = "https://old.example.com"
		c := f.create(t, d)
		f.exec(t, `CREATE TABLE kept AS SELECT base_url, revision, version, state, binding FROM credentials WHERE id = '`+c.ID+`'`)
		_, err := f.Update(t.Context(), admin, c.ID, vault.Patch{BaseURL: vault.To("https://new.example.com"), State: vault.To(vault.Disabled)}, "")
		require.NoError(t, err)
		_, err = f.Rotate(t.Context(), admin, c.ID, secrets("api_key", "sk-planted-the-second-one-2"), "")
		require.NoError(t, err)

		restore := func(columns ...string) vault.Material {
			for _, name := range columns {
				f.exec(t, `UPDATE credentials SET `+name+` = (SELECT `+name+` FROM kept) WHERE id = $1`, c.ID)
			}
			return f.materials(t, c.ID)[c.ID]
		}
		require.True(t, restore("base_url").Tampered)
		require.True(t, restore("binding", "state").Tampered)
		require.True(t, restore("revision").Tampered, "the new secret does not go to the old address")
		m := restore("version")
		require.False(t, m.Tampered, "the whole state is back; the security design says so")
		require.Equal(t, "https://old.example.com", m.BaseURL.String())
		require.Equal(t, anthropicKey, m.Secrets["api_key"].Reveal(), "with the secret of that version")
	})
}

// Whoever may write credentials and reveal them mends one by setting its destinations anew; nothing less vouches for what somebody else has put there.
func TestMendingATamperedCredential(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		c := f.create(t, fullOAuth("team"))
		_, err := f.Rotate(t.Context(), admin, c.ID, secrets("access_token", "rotated-Planted-4711-value"), "")
		require.NoError(t, err)
		f.exec(t, `UPDATE credentials SET base_url = 'https://evil.example', hosts = '["evil.example"]', oauth_token_endpoint = 'https://evil.example/t', version = 1 WHERE id = $1`, c.ID)

		half := mend()
		half.Hosts, half.OAuth = vault.Edit[[]string]{}, vault.OAuthPatch{Scopes: vault.To([]string{"x"})}
		_, err = f.Update(t.Context(), admin, c.ID, half, "")
		require.Equal(t, []string{"/hosts", "/oauth"}, pointers(requireCode(t, err, "credential_tampered")))
		_, err = f.Update(t.Context(), member, c.ID, mend(), "")
		requireCode(t, err, "not_found") // it was not granted to them
		require.True(t, f.materials(t, c.ID)[c.ID].Tampered)

		wrong := mend()
		wrong.BaseURL, wrong.Hosts = vault.To("https://169.254.169.254"), vault.Clear[[]string]()
		_, err = f.Update(t.Context(), admin, c.ID, wrong, "")
		requireCode(t, err, "upstream_refused")
		require.True(t, f.materials(t, c.ID)[c.ID].Tampered)

		got, err := f.Update(t.Context(), admin, c.ID, mend(), "")
		require.NoError(t, err)
		require.False(t, got.Tampered)
		require.Equal(t, int64(2), got.Version, "its newest secret is current again")
		ev := f.lastEvent(t)
		require.Equal(t, store.CredentialUpdate, ev.Action)
		require.Equal(t, store.OutcomeOK, ev.Outcome)
		require.Equal(t, []string{"base_url", "oauth.token_endpoint", "hosts"}, ev.Fields)
		said, ok := ev.Details.Get("mended")
		require.True(t, ok)
		require.Equal(t, "true", said.Text())
		m := f.materials(t, c.ID)[c.ID]
		require.Empty(t, m.Usable(today))
		require.Equal(t, "https://llm.example.com", m.BaseURL.String())
		require.Equal(t, "rotated-Planted-4711-value", m.Secrets["access_token"].Reveal())
		_, err = f.Rotate(t.Context(), admin, c.ID, secrets("access_token", "next"), "")
		require.NoError(t, err)
		require.Equal(t, "next", f.reveal(t, c.ID, "access_token"))

		// The same values, named again, mend a row whose MAC alone is gone: one from before there were MACs.
		f.exec(t, `UPDATE credentials SET binding = NULL WHERE id = $1`, c.ID)
		got, err = f.Update(t.Context(), admin, c.ID, mend(), "")
		require.NoError(t, err)
		require.Empty(t, f.lastEvent(t).Fields)
		require.Equal(t, store.CredentialUpdate, f.lastEvent(t).Action)
		require.Empty(t, f.materials(t, c.ID)[c.ID].Usable(today))

		// Of the oauth block nothing survives that was not named.
		f.exec(t, `UPDATE credentials SET oauth_token_endpoint = 'https://evil.example/t', oauth_auth_method = 'client_secret_post', oauth_scopes = '["all"]' WHERE id = $1`, c.ID)
		few := mend()
		few.OAuth = vault.OAuthPatch{ClientID: vault.To("client")}
		got, err = f.Update(t.Context(), admin, c.ID, few, "")
		require.NoError(t, err)
		require.Equal(t, vault.OAuthMeta{ClientID: "client"}, got.OAuth)

		// An account that was made no account is one again.
		f.exec(t, `UPDATE credentials SET provider = 'x', account_id = NULL WHERE id = $1`, c.ID)
		got, err = f.Update(t.Context(), admin, c.ID, mend(), "")
		require.NoError(t, err)
		require.Equal(t, "acc_team", got.AccountID)

		// What cannot be believed can still be deleted.
		f.exec(t, `UPDATE credentials SET hosts = '["evil.example"]' WHERE id = $1`, c.ID)
		require.NoError(t, f.Delete(t.Context(), admin, c.ID, ""))
	})
}

// TestOnlyWhoCouldRevealItMends: a change that names what lies there changes no destination, and yet decides where the secret goes from then on. So it takes
// what a change of the destination takes, whatever the values.
func TestOnlyWhoCouldRevealItMends(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		c, manager := f.create(t, apiKey("team")), f.somebody(t)
		require.NoError(t, f.set(t, admin, on(c.ID), to(manager, "manage")))
		bare, stale := fullTok, admin
		bare.Scopes, stale.SteppedUpAt = identity.Scopes{identity.CredentialRead, identity.CredentialWrite}, today.Add(-time.Hour)
		named := func(base string, hosts []string, way vault.UpstreamPatch) vault.Patch {
			return vault.Patch{Provider: vault.To("anthropic"), BaseURL: vault.To(base), Hosts: vault.To(hosts), State: vault.To(vault.Active), Upstream: way,
				Inject: vault.InjectPatch{Clear: true}, Methods: vault.Clear[[]string](), Paths: vault.Clear[[]string]()}
		}
		for change, p := range map[string]vault.Patch{
			`base_url = 'https://evil.example', hosts = '["evil.example"]'`: named("https://evil.example", []string{"evil.example"}, vault.UpstreamPatch{}),
			`upstream_proxy_url = 'https://evil.example:3128'`:              named("", nil, vault.UpstreamPatch{ProxyURL: vault.To("https://evil.example:3128")}),
			`base_url = '', hosts = '[]', binding = NULL`:                   named("", nil, vault.UpstreamPatch{}), // as it was stored
		} {
			f.exec(t, `UPDATE credentials SET base_url = '', hosts = '[]', upstream_proxy_url = '' WHERE id = $1`, c.ID)
			f.exec(t, `UPDATE credentials SET `+change+` WHERE id = $1`, c.ID)
			for code, who := range map[string]identity.Caller{"scope_missing": bare, "forbidden": manager, "step_up_required": stale} {
				_, err := f.Update(t.Context(), who, c.ID, p, "")
				requireCode(t, err, code)
				require.True(t, f.materials(t, c.ID)[c.ID].Tampered, change)
			}
		}
		require.NoError(t, f.set(t, admin, on(c.ID), to(manager, "manage reveal")))
		_, err := f.Update(t.Context(), manager, c.ID, named("", nil, vault.UpstreamPatch{ProxyURL: vault.Clear[string]()}), "")
		require.NoError(t, err)
		require.Empty(t, f.materials(t, c.ID)[c.ID].Usable(today))
	})
}

// Every way to change a credential through Signalbox leaves it with a MAC that fits.
func TestEveryChangeBindsAnew(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		c := f.create(t, fullOAuth("team"))
		expires := today.Add(90 * 24 * time.Hour).Add(123 * time.Nanosecond)
		for name, p := range map[string]vault.Patch{
			"name": {Name: vault.To("renamed")}, "hosts": {Hosts: vault.To([]string{"llm.example.com", "Other.example.com"})}, "tags": {Tags: vault.To([]string{"a"})},
			"state": {State: vault.To(vault.Disabled)}, "back": {State: vault.To(vault.Active)}, "expiry": {ExpiresAt: vault.To(&expires)}, "no expiry": {ExpiresAt: vault.Clear[*time.Time]()},
			"token": {OAuth: vault.OAuthPatch{ExpiresAt: vault.To(&expires)}}, "secret": {Secrets: nil, Owner: vault.To("Ünï"), Port: vault.To(8080)}, "text": {Username: vault.To(strings.Repeat("ü", 320))},
		} {
			_, err := f.Update(t.Context(), admin, c.ID, p, "")
			require.NoError(t, err, name)
			require.False(t, f.materials(t, c.ID)[c.ID].Tampered, name)
		}
		_, err := f.Rotate(t.Context(), admin, c.ID, secrets("access_token", "next"), "")
		require.NoError(t, err)
		_, err = f.Restore(t.Context(), admin, c.ID, 1)
		require.NoError(t, err)
		require.False(t, f.materials(t, c.ID)[c.ID].Tampered)
		got, err := f.Get(t.Context(), admin, c.ID)
		require.NoError(t, err)
		require.False(t, got.Tampered)
	})
}
