package oauth

import (
	"signalbox.dev/signalbox/internal/provider"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

// resolve says where and how a connection is refreshed: the provider that the credential names, overlaid by the credential's own oauth block.
// ok is false when that names no token endpoint.
func (r *Room) resolve(_ *store.Tx, g vault.RefreshGrant) (p provider.Provider, send provider.Grant, ok bool, err error) {
	p, known := provider.Find(r.known, g.Provider)
	if !known {
		p = provider.Provider{Name: customProvider, Auth: provider.AuthBasic, Format: provider.Form}
		if g.ClientSecret.IsZero() {
			p.Auth = provider.AuthNone
		}
	}
	if g.OAuth.TokenEndpoint != "" {
		p.TokenURLs = []string{g.OAuth.TokenEndpoint}
	}
	if g.OAuth.AuthMethod != "" {
		p.Auth = provider.Auth(g.OAuth.AuthMethod)
	}
	if g.OAuth.RequestFormat != "" {
		p.Format = provider.Format(g.OAuth.RequestFormat)
	}
	send = provider.Grant{ClientID: g.OAuth.ClientID, ClientSecret: g.ClientSecret, RefreshToken: g.RefreshToken}
	if send.ClientID == "" {
		send.ClientID = p.ClientID
	}
	return p, send, len(p.TokenURLs) > 0, nil
}

// customProvider is what a connection counts as whose provider is no row of a table: its own name may be any text.
const customProvider = "custom"
