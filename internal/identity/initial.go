package identity

import (
	"context"
	"time"

	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// InitAdministrator makes the first administrator and a token of all scopes that ends at expires, both or neither: an administrator without
// a token could not be made again and not be used either. Its faults are those of [Room.CreateAdministrator].
func (r *Room) InitAdministrator(ctx context.Context, caller Caller, email, name string, password secret.Value, expires time.Time) (User, secret.Value, error) {
	none := secret.Value{}
	if err := r.allow(ctx, caller, UserWrite, store.Target{Kind: "user"}); err != nil {
		return User{}, none, err
	}
	row, err := r.newAdministrator(email, name, password)
	if err != nil {
		return User{}, none, err
	}
	if has, err := r.HasAdministrator(ctx); err != nil { // known before the costly hash; what counts is asked again under the lock
		return User{}, none, err
	} else if has {
		return User{}, none, alreadySetUp()
	}
	if row.PasswordHash, err = r.hasher.hash(ctx, password); err != nil {
		return User{}, none, err
	}
	var user User
	var bearer secret.Value
	err = r.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		if err := lock(tx, "administrator"); err != nil {
			return err
		}
		var err error
		if user, err = insertAdministrator(tx, caller, row); err != nil {
			return err
		}
		draft := TokenDraft{UserID: user.ID, Name: "init", ExpiresAt: &expires}
		if draft.Name, draft.Scopes, err = validToken(caller, user.Role, draft, tx.Now()); err != nil {
			return err
		}
		_, bearer, err = r.insertToken(tx, caller, draft)
		return err
	})
	if err != nil {
		return User{}, none, err
	}
	return user, bearer, nil
}
