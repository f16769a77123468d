package client

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// Login is what a program gets that signed in. Neither token is ever shown again.
type Login struct {
	AccessToken  string `json:"access_token" doc:"A JSON web token, for Authorization: Bearer."`
	RefreshToken string `json:"refresh_token" doc:"Gets the next tokens, once."`
	TokenType    string `json:"token_type" doc:"Bearer."`
	ExpiresIn    int    `json:"expires_in" doc:"Seconds for which the access token is valid."`
	SessionID    string `json:"session_id"`
}

// Login signs a person in with a password. It needs no other token. Somebody who has a second factor is refused with "second_factor_required": they
// sign in with [Client.LoginWith].
func (c *Client) Login(ctx context.Context, email, password string) (Login, error) {
	return c.login(ctx, "login", map[string]string{"email": email, "password": password})
}

// LoginWith signs a person in with a password and a second factor: a code of an authenticator app, or a recovery code when totp is empty. It needs
// no other token.
func (c *Client) LoginWith(ctx context.Context, email, password, totp, recoveryCode string) (Login, error) {
	body := map[string]string{"email": email, "password": password, "totp": totp}
	if totp == "" {
		delete(body, "totp")
		body["recovery_code"] = recoveryCode
	}
	return c.login(ctx, "login", body)
}

// Refresh takes the next tokens of a session. It needs no other token. A refresh token works once: keep the new one before anything else is
// done, and never let two processes use one at the same time.
func (c *Client) Refresh(ctx context.Context, refreshToken string) (Login, error) {
	return c.login(ctx, "refresh", map[string]string{"refresh_token": refreshToken})
}

func (c *Client) login(ctx context.Context, route string, body map[string]string) (Login, error) {
	var out Login
	_, err := c.do(ctx, call{method: http.MethodPost, path: path("auth", route), body: body}, &out)
	return out, err
}

// ExchangeLoginCode takes the tokens of a person who has agreed, at the page /cli, that this program acts as them. The code works once, for a minute,
// and only with the verifier whose SHA-256 was the challenge of that page. It needs no other token.
func (c *Client) ExchangeLoginCode(ctx context.Context, code, verifier string) (Login, error) {
	return c.login(ctx, "exchange", map[string]string{"code": code, "verifier": verifier})
}

// RevokeLogin ends the session of a refresh token. It needs no other token.
func (c *Client) RevokeLogin(ctx context.Context, refreshToken string) error {
	_, err := c.do(ctx, call{method: http.MethodPost, path: path("auth", "revoke"), body: map[string]string{"refresh_token": refreshToken}}, nil)
	return err
}

// RotateSigningKeys lets the next key sign access tokens. When the keys are compromised, all are replaced and every access token ends.
func (c *Client) RotateSigningKeys(ctx context.Context, compromised bool) error {
	_, err := c.do(ctx, call{method: http.MethodPost, path: path("auth", "keys", "rotate"), body: map[string]bool{"compromised": compromised}}, nil)
	return err
}

// PublishedKeys returns the JWK Set of the keys that access tokens are signed with. It needs no token.
func (c *Client) PublishedKeys(ctx context.Context) (json.RawMessage, error) {
	var out json.RawMessage
	_, err := c.do(ctx, call{method: http.MethodGet, path: path("auth", "jwks.json")}, &out)
	return out, err
}

// JWTSubject is one line of an outside issuer's list.
type JWTSubject struct {
	Subject string `json:"subject"`
	UserID  string `json:"user_id"`
}

