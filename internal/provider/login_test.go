package provider_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/outbound"
	"signalbox.dev/signalbox/internal/provider"
	"signalbox.dev/signalbox/internal/secret"
)

func TestAuthorizeURL(t *testing.T) {
	ask := provider.AuthorizeRequest{ClientID: "us", RedirectURL: "https://box.example/callback", State: state, Verifier: secret.FromString("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"), Resource: "https://mcp.example/mcp"}
	const challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM" // RFC 7636, appendix B
	find := func(name string) provider.Provider {
		p, ok := provider.Find(provider.Catalogue(), name)
		require.True(t, ok)
		return p
	}
	usual := url.Values{
		"response_type": {"code"}, "client_id": {"us"}, "redirect_uri": {"https://box.example/callback"}, "state": {"the-state"}, "code_challenge": {challenge},
		"code_challenge_method": {"S256"}, "resource": {"https://mcp.example/mcp"},
	}
	for name, more := range map[string]url.Values{
		"google":    {"scope": {"openid email"}, "access_type": {"offline"}, "prompt": {"consent"}},
		"linear":    {"scope": {"read"}, "prompt": {"consent"}},
		"atlassian": {"scope": {"offline_access read:me"}, "audience": {"api.atlassian.com"}, "prompt": {"consent"}},
		"notion":    {"owner": {"user"}},
		"anthropic": {"scope": {"org:create_api_key user:profile user:inference"}, "code": {"true"}},
	} {
		text, err := provider.AuthorizeURL(find(name), ask)
		require.NoError(t, err)
		u, err := url.Parse(text)
		require.NoError(t, err)
		for k, v := range usual {
			more[k] = v
		}
		require.Equal(t, more, u.Query(), name)
		require.True(t, strings.HasPrefix(text, find(name).AuthorizeURL+"?"))
	}
	// What the row or the address says never replaces what protects the login.
	p := find("anthropic")
	p.AuthorizeURL += "?state=fixed&tenant=7"
	p.AuthorizeParams = map[string]string{"code_challenge_method": "plain", "response_type": "token", "redirect_uri": "https://evil.example"}
	p.ScopeParam, p.ScopeSeparator = "user_scope", ","
	own := ask
	own.RedirectURL, own.Scopes = "", []string{"a", "b"}
	text, err := provider.AuthorizeURL(p, own)
	require.NoError(t, err)
	u, err := url.Parse(text)
	require.NoError(t, err)
	q := u.Query()
	require.Equal(t, []string{"S256", "code", "https://console.anthropic.com/oauth/code/callback", "the-state", "7", "a,b", ""}, []string{
		q.Get("code_challenge_method"), q.Get("response_type"), q.Get("redirect_uri"), q.Get("state"), q.Get("tenant"), q.Get("user_scope"), q.Get("scope"),
	})
	require.Len(t, q["state"], 1)
	for _, broken := range []provider.AuthorizeRequest{{}, {ClientID: "us", RedirectURL: "x", State: state}, {ClientID: "us", RedirectURL: "x", Verifier: verifier}, {RedirectURL: "x", State: state, Verifier: verifier}} {
		_, err := provider.AuthorizeURL(find("google"), broken)
		require.Error(t, err)
		require.NotContains(t, err.Error(), "the-")
	}
	_, err = provider.AuthorizeURL(provider.Provider{}, ask)
	require.Error(t, err)
}

func TestVerifier(t *testing.T) {
	a, b := provider.NewVerifier(), provider.NewVerifier()
	require.False(t, a.Equal(b))
	require.Len(t, a.Reveal(), 43) // RFC 7636 asks for 43 to 128
	require.Regexp(t, `^[A-Za-z0-9_-]+$`, a.Reveal())
}

