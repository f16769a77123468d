package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Customer is what the API calls a client: the customer whose credentials are kept. [Client] is the one who asks a server.
type Customer struct {
	ID          string    `json:"id"`
	Name        string    `json:"name"`
	Description string    `json:"description,omitempty"`
	Contact     string    `json:"contact,omitempty" doc:"Whom to ask there."`
	CreatedAt   time.Time `json:"created_at"`
	UpdatedAt   time.Time `json:"updated_at"`
	// ETag names this state. It travels as a header, so that lists do not have it.
	ETag string `json:"-"`
}

// CustomerDraft is a client to be stored.
type CustomerDraft struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	Contact     string `json:"contact,omitempty"`
}

// CustomerPatch changes a client: nil leaves a field as it is, "" empties it.
type CustomerPatch struct {
	Name        *string `json:"name,omitempty"`
	Description *string `json:"description,omitempty"`
	Contact     *string `json:"contact,omitempty"`
	// IfMatch is the ETag of the state that the change is meant for; "" changes whatever is there.
	IfMatch string `json:"-"`
}

// CustomerPage is one page of a list. NextCursor is "" on the last.
type CustomerPage struct {
	Clients    []Customer `json:"clients" nullable:"false"`
	NextCursor string     `json:"next_cursor,omitempty"`
}

// Service is an application: a client's, or the house's own.
type Service struct {
	ID          string    `json:"id"`
	Name        string    `json:"name"`
	Description string    `json:"description,omitempty"`
	ClientID    string    `json:"client_id,omitempty" doc:"Whose it is; left out for whoever may not see that client."`
	URL         string    `json:"url,omitempty"`
	CreatedAt   time.Time `json:"created_at"`
	UpdatedAt   time.Time `json:"updated_at"`
	// ETag names this state. It travels as a header, so that lists do not have it.
	ETag string `json:"-"`
}

// ServiceDraft is a service to be stored.
type ServiceDraft struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	ClientID    string `json:"client_id,omitempty"`
	URL         string `json:"url,omitempty"`
}

// ServicePatch changes a service: nil leaves a field as it is, "" empties it.
type ServicePatch struct {
	Name        *string `json:"name,omitempty"`
	Description *string `json:"description,omitempty"`
	ClientID    *string `json:"client_id,omitempty"`
	URL         *string `json:"url,omitempty"`
	// IfMatch is the ETag of the state that the change is meant for; "" changes whatever is there.
	IfMatch string `json:"-"`
}

// ServicePage is one page of a list. NextCursor is "" on the last.
type ServicePage struct {
	Services   []Service `json:"services" nullable:"false"`
	NextCursor string    `json:"next_cursor,omitempty"`
}

// Infrastructure is a host, a network or a device: a client's, or the house's own.
type Infrastructure struct {
	ID          string    `json:"id"`
	Name        string    `json:"name"`
	Kind        string    `json:"kind" doc:"host, network or device."`
	Description string    `json:"description,omitempty"`
	ClientID    string    `json:"client_id,omitempty" doc:"Whose it is; left out for whoever may not see that client."`
	Address     string    `json:"address,omitempty" doc:"Its name in the network, its address or its range."`
	CreatedAt   time.Time `json:"created_at"`
	UpdatedAt   time.Time `json:"updated_at"`
	// ETag names this state. It travels as a header, so that lists do not have it.
	ETag string `json:"-"`
}

// InfrastructureDraft is infrastructure to be stored.
type InfrastructureDraft struct {
	Name        string `json:"name"`
	Kind        string `json:"kind,omitempty"`
	Description string `json:"description,omitempty"`
	ClientID    string `json:"client_id,omitempty"`
	Address     string `json:"address,omitempty"`
}

// InfrastructurePatch changes infrastructure: nil leaves a field as it is, "" empties it.
type InfrastructurePatch struct {
	Name        *string `json:"name,omitempty"`
	Kind        *string `json:"kind,omitempty"`
	Description *string `json:"description,omitempty"`
	ClientID    *string `json:"client_id,omitempty"`
	Address     *string `json:"address,omitempty"`
	// IfMatch is the ETag of the state that the change is meant for; "" changes whatever is there.
	IfMatch string `json:"-"`
}

// InfrastructurePage is one page of a list. NextCursor is "" on the last.
type InfrastructurePage struct {
	Infrastructure []Infrastructure `json:"infrastructure" nullable:"false"`
	NextCursor     string           `json:"next_cursor,omitempty"`
}

// ServiceFilter selects services. Zero fields do not select.
type ServiceFilter struct {
	ClientID string // of this client
	Q        string // words that must occur in the text
	Limit    int    // 0 means 100; at most 1000
	Cursor   string
	Skip     int
}

func (f ServiceFilter) query() url.Values {
	q := ListFilter{Q: f.Q, Limit: f.Limit, Cursor: f.Cursor, Skip: f.Skip}.query()
	setText(q, "client_id", f.ClientID)
	return q
}

