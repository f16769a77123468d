package oidc

import (
	"context"
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	goidc "github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"signalbox.dev/signalbox/internal/strict"
)

// Metadata is what a provider says of itself.
type Metadata struct {
	Issuer        string   `json:"issuer"`
	Authorization string   `json:"authorization_endpoint"`
	Token         string   `json:"token_endpoint"`
	UserInfo      string   `json:"userinfo_endpoint"`
	Keys          string   `json:"jwks_uri"`
	Algorithms    []string `json:"id_token_signing_alg_values_supported"`
	TokenAuth     []string `json:"token_endpoint_auth_methods_supported"`
	PKCE          []string `json:"code_challenge_methods_supported"`
	Scopes        []string `json:"scopes_supported"`
	Claims        []string `json:"claims_supported"`
	// NamesItself says that answers carry the parameter iss (RFC 9207).
	NamesItself bool `json:"authorization_response_iss_parameter_supported"`
}

// entry is what is known of a provider, or why nothing is. ready is closed when it is complete.
type entry struct {
	ready chan struct{}
	until time.Time
	meta  Metadata
	keys  goidc.KeySet
	err   error
}

// Discover returns what the provider says of itself. What is known is at most an hour old; anew asks again.
func (c *Client) Discover(ctx context.Context, issuer string, anew bool) (Metadata, error) {
	e, err := c.find(ctx, issuer, anew)
	if err != nil {
		return Metadata{}, err
	}
	return e.meta, nil
}

// find asks once for all who wait. It asks on its own time, so that one who goes away does not fail the others.
func (c *Client) find(ctx context.Context, issuer string, anew bool) (*entry, error) {
	c.mu.Lock()
	e := c.known[issuer]
	asking := e != nil && e.until.IsZero()
	if e == nil || !asking && (anew || !c.cfg.Clock().Before(e.until)) {
		if len(c.known) >= knownMost {
			clear(c.known)
		}
		e = &entry{ready: make(chan struct{})}
		c.known[issuer] = e
		go c.ask(context.WithoutCancel(ctx), issuer, e) // ends by the client's timeout
	}
	c.mu.Unlock()
	select {
	case <-ctx.Done():
		return nil, away("The provider", ctx.Err())
	case <-e.ready:
		return e, e.err
	}
}

func (c *Client) ask(ctx context.Context, issuer string, e *entry) {
	meta, err := c.discover(ctx, issuer)
	c.mu.Lock()
	defer c.mu.Unlock()
	defer close(e.ready)
	e.meta, e.err, e.until = meta, err, c.cfg.Clock().Add(knownFor)
	if err != nil {
		e.until = c.cfg.Clock().Add(failedFor)
		return
	}
	e.keys = goidc.NewRemoteKeySet(goidc.ClientContext(ctx, c.http), meta.Keys)
}

func (c *Client) discover(ctx context.Context, issuer string) (Metadata, error) {
	if err := c.checkURL(issuer); err != nil {
		return Metadata{}, err
	}
	b, err := c.get(ctx, strings.TrimSuffix(issuer, "/")+"/.well-known/openid-configuration", "The provider's discovery document")
	if err != nil {
		return Metadata{}, err
	}
	m, err := readMetadata(b)
	if err != nil {
		return Metadata{}, failed("discovery_invalid", "The provider's discovery document is not the JSON that OpenID Connect Discovery asks for.")
	}
	if m.Issuer != issuer {
		return Metadata{}, failed("issuer_mismatch", "The provider calls itself by another issuer than the one that is set here. They must be equal to the last character, a slash at the end included.")
	}
	for _, one := range []string{m.Authorization, m.Token, m.Keys} {
		if one == "" {
			return Metadata{}, failed("discovery_invalid", "The provider's discovery document lacks its authorization endpoint, token endpoint or keys.")
		}
	}
	for _, one := range []string{m.Authorization, m.Token, m.Keys, m.UserInfo} {
		if one == "" {
			continue
		}
		if err := c.checkURL(one); err != nil {
			return Metadata{}, err
		}
	}
	if len(m.PKCE) > 0 && !slices.Contains(m.PKCE, "S256") {
		return Metadata{}, failed("no_pkce", "The provider does not take PKCE with S256.")
	}
	if len(m.Algorithms) > 0 && !slices.ContainsFunc(m.Algorithms, func(a string) bool { return slices.Contains(Algorithms(), a) }) {
		return Metadata{}, failed("no_algorithm", "The provider signs ID tokens with no algorithm that is accepted here; RS256 or ES256 is usual.")
	}
	return m, nil
}

// readMetadata reads a discovery document as every other reader would: a name stands in it once, and "Issuer" is not issuer, for which package
// json would take it.
func readMetadata(text []byte) (m Metadata, err error) {
	doc, err := strict.Object(text)
	if err != nil {
		return m, err
	}
	maps.DeleteFunc(doc, func(name string, _ any) bool {
		return strings.ContainsFunc(name, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '_' })
	})
	if text, err = json.Marshal(doc); err != nil {
		return m, err
	}
	return m, json.Unmarshal(text, &m)
}

func (c *Client) checkURL(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Fragment != "" {
		return failed("address_invalid", "The provider names an address that is none.")
	}
	if err := c.cfg.CheckURL(u); err != nil {
		return failed("address_refused", "The provider, or an address that it names, may not be called: "+err.Error())
	}
	return nil
}

// endpoint chooses how the client names itself. Never two ways in turn, as each try would spend the code.
func (m Metadata) endpoint(hasSecret bool) oauth2.Endpoint {
	e := oauth2.Endpoint{AuthURL: m.Authorization, TokenURL: m.Token, AuthStyle: oauth2.AuthStyleInHeader}
	if !hasSecret || len(m.TokenAuth) > 0 && !slices.Contains(m.TokenAuth, "client_secret_basic") {
		e.AuthStyle = oauth2.AuthStyleInParams
	}
	return e
}

// context carries the guarded client to the libraries.
func (c *Client) context(ctx context.Context) context.Context {
	return goidc.ClientContext(ctx, c.http)
}
