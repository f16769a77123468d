package oauth

import (
	"context"
	"slices"

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
