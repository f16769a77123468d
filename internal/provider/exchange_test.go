package provider_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/provider"
	"signalbox.dev/signalbox/internal/secret"
)

// said is one request as a server read it.
type said struct {
	method, path, auth, kind, accept, encoding string
	header                                     http.Header
	fields                                     map[string]string
}

// listening is a server that answers with one text and keeps what it was asked.
func listening(t *testing.T, status int, text string) (string, *[]said) {
	t.Helper()
	var heard []said
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s := said{
			method: r.Method, path: r.URL.Path, auth: r.Header.Get("Authorization"), kind: r.Header.Get("Content-Type"), accept: r.Header.Get("Accept"),
			encoding: r.Header.Get("Accept-Encoding"), header: r.Header, fields: map[string]string{},
		}
		if s.kind == "application/json" {
			if json.Unmarshal(body, &s.fields) != nil {
				t.Errorf("a body that is no JSON: %s", body)
			}
		} else {
			values, err := url.ParseQuery(string(body))
			if err != nil {
				t.Error(err)
			}
			for name := range values {
				s.fields[name] = values.Get(name)
			}
		}
		heard = append(heard, s)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	}))
	t.Cleanup(server.Close)
	return server.URL, &heard
}

// moved returns a provider of the catalogue with its addresses on a test server.
func moved(t *testing.T, name, base string) provider.Provider {
	t.Helper()
	p, ok := provider.Find(provider.Catalogue(), name)
	require.True(t, ok)
	p.TokenURLs = []string{base + "/token"}
	if p.DeviceURL != "" {
		p.DeviceURL = base + "/device"
	}
	if p.RevokeURL != "" {
		p.RevokeURL = base + "/revoke" + strings.TrimPrefix(p.RevokeURL, strings.TrimSuffix(p.RevokeURL, "/{client_id}/grant"))
	}
	return p
}

var (
	key      = secret.FromString("s:e c&r=e+t")
	code     = secret.FromString("the-code")
	verifier = secret.FromString("the-verifier")
	state    = secret.FromString("the-state")
)

// TestWhatIsSent: each provider gets what its row says: the format, the client's name, the extra headers and parameters.
func TestWhatIsSent(t *testing.T) {
	for name, want := range map[string]struct {
		auth, kind string
		fields     map[string]string
		header     [2]string
	}{
		"anthropic": {kind: "application/json", fields: map[string]string{"client_id": "us", "state": "the-state"}, header: [2]string{"Anthropic-Beta", "oauth-2025-04-20"}},
		"google":    {kind: "application/x-www-form-urlencoded", fields: map[string]string{"client_id": "us", "client_secret": key.Reveal()}},
		"atlassian": {kind: "application/json", fields: map[string]string{"client_id": "us", "client_secret": key.Reveal()}},
		"notion":    {auth: "Basic dXM6cyUzQWUrYyUyNnIlM0RlJTJCdA==", kind: "application/json", fields: map[string]string{}, header: [2]string{"Notion-Version", "2022-06-28"}},
		"slack":     {auth: "Basic dXM6cyUzQWUrYyUyNnIlM0RlJTJCdA==", kind: "application/x-www-form-urlencoded", fields: map[string]string{}},
	} {
		base, heard := listening(t, 200, good)
		p := moved(t, name, base)
		a := newClient(t).Exchange(t.Context(), p, provider.Code{ClientID: "us", ClientSecret: key, Code: code, Verifier: verifier, State: state, RedirectURL: "https://box.example/callback", Resource: "https://mcp.example"})
		require.Equal(t, provider.Issued, a.Verdict, name)
		want.fields["grant_type"], want.fields["code"], want.fields["code_verifier"] = "authorization_code", "the-code", "the-verifier"
		want.fields["redirect_uri"], want.fields["resource"] = "https://box.example/callback", "https://mcp.example"
		got := (*heard)[0]
		require.Equal(t, want.fields, got.fields, name)
		require.Equal(t, []string{"POST", want.auth, want.kind, "application/json", "identity"}, []string{got.method, got.auth, got.kind, got.accept, got.encoding}, name)
		if want.header[0] != "" {
			require.Equal(t, want.header[1], got.header.Get(want.header[0]), name)
		}
		a = newClient(t).Refresh(t.Context(), p, provider.Grant{ClientID: "us", ClientSecret: key, RefreshToken: secret.FromString(plantedRefresh), Scopes: []string{"x", "y"}})
		require.Equal(t, provider.Issued, a.Verdict, name)
		got = (*heard)[1]
		require.Equal(t, "refresh_token", got.fields["grant_type"])
		require.Equal(t, plantedRefresh, got.fields["refresh_token"])
		require.Equal(t, map[bool]string{true: "x,y", false: "x y"}[name == "slack"], got.fields["scope"])
		require.NotContains(t, got.fields, "state")
		if want.header[0] != "" {
			require.Equal(t, want.header[1], got.header.Get(want.header[0]), name)
		}
	}
	// A client without a secret is a public one.
	base, heard := listening(t, 200, good)
	newClient(t).Refresh(t.Context(), at(base), provider.Grant{ClientID: "us", RefreshToken: code})
	require.Equal(t, map[string]string{"client_id": "us", "grant_type": "refresh_token", "refresh_token": "the-code"}, (*heard)[0].fields)
	require.Empty(t, (*heard)[0].auth)
	newClient(t).ClientCredentials(t.Context(), at(base), provider.Ask{ClientID: "us", ClientSecret: key, Scopes: []string{"a", "b"}})
	require.Equal(t, map[string]string{"grant_type": "client_credentials", "scope": "a b"}, (*heard)[1].fields)
	// What cannot be sent is not.
	for _, a := range []provider.Answer{
		newClient(t).Refresh(t.Context(), at(base), provider.Grant{ClientID: "us"}), newClient(t).Exchange(t.Context(), at(base), provider.Code{Code: code}),
		newClient(t).ClientCredentials(t.Context(), at(base), provider.Ask{ClientID: "us"}), newClient(t).Poll(t.Context(), at(base), provider.Poll{}),
	} {
		require.Equal(t, provider.Answer{Verdict: provider.NotProcessed, Code: "unusable"}, a)
	}
	require.Len(t, *heard, 2)
}

