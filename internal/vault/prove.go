package vault

import (
	"context"

	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// proveRows is how many sealed fields are looked at in one statement.
const proveRows = 1000

// Prove opens every sealed field of every version of every credential, and every note, and says how many opened and how many did not. It keeps
// none of them. It is for databases that nobody uses: the copy that a check of a backup makes.
func (r *Room) Prove(ctx context.Context) (opened, damaged int64, err error) {
	count := func(box []byte, aad secret.AAD) {
		if _, err := r.ring.Open(sealPurpose, box, aad); err != nil {
			damaged++
		} else {
			opened++
		}
	}
	at := secretRow{}
	for more := true; more && err == nil; {
		err = r.db.Read(ctx, func(tx *store.Tx) error {
			var rows []secretRow
			if err := tx.Select(&rows, `SELECT credential_id, version, field, sealed FROM credential_secrets WHERE (credential_id, version, field) > ($1, $2, $3)
				ORDER BY credential_id, version, field LIMIT $4`, at.CredentialID, at.Version, at.Field, proveRows); err != nil {
				return err
			}
			for _, row := range rows {
				count(row.Sealed, secretAAD(row.CredentialID, row.Field, row.Version))
				at = row
			}
			more = len(rows) == proveRows
			return nil
		})
	}
	id := ""
	for more := true; more && err == nil; {
		err = r.db.Read(ctx, func(tx *store.Tx) error {
			var rows []struct {
				ID      string `db:"id"`
				Version int64  `db:"notes_version"`
				Notes   []byte `db:"notes"`
			}
			if err := tx.Select(&rows, `SELECT id, notes_version, notes FROM credentials WHERE notes IS NOT NULL AND id > $1 ORDER BY id LIMIT $2`, id, proveRows); err != nil {
				return err
			}
			for _, row := range rows {
				count(row.Notes, notesAAD(row.ID, row.Version))
				id = row.ID
			}
			more = len(rows) == proveRows
			return nil
		})
	}
	return opened, damaged, err
}
