package vault

import (
	"errors"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// Sealed lists what this room keeps under data keys.
func (r *Room) Sealed() []keyring.Place {
	return []keyring.Place{
		keyring.Sealed("credential_secrets", "sealed", sealPurpose, "credential_id", "version", "field", func(row keyring.Row) (secret.AAD, error) {
			return secretAAD(row.ID, row.Text, row.N), nil
		}),
		keyring.Sealed("credentials", "notes", sealPurpose, "id", "notes_version", "", func(row keyring.Row) (secret.AAD, error) {
			return notesAAD(row.ID, row.N), nil
		}),
		{Table: "credentials", ID: "id", Columns: []keyring.Column{{Name: "binding", At: 1 + keyring.InMAC}}, Renew: r.rebind}, // the first byte is its format
	}
}

// rebind makes the MAC of a credential anew, of what the old one vouches for. A MAC that does not fit gets no successor.
func (r *Room) rebind(tx *store.Tx, row keyring.Row) ([][]byte, error) {
	s, err := loadWhere(tx, `c.id = $1`, row.ID)
	if err != nil {
		return nil, vouchesNot(err)
	}
	switch ok, err := r.intact(s); {
	case err != nil:
		return nil, err
	case !ok:
		return nil, keyring.ErrMoot
	}
	if err := r.bind(&s); err != nil {
		return nil, err
	}
	return [][]byte{s.binding}, nil
}

// vouchesNot makes [keyring.ErrMoot] of a credential that is gone, or that this version cannot read and so has not written. A database that fails says
// nothing of the credential.
func vouchesNot(err error) error {
	if errors.Is(err, errForm) || fault.KindOf(err) == fault.NotFound {
		return errors.Join(keyring.ErrMoot, err)
	}
	return err
}

// Remark makes the mark of a credential's refresh token anew, under the active data key; [keyring.ErrMoot] when the mark is not that of the
// current token. It locks nothing, checks no permission and records nothing.
func (r *Room) Remark(tx *store.Tx, id string, mark []byte) ([]byte, error) {
	s, err := loadWhere(tx, `c.id = $1`, id)
	if err != nil {
		return nil, vouchesNot(err)
	}
	switch ok, err := r.intact(s); {
	case err != nil:
		return nil, err
	case !ok:
		return nil, keyring.ErrMoot
	}
	opened, err := r.open(tx, s, s.Version, []string{"refresh_token"})
	if _, closed := fault.As(err); closed {
		return nil, err
	}
	if errors.Is(err, secret.ErrOpen) || errors.Is(err, keyring.ErrUnknownKey) {
		return nil, errors.Join(keyring.ErrMoot, err) // the credential's own place tells of it
	}
	if err != nil {
		return nil, err
	}
	g := RefreshGrant{ID: s.ID, RefreshToken: opened["refresh_token"], binder: r.binder}
	switch same, err := g.Marked(mark); {
	case err != nil:
		return nil, err
	case !same:
		return nil, keyring.ErrMoot
	}
	return g.Mark()
}