func TestParseCallback(t *testing.T) {
	got, err := provider.ParseCallback("code=c%2F1&state=s-1&iss=https%3A%2F%2Fid.example&session_state=x&session_state=y")
	require.NoError(t, err)
	require.Equal(t, []string{"c/1", "s-1", "https://id.example", ""}, []string{got.Code.Reveal(), got.State.Reveal(), got.Issuer, got.Error})
	for word, want := range map[string]string{"access_denied": "access_denied", "planted": "other_error", "%00": "other_error"} {
		got, err = provider.ParseCallback("error=" + word + "&error_description=planted&state=s-1")
		require.NoError(t, err)
		require.Equal(t, want, got.Error)
		require.True(t, got.Code.IsZero())
	}
	for _, query := range []string{
		"", "code=planted", "state=planted", "code=planted&state=", "code=planted&code=b&state=s", "code=planted&state=s&state=s", "code=planted&state=s&iss=a&iss=b", "code=planted&state=s&error=x",
		"code=%0d%0aplanted&state=s", "code=planted&state=a%20b", "code=planted;state=s", "code=%zz&state=s", "code=planted&state=" + strings.Repeat("s", 600), "code=" + strings.Repeat("planted", 3000) + "&state=s",
		"code=" + strings.Repeat("a", 9000) + "&state=s", "code=planted&state=s&iss=%00",
	} {
		got, err := provider.ParseCallback(query)
		var why *provider.CallbackError
		require.ErrorAs(t, err, &why, query)
		require.Zero(t, got)
		require.NotContains(t, err.Error(), "planted")
	}
}

func TestParsePaste(t *testing.T) {
	for _, text := range []string{"c-1#s-1", "  c-1#s-1\n", "https://console.anthropic.com/oauth/code/callback?code=c-1&state=s-1", "http://127.0.0.1:1234/?state=s-1&code=c-1#top"} {
		got, err := provider.ParsePaste(secret.FromString(text))
		require.NoError(t, err, text)
		require.Equal(t, []string{"c-1", "s-1"}, []string{got.Code.Reveal(), got.State.Reveal()})
	}
	for _, text := range []string{"", "planted", "planted#", "#planted", "planted#b#c", "plan ted#s", "https://planted.example/", "planted\xff#s", strings.Repeat("planted", 4000) + "#s"} {
		_, err := provider.ParsePaste(secret.FromString(text))
		require.Error(t, err, text)
		require.NotContains(t, err.Error(), "planted")
	}
}

func TestCheckIssuer(t *testing.T) {
	for _, c := range []struct {
		own, named string
		names, ok  bool
	}{
		{"https://id.example", "https://id.example", true, true}, {"https://id.example", "", true, false}, {"https://id.example", "", false, true},
		{"https://id.example", "https://evil.example", false, false}, {"https://id.example", "https://id.example/", false, false}, {"", "https://any.example", false, true},
	} {
		err := provider.Provider{Issuer: c.own, NamesItself: c.names}.CheckIssuer(provider.Callback{Issuer: c.named})
		require.Equal(t, c.ok, err == nil, c)
	}
}

