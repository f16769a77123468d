package vault_test

import (
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

func (f *fixture) materials(t *testing.T, ids ...string) map[string]vault.Material {
	t.Helper()
	out := map[string]vault.Material{}
	require.NoError(t, f.db.Read(t.Context(), func(tx *store.Tx) error {
		all, err := f.Materials(tx, ids)
		for _, m := range all {
			out[m.ID] = m
		}
		return err
	}))
	return out
}

func TestMaterialIsWhatALeaseNeeds(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		expires := today.Add(time.Hour)
		oauth, key, git := f.create(t, oauthDraft("team", &expires)), f.create(t, apiKey("key")), f.create(t, password("git"))
		d := oauthDraft("bare", &expires)
		delete(d.Secrets, "refresh_token")
		bare := f.create(t, d)
		before := len(f.events(t))
		m := f.materials(t, oauth.ID, key.ID, git.ID, store.NewID("cred"))
		require.Len(t, m, 3, "what does not exist is left out")

		o := m[oauth.ID]
		require.Equal(t, "acc_team", o.AccountID)
		require.Equal(t, "https://api.anthropic.com", o.BaseURL.String(), "the provider's own")
		require.Equal(t, []string{"api.anthropic.com"}, o.Hosts)
		require.Equal(t, int64(1), o.Version)
		require.Equal(t, accessToken, o.Secrets["access_token"].Reveal())
		require.Len(t, o.Secrets, 1, "what only refreshes is not opened")
		require.Empty(t, o.Usable(expires.Add(-time.Second)))
		require.Empty(t, o.Usable(expires), "a refresh may bring the next one")
		require.True(t, o.Refreshes)
		require.Equal(t, vault.Healthy, o.Health)
		require.WithinDuration(t, today, o.Issued, time.Second)
		lost := o
		lost.Health = vault.NeedsLogin
		require.Empty(t, lost.Usable(expires.Add(-time.Second)), "what works is lent")
		require.Contains(t, lost.Usable(expires), "login")
		require.Contains(t, f.materials(t, bare.ID)[bare.ID].Usable(expires), "login")

		require.Equal(t, anthropicKey, m[key.ID].Secrets["api_key"].Reveal())
		require.Nil(t, m[git.ID].BaseURL)
		require.Empty(t, m[git.ID].Hosts, "bound to no host, so it goes nowhere")
		require.False(t, m[git.ID].Bound(&url.URL{Scheme: "https", Host: "git.example.com"}))
		require.Len(t, f.events(t), before, "the lender records, not the vault")

		for state, why := range map[vault.Status]string{vault.Disabled: "disabled", vault.Compromised: "compromised"} {
			now, err := f.Get(t.Context(), admin, key.ID)
			require.NoError(t, err)
			_, err = f.Update(t.Context(), admin, key.ID, vault.Patch{State: vault.To(state)}, now.ETag())
			require.NoError(t, err)
			require.Contains(t, f.materials(t, key.ID)[key.ID].Usable(today), why)
		}
		now, err := f.Get(t.Context(), admin, key.ID)
		require.NoError(t, err)
		_, err = f.Update(t.Context(), admin, key.ID, vault.Patch{State: vault.To(vault.Active), ExpiresAt: vault.To(&expires)}, now.ETag())
		require.NoError(t, err)
		require.Empty(t, f.materials(t, key.ID)[key.ID].Usable(today))
		require.Contains(t, f.materials(t, key.ID)[key.ID].Usable(expires), "expired")
		require.NotEmpty(t, vault.Material{}.Usable(today), "an unknown state is not usable")

		require.NoError(t, f.db.Read(t.Context(), func(tx *store.Tx) error {
			one, err := f.Material(tx, oauth.ID)
			require.NoError(t, err)
			require.Equal(t, o.ID, one.ID)
			_, err = f.Material(tx, store.NewID("cred"))
			requireCode(t, err, "not_found")
			none, err := f.Materials(tx, nil)
			require.Empty(t, none)
			return err
		}))
	})
}

func TestManyMaterials(t *testing.T) {
	f := newFixture(t, store.SQLite)
	var ids []string
	for range 3 {
		ids = append(ids, f.create(t, password("x")).ID)
	}
	for range 1200 { // over several statements
		ids = append(ids, store.NewID("cred"))
	}
	ids[0], ids[700] = ids[700], ids[0]
	require.Len(t, f.materials(t, ids...), 3)
}

func TestHosts(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		at := func(s string) *url.URL {
			u, err := url.Parse(s)
			require.NoError(t, err)
			return u
		}
		d := apiKey("team")
		d.BaseURL, d.Hosts = "https://API.example.com/llm", []string{"api.Example.com", "lan.example:8080", "api.example.com"}
		c := f.create(t, d)
		require.Equal(t, []string{"api.example.com", "lan.example:8080"}, c.Hosts)
		m := f.materials(t, c.ID)[c.ID]
		for s, want := range map[string]bool{
			"https://api.example.com": true, "https://API.EXAMPLE.COM:443/x": true, "http://lan.example:8080": true, "https://lan.example:8080": true,
			"https://api.example.com:8443": false, "https://lan.example": false, "http://lan.example": false, "https://example.com": false, "https://evil-api.example.com": false,
			"https://api.example.com.evil.org": false, "https://api.example.com@evil.org": false, "https://api.example.com.": false, "//": false, "https://:443": false,
		} {
			require.Equal(t, want, m.Bound(at(s)), s)
		}
		require.False(t, m.Bound(nil))

		// Without hosts of its own the credential follows its base_url.
		c, err := f.Update(t.Context(), admin, c.ID, vault.Patch{Hosts: vault.Clear[[]string](), BaseURL: vault.To("http://127.0.0.1:9999")}, "")
		require.NoError(t, err)
		m = f.materials(t, c.ID)[c.ID]
		require.Equal(t, []string{"127.0.0.1:9999"}, m.Hosts)
		require.True(t, m.Bound(at("http://127.0.0.1:9999/v1/messages")))
		require.False(t, m.Bound(at("http://127.0.0.1/v1/messages")))
		_, err = f.Update(t.Context(), admin, c.ID, vault.Patch{BaseURL: vault.Clear[string]()}, "")
		require.NoError(t, err)
		require.Equal(t, []string{"api.anthropic.com"}, f.materials(t, c.ID)[c.ID].Hosts)
		d = password("explicit")
		d.Hosts = []string{"git.example.com:443"}
		c = f.create(t, d)
		require.True(t, f.materials(t, c.ID)[c.ID].Bound(at("https://git.example.com/x")))
	})
}

func TestResolve(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		a, b := f.create(t, apiKey("team")), f.create(t, password("team"))
		custom := apiKey("other")
		custom.AccountID = "acc_f9e1"
		o := f.create(t, custom)
		require.NoError(t, f.db.Read(t.Context(), func(tx *store.Tx) error {
			for ref, id := range map[string]string{a.ID: a.ID, b.ID: b.ID, "acc_team": a.ID, "team": a.ID, "acc_f9e1": o.ID, "other": o.ID} {
				c, err := f.Resolve(tx, ref)
				require.NoError(t, err, ref)
				require.Equal(t, id, c.ID, ref)
			}
			for _, ref := range []string{"", "Team", "acc_other", "acc_", "cred_", store.NewID("cred"), "te%", "x\x00", "\xff"} {
				_, err := f.Resolve(tx, ref)
				requireCode(t, err, "not_found")
			}
			return nil
		}))
	})
}
