package vault_test

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/vault"
)

// TestInject: each type goes into a request in its own way unless the credential says another; what is sent is made of the secret and, for basic, of
// the user name.
func TestInject(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		named := func(kind vault.InjectKind, name string) vault.Inject { return vault.Inject{Kind: kind, Name: name} }
		draft := func(kind vault.Type, rule vault.Inject, fields ...string) vault.Draft {
			return vault.Draft{Type: kind, Secrets: secrets(fields...), Meta: vault.Meta{Name: "one", BaseURL: "https://git.example.com", Username: "me", Inject: rule}}
		}
		basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("me:"+gitPassword))
		for name, c := range map[string]struct {
			d           vault.Draft
			query       bool
			place, sent string
		}{
			"a key":                  {draft(vault.APIKey, vault.Inject{}, "api_key", anthropicKey), false, "Authorization", "Bearer " + anthropicKey},
			"a key in a header":      {draft(vault.APIKey, named(vault.InjectHeader, "X-Api-Key"), "api_key", anthropicKey), false, "X-Api-Key", anthropicKey},
			"a key in the query":     {draft(vault.APIKey, named(vault.InjectQuery, "api_key"), "api_key", anthropicKey), true, "api_key", anthropicKey},
			"a password":             {draft(vault.Password, vault.Inject{}, "password", gitPassword), false, "Authorization", basic},
			"a password as a bearer": {draft(vault.Password, named(vault.InjectBearer, ""), "password", accessToken), false, "Authorization", "Bearer " + accessToken},
			"a token":                {draft(vault.OAuth, vault.Inject{}, "access_token", accessToken, "refresh_token", "r"), false, "Authorization", "Bearer " + accessToken},
			"a signed token":         {draft(vault.JWT, vault.Inject{}, "token", accessToken, "signing_key", "k"), false, "Authorization", "Bearer " + accessToken},
			"a shared secret":        {draft(vault.SharedSecret, named(vault.InjectHeader, "X-Hook"), "secret", anthropicKey), false, "X-Hook", anthropicKey},
			"a custom one":           {draft(vault.Custom, named(vault.InjectBasic, ""), "pin", gitPassword), false, "Authorization", basic},
		} {
			got := f.create(t, c.d)
			require.Empty(t, got.InjectProblem(), name)
			m := f.materials(t, got.ID)[got.ID]
			require.Empty(t, m.Usable(today), name)
			in, why := m.Injected()
			require.Empty(t, why, name)
			require.Equal(t, got.InjectRule(), in.Rule, name)
			require.Equal(t, c.query, in.Query, name)
			require.Equal(t, c.place, in.Name, name)
			require.Equal(t, c.sent, in.Value.Reveal(), name)
			require.Contains(t, []string{anthropicKey, gitPassword, accessToken}, in.Secret.Reveal(), name)
		}
		for name, c := range map[string]struct {
			d   vault.Draft
			why string
		}{
			"nothing says how":         {draft(vault.SharedSecret, vault.Inject{}, "secret", "s"), "set inject to bearer, basic, header or query"},
			"two fields":               {draft(vault.Custom, named(vault.InjectBearer, ""), "a", "1", "b", "2"), "more than one"},
			"a type that goes nowhere": {draft(vault.ConnectionString, vault.Inject{}, "connection_string", "s"), "goes into no request"},
			"a user name that ends early": {func() vault.Draft {
				d := draft(vault.Password, vault.Inject{}, "password", "p")
				d.Username = "a:b"
				return d
			}(), "colon"},
			"basic without a user name": {func() vault.Draft {
				d := draft(vault.Password, vault.Inject{}, "password", "p")
				d.Username = ""
				return d
			}(), "needs a username"},
			"a line break for a header":    {draft(vault.Password, named(vault.InjectHeader, "X-Key"), "password", "a\r\nX-Evil: b"), ""},
			"no ASCII for a header either": {draft(vault.Password, named(vault.InjectBearer, ""), "password", "pässword"), ""},
		} {
			got := f.create(t, c.d)
			in, why := f.materials(t, got.ID)[got.ID].Injected()
			require.NotEmpty(t, why, name)
			require.Zero(t, in, name)
			if c.why != "" {
				require.Contains(t, got.InjectProblem(), c.why, name)
			} else {
				require.Contains(t, why, "a header cannot hold", name)
			}
		}
	})
}

