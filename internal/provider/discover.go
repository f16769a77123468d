package provider

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"signalbox.dev/signalbox/internal/strict"
)

// maxIssuer bounds an issuer and each address that a server names.
const maxIssuer = 2048

// Metadata is what a server says of itself (RFC 8414, OpenID Connect Discovery), as far as Signalbox uses it. Every address in it may be called,
// or given to a browser.
type Metadata struct {
	Issuer, AuthorizeURL, TokenURL, DeviceURL, RevokeURL, RegistrationURL string
	Scopes, TokenAuth, Grants                                             []string
	// PKCE says that the server names S256.
	PKCE bool
	// NamesItself says that answers carry iss (RFC 9207).
	NamesItself bool
}

// Failure is why nothing is known of a server. It quotes nothing of what the server said.
type Failure struct {
	// Code is stable, for logs and the record: unreachable, refused, redirect, invalid, incomplete, issuer_mismatch or no_pkce.
	Code string
	text string
}

// Error is a sentence that may be shown.
func (f *Failure) Error() string { return f.text }

// Discover asks an issuer about itself: at the place of RFC 8414 first, then at that of OpenID Connect, where the former has nothing. Its errors
// are of type [Failure].
func (c *Client) Discover(ctx context.Context, issuer string) (Metadata, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	if err := c.checkIssuer(issuer); err != nil {
		return Metadata{}, err
	}
	var got reply
	for _, place := range places(issuer) {
		r := c.once(ctx, &request{method: http.MethodGet}, place)
		_, err := strict.Object(r.body)
		found := r.status == http.StatusOK && err == nil
		if found || got.status != http.StatusOK { // a page in the place of the document says more than a 404 at the next
			got = r
		}
		// Some servers answer every path with a page of theirs, so that it is no document does not mean that there is none.
		nothing := r.status == http.StatusOK || r.status >= 400 && r.status < 500
		if found || !nothing {
			break
		}
	}
	return c.read(issuer, got)
}

// places are where the document may be: RFC 8414, section 3.1, puts the well-known part between host and path, OpenID Connect behind the path.
func places(issuer string) []string {
	u, err := url.Parse(issuer)
	if err != nil {
		return nil
	}
	base := u.Scheme + "://" + u.Host
	path := strings.TrimSuffix(u.EscapedPath(), "/")
	list := []string{base + "/.well-known/oauth-authorization-server" + path}
	if path != "" {
		list = append(list, base+"/.well-known/openid-configuration"+path)
	}
	return append(list, base+path+"/.well-known/openid-configuration")
}

func failed(code, text string) error { return &Failure{Code: code, text: text} }

// checkIssuer refuses an issuer that may not be asked.
func (c *Client) checkIssuer(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Fragment != "" || u.RawQuery != "" || !visible(text, maxIssuer) {
		return failed("invalid", "The issuer is no address: it is written as https://host, with a path where the server has one, and without a query.")
	}
	if err := c.cfg.Policy.CheckURL(u); err != nil {
		return failed("refused", "The server, or an address that it names, may not be called: "+err.Error())
	}
	return nil
}

// read turns the answer into metadata.
func (c *Client) read(issuer string, got reply) (Metadata, error) {
	switch {
	case got.code == CodeGuard:
		return Metadata{}, failed("refused", "The server's address may not be called, since it is not public. If Signalbox may call it, allow its host in SIGNALBOX_ALLOW_PRIVATE_UPSTREAMS.")
	case got.code != "":
		return Metadata{}, failed("unreachable", "The server did not answer as a discovery document is answered ("+got.code+"). Check the issuer's address.")
	case got.status >= 300 && got.status < 400:
		return Metadata{}, failed("redirect", "The server answers with a redirect, which is not followed. Use its final address.")
	case got.status != http.StatusOK:
		return Metadata{}, failed("unreachable", "The server has no discovery document at the places of RFC 8414 and OpenID Connect. Check the issuer's address, or enter its endpoints by hand.")
	}
	doc, err := strict.Object(got.body)
	if err != nil {
		return Metadata{}, failed("invalid", "The server's discovery document is not the JSON that RFC 8414 asks for.")
	}
	m, err := readMetadata(doc)
	if err != nil {
		return Metadata{}, err
	}
	if m.Issuer != issuer {
		return Metadata{}, failed("issuer_mismatch", "The server calls itself by another issuer than the one that is set here. They must be equal to the last character, a slash at the end included.")
	}
	for _, one := range []string{m.TokenURL, m.DeviceURL, m.RevokeURL, m.RegistrationURL, m.AuthorizeURL} {
		if one == "" {
			continue
		}
		u, err := url.Parse(one)
		if err != nil || u.Fragment != "" {
			return Metadata{}, failed("invalid", "The server's discovery document names an address that is none.")
		}
		if err := c.cfg.Policy.CheckURL(u); err != nil {
			return Metadata{}, failed("refused", "The server names an address that may not be called: "+err.Error())
		}
	}
	return m, nil
}

