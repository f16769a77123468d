package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Token is the token of a person or of a service account, without the token itself.
type Token struct {
	ID               string     `json:"id"`
	UserID           string     `json:"user_id,omitempty" doc:"The person whose token it is."`
	ServiceAccountID string     `json:"service_account_id,omitempty" doc:"The service account whose token it is, when it is no person's."`
	Name             string     `json:"name"`
	Preview          string     `json:"token_preview"`
	Scopes           []string   `json:"scopes" nullable:"false"`
	Status           string     `json:"status" doc:"active, expired or revoked."`
	CreatedAt        time.Time  `json:"created_at"`
	LastUsedAt       *time.Time `json:"last_used_at,omitempty"`
	ExpiresAt        *time.Time `json:"expires_at,omitempty"`
	RevokedAt        *time.Time `json:"revoked_at,omitempty"`
}

// IssuedToken is a personal access token at the one moment at which it is shown.
type IssuedToken struct {
	Token
	// Secret is the token. It is never shown again.
	Secret string `json:"token"`
}

// TokenDraft is a token to be issued. Without scopes it has all that its owner's role and the issuing token have.
type TokenDraft struct {
	UserID           string     `json:"user_id,omitempty"`            // both "": the caller's own
	ServiceAccountID string     `json:"service_account_id,omitempty"` // in place of UserID
	Name             string     `json:"name"`
	Scopes           []string   `json:"scopes,omitempty"`
	ExpiresAt        *time.Time `json:"expires_at,omitempty"`
}

// IssueToken issues a personal access token. The token is in the answer and nowhere else.
func (c *Client) IssueToken(ctx context.Context, d TokenDraft) (IssuedToken, error) {
	var out struct {
		Token IssuedToken `json:"token"`
	}
	_, err := c.do(ctx, call{method: http.MethodPost, path: path("tokens"), body: d}, &out)
	return out.Token, err
}

// TokenFilter selects personal access tokens. Zero fields do not select.
type TokenFilter struct {
	UserID           string // both "": the caller's own
	ServiceAccountID string // in place of UserID
	Status           string // active, expired or revoked
	Limit            int    // 0 means 100; at most 1000
	Cursor           string
	Skip             int
}

// TokenPage is one page of a list. NextCursor is "" on the last.
type TokenPage struct {
	Tokens     []Token `json:"tokens" nullable:"false"`
	NextCursor string  `json:"next_cursor,omitempty"`
}

// ListTokens returns one page of personal access tokens, revoked and expired ones included, the newest first.
func (c *Client) ListTokens(ctx context.Context, f TokenFilter) (TokenPage, error) {
	q := url.Values{}
	setText(q, "user_id", f.UserID)
	setText(q, "service_account_id", f.ServiceAccountID)
	setText(q, "status", f.Status)
	setText(q, "cursor", f.Cursor)
	setInt(q, "limit", f.Limit)
	setInt(q, "skip", f.Skip)
	var out TokenPage
	_, err := c.do(ctx, call{method: http.MethodGet, path: path("tokens"), query: q}, &out)
	return out, err
}

// RevokeToken revokes a personal access token.
func (c *Client) RevokeToken(ctx context.Context, id string) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: path("tokens", id)}, nil)
	return err
}

// SetupRequest makes the first administrator.
type SetupRequest struct {
	Token    string `json:"token"`
	Email    string `json:"email"`
	Name     string `json:"name"`
	Password string `json:"password"`
}

// SetupResult is the first administrator with a personal access token that is shown once.
type SetupResult struct {
	User        User   `json:"user"`
	AccessToken string `json:"access_token"`
}

// Setup makes the first administrator with the one-time token of the set-up link. It needs no other token.
func (c *Client) Setup(ctx context.Context, r SetupRequest) (SetupResult, error) {
	var out SetupResult
	_, err := c.do(ctx, call{method: http.MethodPost, path: path("setup"), body: r}, &out)
	return out, err
}

// Identity is who the server takes the caller for.
type Identity struct {
	Kind             string   `json:"kind"`
	ID               string   `json:"id"`
	Name             string   `json:"name"`
	UserID           string   `json:"user_id,omitempty"`
	ServiceAccountID string   `json:"service_account_id,omitempty"`
	Role             string   `json:"role,omitempty"`
	Scopes           []string `json:"scopes" nullable:"false"`
	// SessionID is the session that asks, "" for a token.
	SessionID string `json:"session_id,omitempty"`
	// ExpiresAt is when the session or the token ends; nil for never.
	ExpiresAt *time.Time `json:"expires_at,omitempty" doc:"When the session or the token ends by itself; absent for never."`
}

// WhoAmI returns who the server takes the caller for.
func (c *Client) WhoAmI(ctx context.Context) (Identity, error) {
	var out struct {
		Caller Identity `json:"caller"`
	}
	_, err := c.do(ctx, call{method: http.MethodGet, path: path("whoami")}, &out)
	return out.Caller, err
}

// Version returns the server's version.
func (c *Client) Version(ctx context.Context) (string, error) {
	var out struct {
		Version string `json:"version"`
	}
	_, err := c.do(ctx, call{method: http.MethodGet, path: path("version")}, &out)
	return out.Version, err
}
