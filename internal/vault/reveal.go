package vault

import (
	"context"
	"errors"
	"slices"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// Reveal decrypts one secret field of the current version for a person, who says why. The reveal is on record before anything is
// decrypted: if it cannot be recorded, it does not happen. Asking for a field that the credential does not have is the fault
// not_revealable and is recorded as refused; material that does not open is recorded as failed, and so is a credential that was changed
// outside Signalbox (credential_tampered).
func (r *Room) Reveal(ctx context.Context, caller identity.Caller, id, field, reason string) (secret.Value, error) {
	var s stored
	var box secretRow
	var verdict error
	err := r.act(ctx, caller, identity.CredentialReveal, toReveal, "reveal", id, func(tx *store.Tx, _ verbs) error {
		box, verdict = secretRow{}, nil
		var p problems
		checkReason(reason, true, &p)
		if err := p.err(); err != nil {
			return err
		}
		var err error
		if s, err = load(tx, id, true); err != nil { // locked, so that a deletion at this moment does not look like damage
			return err
		}
		if err := s.familiar(); err != nil {
			return asRefusal(s.target(), err)
		}
		// The addresses that tell a person where to use the secret may be somebody else's.
		if ok, err := r.intact(s); err != nil {
			return err
		} else if !ok {
			return &damage{target: s.target(), field: field, version: s.Version, tampered: true}
		}
		if !slices.Contains(s.SecretFields, field) {
			verdict = fault.New(fault.Conflict, "not_revealable", "The credential has no such secret field. Read it to see its secret_fields, and ask for one of those.")
			return tx.Record(refused(caller, s.target(), "reveal", verdict))
		}
		err = tx.Get(&box, `SELECT credential_id, version, field, sealed FROM credential_secrets WHERE credential_id = $1 AND version = $2 AND field = $3`,
			id, s.Version, field)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		// A row that is gone opens no better than a changed one, and is recorded alike.
		box.Field, box.Version = field, s.Version
		ev := caller.Event(store.CredentialReveal, s.target())
		ev.Reason = reason
		ev.Details = store.Details{store.Str("field", field), store.Int("version", s.Version)}
		if err := revealed(tx, s.ID); err != nil {
			return err
		}
		return tx.Record(ev)
	})
	if err != nil {
		return secret.Value{}, r.settle(ctx, caller, store.CredentialReveal, err)
	}
	if verdict != nil {
		return secret.Value{}, verdict
	}
	v, err := r.openSecret(s, box)
	if err != nil {
		return secret.Value{}, r.settle(ctx, caller, store.CredentialReveal, err)
	}
	return v, nil
}
