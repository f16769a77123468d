package app

import (
	"signalbox.dev/signalbox/internal/oauth"
	"signalbox.dev/signalbox/internal/outbound"
	"signalbox.dev/signalbox/internal/provider"
)

// openOAuth makes the logins, and what refreshes the tokens that they bring.
func (a *App) openOAuth(policy outbound.Policy) (err error) {
	wire := provider.New(provider.Config{Policy: policy})
	if a.logins, err = oauth.NewLogins(oauth.LoginsConfig{
		DB: a.db, Vault: a.vault, Ring: a.ring, Binder: a.ring, Wire: wire, CheckURL: policy.CheckURL, Clients: map[string]string{"anthropic": a.cfg.AnthropicClientID}, PublicURL: a.cfg.PublicURL, Log: a.log,
	}); err != nil {
		return err
	}
	a.oauth, err = oauth.New(oauth.Config{DB: a.db, Vault: a.vault, Ring: a.ring, Endpoint: wire, Servers: a.logins, SpillDir: a.cfg.dataPath("spill"), Called: a.metrics.refreshed, Log: a.log, At: failpoint[oauth.Point]()})
	return err
}
