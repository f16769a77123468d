package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/store"
)

func (s *shell) mcpCommand() *cobra.Command {
	return parent("mcp", "MCP servers, and who is connected to which", s.mcpAdd(), s.mcpList(), s.mcpEdit(), s.mcpRm(), s.mcpConnections(), s.mcpDisconnect())
}

// mcpNamed finds a server by its id or its slug.
func mcpNamed(ctx context.Context, c *client.Client, ref string) (client.MCPServer, error) {
	if store.ValidID("mcs", ref) {
		return c.GetMCPServer(ctx, ref)
	}
	list, err := c.ListMCPServers(ctx)
	if err != nil {
		return client.MCPServer{}, err
	}
	for _, m := range list {
		if m.Slug == ref {
			return m, nil
		}
	}
	return client.MCPServer{}, notFound("There is no MCP server %q. List them with: signalbox mcp list", ref)
}

func (s *shell) mcpAdd() *cobra.Command {
	var draft client.MCPServerDraft
	cmd := s.remote("add SERVER URL", "Register an MCP server", words("SERVER", "URL"), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		draft.Slug, draft.URL = args[0], args[1]
		m, err := c.CreateMCPServer(cmd.Context(), draft)
		if err != nil {
			return err
		}
		return s.show(m, func() { s.say("Registered MCP server %s (%s).", m.Slug, m.ID) })
	})
	cmd.Flags().StringVar(&draft.Name, "name", "", "what people call it")
	cmd.Flags().StringVar(&draft.Auth, "auth", "", "oauth (the caller's own token, the default) or none")
	return cmd
}

func (s *shell) mcpList() *cobra.Command {
	return s.remote("list", "List MCP servers", words(), func(cmd *cobra.Command, _ []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		list, err := c.ListMCPServers(cmd.Context())
		if err != nil {
			return err
		}
		return s.show(map[string]any{"servers": list}, func() {
			t := table{head: []string{"SERVER", "NAME", "URL", "AUTH", "ACTIVE", "ID"}}
			for _, m := range list {
				t.add(m.Slug, m.Name, m.URL, m.Auth, orDash(yes(m.Active)), m.ID)
			}
			s.print(t, "No MCP servers. Register one with: signalbox mcp add SERVER URL")
		})
	})
}

func (s *shell) mcpEdit() *cobra.Command {
	var name, address, auth string
	var active bool
	cmd := s.remote("edit SERVER", "Change an MCP server", words("SERVER"), func(cmd *cobra.Command, args []string) error {
		var p client.MCPServerPatch
		flags := cmd.Flags()
		for flag, f := range map[string]struct {
			from *string
			to   **string
		}{"name": {&name, &p.Name}, "address": {&address, &p.URL}, "auth": {&auth, &p.Auth}} {
			if flags.Changed(flag) {
				*f.to = f.from
			}
		}
		if flags.Changed("active") {
			p.Active = &active
		}
		if p == (client.MCPServerPatch{}) {
			return usage("nothing to change; say what with --name, --address, --auth or --active")
		}
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		m, err := mcpNamed(cmd.Context(), c, args[0])
		if err != nil {
			return err
		}
		if m, err = c.UpdateMCPServer(cmd.Context(), m.ID, p); err != nil {
			return err
		}
		return s.show(m, func() { s.say("Changed MCP server %s.", m.Slug) })
	})
	flags := cmd.Flags()
	flags.StringVar(&name, "name", "", "what people call it")
	flags.StringVar(&address, "address", "", "its Streamable HTTP endpoint")
	flags.StringVar(&auth, "auth", "", "oauth (the caller's own token) or none")
	flags.BoolVar(&active, "active", false, "whether anything is lent for it")
	return cmd
}

func (s *shell) mcpRm() *cobra.Command {
	var sure bool
	cmd := s.remote("rm SERVER", "Delete an MCP server; connections to it stay", words("SERVER"), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		m, err := mcpNamed(cmd.Context(), c, args[0])
		if err != nil {
			return err
		}
		if err := s.confirm(cmd.Context(), sure, fmt.Sprintf("Delete the MCP server %s (%s)?", m.Slug, m.URL)); err != nil {
			return err
		}
		if err := c.DeleteMCPServer(cmd.Context(), m.ID); err != nil {
			return err
		}
		return s.show(map[string]string{"deleted": m.ID}, func() { s.say("Deleted MCP server %s.", m.Slug) })
	})
	yesFlag(cmd, &sure)
	return cmd
}

func (s *shell) mcpConnections() *cobra.Command {
	return s.remote("connections", "List connections to MCP servers: one's own, or everybody's for who may", words(), func(cmd *cobra.Command, _ []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		list, err := everything(func(cursor string) ([]client.MCPConnection, string, error) {
			page, err := c.ListMCPConnections(cmd.Context(), client.PageFilter{Limit: 1000, Cursor: cursor})
			return page.Connections, page.NextCursor, err
		})
		if err != nil {
			return err
		}
		return s.show(map[string]any{"connections": list}, func() {
			t := table{head: []string{"SERVER", "SUBJECT", "STATUS", "HEALTH", "SINCE", "ID"}}
			for _, m := range list {
				t.add(m.Server, m.Subject, m.Status, m.Health, moment(m.CreatedAt), m.ID)
			}
			s.print(t, "No connections. Programs deposit them; see docs/guide/mcp.md.")
		})
	})
}

func (s *shell) mcpDisconnect() *cobra.Command {
	var sure bool
	cmd := s.remote("disconnect CONNECTION", "Delete a connection to an MCP server with its tokens", words("CONNECTION"), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		if err := s.confirm(cmd.Context(), sure, fmt.Sprintf("Delete the connection %s with its tokens? Whose it is must connect again.", args[0])); err != nil {
			return err
		}
		if err := c.DeleteMCPConnection(cmd.Context(), args[0]); err != nil {
			return err
		}
		return s.show(map[string]string{"deleted": args[0]}, func() { s.say("Deleted connection %s.", args[0]) })
	})
	yesFlag(cmd, &sure)
	return cmd
}
