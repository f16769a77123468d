package identity

import "context"

// KeepSigningKeys is what the worker does each minute.
func (r *Room) KeepSigningKeys(ctx context.Context) error { return r.keepSigningKeys(ctx) }

// SecondFactorWanted is the refusal of a session that is not complete.
func SecondFactorWanted() error { return secondFactor() }