// TestCatalogue: the rows are whole, and what issue and law ask of them.
func TestCatalogue(t *testing.T) {
	var names []string
	policy := outbound.Policy{}
	for _, p := range provider.Catalogue() {
		names = append(names, p.Name)
		require.NotEmpty(t, p.Title, p.Name)
		require.NotEmpty(t, p.Recipe, p.Name)
		require.NotEmpty(t, p.TokenURLs, p.Name)
		require.NotEmpty(t, p.Hosts, p.Name)
		require.Contains(t, []provider.Auth{provider.AuthBasic, provider.AuthPost, provider.AuthNone}, p.Auth, p.Name)
		require.Contains(t, []provider.Format{provider.Form, provider.JSON}, p.Format, p.Name)
		for _, address := range slices.Concat(p.TokenURLs, []string{p.AuthorizeURL, p.DeviceURL, p.RevokeURL, p.BaseURL, p.Issuer, p.Docs, p.RedirectURL}) {
			u, err := url.Parse(strings.ReplaceAll(address, "{client_id}", "x"))
			require.NoError(t, err)
			if address != "" {
				require.NoError(t, policy.CheckURL(u), "%s: %s", p.Name, address)
				require.Equal(t, "https", u.Scheme)
			}
		}
		base, err := url.Parse(p.BaseURL)
		require.NoError(t, err)
		require.Contains(t, p.Hosts, base.Hostname(), p.Name)
		for word, code := range p.Shape.Codes {
			require.Contains(t, provider.Codes(), code, word)
		}
		// No grace is claimed of a provider that ends the old refresh token.
		require.Equal(t, p.Name == "google" || p.Name == "microsoft", p.Grace > 0, p.Name)
	}
	require.Equal(t, []string{"anthropic", "google", "github", "gitlab", "microsoft", "slack", "atlassian", "linear", "notion"}, names)
	a, ok := provider.Find(provider.Catalogue(), "anthropic")
	require.True(t, ok)
	require.NotEmpty(t, a.Consumer)
	require.Equal(t, "CLAUDE_OAUTH_CLIENT_ID", a.ClientIDFrom)
	require.Equal(t, "other", a.WithClientID("other").ClientID)
	require.Equal(t, "9d1c250a-e61b-44d9-88ed-5944d1962f5e", a.ClientID)
	_, ok = provider.Find(provider.Catalogue(), "nobody")
	require.False(t, ok)
}

// documents is a server with documents at paths; the others are 404.
func documents(t *testing.T, at map[string]string) (string, *[]string) {
	t.Helper()
	var asked []string
	var server *httptest.Server
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.Path)
		text, ok := at[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		if text == "redirect" {
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
			return
		}
		_, _ = io.WriteString(w, strings.ReplaceAll(text, "BASE", server.URL))
	}))
	t.Cleanup(server.Close)
	return server.URL, &asked
}

const document = `{"issuer":"BASE/t","authorization_endpoint":"BASE/a","token_endpoint":"BASE/k","revocation_endpoint":"BASE/r","device_authorization_endpoint":"BASE/d",
"code_challenge_methods_supported":["S256","plain"],"token_endpoint_auth_methods_supported":["client_secret_post","none"],"authorization_response_iss_parameter_supported":true,
"grant_types_supported":["authorization_code","client_credentials"],"scopes_supported":["a"],"unknown":{"x":[1]}}`

func TestDiscover(t *testing.T) {
	for place, before := range map[string]int{"/.well-known/oauth-authorization-server/t": 0, "/.well-known/openid-configuration/t": 1, "/t/.well-known/openid-configuration": 2} {
		base, asked := documents(t, map[string]string{place: document})
		got, err := newClient(t).Discover(t.Context(), base+"/t")
		require.NoError(t, err)
		require.Len(t, *asked, before+1)
		require.Equal(t, provider.Metadata{
			Issuer: base + "/t", AuthorizeURL: base + "/a", TokenURL: base + "/k", DeviceURL: base + "/d", RevokeURL: base + "/r", Scopes: []string{"a"},
			TokenAuth: []string{"client_secret_post", "none"}, Grants: []string{"authorization_code", "client_credentials"}, PKCE: true, NamesItself: true,
		}, got)
		p := got.Provider()
		require.Equal(t, provider.AuthPost, p.Auth)
		require.Equal(t, []string{base + "/k"}, p.TokenURLs)
		require.True(t, p.ClientCredentials && p.NamesItself)
	}
	root := strings.ReplaceAll(document, "BASE/t", "BASE")
	base, _ := documents(t, map[string]string{"/.well-known/openid-configuration": root, "/.well-known/oauth-authorization-server": "<html>"})
	_, err := newClient(t).Discover(t.Context(), base)
	require.NoError(t, err)
	for auth, want := range map[string]provider.Auth{"": provider.AuthBasic, "client_secret_basic": provider.AuthBasic, "none": provider.AuthNone, "private_key_jwt": provider.AuthNone} {
		m := provider.Metadata{}
		if auth != "" {
			m.TokenAuth = []string{auth}
		}
		require.Equal(t, want, m.Provider().Auth, auth)
	}
}

