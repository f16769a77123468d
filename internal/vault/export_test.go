package vault

import (
	"context"

	"signalbox.dev/signalbox/internal/store"
)

// MakeForeign gives a stored credential a type that this version does not know, as a newer one would have stored it: its MAC fits.
func (r *Room) MakeForeign(ctx context.Context, id string, to Type) error {
	return r.db.Bookkeep(ctx, store.Cursor, func(tx *store.Tx) error {
		s, err := load(tx, id, true)
		if err != nil {
			return err
		}
		s.Type = to
		if err := r.bind(&s); err != nil {
			return err
		}
		tx.Change(store.TopicCredential, id)
		_, err = tx.Exec(`UPDATE credentials SET type = $1, binding = $2 WHERE id = $3`, string(to), s.binding, id)
		return err
	})
}
