package train

import (
	"context"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// Ownerless returns how many private trains have no owner who can sign in, and the slugs of the first most of them. It asks for no permission: it is for whoever has the database.
func Ownerless(ctx context.Context, db *store.DB, most int) (slugs []string, n int, err error) {
	const those = ` FROM trains t WHERE t.visibility <> $1 AND NOT EXISTS (SELECT 1 FROM train_members m WHERE m.train_id = t.id AND m.role = $2 AND (
		EXISTS (SELECT 1 FROM users u WHERE u.id = m.user_id AND u.active = 1) OR
		EXISTS (SELECT 1 FROM group_members x JOIN users y ON y.id = x.user_id WHERE x.group_id = m.group_id AND y.active = 1)))`
	err = db.Read(ctx, func(tx *store.Tx) error {
		if err := tx.Get(&n, `SELECT COUNT(*)`+those, string(identity.OfOrganisation), string(Owner)); err != nil {
			return err
		}
		return tx.Select(&slugs, `SELECT t.slug`+those+` ORDER BY t.slug LIMIT $3`, string(identity.OfOrganisation), string(Owner), most)
	})
	return slugs, n, err
}
