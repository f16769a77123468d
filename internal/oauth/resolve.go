package oauth

import (
	"time"

	"signalbox.dev/signalbox/internal/provider"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

// Servers knows the OAuth servers that credentials name. [Logins] do.
type Servers interface {
	// Lookup returns the server of that name and the client secret that belongs to it; ok is false when there is none that may be called.
	Lookup(tx *store.Tx, name string) (p provider.Provider, key secret.Value, ok bool, err error)
}

// resolve says where and how a connection is refreshed: the provider that the credential names, overlaid by the credential's own oauth block.
// ok is false when that names no token endpoint. The provider's client secret goes to the provider alone, as the client that it is of: whoever may
// store a credential may name any token endpoint in it. For client credentials it is lent as well: the vault lets nobody store such a credential
// without a secret of its own who does not reach every credential.
func (r *Room) resolve(tx *store.Tx, g vault.RefreshGrant) (p provider.Provider, send provider.Grant, ok bool, err error) {
	p, key, known, err := r.lookup(tx, g.Provider)
	if err != nil {
		return p, send, false, err
	}
	if !known {
		p = provider.Provider{Name: CustomProvider, Auth: provider.AuthBasic, Format: provider.Form}
		if g.ClientSecret.IsZero() {
			p.Auth = provider.AuthNone
		}
	}
	send = provider.Grant{ClientID: g.OAuth.ClientID, ClientSecret: g.ClientSecret, RefreshToken: g.RefreshToken, Resource: g.OAuth.Resource}
	if send.ClientID == "" {
		send.ClientID = p.ClientID
	}
	if g.OAuth.TokenEndpoint != "" {
		p.TokenURLs = []string{g.OAuth.TokenEndpoint}
	} else if send.ClientSecret.IsZero() && send.ClientID == p.ClientID {
		send.ClientSecret = key
	}
	if g.OAuth.AuthMethod != "" {
		p.Auth = provider.Auth(g.OAuth.AuthMethod)
	}
	if g.OAuth.RequestFormat != "" {
		p.Format = provider.Format(g.OAuth.RequestFormat)
	}
	if g.OAuth.GrantType == vault.GrantClientCredentials {
		// Nothing is spent by such a call, so one whose answer was lost is made again at once.
		send.Scopes, p.Grace = g.OAuth.Scopes, time.Hour
	}
	return p, send, len(p.TokenURLs) > 0, nil
}

func (r *Room) lookup(tx *store.Tx, name string) (p provider.Provider, key secret.Value, known bool, err error) {
	if r.servers != nil {
		return r.servers.Lookup(tx, name)
	}
	p, known = provider.Find(provider.Catalogue(), name)
	return p, key, known, nil
}

// counted is the name under which a credential's provider is counted.
func (r *Room) counted(tx *store.Tx, name string) (string, error) {
	p, _, known, err := r.lookup(tx, name)
	if err != nil || !known {
		return CustomProvider, err
	}
	return p.Name, nil
}

// CustomProvider is what a connection counts as whose provider is no row of a table: its own name may be any text.
const CustomProvider = "custom"
