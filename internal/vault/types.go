package vault

import "slices"

// Type is the kind of a credential. It never changes.
type Type string

// The types.
const (
	Password         Type = "password"
	APIKey           Type = "api_key"
	OAuth            Type = "oauth"
	SSHKey           Type = "ssh_key"
	SharedSecret     Type = "shared_secret"
	JWT              Type = "jwt"
	ConnectionString Type = "connection_string"
	Certificate      Type = "certificate"
	Custom           Type = "custom"
)

// SecretField is one sealed field of a type.
type SecretField struct {
	Name string
	// Required fields must be given when a credential is stored and cannot be cleared.
	Required bool
	// Lent fields may be injected into a request; the others are opened for a reveal or a refresh alone.
	Lent bool
	// Header fields go into an HTTP header as they are, so they must be visible ASCII.
	Header bool
	// Suffix fields show their last four characters in lists when they are at least 16 long: keys and tokens, never passwords.
	Suffix bool
	// Aside fields go to no upstream and are asked for only where somebody names them: what an account's outbound proxy wants. A new one is no rotation.
	Aside bool
	// Makes says what Signalbox can generate for it.
	Makes Making
}

// TypeRow is what Signalbox knows about one type. Forms, validation and the API description derive from the table.
type TypeRow struct {
	Type    Type
	Meaning string
	Secrets []SecretField
	// AnyNames types take secret fields of any name (1 to 64 of a–z, 0–9 and _), at least one.
	AnyNames bool
	// OAuth types have the oauth block and a health.
	OAuth bool
	// Account types can serve an LLM provider, when their provider is one.
	Account bool
	// Inject is how the secret goes into a request when the credential says nothing; empty: the credential must say it.
	Inject InjectKind
}

// Types returns the table of types in the order of the reference.
func Types() []TypeRow {
	return []TypeRow{
		{Type: Password, Meaning: "a user name and password", Inject: InjectBasic, Secrets: []SecretField{{Name: "password", Required: true, Lent: true, Makes: MadeAsText}}},
		{Type: APIKey, Meaning: "a key that a service accepts by itself", Account: true, Inject: InjectBearer, Secrets: []SecretField{{Name: "api_key", Required: true, Lent: true, Header: true, Suffix: true, Makes: MadeAsText}, {Name: proxyPassword, Aside: true}}},
		{Type: OAuth, Meaning: "OAuth tokens with what refreshes them", OAuth: true, Account: true, Inject: InjectBearer, Secrets: []SecretField{
			{Name: "access_token", Required: true, Lent: true, Header: true, Suffix: true}, {Name: "refresh_token"}, {Name: "client_secret"}, {Name: proxyPassword, Aside: true}}},
		{Type: SSHKey, Meaning: "an SSH private key", Secrets: []SecretField{{Name: "private_key", Required: true, Makes: MadeAsKeyPair}, {Name: "passphrase", Makes: MadeAsText}}},
		{Type: SharedSecret, Meaning: "a secret that two sides share, such as a webhook's", Secrets: []SecretField{{Name: "secret", Required: true, Lent: true, Suffix: true, Makes: MadeAsText}}},
		{Type: JWT, Meaning: "a signed token, with the key that signs new ones", Inject: InjectBearer, Secrets: []SecretField{{Name: "token", Required: true, Lent: true, Header: true, Suffix: true}, {Name: "signing_key", Makes: MadeAsText}}},
		{Type: ConnectionString, Meaning: "a connection string with its password", Secrets: []SecretField{{Name: "connection_string", Required: true}}},
		{Type: Certificate, Meaning: "a certificate with its private key", Secrets: []SecretField{{Name: "certificate", Required: true}, {Name: "private_key"}, {Name: "passphrase"}}},
		{Type: Custom, Meaning: "any secret fields", AnyNames: true},
	}
}

// Lookup returns the row of a type; false for an unknown one.
func Lookup(t Type) (TypeRow, bool) {
	for _, row := range Types() {
		if row.Type == t {
			return row, true
		}
	}
	return TypeRow{}, false
}

// Field returns the row of a secret field, and whether the type has it.
func (r TypeRow) Field(name string) (SecretField, bool) {
	for _, f := range r.Secrets {
		if f.Name == name {
			return f, true
		}
	}
	if r.AnyNames && validFieldName(name) {
		return SecretField{Name: name, Lent: true, Makes: MadeAsEither}, true
	}
	return SecretField{}, false
}

// split parts the names of fields into those that lie beside the secret and those that are it.
func (r TypeRow) split(names []string) (aside, own []string) {
	for _, name := range names {
		if f, _ := r.Field(name); f.Aside {
			aside = append(aside, name)
		} else {
			own = append(own, name)
		}
	}
	return aside, own
}

// sorted puts field names in the order of the table; names that are not in it follow by alphabet.
func (r TypeRow) sorted(names []string) []string {
	rank := func(name string) int {
		if i := slices.IndexFunc(r.Secrets, func(f SecretField) bool { return f.Name == name }); i >= 0 {
			return i
		}
		return len(r.Secrets)
	}
	out := slices.Clone(names)
	slices.Sort(out)
	slices.SortStableFunc(out, func(a, b string) int { return rank(a) - rank(b) })
	return out
}

func validFieldName(s string) bool {
	if len(s) < 1 || len(s) > maxFieldName {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return true
}

// Provider is one LLM provider that accounts can serve.
type Provider struct {
	Name string
	// BaseURL is used when an account of the provider sets none.
	BaseURL string
}

// Providers returns the LLM providers.
func Providers() []Provider {
	return []Provider{{Name: "anthropic", BaseURL: "https://api.anthropic.com"}}
}

// provider returns the LLM provider that a credential of this type and provider serves as an account.
func (r TypeRow) provider(name string) (Provider, bool) {
	if !r.Account {
		return Provider{}, false
	}
	for _, p := range Providers() {
		if p.Name == name {
			return p, true
		}
	}
	return Provider{}, false
}

// account reports whether a credential of this type and provider is an account.
func (r TypeRow) account(provider string) bool {
	_, ok := r.provider(provider)
	return ok
}

// accountColumns are the types and the providers of credentials that can serve an LLM provider.
func accountColumns() (types, providers []string) {
	for _, row := range Types() {
		if row.Account {
			types = append(types, string(row.Type))
		}
	}
	for _, p := range Providers() {
		providers = append(providers, p.Name)
	}
	return types, providers
}
