package oauth

import (
	"context"
	"slices"
	"time"

	"signalbox.dev/signalbox/internal/provider"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

// Grant is what an OAuth provider has issued for a credential, and how it is ended there. It holds secrets and prints none.
type Grant struct {
	Provider string
	Version  int64        // of the credential
	State    vault.Status // of the credential
	// Wide says that the provider ends the person's other grants with it.
	Wide bool
	end  leaving
}

// GrantOf returns the grant of a credential that stays, nil when there is none, or no place at the provider where it could be ended (RFC 7009).
func (l *Logins) GrantOf(tx *store.Tx, credentialID string) (*Grant, error) {
	c, known, err := l.vault.Survey(tx, credentialID, false)
	if err != nil || !known || c.Tampered {
		return nil, err
	}
	end, err := l.leaves(tx, c)
	if err != nil || end == nil {
		return nil, err
	}
	return &Grant{Provider: end.k.Name, Version: c.Version, State: c.Status, Wide: end.k.Revoke.Wide, end: *end}, nil
}

// Renewing is what is known of how a provider replaces tokens.
type Renewing struct {
	Provider string
	// Known says whether the rest is known: of the providers of the catalogue it is.
	Known bool
	// Rotates says that a refresh answers with another refresh token, and that the old one ends: at once, or after Grace.
	Rotates bool
	Grace   time.Duration
}

// Renewing returns what is known of how the provider of a credential replaces tokens. Of one that somebody has added, or whose tokens go to an address of
// the credential's own, nothing is.
func (l *Logins) Renewing(tx *store.Tx, c vault.Credential) (Renewing, error) {
	out := Renewing{Provider: c.Provider}
	if c.Provider == "" || c.OAuth.TokenEndpoint != "" {
		return out, nil
	}
	k, err := l.find(tx, c.Provider, "")
	if err != nil || !k.Catalogue {
		return out, ifNotFound(err)
	}
	out.Known, out.Rotates, out.Grace = true, k.Rotates, k.Grace
	return out, nil
}

// Ended is what a provider said to the end of a grant.
type Ended struct {
	Revoked bool
	Again   bool // it may yet do it
	Status  int  // of HTTP; 0 without an answer
	Code    string
}

// EndGrant asks the provider to end a grant. It records nothing; asking again does no harm.
func (l *Logins) EndGrant(ctx context.Context, g *Grant) Ended {
	ctx, cancel := context.WithTimeout(ctx, leaveTime)
	defer cancel()
	a := l.wire.Revoke(ctx, g.end.k.Provider, g.end.send)
	again := slices.Contains([]provider.Verdict{provider.NotProcessed, provider.ServerError, provider.Ambiguous}, a.Verdict) && a.Code != provider.CodeUnusable && a.Code != provider.CodeGuard
	return Ended{Revoked: a.Verdict == provider.Revoked, Again: again, Status: a.Status, Code: a.Code}
}