func TestDiscoveryOfHostileServers(t *testing.T) {
	const place = "/.well-known/oauth-authorization-server/t"
	for name, c := range map[string]struct{ old, new, code string }{
		"another issuer":    {`"issuer":"BASE/t"`, `"issuer":"https://planted.example"`, "issuer_mismatch"},
		"a slash more":      {`"issuer":"BASE/t"`, `"issuer":"BASE/t/"`, "issuer_mismatch"},
		"no issuer":         {`"issuer"`, `"planted"`, "incomplete"},
		"no token endpoint": {`"token_endpoint"`, `"planted"`, "incomplete"},
		"a key twice":       {`"unknown"`, `"issuer"`, "invalid"},
		"a number":          {`"BASE/k"`, `7`, "invalid"},
		"a list of numbers": {`["a"]`, `[1]`, "invalid"},
		"a text for a list": {`["a"]`, `"a"`, "invalid"},
		"yes as a text":     {`true`, `"true"`, "invalid"},
		"garbage":           {`{`, `planted`, "invalid"},
		"token inside":      {`BASE/k`, `https://10.1.2.3/k`, "refused"},
		"revocation plain":  {`BASE/r`, `http://id.example.com/r`, "refused"},
		"metadata service":  {`BASE/d`, `https://169.254.169.254/d`, "refused"},
		"a script":          {`BASE/a`, `javascript:alert(1)`, "refused"},
		"a password":        {`BASE/k`, `https://a:planted@id.example/k`, "refused"},
		"only plain PKCE":   {`"S256",`, ``, "no_pkce"},
	} {
		base, _ := documents(t, map[string]string{place: strings.Replace(document, c.old, c.new, 1)})
		got, err := newClient(t).Discover(t.Context(), base+"/t")
		requireFailure(t, err, c.code, name)
		require.Zero(t, got, name)
	}
	base, asked := documents(t, map[string]string{place: "redirect"})
	_, err := newClient(t).Discover(t.Context(), base+"/t")
	requireFailure(t, err, "redirect", "redirect")
	require.Len(t, *asked, 1)
	base, asked = documents(t, map[string]string{place: "<html>planted</html>"})
	_, err = newClient(t).Discover(t.Context(), base+"/t")
	requireFailure(t, err, "invalid", "a page")
	require.Len(t, *asked, 3)
	base, _ = documents(t, nil)
	_, err = newClient(t).Discover(t.Context(), base+"/t")
	requireFailure(t, err, "unreachable", "none")
	for name, handler := range map[string]http.HandlerFunc{"flood": flood, "bomb": bomb, "drip": drip, "hang": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }} {
		server := httptest.NewServer(handler)
		t.Cleanup(server.Close)
		_, err = newClient(t, func(c *provider.Config) { c.Timeout = time.Second }).Discover(t.Context(), server.URL)
		requireFailure(t, err, "unreachable", name)
	}
	for issuer, code := range map[string]string{
		"http://planted.example": "refused", "https://127.1": "refused", "https://10.1.2.3": "refused", "ftp://planted.example": "refused", ":": "invalid", "": "invalid",
		"https://planted.example?x=y": "invalid", "https://planted.example#x": "invalid", "https://a:b@planted.example": "refused", "https://planted.example/" + strings.Repeat("x", 3000): "invalid",
	} {
		_, err := newClient(t, func(c *provider.Config) { c.Policy = outbound.Policy{}; c.Timeout = time.Second }).Discover(t.Context(), issuer)
		requireFailure(t, err, code, issuer)
	}
}

func requireFailure(t *testing.T, err error, code, name string) {
	t.Helper()
	var why *provider.Failure
	require.ErrorAs(t, err, &why, name)
	require.Equal(t, code, why.Code, name)
	require.NotContains(t, err.Error(), "planted", name)
	require.NotContains(t, err.Error(), "127.0.0.1", name)
}
