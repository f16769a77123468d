package provider

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"signalbox.dev/signalbox/internal/outbound"
	"signalbox.dev/signalbox/internal/secret"
)

// FuzzTokenResponse holds whatever a token endpoint may answer to the promises of [Answer]: a verdict and a code of the closed lists, tokens with
// Issued alone, and tokens that every other reader would have read as well.
func FuzzTokenResponse(f *testing.F) {
	for _, s := range []string{
		`{"access_token":"a","token_type":"Bearer","expires_in":3600,"refresh_token":"r","scope":"a b"}`, `{"error":"invalid_grant"}`, `{"access_token":"a","access_token":"b"}`,
		`{"ok":true,"authed_user":{"access_token":"u","token_type":"user","id":"U"}}`, `{"error":{"type":"invalid_request_error"}}`, `access_token=a&token_type=bearer`, `{"access_token":"a","expires_in":"1e9"}`, "",
	} {
		for _, status := range []int{200, 400, 500} {
			f.Add(status, "application/json", "7", []byte(s))
		}
	}
	f.Add(200, "application/x-www-form-urlencoded", "", []byte("access_token=a"))
	f.Add(429, "", "Sun, 22 Nov 2026 10:01:30 GMT", []byte("{}"))
	c := New(Config{})
	f.Fuzz(func(t *testing.T, status int, kind, after string, body []byte) {
		if status < 100 || status > 999 {
			return
		}
		r := reply{status: status, header: http.Header{"Content-Type": {kind}, "Retry-After": {after}}, body: body, sent: true}
		for _, p := range append(Catalogue(), Provider{}) {
			a, doc := c.judge(p, r)
			if !slices.Contains([]Verdict{Issued, NotProcessed, ServerError, Ambiguous, Refused}, a.Verdict) || a.Code != "" && !slices.Contains(Codes(), a.Code) || (a.Code == "") != (a.Verdict == Issued) {
				t.Fatalf("%+v", a)
			}
			if a.RetryAfter < 0 || a.RetryAfter > maxRetryAfter {
				t.Fatalf("wait %v", a.RetryAfter)
			}
			if terminal(a.Code) && a.Verdict != Refused && status < 500 || a.Verdict == Refused && !terminal(a.Code) {
				t.Fatalf("%+v", a)
			}
			if a.Verdict != Issued {
				continue
			}
			tokens, code := c.readTokens(p, doc)
			if (code == "") == tokens.Access.IsZero() {
				t.Fatalf("%q with %v", code, tokens)
			}
			if code != "" {
				continue
			}
			checkTokens(t, c, p, r, tokens)
		}
	})
}

func checkTokens(t *testing.T, c *Client, p Provider, r reply, got Tokens) {
	if got.Lifetime != 0 && (got.Lifetime < c.cfg.Shortest || got.Lifetime > c.cfg.Longest) {
		t.Fatalf("lifetime %v", got.Lifetime)
	}
	if !visible(got.Access.Reveal(), maxToken) || !got.Refresh.IsZero() && !visible(got.Refresh.Reveal(), maxToken) {
		t.Fatal("a token that no header takes")
	}
	for _, s := range append(got.Scopes, got.Subject) {
		if !utf8.ValidString(s) || strings.ContainsAny(s, "\x00\n") {
			t.Fatalf("%q", s)
		}
	}
	if strings.Contains(fmt.Sprintf("%v %+v %#v", got, got, got), got.Access.Reveal()) && got.Access.Len() > 8 && !strings.Contains(fmt.Sprint(got.Scopes, got.Subject), got.Access.Reveal()) {
		t.Fatal("a token was printed")
	}
	var other map[string]any
	if json.Unmarshal(r.body, &other) != nil {
		if _, err := url.ParseQuery(string(r.body)); err != nil {
			t.Fatalf("issued from what is neither JSON nor a form: %q", r.body)
		}
		return
	}
	if inner, ok := other[p.Shape.Under].(map[string]any); ok && other["access_token"] == nil {
		other = inner
	}
	if other["access_token"] != any(got.Access.Reveal()) {
		t.Fatalf("others read another token than %q", got.Access.Reveal())
	}
}

