package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/go-webauthn/webauthn/webauthn"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

const (
	// MaxPasskeys bounds the passkeys of one person.
	MaxPasskeys = 20

	passkeyPurpose = "passkey"
)

// Passkey is a passkey as it may be shown.
type Passkey struct {
	ID         string
	Name       string
	CreatedAt  time.Time
	LastUsedAt *time.Time
	// SuspectAt is when its signature counter went backwards, as that of a copy does.
	SuspectAt *time.Time
}

type passkeyRow struct {
	ID           string      `db:"id"`
	UserID       string      `db:"user_id"`
	CredentialID []byte      `db:"credential_id"`
	Name         string      `db:"name"`
	Sealed       []byte      `db:"sealed"`
	SignCount    int64       `db:"sign_count"`
	CreatedAt    store.Time  `db:"created_at"`
	LastUsedAt   *store.Time `db:"last_used_at"`
	SuspectAt    *store.Time `db:"suspect_at"`
}

const passkeyColumns = `id, user_id, credential_id, name, sealed, sign_count, created_at, last_used_at, suspect_at`

func (p passkeyRow) passkey() Passkey {
	return Passkey{ID: p.ID, Name: p.Name, CreatedAt: p.CreatedAt.Time(), LastUsedAt: p.LastUsedAt.Ptr(), SuspectAt: p.SuspectAt.Ptr()}
}

func (p passkeyRow) details() store.Details {
	return store.Details{store.Str("passkey", p.ID), store.Str("name", p.Name)}
}

func passkeyRows(tx *store.Tx, userID string) ([]passkeyRow, error) {
	var rows []passkeyRow
	return rows, tx.Select(&rows, `SELECT `+passkeyColumns+` FROM passkeys WHERE user_id = $1 ORDER BY id`, userID)
}

func passkeysOf(tx *store.Tx, userID string) ([]Passkey, error) {
	rows, err := passkeyRows(tx, userID)
	out := make([]Passkey, len(rows))
	for i, row := range rows {
		out[i] = row.passkey()
	}
	return out, err
}

// RenamePasskey gives a passkey of the caller's own another name.
func (r *Room) RenamePasskey(ctx context.Context, caller Caller, id, name string) (Passkey, error) {
	if err := r.allow(ctx, caller, ProfileWrite, store.Target{Kind: "user", ID: caller.UserID}); err != nil {
		return Passkey{}, err
	}
	var p problems
	name = p.name("/name", name)
	if err := p.result(); err != nil {
		return Passkey{}, err
	}
	var row passkeyRow
	err := r.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		person, err := lockUser(tx, caller.UserID)
		if err != nil {
			return err
		}
		err = tx.Get(&row, `SELECT `+passkeyColumns+` FROM passkeys WHERE id = $1 AND user_id = $2`, id, person.ID)
		if errors.Is(err, store.ErrNotFound) {
			return noFactor()
		} else if err != nil {
			return err
		}
		row.Name = name
		if _, err := tx.Exec(`UPDATE passkeys SET name = $1 WHERE id = $2`, name, row.ID); err != nil {
			return err
		}
		ev := caller.Event(store.FactorRename, person.user().Target())
		ev.Details = row.details()
		return tx.Record(ev)
	})
	return row.passkey(), err
}

// RemovePasskey removes a passkey of the caller's own.
func (r *Room) RemovePasskey(ctx context.Context, caller Caller, id string) error {
	return r.removeFactor(ctx, caller, ProofPasskey, store.Details{store.Str("passkey", clip(id, 64))}, func(tx *store.Tx) (bool, error) {
		n, err := tx.Exec(`DELETE FROM passkeys WHERE id = $1 AND user_id = $2`, id, caller.UserID)
		return n == 1, err
	})
}

// holderOf is a person as the WebAuthn library sees one: with the passkeys that it shall look at.
type holderOf struct {
	person userRow
	keys   []webauthn.Credential
}

// WebAuthnID is the user handle that passkeys keep.
func (h holderOf) WebAuthnID() []byte { return []byte(h.person.ID) }

// WebAuthnName is what the browser shows to choose among passkeys.
func (h holderOf) WebAuthnName() string { return h.person.Email }

// WebAuthnDisplayName is the person's name.
func (h holderOf) WebAuthnDisplayName() string { return h.person.Name }

// WebAuthnCredentials are the passkeys.
func (h holderOf) WebAuthnCredentials() []webauthn.Credential { return h.keys }

func (r *Room) holderOf(person userRow, rows ...passkeyRow) (holderOf, error) {
	h := holderOf{person: person}
	for _, row := range rows {
		key, err := r.openPasskey(row)
		if err != nil {
			return holderOf{}, err
		}
		h.keys = append(h.keys, key)
	}
	return h, nil
}

// sealPasskey keeps what later sign-ins are checked with. The attestation goes: nothing asks for it again, and it holds the challenge.
func (r *Room) sealPasskey(row passkeyRow, key webauthn.Credential) ([]byte, error) {
	key.Attestation = webauthn.CredentialAttestation{}
	text, err := json.Marshal(key)
	if err != nil {
		return nil, errors.New("a passkey cannot be encoded")
	}
	return r.cfg.Ring.Seal(passkeyPurpose, secret.New(text), passkeyPlace(row))
}

func (r *Room) openPasskey(row passkeyRow) (webauthn.Credential, error) {
	var key webauthn.Credential
	text, err := r.cfg.Ring.Open(passkeyPurpose, row.Sealed, passkeyPlace(row))
	if err != nil {
		return key, fmt.Errorf("open a passkey: %w", err)
	}
	if err := json.Unmarshal(text.Bytes(), &key); err != nil {
		return key, errors.New("a stored passkey is not readable")
	}
	key.Authenticator.SignCount = uint32(row.SignCount)
	return key, nil
}

// passkeyPlace binds a passkey to its row and its person.
func passkeyPlace(row passkeyRow) secret.AAD {
	return secret.AAD{Table: "passkeys", ID: row.ID + "/" + row.UserID, Field: "sealed", Version: 1}
}

func tooManyPasskeys() error {
	return fault.New(fault.Conflict, "state_conflict", "You have as many passkeys as one person may have. Remove one that you no longer use first.")
}

func passkeyRefused() *fault.Error {
	return fault.New(fault.Unauthenticated, "passkey_refused", "This passkey is not accepted: it is not known here, or its answer came too late or from another page. Open the page again and try once more, or use another way to sign in.")
}
