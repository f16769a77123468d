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
	// Lookup returns the server of that name; ok is false when there is none that may be called.
	Lookup(tx *store.Tx, name string) (s Server, ok bool, err error)
}

// Server is an OAuth server with what is known here of the client that Signalbox is to it.
type Server struct {
	provider.Provider
	// Secret is the client's; it may be empty.
	Secret secret.Value
	// Changed is when any of this was last set here; zero for what is as it was delivered.
	Changed time.Time
}

// route is where and how a connection is refreshed.
type route struct {
	provider provider.Provider
	send     provider.Grant
	// changed is when any of it, or anything else of the credential or its provider, was last set by somebody.
	changed time.Time
}

// resolve says where and how a connection is refreshed: the provider that the credential names, overlaid by the credential's own oauth block.
// ok is false when that names no token endpoint. The provider's client secret goes to the provider alone, as the client that it is of: whoever may
// store a credential may name any token endpoint in it. For client credentials it is lent as well: the vault lets nobody store such a credential
// without a secret of its own who does not reach every credential.
func (r *Room) resolve(tx *store.Tx, g vault.RefreshGrant) (way route, ok bool, err error) {
	server, known, err := r.lookup(tx, g.Provider)
	if err != nil {
		return way, false, err
	}
	p, key := server.Provider, server.Secret
	if !known {
		p = provider.Provider{Name: CustomProvider, Auth: provider.AuthBasic, Format: provider.Form}
		if g.ClientSecret.IsZero() {
			p.Auth = provider.AuthNone
		}
	}
	send := provider.Grant{ClientID: g.OAuth.ClientID, ClientSecret: g.ClientSecret, RefreshToken: g.RefreshToken, Resource: g.OAuth.Resource}
	if send.ClientID == "" {
		send.ClientID = p.ClientID
	}
	if g.OAuth.TokenEndpoint != "" {
		p.TokenURLs = []string{g.OAuth.TokenEndpoint}
		p.Grace = 0 // it is another server, of which nothing is known
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
	way = route{provider: p, send: send, changed: server.Changed}
	if g.Changed.After(way.changed) {
		way.changed = g.Changed
	}
	return way, len(p.TokenURLs) > 0, nil
}

func (r *Room) lookup(tx *store.Tx, name string) (s Server, known bool, err error) {
	if r.servers != nil {
		return r.servers.Lookup(tx, name)
	}
	s.Provider, known = provider.Find(provider.Catalogue(), name)
	return s, known, nil
}

// counted is the name under which a credential's provider is counted.
func (r *Room) counted(tx *store.Tx, name string) (string, error) {
	p, known, err := r.lookup(tx, name)
	if err != nil || !known {
		return CustomProvider, err
	}
	return p.Name, nil
}

// CustomProvider is what a connection counts as whose provider is no row of a table: its own name may be any text.
const CustomProvider = "custom"
