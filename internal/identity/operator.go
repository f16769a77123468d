package identity

import (
	"context"
	"errors"

	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// LocalOperator is the e-mail address of whoever works on the server's own machine. Nobody can sign in as this person: it has no password,
// only tokens. It has an administrator's rights, and is not the first administrator that the set-up makes.
const LocalOperator = "operator@localhost"

// OperatorToken returns a fresh personal access token, of all scopes and without expiry, of [LocalOperator], who is made if need be.
// Earlier tokens of that person stop working. It needs [UserWrite].
func (r *Room) OperatorToken(ctx context.Context, caller Caller) (secret.Value, error) {
	if err := r.allow(ctx, caller, UserWrite, store.Target{Kind: "user"}); err != nil {
		return secret.Value{}, err
	}
	var value secret.Value
	err := r.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		if err := lock(tx, "administrator"); err != nil {
			return err
		}
		id, err := localOperator(tx, caller)
		if err != nil {
			return err
		}
		if err := r.revokeAll(tx, caller, id); err != nil {
			return err
		}
		_, value, err = r.insertToken(tx, caller, TokenDraft{UserID: id, Name: "operator.token", Scopes: RoleScopes(Administrator)})
		return err
	})
	if err != nil {
		return secret.Value{}, err
	}
	return value, nil
}

// localOperator returns the id of the local operator, who is made if need be.
func localOperator(tx *store.Tx, caller Caller) (string, error) {
	var id string
	err := tx.Get(&id, `SELECT id FROM users WHERE email = $1`, LocalOperator)
	if !errors.Is(err, store.ErrNotFound) {
		return id, err
	}
	now := store.TimeOf(tx.Now())
	row := userRow{ID: store.NewID("user"), Email: LocalOperator, Name: "local operator", Role: Administrator, Active: 1, CreatedAt: now, UpdatedAt: now}
	return row.ID, insertUser(tx, caller, row)
}

// revokeAll revokes every active token of a person.
func (r *Room) revokeAll(tx *store.Tx, caller Caller, userID string) error {
	var rows []tokenRow
	if err := tx.Select(&rows, `SELECT `+tokenColumns+` FROM tokens WHERE user_id = $1 AND revoked_at IS NULL ORDER BY id`, userID); err != nil {
		return err
	}
	for _, row := range rows {
		if _, err := r.revokeToken(tx, caller, row); err != nil {
			return err
		}
	}
	return nil
}
