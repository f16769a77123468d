package identity

import (
	"errors"

	"signalbox.dev/signalbox/internal/store"
)

// Freeze takes from whoever an event tells of what they acted with, in the transaction of whoever calls: a client key or a token is revoked, and of a person
// who was signed in all sessions end. What is revoked already, or gone, is left alone; a token of an outside issuer is not ours to revoke. It asks for no
// permission: it is for Signalbox's own chores. It returns what it took, which is empty for nothing.
func (r *Room) Freeze(tx *store.Tx, caller Caller, by store.Actor) (took []store.Target, err error) {
	switch Kind(by.Kind) {
	case KindClientKey:
		var row keyRow
		err := tx.Get(&row, `SELECT `+keyColumns+` FROM client_keys WHERE id = $1 AND revoked_at IS NULL`+tx.ForUpdate(), by.ID)
		if errors.Is(err, store.ErrNotFound) {
			return nil, nil
		} else if err != nil {
			return nil, err
		}
		k, err := r.revoke(tx, caller, row, "")
		return []store.Target{k.Target()}, err
	case KindToken, KindService:
		var row tokenRow
		err := tx.Get(&row, `SELECT `+tokenColumns+` FROM tokens WHERE id = $1 AND revoked_at IS NULL`+tx.ForUpdate(), by.ID)
		if errors.Is(err, store.ErrNotFound) {
			return nil, nil
		} else if err != nil {
			return nil, err
		}
		t, err := r.revokeToken(tx, caller, row)
		return []store.Target{t.Target()}, err
	case KindPerson:
		n, err := r.endSessions(tx, caller, by.ID, "", "canary")
		if err != nil || n == 0 {
			return nil, err
		}
		return []store.Target{{Kind: "user", ID: by.ID, Name: by.Name}}, nil
	}
	return nil, nil
}
