package api_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/mcp"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// mcpConnection connects whom the token speaks for to a server, and returns the connection's id.
func (h *house) mcpConnection(token string) string {
	h.t.Helper()
	caller, err := h.identity.Bearer(h.t.Context(), token)
	require.NoError(h.t, err)
	slug := store.NewID("m")
	require.NoError(h.t, h.config.MCP.TakeDeposit(h.t.Context(), caller, mcp.Deposit{Server: slug, Refresh: secret.FromString("planted-deposit"), TokenEndpoint: "https://auth.example.com/token"}))
	var id string
	require.NoError(h.t, h.db.Read(h.t.Context(), func(tx *store.Tx) error {
		return tx.Get(&id, `SELECT id FROM mcp_connections WHERE server = $1`, slug)
	}))
	return id
}

// mcpServer registers a server; there may be only so many, and those of earlier worlds are used up.
func (h *house) mcpServer() string {
	h.t.Helper()
	ctx := h.t.Context()
	list, err := h.client.ListMCPServers(ctx)
	require.NoError(h.t, err)
	if len(list) > 100 {
		for _, m := range list {
			require.NoError(h.t, h.client.DeleteMCPServer(ctx, m.ID))
		}
	}
	made, err := h.client.CreateMCPServer(ctx, client.MCPServerDraft{Slug: store.NewID("m"), URL: "https://mcp.example.com/mcp"})
	require.NoError(h.t, err)
	return made.ID
}

// TestMCPStory: an operator registers servers, nobody else does; everybody sees and ends their own connections, and who may all of them.
func TestMCPStory(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		draft := client.MCPServerDraft{Slug: "files", URL: "https://mcp.example.com/mcp"}
		for _, role := range []identity.Role{identity.Auditor, identity.Member} {
			_, err := h.as(h.withRole(role)).CreateMCPServer(ctx, draft)
			refused(t, err, http.StatusForbidden, "forbidden")
			require.Equal(t, store.OutcomeRefused, h.events()[0].Outcome)
		}
		_, err := h.client.CreateMCPServer(ctx, client.MCPServerDraft{Slug: "files", URL: "http://10.0.0.1/mcp"})
		refused(t, err, http.StatusUnprocessableEntity, "upstream_refused")
		made, err := h.as(h.withRole(identity.Operator)).CreateMCPServer(ctx, draft)
		require.NoError(t, err)
		require.Equal(t, store.MCPServerCreate, h.events()[0].Action)
		require.Equal(t, "oauth", made.Auth)
		_, err = h.client.CreateMCPServer(ctx, draft)
		refused(t, err, http.StatusConflict, "already_exists")
		got, err := h.as(h.withRole(identity.Member)).GetMCPServer(ctx, made.ID)
		require.NoError(t, err)
		require.Equal(t, made, got)
		_, err = h.client.UpdateMCPServer(ctx, made.ID, client.MCPServerPatch{Name: ptr("Files"), IfMatch: `"0"`})
		refused(t, err, http.StatusPreconditionFailed, "etag_mismatch")
		changed, err := h.client.UpdateMCPServer(ctx, made.ID, client.MCPServerPatch{Name: ptr("Files"), Auth: ptr("none"), IfMatch: made.ETag})
		require.NoError(t, err)
		require.Equal(t, "none", changed.Auth)
		require.NotEqual(t, made.ETag, changed.ETag)
		list, err := h.client.ListMCPServers(ctx)
		require.NoError(t, err)
		require.Len(t, list, 1)
		require.NoError(t, h.client.DeleteMCPServer(ctx, made.ID))
		_, err = h.client.GetMCPServer(ctx, made.ID)
		refused(t, err, http.StatusNotFound, "not_found")

		// Connections: one's own, by whatever token speaks for a person.
		token := h.withRole(identity.Member)
		member := h.as(token)
		own, other := h.mcpConnection(token), h.mcpConnection(h.token)
		page, err := member.ListMCPConnections(ctx, client.PageFilter{})
		require.NoError(t, err)
		require.Len(t, page.Connections, 1)
		require.Equal(t, own, page.Connections[0].ID)
		require.Equal(t, "active", page.Connections[0].Status)
		_, err = member.ListMCPConnections(ctx, client.PageFilter{Cursor: "odd"})
		refused(t, err, http.StatusUnprocessableEntity, "validation_failed")
		refused(t, member.DeleteMCPConnection(ctx, other), http.StatusNotFound, "not_found")
		first, err := h.client.ListMCPConnections(ctx, client.PageFilter{Limit: 1})
		require.NoError(t, err)
		require.NotEmpty(t, first.NextCursor)
		second, err := h.client.ListMCPConnections(ctx, client.PageFilter{Limit: 1, Cursor: first.NextCursor})
		require.NoError(t, err)
		require.Empty(t, second.NextCursor)
		require.Equal(t, []string{own, other}, []string{first.Connections[0].ID, second.Connections[0].ID})
		_, err = h.as(h.withRole(identity.Auditor)).ListMCPConnections(ctx, client.PageFilter{})
		refused(t, err, http.StatusForbidden, "forbidden")
		require.NoError(t, member.DeleteMCPConnection(ctx, own))
		require.Equal(t, store.MCPDisconnect, h.events()[0].Action)
		require.NoError(t, h.client.DeleteMCPConnection(ctx, other))
		page, err = h.client.ListMCPConnections(ctx, client.PageFilter{})
		require.NoError(t, err)
		require.Empty(t, page.Connections)
	})
}