// readMetadata reads the document. A member of the wrong type makes the whole of it invalid.
func readMetadata(doc map[string]any) (Metadata, error) {
	d := document{doc: doc}
	m := Metadata{
		Issuer: d.text("issuer"), AuthorizeURL: d.text("authorization_endpoint"), TokenURL: d.text("token_endpoint"),
		DeviceURL: d.text("device_authorization_endpoint"), RevokeURL: d.text("revocation_endpoint"), RegistrationURL: d.text("registration_endpoint"),
		Scopes: d.texts("scopes_supported"), TokenAuth: d.texts("token_endpoint_auth_methods_supported"), Grants: d.texts("grant_types_supported"),
		NamesItself: d.yes("authorization_response_iss_parameter_supported"),
	}
	pkce := d.texts("code_challenge_methods_supported")
	m.PKCE = slices.Contains(pkce, "S256")
	switch {
	case d.broken:
		return Metadata{}, failed("invalid", "The server's discovery document has a member of the wrong type.")
	case m.Issuer == "" || m.TokenURL == "":
		return Metadata{}, failed("incomplete", "The server's discovery document lacks its issuer or its token endpoint.")
	case len(pkce) > 0 && !m.PKCE:
		return Metadata{}, failed("no_pkce", "The server does not take PKCE with S256, without which nobody logs in here.")
	}
	return m, nil
}

// document reads members; broken remembers that one had the wrong type.
type document struct {
	doc    map[string]any
	broken bool
}

func (d *document) text(name string) string {
	v, has := d.doc[name]
	if !has || v == nil {
		return ""
	}
	s, ok := v.(string)
	if !ok || s != "" && !visible(s, maxIssuer) {
		d.broken = true
		return ""
	}
	return s
}

func (d *document) texts(name string) []string {
	v, has := d.doc[name]
	if !has || v == nil {
		return nil
	}
	list, ok := v.([]any)
	d.broken = d.broken || !ok || len(list) > 1000
	var out []string
	for _, one := range list {
		s, ok := one.(string)
		if !ok || !visible(s, maxScope) {
			d.broken = true
			return nil
		}
		out = append(out, s)
	}
	return out
}

func (d *document) yes(name string) bool {
	v, has := d.doc[name]
	b, ok := v.(bool)
	d.broken = d.broken || has && v != nil && !ok
	return b
}

// Provider makes a row of what a server says of itself. Name, Title and ClientID are the caller's to add.
func (m Metadata) Provider() Provider {
	p := Provider{
		Issuer: m.Issuer, NamesItself: m.NamesItself, AuthorizeURL: m.AuthorizeURL, TokenURLs: []string{m.TokenURL}, DeviceURL: m.DeviceURL,
		RevokeURL: m.RevokeURL, Auth: AuthBasic, Format: Form, PKCE: m.PKCE, ClientCredentials: slices.Contains(m.Grants, "client_credentials"),
	}
	// Basic is what a server that names none takes (RFC 8414, section 2), and the best of those that it names.
	if len(m.TokenAuth) > 0 && !slices.Contains(m.TokenAuth, string(AuthBasic)) {
		p.Auth = AuthNone
		if slices.Contains(m.TokenAuth, string(AuthPost)) {
			p.Auth = AuthPost
		}
	}
	return p
}
