package provider

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/url"

	"signalbox.dev/signalbox/internal/secret"
)

// AuthorizeRequest is what the address of a consent page is made of.
type AuthorizeRequest struct {
	ClientID        string
	RedirectURL     string // "" is the provider's own
	State, Verifier secret.Value
	Scopes          []string // nil: the provider's
	Resource        string   // RFC 8707; "" for none
}

var (
	errNoPage = errors.New("the provider has no consent page; use another way to log in")
	errAsk    = errors.New("the consent page needs a client id, a redirect address, a state and a PKCE verifier")
)

// AuthorizeURL is the address at which a person consents. It always asks with PKCE (S256), and it holds the state: whoever sees it can take part
// in this login, so it goes to that person's browser alone.
func AuthorizeURL(p Provider, r AuthorizeRequest) (string, error) {
	u, err := url.Parse(p.AuthorizeURL)
	if err != nil || p.AuthorizeURL == "" {
		return "", errNoPage
	}
	if r.RedirectURL == "" {
		r.RedirectURL = p.RedirectURL
	}
	if r.ClientID == "" || r.RedirectURL == "" || r.State.IsZero() || r.Verifier.IsZero() {
		return "", errAsk
	}
	q := u.Query()
	for name, value := range p.AuthorizeParams {
		q.Set(name, value)
	}
	scopes := r.Scopes
	if scopes == nil {
		scopes = p.Scopes
	}
	if len(scopes) > 0 {
		name := p.ScopeParam
		if name == "" {
			name = "scope"
		}
		q.Set(name, p.joined(scopes))
	}
	if r.Resource != "" {
		q.Set("resource", r.Resource)
	}
	q.Set("response_type", "code")
	q.Set("client_id", r.ClientID)
	q.Set("redirect_uri", r.RedirectURL)
	q.Set("state", r.State.Reveal())
	q.Set("code_challenge", Challenge(r.Verifier))
	q.Set("code_challenge_method", "S256")
	u.RawQuery = q.Encode()
	return u.String(), nil
}

// NewVerifier returns a PKCE verifier with 256 bits of chance (RFC 7636, section 4.1). It does for a state as well.
func NewVerifier() secret.Value {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the process first
	return secret.FromString(base64.RawURLEncoding.EncodeToString(b))
}

// Challenge is the S256 challenge of a verifier.
func Challenge(verifier secret.Value) string {
	sum := sha256.Sum256(verifier.Bytes())
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