// TestWhatIsRead: what is not needed is read leniently, since a pair that was issued must not be lost over it.
func TestWhatIsRead(t *testing.T) {
	const hour = time.Hour
	for text, want := range map[string]time.Duration{
		`3600`: hour, `"3600"`: hour, `" 3600 "`: hour, `3600.9`: hour + 900*time.Millisecond, `3.6e3`: hour, `"36e2"`: hour, `1`: 10 * time.Second, `"0.5"`: 10 * time.Second,
		`0`: hour, `-1`: hour, `"-1"`: hour, `""`: hour, `"soon"`: hour, `true`: hour, `{}`: hour, `[3600]`: hour, `"NaN"`: hour, `null`: 0,
		`31536000`: 365 * 24 * hour, `99999999999`: 400 * 24 * hour, `1e999`: 400 * 24 * hour, `"Inf"`: 400 * 24 * hour, `-1e999`: hour,
	} {
		base, _ := listening(t, 200, `{"access_token":"a","expires_in":`+text+`}`)
		a := newClient(t).Refresh(t.Context(), at(base), grant())
		require.Equal(t, provider.Issued, a.Verdict, text)
		require.Equal(t, want, a.Tokens.Lifetime, text)
		require.True(t, a.Tokens.Refresh.IsZero(), "the old one stays")
	}
	p := at("")
	p.Lifetime = 2 * hour
	for text, want := range map[string]time.Duration{`{"access_token":"a"}`: 2 * hour, `{"access_token":"a","expires_in":0}`: 2 * hour, `{"access_token":"a","expires_in":60}`: time.Minute} {
		base, _ := listening(t, 200, text)
		p.TokenURLs = []string{base}
		require.Equal(t, want, newClient(t).Refresh(t.Context(), p, grant()).Tokens.Lifetime, text)
	}
	for text, want := range map[string][]string{
		`"a b"`: {"a", "b"}, `" a  b "`: {"a", "b"}, `"a,b"`: {"a,b"}, `["a","b"]`: {"a", "b"}, `["a",1]`: nil, `7`: nil, `null`: nil, `"\u0000"`: nil, `"` + strings.Repeat("a ", 200) + `"`: nil,
	} {
		base, _ := listening(t, 200, `{"access_token":"a","token_type":"BEARER","refresh_token":null,"scope":`+text+`}`)
		a := newClient(t).Refresh(t.Context(), at(base), grant())
		require.Equal(t, provider.Issued, a.Verdict, text)
		require.Equal(t, want, a.Tokens.Scopes, text)
	}
	base, _ := listening(t, 200, good)
	got := newClient(t).Refresh(t.Context(), at(base), grant()).Tokens
	require.Equal(t, plantedAccess, got.Access.Reveal())
	require.Equal(t, plantedNew, got.Refresh.Reveal())
}

