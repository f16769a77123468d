package identity

import (
	"errors"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/store"
)

// bindToSession returns the session with which a key is to end: the caller's, which is there and stays until the transaction ends; and when the key ends
// at the latest. A browser's session cannot, so that a stolen cookie issues nothing without a fresh proof.
func (r *Room) bindToSession(tx *store.Tx, caller Caller, expires *time.Time) (string, *time.Time, error) {
	if caller.Kind != KindPerson || caller.SessionKind != SessionAPI {
		return "", nil, fault.New(fault.Unprocessable, "validation_failed", "Only the sign-in of a command line, or of another program, issues client keys that end with it. Leave with_session out.").
			With("/with_session", "needs the sign-in of a program")
	}
	if expires == nil {
		return "", nil, fault.New(fault.Unprocessable, "validation_failed", "A client key that ends with a sign-in must also end by itself. Say when; after 12 hours it ends in any case.").With("/expires_at", "must be given")
	}
	if latest := tx.Now().Add(BriefLife); expires.After(latest) { // by a clock that is a little ahead of ours, for instance
		expires = &latest
	}
	var row sessionRow
	person, err := r.lockSession(tx, caller.SessionID, &row)
	if errors.Is(err, store.ErrNotFound) || err == nil && person.Active != 1 {
		return "", nil, sessionOver()
	} else if err != nil {
		return "", nil, err
	}
	if end := row.ExpiresAt.Time(); !tx.Now().Before(end) {
		return "", nil, sessionOver()
	} else if expires.After(end) { // nothing records the end of a session that runs out
		expires = &end
	}
	return row.ID, expires, nil
}

// Restored revokes, in the transaction that records a restore, the keys that end with a session: a restore leaves the sessions behind, so that nobody could
// end them, nor tell whether one was ended since. It asks for no permission.
func (r *Room) Restored(tx *store.Tx) error {
	var sessions []string
	if err := tx.Select(&sessions, `SELECT DISTINCT session_id FROM client_keys WHERE session_id <> '' AND revoked_at IS NULL AND session_id NOT IN (SELECT id FROM sessions) ORDER BY session_id`); err != nil {
		return err
	}
	for _, session := range sessions {
		if err := r.endKeysOf(tx, System("restore"), session); err != nil {
			return err
		}
	}
	return nil
}

// endKeysOf revokes the keys that end with a session.
func (r *Room) endKeysOf(tx *store.Tx, caller Caller, session string) error {
	var rows []keyRow
	if err := tx.Select(&rows, `SELECT `+keyColumns+` FROM client_keys WHERE session_id = $1 AND session_id <> '' AND revoked_at IS NULL ORDER BY id`+tx.ForUpdate(), session); err != nil {
		return err
	}
	for _, row := range rows {
		if row.status(tx.Now()) != StatusActive {
			continue
		}
		if _, err := r.revoke(tx, caller, row, "session_ended"); err != nil {
			return err
		}
	}
	return nil
}
