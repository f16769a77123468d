package client

import (
	"context"
	"net/http"
	"time"
)

// Grantee is one to whom something is granted.
type Grantee struct {
	Kind string `json:"kind" doc:"person, group, train or service_account."`
	ID   string `json:"id"`
	Name string `json:"name,omitempty" doc:"A person's e-mail address, a group's or service account's name, a train's slug."`
}

// Grant says what one grantee may do.
type Grant struct {
	Grantee   Grantee   `json:"grantee"`
	Use       bool      `json:"use"`
	Reveal    bool      `json:"reveal"`
	Manage    bool      `json:"manage"`
	Owner     bool      `json:"owner"`
	GrantedBy string    `json:"granted_by" doc:"The id of who granted it."`
	GrantedAt time.Time `json:"granted_at"`
}

// Grants are what stands on a credential, a client or a service.
type Grants struct {
	Grants    []Grant           `json:"grants" nullable:"false"`
	Inherited []InheritedGrants `json:"inherited,omitempty" doc:"What a credential has from its client and its service."`
	// ETag names this state. It travels as a header.
	ETag string `json:"-"`
}

// InheritedGrants are what stands on a client or a service.
type InheritedGrants struct {
	Scope  string  `json:"scope" doc:"client or service."`
	ID     string  `json:"id"`
	Grants []Grant `json:"grants" nullable:"false"`
}

// GranteeRef names a grantee by id; a person also by e-mail address, a group or a service account by name, a train by slug.
type GranteeRef struct {
	Kind string `json:"kind"`
	ID   string `json:"id"`
}

// GrantDraft is a grant to be made.
type GrantDraft struct {
	Grantee GranteeRef `json:"grantee"`
	Use     bool       `json:"use,omitempty"`
	Reveal  bool       `json:"reveal,omitempty"`
	Manage  bool       `json:"manage,omitempty"`
	Owner   bool       `json:"owner,omitempty"`
}

// GrantsDraft is all that shall stand; what is left out is taken back.
type GrantsDraft struct {
	Grants []GrantDraft `json:"grants"`
	// IfMatch is the ETag of the state that the change is meant for; "" changes whatever is there.
	IfMatch string `json:"-"`
}

func (c *Client) grants(ctx context.Context, k call) (Grants, error) {
	var out Grants
	a, err := c.do(ctx, k, &out)
	out.ETag = a.etag
	return out, err
}

func (c *Client) setGrants(ctx context.Context, on string, d GrantsDraft) (Grants, error) {
	if d.Grants == nil {
		d.Grants = []GrantDraft{}
	}
	return c.grants(ctx, call{method: http.MethodPut, path: on, body: d, ifMatch: d.IfMatch})
}

// CredentialGrants returns who may use, reveal and manage a credential.
func (c *Client) CredentialGrants(ctx context.Context, id string) (Grants, error) {
	return c.grants(ctx, call{method: http.MethodGet, path: path("credentials", id, "grants")})
}

// SetCredentialGrants sets who may use, reveal and manage a credential.
func (c *Client) SetCredentialGrants(ctx context.Context, id string, d GrantsDraft) (Grants, error) {
	return c.setGrants(ctx, path("credentials", id, "grants"), d)
}

// ClientGrants returns who may use, reveal and manage the credentials of a client.
func (c *Client) ClientGrants(ctx context.Context, id string) (Grants, error) {
	return c.grants(ctx, call{method: http.MethodGet, path: path("clients", id, "grants")})
}

// SetClientGrants sets who may use, reveal and manage the credentials of a client.
func (c *Client) SetClientGrants(ctx context.Context, id string, d GrantsDraft) (Grants, error) {
	return c.setGrants(ctx, path("clients", id, "grants"), d)
}

// ServiceGrants returns who may use, reveal and manage the credentials of a service.
func (c *Client) ServiceGrants(ctx context.Context, id string) (Grants, error) {
	return c.grants(ctx, call{method: http.MethodGet, path: path("services", id, "grants")})
}

// SetServiceGrants sets who may use, reveal and manage the credentials of a service.
func (c *Client) SetServiceGrants(ctx context.Context, id string, d GrantsDraft) (Grants, error) {
	return c.setGrants(ctx, path("services", id, "grants"), d)
}