// TestInjectIsRefused: nothing but a place in which a key can stand is taken, and nothing of a refused request is stored.
func TestInjectIsRefused(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		header := func(name string) vault.Inject { return vault.Inject{Kind: vault.InjectHeader, Name: name} }
		query := func(name string) vault.Inject { return vault.Inject{Kind: vault.InjectQuery, Name: name} }
		for pointer, list := range map[string][]vault.Inject{
			"/inject/type": {{Kind: "cookie"}, {Kind: "BEARER"}},
			"/inject/name": {{Name: "X-Key"}, header(""), query(""), {Kind: vault.InjectBearer, Name: "X"}, {Kind: vault.InjectBasic, Name: "X"},
				header("X Key"), header("X-Key:"), header("X-Key\r\nX-Evil"), header("X-Schlüssel"), header(strings.Repeat("x", 101)),
				header("Host"), header("content-length"), header("Content_Length"), header("Transfer-Encoding"), header("Connection"), header("Keep-Alive"), header("Upgrade"), header("TE"), header("Trailer"), header("Expect"),
				header("Proxy-Authorization"), header("Sec-WebSocket-Key"), header("MSL-Train-Id"), header("X-Forwarded-For"), header("x_forwarded_host"), header("Forwarded"), header("Via"), header("Cookie"), header("X-Request-ID"),
				query("a b"), query("a&b"), query("a=b"), query("a%20"), query("ä"), query("a#"), query(strings.Repeat("x", 101))},
		} {
			for _, in := range list {
				d := apiKey("team")
				d.Inject = in
				_, err := f.Create(t.Context(), admin, d)
				require.Contains(t, pointers(requireAny(t, err)), pointer, "%+v", in)
			}
		}
		for _, change := range []func(*vault.Draft){
			func(d *vault.Draft) { d.Inject = vault.Inject{Kind: vault.InjectBearer} }, func(d *vault.Draft) { d.Methods = []string{"GET"} }, func(d *vault.Draft) { d.Paths = []string{"/x"} },
		} {
			d := vault.Draft{Type: vault.ConnectionString, Meta: vault.Meta{Name: "db"}, Secrets: secrets("connection_string", "s")}
			change(&d)
			_, err := f.Create(t.Context(), admin, d)
			require.Len(t, pointers(requireCode(t, err, "validation_failed")), 1, "a type that goes into no request")
		}
		require.Zero(t, f.count(t, `SELECT COUNT(*) FROM credentials`))
	})
}