// JWTIssuer is an outside issuer whose tokens are accepted, without its shared secret.
type JWTIssuer struct {
	ID              string       `json:"id"`
	Name            string       `json:"name"`
	Active          bool         `json:"active"`
	Issuer          string       `json:"issuer,omitempty" doc:"What iss must be."`
	AnyIssuer       bool         `json:"any_issuer"`
	Audience        string       `json:"audience,omitempty" doc:"What must be among aud."`
	AnyAudience     bool         `json:"any_audience"`
	JWKSURL         string       `json:"jwks_url,omitempty"`
	HasSharedSecret bool         `json:"has_shared_secret"`
	Algorithms      []string     `json:"algorithms" nullable:"false"`
	SubjectClaim    string       `json:"subject_claim"`
	SubjectForm     string       `json:"subject_form"`
	SubjectIs       string       `json:"subject_is"`
	Subjects        []JWTSubject `json:"subjects" nullable:"false"`
	Scopes          []string     `json:"scopes" nullable:"false"`
	MaxLifeSeconds  int64        `json:"max_life_seconds"`
	CreatedAt       time.Time    `json:"created_at"`
	UpdatedAt       time.Time    `json:"updated_at"`
	// ETag names this state. It travels as a header, so that lists do not have it.
	ETag string `json:"-"`
}

// JWTIssuerPatch is an outside issuer to be, or what to change of one. Nil fields are left as they are.
type JWTIssuerPatch struct {
	Name           *string       `json:"name,omitempty"`
	Active         *bool         `json:"active,omitempty"`
	Issuer         *string       `json:"issuer,omitempty"`
	AnyIssuer      *bool         `json:"any_issuer,omitempty"`
	Audience       *string       `json:"audience,omitempty"`
	AnyAudience    *bool         `json:"any_audience,omitempty"`
	JWKSURL        *string       `json:"jwks_url,omitempty"`
	SharedSecret   *string       `json:"shared_secret,omitempty"`
	Algorithms     []string      `json:"algorithms,omitempty"`
	SubjectClaim   *string       `json:"subject_claim,omitempty"`
	SubjectForm    *string       `json:"subject_form,omitempty"`
	SubjectIs      *string       `json:"subject_is,omitempty"`
	Subjects       *[]JWTSubject `json:"subjects,omitempty"`
	Scopes         *[]string     `json:"scopes,omitempty"`
	MaxLifeSeconds *int64        `json:"max_life_seconds,omitempty"`
	// IfMatch is the ETag of the state that the change is meant for; "" changes whatever is there.
	IfMatch string `json:"-"`
}

type issuerResult struct {
	Issuer JWTIssuer `json:"issuer"`
}

// ListJWTIssuers returns the outside issuers whose tokens are accepted.
func (c *Client) ListJWTIssuers(ctx context.Context) ([]JWTIssuer, error) {
	var out struct {
		Issuers []JWTIssuer `json:"issuers"`
	}
	_, err := c.do(ctx, call{method: http.MethodGet, path: path("auth", "issuers")}, &out)
	return out.Issuers, err
}

// CreateJWTIssuer begins to accept the tokens of an outside issuer.
func (c *Client) CreateJWTIssuer(ctx context.Context, d JWTIssuerPatch) (JWTIssuer, error) {
	return c.issuer(ctx, call{method: http.MethodPost, path: path("auth", "issuers"), body: d})
}

func (c *Client) issuer(ctx context.Context, k call) (JWTIssuer, error) {
	var out issuerResult
	a, err := c.do(ctx, k, &out)
	out.Issuer.ETag = a.etag
	return out.Issuer, err
}

// GetJWTIssuer returns an outside issuer.
func (c *Client) GetJWTIssuer(ctx context.Context, id string) (JWTIssuer, error) {
	return c.issuer(ctx, call{method: http.MethodGet, path: path("auth", "issuers", id)})
}

// UpdateJWTIssuer changes an outside issuer.
func (c *Client) UpdateJWTIssuer(ctx context.Context, id string, p JWTIssuerPatch) (JWTIssuer, error) {
	return c.issuer(ctx, call{method: http.MethodPatch, path: path("auth", "issuers", id), body: p, ifMatch: p.IfMatch})
}

// DeleteJWTIssuer ends the acceptance of an outside issuer's tokens.
func (c *Client) DeleteJWTIssuer(ctx context.Context, id string) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: path("auth", "issuers", id)}, nil)
	return err
}
