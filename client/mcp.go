package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// MCPServer is an MCP server that people can be connected to.
type MCPServer struct {
	ID        string    `json:"id"`
	Slug      string    `json:"slug" doc:"What programs name it by: mcpServerId."`
	Name      string    `json:"name"`
	URL       string    `json:"url" doc:"Its Streamable HTTP endpoint."`
	Auth      string    `json:"auth" doc:"oauth: it wants the caller's own access token. none: it wants nothing."`
	Active    bool      `json:"active"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
	// ETag names this state. It travels as a header, so that lists do not have it.
	ETag string `json:"-"`
}

// MCPServerDraft is an MCP server to be registered.
type MCPServerDraft struct {
	Slug   string `json:"slug"`
	Name   string `json:"name,omitempty"`
	URL    string `json:"url"`
	Auth   string `json:"auth,omitempty"`
	Active *bool  `json:"active,omitempty"`
}

// MCPServerPatch changes an MCP server: nil leaves a field as it is.
type MCPServerPatch struct {
	Name   *string `json:"name,omitempty"`
	URL    *string `json:"url,omitempty"`
	Auth   *string `json:"auth,omitempty"`
	Active *bool   `json:"active,omitempty"`
	// IfMatch is the ETag of the state that the change is meant for; "" changes whatever is there.
	IfMatch string `json:"-"`
}

// MCPConnection is somebody's connection to an MCP server.
type MCPConnection struct {
	ID           string    `json:"id"`
	Subject      string    `json:"subject" doc:"Whose it is: the id of a person or service account, or that of an outside issuer with the subject behind a #."`
	Server       string    `json:"server" doc:"The server's slug. It need not be registered."`
	CredentialID string    `json:"credential_id,omitempty" doc:"Where its tokens lie; none for a connection that was stopped and then deleted."`
	Status       string    `json:"status" doc:"As a credential's. What is disabled or compromised stays so, whatever is deposited."`
	Health       string    `json:"health"`
	CreatedAt    time.Time `json:"created_at"`
	UpdatedAt    time.Time `json:"updated_at"`
}

// MCPConnectionPage is one page of a list. NextCursor is "" on the last.
type MCPConnectionPage struct {
	Connections []MCPConnection `json:"connections" nullable:"false"`
	NextCursor  string          `json:"next_cursor,omitempty"`
}

func (c *Client) mcpServer(ctx context.Context, k call) (MCPServer, error) {
	var out struct {
		Server MCPServer `json:"server"`
	}
	a, err := c.do(ctx, k, &out)
	out.Server.ETag = a.etag
	return out.Server, err
}

// ListMCPServers returns the MCP servers, the oldest first.
func (c *Client) ListMCPServers(ctx context.Context) ([]MCPServer, error) {
	var out struct {
		Servers []MCPServer `json:"servers"`
	}
	_, err := c.do(ctx, call{method: http.MethodGet, path: path("mcp", "servers")}, &out)
	return out.Servers, err
}

// CreateMCPServer registers an MCP server.
func (c *Client) CreateMCPServer(ctx context.Context, d MCPServerDraft) (MCPServer, error) {
	return c.mcpServer(ctx, call{method: http.MethodPost, path: path("mcp", "servers"), body: d})
}

// GetMCPServer returns an MCP server.
func (c *Client) GetMCPServer(ctx context.Context, id string) (MCPServer, error) {
	return c.mcpServer(ctx, call{method: http.MethodGet, path: path("mcp", "servers", id)})
}

// UpdateMCPServer changes an MCP server.
func (c *Client) UpdateMCPServer(ctx context.Context, id string, p MCPServerPatch) (MCPServer, error) {
	return c.mcpServer(ctx, call{method: http.MethodPatch, path: path("mcp", "servers", id), body: p, ifMatch: p.IfMatch})
}

// DeleteMCPServer deletes an MCP server. Connections to it stay.
func (c *Client) DeleteMCPServer(ctx context.Context, id string) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: path("mcp", "servers", id)}, nil)
	return err
}

// ListMCPConnections returns one's own connections to MCP servers, or everybody's for who may see them.
func (c *Client) ListMCPConnections(ctx context.Context, f PageFilter) (MCPConnectionPage, error) {
	q := url.Values{}
	if f.Limit > 0 {
		q.Set("limit", strconv.Itoa(f.Limit))
	}
	if f.Cursor != "" {
		q.Set("cursor", f.Cursor)
	}
	var out MCPConnectionPage
	_, err := c.do(ctx, call{method: http.MethodGet, path: path("mcp", "connections"), query: q}, &out)
	return out, err
}

// DeleteMCPConnection deletes a connection to an MCP server with its tokens.
func (c *Client) DeleteMCPConnection(ctx context.Context, id string) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: path("mcp", "connections", id)}, nil)
	return err
}
