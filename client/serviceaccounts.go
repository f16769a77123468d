package client

import (
	"context"
	"net/http"
	"time"
)

// ServiceAccount is a caller that is no person. Its tokens are issued, listed and revoked as people's are.
type ServiceAccount struct {
	ID          string    `json:"id"`
	Name        string    `json:"name"`
	Description string    `json:"description,omitempty"`
	Role        string    `json:"role"`
	Active      bool      `json:"active"`
	CreatedBy   string    `json:"created_by" doc:"The id of who made it."`
	CreatedAt   time.Time `json:"created_at"`
	UpdatedAt   time.Time `json:"updated_at"`
	// ETag names this state. It travels as a header, so that lists do not have it.
	ETag string `json:"-"`
}

// ServiceAccountDraft is a service account to be made.
type ServiceAccountDraft struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	Role        string `json:"role,omitempty"` // "": member
}

// ServiceAccountPatch changes a service account: nil leaves a field as it is.
type ServiceAccountPatch struct {
	Name        *string `json:"name,omitempty"`
	Description *string `json:"description,omitempty"`
	Role        *string `json:"role,omitempty"`
	Active      *bool   `json:"active,omitempty"`
	// IfMatch is the ETag of the state that the change is meant for; "" changes whatever is there.
	IfMatch string `json:"-"`
}

// ServiceAccountPage is one page of a list. NextCursor is "" on the last.
type ServiceAccountPage struct {
	ServiceAccounts []ServiceAccount `json:"service_accounts" nullable:"false"`
	NextCursor      string           `json:"next_cursor,omitempty"`
}

func (c *Client) serviceAccount(ctx context.Context, k call) (ServiceAccount, error) {
	var out struct {
		ServiceAccount ServiceAccount `json:"service_account"`
	}
	a, err := c.do(ctx, k, &out)
	out.ServiceAccount.ETag = a.etag
	return out.ServiceAccount, err
}

// CreateServiceAccount makes a service account.
func (c *Client) CreateServiceAccount(ctx context.Context, d ServiceAccountDraft) (ServiceAccount, error) {
	return c.serviceAccount(ctx, call{method: http.MethodPost, path: path("service-accounts"), body: d})
}

// GetServiceAccount returns one service account.
func (c *Client) GetServiceAccount(ctx context.Context, id string) (ServiceAccount, error) {
	return c.serviceAccount(ctx, call{method: http.MethodGet, path: path("service-accounts", id)})
}

// ListServiceAccounts returns one page of service accounts, the oldest first.
func (c *Client) ListServiceAccounts(ctx context.Context, f ListFilter) (ServiceAccountPage, error) {
	var out ServiceAccountPage
	_, err := c.do(ctx, call{method: http.MethodGet, path: path("service-accounts"), query: f.query()}, &out)
	return out, err
}

// UpdateServiceAccount changes a service account. A deactivated one's tokens work nowhere, within a second.
func (c *Client) UpdateServiceAccount(ctx context.Context, id string, p ServiceAccountPatch) (ServiceAccount, error) {
	return c.serviceAccount(ctx, call{method: http.MethodPatch, path: path("service-accounts", id), body: p, ifMatch: p.IfMatch})
}
