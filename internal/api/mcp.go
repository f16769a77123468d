package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/mcp"
)

// mcpAuth is what an MCP server wants to see.
type mcpAuth string

// Schema lists the ways.
func (mcpAuth) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, a := range mcp.Auths() {
		s.Enum = append(s.Enum, string(a))
	}
	return s
}

type mcpDraft struct {
	Slug   string  `json:"slug" minLength:"1" maxLength:"255" doc:"What programs name it by: mcpServerId. It cannot be changed."`
	Name   string  `json:"name,omitempty" maxLength:"200" doc:"The slug when it is left out."`
	URL    string  `json:"url" minLength:"1" maxLength:"2048" doc:"Its Streamable HTTP endpoint."`
	Auth   mcpAuth `json:"auth,omitempty" doc:"oauth: the caller's own access token, the default. none: nothing."`
	Active *bool   `json:"active,omitempty"`
}

type mcpPatch struct {
	Name   *string  `json:"name,omitempty" maxLength:"200"`
	URL    *string  `json:"url,omitempty" minLength:"1" maxLength:"2048"`
	Auth   *mcpAuth `json:"auth,omitempty"`
	Active *bool    `json:"active,omitempty" doc:"Nothing is lent for a server that is not."`
}

type mcpAnswer struct {
	ETag     string `header:"ETag" doc:"Names this state, for If-Match."`
	Location string `header:"Location" hidden:"true"`
	Body     struct {
		Server client.MCPServer `json:"server"`
	}
}

func shownMCP(s mcp.Server) client.MCPServer {
	return client.MCPServer{ID: s.ID, Slug: s.Slug, Name: s.Name, URL: s.URL, Auth: string(s.Auth), Active: s.Active, CreatedAt: s.CreatedAt, UpdatedAt: s.UpdatedAt}
}

func mcpOut(s mcp.Server, err error) (*mcpAnswer, error) {
	if err != nil {
		return nil, err
	}
	out := &mcpAnswer{ETag: s.ETag()}
	out.Body.Server = shownMCP(s)
	return out, nil
}

// addMCP registers what is about MCP servers and connections to them. Deposits have a door of their own.
func (s *service) addMCP() {
	const tag, all, connections = "MCP servers", "/api/mcp/servers", "/api/mcp/connections"
	read, write, connect := string(identity.MCPRead), string(identity.MCPWrite), string(identity.MCPConnect)
	add(s, route{method: http.MethodGet, path: all, id: "list-mcp-servers", summary: "List MCP servers", tag: tag, access: read}, s.listMCP)
	add(s, route{method: http.MethodPost, path: all, id: "create-mcp-server", summary: "Register an MCP server", tag: tag, access: write, status: http.StatusCreated,
		description: "Its address must be one that Signalbox may call. What was deposited for the slug before is for this server from then on."}, s.createMCP)
	add(s, route{method: http.MethodGet, path: all + "/{id}", id: "get-mcp-server", summary: "Read an MCP server", tag: tag, access: read}, s.getMCP)
	add(s, route{method: http.MethodPatch, path: all + "/{id}", id: "patch-mcp-server", summary: "Change an MCP server", tag: tag, access: write}, s.patchMCP)
	add(s, route{method: http.MethodDelete, path: all + "/{id}", id: "delete-mcp-server", summary: "Delete an MCP server", tag: tag, access: write,
		description: "Connections to it stay, and lead nowhere until it is registered again."}, s.deleteMCP)
	add(s, route{method: http.MethodGet, path: connections, id: "list-mcp-connections", summary: "List connections to MCP servers", tag: tag, access: connect,
		description: "One's own; everybody's for a role that has the permission for everything."}, s.listMCPConnections)
	add(s, route{method: http.MethodDelete, path: connections + "/{id}", id: "delete-mcp-connection", summary: "Delete a connection to an MCP server with its tokens", tag: tag, access: connect,
		description: "What was disabled or contained leaves a row that keeps it so."}, s.deleteMCPConnection)
}

func (s *service) listMCP(ctx context.Context, caller identity.Caller, _ *struct{}) (*struct {
	Body struct {
		Servers []client.MCPServer `json:"servers" nullable:"false"`
	}
}, error) {
	list, err := s.MCP.Servers(ctx, caller)
	if err != nil {
		return nil, err
	}
	out := &struct {
		Body struct {
			Servers []client.MCPServer `json:"servers" nullable:"false"`
		}
	}{}
	out.Body.Servers = make([]client.MCPServer, len(list))
	for n, m := range list {
		out.Body.Servers[n] = shownMCP(m)
	}
	return out, nil
}

func (s *service) createMCP(ctx context.Context, caller identity.Caller, in *struct{ Body mcpDraft }) (*mcpAnswer, error) {
	e := mcp.ServerEdit{Slug: &in.Body.Slug, Name: &in.Body.Name, URL: &in.Body.URL, Active: in.Body.Active}
	if a := mcp.Auth(in.Body.Auth); a != "" {
		e.Auth = &a
	}
	out, err := mcpOut(s.MCP.CreateServer(ctx, caller, e))
	if err == nil {
		out.Location = "/api/mcp/servers/" + out.Body.Server.ID
	}
	return out, err
}

func (s *service) getMCP(ctx context.Context, caller identity.Caller, in *ByID) (*mcpAnswer, error) {
	return mcpOut(s.MCP.GetServer(ctx, caller, in.ID))
}

func (s *service) patchMCP(ctx context.Context, caller identity.Caller, in *struct {
	ByID
	IfMatch
	Body mcpPatch
}) (*mcpAnswer, error) {
	e := mcp.ServerEdit{Name: in.Body.Name, URL: in.Body.URL, Active: in.Body.Active, IfMatch: in.IfMatch.IfMatch}
	if in.Body.Auth != nil {
		a := mcp.Auth(*in.Body.Auth)
		e.Auth = &a
	}
	return mcpOut(s.MCP.UpdateServer(ctx, caller, in.ID, e))
}

func (s *service) deleteMCP(ctx context.Context, caller identity.Caller, in *struct {
	ByID
	IfMatch
}) (*struct{}, error) {
	return nil, s.MCP.DeleteServer(ctx, caller, in.ID, in.IfMatch.IfMatch)
}

func (s *service) listMCPConnections(ctx context.Context, caller identity.Caller, in *struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" doc:"How many at most; 100 when it is left out."`
	Cursor string `query:"cursor" maxLength:"1000" doc:"next_cursor of the page before."`
}) (*struct{ Body client.MCPConnectionPage }, error) {
	list, next, err := s.MCP.Connections(ctx, caller, in.Limit, in.Cursor)
	if err != nil {
		return nil, err
	}
	out := client.MCPConnectionPage{Connections: make([]client.MCPConnection, len(list)), NextCursor: next}
	for n, c := range list {
		out.Connections[n] = client.MCPConnection{ID: c.ID, Subject: c.Subject, Server: c.Server, CredentialID: c.CredentialID, Status: string(c.Status), Health: string(c.Health),
			CreatedAt: c.CreatedAt, UpdatedAt: c.UpdatedAt}
	}
	return &struct{ Body client.MCPConnectionPage }{out}, nil
}

func (s *service) deleteMCPConnection(ctx context.Context, caller identity.Caller, in *ByID) (*struct{}, error) {
	return nil, s.MCP.EndConnection(ctx, caller, in.ID)
}