// TestInjectIsChanged: like where a secret is sent, only by whoever could reveal it; the record names what changed.
func TestInjectIsChanged(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		c, manager := f.create(t, apiKey("team")), f.somebody(t)
		require.NoError(t, f.set(t, admin, on(c.ID), to(manager, "manage")))
		bare, stale := fullTok, admin
		bare.Scopes, stale.SteppedUpAt = identity.Scopes{identity.CredentialRead, identity.CredentialWrite}, today.Add(-time.Hour)
		rule := func(kind vault.InjectKind, name string) vault.Patch {
			p := vault.Patch{Inject: vault.InjectPatch{Kind: vault.To(kind)}}
			if name != "" {
				p.Inject.Name = vault.To(name)
			}
			return p
		}
		for i, step := range []struct {
			p      vault.Patch
			fields []string
			want   vault.Inject
		}{
			{rule(vault.InjectHeader, "X-Api-Key"), []string{"inject.type", "inject.name"}, vault.Inject{Kind: vault.InjectHeader, Name: "X-Api-Key"}},
			{rule(vault.InjectQuery, "key"), []string{"inject.type", "inject.name"}, vault.Inject{Kind: vault.InjectQuery, Name: "key"}},
			{rule(vault.InjectBearer, ""), []string{"inject.type", "inject.name"}, vault.Inject{Kind: vault.InjectBearer}},
			{vault.Patch{Inject: vault.InjectPatch{Clear: true}}, []string{"inject.type"}, vault.Inject{}},
			{vault.Patch{Methods: vault.To([]string{"get", "GET", "POST"}), Paths: vault.To([]string{"/v1/**"})}, []string{"methods", "paths"}, vault.Inject{}},
			{vault.Patch{Methods: vault.To([]string{"GET"})}, []string{"methods"}, vault.Inject{}},
			{vault.Patch{Paths: vault.Clear[[]string]()}, []string{"paths"}, vault.Inject{}},
		} {
			for code, who := range map[string]identity.Caller{"scope_missing": bare, "forbidden": manager, "step_up_required": stale} {
				_, err := f.Update(t.Context(), who, c.ID, step.p, "")
				requireCode(t, err, code)
			}
			got, err := f.Update(t.Context(), admin, c.ID, step.p, "")
			require.NoError(t, err, i)
			require.Equal(t, step.fields, f.lastEvent(t).Fields, i)
			require.Equal(t, step.want, got.Inject, i)
			require.EqualValues(t, i+2, got.Revision)
			require.False(t, f.materials(t, c.ID)[c.ID].Tampered, i)
			if i == 4 {
				require.Equal(t, []string{"GET", "POST"}, got.Methods)
				require.Equal(t, []string{"/v1/**"}, got.Paths)
			}
		}
		m := f.materials(t, c.ID)[c.ID]
		require.Equal(t, []string{"GET"}, m.Methods)
		require.Empty(t, m.Paths)
		_, err := f.Rotate(t.Context(), admin, c.ID, secrets("api_key", anthropicKey+"2"), "")
		require.NoError(t, err)
		got, err := f.Restore(t.Context(), admin, c.ID, 1)
		require.NoError(t, err)
		require.Equal(t, []string{"GET"}, got.Methods, "a restoration leaves them alone")
	})
}

// TestMendingNamesMethodsAndPaths: to empty methods or paths is to widen them, so a change that mends must say what they are to be even where none lie there.
func TestMendingNamesMethodsAndPaths(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		d := apiKey("team")
		d.Inject, d.Methods, d.Paths = vault.Inject{Kind: vault.InjectHeader, Name: "X-Api-Key"}, []string{"GET"}, []string{"/v1/models"}
		c := f.create(t, d)
		f.exec(t, `UPDATE credentials SET methods = '[]', paths = '[]', inject_kind = 'query', inject_name = 'q' WHERE id = $1`, c.ID)
		require.True(t, f.materials(t, c.ID)[c.ID].Tampered)
		p := vault.Patch{Provider: vault.To("anthropic"), BaseURL: vault.Clear[string](), Hosts: vault.Clear[[]string](), State: vault.To(vault.Active)}
		_, err := f.Update(t.Context(), admin, c.ID, p, "")
		require.Equal(t, []string{"/inject", "/methods", "/paths"}, pointers(requireCode(t, err, "credential_tampered")))
		p.Inject, p.Methods, p.Paths = vault.InjectPatch{Kind: vault.To(vault.InjectHeader)}, vault.To([]string{"GET"}), vault.To([]string{"/v1/models"})
		_, err = f.Update(t.Context(), admin, c.ID, p, "")
		require.Equal(t, []string{"/inject/name"}, pointers(requireCode(t, err, "validation_failed")), "the name that lies there is not taken over")
		p.Inject.Name = vault.To("X-Api-Key")
		got, err := f.Update(t.Context(), admin, c.ID, p, "")
		require.NoError(t, err)
		require.Equal(t, d.Inject, got.Inject)
		require.Equal(t, []string{"/v1/models"}, f.materials(t, c.ID)[c.ID].Paths)
	})
}

// TestAnUnknownRuleIsNotUsed: what a newer version has stored, or nobody, puts nothing into a request.
func TestAnUnknownRuleIsNotUsed(t *testing.T) {
	for _, in := range []vault.Inject{{Kind: "cookie"}, {Kind: vault.InjectHeader}, {Kind: vault.InjectHeader, Name: "Host"}, {Kind: vault.InjectQuery, Name: "a&b"}} {
		got, why := vault.Material{Type: vault.APIKey, Inject: in, Secrets: map[string]secret.Value{"api_key": secret.FromString("k")}}.Injected()
		require.Contains(t, why, "set inject anew", "%+v", in)
		require.Zero(t, got)
	}
}
