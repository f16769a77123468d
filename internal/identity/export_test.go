package identity

import (
	"context"
	"errors"
	"fmt"

	"signalbox.dev/signalbox/internal/store"
)

// KeepSigningKeys is what the worker does each minute.
func (r *Room) KeepSigningKeys(ctx context.Context) error { return r.keepSigningKeys(ctx) }

// SecondFactorWanted is the refusal of a session that is not complete.
func SecondFactorWanted() error { return secondFactor() }

// Claimed is what a provider says of somebody.
type Claimed struct {
	Subject, Email string
	Verified       bool
	Groups         []string
}

// EnterSSO is what follows once a provider has said who somebody is.
func (r *Room) EnterSSO(ctx context.Context, caller Caller, p SSOProvider, c Claimed) (in Admission, err error) {
	who := ssoPerson{issuer: p.Issuer, subject: c.Subject, verified: c.Verified, groups: c.Groups, groupsKnown: true, proof: ProofSSO}
	who.email, who.domain, _ = asciiEmail(c.Email)
	err = r.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		in, err = r.enterSSO(tx, caller, p, who, "")
		return err
	})
	if refused, ok := errors.AsType[*ssoVerdict](err); ok {
		return Admission{}, fmt.Errorf("%s: %w", refused.reason, refused.fault)
	}
	return in, err
}

// SetReadOnly makes the instance one that changes nothing, as [Config.ReadOnly] does.
func (r *Room) SetReadOnly() { r.cfg.ReadOnly = true }
