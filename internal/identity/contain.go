package identity

import (
	"errors"
	"slices"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/store"
)

// What follows serves the containment of incidents. It runs in the transaction of whoever contains, who has checked the caller's permission; each act
// records its event and announces its change, and one that finds nothing to end any more is the fault "not_found".

// Held is what a person or a service account has in hand.
type Held struct {
	Target   store.Target
	Active   bool
	Sessions []Session
	Tokens   []Token // not revoked; expired ones among them
}

// HeldBy returns what a person (or, with PartyService, a service account) has in hand. With lock the row is locked, so that nothing is added until the
// end of the transaction.
func (r *Room) HeldBy(tx *store.Tx, kind PartyKind, id string, lock bool) (Held, error) {
	clause := ""
	if lock {
		clause = tx.ForUpdate()
	}
	var h Held
	column := "user_id"
	switch kind {
	case PartyPerson:
		var row userRow
		err := tx.Get(&row, `SELECT `+userColumns+` FROM users WHERE id = $1`+clause, id)
		if errors.Is(err, store.ErrNotFound) {
			return Held{}, noPerson()
		} else if err != nil {
			return Held{}, err
		}
		h = Held{Target: row.user().Target(), Active: row.Active == 1}
		var sessions []sessionRow
		if err := tx.Select(&sessions, `SELECT `+sessionColumns+` FROM sessions WHERE user_id = $1 ORDER BY id`+clause, id); err != nil {
			return Held{}, err
		}
		for _, row := range sessions {
			s, err := r.session(row)
			if err != nil {
				return Held{}, err
			}
			h.Sessions = append(h.Sessions, s)
		}
	case PartyService:
		a, err := findService(tx, id, clause)
		if err != nil {
			return Held{}, err
		}
		h, column = Held{Target: a.Target(), Active: a.Active}, "service_account_id"
	default:
		return Held{}, noPerson()
	}
	var rows []tokenRow
	if err := tx.Select(&rows, `SELECT `+tokenColumns+` FROM tokens WHERE `+column+` = $1 AND revoked_at IS NULL ORDER BY id`+clause, id); err != nil {
		return Held{}, err
	}
	for _, row := range rows {
		t, err := r.token(row, tx.Now())
		if err != nil {
			return Held{}, err
		}
		h.Tokens = append(h.Tokens, t)
	}
	return h, nil
}

// LockAdministrators keeps the number of administrators as it is until the end of the transaction. It comes before any lock on a person.
func LockAdministrators(tx *store.Tx) error { return lock(tx, "administrator") }

// MayGo returns nil when a person may be deactivated, and the fault "last_administrator" when nobody would be left to administer.
func (r *Room) MayGo(tx *store.Tx, id string) error {
	var row userRow
	err := tx.Get(&row, `SELECT `+userColumns+` FROM users WHERE id = $1`, id)
	if err != nil || row.Role != Administrator || row.Active != 1 {
		return err
	}
	return anotherAdministrator(tx, row)
}

// Deactivate deactivates a person, as [Room.UpdateUser] does.
func (r *Room) Deactivate(tx *store.Tx, caller Caller, id string) error {
	gone := false
	_, err := r.updateUser(tx, caller, id, UserPatch{Active: &gone})
	return err
}

// CutSession ends a session.
func (r *Room) CutSession(tx *store.Tx, caller Caller, id string) error {
	var row sessionRow
	if _, err := r.lockSession(tx, id, &row); errors.Is(err, store.ErrNotFound) {
		return noSuchSession()
	} else if err != nil {
		return err
	}
	return r.endSession(tx, caller, row, store.IdentitySessionEnd, "contained")
}

// CutToken revokes a token.
func (r *Room) CutToken(tx *store.Tx, caller Caller, id string) error {
	var row tokenRow
	err := tx.Get(&row, `SELECT `+tokenColumns+` FROM tokens WHERE id = $1 AND revoked_at IS NULL`+tx.ForUpdate(), id)
	if errors.Is(err, store.ErrNotFound) {
		return noToken()
	} else if err != nil {
		return err
	}
	_, err = r.revokeToken(tx, caller, row)
	return err
}

// TrainOfKey returns the train of a client key, whatever its state.
func (r *Room) TrainOfKey(tx *store.Tx, id string) (string, error) {
	var train string
	err := tx.Get(&train, `SELECT train_id FROM client_keys WHERE id = $1`, id)
	if errors.Is(err, store.ErrNotFound) {
		return "", fault.New(fault.NotFound, "not_found", "There is no such client key.")
	}
	return train, err
}

// LivingKeys returns the keys of a train that are not revoked, expired ones among them. The caller holds the train's row when they must stay so.
func (r *Room) LivingKeys(tx *store.Tx, trainID string) ([]Key, error) {
	var rows []keyRow
	if err := tx.Select(&rows, `SELECT `+keyColumns+` FROM client_keys WHERE train_id = $1 AND revoked_at IS NULL ORDER BY id`, trainID); err != nil {
		return nil, err
	}
	out := make([]Key, len(rows))
	for i, row := range rows {
		out[i] = r.key(row, tx.Now())
	}
	return out, nil
}

// MayAllGo returns nil when all these people may be deactivated together, and the fault "last_administrator" when nobody would be left to administer.
func (r *Room) MayAllGo(tx *store.Tx, ids []string) error {
	var left []userRow
	if err := tx.Select(&left, `SELECT `+userColumns+` FROM users WHERE role = $1 AND active = 1 AND password_hash <> '' AND email <> $2`, string(Administrator), LocalOperator); err != nil {
		return err
	}
	for _, row := range left {
		if !slices.Contains(ids, row.ID) {
			return nil
		}
	}
	if len(left) == 0 { // nobody of them was
		return nil
	}
	return lastAdministrator()
}
