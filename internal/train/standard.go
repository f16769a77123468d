package train

import (
	"errors"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/store"
)

// The default account of a train is tried before all others, whatever the strategy, as long as it can be used. It is a mark on the link, so that it goes
// with the link.

// setDefault makes a linked account the train's default, or none. The train's row is locked.
func (r *Room) setDefault(tx *store.Tx, t *Train, ref string) error {
	id := ""
	if ref != "" {
		cred, err := r.vault.Resolve(tx, ref)
		if err == nil && cred.IsAccount() {
			_, err = getLink(tx, t.ID, cred.ID)
		}
		switch {
		case fault.KindOf(err) == fault.NotFound, errors.Is(err, store.ErrNotFound), err == nil && !cred.IsAccount():
			return fault.New(fault.Unprocessable, "validation_failed", "The train is not valid; see the errors.").
				With("/default_account", "must be an account that is linked to this train, by its id, account id or name")
		case err != nil:
			return err
		}
		id = cred.ID
	}
	if _, err := tx.Exec(`UPDATE train_links SET is_default = 0 WHERE train_id = $1 AND is_default = 1`, t.ID); err != nil {
		return err
	}
	if id != "" {
		if _, err := tx.Exec(`UPDATE train_links SET is_default = 1 WHERE train_id = $1 AND credential_id = $2`, t.ID, id); err != nil {
			return err
		}
	}
	t.DefaultAccount = id
	return nil
}
