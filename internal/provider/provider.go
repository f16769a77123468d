// Package provider is the wire of OAuth: what Signalbox knows of each authorization server, as one table of data, and every exchange with
// one. It makes the address at which somebody consents, turns codes and refresh tokens into tokens, and says of each answer what it means.
//
// Promise: an exchange ends in an [Answer], whose [Verdict] alone decides what the caller may do next. Issued means that a whole, valid answer
// was read. NotProcessed is said only when the server cannot have spent the code or the token. A token request is put on the wire at most once
// for each address: there is no retry below this package, and the next address is tried only after a 404 or when no byte can have left. Calls go
// through the address guard of internal/outbound, follow no redirect, read at most 64 KiB and end within one deadline.
//
// Limits: RFC 6749 with PKCE (S256), RFC 8628, RFC 7009, RFC 8707 and discovery by RFC 8414 or OpenID Connect; tokens are bearer tokens. No
// client assertions, no DPoP, no pushed requests. The package keeps nothing, knows no database and starts nothing; who may refresh and when is
// decided in internal/oauth.
//
// Invariants: no secret and no text of a server is in an Answer's code, in an error or in a log; codes are a closed list. A server that says
// something that two readers could understand differently (a key twice, not UTF-8, more behind the end) has said nothing.
package provider

import (
	"maps"
	"slices"
	"time"
)

// Auth is how a client names itself at the token endpoint (RFC 8414, token_endpoint_auth_methods_supported).
type Auth string

// The ways. They are the words that a credential stores.
const (
	AuthBasic Auth = "client_secret_basic"
	AuthPost  Auth = "client_secret_post"
	AuthNone  Auth = "none" // a public client: its id in the body, no secret
)

// Format is how the body of a token request is written.
type Format string

// The formats. RFC 6749 has forms only.
const (
	Form Format = "form"
	JSON Format = "json"
)

// Provider is one OAuth authorization server as Signalbox knows it: a row of the catalogue, one that an administrator stored, or what discovery
// told. It is plain data and holds no secret; its maps and slices are not changed after it was made.
type Provider struct {
	Name  string // the word that a credential stores
	Title string
	Docs  string // where the provider documents what stands here

	// Issuer names the server in the sense of RFC 8414 and RFC 9207; "" when it has none.
	Issuer string
	// NamesItself says that the answers of the authorization endpoint carry iss (RFC 9207); one without it is then refused.
	NamesItself  bool
	AuthorizeURL string
	// TokenURLs are tried in order: the next one only after a 404 or when no connection could be made, never after anything else.
	TokenURLs []string
	DeviceURL string
	RevokeURL string
	Revoke    Revocation // how, where it is not RFC 7009

	Scopes         []string
	ScopeSeparator string // "" is a space
	ScopeParam     string // "" is scope

	// ClientID is the client to be when the user brings none; "" when the user must.
	ClientID string
	// ClientIDFrom names the setting that replaces ClientID, which app reads.
	ClientIDFrom string
	Auth         Auth
	Format       Format
	// PKCE says that the provider documents PKCE. The challenge is always sent: a server that does not know it ignores it (RFC 7636, section 5).
	PKCE bool
	// ClientCredentials says that the provider documents that grant.
	ClientCredentials bool

	AuthorizeParams map[string]string
	TokenHeaders    map[string]string
	// StateInExchange puts state into the body of the code exchange as well.
	StateInExchange bool
	// PasteBack says that the consent page shows code#state to be copied, at the fixed RedirectURL.
	PasteBack   bool
	RedirectURL string

	// Rotates says that each refresh answers with a new refresh token; the old one ends at once, or after Grace.
	Rotates bool
	// Grace is for how long an old refresh token still works after its use; 0: none is known.
	Grace time.Duration
	// Lifetime is that of access tokens whose answer does not tell it; 0: unknown, such tokens may well last for ever.
	Lifetime time.Duration
	// Shape is how its answers differ from RFC 6749.
	Shape Shape

	// Consumer says why the provider is off until an administrator switches it on; "" for ordinary ones.
	Consumer string
	BaseURL  string
	Hosts    []string // where its access tokens may go
	Recipe   string   // what to register where, and what to know
}

// Shape is how the answers of a provider differ from RFC 6749. Paths are names joined by dots.
type Shape struct {
	// Under is an object that holds the tokens when the answer itself holds none.
	Under string
	// TokenTypes are words besides bearer that mean a bearer token.
	TokenTypes []string
	// Errors are further paths at which the code of an error may stand, besides error.
	Errors []string
	// Codes translates words of the provider into codes of RFC 6749.
	Codes map[string]string
	// Subject are paths that name who consented; the first that is there counts.
	Subject []string
}

// Revocation is how a token is revoked where it is not as RFC 7009 says. The zero value is RFC 7009.
type Revocation struct {
	Method string // "" is POST
	Param  string // the name of the token in the body; "" is token
	Format Format // "" is the provider's
	// Bearer sends the token as a bearer token, and no client authentication.
	Bearer bool
	// Auth is the client authentication; "" is the provider's.
	Auth Auth
	// Access says that it is the access token that must be given; otherwise the refresh token, where there is one.
	Access bool
	// Wide says that every token ends which the person has given to the client, also those of other logins.
	Wide bool
}

// WithClientID returns the provider with another client.
func (p Provider) WithClientID(id string) Provider {
	p.ClientID = id
	return p
}

// Find returns the provider of that name.
func Find(list []Provider, name string) (Provider, bool) {
	i := slices.IndexFunc(list, func(p Provider) bool { return p.Name == name })
	if i < 0 {
		return Provider{}, false
	}
	return list[i].clone(), true
}

// clone shares nothing that could be changed with p.
func (p Provider) clone() Provider {
	p.TokenURLs, p.Scopes, p.Hosts = slices.Clone(p.TokenURLs), slices.Clone(p.Scopes), slices.Clone(p.Hosts)
	p.AuthorizeParams, p.TokenHeaders = maps.Clone(p.AuthorizeParams), maps.Clone(p.TokenHeaders)
	return p
}