// TestOddShapes: how the answers of some providers differ is data of their rows.
func TestOddShapes(t *testing.T) {
	for _, c := range []struct {
		name, text string
		status     int
		verdict    provider.Verdict
		code       string
		access     string
		subject    string
		scopes     []string
	}{
		{name: "slack", text: `{"ok":true,"access_token":"xoxb-1","token_type":"bot","scope":"a,b","expires_in":43200,"refresh_token":"r","authed_user":{"id":"U1","access_token":"xoxp-1"}}`, verdict: provider.Issued, access: "xoxb-1", subject: "U1", scopes: []string{"a", "b"}},
		{name: "slack", text: `{"ok":true,"authed_user":{"id":"U1","scope":"c","access_token":"xoxp-1","token_type":"user","refresh_token":"r"}}`, verdict: provider.Issued, access: "xoxp-1", subject: "U1", scopes: []string{"c"}},
		{name: "slack", text: `{"ok":true,"authed_user":{"id":"U1"}}`, verdict: provider.Ambiguous, code: "unreadable"},
		{name: "slack", text: `{"ok":false,"error":"invalid_refresh_token"}`, verdict: provider.Refused, code: "invalid_grant"},
		{name: "slack", text: `{"ok":false,"error":"bad_client_secret"}`, verdict: provider.Refused, code: "invalid_client"},
		{name: "slack", text: `{"ok":false,"error":"fatal_error"}`, verdict: provider.ServerError, code: "server_error"},
		{name: "slack", text: `{"ok":false,"error":"new_word"}`, verdict: provider.NotProcessed, code: "other_error"},
		{name: "github", text: `{"error":"bad_refresh_token","error_description":"planted"}`, verdict: provider.Refused, code: "invalid_grant"},
		{name: "github", text: `{"error":"incorrect_client_credentials"}`, verdict: provider.Refused, code: "invalid_client"},
		{name: "github", text: `{"access_token":"ghu_2","token_type":"bearer","error":""}`, verdict: provider.Issued, access: "ghu_2"},
		{name: "github", text: `{"access_token":"ghu_1","token_type":"bearer","scope":""}`, verdict: provider.Issued, access: "ghu_1"},
		{name: "anthropic", text: `{"access_token":"sk-ant-oat01-x","refresh_token":"r","expires_in":28800,"token_type":"Bearer","account":{"uuid":"acc-1"}}`, verdict: provider.Issued, access: "sk-ant-oat01-x", subject: "acc-1"},
		{name: "anthropic", status: 400, text: `{"type":"error","error":{"type":"invalid_request_error","message":"planted"}}`, verdict: provider.NotProcessed, code: "invalid_request"},
		{name: "anthropic", status: 400, text: `{"error":"invalid_grant","error_description":"planted"}`, verdict: provider.Refused, code: "invalid_grant"},
		{name: "anthropic", status: 529, text: `{"type":"error","error":{"type":"overloaded_error"}}`, verdict: provider.ServerError, code: "temporarily_unavailable"},
		{name: "atlassian", status: 403, text: `{"error":"invalid_grant","error_description":"planted"}`, verdict: provider.Refused, code: "invalid_grant"},
		{name: "microsoft", status: 400, text: `{"error":"interaction_required","error_codes":[50076]}`, verdict: provider.Refused, code: "invalid_grant"},
		{name: "notion", text: `{"access_token":"n","token_type":"bearer","refresh_token":"r","bot_id":"b-1"}`, verdict: provider.Issued, access: "n", subject: "b-1"},
		{name: "notion", status: 400, text: `{"object":"error","status":400,"code":"invalid_grant"}`, verdict: provider.Refused, code: "invalid_grant"},
	} {
		if c.status == 0 {
			c.status = 200
		}
		base, _ := listening(t, c.status, c.text)
		a := newClient(t).Refresh(t.Context(), moved(t, c.name, base), grant())
		require.Equal(t, c.verdict, a.Verdict, c.text)
		require.Equal(t, []string{c.code, c.access, c.subject}, []string{a.Code, a.Tokens.Access.Reveal(), a.Tokens.Subject}, c.text)
		require.Equal(t, c.scopes, a.Tokens.Scopes, c.text)
	}
}

