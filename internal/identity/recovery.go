package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"strings"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

const (
	// RecoveryCodes is how many are made at a time.
	RecoveryCodes = 10

	recoveryBytes = 10 // 80 bits: nothing to guess, so a plain hash is enough
	recoveryText  = 16
)

// RegenerateRecoveryCodes makes a new set of recovery codes, shown this once, in the place of the old one. Its faults are "step_up_required",
// and "state_conflict" for somebody who has no second factor that they could stand in for.
func (r *Room) RegenerateRecoveryCodes(ctx context.Context, caller Caller) ([]secret.Value, error) {
	if err := r.mayChange(ctx, caller); err != nil {
		return nil, err
	}
	var codes []secret.Value
	err := r.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		person, err := lockUser(tx, caller.UserID)
		if err != nil {
			return err
		}
		have, err := factorsOf(tx, person.ID)
		if err != nil {
			return err
		}
		if !have.Any() {
			return fault.New(fault.Conflict, "state_conflict", "Recovery codes stand in for a second factor, and you have none. Enrol an authenticator app or a passkey first; the codes come with it.")
		}
		codes, err = makeCodes(tx, caller, person.user())
		return err
	})
	return codes, err
}

// makeCodes replaces the codes of a person, who is locked, and records it.
func makeCodes(tx *store.Tx, caller Caller, user User) ([]secret.Value, error) {
	if _, err := tx.Exec(`DELETE FROM recovery_codes WHERE user_id = $1`, user.ID); err != nil {
		return nil, err
	}
	codes := make([]secret.Value, RecoveryCodes)
	for i := range codes {
		var b [recoveryBytes]byte
		_, _ = rand.Read(b[:]) // crypto/rand.Read never fails since Go 1.24
		text := strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))
		codes[i] = secret.FromString(text[:4] + "-" + text[4:8] + "-" + text[8:12] + "-" + text[12:])
		if _, err := tx.Exec(`INSERT INTO recovery_codes (user_id, hash, created_at) VALUES ($1, $2, $3)`, user.ID, recoveryHash(user.ID, text), store.TimeOf(tx.Now())); err != nil {
			return nil, err
		}
	}
	ev := caller.Event(store.RecoveryMake, user.Target())
	ev.Details = store.Details{store.Int("count", RecoveryCodes)}
	return codes, tx.Record(ev)
}

// useCode uses up a code of a person, who is locked, and reports whether it was good.
func (r *Room) useCode(tx *store.Tx, caller Caller, user User, code secret.Value) (bool, error) {
	text := strings.ToLower(strings.NewReplacer("-", "", " ", "").Replace(code.Reveal()))
	if len(text) != recoveryText {
		return false, nil
	}
	n, err := tx.Exec(`UPDATE recovery_codes SET used_at = $1 WHERE user_id = $2 AND hash = $3 AND used_at IS NULL`, store.TimeOf(tx.Now()), user.ID, recoveryHash(user.ID, text))
	if err != nil || n != 1 {
		return false, err
	}
	left, err := codesLeft(tx, user.ID)
	if err != nil {
		return false, err
	}
	ev := user.caller(caller).Event(store.RecoveryUse, user.Target())
	ev.Details = store.Details{store.Int("left", int64(left))}
	if err := tx.Record(ev); err != nil {
		return false, err
	}
	return true, r.tell(tx, News{Kind: NewsRecoveryUsed, Person: user, Caller: caller, Left: left})
}

func codesLeft(tx *store.Tx, userID string) (int, error) {
	var n int
	err := tx.Get(&n, `SELECT COUNT(*) FROM recovery_codes WHERE user_id = $1 AND used_at IS NULL`, userID)
	return n, err
}

func recoveryHash(userID, text string) []byte {
	sum := sha256.Sum256([]byte("recovery code\x00" + userID + "\x00" + text))
	return sum[:]
}
