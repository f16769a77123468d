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
		return nil, keyring.ErrMoot // this version cannot read it, so it has not written it
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

// Remark makes the mark of a credential's refresh token anew, under the active data key; [keyring.ErrMoot] when the mark is not that of the
// current token. It locks nothing, checks no permission and records nothing.
func (r *Room) Remark(tx *store.Tx, id string, mark []byte) ([]byte, error) {
	s, err := loadWhere(tx, `c.id = $1`, id)
	if err != nil {
		return nil, errors.Join(keyring.ErrMoot, err)
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
	if err != nil {
		return nil, errors.Join(keyring.ErrMoot, err) // the credential's own place tells of it
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
