package provider

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"signalbox.dev/signalbox/internal/secret"
)

// request is what an exchange sends, before it has an address.
type request struct {
	method  string
	format  Format
	fields  url.Values
	headers map[string]string
	// authorization is the value of that header; zero for none.
	authorization secret.Value
}

// request begins a request in which the client names itself as the provider wants it. A client without a secret is a public one, whatever the
// provider's row says: an empty password helps nobody.
func (p Provider) request(id string, key secret.Value) *request {
	r := &request{method: http.MethodPost, format: p.Format, fields: url.Values{}, headers: p.TokenHeaders}
	r.client(p.Auth, id, key)
	return r
}

func (r *request) client(auth Auth, id string, key secret.Value) {
	switch {
	case key.IsZero() || auth == AuthNone:
		r.named(id)
	case auth == AuthPost:
		r.named(id).secret("client_secret", key)
	default:
		r.authorization = basic(id, key)
	}
}

// basic is the authentication of RFC 6749, section 2.3.1: both parts are form-encoded first.
func basic(id string, key secret.Value) secret.Value {
	pair := url.QueryEscape(id) + ":" + url.QueryEscape(key.Reveal())
	return secret.FromString("Basic " + base64.StdEncoding.EncodeToString([]byte(pair)))
}

func (r *request) text(name, value string) *request {
	if value != "" {
		r.fields.Set(name, value)
	}
	return r
}

func (r *request) secret(name string, value secret.Value) *request {
	return r.text(name, value.Reveal())
}
func (r *request) grant(kind string) *request   { return r.text("grant_type", kind) }
func (r *request) named(id string) *request     { return r.text("client_id", id) }
func (r *request) resource(uri string) *request { return r.text("resource", uri) }

// body writes the fields.
func (r *request) body() (body []byte, contentType string, err error) {
	if r.format != JSON {
		return []byte(r.fields.Encode()), "application/x-www-form-urlencoded", nil
	}
	plain := make(map[string]string, len(r.fields))
	for name := range r.fields {
		plain[name] = r.fields.Get(name)
	}
	body, err = json.Marshal(plain)
	return body, "application/json", err
}

// joined writes scopes as the provider separates them.
func (p Provider) joined(scopes []string) string {
	by := p.ScopeSeparator
	if by == "" {
		by = " "
	}
	return strings.Join(scopes, by)
}

// revocation makes the request that ends a grant; false when the provider offers none or what it needs is not there.
func (p Provider) revocation(l Leaving) (*request, string, bool) {
	how := p.Revoke
	token, hint := l.Refresh, "refresh_token"
	if how.Access || token.IsZero() {
		token, hint = l.Access, "access_token"
	}
	if p.RevokeURL == "" || token.IsZero() {
		return nil, "", false
	}
	r := &request{method: how.Method, format: how.Format, fields: url.Values{}, headers: p.TokenHeaders}
	if r.method == "" {
		r.method = http.MethodPost
	}
	if r.format == "" {
		r.format = p.Format
	}
	switch {
	case how.Bearer:
		r.authorization = secret.FromString("Bearer " + token.Reveal())
	default:
		auth := how.Auth
		if auth == "" {
			auth = p.Auth
		}
		r.client(auth, l.ClientID, l.ClientSecret)
		param := how.Param
		if param == "" {
			param = "token"
			r.text("token_type_hint", hint)
		}
		r.secret(param, token)
	}
	return r, strings.ReplaceAll(p.RevokeURL, "{client_id}", url.PathEscape(l.ClientID)), true
}