// FuzzDiscovery: what is taken names its issuer, and only addresses that may be called.
func FuzzDiscovery(f *testing.F) {
	const issuer = "https://id.example"
	f.Add([]byte(`{"issuer":"https://id.example","token_endpoint":"https://id.example/k","authorization_endpoint":"https://id.example/a","code_challenge_methods_supported":["S256"]}`))
	f.Add([]byte(`{"issuer":"https://id.example","token_endpoint":"http://127.1/k"}`))
	f.Add([]byte(`{"issuer":"https://id.example","issuer":"https://evil.example"}`))
	c := New(Config{Clock: time.Now})
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := c.read(issuer, reply{status: 200, header: http.Header{}, body: body})
		if err != nil {
			if len(body) > 20 && strings.Contains(err.Error(), string(body)) {
				t.Fatal("the error quotes the document")
			}
			return
		}
		if m.Issuer != issuer || m.TokenURL == "" {
			t.Fatalf("%+v", m)
		}
		for _, one := range []string{m.AuthorizeURL, m.TokenURL, m.DeviceURL, m.RevokeURL, m.RegistrationURL} {
			if one == "" {
				continue
			}
			u, err := url.Parse(one)
			if err != nil || (outbound.Policy{}).CheckURL(u) != nil || u.Scheme != "https" {
				t.Fatalf("%q", one)
			}
		}
	})
}

// FuzzCallback: a callback has a state, and either a code or the word of a closed list; what it holds fits into a header.
func FuzzCallback(f *testing.F) {
	for _, s := range []string{"code=a&state=b", "error=access_denied&state=b&iss=https%3A%2F%2Fid.example", "code=a&code=b&state=c", "a#b", "https://x/?code=a&state=b#c", "code=%00&state=b", ";"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, parse := range []func() (Callback, error){
			func() (Callback, error) { return ParseCallback(text) },
			func() (Callback, error) { return ParsePaste(secret.FromString(text)) },
		} {
			c, err := parse()
			if err != nil {
				if len(text) > 20 && strings.Contains(err.Error(), text) {
					t.Fatal("the error quotes what came")
				}
				continue
			}
			if !visible(c.State.Reveal(), maxState) || c.Code.IsZero() == (c.Error == "") || c.Error != "" && !slices.Contains(Codes(), c.Error) ||
				!c.Code.IsZero() && !visible(c.Code.Reveal(), maxCode) || c.Issuer != "" && !visible(c.Issuer, maxIssuer) {
				t.Fatalf("%+v", c)
			}
		}
	})
}

// FuzzAuthenticate: what is taken of a WWW-Authenticate is an absolute address, plain scopes and a code of the closed list.
func FuzzAuthenticate(f *testing.F) {
	for _, s := range []string{
		`Bearer resource_metadata="https://x.example/.well-known/oauth-protected-resource", error="invalid_token", scope="a b"`, `Basic realm="x", Bearer`, `Negotiate abc==, bearer a=b`,
		`Bearer a="\"", b=c`, `Bearer , , x=`, `DPoP algs="ES256"`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, ok := ParseAuthenticate([]string{text})
		if !ok {
			if a.ResourceMetadata != "" || a.Scopes != nil || a.Error != "" {
				t.Fatalf("%+v", a)
			}
			return
		}
		if !strings.Contains(strings.ToLower(text), "bearer") || a.Error != "" && !slices.Contains(Codes(), a.Error) {
			t.Fatalf("%+v", a)
		}
		if a.ResourceMetadata != "" {
			u, err := url.Parse(a.ResourceMetadata)
			if err != nil || !u.IsAbs() || u.Host == "" || u.User != nil {
				t.Fatalf("%q", a.ResourceMetadata)
			}
		}
		for _, s := range a.Scopes {
			if !visible(s, maxScope) {
				t.Fatalf("%q", s)
			}
		}
	})
}