func TestDeviceGrant(t *testing.T) {
	client := newClient(t)
	base, heard := listening(t, 200, `{"device_code":"planted-device","user_code":"WDJB-MJHT","verification_uri":"https://example.com/device","verification_uri_complete":"https://example.com/device?c=WDJB-MJHT","expires_in":1800,"interval":7}`)
	p := moved(t, "github", base)
	got, a := client.Device(t.Context(), p, provider.Ask{ClientID: "us", Scopes: []string{"read:user"}})
	require.Equal(t, provider.Issued, a.Verdict)
	require.Equal(t, "planted-device", got.DeviceCode.Reveal())
	require.Equal(t, []any{"WDJB-MJHT", "https://example.com/device", "https://example.com/device?c=WDJB-MJHT", 30 * time.Minute, 7 * time.Second}, []any{got.UserCode, got.VerifyURL, got.VerifyURLFilled, got.Lifetime, got.Interval})
	require.Equal(t, map[string]string{"client_id": "us", "scope": "read:user"}, (*heard)[0].fields)
	for text, ok := range map[string]bool{
		`{"device_code":"d","user_code":"U","verification_url":"https://a.example"}`:                                true, // as Google calls it
		`{"device_code":"d","user_code":"U","verification_uri":"https://a.example","expires_in":-1,"interval":"x"}`: true,
		`{"device_code":"d","user_code":"U","verification_uri":"javascript:alert(1)"}`:                              false,
		`{"device_code":"d","user_code":"U\u001b[2J","verification_uri":"https://a.example"}`:                       false,
		`{"device_code":"d","verification_uri":"https://a.example"}`:                                                false,
		`{"user_code":"U","verification_uri":"https://a.example"}`:                                                  false,
	} {
		base, _ := listening(t, 200, text)
		got, a := client.Device(t.Context(), moved(t, "github", base), provider.Ask{ClientID: "us"})
		require.Equal(t, ok, a.Verdict == provider.Issued, text)
		if ok {
			require.Equal(t, []time.Duration{10 * time.Minute, 5 * time.Second}, []time.Duration{got.Lifetime, got.Interval})
		} else {
			require.Equal(t, provider.Answer{Verdict: provider.Ambiguous, Code: "unreadable", Status: 200, Sent: true}, a)
		}
	}
	for word, want := range map[string]provider.Verdict{
		"authorization_pending": provider.Pending, "slow_down": provider.Pending, "expired_token": provider.Refused, "access_denied": provider.Refused,
		"invalid_grant": provider.Refused, "invalid_request": provider.NotProcessed,
	} {
		base, heard := listening(t, 400, `{"error":"`+word+`"}`)
		a := client.Poll(t.Context(), moved(t, "github", base), provider.Poll{ClientID: "us", DeviceCode: code})
		require.Equal(t, []any{want, word}, []any{a.Verdict, a.Code})
		require.Equal(t, map[string]string{"client_id": "us", "device_code": "the-code", "grant_type": "urn:ietf:params:oauth:grant-type:device_code"}, (*heard)[0].fields)
		require.Equal(t, want == provider.Refused && word == "invalid_grant", client.Refresh(t.Context(), moved(t, "github", base), grant()).Verdict == provider.Refused, "elsewhere only the terminal three end a token")
	}
	_, a = client.Device(t.Context(), moved(t, "slack", base), provider.Ask{ClientID: "us"})
	require.Equal(t, "unusable", a.Code)
}

func TestRevoke(t *testing.T) {
	access, refresh := secret.FromString("the-access"), secret.FromString("the-refresh")
	leaving := provider.Leaving{ClientID: "us", ClientSecret: key, Access: access, Refresh: refresh}
	basic := "Basic dXM6cyUzQWUrYyUyNnIlM0RlJTJCdA=="
	for name, want := range map[string]said{
		"google": {method: "POST", path: "/revoke", fields: map[string]string{"client_id": "us", "token": "the-refresh", "token_type_hint": "refresh_token"}},
		"gitlab": {method: "POST", path: "/revoke", fields: map[string]string{"client_id": "us", "client_secret": key.Reveal(), "token": "the-refresh", "token_type_hint": "refresh_token"}},
		"github": {method: "DELETE", path: "/revoke/us/grant", auth: basic, fields: map[string]string{"access_token": "the-access"}},
		"notion": {method: "POST", path: "/revoke", auth: basic, fields: map[string]string{"token": "the-access"}},
		"slack":  {method: "POST", path: "/revoke", auth: "Bearer the-access", fields: map[string]string{}},
	} {
		for status, text := range map[int]string{200: "", 204: "", 202: `{"ok":true}`} {
			base, heard := listening(t, status, text)
			a := newClient(t).Revoke(t.Context(), moved(t, name, base), leaving)
			require.Equal(t, provider.Answer{Verdict: provider.Revoked, Status: status, Sent: true}, a, name)
			got := (*heard)[0]
			require.Equal(t, []any{want.method, want.path, want.auth, want.fields}, []any{got.method, got.path, got.auth, got.fields}, name)
		}
	}
	base, _ := listening(t, 200, `{"ok":false,"error":"token_revoked"}`)
	require.Equal(t, provider.Refused, newClient(t).Revoke(t.Context(), moved(t, "slack", base), leaving).Verdict)
	base, _ = listening(t, 503, "")
	require.Equal(t, provider.ServerError, newClient(t).Revoke(t.Context(), moved(t, "gitlab", base), leaving).Verdict)
	require.Equal(t, "unusable", newClient(t).Revoke(t.Context(), moved(t, "microsoft", base), leaving).Code)
	require.Equal(t, "unusable", newClient(t).Revoke(t.Context(), moved(t, "gitlab", base), provider.Leaving{ClientID: "us"}).Code)
}
