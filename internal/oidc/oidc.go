// Package oidc speaks with OpenID providers for single sign-on: it finds out what a provider is, makes the address at which somebody signs
// in, and turns the code that they come back with into what the provider says of them.
//
// Promise: [Client.Exchange] returns claims only of an ID token that the provider's own keys signed with an asymmetric algorithm, for this
// client, from this issuer, with the nonce of this sign-in, and that is not expired. Everything is asked through the given, guarded client: no
// redirect is followed, no answer over a megabyte is read, and a provider that fails is not asked about itself again for ten seconds.
//
// Limits: authorization code flow with PKCE (S256) and answers in the query, nothing else; no encrypted tokens, no logout at the provider. A
// key that a provider has withdrawn is trusted for an hour at most.
//
// Invariants: an error never holds the words of a provider, a code, a token, a secret or an address; nothing is kept of a person.
package oidc

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"signalbox.dev/signalbox/internal/outbound"
	"signalbox.dev/signalbox/internal/secret"
)

const (
	// maxAnswer bounds each answer of a provider.
	maxAnswer = 1 << 20
	// knownFor is how long what a provider says of itself is believed, failedFor how long a failure to find out is repeated.
	knownFor  = time.Hour
	failedFor = 10 * time.Second
	// knownMost bounds the providers that are remembered.
	knownMost = 100
)

// Algorithms are those that an ID token may be signed with: asymmetric ones, so that what verifies a token cannot make one.
func Algorithms() []string {
	return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
}

// Config is what a [Client] needs.
type Config struct {
	// HTTP makes every call. It must be guarded and follow no redirect.
	HTTP *http.Client
	// CheckURL refuses addresses that may not be called.
	CheckURL func(*url.URL) error
	// Clock tells the time; nil means time.Now.
	Clock func() time.Time
}

// Client asks providers. It is safe for concurrent use.
type Client struct {
	cfg  Config
	http *http.Client

	mu    sync.Mutex
	known map[string]*entry // by issuer
}

// New returns a client that has asked nobody yet.
func New(cfg Config) (*Client, error) {
	if cfg.HTTP == nil || cfg.CheckURL == nil {
		return nil, errors.New("oidc: a guarded client and a check of addresses are needed")
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	bounded := *cfg.HTTP
	bounded.Transport = capped{cfg.HTTP.Transport}
	return &Client{cfg: cfg, http: &bounded, known: map[string]*entry{}}, nil
}

// Registration is how a provider knows this Signalbox.
type Registration struct {
	Issuer, ClientID string
	Secret           secret.Value // zero for a public client
	Scopes           []string     // besides openid
	RedirectURI      string
}

// Failure is why a sign-in or a look at a provider did not work, in words of ours.
type Failure struct {
	// Code is stable, for logs and the record.
	Code string
	// Away says that the provider did not answer as it should, rather than that it said something wrong.
	Away bool
	text string
}

// Error is a sentence that may be shown.
func (f *Failure) Error() string { return f.text }

func failed(code, text string) error { return &Failure{Code: code, text: text} }

func away(what string, err error) error {
	return &Failure{Code: "unreachable", Away: true, text: what + ": " + outbound.Clean(err).Error() + "."}
}

// capped refuses to read more than maxAnswer of an answer.
type capped struct{ next http.RoundTripper }

// RoundTrip makes one exchange.
func (c capped) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := c.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if resp.ContentLength > maxAnswer {
		_ = resp.Body.Close()
		return nil, outbound.ErrTooLarge
	}
	resp.Body = &cappedBody{ReadCloser: resp.Body, left: maxAnswer}
	return resp, nil
}

type cappedBody struct {
	io.ReadCloser
	left int64
}

// Read fails when there is more than may be read.
func (b *cappedBody) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, outbound.ErrTooLarge
	}
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, outbound.ErrTooLarge
	}
	return n, err
}

// get reads an answer that must be JSON with status 200.
func (c *Client) get(ctx context.Context, address, what string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return nil, failed("address_invalid", what+" has no usable address.")
	}
	req.Header.Set("Accept", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, away(what, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 == 3 {
		return nil, failed("redirect", what+" answers with a redirect, which is not followed. Use the provider's final address.")
	}
	if resp.StatusCode != http.StatusOK {
		return nil, &Failure{Code: "unreachable", Away: true, text: what + " answers with an HTTP error. Check the issuer's address."}
	}
	b, err := outbound.ReadCapped(resp, maxAnswer)
	if err != nil {
		return nil, away(what, err)
	}
	return b, nil
}