// InfrastructureFilter selects infrastructure. Zero fields do not select.
type InfrastructureFilter struct {
	ClientID string // of this client
	Kind     string // host, network or device
	Q        string // words that must occur in the text
	Limit    int    // 0 means 100; at most 1000
	Cursor   string
	Skip     int
}

func (f InfrastructureFilter) query() url.Values {
	q := ListFilter{Q: f.Q, Limit: f.Limit, Cursor: f.Cursor, Skip: f.Skip}.query()
	setText(q, "client_id", f.ClientID)
	setText(q, "kind", f.Kind)
	return q
}

func (c *Client) customer(ctx context.Context, k call) (Customer, error) {
	var out struct {
		Client Customer `json:"client"`
	}
	a, err := c.do(ctx, k, &out)
	out.Client.ETag = a.etag
	return out.Client, err
}

// CreateCustomer stores a client.
func (c *Client) CreateCustomer(ctx context.Context, d CustomerDraft) (Customer, error) {
	return c.customer(ctx, call{method: http.MethodPost, path: path("clients"), body: d})
}

// GetCustomer returns one client.
func (c *Client) GetCustomer(ctx context.Context, id string) (Customer, error) {
	return c.customer(ctx, call{method: http.MethodGet, path: path("clients", id)})
}

// ListCustomers returns one page of clients, the oldest first.
func (c *Client) ListCustomers(ctx context.Context, f ListFilter) (CustomerPage, error) {
	var out CustomerPage
	_, err := c.do(ctx, call{method: http.MethodGet, path: path("clients"), query: f.query()}, &out)
	return out, err
}

// UpdateCustomer changes a client.
func (c *Client) UpdateCustomer(ctx context.Context, id string, p CustomerPatch) (Customer, error) {
	return c.customer(ctx, call{method: http.MethodPatch, path: path("clients", id), body: p, ifMatch: p.IfMatch})
}

// DeleteCustomer deletes a client that nothing belongs to, with what was granted on it.
func (c *Client) DeleteCustomer(ctx context.Context, id string) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: path("clients", id)}, nil)
	return err
}

func (c *Client) service(ctx context.Context, k call) (Service, error) {
	var out struct {
		Service Service `json:"service"`
	}
	a, err := c.do(ctx, k, &out)
	out.Service.ETag = a.etag
	return out.Service, err
}

// CreateService stores a service.
func (c *Client) CreateService(ctx context.Context, d ServiceDraft) (Service, error) {
	return c.service(ctx, call{method: http.MethodPost, path: path("services"), body: d})
}

// GetService returns one service.
func (c *Client) GetService(ctx context.Context, id string) (Service, error) {
	return c.service(ctx, call{method: http.MethodGet, path: path("services", id)})
}

// ListServices returns one page of services, the oldest first.
func (c *Client) ListServices(ctx context.Context, f ServiceFilter) (ServicePage, error) {
	var out ServicePage
	_, err := c.do(ctx, call{method: http.MethodGet, path: path("services"), query: f.query()}, &out)
	return out, err
}

// UpdateService changes a service.
func (c *Client) UpdateService(ctx context.Context, id string, p ServicePatch) (Service, error) {
	return c.service(ctx, call{method: http.MethodPatch, path: path("services", id), body: p, ifMatch: p.IfMatch})
}

// DeleteService deletes a service that nothing belongs to, with what was granted on it.
func (c *Client) DeleteService(ctx context.Context, id string) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: path("services", id)}, nil)
	return err
}

func (c *Client) infrastructure(ctx context.Context, k call) (Infrastructure, error) {
	var out struct {
		Infrastructure Infrastructure `json:"infrastructure"`
	}
	a, err := c.do(ctx, k, &out)
	out.Infrastructure.ETag = a.etag
	return out.Infrastructure, err
}

// CreateInfrastructure stores infrastructure.
func (c *Client) CreateInfrastructure(ctx context.Context, d InfrastructureDraft) (Infrastructure, error) {
	return c.infrastructure(ctx, call{method: http.MethodPost, path: path("infrastructure"), body: d})
}

// GetInfrastructure returns one piece of infrastructure.
func (c *Client) GetInfrastructure(ctx context.Context, id string) (Infrastructure, error) {
	return c.infrastructure(ctx, call{method: http.MethodGet, path: path("infrastructure", id)})
}

// ListInfrastructure returns one page of infrastructure, the oldest first.
func (c *Client) ListInfrastructure(ctx context.Context, f InfrastructureFilter) (InfrastructurePage, error) {
	var out InfrastructurePage
	_, err := c.do(ctx, call{method: http.MethodGet, path: path("infrastructure"), query: f.query()}, &out)
	return out, err
}

// UpdateInfrastructure changes infrastructure.
func (c *Client) UpdateInfrastructure(ctx context.Context, id string, p InfrastructurePatch) (Infrastructure, error) {
	return c.infrastructure(ctx, call{method: http.MethodPatch, path: path("infrastructure", id), body: p, ifMatch: p.IfMatch})
}

// DeleteInfrastructure deletes infrastructure that nothing belongs to.
func (c *Client) DeleteInfrastructure(ctx context.Context, id string) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: path("infrastructure", id)}, nil)
	return err
}
