package app

import (
	"context"

	"signalbox.dev/signalbox/internal/api"
	"signalbox.dev/signalbox/internal/deposit"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/mcp"
	"signalbox.dev/signalbox/internal/outbound"
)

// openMCP makes the room of MCP servers, and the door at which tokens for them are deposited.
func (a *App) openMCP(policy outbound.Policy) (err error) {
	if a.mcp, err = mcp.New(mcp.Config{DB: a.db, Ring: a.ring, Vault: a.vault, Refresher: a.oauth, CheckURL: policy.CheckURL, Log: a.log}); err != nil {
		return err
	}
	a.deposits, err = deposit.New(deposit.Config{
		MCP: a.mcp, Identity: a.identity, DB: a.db, ClientIP: a.clientIP, Log: a.log, Closed: a.cfg.Mode.noLending(), ReadOnly: a.cfg.ReadOnly,
		Admit: a.admit,
	})
	return err
}

// admit refuses a caller who asks too often.
func (a *App) admit(ctx context.Context, c identity.Caller) error {
	return a.limits.Take(ctx, api.CallerRule(a.cfg.CallerLimit), c.CountedAs())
}
